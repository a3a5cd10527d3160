// SPDX-License-Identifier: GPL-2.0-only
//
// SDM Vol. 3C, 27.3.1.5 "Checks on Guest Non-Register State" and 27.3.1.6 "Checks on Guest
// Page-Directory-Pointer-Table Entries".
#include "view.hpp"

namespace minivmx::audit {

namespace {

// Activity states: SDM Vol. 3C, 25.4.2.
enum Activity : u32 { kActive, kHlt, kShutdown, kWaitForSipi };
// The interruptibility state: SDM Vol. 3C, 25.4.2, table 25-3.
constexpr u32 kEnclaveInterruption = bit32(4);
// Pending debug exceptions: SDM Vol. 3C, 25.4.2, table 25-4.
constexpr u64 kPendingBusLock = bit64(11), kPendingEnabled = bit64(12), kPendingStep = bit64(14),
              kPendingRtm = bit64(16);
constexpr u64 kDebugctlBtf = bit64(1);
constexpr u64 kNoLink = ~u64{0};

u32 interruptibility(const AuditView &v)
{
    return v[GUEST_INTERRUPTIBILITY_INFO];
}

u32 ss_dpl(const AuditView &v)
{
    return AccessRights{v[GUEST_SS_AR_BYTES]}.dpl();
}

u64 activity_known(const AuditView &v)
{
    const u32 state = v[GUEST_ACTIVITY_STATE];
    if (state == kActive || state > kWaitForSipi)
        return fault_if(state != kActive);
    const VmxMisc misc{v.msr(MSR_IA32_VMX_MISC)};
    const bool supported = (state == kHlt && misc.activity_hlt()) ||
                           (state == kShutdown && misc.activity_shutdown()) ||
                           (state == kWaitForSipi && misc.activity_wait_sipi());
    return fault_if(!supported);
}

u64 activity_hlt_dpl(const AuditView &v)
{
    return fault_if(v.value() == kHlt && ss_dpl(v) != 0);
}

u64 activity_blocking(const AuditView &v)
{
    return fault_if(v.value() != kActive &&
                    (interruptibility(v) & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)) != 0);
}

/// The events that may be injected into a CPU that isn't active.
bool event_fits_activity(EntryEvent event, u32 state)
{
    switch (state) {
    case kHlt:
        return event.is(INTR_TYPE_EXT_INTR) || event.is(INTR_TYPE_NMI) ||
               event.is(EntryEvent::kOther) ||
               (event.is(INTR_TYPE_HARD_EXCEPTION) &&
                (event.vector() == DB_VECTOR || event.vector() == MC_VECTOR));
    case kShutdown:
        return event.is(INTR_TYPE_NMI) ||
               (event.is(INTR_TYPE_HARD_EXCEPTION) && event.vector() == MC_VECTOR);
    case kWaitForSipi:
        return false;
    default:
        return true;
    }
}

u64 activity_event(const AuditView &v)
{
    const EntryEvent event = entry_event(v);
    return fault_if(event.valid() && !event_fits_activity(event, v[GUEST_ACTIVITY_STATE]));
}

u64 activity_smm(const AuditView &v)
{
    return fault_if(v.value() == kWaitForSipi && v.entry(VM_ENTRY_SMM));
}

u64 interruptibility_reserved(const AuditView &v)
{
    return v.value() & ~u64{0x1f};
}

u64 sti_and_mov_ss(const AuditView &v)
{
    constexpr u32 kBoth = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;
    return (v.value() & kBoth) == kBoth ? kBoth : 0;
}

u64 sti_blocking_needs_if(const AuditView &v)
{
    const u64 blocking = v.value() & GUEST_INTR_STATE_STI;
    return blocking != 0 && !(v[GUEST_RFLAGS] & X86_EFLAGS_IF) ? blocking : 0;
}

u64 blocking_of_interrupt(const AuditView &v)
{
    return entry_event(v).is(INTR_TYPE_EXT_INTR)
               ? v.value() & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)
               : 0;
}

