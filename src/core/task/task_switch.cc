// SPDX-License-Identifier: GPL-2.0-only
// From one task to another. The steps are those of SDM Vol. 3A, 8.3; before the exit the CPU has
// made the checks that SDM Vol. 3C, 26.4.2 lists, but since then memory may have changed.
//
// Up to enter() nothing happens to the vCPU: what goes wrong there is a fault of the instruction,
// or of the event's delivery, in the old task. What goes wrong behind it is one of the new task's,
// before its first instruction.
#include <minivmx/run.hpp>
#include <minivmx/state.hpp>

#include "task.hpp"

namespace minivmx {

namespace {

constexpr u64 kFlagsDefined = 0x3f7fd5; // SDM Vol. 1, 3.4.3; the others are 0, and bit 1 is 1

struct OldTask {
    u16 selector;
    const TssFormat *format;
    u32 next_ip;
    SystemRange slots; // of its TSS: what is saved
    bool has_descriptor = false;
    u64 access_byte; // of its descriptor, guest-physical
};

struct NewTask {
    Descriptor tss;
    const TssFormat *format;
    SystemRange image, link;
    u64 access_byte;
    u8 bytes[kTss32.size];

    u32 read(u32 offset, u32 size) const
    {
        u32 value = 0;
        __builtin_memcpy(&value, bytes + offset, size);
        return value;
    }
    // By their order, from the instruction pointer on.
    u32 slot(u32 index) const { return read(format->ip + index * format->slot, format->slot); }
    u16 selector(u32 index) const { return static_cast<u16>(slot(10 + index)); }
    bool wide() const { return format == &kTss32; }
    bool traps() const { return wide() && (bytes[kTssTrap] & 1) != 0; }
};

// ---- The old task -----------------------------------------------------------

bool find_old_task(TaskSwitch &t, OldTask &old)
{
    kvm_segment tr;
    read_segment(t.vmx, kTr, tr);
    old.selector = tr.selector;
    old.format = &tss_format(tr.type);
    const u32 saved = old.format->ldt() - old.format->ip;
    if (tr.limit < old.format->ldt() - 1)
        return refuse(t, TS_VECTOR, old.selector);
    if (!find_range(t, static_cast<u32>(tr.base + old.format->ip), saved, true, old.slots))
        return false;

    // A guest that never loaded TR has a TSS, but no descriptor.
    old.has_descriptor = !t.info.nests() && (old.selector & ~kSelectorRpl) != 0;
    Descriptor descriptor;
    return !old.has_descriptor || (read_descriptor(t, old.selector, TS_VECTOR, descriptor) &&
                                   find_access_byte(t, descriptor, old.access_byte));
}

bool save_old_task(TaskSwitch &t, const OldTask &old)
{
    const u32 slot = old.format->slot;
    u8 bytes[kTss32.ldt() - kTss32.ip];
    // The upper halves of the selectors' slots stay as they are.
    if (!read_range(t, old.slots, bytes))
        return false;
    auto put = [&](u32 index, u64 value, u32 size) {
        __builtin_memcpy(bytes + index * slot, &value, size);
    };
    u64 flags = read_rflags(t.vmx);
    if (t.info.source == TaskSwitchSource::kIret)
        flags &= ~X86_EFLAGS_NT;
    if (single_steps(t.vmx))
        flags &= ~X86_EFLAGS_TF; // user space's, not the guest's
    put(0, old.next_ip, slot);
    put(1, flags, slot);
    for (u8 gpr = 0; gpr < 8; gpr++)
        put(2 + gpr, read_gpr(t.vmx, gpr), slot);
    for (u32 i = 0; i < old.format->segments; i++)
        put(10 + i, segment_selector(t.vmx, static_cast<Segment>(i)), sizeof(u16));
    return write_range(t, old.slots, bytes);
}

// ---- The new task -----------------------------------------------------------

bool find_new_task(TaskSwitch &t, NewTask &task)
{
    const bool returns = t.info.source == TaskSwitchSource::kIret;
    const u8 vector = returns ? u8{TS_VECTOR} : u8{GP_VECTOR};
    const u16 selector = t.info.selector;
    if (selector & kSelectorLocal || (selector & ~kSelectorRpl) == 0)
        return refuse(t, vector, selector);
    if (!read_descriptor(t, selector, vector, task.tss))
        return false;
    if (!task.tss.tss() || task.tss.busy() != returns)
        return refuse(t, vector, selector);
    if (!task.tss.present())
        return refuse(t, NP_VECTOR, selector);
    task.format = &tss_format(task.tss.type());
    if (task.tss.limit() < task.format->size - 1)
        return refuse(t, TS_VECTOR, selector);
    return find_access_byte(t, task.tss, task.access_byte) &&
           find_range(t, task.tss.base(), task.format->size, false, task.image) &&
           (!t.info.nests() || find_range(t, task.tss.base(), sizeof(u16), true, task.link));
}

// Which of the two is busy from now on. The new one may have become so on another vCPU.
bool update_busy(TaskSwitch &t, const OldTask &old, const NewTask &task)
{
    bool was = false;
    if (t.info.source != TaskSwitchSource::kIret) {
        if (!change_bit(t, task.access_byte, kTssBusy, true, was))
            return false;
        if (was)
            return refuse(t, GP_VECTOR, t.info.selector);
    }
    return !old.has_descriptor || change_bit(t, old.access_byte, kTssBusy, false, was);
}

// ---- The switch -------------------------------------------------------------

void load_task_register(TaskSwitch &t, const NewTask &task)
{
    SegmentRegister tr = task.tss.to_register(t.info.selector);
    tr.rights |= kTssBusy;
    write_segment_register(t.vmx, kTr, tr);
}

void load_general_registers(TaskSwitch &t, const NewTask &task)
{
    u64 flags = (task.slot(1) & kFlagsDefined) | X86_EFLAGS_FIXED;
    if (t.info.nests())
        flags |= X86_EFLAGS_NT;
    if (single_steps(t.vmx))
        flags |= X86_EFLAGS_TF;
    write_rip(t.vmx, task.slot(0));
    write_rflags(t.vmx, flags);
    for (u8 gpr = 0; gpr < 8; gpr++)
        write_gpr(t.vmx, gpr, task.slot(2 + gpr));
}

// SDM Vol. 3A, 2.5, CR0.TS; Vol. 3B, 18.2.4: local breakpoints are the old task's.
void mark_switch(vcpu_vmx &vmx)
{
    constexpr u64 kLocalBreakpoints = 0x155; // L0 to L3, LE
    (void)set_cr0(vmx, guest_cr0(vmx) | X86_CR0_TS);
    vmx.area->dr7 &= ~kLocalBreakpoints;
    update_dr7(vmx);
    set_interrupt_shadow_off(vmx);
}

// A 16-bit TSS has no CR3; without paging it isn't loaded.
bool load_page_tables(TaskSwitch &t, const NewTask &task)
{
    if (task.wide() && t.state.paging && !set_cr3(t.vmx, task.read(kTssCr3, sizeof(u32))))
        return refuse(t, GP_VECTOR, 0);
    t.state = address_state(t.vmx);
    return true;
}

bool load_task_segments(TaskSwitch &t, const NewTask &task)
{
    TaskSegments segments = {};
    segments.count = task.format->segments;
    for (u32 i = 0; i < segments.count; i++)
        segments.selector[i] = task.selector(i);
    segments.ldt = task.selector(segments.count);
    segments.vm86 = task.wide() && (read_rflags(t.vmx) & X86_EFLAGS_VM) != 0;
    return load_segments(t, segments);
}

// The new task's stack gets it, as wide as its TSS is: SDM Vol. 3A, 6.13.
bool push_error_code(TaskSwitch &t, const NewTask &task, u32 error_code)
{
    const u32 size = task.format->slot;
    const u64 mask = segment_rights(t.vmx, kSs) & AR_DB ? 0xffffffff : 0xffff;
    const u64 rsp = read_rsp(t.vmx);
    const u64 top = (rsp - size) & mask;
    u64 linear;
    t.state = address_state(t.vmx);
    MemoryResult result =
        segment_to_linear(t.vmx, t.state, kSs, top, size, Access{.write = true}, linear, t.fault);
    if (result == MemoryResult::kFault)
        return refuse(t, t.fault.vector, 0);
    result = write_guest_virt(t.vmx, t.state, linear, &error_code, size, t.fault);
    t.not_memory |= result == MemoryResult::kMmio;
    if (result != MemoryResult::kOk)
        return false;
    write_rsp(t.vmx, (rsp & ~mask) | top);
    return true;
}

// The order of SDM Vol. 3A, 8.3: checks (1 to 5), then nothing but memory changes (6 to 10).
bool leave(TaskSwitch &t, const OldTask &old, NewTask &task)
{
    return save_old_task(t, old) && (!t.info.nests() || write_range(t, task.link, &old.selector)) &&
           read_range(t, task.image, task.bytes) && update_busy(t, old, task);
}

// Steps 11 to 13, which can't be taken back.
bool enter(TaskSwitch &t, const NewTask &task)
{
    load_task_register(t, task);
    mark_switch(t.vmx);
    load_general_registers(t, task);
    return load_page_tables(t, task) && load_task_segments(t, task);
}

bool switch_task(TaskSwitch &t, u32 next_ip, const u32 *error_code)
{
    OldTask old;
    NewTask task;
    old.next_ip = next_ip;
    if (!find_new_task(t, task) || !find_old_task(t, old) || !leave(t, old, task) ||
        !enter(t, task))
        return false;
    if (error_code && !push_error_code(t, task, *error_code))
        return false;
    t.traps = task.traps();
    return true;
}

// ---- Events -----------------------------------------------------------------

// What went through a task gate of the IDT: SDM Vol. 3A, 6.14.2 "Interrupt Tasks".
struct Delivery {
    u32 type; // INTR_TYPE_*
    bool by_instruction() const
    {
        return type == INTR_TYPE_SOFT_INTR || type == INTR_TYPE_SOFT_EXCEPTION ||
               type == INTR_TYPE_PRIV_SW_EXCEPTION;
    }
    // EXT is clear for INT n, INT3 and INTO only: SDM Vol. 3A, 6.13.
    bool external() const
    {
        return type != INTR_TYPE_SOFT_INTR && type != INTR_TYPE_SOFT_EXCEPTION;
    }
};

} // namespace

bool switch_to_task(SystemAccess &s, TaskSwitchInfo info, u64 next_ip, const u32 *error_code)
{
    TaskSwitch t{s, info};
    const bool done = switch_task(t, static_cast<u32>(next_ip), error_code);
    s.fault = t.fault;
    s.not_memory = t.not_memory;
    if (done)
        s.vmx.exception.pending = false;
    if (done && t.traps) // SDM Vol. 3B, 18.3.1.5
        inject_debug_exception(s.vmx, DR6_BT);
    return done;
}

Outcome handle_task_switch(vcpu_vmx &vmx)
{
    const TaskSwitchInfo info = TaskSwitchInfo::decode(exit_qualification(vmx));
    const bool delivers = info.source == TaskSwitchSource::kIdtGate &&
                          (vmx.idt_vectoring_info & INTR_INFO_VALID) != 0;
    const Delivery delivery = {vmx.idt_vectoring_info & INTR_INFO_TYPE_MASK};
    // Events return to where they came, instructions behind themselves.
    u64 next_ip = read_rip(vmx);
    if (!delivers || delivery.by_instruction())
        next_ip += vmcs_read(VM_EXIT_INSTRUCTION_LEN);

    // An exception stays in its queue meanwhile: a fault may make it a double fault.
    const ExceptionQueue &exception = vmx.exception;
    const bool has_error_code = delivers && exception.pending && exception.has_error_code;
    SystemAccess s{vmx};
    s.external = delivers && delivery.external();
    vmx.area->flush_l1d = 1;
    const bool done =
        switch_to_task(s, info, next_ip, has_error_code ? &exception.error_code : nullptr);
    if (s.not_memory)
        return emulation_failure(vmx, nullptr, 0);
    if (delivers && delivery.type == INTR_TYPE_NMI)
        set_nmis_masked(vmx, true);
    vmx.nmi_injected = false;
    vmx.interrupt.pending = false;
    if (!done)
        inject_fault(vmx, s.fault);
    return Outcome::resume();
}

} // namespace minivmx
