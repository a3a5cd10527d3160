// SPDX-License-Identifier: GPL-2.0-only
//
// EPT: what an EPT violation maps, what the mmu notifiers take away, and how long that may take.
#include "guest.hpp"

#include <minivmx.h>

#include <cerrno>
#include <chrono>
#include <map>
#include <random>

namespace minivmx::test {
namespace {

constexpr u64 kPage = 4096, k2M = u64{2} << 20, k1G = u64{1} << 30;

// Bits of an EPT entry, from SDM Vol. 3C, table 29-6 and 29-5.
constexpr u64 kR = 1, kW = 2, kX = 4, kWriteBack = 6 << 3, kIpat = 1 << 6, kLarge = 1 << 7,
              kAccessed = 1 << 8, kDirty = 1 << 9;
constexpr u64 kOwner = u64{1} << 55; // a bit of our own: the owner may write the page
constexpr u64 kFrame = 0x000ffffffffff000;

// Haswell has accessed and dirty flags, 2 MiB and 1 GiB pages in the architecture; the model in the
// emulator lacks some, so tests say what they want.
void all_features(sim::Machine &machine, Parameters &)
{
    machine.msr[MSR_IA32_VMX_EPT_VPID_CAP] |= bit64(16) | bit64(17) | bit64(21);
    machine.host_info.maxphyaddr = 46;
}

class EptTest : public testing::Test {
  protected:
    explicit EptTest(const Guest::Tweak &tweak = all_features) : guest{"corei7_haswell_4770", tweak}
    {}

    Guest guest;
    sim::Machine &machine = guest.machine;

