// SPDX-License-Identifier: GPL-2.0-only
//
// The host's side of host.h.
#include "machine.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using minivmx::sim::Machine;
using minivmx::sim::UserRange;

namespace {

constexpr size_t kPage = 4096;

bool allocation_fails(Machine &m)
{
    if (m.allocations_left < 0)
        return false;
    if (m.allocations_left == 0)
        return true;
    m.allocations_left--;
    return false;
}

} // namespace

void host_log(host_log_level level, const char *line)
{
    Machine::current().log.push_back({level, line});
}

bool host_log_allowed()
{
    return true;
}

void *host_zalloc(size_t size)
{
    Machine &m = Machine::current();
    m.may_sleep("host_zalloc");
    if (allocation_fails(m))
        return nullptr;
    void *const memory = std::aligned_alloc(64, (size + 63) / 64 * 64);
    std::memset(memory, 0, size);
    m.allocations.insert(memory);
    return memory;
}

void host_free(void *memory)
{
    if (memory == nullptr)
        return;
    Machine &m = Machine::current();
    if (m.allocations.erase(memory) == 0)
        m.violation("host_free of something that host_zalloc did not return");
    else
        std::free(memory);
}

namespace {

// The first free page frame from `phys` on.
void *allocate_page(Machine &m, host_u64 phys)
{
    if (allocation_fails(m))
        return nullptr;
    void *const page = std::aligned_alloc(kPage, kPage);
    std::memset(page, 0, kPage);
    while (m.pages_by_phys.contains(phys))
        phys += kPage;
    m.pages[page] = phys;
    m.pages_by_phys[phys] = page;
    return page;
}

} // namespace

void *host_page_alloc()
{
    Machine &m = Machine::current();
    m.may_sleep("host_page_alloc");
    return allocate_page(m, m.first_page);
}

void *host_page_alloc_unset()
{
    Machine &m = Machine::current();
    m.may_sleep("host_page_alloc_unset");
    void *page = allocate_page(m, m.first_page);
    if (page != nullptr)
        std::memset(page, 0x5a, 4096);
    return page;
}

void *host_page_alloc_low()
{
    Machine &m = Machine::current();
    m.may_sleep("host_page_alloc_low");
    return allocate_page(m, 0x100000);
}

void host_page_free(void *page)
{
    if (page == nullptr)
        return;
    Machine &m = Machine::current();
    const auto found = m.pages.find(page);
    if (found == m.pages.end()) {
        m.violation("host_page_free of something that is not a page");
        return;
    }
    const auto vmcs = m.vmcs.find(found->second);
    if (vmcs != m.vmcs.end() && vmcs->second.active_on >= 0)
        m.violation("the page of an active VMCS is freed");
    m.vmcs.erase(found->second);
    m.pages_by_phys.erase(found->second);
    m.page_owners.erase(found->second);
    m.pages.erase(found);
    std::free(page);
}

host_u64 host_page_phys(const void *page)
{
    Machine &m = Machine::current();
    const auto found = m.pages.find(const_cast<void *>(page));
    if (found == m.pages.end()) {
        m.violation("host_page_phys of something that is not a page");
        return ~host_u64{0};
    }
    return found->second;
}

void *host_phys_page(host_u64 phys)
{
    Machine &m = Machine::current();
    const auto found = m.pages_by_phys.find(phys & ~host_u64{kPage - 1});
    return found == m.pages_by_phys.end() ? nullptr : found->second;
}

void host_page_set_owner(void *page, void *owner)
{
    Machine::current().page_owners[host_page_phys(page)] = owner;
}

void *host_phys_owner(host_u64 phys)
{
    const auto &owners = Machine::current().page_owners;
    const auto found = owners.find(phys);
    return found == owners.end() ? nullptr : found->second;
}

int host_copy_from_user(void *to, host_u64 hva, size_t size)
{
    Machine &m = Machine::current();
    m.may_sleep("host_copy_from_user");
    if (m.find_user(hva, size) == nullptr)
        return -EFAULT;
    std::memcpy(to, reinterpret_cast<const void *>(hva), size);
    return 0;
}

int host_read_user_atomic(void *to, host_u64 hva, size_t size)
{
    Machine &m = Machine::current();
    if (hva % kPage + size > kPage)
        m.violation("host_read_user_atomic across a page's end");
    if (m.on_read_atomic && !m.on_read_atomic(hva))
        return -EFAULT;
    if (m.find_user(hva, size) == nullptr)
        return -EFAULT;
    std::memcpy(to, reinterpret_cast<const void *>(hva), size);
    return 0;
}

bool host_user_words_are(const host_user_word *words, host_u32 count)
{
    for (host_u32 i = 0; i < count; i++) {
        host_u64 value;
        if (words[i].hva % sizeof(value) != 0)
            Machine::current().violation("host_user_words_are of an unaligned word");
        if (host_read_user_atomic(&value, words[i].hva, sizeof(value)) != 0 ||
            ((value ^ words[i].value) & words[i].mask) != 0)
            return false;
    }
    return true;
}

