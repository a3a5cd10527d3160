// SPDX-License-Identifier: GPL-2.0-only
// KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_TPR_ACCESS_REPORTING and KVM_SET_VAPIC_ADDR.
#include "lapic_detail.hpp"

#include <minivmx/guest_memory.hpp>
#include <minivmx/run.hpp>

namespace minivmx {

namespace {

u32 load_saved(const kvm_lapic_state &state, u32 offset)
{
    u32 value;
    __builtin_memcpy(&value, state.regs + offset, sizeof(value));
    return value;
}

void save(kvm_lapic_state &state, u32 offset, u32 value)
{
    __builtin_memcpy(state.regs + offset, &value, sizeof(value));
}

// In x2APIC mode KVM's format keeps the ID where xAPIC mode has it, unless the client asked for all
// of its bits.
bool id_in_high_byte(const Lapic &apic)
{
    return apic_mode(apic) == ApicMode::kX2apic && !apic.vcpu->kvm->x2apic_format;
}

constexpr u32 kLvtAll = kLvtVector | kLvtDelivery | kLvtPending | kLvtPolarity | kLvtRemoteIrr |
                        kLvtLevel | kLvtMasked | kLvtTimerMode;

// Registers that are restored as they are, and the bits that any of them can have: what a client
// writes beyond them has no meaning.
struct SavedRegister {
    u32 offset, bits;
};
constexpr SavedRegister kSavedRegisters[] = {
    {kApicTpr, 0xff},
    {kApicSvr, kSvrBits | kSvrDirectedEoi},
    {kApicEsr, 0xff},
    {kApicIcr, ~bit32(12)},
    {kApicIcrHigh, ~0u},
    {kApicLvtTimer, kLvtVector | kLvtPending | kLvtMasked | kLvtTimerMode},
    {kApicLvtThermal, kLvtAll & ~kLvtTimerMode},
    {kApicLvtPerformance, kLvtAll & ~kLvtTimerMode},
    {kApicLvtLint0, kLvtAll & ~kLvtTimerMode},
    {kApicLvtLint1, kLvtAll & ~kLvtTimerMode},
    {kApicLvtError, kLvtVector | kLvtPending | kLvtMasked},
    {kApicInitialCount, ~0u},
    {kApicDivide, 0xb},
};

u8 words_in_use(const Lapic &apic, u32 bitmap)
{
    u32 words = 0;
    for (u32 i = 0; i < 8; i++)
        words |= u32{apic_register(apic, bitmap + 16 * i) != 0} << i;
    return static_cast<u8>(words);
}

void restore_bitmaps(Lapic &apic, const kvm_lapic_state &state)
{
    for (u64 &word : apic.posted)
        __atomic_store_n(&word, 0, __ATOMIC_RELAXED);
    // All bits, as KVM: vectors below 16 can't get there otherwise, but a guest sees what the
    // client put there, and no such vector is delivered, its class being 0 (SDM Vol. 3A, 11.8.3).
    for (u32 offset = kApicIsr; offset < kApicEsr; offset += 16)
        set_apic_register(apic, offset, load_saved(state, offset));
    apic.irr_words = words_in_use(apic, kApicIrr);
    __atomic_store_n(&apic.isr_words, words_in_use(apic, kApicIsr), __ATOMIC_RELAXED);
}

void restore_identity(Lapic &apic, u32 id, const kvm_lapic_state &state)
{
    set_apic_register(apic, kApicId, id);
    if (apic_mode(apic) == ApicMode::kX2apic) {
        set_apic_register(apic, kApicLdr, x2apic_logical_id(id));
        set_apic_register(apic, kApicDfr, ~0u);
        return;
    }
    set_apic_register(apic, kApicLdr, load_saved(state, kApicLdr) & 0xff000000);
    set_apic_register(apic, kApicDfr, load_saved(state, kApicDfr) | 0x0fffffff);
}

} // namespace

Outcome report_tpr_access(vcpu_vmx &vmx)
{
    kvm_run &run = *vmx.area->run;
    vmx.apic->tpr_accessed = false;
    run.exit_reason = KVM_EXIT_TPR_ACCESS;
    run.tpr_access.rip = vmx.apic->tpr_rip;
    run.tpr_access.is_write = vmx.apic->tpr_written;
    return Outcome::to_user();
}

// A guest whose kernel a client has patched (KVM_SET_VAPIC_ADDR) keeps its TPR in memory; the bytes
// are TPR, the class in service, nothing, and the highest request.
void lapic_sync_from_vapic(vcpu_vmx &vmx)
{
    u32 word;
    if (read_guest_phys(vmx, vmx.apic->vapic_gpa, &word, sizeof(word)) != MemoryResult::kOk ||
        (word & 0xff) == apic_register(*vmx.apic, kApicTpr))
        return;
    set_apic_register(*vmx.apic, kApicTpr, word & 0xff);
    lapic_update_ppr(*vmx.apic);
    vmx.apic->attention = true;
}

void lapic_sync_to_vapic(vcpu_vmx &vmx)
{
    Lapic &apic = *vmx.apic;
    const int request = lapic_highest_request(apic), service = lapic_highest_in_service(apic);
    const u32 word = (apic_register(apic, kApicTpr) & 0xff) |
                     (service < 0 ? 0 : (static_cast<u32>(service) & 0xf0) << 8) |
                     (request < 0 ? 0 : static_cast<u32>(request) << 24);
    (void)write_guest_phys(vmx, apic.vapic_gpa, &word, sizeof(word));
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

bool core_has_lapic(const core_vcpu *vcpu)
{
    return static_cast<const vcpu_vmx *>(vcpu)->has_apic;
}

int core_get_lapic(core_vcpu *vcpu, kvm_lapic_state *state)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (!vmx.apic)
        return -EINVAL;
    Lapic &apic = *vmx.apic;
    (void)lapic_highest_request(apic); // what was posted is in IRR
    lapic_update_ppr(apic);
    *state = {};
    for (u32 offset = 0; offset < sizeof(state->regs); offset += 16)
        save(*state, offset, apic_register(apic, offset));
    save(*state, kApicCurrentCount, lapic_current_count(apic));
    if (id_in_high_byte(apic))
        save(*state, kApicId, apic_register(apic, kApicId) << 24);
    return 0;
}

int core_set_lapic(core_vcpu *vcpu, const kvm_lapic_state *state)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (!vmx.apic)
        return -EINVAL;
    Lapic &apic = *vmx.apic;
    const u32 saved_id = load_saved(*state, kApicId);
    const u32 id = id_in_high_byte(apic) ? saved_id >> 24 : saved_id;
    if (apic_mode(apic) == ApicMode::kX2apic && vmx.kvm->x2apic_format && id != vmx.vcpu_id)
        return -EINVAL;

    lapic_timer_stop(apic);
    restore_identity(apic, id, *state);
    for (const SavedRegister &saved : kSavedRegisters)
        set_apic_register(apic, saved.offset, load_saved(*state, saved.offset) & saved.bits);
    restore_bitmaps(apic, *state);
    lapic_update_ppr(apic);
    lapic_timer_restore(apic, load_saved(*state, kApicCurrentCount));
    apic.attention = true;
    return 0;
}

int core_set_tpr_access_reporting(core_vcpu *vcpu, host_u32 enabled, host_u32 flags)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (flags)
        return -EINVAL;
    // Without an APIC here there is no TPR to report; the setting is remembered by nobody.
    if (vmx.apic)
        vmx.apic->report_tpr = enabled != 0;
    return 0;
}

int core_set_vapic_addr(core_vcpu *vcpu, host_u64 address)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    u32 word;
    if (!vmx.apic)
        return -EINVAL;
    if (address && read_guest_phys(vmx, address, &word, sizeof(word)) != MemoryResult::kOk)
        return -EINVAL;
    vmx.apic->vapic_gpa = address;
    return 0;
}

} // extern "C"