    u64 entry(u64 gpa, unsigned *level = nullptr)
    {
        unsigned at = 0;
        const u64 value = ept_lookup(guest.kvm().ept, gpa >> 12, at);
        if (level != nullptr)
            *level = at;
        return value;
    }
    int read(u64 gpa, u64 present = 0) { return violate(gpa, kEptViolationRead | present); }
    int write(u64 gpa, u64 present = 0) { return violate(gpa, kEptViolationWrite | present); }
    int fetch(u64 gpa, u64 present = 0) { return violate(gpa, kEptViolationFetch | present); }
    /// 1 for "the guest goes on", else what KVM_RUN returns.
    int violate(u64 gpa, u64 qualification)
    {
        return guest.ept_violation(gpa, qualification).ioctl_result();
    }
    u64 pfn(u64 hva) { return machine.pfn_of(hva); }
    bool unmap(u64 start, u64 end) { return machine.unmap_user(guest.host(), start, end); }
    bool age(u64 start, u64 end, bool clear)
    {
        host_mmu_lock(&guest.host());
        const bool young = core_mmu_age_hva_range(guest.host().core, start, end, clear);
        host_mmu_unlock(&guest.host());
        return young;
    }
    bool flush_requested()
    {
        const bool requested = (guest.area().requests & VCPU_REQUEST_TLB_FLUSH) != 0;
        guest.area().requests = 0;
        return requested;
    }
};

TEST_F(EptTest, Pointer)
{
    const Ept &ept = guest.kvm().ept;
    EXPECT_EQ(ept_pointer(ept), host_page_phys(ept.root) | 6 | 3 << 3 | 1 << 6);
}

TEST_F(EptTest, ReadMapsAPageWritableIfTheOwnersIs)
{
    const u64 hva = guest.add_ram(0, 0x10000, 4 * kPage);
    EXPECT_EQ(entry(0x11000), 0u);
    EXPECT_EQ(read(0x11abc), 1);
    EXPECT_EQ(entry(0x11000), pfn(hva + kPage) << 12 | kR | kW | kX | kWriteBack | kIpat |
                                  kAccessed | kDirty | kOwner);
    EXPECT_EQ(entry(0x10000), 0u);
    EXPECT_EQ(entry(0x12000), 0u);
    ASSERT_EQ(machine.frame_puts.size(), 1u);
    EXPECT_TRUE(machine.frame_puts[0].dirty);
    EXPECT_FALSE(flush_requested());
}

TEST_F(EptTest, TheOwnersReadOnlyPage)
{
    const u64 hva = machine.add_user_memory(kPage, false);
    ASSERT_EQ(guest.set_region(0, 0, kPage, hva), 0);
    EXPECT_EQ(read(0), 1);
    EXPECT_EQ(entry(0), pfn(hva) << 12 | kR | kX | kWriteBack | kIpat | kAccessed);
    EXPECT_FALSE(machine.frame_puts.back().dirty);
    // The owner may not write it, so neither may the guest.
    EXPECT_EQ(write(0, kEptViolationReadable | kEptViolationExecutable), -EFAULT);
    // Then it may; the kernel tells of the change only when a mapping gets narrower or moves.
    machine.protect_user(hva, true);
    EXPECT_EQ(write(0, kEptViolationReadable | kEptViolationExecutable), 1);
    EXPECT_EQ(entry(0) & (kR | kW | kX), kR | kW | kX);
    EXPECT_TRUE(machine.frame_puts.back().dirty);
    EXPECT_EQ(machine.faults, machine.frame_puts.size());
}

TEST_F(EptTest, CopyOnWriteMovesThePage)
{
    const u64 hva = guest.add_ram(0, 0, kPage);
    bool shared = true;
    machine.on_fault_in = [&](u64, bool want_write, host_frame &frame) {
        if (want_write && shared) {
            shared = false;
            unmap(hva, hva + kPage);
            machine.pfns[hva >> 12] += 0x5000;
            frame.pfn = machine.pfn_of(hva);
            frame.mmu_seq = guest.host().mmu_seq;
        }
        frame.writable = !shared;
        return 0;
    };
    EXPECT_EQ(read(0), 1);
    const u64 before = entry(0);
    EXPECT_EQ(before & kW, 0u);
    EXPECT_EQ(write(0, kEptViolationReadable | kEptViolationExecutable), 1);
    EXPECT_TRUE(flush_requested()); // by the notifier
    EXPECT_EQ(entry(0) & kFrame, pfn(hva) << 12);
    EXPECT_NE(entry(0) & kFrame, before & kFrame);
    EXPECT_NE(entry(0) & kW, 0u);
}

TEST_F(EptTest, ReadOnlySlot)
{
    const u64 hva = guest.add_ram(0, 0x1000, kPage, KVM_MEM_READONLY);
    EXPECT_EQ(read(0x1000), 1);
    EXPECT_EQ(entry(0x1000), pfn(hva) << 12 | kR | kX | kWriteBack | kIpat | kAccessed);
    EXPECT_FALSE(machine.frame_puts.back().dirty);
    const EptViolationInfo write = EptViolationInfo::decode(kEptViolationWrite);
    EXPECT_EQ(ept_map(guest.vmx(), 0x1000, write), EptFault::kMmio);
}

TEST_F(EptTest, NothingThere)
{
    guest.add_ram(0, 0x1000, kPage);
    for (const u64 gpa : {0x0ull, 0x2000ull, 0xfee00000ull, 0xfffffffff000ull}) {
        const EptViolationInfo read = EptViolationInfo::decode(kEptViolationRead);
        EXPECT_EQ(ept_map(guest.vmx(), gpa, read), EptFault::kMmio);
    }
    EXPECT_EQ(machine.faults, 0u);
}

TEST_F(EptTest, WhatTheHostAnswers)
{
    guest.add_ram(0, 0, kPage);
    int answer = 0;
    machine.on_fault_in = [&](u64, bool, host_frame &) { return answer; };
    for (const auto &[error, result] : std::map<int, int>{{-EFAULT, -EFAULT},
                                                          {-EINTR, -EINTR},
                                                          {-ENOMEM, -ENOMEM},
                                                          {-EHWPOISON, 1},
                                                          {-EAGAIN, 1},
                                                          {-EINVAL, -EFAULT}}) {
        answer = error;
        EXPECT_EQ(read(0), result) << error;
        EXPECT_EQ(entry(0), 0u);
        EXPECT_TRUE(machine.frame_puts.empty());
    }
    machine.on_fault_in = nullptr;
    machine.user_ranges.clear();
    EXPECT_EQ(read(0), -EFAULT);
}

TEST_F(EptTest, NoMemoryForTables)
{
    guest.add_ram(0, 0, kPage);
    machine.allocations_left = 2;
    EXPECT_EQ(read(0), -ENOMEM);
    EXPECT_EQ(entry(0), 0u);
    EXPECT_EQ(machine.faults, 0u);
    machine.allocations_left = -1;
    EXPECT_EQ(read(0), 1);
    EXPECT_NE(entry(0), 0u);
}

TEST_F(EptTest, PagesForTablesAreTakenInAdvance)
{
    guest.add_ram(0, 0, 64 * k2M);
    EXPECT_EQ(read(0), 1);
    const u32 taken = guest.vmx().ept_pages.count;
    EXPECT_GT(taken, 3u);
    machine.allocations_left = 0;
    for (u32 table = 1; table <= taken - 2; table++)
        EXPECT_EQ(read(table * k2M), 1) << "no allocation while there are enough for any mapping";
    EXPECT_EQ(read(63 * k2M), -ENOMEM);
    machine.allocations_left = 1; // fewer than a stock, but enough
    EXPECT_EQ(read(63 * k2M), 1);
    machine.allocations_left = -1;
}

TEST_F(EptTest, AMappingThatChangedMeanwhileIsNotUsed)
{
    const u64 hva = guest.add_ram(0, 0, kPage);
    unsigned calls = 0;
    machine.on_fault_in = [&](u64, bool, host_frame &) {
        if (++calls == 1)
            unmap(hva, hva + kPage);
        return 0;
    };
    EXPECT_EQ(read(0), 1); // the guest tries again
    EXPECT_EQ(entry(0), 0u);
    ASSERT_EQ(machine.frame_puts.size(), 1u);
    EXPECT_FALSE(machine.frame_puts[0].dirty);
    EXPECT_EQ(read(0), 1);
    EXPECT_NE(entry(0), 0u);
}

TEST_F(EptTest, ASlotThatWentMeanwhileIsNotUsed)
{
    guest.add_ram(0, 0, kPage);
    const MemSlotArray *old = guest.kvm().slots.current;
    machine.on_fault_in = [&](u64, bool, host_frame &) {
        guest.kvm().slots.current = nullptr; // as an updater does that now waits for this reader
        return 0;
    };
    EXPECT_EQ(read(0), 1);
    EXPECT_EQ(entry(0), 0u);
    guest.kvm().slots.current = old;
}

TEST_F(EptTest, SpuriousViolationsCostNoFault)
{
    guest.add_ram(0, 0, kPage);
    EXPECT_EQ(read(0), 1);
    const u64 faults = machine.faults;
    // Another vCPU was faster: readable then, writable now.
    EXPECT_EQ(write(0, kEptViolationReadable), 1);
    EXPECT_EQ(machine.faults, faults);
}

// ---- Unmapping ----

TEST_F(EptTest, UnmapTakesExactlyTheRange)
{
    const u64 hva = guest.add_ram(0, 0x100000, 8 * kPage);
    for (u64 page = 0; page < 8; page++)
        ASSERT_EQ(write(0x100000 + page * kPage), 1);
    EXPECT_TRUE(unmap(hva + 2 * kPage, hva + 4 * kPage));
    EXPECT_TRUE(flush_requested());
    for (u64 page = 0; page < 8; page++)
        EXPECT_EQ(entry(0x100000 + page * kPage) == 0, page == 2 || page == 3) << page;
    EXPECT_FALSE(unmap(hva + 2 * kPage, hva + 4 * kPage)); // nothing left, nothing to flush
    EXPECT_FALSE(unmap(hva - kPage, hva));
    EXPECT_FALSE(unmap(hva + 8 * kPage, hva + 9 * kPage));
    EXPECT_FALSE(flush_requested());
    EXPECT_TRUE(unmap(0, ~u64{0} - kPage));
    for (u64 page = 0; page < 8; page++)
        EXPECT_EQ(entry(0x100000 + page * kPage), 0u);
}

TEST_F(EptTest, UnmapFindsEverySlotOfSharedMemory)
{
    const u64 hva = machine.add_user_memory(4 * kPage);
    ASSERT_EQ(guest.set_region(0, 0x0000, 4 * kPage, hva), 0);
    ASSERT_EQ(guest.set_region(1, 0x10000, 2 * kPage, hva + kPage), 0);
    ASSERT_EQ(guest.set_region(2, 0x20000, kPage, hva + 3 * kPage), 0);
    for (const u64 gpa : {0x1000, 0x2000, 0x3000, 0x10000, 0x11000, 0x20000})
        ASSERT_EQ(read(gpa), 1);
    EXPECT_TRUE(unmap(hva + kPage, hva + 2 * kPage));
    EXPECT_EQ(entry(0x1000), 0u);
    EXPECT_EQ(entry(0x10000), 0u);
    for (const u64 gpa : {0x2000, 0x3000, 0x11000, 0x20000})
        EXPECT_NE(entry(gpa), 0u);
    EXPECT_TRUE(unmap(hva + 3 * kPage, hva + 4 * kPage));
    EXPECT_EQ(entry(0x3000), 0u);
    EXPECT_EQ(entry(0x20000), 0u);
}

TEST_F(EptTest, HugeMemoryIsWalkedOnlyWhereItIsMapped)
{
    // A terabyte of which three pages were touched, and a thousand unmaps of all of it.
    const u64 hva = machine.add_user_memory(u64{1} << 40);
    for (u32 slot = 0; slot < 4; slot++) // no slot may be larger than 2^31 - 1 pages
        ASSERT_EQ(guest.set_region(slot, u64{slot} << 38, u64{1} << 38, hva + (u64{slot} << 38)),
                  0);
    const auto start = std::chrono::steady_clock::now();
    for (unsigned i = 0; i < 1000; i++) {
        for (const u64 gpa : {u64{0}, u64{0x3fff123400}, (u64{1} << 40) - kPage})
            ASSERT_EQ(read(gpa), 1);
        EXPECT_TRUE(unmap(hva, hva + (u64{1} << 40)));
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds{20});
}

TEST_F(EptTest, ZapAll)
{
    guest.add_ram(0, 0, 4 * kPage);
    guest.add_ram(1, u64{5} << 30, 4 * kPage);
    ASSERT_EQ(read(0), 1);
    ASSERT_EQ(read(u64{5} << 30), 1);
    host_mmu_lock(&guest.host());
    core_mmu_zap_all(guest.host().core);
    host_mmu_unlock(&guest.host());
    EXPECT_EQ(entry(0), 0u);
    EXPECT_EQ(entry(u64{5} << 30), 0u);
} // and the fixture sees that no page is left

// ---- Slots that go ----

TEST_F(EptTest, ADeletedSlotLeavesNothing)
{
    guest.add_ram(0, 0, kPage);
    ASSERT_EQ(read(0), 1);
    auto used_pages = [&] { return machine.pages.size() - guest.vmx().ept_pages.count; };
    const usize pages = used_pages();
    guest.add_ram(1, u64{7} << 30, 600 * kPage); // two tables of its own
    for (u64 page = 0; page < 600; page++)
        ASSERT_EQ(write((u64{7} << 30) + page * kPage), 1);
    EXPECT_GE(used_pages(), pages + 2);
    EXPECT_FALSE(flush_requested());
    ASSERT_EQ(guest.set_region(1, 0, 0, 0), 0);
    EXPECT_TRUE(flush_requested());
    EXPECT_NE(entry(0), 0u);
    EXPECT_EQ(entry(u64{7} << 30), 0u);
    EXPECT_EQ(used_pages(), pages) << "its tables are freed";
    // Without translations there is nothing to flush.
    guest.add_ram(1, u64{7} << 30, kPage);
    ASSERT_EQ(guest.set_region(1, 0, 0, 0), 0);
    EXPECT_FALSE(flush_requested());
}

TEST_F(EptTest, AMovedSlotMapsAnew)
{
    const u64 hva = guest.add_ram(0, 0x10000, 4 * kPage);
    for (u64 page = 0; page < 4; page++)
        ASSERT_EQ(read(0x10000 + page * kPage), 1);
    ASSERT_EQ(guest.set_region(0, 0x12000, 4 * kPage, hva), 0);
    EXPECT_TRUE(flush_requested());
    for (u64 gpa = 0x10000; gpa < 0x16000; gpa += kPage)
        EXPECT_EQ(entry(gpa), 0u);
    EXPECT_EQ(read(0x12000), 1);
    EXPECT_EQ(entry(0x12000) & kFrame, pfn(hva) << 12);
}

// ---- Accessed pages ----

TEST_F(EptTest, AgeWithAccessedFlags)
{
    const u64 hva = guest.add_ram(0, 0, 2 * kPage);
    EXPECT_FALSE(age(hva, hva + 2 * kPage, true));
    ASSERT_EQ(read(0), 1);
    EXPECT_FALSE(age(hva + kPage, hva + 2 * kPage, true));
    EXPECT_TRUE(age(hva, hva + kPage, false));
    EXPECT_TRUE(age(hva, hva + kPage, true));
    EXPECT_FALSE(age(hva, hva + kPage, true));
    EXPECT_EQ(entry(0) & (kR | kW | kX | kAccessed), kR | kW | kX);
}

class EptWithoutFlags : public EptTest {
  protected:
    EptWithoutFlags()
        : EptTest{[](sim::Machine &machine, Parameters &parameters) {
              all_features(machine, parameters);
              parameters.eptad = false;
          }}
    {}
};

TEST_F(EptWithoutFlags, Pointer)
{
    EXPECT_EQ(ept_pointer(guest.kvm().ept) & 1 << 6, 0u);
}

TEST_F(EptWithoutFlags, AgeMakesTheEntryNotPresent)
{
    const u64 hva = guest.add_ram(0, 0, kPage);
    ASSERT_EQ(read(0), 1);
    const u64 before = entry(0);
    EXPECT_EQ(before, pfn(hva) << 12 | kR | kW | kX | kWriteBack | kIpat | kOwner);
    EXPECT_TRUE(age(hva, hva + kPage, false));
    EXPECT_EQ(entry(0), before);
    EXPECT_TRUE(age(hva, hva + kPage, true));
    EXPECT_EQ(entry(0) & (kR | kW | kX), 0u);
    EXPECT_FALSE(age(hva, hva + kPage, true));
    // The next access brings it back without asking the owner.
    const u64 faults = machine.faults;
    EXPECT_EQ(write(0), 1);
    EXPECT_EQ(entry(0), before);
    EXPECT_EQ(machine.faults, faults);
    EXPECT_TRUE(age(hva, hva + kPage, true));
    // A CPU may still have it cached, so taking it away asks for a flush.
    EXPECT_TRUE(unmap(hva, hva + kPage));
    EXPECT_EQ(entry(0), 0u);
}

// ---- Large pages ----

TEST_F(EptTest, TwoMegabytes)
{
    const u64 hva = guest.add_ram(0, k2M, 2 * k2M, 0, k2M);
    machine.map_contiguous(hva, 9);
    unsigned level = 0;
    EXPECT_EQ(write(k2M + 0x5000), 1);
    EXPECT_EQ(entry(k2M, &level), pfn(hva) << 12 | kR | kW | kX | kWriteBack | kIpat | kLarge |
                                      kAccessed | kDirty | kOwner);
    EXPECT_EQ(level, 2u);
    EXPECT_EQ(entry(k2M + 0x1ff000), entry(k2M));
    EXPECT_EQ(entry(2 * k2M), 0u);
    // A part of it goes: all of it does.
    EXPECT_TRUE(unmap(hva + 0x3000, hva + 0x4000));
    EXPECT_EQ(entry(k2M), 0u);
}

TEST_F(EptTest, OneGigabyte)
{
    const u64 hva = guest.add_ram(0, k1G, k1G, 0, k1G);
    machine.map_contiguous(hva, 18);
    unsigned level = 0;
    EXPECT_EQ(read(k1G + 0x12345678), 1);
    EXPECT_EQ(entry(k1G, &level) & kFrame, pfn(hva) << 12);
    EXPECT_EQ(level, 3u);
    EXPECT_EQ(guest.set_region(0, 0, 0, 0), 0);
    EXPECT_EQ(entry(k1G), 0u);
}

TEST_F(EptTest, OnlyTheSlotsWholeLargePages)
{
    // The slot begins and ends within large pages of the owner.
    const u64 hva = machine.add_user_memory(3 * k2M, true, k2M);
    machine.map_contiguous(hva, 9);
    ASSERT_EQ(guest.set_region(0, 4 * k2M + kPage, 3 * k2M - 2 * kPage, hva + kPage), 0);
    unsigned level = 0;
    EXPECT_EQ(read(4 * k2M + kPage), 1);
    EXPECT_EQ(entry(4 * k2M + kPage, &level) & kFrame, pfn(hva + kPage) << 12);
    EXPECT_EQ(level, 1u);
    EXPECT_EQ(read(5 * k2M + 7 * kPage), 1);
    EXPECT_EQ(entry(5 * k2M, &level) & kFrame, pfn(hva + k2M) << 12);
    EXPECT_EQ(level, 2u);
    EXPECT_EQ(read(6 * k2M), 1);
    EXPECT_NE(entry(6 * k2M, &level), 0u);
    EXPECT_EQ(level, 1u);
}

TEST_F(EptTest, DifferentAlignmentMeansSmallPages)
{
    const u64 hva = machine.add_user_memory(2 * k2M, true, k2M);
    machine.map_contiguous(hva, 9);
    ASSERT_EQ(guest.set_region(0, 8 * k2M + kPage, 2 * k2M, hva), 0);
    unsigned level = 0;
    EXPECT_EQ(read(9 * k2M), 1);
    EXPECT_EQ(entry(9 * k2M, &level) & kFrame, pfn(hva + k2M - kPage) << 12);
    EXPECT_EQ(level, 1u);
}

TEST_F(EptTest, ALargePageReplacesAnEmptyTable)
{
    const u64 hva = guest.add_ram(0, k2M, k2M, 0, k2M);
    ASSERT_EQ(read(k2M), 1); // small at first
    machine.map_contiguous(hva, 9);
    ASSERT_EQ(read(k2M + kPage), 1); // its neighbour is in use: small, too
    unsigned level = 0;
    EXPECT_NE(entry(k2M + kPage, &level), 0u);
    EXPECT_EQ(level, 1u);
    // The kernel collapses the pages into a large one: it unmaps them before.
    EXPECT_TRUE(unmap(hva, hva + k2M));
    flush_requested();
    const usize pages = machine.pages.size();
    EXPECT_EQ(read(k2M + kPage), 1);
    EXPECT_EQ(entry(k2M, &level) & kFrame, pfn(hva) << 12);
    EXPECT_EQ(level, 2u);
    EXPECT_TRUE(flush_requested()); // a CPU may remember where the table was
    EXPECT_LT(machine.pages.size(), pages + 1);
}

class EptWithout2M : public EptTest {
  protected:
    EptWithout2M()
        : EptTest{[](sim::Machine &machine, Parameters &parameters) {
              all_features(machine, parameters);
              machine.msr[MSR_IA32_VMX_EPT_VPID_CAP] &= ~bit64(16);
          }}
    {}
};

TEST_F(EptWithout2M, NoLargePages)
{
    const u64 hva = guest.add_ram(0, k1G, k1G, 0, k1G);
    machine.map_contiguous(hva, 18);
    unsigned level = 0;
    EXPECT_EQ(read(k1G), 1);
    EXPECT_NE(entry(k1G, &level), 0u);
    EXPECT_EQ(level, 1u);
}

class EptNxHugePages : public EptTest {
  protected:
    EptNxHugePages()
        : EptTest{[](sim::Machine &machine, Parameters &parameters) {
              all_features(machine, parameters);
              machine.host_info.nx_huge_pages = true;
          }}
    {}
};

TEST_F(EptNxHugePages, LargePagesAreNotExecutableAndSplitByAFetch)
{
    const u64 hva = guest.add_ram(0, k2M, k2M, 0, k2M);
    machine.map_contiguous(hva, 9);
    unsigned level = 0;
    ASSERT_EQ(write(k2M), 1);
    EXPECT_EQ(entry(k2M, &level) & (kR | kW | kX | kLarge), kR | kW | kLarge);
    EXPECT_EQ(level, 2u);
    EXPECT_FALSE(flush_requested());

    ASSERT_EQ(fetch(k2M + 0x3000, kEptViolationReadable | kEptViolationWritable), 1);
    EXPECT_EQ(entry(k2M + 0x3000, &level) & (kFrame | kR | kW | kX),
              pfn(hva + 0x3000) << 12 | kR | kW | kX);
    EXPECT_EQ(level, 1u);
    // What was the large page may still be cached.
    EXPECT_TRUE(flush_requested());
    // Its other pages are small now, and may be executed, too.
    EXPECT_EQ(entry(k2M) & (kFrame | kR | kW | kX | kLarge), pfn(hva) << 12 | kR | kW | kX);
    EXPECT_EQ(entry(2 * k2M - kPage) & (kFrame | kR | kW | kX),
              pfn(hva + k2M - kPage) << 12 | kR | kW | kX);

    // Data accesses beside it don't bring the large page back.
    ASSERT_EQ(write(k2M), 1);
    EXPECT_EQ(entry(k2M, &level) & (kR | kW | kX | kLarge), kR | kW | kX);
    EXPECT_EQ(level, 1u);
    EXPECT_NE(entry(k2M + 0x3000) & kX, 0u);
}

TEST_F(EptNxHugePages, AFetchFirst)
{
    const u64 hva = guest.add_ram(0, k2M, k2M, 0, k2M);
    machine.map_contiguous(hva, 9);
    unsigned level = 0;
    ASSERT_EQ(fetch(k2M), 1);
    EXPECT_NE(entry(k2M, &level) & kX, 0u);
    EXPECT_EQ(level, 1u);
}

// ---- Places without memory ----

constexpr u64 kMmioMark = kW | kX; // a misconfiguration: SDM Vol. 3C, 29.3.3.1

TEST_F(EptTest, MmioIsRememberedUntilASlotComes)
{
    guest.add_ram(0, 0x1000, kPage);
    const EptViolationInfo access = EptViolationInfo::decode(kEptViolationRead);
    EXPECT_EQ(ept_map(guest.vmx(), 0x5000, access), EptFault::kMmio);
    EXPECT_EQ(entry(0x5000), kMmioMark);
    EXPECT_EQ(entry(0x4000), 0u);
    EXPECT_FALSE(flush_requested()); // CPUs don't cache it, neither when it comes nor when it goes
    const u64 hva = guest.add_ram(1, 0x4000, 4 * kPage);
    EXPECT_EQ(entry(0x5000), 0u);
    EXPECT_EQ(read(0x5000), 1);
    EXPECT_EQ(entry(0x5000) & kFrame, pfn(hva + kPage) << 12);
    // A slot that goes leaves nothing; one that is moved clears where it comes to.
    EXPECT_EQ(ept_map(guest.vmx(), 0x10000, access), EptFault::kMmio);
    ASSERT_EQ(guest.set_region(1, 0x10000, 4 * kPage, hva), 0);
    EXPECT_EQ(entry(0x5000), 0u);
    EXPECT_EQ(entry(0x10000), 0u);
    EXPECT_EQ(read(0x10000), 1);
}

TEST_F(EptTest, AWriteToAReadOnlySlotIsNotRemembered)
{
    guest.add_ram(0, 0x1000, kPage, KVM_MEM_READONLY);
    const EptViolationInfo access = EptViolationInfo::decode(kEptViolationWrite);
    EXPECT_EQ(ept_map(guest.vmx(), 0x1000, access), EptFault::kMmio);
    EXPECT_EQ(entry(0x1000), 0u);
}

TEST_F(EptTest, MmioOutsideOfTheTablesIsNotRemembered)
{
    const EptViolationInfo access = EptViolationInfo::decode(kEptViolationRead);
    const usize pages = machine.pages.size();
    for (const u64 gpa : {u64{1} << 46, u64{1} << 48, (u64{1} << 52) - kPage})
        EXPECT_EQ(ept_map(guest.vmx(), gpa, access), EptFault::kMmio);
    EXPECT_EQ(machine.pages.size(), pages);
}

TEST_F(EptTest, MmioTablesAreBounded)
{
    const EptViolationInfo access = EptViolationInfo::decode(kEptViolationRead);
    for (u64 i = 0; i < 6000; i++)
        ASSERT_EQ(ept_map(guest.vmx(), i << 30, access), EptFault::kMmio);
    EXPECT_LT(machine.pages.size(), 4200u);
    EXPECT_EQ(entry(u64{5999} << 30), 0u);
    // Without memory for them they are emulated all the same.
    machine.allocations_left = 0;
    EXPECT_EQ(ept_map(guest.vmx(), 0x123000, access), EptFault::kMmio);
    machine.allocations_left = -1;
}

TEST_F(EptTest, AgingAndWatchingLeaveMmioAlone)
{
    const EptViolationInfo access = EptViolationInfo::decode(kEptViolationRead);
    EXPECT_EQ(ept_map(guest.vmx(), 0x5000, access), EptFault::kMmio);
    host_mmu_lock(&guest.host());
    EXPECT_FALSE(ept_age(guest.kvm().ept, 0, 16, true));
    EXPECT_FALSE(ept_watch_writes(guest.kvm().ept, 0, 16, false));
    EXPECT_FALSE(ept_zap_leaves(guest.kvm().ept, 0, 16));
    host_mmu_unlock(&guest.host());
    EXPECT_EQ(entry(0x5000), kMmioMark);
}

// ---- The APIC-access page ----

TEST_F(EptTest, ApicAccessPage)
{
    const EptViolationInfo access = EptViolationInfo::decode(kEptViolationRead);
    EXPECT_EQ(apic_access_page_phys(guest.kvm()), 0u);
    EXPECT_EQ(ept_map(guest.vmx(), 0xfee00300, access), EptFault::kMmio);
    ASSERT_EQ(create_apic_access_page(guest.kvm()), 0);
    const u64 phys = apic_access_page_phys(guest.kvm());
    EXPECT_NE(phys, 0u);
    EXPECT_EQ(entry(0xfee00000), 0u); // no mark is left
    EXPECT_EQ(read(0xfee00300), 1);
    EXPECT_EQ(entry(0xfee00000) & (kFrame | kR | kW), phys | kR | kW);
    EXPECT_EQ(ept_map(guest.vmx(), 0xfee01000, access), EptFault::kMmio);
    ASSERT_EQ(create_apic_access_page(guest.kvm()), 0); // again: the same
    EXPECT_EQ(apic_access_page_phys(guest.kvm()), phys);
    // No slot may be there from now on.
    const u64 hva = machine.add_user_memory(4 * kPage);
    EXPECT_EQ(guest.set_region(0, 0xfedfe000, 4 * kPage, hva), -EEXIST);
    EXPECT_EQ(guest.set_region(0, 0xfee00000, kPage, hva), -EEXIST);
    EXPECT_EQ(guest.set_region(0, 0xfee00000, kPage, hva, KVM_MEM_LOG_DIRTY_PAGES), -EEXIST);
    EXPECT_EQ(guest.kvm().logged_slots, 0u);
    EXPECT_EQ(guest.set_region(0, 0xfee01000, kPage, hva), 0);
    EXPECT_EQ(guest.set_region(0, 0xfee00000, kPage, hva), -EEXIST);
}

TEST_F(EptTest, ApicAccessPageWhereASlotIs)
{
    guest.add_ram(0, 0xfe000000, 0x2000000);
    EXPECT_EQ(create_apic_access_page(guest.kvm()), -EEXIST);
    EXPECT_EQ(apic_access_page_phys(guest.kvm()), 0u);
    machine.allocations_left = 0;
    EXPECT_EQ(create_apic_access_page(guest.kvm()), -ENOMEM);
    machine.allocations_left = -1;
}

// ---- Devices ----

TEST_F(EptTest, AWriteToADeviceThatCanOnlyBeRead)
{
    guest.add_ram(0, 0, kPage);
    machine.on_fault_in = [](u64, bool want_write, host_frame &frame) {
        frame.writable = 0;
        return want_write ? -EACCES : 0;
    };
    EXPECT_EQ(read(0), 1);
    const EptViolationInfo access = EptViolationInfo::decode(kEptViolationWrite);
    EXPECT_EQ(ept_map(guest.vmx(), 0, access), EptFault::kMmio);
    EXPECT_NE(entry(0) & kR, 0u);
}

TEST_F(EptTest, DevicesAreNotCached)
{
    const u64 hva = guest.add_ram(0, 0, kPage);
    machine.on_fault_in = [](u64, bool, host_frame &frame) {
        frame.device = 1;
        return 0;
    };
    EXPECT_EQ(read(0), 1);
    EXPECT_EQ(entry(0) & (kFrame | 7 << 3 | kIpat), pfn(hva) << 12);
}

// ---- The features of a CPU ----

TEST(EptFeatures, FollowTheCapabilitiesAndParameters)
{
    Guest guest{"corei7_haswell_4770", [](sim::Machine &machine, Parameters &parameters) {
                    all_features(machine, parameters);
                    machine.host_info.maxphyaddr = 52;
                }};
    const EptFeatures f = ept_features();
    EXPECT_TRUE(f.enabled && f.accessed_dirty && f.pages_2m && f.pages_1g && f.write_back);
    EXPECT_FALSE(f.nx_huge_pages);
    // Four levels translate 48 bits.
    EXPECT_EQ(guest.kvm().ept.root != nullptr, true);
}

TEST(EptFeatures, WithoutEpt)
{
    Guest guest{"corei7_haswell_4770",
                [](sim::Machine &, Parameters &parameters) { parameters.ept = false; }};
    EXPECT_EQ(guest.kvm().ept.root, nullptr);
    EXPECT_EQ(ept_pointer(guest.kvm().ept), 0u);
    EXPECT_EQ(guest.kvm().ept.features.max_gfn, (u64{1} << 40) - 1);
    const u64 hva = guest.add_ram(0, 0, kPage);
    EXPECT_FALSE(guest.machine.unmap_user(guest.host(), hva, hva + kPage));
}

TEST_F(EptTest, Flush)
{
    vcpu_vmx &vmx = guest.vmx();
    auto flush = [&](StaleTranslations stale) {
        machine.invalidations = machine.invvpids = 0;
        vmx.stale_translations = stale;
        flush_guest_tlb(vmx);
        EXPECT_EQ(vmx.stale_translations, StaleTranslations::kNone);
    };
    flush(StaleTranslations::kAll);
    EXPECT_EQ(machine.invalidations, 1u);
    EXPECT_EQ(machine.invvpids, 0u);
    flush(StaleTranslations::kLinear);
    EXPECT_EQ(machine.invalidations, 1u);
    EXPECT_EQ(machine.invvpids, 1u) << "guest-physical translations stay";

    // Entries and exits without a VPID drop linear ones by themselves, but no others.
    const u16 vpid = vmx.vpid;
    vmx.vpid = 0;
    flush(StaleTranslations::kLinear);
    EXPECT_EQ(machine.invalidations, 0u);
    flush(StaleTranslations::kAll);
    EXPECT_EQ(machine.invalidations, 1u);
    vmx.vpid = vpid;
}

TEST_F(EptTest, WhatIsStaleOnlyGrows)
{
    vcpu_vmx &vmx = guest.vmx();
    vmx.stale_translations = StaleTranslations::kNone;
    mark_stale(vmx, StaleTranslations::kLinear);
    EXPECT_EQ(vmx.stale_translations, StaleTranslations::kLinear);
    mark_stale(vmx, StaleTranslations::kAll);
    mark_stale(vmx, StaleTranslations::kLinear);
    EXPECT_EQ(vmx.stale_translations, StaleTranslations::kAll);
}

// ---- Against a model ----

struct MappedFrame {
    u64 pfn;
    bool writable;
    bool operator==(const MappedFrame &) const = default;
};

TEST_F(EptTest, RandomHistoryAgreesWithAModel)
{
    // Memory in 2 MiB blocks, half of them large for the owner; slots of a few blocks that come, go
    // and move. The model knows of every frame what is mapped there.
    std::mt19937_64 random{7};
    auto below = [&](u64 n) { return random() % n; };
    constexpr u64 kBlocks = 6, kBlockPages = 512;
    const u64 hva = machine.add_user_memory(kBlocks * k2M, true, k2M);
    machine.map_contiguous(hva, 0);
    std::map<u64, MappedFrame> model;         // by gfn
    std::map<u32, std::pair<u64, u64>> slots; // id -> first gfn, first block of the owner's memory
    machine.on_fault_in = [&](u64 address, bool, host_frame &frame) {
        frame.order = (address - hva) / k2M % 2 ? 9 : 0;
        return 0;
    };
    auto forget = [&](u64 gfn, u64 end) {
        model.erase(model.lower_bound(gfn), model.lower_bound(end));
    };

    for (unsigned step = 0; step < 6000; step++) {
        const u32 id = static_cast<u32>(below(4));
        const u64 action = below(16);
        const auto slot = slots.find(id);
        if (slot == slots.end()) {
            const u64 gfn = below(20) * kBlockPages;
            const u64 block = below(kBlocks);
            if (guest.set_region(id, gfn << 12, k2M, hva + block * k2M) == 0)
                slots[id] = {gfn, block};
        } else if (action == 0) {
            ASSERT_EQ(guest.set_region(id, 0, 0, 0), 0);
            forget(slot->second.first, slot->second.first + kBlockPages);
            slots.erase(slot);
        } else if (action == 1) {
            const u64 gfn = below(20) * kBlockPages;
            const u64 old = slot->second.first;
            if (guest.set_region(id, gfn << 12, k2M, hva + slot->second.second * k2M) == 0 &&
                gfn != old) {
                forget(old, old + kBlockPages);
                slot->second.first = gfn;
            }
        } else if (action < 5) {
            const u64 first = below(kBlocks * kBlockPages);
            const u64 end = std::min(first + 1 + below(700), kBlocks * kBlockPages);
            unmap(hva + first * kPage, hva + end * kPage);
            for (const auto &[other, where] : slots) {
                const auto &[gfn, block] = where;
                const u64 from = std::max(first, block * kBlockPages);
                const u64 to = std::min(end, (block + 1) * kBlockPages);
                if (from >= to)
                    continue;
                // A large leaf goes as a whole.
                if (block % 2)
                    forget(gfn, gfn + kBlockPages);
                else
                    forget(gfn + from - block * kBlockPages, gfn + to - block * kBlockPages);
            }
        } else {
            const auto &[gfn, block] = slot->second;
            const u64 page = below(kBlockPages);
            ASSERT_EQ(write((gfn + page) << 12), 1);
            const u64 pfn = machine.pfn_of(hva + block * k2M);
            for (u64 i = block % 2 ? 0 : page; i <= (block % 2 ? kBlockPages - 1 : page); i++)
                model[gfn + i] = {pfn + i, true};
        }
        if (step % 16 == 0) {
            for (u64 gfn = 0; gfn < 21 * kBlockPages; gfn += 1 + below(8)) {
                unsigned level = 0;
                const u64 value = ept_lookup(guest.kvm().ept, gfn, level);
                const auto expected = model.find(gfn);
                ASSERT_EQ(value != 0, expected != model.end()) << "gfn " << gfn << " step " << step;
                if (value == 0)
                    continue;
                const u64 offset = level == 2 ? gfn % kBlockPages : 0;
                ASSERT_EQ(((value & kFrame) >> 12) + offset, expected->second.pfn);
                ASSERT_NE(value & kW, 0u);
            }
        }
    }
}

} // namespace
} // namespace minivmx::test