int host_copy_to_user(host_u64 hva, const void *from, size_t size)
{
    Machine &m = Machine::current();
    m.may_sleep("host_copy_to_user");
    const UserRange *const range = m.find_user(hva, size);
    if (range == nullptr || !range->writable)
        return -EFAULT;
    std::memcpy(reinterpret_cast<void *>(hva), from, size);
    return 0;
}

int host_cmpxchg_user(host_u64 hva, host_u64 *expected, host_u64 desired, host_u32 size)
{
    Machine &m = Machine::current();
    m.may_sleep("host_cmpxchg_user");
    const UserRange *const range = m.find_user(hva, size);
    if (range == nullptr || !range->writable)
        return -EFAULT;
    if (m.on_cmpxchg)
        m.on_cmpxchg(hva);
    if (hva % size != 0)
        return -EFAULT;
    host_u64 there = 0;
    std::memcpy(&there, reinterpret_cast<const void *>(hva), size);
    if (there != *expected) {
        *expected = there;
        return -EAGAIN;
    }
    std::memcpy(reinterpret_cast<void *>(hva), &desired, size);
    return 0;
}

bool host_user_range_ok(host_u64 hva, host_u64 size)
{
    constexpr host_u64 limit = 0x7ffffffff000;
    return size <= limit && hva <= limit - size;
}

int host_fault_in(host_vm *vm, host_u64 hva, bool want_write, host_frame *frame)
{
    Machine &m = Machine::current();
    m.may_sleep("host_fault_in");
    const UserRange *const range = m.find_user(hva, 1);
    if (range == nullptr || (want_write && !range->writable))
        return -EFAULT;
    *frame = {};
    frame->pfn = m.pfn_of(hva);
    frame->mmu_seq = vm->mmu_seq;
    frame->writable = range->writable;
    frame->order = range->order;
    frame->at_hand = m.is_populated && m.is_populated(hva);
    m.faults++;
    return m.on_fault_in ? m.on_fault_in(hva, want_write, *frame) : 0;
}

bool host_frame_at_hand(host_vm *vm, host_u64 hva, bool want_write, host_frame *frame)
{
    Machine &m = Machine::current();
    if (!vm->mmu_locked)
        m.violation("host_frame_at_hand without the mmu lock");
    const UserRange *const range = m.find_user(hva, 1);
    if (range == nullptr || (want_write && !range->writable))
        return false;
    *frame = {};
    frame->pfn = m.pfn_of(hva);
    frame->mmu_seq = vm->mmu_seq;
    frame->writable = want_write;
    return true;
}

void host_frame_put(host_frame *frame, bool dirty)
{
    Machine &m = Machine::current();
    if (dirty && m.preempt_count == 0)
        m.violation("host_frame_put of a frame in use without the mmu lock");
    m.frame_puts.push_back({frame->pfn, dirty});
}

void host_frames_at_hand(host_vm *vm, host_u64 hva, host_u32 count, host_u64 *frames)
{
    Machine &m = Machine::current();
    if (!vm->mmu_locked)
        m.violation("host_frames_at_hand without the mmu lock");
    for (host_u32 i = 0; i < count; i++, hva += kPage) {
        const UserRange *const range = m.find_user(hva, 1);
        if (range == nullptr)
            m.violation("host_frames_at_hand outside of the process's memory");
        frames[i] = 0;
        if (range == nullptr || !m.is_populated || !m.is_populated(hva))
            continue;
        frames[i] = m.pfn_of(hva) << 12 | HOST_NEAR_PRESENT;
        if (range->writable && !m.clean_pages.contains(hva >> 12))
            frames[i] |= HOST_NEAR_WRITABLE;
    }
}

void host_mmu_lock(host_vm *vm)
{
    Machine &m = Machine::current();
    if (vm->mmu_locked)
        m.violation("the mmu lock is taken twice");
    vm->mmu_locked = true;
    m.preempt_count++;
}

void host_mmu_unlock(host_vm *vm)
{
    Machine &m = Machine::current();
    if (!vm->mmu_locked)
        m.violation("the mmu lock is released, but nobody holds it");
    vm->mmu_locked = false;
    m.preempt_count--;
}

bool host_mmu_retry(host_vm *vm, const host_frame *frame, host_u64)
{
    return vm->mmu_seq != frame->mmu_seq;
}

void host_request_all(host_vm *vm, host_u32 requests)
{
    Machine::current().flush_calls += (requests & VCPU_REQUEST_TLB_FLUSH) != 0;
    for (host_vcpu *vcpu : vm->vcpus)
        vcpu->area.requests |= requests;
    if (Machine::current().on_request_all)
        Machine::current().on_request_all(requests);
}

