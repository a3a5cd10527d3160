// SPDX-License-Identifier: GPL-2.0-only
//
// Why a VM entry failed: every check that the CPU makes on a VMCS, as a table of named predicates.
// SDM Vol. 3C, chapter 27 "VM Entries": 27.2 controls and host state, 27.3 guest state, 27.4 MSRs
// that are loaded.
//
// The CPU stops at the first check that fails and tells almost nothing of it; the audit makes them
// all. It reads the VMCS through an accessor, so it works on the current VMCS in the module and on
// the text of a dump in userspace. What an accessor does not know makes the checks that need it
// "not checkable": never passed, never violated. The CPU is taken to be outside SMM.
#pragma once

#include <minivmx/text.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vmx_msr.hpp>

namespace minivmx {

/// What the CPU does when a check of this stage fails, and the order in which it makes them.
enum class AuditStage : u8 {
    kControls, ///< 27.2.1: VMLAUNCH and VMRESUME fail with VM-instruction error 7
    kHost,     ///< 27.2.2 to 27.2.4: ... with VM-instruction error 8
    kGuest,    ///< 27.3.1: a VM exit with basic reason 33
    kMsrLoad,  ///< 27.4: a VM exit with basic reason 34
};

/// What a check reads besides fields of the VMCS and capability MSRs.
enum class AuditFact : u8 {
    kPhysicalWidth, ///< how many bits a physical address has
    kLinearWidth,   ///< how many bits a linear address has
    kHostMode,      ///< whether the host runs in IA-32e mode
    kCpuFeatures,   ///< which bits of an MSR this model has
    kMemory,        ///< memory that an address in the VMCS points to
    kVmcsAddress,   ///< where the VMCS itself is
};

/// Something that a check needed and nobody knew.
struct AuditInput {
    enum class Kind : u8 { kField, kMsr, kFact } kind;
    u32 number; ///< encoding, MSR number or AuditFact
};

class AuditView; // what the predicates read through; src/core/audit/view.hpp

/// A predicate returns the bits at fault of the field that its row names: 0 when the check holds,
/// kWholeValue when no single bit is to blame.
using AuditPredicate = u64 (*)(const AuditView &view);
inline constexpr u64 kWholeValue = ~u64{0};

/// One check.
struct AuditCheck {
    AuditStage stage;
    u32 field;        ///< encoding of the field that it finds fault with
    const char *sdm;  ///< section of SDM Vol. 3C: "27.3.1.2"
    const char *name; ///< unique: "guest-cs-type"
    const char *rule; ///< in words, true of a valid VMCS: "the type of CS is 9, 11, 13 or 15 ..."
    AuditPredicate predicate;
};

/// All checks, by section, in the order in which the architecture makes them.
unsigned audit_table_count();
Span<const AuditCheck> audit_table(unsigned number);
unsigned audit_check_count();
/// By name; nullptr when unknown.
const AuditCheck *find_audit_check(const char *name);

enum class AuditVerdict : u8 { kViolated, kNotCheckable };

/// A check that is violated or could not be made.
struct AuditFinding {
    const AuditCheck *check;
    AuditVerdict verdict;
    u64 value;          ///< kViolated: of check->field; kMsrLoad: the number of the entry's MSR
    u64 bits;           ///< kViolated: the bits at fault, or kWholeValue
    u32 entry;          ///< kMsrLoad: which entry of the list; else 0
    AuditInput missing; ///< kNotCheckable: what nobody knew
};

/// One entry of an MSR-load area. SDM Vol. 3C, 25.7.2, table 25-15.
struct AuditMsrEntry {
    u32 index;
    u32 reserved;
    u64 value;
};

/// Whether the CPU has something.
enum class AuditHas : u8 { kUnknown, kNo, kYes };

/// What CPUID says of bits that only some models have.
struct AuditFeatures {
    AuditHas nx{};            ///< IA32_EFER.NXE. CPUID.80000001H:EDX[20]
    AuditHas rtm{};           ///< CPUID.07H:EBX[11]
    AuditHas sgx{};           ///< CPUID.07H:EBX[2]
    AuditHas bus_lock{};      ///< OS bus-lock detection. CPUID.07H:ECX[24]
    AuditHas lam{};           ///< linear-address masking. CPUID.07H.1:EAX[26]
    AuditHas counters{};      ///< kYes: perf_global_ctrl is known
    u64 perf_global_ctrl = 0; ///< the counters of IA32_PERF_GLOBAL_CTRL. CPUID.0AH
};

/// The CPU that was to make the entry. The default is a CPU of which nothing is known.
struct AuditCpu {
    const VmxMsrs *msr = nullptr; ///< nullptr: unknown; an MSR that is not in it is unknown, too
    u32 physical_bits = 0;        ///< CPUID.80000008H:EAX[7:0]; 0: unknown
    u32 linear_bits = 0; ///< CPUID.80000008H:EAX[15:8]; 0: unknown but for IA32_VMX_CR4_FIXED1
    enum class Mode : u8 { kUnknown, kLegacy, kIa32e } mode = Mode::kUnknown; ///< of the host
    AuditFeatures features;
};

/// What is audited.
struct AuditSource {
    /// The value of the field with this (full) encoding; false when it is not known or this CPU has
    /// no such field. Required.
    bool (*field)(void *context, u32 encoding, u64 *value) = nullptr;
    /// `size` (at most 32) bytes at a physical address; false when they are not known. May be
    /// nullptr.
    bool (*memory)(void *context, u64 address, void *bytes, usize size) = nullptr;
    /// Entry of the VM-entry MSR-load area, where it is known otherwise than by its address. May be
    /// nullptr.
    bool (*msr_entry)(void *context, u32 index, AuditMsrEntry *entry) = nullptr;
    void *context = nullptr;
    u64 vmcs_address = kUnknownAddress; ///< of the VMCS
    AuditCpu cpu;

