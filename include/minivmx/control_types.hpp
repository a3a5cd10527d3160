// SPDX-License-Identifier: GPL-2.0-only
//
// What one control bit and one control word are. The table of them is in control_table.hpp, the
// functions over it in controls.hpp.
#pragma once

#include <minivmx/control_bits.hpp>
#include <minivmx/text.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

enum class ControlField : u8 {
    kPin,
    kPrimary,
    kSecondary,
    kTertiary,
    kExit,
    kExitSecondary,
    kEntry,
};
inline constexpr unsigned kControlFieldCount = 7;

/// What this hypervisor wants of a control at module load (it may still turn it off for a vCPU).
enum class ControlUse : u8 {
    kUnused,   ///< never asked for
    kOptional, ///< taken when the CPU has it
    kRequired, ///< without it the module does not load
};

/// When a required or optional control counts as such.
enum class ControlCondition : u8 {
    kAlways,
    kHost64, ///< only on a 64-bit host; unused on a 32-bit one
    kSgx,    ///< only on a CPU with SGX (CPUID.12H:EAX[0])
};

/// The module parameters that decide over control bits. kNone is for bits that none of them moves.
enum class Parameter : u8 {
    kNone,
    kVnmi,
    kPreemptionTimer,
    kEpt,
    kEptad,
    kVpid,
    kUnrestrictedGuest,
    kFlexpriority,
    kApicv,
    kPml,
    kPleGap,
};
inline constexpr unsigned kParameterCount = 11;

/// What a control's parameter does to it, when a vCPU is created, while the parameter is off.
enum class WhenOff : u8 { kNothing, kClears, kSets };

/// Longest slug, with its NUL.
inline constexpr usize kSlugSize = 48;

/// One control bit.
struct ControlBit {
    ControlField field;
    u8 bit;
    ControlUse use;
    ControlCondition condition;
    /// The list that the document has the bit in (its min and opt); kUnused when in neither.
    ControlUse document;
    Parameter parameter;
    WhenOff when_off;
    /// The VMCS fields behind the bit are not in Hyper-V's enlightened VMCS, version 1.
    bool not_in_evmcs;
    /// Basic exit reasons that the control causes (SDM Vol. 3D, Appendix C), or -1.
    s8 exit_reason;
    s8 other_exit_reason;
    /// The architecture's name: "CR3-load exiting".
    const char *name;
    /// The document's and kvm_intel's name: "CPU_BASED_CR3_LOAD_EXITING".
    const char *macro;
    /// Where the architecture says what it does: "25.6.2" means SDM Vol. 3C, 25.6.2.
    const char *sdm;
    /// What it does, in a few words.
    const char *summary;
    /// What decides over the bit after negotiation besides the parameter, or nullptr.
    const char *moved_by;
    /// The name in lower case with dashes, unique: "cr3-load-exiting", "exit-load-ia32-pat".
    char slug[kSlugSize];

    constexpr u64 mask() const { return bit64(bit); }
};

/// One control word.
struct ControlWordInfo {
    ControlField field;
    const char *name;   ///< "primary processor-based"
    const char *slug;   ///< "primary"
    const char *config; ///< the member of struct vmcs_config
    u32 msr;            ///< capability MSR
    u32 true_msr;       ///< the MSR that tells which default1 bits may be 0; 0 when there is none
    u32 vmcs_field;     ///< encoding of the VMCS field
    u8 width;           ///< 32 or 64 bits
    const char *sdm;    ///< section that defines the word
    /// Bits that older software must set although it knows no function for them (default1).
    /// SDM Vol. 3D, A.2.
    u32 default1;
};

} // namespace minivmx
