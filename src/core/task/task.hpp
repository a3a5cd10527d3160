// SPDX-License-Identifier: GPL-2.0-only
// What the parts of a task switch share.
#pragma once

#include <minivmx/guest_memory.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/task_switch.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// A task-state segment's layout. Both kinds have the same order of equally wide slots: the
// instruction pointer, the flags, eight general registers and the segment registers in the order of
// their encodings, the LDT. SDM Vol. 3A, 8.2.1, figure 8-2, and 8.6, figure 8-10.
struct TssFormat {
    u32 slot;     // bytes of a slot
    u32 ip;       // where the slots begin
    u32 segments; // how many segment registers it has
    u32 size;

    constexpr u32 ldt() const { return ip + (2 + 8 + segments) * slot; }
};
inline constexpr TssFormat kTss32 = {.slot = 4, .ip = 0x20, .segments = 6, .size = 0x68};
inline constexpr TssFormat kTss16 = {.slot = 2, .ip = 0x0e, .segments = 4, .size = 0x2c};
static_assert(kTss32.ldt() == 0x60 && kTss16.ldt() == 0x2a);
// Of the 32-bit one only.
inline constexpr u32 kTssCr3 = 0x1c, kTssTrap = 0x64;

inline constexpr const TssFormat &tss_format(u32 type)
{
    return type & 8 ? kTss32 : kTss16;
}

// A descriptor of the GDT or an LDT: SDM Vol. 3A, 3.4.5, figure 3-8, and 3.5.
struct Descriptor {
    u64 raw;
    u64 linear; // where it is

    u32 base() const
    {
        return static_cast<u32>(bit_field(raw, 39, 16) | bit_field(raw, 63, 56) << 24);
    }
    u32 limit() const
    {
        const u32 limit = static_cast<u32>(bit_field(raw, 15, 0) | bit_field(raw, 51, 48) << 16);
        return raw & bit64(55) ? limit << 12 | 0xfff : limit;
    }
    u8 type() const { return static_cast<u8>(bit_field(raw, 43, 40)); }
    bool system() const { return (raw & bit64(44)) == 0; }
    u8 dpl() const { return static_cast<u8>(bit_field(raw, 46, 45)); }
    bool present() const { return (raw & bit64(47)) != 0; }

    bool code() const { return !system() && (type() & 8) != 0; }
    bool conforming() const { return code() && (type() & 4) != 0; }
    bool readable() const { return !system() && (!code() || (type() & 2) != 0); }
    bool writable() const { return !system() && !code() && (type() & 2) != 0; }
    // SDM Vol. 3A, 8.2.2: 1 and 9 are available, 3 and 11 busy.
    bool tss() const { return system() && (type() & 5) == 1; }
    bool busy() const { return (type() & 2) != 0; }

    kvm_segment to_segment(u16 selector) const;
};
// Its byte with the type in it, whose bits the CPU changes.
inline constexpr u32 kDescriptorAccess = 5;
inline constexpr u8 kDescriptorAccessed = 1, kTssBusy = 2;

// The parts of a selector: SDM Vol. 3A, 3.4.2.
inline constexpr u16 kSelectorRpl = 3, kSelectorLocal = 4;

// One task switch. Its steps return whether to go on; where they don't, `fault` is what the guest
// gets in place of what it wanted, in the task that it is in by then.
struct TaskSwitch {
    vcpu_vmx &vmx;
    TaskSwitchInfo info;
    // An exception, an NMI or an interrupt brought it about, not the program: faults tell so.
    bool external;
    AddressState state; // of the task that memory is accessed for
    GuestFault fault;
    bool not_memory; // a table or a TSS isn't in memory: there is no fault for that
    bool traps;      // the new task's TSS asks for a debug exception

    TaskSwitch(vcpu_vmx &v, TaskSwitchInfo i, bool e)
        : vmx{v}, info{i}, external{e}, state{address_state(v)}, fault{},
          not_memory{false}, traps{false}
    {}
};

// Always false. The selector is the error code, with EXT: SDM Vol. 3A, 6.13.
bool refuse(TaskSwitch &t, u8 vector, u16 selector);

// A few bytes in at most two pages, as the CPU itself accesses them. Where they are is found before
// anything is changed; from then on the accesses can't fault.
struct SystemRange {
    u64 gpa[2];
    u32 first; // bytes at gpa[0]; the rest is at gpa[1]
    u32 size;
};
[[nodiscard]] bool find_range(TaskSwitch &t, u64 linear, u32 size, bool write, SystemRange &range);
[[nodiscard]] bool read_range(TaskSwitch &t, const SystemRange &range, void *to);
[[nodiscard]] bool write_range(TaskSwitch &t, const SystemRange &range, const void *from);
[[nodiscard]] bool read_system(TaskSwitch &t, u64 linear, void *to, u32 size);

// Sets or clears one bit of the byte at gpa, atomically; `was` says what it had been.
[[nodiscard]] bool change_bit(TaskSwitch &t, u64 gpa, u8 bit, bool set, bool &was);

// The descriptor of a selector. A fault with this vector: it is beyond its table.
[[nodiscard]] bool read_descriptor(TaskSwitch &t, u16 selector, u8 vector, Descriptor &descriptor);

// The segment registers of a new task, by their numbers in Segment; those that its TSS lacks stay.
struct TaskSegments {
    u16 selector[6];
    u32 count;
    u16 ldt;
    bool vm86;

    u8 cpl() const { return vm86 ? 3 : selector[kCs] & kSelectorRpl; }
};
// Step 13 of SDM Vol. 3A, 8.3. A fault leaves what was not loaded by then without a segment.
[[nodiscard]] bool load_segments(TaskSwitch &t, const TaskSegments &segments);

} // namespace minivmx
