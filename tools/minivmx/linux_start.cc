// SPDX-License-Identifier: GPL-2.0-only
#include "linux_start.hpp"

#include "guest_abi.h"
#include "segments.hpp"
#include "start_state.hpp"
#include "zero_page.hpp"

#include <array>

namespace minivmx::tool {
namespace {

// The selectors that the protocol wants.
constexpr std::uint16_t kCodeSelector = 0x10;
constexpr std::uint16_t kDataSelector = 0x18;
constexpr std::uint64_t kEntry64 = 0x200;

} // namespace

void write_linux_tables(const GuestMemory &memory)
{
    // The page tables are those of our own guests in long mode, the GDT before them is not.
    write_tables(Mode::kLong, memory);
    const std::array<std::uint64_t, GUEST_GDT_ENTRIES> gdt = {
        0, 0, flat_descriptor(kCodeSegment, true), flat_descriptor(kDataSegment, false)};
    memory.store(GUEST_GDT, gdt);
}

kvm_sregs linux_start_sregs(const kvm_sregs &after_reset)
{
    const StartFacts facts = {};
    kvm_sregs sregs = start_sregs(Mode::kLong, after_reset, GUEST_PAGE_TABLES, facts);
    sregs.cs = long_code_segment(kCodeSelector);
    sregs.ds = sregs.es = sregs.ss = flat_segment(kDataSelector, kDataSegment);
    sregs.fs = sregs.gs = sregs.ds;
    return sregs;
}

kvm_regs linux_start_regs(std::uint64_t kernel)
{
    constexpr std::uint64_t kRflagsFixed = 1 << 1;
    kvm_regs regs = {};
    regs.rip = kernel + kEntry64;
    regs.rsi = kZeroPage;
    regs.rflags = kRflagsFixed;
    return regs;
}

} // namespace minivmx::tool