    static constexpr u64 kUnknownAddress = ~u64{0};
};

/// Who hears of the findings, in the order of the tables. The finding is valid only during the
/// call, its `check` for ever.
struct AuditSink {
    void (*report)(void *context, const AuditFinding &finding) = nullptr;
    void *context = nullptr;
};

struct AuditSummary {
    u32 violated = 0;
    u32 not_checkable = 0;
    u32 held = 0; ///< or without an object, because a control is off
};

/// Makes all checks. No allocation, does not sleep.
AuditSummary audit_vmcs(const AuditSource &source, const AuditSink &sink);

/// The VMCS that is current on this CPU, by VMREAD, and this CPU as `hardware` knows it. In VMX
/// operation, and not to be moved to another CPU meanwhile.
AuditSource audit_current_vmcs();

/// Holds any finding.
using AuditSentence = Text<560>;
/// Appends a violated finding as a sentence: field, value, bits, the rule, the clause. Values of
/// host state and host addresses are left out unless `host_values`.
void put_audit_finding(TextBuilder &out, const AuditFinding &finding, bool host_values);
/// Appends what was missing: "VMCS_LINK_POINTER", "IA32_VMX_MISC", "the width of physical
/// addresses".
void put_audit_input(TextBuilder &out, const AuditInput &input);
/// Appends names of bits of the field as the architecture has them: "NMI exiting, bit 8".
void put_field_bits(TextBuilder &out, u32 encoding, u64 bits);

/// "GUEST_CS_AR_BYTES"; nullptr for a field without a name here.
const char *vmcs_field_name(u32 encoding);
/// By that name; false when unknown.
bool find_vmcs_field(const char *name, u32 *encoding);
/// Whether the field's value tells of the host's memory: host state, and addresses that controls
/// hold. Such a value is for the log, never for a client.
bool field_tells_of_host(u32 encoding);

/// "controls", "host state", "guest state", "MSR loading".
const char *audit_stage_name(AuditStage stage);

} // namespace minivmx