u64 mov_ss_blocking_of_nmi(const AuditView &v)
{
    return entry_event(v).is(INTR_TYPE_NMI) ? v.value() & GUEST_INTR_STATE_MOV_SS : 0;
}

u64 sti_blocking_of_nmi(const AuditView &v)
{
    return entry_event(v).is(INTR_TYPE_NMI) ? v.value() & GUEST_INTR_STATE_STI : 0;
}

u64 nmi_blocking_of_nmi(const AuditView &v)
{
    return entry_event(v).is(INTR_TYPE_NMI) && v.pin(PIN_BASED_VIRTUAL_NMIS)
               ? v.value() & GUEST_INTR_STATE_NMI
               : 0;
}

u64 smi_blocking_outside_smm(const AuditView &v)
{
    return v.entry(VM_ENTRY_SMM) ? 0 : v.value() & GUEST_INTR_STATE_SMI;
}

u64 smi_blocking_in_smm(const AuditView &v)
{
    return v.entry(VM_ENTRY_SMM) ? ~v.value() & GUEST_INTR_STATE_SMI : 0;
}

u64 enclave_interruption(const AuditView &v)
{
    const u64 value = v.value();
    if (!(value & kEnclaveInterruption))
        return 0;
    return value & GUEST_INTR_STATE_MOV_SS || !v.has(&AuditFeatures::sgx) ? kEnclaveInterruption
                                                                          : 0;
}

u64 pending_reserved(const AuditView &v)
{
    // Bits 10:4, 13, 15 and 63:17.
    constexpr u64 kReserved = 0x7f0 | bit64(13) | bit64(15) | ~u64{0x1ffff};
    const u64 value = v.value();
    if (const u64 reserved = value & kReserved; reserved != 0)
        return reserved;
    return value & kPendingBusLock && !v.has(&AuditFeatures::bus_lock) ? kPendingBusLock : 0;
}

u64 pending_step(const AuditView &v)
{
    const bool waits =
        (interruptibility(v) & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)) != 0 ||
        v[GUEST_ACTIVITY_STATE] == kHlt;
    if (!waits)
        return 0;
    const bool steps =
        (v[GUEST_RFLAGS] & X86_EFLAGS_TF) != 0 && !(v[GUEST_IA32_DEBUGCTL] & kDebugctlBtf);
    return (v.value() ^ (steps ? kPendingStep : 0)) & kPendingStep;
}

u64 pending_rtm(const AuditView &v)
{
    const u64 value = v.value();
    if (!(value & kPendingRtm))
        return 0;
    const u64 others = (value ^ kPendingEnabled) & ~kPendingRtm;
    if (others != 0)
        return others;
    return interruptibility(v) & GUEST_INTR_STATE_MOV_SS || !v.has(&AuditFeatures::rtm)
               ? kPendingRtm
               : 0;
}

bool linked(const AuditView &v)
{
    return v.value() != kNoLink;
}

u64 link_pointer_address(const AuditView &v)
{
    return linked(v) ? page_address(v) : 0;
}

u64 link_pointer_revision(const AuditView &v)
{
    constexpr u32 kShadow = bit32(31);
    if (!linked(v) || v.value() & kPageOffset)
        return 0;
    u32 header = 0;
    v.memory(v.value(), &header, sizeof(header));
    const u32 shadow = v.secondary(SECONDARY_EXEC_SHADOW_VMCS) ? kShadow : 0;
    return fault_if(header != (VmxBasic{v.msr(MSR_IA32_VMX_BASIC)}.revision() | shadow));
}

u64 link_pointer_is_other(const AuditView &v)
{
    return fault_if(linked(v) && v.value() == v.vmcs_address());
}

constexpr u64 kFred = bit64(32);

u64 fred_ss_dpl(const AuditView &v)
{
    const u32 dpl = ss_dpl(v);
    return v[GUEST_CR4] & kFred && dpl != 0 && dpl != 3 ? AR_DPL_MASK : 0;
}

u64 fred_cs_l(const AuditView &v)
{
    return v[GUEST_CR4] & kFred && ss_dpl(v) == 0 ? ~v.value() & AR_L : 0;
}

