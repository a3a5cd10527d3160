// SPDX-License-Identifier: GPL-2.0-only
//
// The VMX capability MSRs: numbers, decoders, and one CPU's set of them.
// SDM Vol. 3D, Appendix A ("VMX Capability Reporting Facility").
#pragma once

#include "types.hpp"

namespace minivmx {

inline constexpr u32 MSR_IA32_FEATURE_CONTROL = 0x3a;
inline constexpr u32 MSR_IA32_VMX_BASIC = 0x480;
inline constexpr u32 MSR_IA32_VMX_PINBASED_CTLS = 0x481;
inline constexpr u32 MSR_IA32_VMX_PROCBASED_CTLS = 0x482;
inline constexpr u32 MSR_IA32_VMX_EXIT_CTLS = 0x483;
inline constexpr u32 MSR_IA32_VMX_ENTRY_CTLS = 0x484;
inline constexpr u32 MSR_IA32_VMX_MISC = 0x485;
inline constexpr u32 MSR_IA32_VMX_CR0_FIXED0 = 0x486;
inline constexpr u32 MSR_IA32_VMX_CR0_FIXED1 = 0x487;
inline constexpr u32 MSR_IA32_VMX_CR4_FIXED0 = 0x488;
inline constexpr u32 MSR_IA32_VMX_CR4_FIXED1 = 0x489;
inline constexpr u32 MSR_IA32_VMX_VMCS_ENUM = 0x48a;
inline constexpr u32 MSR_IA32_VMX_PROCBASED_CTLS2 = 0x48b;
inline constexpr u32 MSR_IA32_VMX_EPT_VPID_CAP = 0x48c;
inline constexpr u32 MSR_IA32_VMX_TRUE_PINBASED_CTLS = 0x48d;
inline constexpr u32 MSR_IA32_VMX_TRUE_PROCBASED_CTLS = 0x48e;
inline constexpr u32 MSR_IA32_VMX_TRUE_EXIT_CTLS = 0x48f;
inline constexpr u32 MSR_IA32_VMX_TRUE_ENTRY_CTLS = 0x490;
inline constexpr u32 MSR_IA32_VMX_VMFUNC = 0x491;
inline constexpr u32 MSR_IA32_VMX_PROCBASED_CTLS3 = 0x492;
inline constexpr u32 MSR_IA32_VMX_EXIT_CTLS2 = 0x493;

inline constexpr u32 kFirstVmxMsr = MSR_IA32_VMX_BASIC;
inline constexpr u32 kLastVmxMsr = MSR_IA32_VMX_EXIT_CTLS2;
inline constexpr unsigned kVmxMsrCount = kLastVmxMsr - kFirstVmxMsr + 1;

/// The architecture's name of a VMX MSR or of IA32_FEATURE_CONTROL; "MSR" for any other number.
const char *msr_name(u32 msr);

/// Who reads MSRs. In the kernel: RDMSR with a fault handler; in userspace: a profile, or the msr
/// device. `read` returns false, and leaves *value alone, when the MSR does not exist (#GP).
struct MsrReader {
    bool (*read)(void *context, u32 msr, u64 *value) = nullptr;
    void *context = nullptr;
};

/// One CPU's VMX MSRs, read once. An MSR that does not exist reads as 0, which is what its absence
/// means for every one of them: nothing is supported.
class VmxMsrs {
  public:
    /// Reads all of them. In the kernel: on the CPU in question, preemption off; does not sleep.
    void read_all(const MsrReader &reader);

    constexpr u64 operator[](u32 msr) const
    {
        if (msr == MSR_IA32_FEATURE_CONTROL)
            return feature_control_;
        return in_range(msr) ? value_[msr - kFirstVmxMsr] : 0;
    }
    constexpr bool present(u32 msr) const
    {
        if (msr == MSR_IA32_FEATURE_CONTROL)
            return has_feature_control_;
        return in_range(msr) && (present_ & bit32(msr - kFirstVmxMsr)) != 0;
    }
    /// Makes the MSR exist with this value (profiles, tests). Other MSRs are ignored.
    constexpr void set(u32 msr, u64 value)
    {
        if (msr == MSR_IA32_FEATURE_CONTROL) {
            feature_control_ = value;
            has_feature_control_ = true;
        } else if (in_range(msr)) {
            value_[msr - kFirstVmxMsr] = value;
            present_ |= bit32(msr - kFirstVmxMsr);
        }
    }
    constexpr void remove(u32 msr)
    {
        if (msr == MSR_IA32_FEATURE_CONTROL) {
            feature_control_ = 0;
            has_feature_control_ = false;
        } else if (in_range(msr)) {
            value_[msr - kFirstVmxMsr] = 0;
            present_ &= ~bit32(msr - kFirstVmxMsr);
        }
    }

  private:
    static constexpr bool in_range(u32 msr) { return msr >= kFirstVmxMsr && msr <= kLastVmxMsr; }

    u64 value_[kVmxMsrCount] = {};
    u64 feature_control_ = 0;
    u32 present_ = 0;
    bool has_feature_control_ = false;
};

/// IA32_FEATURE_CONTROL. SDM Vol. 3C, 24.7 ("Enabling and Entering VMX Operation").
struct FeatureControl {
    u64 raw;

    constexpr bool locked() const { return (raw & bit64(0)) != 0; }
    constexpr bool vmx_in_smx() const { return (raw & bit64(1)) != 0; }
    constexpr bool vmx_outside_smx() const { return (raw & bit64(2)) != 0; }
};

/// IA32_VMX_BASIC. SDM Vol. 3D, A.1.
struct VmxBasic {
    u64 raw;

    static constexpr unsigned kWriteBack = 6;

