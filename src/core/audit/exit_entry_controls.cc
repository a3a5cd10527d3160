// SPDX-License-Identifier: GPL-2.0-only
//
// SDM Vol. 3C, 27.2.1.2 "VM-Exit Control Fields" and 27.2.1.3 "VM-Entry Control Fields", the event
// that is injected among them.
#include "view.hpp"

namespace minivmx::audit {

namespace {

/// The field with the count of a list's entries, by the field with its address.
VmcsField32 msr_count_of(u32 address_field)
{
    switch (address_field) {
    case VM_EXIT_MSR_STORE_ADDR.encoding:
        return VM_EXIT_MSR_STORE_COUNT;
    case VM_EXIT_MSR_LOAD_ADDR.encoding:
        return VM_EXIT_MSR_LOAD_COUNT;
    default:
        return VM_ENTRY_MSR_LOAD_COUNT;
    }
}

u64 msr_list_address(const AuditView &v)
{
    if (v[msr_count_of(v.check().field)] == 0)
        return 0;
    const u64 offset = v.value() & 0xf;
    return offset != 0 ? offset : v.beyond_physical_width(v.value());
}

u64 msr_list_end(const AuditView &v)
{
    const u64 count = v[msr_count_of(v.check().field)];
    if (count == 0)
        return 0;
    const u64 last = v.value() + count * sizeof(AuditMsrEntry) - 1;
    return fault_if(last < v.value() || v.beyond_physical_width(last) != 0);
}

u64 save_preemption_timer(const AuditView &v)
{
    return v.exit(VM_EXIT_SAVE_VMX_PREEMPTION_TIMER) && !v.pin(PIN_BASED_VMX_PREEMPTION_TIMER)
               ? VM_EXIT_SAVE_VMX_PREEMPTION_TIMER
               : 0;
}

u64 entry_to_smm(const AuditView &v)
{
    return v.value() & VM_ENTRY_SMM;
}

u64 deactivate_dual_monitor(const AuditView &v)
{
    return v.value() & VM_ENTRY_DEACT_DUAL_MONITOR;
}

u64 event_type(const AuditView &v)
{
    const EntryEvent event = entry_event(v);
    if (event.is(EntryEvent::kReservedType))
        return INTR_INFO_TYPE_MASK;
    if (!event.is(EntryEvent::kOther))
        return 0;
    // The one other event is a pending monitor-trap exit.
    const bool has_mtf = v.allowed(ControlField::kPrimary).may_be_1(CPU_BASED_MONITOR_TRAP_FLAG);
    return has_mtf ? 0 : INTR_INFO_TYPE_MASK;
}

u64 event_vector(const AuditView &v)
{
    const EntryEvent event = entry_event(v);
    const bool wrong = (event.is(INTR_TYPE_NMI) && event.vector() != NMI_VECTOR) ||
                       (event.is(INTR_TYPE_HARD_EXCEPTION) && event.vector() > 31) ||
                       (event.is(EntryEvent::kOther) && event.vector() != 0);
    return wrong ? INTR_INFO_VECTOR_MASK : 0;
}

bool has_error_code(u32 vector)
{
    constexpr u32 kWithErrorCode = bit32(DF_VECTOR) | bit32(TS_VECTOR) | bit32(NP_VECTOR) |
                                   bit32(SS_VECTOR) | bit32(GP_VECTOR) | bit32(PF_VECTOR) |
                                   bit32(AC_VECTOR);
    return vector < 32 && (kWithErrorCode & bit32(vector)) != 0;
}

u64 event_error_code(const AuditView &v)
{
    const EntryEvent event = entry_event(v);
    if (!event.valid())
        return 0;
    if (!event.is(INTR_TYPE_HARD_EXCEPTION) || !(v[GUEST_CR0] & X86_CR0_PE))
        return event.info & INTR_INFO_HAS_ERROR_CODE;
    if (event.delivers_error_code() == has_error_code(event.vector()))
        return 0;
    return VmxBasic{v.msr(MSR_IA32_VMX_BASIC)}.error_code_optional() ? 0 : INTR_INFO_HAS_ERROR_CODE;
}

u64 event_reserved(const AuditView &v)
{
    const EntryEvent event = entry_event(v);
    if (!event.valid())
        return 0;
    // A nested exception, for guests with FRED: SDM Vol. 3D, A.1, bit 58.
    const u32 reserved = event.info & EntryEvent::kReserved;
    if (reserved != EntryEvent::kNested)
        return reserved;
    const bool known = VmxBasic{v.msr(MSR_IA32_VMX_BASIC)}.nested_exception();
    return known && event.is(INTR_TYPE_HARD_EXCEPTION) ? 0 : reserved;
}

u64 event_error_code_reserved(const AuditView &v)
{
    const EntryEvent event = entry_event(v);
    return event.valid() && event.delivers_error_code() ? v.value() & 0xffff0000 : 0;
}

u64 event_instruction_length(const AuditView &v)
{
    constexpr u64 kLongest = 15;
    const EntryEvent event = entry_event(v);
    if (!event.is(INTR_TYPE_SOFT_INTR) && !event.is(INTR_TYPE_PRIV_SW_EXCEPTION) &&
        !event.is(INTR_TYPE_SOFT_EXCEPTION))
        return 0;
    const u64 length = v.value();
    if (length != 0)
        return fault_if(length > kLongest);
    return fault_if(!VmxMisc{v.msr(MSR_IA32_VMX_MISC)}.zero_length_injection());
}

// clang-format off
constexpr AuditCheck kExitEntryRows[] = {
    control_check("27.2.1.2", VM_EXIT_CONTROLS, "exit-must-be-1",
        "VM-exit controls that IA32_VMX_(TRUE_)EXIT_CTLS[31:0] has as 1 must be 1", controls_that_must_be_1),
    control_check("27.2.1.2", VM_EXIT_CONTROLS, "exit-must-be-0",
        "VM-exit controls that IA32_VMX_(TRUE_)EXIT_CTLS[63:32] has as 0 must be 0", controls_that_must_be_0),
    control_check("27.2.1.2", SECONDARY_VM_EXIT_CONTROLS, "exit2-must-be-0",
        "secondary VM-exit controls that IA32_VMX_EXIT_CTLS2 has as 0 must be 0", controls_that_must_be_0),
    control_check("27.2.1.2", VM_EXIT_CONTROLS, "save-preemption-timer",
        "save VMX-preemption timer value must be 0 while activate VMX-preemption timer is 0", save_preemption_timer),
    control_check("27.2.1.2", VM_EXIT_MSR_STORE_ADDR, "exit-msr-store-address",
        "the VM-exit MSR-store area must be at a 16-byte-aligned address within the physical-address width, if it is not empty", msr_list_address),
    control_check("27.2.1.2", VM_EXIT_MSR_STORE_ADDR, "exit-msr-store-end",
        "the VM-exit MSR-store area must end within the physical-address width", msr_list_end),
    control_check("27.2.1.2", VM_EXIT_MSR_LOAD_ADDR, "exit-msr-load-address",
        "the VM-exit MSR-load area must be at a 16-byte-aligned address within the physical-address width, if it is not empty", msr_list_address),
    control_check("27.2.1.2", VM_EXIT_MSR_LOAD_ADDR, "exit-msr-load-end",
        "the VM-exit MSR-load area must end within the physical-address width", msr_list_end),
    control_check("27.2.1.3", VM_ENTRY_CONTROLS, "entry-must-be-1",
        "VM-entry controls that IA32_VMX_(TRUE_)ENTRY_CTLS[31:0] has as 1 must be 1", controls_that_must_be_1),
    control_check("27.2.1.3", VM_ENTRY_CONTROLS, "entry-must-be-0",
        "VM-entry controls that IA32_VMX_(TRUE_)ENTRY_CTLS[63:32] has as 0 must be 0", controls_that_must_be_0),
    control_check("27.2.1.3", VM_ENTRY_INTR_INFO_FIELD, "event-type",
        "the type of an injected event must not be 1, and 7 only where monitor trap flag may be 1", event_type),
    control_check("27.2.1.3", VM_ENTRY_INTR_INFO_FIELD, "event-vector",
        "an injected NMI must have vector 2, a hardware exception at most 31, another event 0", event_vector),
    control_check("27.2.1.3", VM_ENTRY_INTR_INFO_FIELD, "event-error-code",
        "an error code must be delivered with #DF, #TS, #NP, #SS, #GP, #PF and #AC and nothing else, and not while CR0.PE is 0; "
        "where IA32_VMX_BASIC[56] is 1, with any hardware exception or none", event_error_code),
    control_check("27.2.1.3", VM_ENTRY_INTR_INFO_FIELD, "event-reserved",
        "bits 30:12 of the VM-entry interruption information must be 0 (bit 13 may be 1 with a hardware exception where IA32_VMX_BASIC[58] is 1)", event_reserved),
    control_check("27.2.1.3", VM_ENTRY_EXCEPTION_ERROR_CODE, "event-error-code-reserved",
        "bits 31:16 of an error code that is delivered must be 0", event_error_code_reserved),
    control_check("27.2.1.3", VM_ENTRY_INSTRUCTION_LEN, "event-instruction-length",
        "the instruction length of an injected software interrupt or exception must be 1 to 15, or 0 where IA32_VMX_MISC[30] is 1", event_instruction_length),
    control_check("27.2.1.3", VM_ENTRY_MSR_LOAD_ADDR, "entry-msr-load-address",
        "the VM-entry MSR-load area must be at a 16-byte-aligned address within the physical-address width, if it is not empty", msr_list_address),
    control_check("27.2.1.3", VM_ENTRY_MSR_LOAD_ADDR, "entry-msr-load-end",
        "the VM-entry MSR-load area must end within the physical-address width", msr_list_end),
    control_check("27.2.1.3", VM_ENTRY_CONTROLS, "entry-to-smm", "entry to SMM must be 0 outside SMM", entry_to_smm),
    control_check("27.2.1.3", VM_ENTRY_CONTROLS, "deactivate-dual-monitor",
        "deactivate dual-monitor treatment must be 0 outside SMM", deactivate_dual_monitor),
};
// clang-format on

} // namespace

constinit const Span<const AuditCheck> kExitEntryControlChecks{kExitEntryRows};

} // namespace minivmx::audit