u64 fred_iopl(const AuditView &v)
{
    constexpr u64 kIopl = 3 << 12;
    return v[GUEST_CR4] & kFred && ss_dpl(v) == 3 ? v.value() & kIopl : 0;
}

u64 fred_sti_blocking(const AuditView &v)
{
    return v[GUEST_CR4] & kFred && ss_dpl(v) == 3 ? v.value() & GUEST_INTR_STATE_STI : 0;
}

bool pae_paging(const AuditView &v)
{
    return (v[GUEST_CR0] & X86_CR0_PG) != 0 && (v[GUEST_CR4] & X86_CR4_PAE) != 0 &&
           !v.ia32e_guest();
}

/// Reserved bits of an entry that is present: SDM Vol. 3A, 4.4.1, table 4-8.
u64 pdpte_reserved(const AuditView &v, u64 entry)
{
    constexpr u64 kPresent = 1, kReserved = 0x1e6;
    if (!(entry & kPresent))
        return 0;
    const u64 reserved = entry & kReserved;
    return reserved != 0 ? reserved : v.beyond_physical_width(entry);
}

u64 pdpte_field(const AuditView &v)
{
    if (!pae_paging(v) || !v.secondary(SECONDARY_EXEC_ENABLE_EPT))
        return 0;
    return pdpte_reserved(v, v.value());
}

u64 pdptes_in_memory(const AuditView &v)
{
    constexpr u64 kTableBits = 0xffffffe0;
    if (!pae_paging(v) || v.secondary(SECONDARY_EXEC_ENABLE_EPT))
        return 0;
    u64 entries[4];
    v.memory(v.value() & kTableBits, entries, sizeof(entries));
    for (u64 entry : entries) {
        if (pdpte_reserved(v, entry) != 0)
            return kWholeValue;
    }
    return 0;
}

