// SPDX-License-Identifier: GPL-2.0-only
//
// Fault-around: which pages beside the one that the guest met are mapped, and how.
#include "guest.hpp"

#include <minivmx.h>

#include <set>

namespace minivmx::test {
namespace {

constexpr u64 kPage = 4096, kBlock = 32; // pages
constexpr u64 kR = 1, kW = 2, kX = 4, kAccessed = 1 << 8, kDirty = 1 << 9;
constexpr u64 kFrame = 0x000ffffffffff000;

class Around : public testing::Test {
  protected:
    Guest guest;
    sim::Machine &machine = guest.machine;

    explicit Around(bool pml = false, bool accessed_dirty = true)
        : guest{"corei7_skylake_x", [=](sim::Machine &, Parameters &parameters) {
                    parameters.pml = pml;
                    parameters.eptad = accessed_dirty;
                }}
    {
        machine.is_populated = [](u64) { return true; };
    }

    u64 entry(u64 gfn)
    {
        unsigned level = 0;
        return ept_lookup(guest.kvm().ept, gfn, level);
    }
    void touch(u64 gfn, u64 access = kEptViolationWrite, u64 present = 0)
    {
        ASSERT_EQ(guest.ept_violation(gfn << 12, access | present).ioctl_result(), 1);
    }
    std::set<u64> mapped(u64 first, u64 end)
    {
        std::set<u64> frames;
        for (u64 gfn = first; gfn < end; gfn++)
            if (entry(gfn) != 0)
                frames.insert(gfn);
        return frames;
    }
    static std::set<u64> range(u64 first, u64 end)
    {
        std::set<u64> frames;
        for (u64 gfn = first; gfn < end; gfn++)
            frames.insert(gfn);
        return frames;
    }
};

TEST_F(Around, ASequenceIsMappedByBlocks)
{
    const u64 hva = guest.add_ram(0, 512 * kPage, 512 * kPage);
    touch(512);
    EXPECT_EQ(mapped(512, 1024), range(512, 513)) << "nothing tells of a sequence yet";
    touch(513);
    EXPECT_EQ(mapped(512, 1024), range(512, 512 + kBlock));
    EXPECT_EQ(machine.faults, 2u) << "nothing was faulted in for the others";
    EXPECT_EQ(machine.frame_puts.size(), 2u);
    for (u64 gfn = 512; gfn < 512 + kBlock; gfn++) {
        EXPECT_EQ(entry(gfn) & kFrame, machine.pfn_of(hva + ((gfn - 512) << 12)) << 12);
        EXPECT_EQ(entry(gfn) & (kR | kW | kX | kDirty), kR | kW | kX | kDirty);
        EXPECT_EQ((entry(gfn) & kAccessed) != 0, gfn < 514) << "not used yet: " << gfn;
    }
    EXPECT_EQ(guest.area().requests & VCPU_REQUEST_TLB_FLUSH, 0u);

    // Beside a page that wasn't used there is no sequence.
    touch(512 + kBlock);
    EXPECT_EQ(mapped(512, 1024), range(512, 512 + kBlock + 1));
}

TEST_F(Around, DownwardsToo)
{
    guest.add_ram(0, 512 * kPage, 512 * kPage);
    touch(700);
    touch(699);
    const u64 block = 699 / kBlock * kBlock;
    EXPECT_EQ(mapped(512, 1024), range(block, 701));
}

TEST_F(Around, NothingBeyondTheSlot)
{
    // Of one block, five pages belong to the slot, with something else's memory on both sides.
    const u64 hva = machine.add_user_memory(64 * kPage);
    ASSERT_EQ(guest.set_region(0, 1003 * kPage, 5 * kPage, hva + 20 * kPage), 0);
    touch(1005);
    touch(1006);
    EXPECT_EQ(mapped(900, 1100), range(1005, 1008));
    touch(1004);
    EXPECT_EQ(mapped(900, 1100), range(1003, 1008));
    for (u64 gfn = 1003; gfn < 1008; gfn++)
        EXPECT_EQ(entry(gfn) & kFrame, machine.pfn_of(hva + ((20 + gfn - 1003) << 12)) << 12);
}

TEST_F(Around, NothingBeyondTheTable)
{
    guest.add_ram(0, 0, 2048 * kPage);
    touch(1023);
    touch(1022);
    EXPECT_EQ(mapped(0, 2048), range(1024 - kBlock, 1024));
    touch(1024); // the neighbour is in another table
    EXPECT_EQ(mapped(1024, 2048), range(1024, 1025));
}

TEST_F(Around, HolesStayHoles)
{
    const u64 hva = guest.add_ram(0, 512 * kPage, 512 * kPage);
    machine.is_populated = [&](u64 at) { return (at - hva) / kPage % 3 != 0; };
    touch(513);
    touch(514);
    for (u64 gfn = 512; gfn < 512 + kBlock; gfn++)
        EXPECT_EQ(entry(gfn) != 0, (gfn - 512) % 3 != 0) << gfn;
    EXPECT_EQ(machine.faults, 2u);
}

TEST_F(Around, FreshMemoryIsNotSearched)
{
    const u64 hva = guest.add_ram(0, 512 * kPage, 512 * kPage);
    machine.is_populated = [&](u64 at) { return at >= hva + 3 * kPage; };
    touch(512);
    touch(513);
    EXPECT_EQ(mapped(512, 1024), range(512, 514)) << "this page had to be made; so had the next";
    touch(516);
    touch(515);
    EXPECT_EQ(mapped(512, 1024), (std::set<u64>{512, 513, 515, 516}));
}

TEST_F(Around, WhatIsMappedStays)
{
    guest.add_ram(0, 512 * kPage, 512 * kPage);
    touch(520);
    const u64 before = entry(520);
    touch(512);
    touch(513);
    EXPECT_EQ(entry(520), before);
    EXPECT_EQ(mapped(512, 600), range(512, 521)) << "what lies behind it is another sequence";
}

TEST_F(Around, CleanPagesAreNotMappedForWriting)
{
    const u64 hva = guest.add_ram(0, 512 * kPage, 512 * kPage);
    for (u64 page = 0; page < 512; page += 2)
        machine.clean_pages.insert((hva >> 12) + page);
    touch(513);
    touch(514);
    for (u64 gfn = 515; gfn < 512 + kBlock; gfn++)
        EXPECT_EQ(entry(gfn) != 0, gfn % 2 == 1) << gfn;
    // Readers may see them; who writes then, has to ask the host, which counts it as written.
    touch(601, kEptViolationRead);
    touch(602, kEptViolationRead);
    EXPECT_EQ(entry(604) & (kR | kW), kR);
    EXPECT_EQ(entry(603) & (kR | kW), kR | kW);
    const u64 faults = machine.faults;
    touch(604, kEptViolationWrite, kEptViolationReadable | kEptViolationExecutable);
    EXPECT_EQ(machine.faults, faults + 1);
    EXPECT_TRUE(machine.frame_puts.back().dirty);
    EXPECT_NE(entry(604) & kW, 0u);
}

TEST_F(Around, ReadOnlySlots)
{
    guest.add_ram(0, 512 * kPage, 512 * kPage, KVM_MEM_READONLY);
    touch(512, kEptViolationRead);
    touch(513, kEptViolationRead);
    EXPECT_EQ(mapped(512, 1024), range(512, 512 + kBlock));
    for (u64 gfn = 512; gfn < 512 + kBlock; gfn++)
        EXPECT_EQ(entry(gfn) & (kR | kW | kX), kR | kX);
    const EptViolationInfo write = EptViolationInfo::decode(kEptViolationWrite);
    EXPECT_EQ(ept_map(guest.vmx(), 520 << 12, write), EptFault::kMmio);
}

TEST_F(Around, AChangeUnderWayOrSinceIsRespected)
{
    const u64 hva = guest.add_ram(0, 512 * kPage, 512 * kPage);
    touch(512);
    // The owner's mapping changed after the page was found: nothing at all is mapped.
    machine.on_fault_in = [&](u64 at, bool, host_frame &) {
        machine.unmap_user(guest.host(), at, at + kPage);
        return 0;
    };
    touch(513);
    EXPECT_EQ(mapped(512, 1024), range(512, 513));
    machine.on_fault_in = nullptr;
    touch(513);
    EXPECT_EQ(mapped(512, 1024), range(512, 512 + kBlock));
    // And a later change takes away what was mapped around as well.
    EXPECT_TRUE(machine.unmap_user(guest.host(), hva + 8 * kPage, hva + 10 * kPage));
    EXPECT_NE(guest.area().requests & VCPU_REQUEST_TLB_FLUSH, 0u);
    EXPECT_EQ(entry(520), 0u);
    EXPECT_EQ(entry(521), 0u);
    EXPECT_NE(entry(522), 0u);
}

TEST_F(Around, TheHostSeesWhatIsUsed)
{
    const u64 hva = guest.add_ram(0, 512 * kPage, 512 * kPage);
    touch(512);
    touch(513);
    host_mmu_lock(&guest.host());
    EXPECT_TRUE(core_mmu_age_hva_range(guest.host().core, hva + kPage, hva + 2 * kPage, false));
    EXPECT_FALSE(
        core_mmu_age_hva_range(guest.host().core, hva + 2 * kPage, hva + kBlock * kPage, false));
    host_mmu_unlock(&guest.host());
}

TEST_F(Around, LoggedWithoutTheCpusHelp)
{
    guest.add_ram(0, 512 * kPage, 512 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    touch(512);
    touch(513);
    EXPECT_EQ(mapped(512, 1024), range(512, 512 + kBlock));
    for (u64 gfn = 514; gfn < 512 + kBlock; gfn++)
        EXPECT_EQ(entry(gfn) & (kR | kW | kX), kR | kX) << "a write has to show";
    const u64 faults = machine.faults;
    touch(520, kEptViolationWrite, kEptViolationReadable | kEptViolationExecutable);
    EXPECT_EQ(machine.faults, faults) << "the owner's answer is known";
    core_dirty_log log{};
    ASSERT_EQ(core_get_dirty_log(guest.host().core, 0, &log), 0);
    EXPECT_EQ(static_cast<const u64 *>(log.bitmap)[0], 0x103u);
}

class AroundPml : public Around {
  protected:
    AroundPml() : Around{true} {}
};

TEST_F(AroundPml, LoggedByTheCpu)
{
    guest.add_ram(0, 512 * kPage, 512 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    touch(512);
    touch(513);
    for (u64 gfn = 514; gfn < 512 + kBlock; gfn++)
        EXPECT_EQ(entry(gfn) & (kR | kW | kAccessed | kDirty), kR | kW) << "a write sets the flag";
}

class AroundNoFlags : public Around {
  protected:
    AroundNoFlags() : Around{false, false} {}
};

TEST_F(AroundNoFlags, NothingIsMappedThatWouldLookUsed)
{
    guest.add_ram(0, 512 * kPage, 512 * kPage);
    touch(512);
    touch(513);
    EXPECT_EQ(mapped(512, 1024), range(512, 514));
}

} // namespace
} // namespace minivmx::test