    constexpr u32 revision() const { return static_cast<u32>(bit_field(raw, 30, 0)); }
    /// Bytes of a VMXON region and of a VMCS.
    constexpr u32 vmcs_size() const { return static_cast<u32>(bit_field(raw, 44, 32)); }
    /// VMX structures must lie below 4 GiB; always 0 on CPUs with Intel 64.
    constexpr bool addresses_32_bit() const { return (raw & bit64(48)) != 0; }
    constexpr bool dual_monitor() const { return (raw & bit64(49)) != 0; }
    constexpr unsigned memory_type() const { return static_cast<unsigned>(bit_field(raw, 53, 50)); }
    constexpr bool ins_outs_info() const { return (raw & bit64(54)) != 0; }
    /// The IA32_VMX_TRUE_*_CTLS MSRs exist: default1 controls may be 0. SDM Vol. 3D, A.2.
    constexpr bool true_controls() const { return (raw & bit64(55)) != 0; }
    constexpr bool error_code_optional() const { return (raw & bit64(56)) != 0; }
    constexpr bool nested_exception() const { return (raw & bit64(58)) != 0; }
};

/// IA32_VMX_MISC. SDM Vol. 3D, A.6.
struct VmxMisc {
    u64 raw;

    /// The VMX-preemption timer counts down once every 2^n TSC ticks.
    constexpr unsigned preemption_timer_shift() const
    {
        return static_cast<unsigned>(bit_field(raw, 4, 0));
    }
    constexpr bool stores_lma() const { return (raw & bit64(5)) != 0; }
    constexpr bool activity_hlt() const { return (raw & bit64(6)) != 0; }
    constexpr bool activity_shutdown() const { return (raw & bit64(7)) != 0; }
    constexpr bool activity_wait_sipi() const { return (raw & bit64(8)) != 0; }
    constexpr bool pt_in_vmx() const { return (raw & bit64(14)) != 0; }
    constexpr bool rdmsr_smbase() const { return (raw & bit64(15)) != 0; }
    constexpr unsigned cr3_targets() const { return static_cast<unsigned>(bit_field(raw, 24, 16)); }
    /// Recommended most MSRs in one MSR-load or MSR-store list.
    constexpr unsigned max_msr_list() const
    {
        return 512 * (static_cast<unsigned>(bit_field(raw, 27, 25)) + 1);
    }
    constexpr bool block_smi() const { return (raw & bit64(28)) != 0; }
    /// VMWRITE may write any supported field, exit-information fields too.
    constexpr bool vmwrite_any_field() const { return (raw & bit64(29)) != 0; }
    constexpr bool zero_length_injection() const { return (raw & bit64(30)) != 0; }
    constexpr u32 mseg_revision() const { return static_cast<u32>(raw >> 32); }
};

/// The low half of IA32_VMX_EPT_VPID_CAP. SDM Vol. 3D, A.10.
struct EptCapability {
    u32 raw;

    constexpr bool execute_only() const { return (raw & bit32(0)) != 0; }
    constexpr bool walk_4_levels() const { return (raw & bit32(6)) != 0; }
    constexpr bool walk_5_levels() const { return (raw & bit32(7)) != 0; }
    constexpr bool type_uncached() const { return (raw & bit32(8)) != 0; }
    constexpr bool type_write_back() const { return (raw & bit32(14)) != 0; }
    constexpr bool pages_2m() const { return (raw & bit32(16)) != 0; }
    constexpr bool pages_1g() const { return (raw & bit32(17)) != 0; }
    constexpr bool invept() const { return (raw & bit32(20)) != 0; }
    constexpr bool accessed_dirty() const { return (raw & bit32(21)) != 0; }
    constexpr bool advanced_exit_info() const { return (raw & bit32(22)) != 0; }
    constexpr bool supervisor_shadow_stack() const { return (raw & bit32(23)) != 0; }
    constexpr bool invept_single() const { return (raw & bit32(25)) != 0; }
    constexpr bool invept_all() const { return (raw & bit32(26)) != 0; }
};

/// The high half of IA32_VMX_EPT_VPID_CAP. SDM Vol. 3D, A.10.
struct VpidCapability {
    u32 raw;

    constexpr bool invvpid() const { return (raw & bit32(0)) != 0; }
    constexpr bool invvpid_address() const { return (raw & bit32(8)) != 0; }
    constexpr bool invvpid_single() const { return (raw & bit32(9)) != 0; }
    constexpr bool invvpid_all() const { return (raw & bit32(10)) != 0; }
    constexpr bool invvpid_single_retaining_globals() const { return (raw & bit32(11)) != 0; }
};

/// What a control MSR says about each bit of its word. SDM Vol. 3D, A.3 to A.5.
/// Of 32-bit words: bit n of `allowed0` is 1 when the control must be 1, bit n of `allowed1` is 0
/// when it must be 0. The 64-bit words (tertiary, secondary exit) have only allowed-1 settings.
struct AllowedSettings {
    u64 allowed0 = 0;
    u64 allowed1 = 0;

    static constexpr AllowedSettings of_32_bit_word(u64 msr)
    {
        return AllowedSettings{msr & 0xffffffffu, msr >> 32};
    }
    static constexpr AllowedSettings of_64_bit_word(u64 msr) { return AllowedSettings{0, msr}; }

    constexpr bool may_be_1(u64 mask) const { return (allowed1 & mask) == mask; }
    constexpr bool may_be_0(u64 mask) const { return (allowed0 & mask) == 0; }
    /// True when the hardware accepts this word.
    constexpr bool accepts(u64 word) const
    {
        return (word & ~allowed1) == 0 && (allowed0 & ~word) == 0;
    }
};

} // namespace minivmx