// clang-format off
constexpr AuditCheck kGuestStateRows[] = {
    guest_check("27.3.1.5", GUEST_ACTIVITY_STATE, "guest-activity",
        "the activity state must be 0 (active), or 1 (HLT), 2 (shutdown), 3 (wait-for-SIPI) where IA32_VMX_MISC[8:6] has it", activity_known),
    guest_check("27.3.1.5", GUEST_ACTIVITY_STATE, "guest-activity-hlt", "the activity state must not be HLT while DPL of SS is not 0", activity_hlt_dpl),
    guest_check("27.3.1.5", GUEST_ACTIVITY_STATE, "guest-activity-blocking",
        "the activity state must be active while STI or MOV SS blocks events", activity_blocking),
    guest_check("27.3.1.5", VM_ENTRY_INTR_INFO_FIELD, "guest-activity-event",
        "an event injected into HLT must be an interrupt, an NMI, #DB, #MC or a monitor-trap exit, into shutdown an NMI or #MC; into wait-for-SIPI there must be none", activity_event),
    guest_check("27.3.1.5", GUEST_ACTIVITY_STATE, "guest-activity-smm", "the activity state must not be wait-for-SIPI on an entry to SMM", activity_smm),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-interruptibility-reserved", "bits 31:5 of the interruptibility state must be 0", interruptibility_reserved),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-sti-and-mov-ss", "blocking by STI and blocking by MOV SS must not both be 1", sti_and_mov_ss),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-sti-blocking-needs-if", "blocking by STI must be 0 while RFLAGS.IF is 0", sti_blocking_needs_if),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-blocking-of-interrupt",
        "blocking by STI and by MOV SS must be 0 when an external interrupt is injected", blocking_of_interrupt),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-mov-ss-blocking-of-nmi", "blocking by MOV SS must be 0 when an NMI is injected", mov_ss_blocking_of_nmi),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-sti-blocking-of-nmi",
        "blocking by STI must be 0 when an NMI is injected (not all CPUs ask for it)", sti_blocking_of_nmi),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-nmi-blocking-of-nmi",
        "blocking by NMI must be 0 when an NMI is injected and virtual NMIs is 1", nmi_blocking_of_nmi),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-smi-blocking", "blocking by SMI must be 0 outside SMM", smi_blocking_outside_smm),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-smi-blocking-in-smm", "blocking by SMI must be 1 on an entry to SMM", smi_blocking_in_smm),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-enclave-interruption",
        "enclave interruption must be 0 while MOV SS blocks events, and on CPUs without SGX", enclave_interruption),
    guest_check("27.3.1.5", GUEST_PENDING_DBG_EXCEPTIONS, "guest-pending-reserved",
        "bits 10:4, 13, 15 and 63:17 of the pending debug exceptions must be 0, bit 11 too on CPUs without bus-lock detection", pending_reserved),
    guest_check("27.3.1.5", GUEST_PENDING_DBG_EXCEPTIONS, "guest-pending-step",
        "while STI or MOV SS blocks events or the activity state is HLT, a pending single step (bit 14) must be 1 if RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF 0, else 0", pending_step),
    guest_check("27.3.1.5", GUEST_PENDING_DBG_EXCEPTIONS, "guest-pending-rtm",
        "if bit 16 (RTM) of the pending debug exceptions is 1, bit 12 must be 1 and the others 0, MOV SS must not block, and the CPU must have RTM", pending_rtm),
    guest_check("27.3.1.5", VMCS_LINK_POINTER, "link-pointer-address",
        "the VMCS link pointer must be all ones or a 4-KiB-aligned address within the physical-address width", link_pointer_address),
    guest_check("27.3.1.5", VMCS_LINK_POINTER, "link-pointer-revision",
        "the VMCS that is linked must have this CPU's revision identifier, and the shadow-VMCS indicator just with VMCS shadowing", link_pointer_revision),
    guest_check("27.3.1.5", VMCS_LINK_POINTER, "link-pointer-not-current", "the VMCS link pointer must not be the address of the VMCS itself", link_pointer_is_other),
    guest_check("27.3.1.2", GUEST_SS_AR_BYTES, "guest-fred-ss-dpl", "DPL of SS must be 0 or 3 while CR4.FRED is 1", fred_ss_dpl),
    guest_check("27.3.1.2", GUEST_CS_AR_BYTES, "guest-fred-cs-l", "L of CS must be 1 while CR4.FRED is 1 and DPL of SS is 0", fred_cs_l),
    guest_check("27.3.1.4", GUEST_RFLAGS, "guest-fred-iopl", "RFLAGS.IOPL must be 0 while CR4.FRED is 1 and DPL of SS is 3", fred_iopl),
    guest_check("27.3.1.5", GUEST_INTERRUPTIBILITY_INFO, "guest-fred-sti-blocking", "blocking by STI must be 0 while CR4.FRED is 1 and DPL of SS is 3", fred_sti_blocking),

    guest_check("27.3.1.6", GUEST_PDPTR0, "guest-pdpte0", "bits 2:1, 8:5 and those beyond the physical-address width of a present PDPTE must be 0, with PAE paging and EPT", pdpte_field),
    guest_check("27.3.1.6", GUEST_PDPTR1, "guest-pdpte1", "bits 2:1, 8:5 and those beyond the physical-address width of a present PDPTE must be 0, with PAE paging and EPT", pdpte_field),
    guest_check("27.3.1.6", GUEST_PDPTR2, "guest-pdpte2", "bits 2:1, 8:5 and those beyond the physical-address width of a present PDPTE must be 0, with PAE paging and EPT", pdpte_field),
    guest_check("27.3.1.6", GUEST_PDPTR3, "guest-pdpte3", "bits 2:1, 8:5 and those beyond the physical-address width of a present PDPTE must be 0, with PAE paging and EPT", pdpte_field),
    guest_check("27.3.1.6", GUEST_CR3, "guest-pdptes-in-memory",
        "reserved bits of the present PDPTEs that CR3 points to must be 0, with PAE paging and without EPT", pdptes_in_memory),
};
// clang-format on

} // namespace

constinit const Span<const AuditCheck> kGuestStateChecks{kGuestStateRows};

} // namespace minivmx::audit