void host_relax()
{
    Machine &m = Machine::current();
    m.may_sleep("host_relax");
    if (m.on_relax)
        m.on_relax();
}

host_u32 host_cpu()
{
    return Machine::current().this_cpu;
}

host_u32 host_cpu_limit()
{
    return static_cast<host_u32>(Machine::current().cpus.size());
}

host_u32 host_online_cpus()
{
    host_u32 online = 0;
    for (const minivmx::sim::Cpu &cpu : Machine::current().cpus)
        online += cpu.online;
    return online;
}

void host_call_on_cpu(host_u32 cpu, void (*fn)(void *arg), void *arg)
{
    Machine &m = Machine::current();
    if (cpu >= m.cpus.size() || !m.cpus[cpu].online)
        return;
    const host_u32 before = m.this_cpu;
    const bool irqs = m.irqs_off;
    m.this_cpu = cpu;
    m.irqs_off = true;
    fn(arg);
    m.irqs_off = irqs;
    m.this_cpu = before;
}

void host_get_cpu_state(host_cpu_state *state)
{
    Machine &m = Machine::current();
    *state = {};
    state->tr_base = 0xfffffe0000003000 + 0x10000 * host_u64{m.this_cpu};
    state->gdt_base = 0xfffffe0000001000 + 0x10000 * host_u64{m.this_cpu};
    state->idt_base = 0xfffffe0000000000;
    state->sysenter_cs = 0x10;
    state->cs_sel = 0x10;
    state->ss_sel = 0x18;
    state->tr_sel = 0x40;
    state->cr0 = 0x80050033;
    state->efer = m.msr[0xc0000080];
    state->pat = m.msr[0x277];
    state->exit_rip = 0xffffffff81000000;
}

void host_let_sleep(host_vcpu *vcpu)
{
    if (!vcpu->pinned)
        return;
    vcpu->pinned = false;
    host_preempt_enable();
}

bool host_prepare_entry(host_vcpu *vcpu)
{
    Machine &m = Machine::current();
    if (m.before_entry)
        m.before_entry(*vcpu);
    if (m.signal_pending || vcpu->area.requests != 0)
        return false;
    m.preempt_count++;
    m.irqs_off = true;
    vcpu->area.mode = VCPU_IN_GUEST;
    vcpu->area.host_cr3 = 0x1000000;
    vcpu->area.host_cr4 = m.host_info.cr4;
    return true;
}

host_u32 host_vmenter(host_vcpu *vcpu)
{
    Machine &m = Machine::current();
    m.entries++;
    if (!m.on_vmenter) {
        std::fputs("a VM entry, but the test has no on_vmenter\n", stderr);
        std::abort();
    }
    return m.on_vmenter(*vcpu);
}

void host_after_exit(host_vcpu *vcpu)
{
    vcpu->area.mode = VCPU_OUTSIDE_GUEST;
}

void host_handle_nmi()
{
    Machine::current().host_events.push_back("nmi");
}

void host_handle_interrupt(host_u32 vector)
{
    Machine::current().host_events.push_back("interrupt " + std::to_string(vector));
}

void host_handle_machine_check()
{
    Machine::current().host_events.push_back("machine check");
}

void host_finish_exit(host_vcpu *vcpu)
{
    Machine &m = Machine::current();
    vcpu->area.mode = VCPU_OUTSIDE_GUEST;
    m.irqs_off = false;
    m.preempt_count--;
}

bool host_has_pending_work()
{
    return Machine::current().signal_pending;
}

int host_handle_pending_work(host_vcpu *vcpu)
{
    host_let_sleep(vcpu);
    return Machine::current().signal_pending ? -EINTR : 0;
}

host_u64 host_read_kernel_gs_base(host_vcpu *vcpu)
{
    return vcpu->kernel_gs_base;
}

void host_write_kernel_gs_base(host_vcpu *vcpu, host_u64 value)
{
    vcpu->kernel_gs_base = value;
}

void host_branch_predictor_barrier() {}

void host_preempt_disable()
{
    Machine::current().preempt_count++;
}

void host_preempt_enable()
{
    Machine &m = Machine::current();
    if (m.preempt_count == 0)
        m.violation("preemption is enabled more often than disabled");
    else
        m.preempt_count--;
}

host_u64 host_irq_save()
{
    Machine &m = Machine::current();
    const bool before = m.irqs_off;
    m.irqs_off = true;
    return before;
}

void host_irq_restore(host_u64 flags)
{
    Machine::current().irqs_off = flags != 0;
}

bool Machine::unmap_user(host_vm &vm, minivmx::u64 start, minivmx::u64 end)
{
    vm.mmu_seq++;
    host_mmu_lock(&vm);
    const bool flush = core_mmu_unmap_hva_range(vm.core, start, end);
    host_mmu_unlock(&vm);
    if (flush)
        host_request_all(&vm, VCPU_REQUEST_TLB_FLUSH);
    return flush;
}
