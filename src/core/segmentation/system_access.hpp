// SPDX-License-Identifier: GPL-2.0-only
// What the CPU itself reads and writes for a guest: descriptor tables, task states, stacks of
// events. The steps of whoever does so return whether to go on; where they don't, the reason is
// here.
#pragma once

#include <minivmx/guest_memory.hpp>
#include <minivmx/vcpu.hpp>

#include "descriptor.hpp"

namespace minivmx {

struct SystemAccess {
    vcpu_vmx &vmx;
    // With the supervisor's rights, whatever the CPL, and with 64-bit addresses wherever tables may
    // be that high. SDM Vol. 3A, 4.6.1 "Determination of Access Rights".
    AddressState state;
    // An exception, an NMI or an interrupt brought it about, not the program: error codes tell so.
    bool external = false;
    GuestFault fault{};
    bool not_memory = false; // a table or a stack isn't in memory: there is no fault for that

    explicit SystemAccess(vcpu_vmx &v) : vmx{v}, state{address_state(v)}
    {
        state.code_64 = state.long_mode;
    }
};

// Always false. The selector is the error code, with EXT: SDM Vol. 3A, 6.13.
bool refuse(SystemAccess &s, u8 vector, u16 selector);

// A few bytes in at most two pages. Where they are is found before anything is changed; from then
// on the accesses can't fault.
struct SystemRange {
    u64 gpa[2];
    u32 first; // bytes at gpa[0]; the rest is at gpa[1]
    u32 size;
};
[[nodiscard]] bool find_range(SystemAccess &s, u64 linear, u32 size, bool write,
                              SystemRange &range);
// The same for an access by the program's own rights, or another program's.
[[nodiscard]] bool find_range_as(SystemAccess &s, const AddressState &state, u64 linear, u32 size,
                                 Access access, SystemRange &range);
[[nodiscard]] bool read_range(SystemAccess &s, const SystemRange &range, void *to);
[[nodiscard]] bool write_range(SystemAccess &s, const SystemRange &range, const void *from);
[[nodiscard]] bool read_system(SystemAccess &s, u64 linear, void *to, u32 size);

// Sets or clears one bit of the byte at gpa, atomically; `was` says what it had been.
[[nodiscard]] bool change_bit(SystemAccess &s, u64 gpa, u8 bit, bool set, bool &was);
[[nodiscard]] bool find_access_byte(SystemAccess &s, const Descriptor &descriptor, u64 &gpa);

// The descriptor of a selector. A fault with this vector: it is beyond its table.
[[nodiscard]] bool read_descriptor(SystemAccess &s, u16 selector, u8 vector,
                                   Descriptor &descriptor);
// The other half of a system descriptor, which in IA-32e mode has one.
[[nodiscard]] bool read_upper_half(SystemAccess &s, u16 selector, u8 vector,
                                   Descriptor &descriptor);
// "Accessed", in memory and in what is loaded: SDM Vol. 3A, 3.4.5.1.
[[nodiscard]] bool mark_accessed(SystemAccess &s, Descriptor &descriptor);

} // namespace minivmx
