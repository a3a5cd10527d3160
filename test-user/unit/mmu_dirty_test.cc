// SPDX-License-Identifier: GPL-2.0-only
//
// Dirty logging: the bitmaps against a CPU that walks EPT tables and fills a PML buffer as the
// architecture says, and caches translations until it is told not to.
#include "guest.hpp"

#include <minivmx/control_shadow.hpp>
#include <minivmx/dirty_log.hpp>

#include <minivmx.h>

#include <cerrno>
#include <map>
#include <random>
#include <set>

namespace minivmx::test {
namespace {

constexpr u64 kPage = 4096, k2M = u64{2} << 20;
constexpr u64 kR = 1, kW = 2, kLarge = 1 << 7, kAccessed = 1 << 8, kDirty = 1 << 9;

struct Way {
    const char *name;
    const char *cpu;
    bool pml, eptad;
};

void PrintTo(const Way &way, std::ostream *os)
{
    *os << way.name;
}

class Dirty : public testing::TestWithParam<Way> {
  protected:
    Guest guest{GetParam().cpu, [](sim::Machine &machine, Parameters &parameters) {
                    parameters.pml = GetParam().pml;
                    parameters.eptad = GetParam().eptad;
                    machine.msr[MSR_IA32_VMX_EPT_VPID_CAP] |= bit64(16) | bit64(17);
                }};
    sim::Machine &machine = guest.machine;
    // What the CPU has cached: whether a write to the frame goes through without a walk.
    std::map<u64, bool> tlb;

    void SetUp() override
    {
        ASSERT_EQ(guest.parameters.pml, GetParam().pml);
        machine.on_request_all = [this](u32) {
            flush_pml_buffer(guest.vmx());
            take_requests();
        };
        take_requests();
    }

    // As at the next entry.
    void take_requests()
    {
        const u32 requests = guest.area().requests;
        guest.area().requests = 0;
        if (requests & VCPU_REQUEST_TLB_FLUSH)
            tlb.clear();
        if (requests & VCPU_REQUEST_DIRTY_LOGGING)
            update_dirty_logging(guest.vmx());
    }

    u64 *leaf(u64 gfn, unsigned &level) const
    {
        u64 *table = guest.kvm().ept.root;
        for (level = kEptLevels;; level--) {
            u64 *entry = &table[gfn >> (9 * (level - 1)) & 511];
            if (*entry == 0 || level == 1 || (*entry & kLarge) != 0)
                return entry;
            table = static_cast<u64 *>(host_phys_page(*entry & 0x000ffffffffff000));
        }
    }
    bool pml_on()
    {
        return (guest.get(SECONDARY_VM_EXEC_CONTROL) & SECONDARY_EXEC_ENABLE_PML) != 0;
    }

    // SDM Vol. 3C, 29.3.6. False: the buffer is full, and the access doesn't take place.
    bool log_to_pml(u64 gfn)
    {
        const u64 index = guest.get(GUEST_PML_INDEX);
        if (index > 511)
            return false;
        static_cast<u64 *>(host_phys_page(guest.get(PML_ADDRESS)))[index] = gfn << 12;
        guest.set(GUEST_PML_INDEX, (index - 1) & 0xffff);
        return true;
    }

    void violate(u64 gfn, u64 access)
    {
        unsigned level;
        const u64 entry = *leaf(gfn, level);
        flush_pml_buffer(guest.vmx()); // an exit
        tlb.erase(gfn);
        ASSERT_TRUE(guest.ept_violation(gfn << 12, access | (entry & 7) << 3).resumes());
        take_requests();
    }

    u64 use(u64 *entry) { return GetParam().eptad ? *entry |= kAccessed : *entry; }

    void read(u64 gfn)
    {
        unsigned level;
        while ((*leaf(gfn, level) & kR) == 0)
            violate(gfn, kEptViolationRead);
        const u64 entry = use(leaf(gfn, level));
        const bool silent = (entry & kW) != 0 && (!GetParam().eptad || (entry & kDirty) != 0);
        tlb.emplace(gfn, silent);
    }

    void write(u64 gfn)
    {
        const auto cached = tlb.find(gfn);
        if (cached != tlb.end() && cached->second)
            return;
        unsigned level;
        for (;;) {
            u64 *entry = leaf(gfn, level);
            if ((*entry & kW) == 0) {
                violate(gfn, kEptViolationWrite);
                continue;
            }
            if (GetParam().eptad && (*entry & kDirty) == 0) {
                if (pml_on() && !log_to_pml(gfn)) {
                    flush_pml_buffer(guest.vmx());
                    continue;
                }
                *entry |= kDirty;
            }
            use(entry);
            break;
        }
        tlb[gfn] = true;
    }

    int get(u32 slot, std::set<u64> &pages)
    {
        core_dirty_log log{};
        const int error = core_get_dirty_log(guest.host().core, slot, &log);
        if (error)
            return error;
        pages.clear();
        const u8 *bytes = static_cast<const u8 *>(log.bitmap);
        for (u64 page = 0; page < log.size * 8; page++) {
            if ((bytes[page / 8] >> page % 8 & 1) != 0)
                pages.insert(page);
        }
        take_requests();
        return 0;
    }
    std::set<u64> dirty(u32 slot)
    {
        std::set<u64> pages;
        EXPECT_EQ(get(slot, pages), 0);
        return pages;
    }
    int clear(u32 slot, u64 first, u32 count, const std::set<u64> &pages)
    {
        kvm_clear_dirty_log request{};
        request.slot = slot;
        request.num_pages = count;
        request.first_page = first;
        core_dirty_log log{};
        if (const int error = core_prepare_clear_dirty_log(guest.host().core, &request, &log))
            return error;
        EXPECT_EQ(log.size, (u64{count} + 63) / 64 * 8);
        u8 *bytes = static_cast<u8 *>(log.bitmap);
        std::memset(bytes, 0, log.size);
        for (const u64 page : pages) {
            if (page >= first && page < first + log.size * 8)
                bytes[(page - first) / 8] |= 1 << (page - first) % 8;
        }
        core_clear_dirty_log(guest.host().core, &request);
        take_requests();
        return 0;
    }
    int manual(u64 options)
    {
        kvm_enable_cap cap{};
        cap.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
        cap.args[0] = options;
        return core_vm_enable_cap(guest.host().core, &cap);
    }
};

constexpr Way kWays[] = {
    {"pml", "corei7_skylake_x", true, true},
    {"protection", "corei7_skylake_x", false, true},
    {"no_flags", "corei7_skylake_x", false, false},
};
INSTANTIATE_TEST_SUITE_P(Ways, Dirty, testing::ValuesIn(kWays),
                         [](const auto &info) { return info.param.name; });

TEST_P(Dirty, WhatWasWritten)
{
    guest.add_ram(0, 0x100000, 1000 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    EXPECT_EQ(dirty(0), std::set<u64>{});
    std::set<u64> pattern;
    for (u64 page = 0; page < 1000; page += 1 + page % 7) {
        write(0x100 + page);
        pattern.insert(page);
    }
    for (u64 page = 0; page < 1000; page += 3)
        read(0x100 + page); // reads don't count
    EXPECT_EQ(dirty(0), pattern);
    EXPECT_EQ(dirty(0), std::set<u64>{});
    write(0x100);
    write(0x100 + 999);
    EXPECT_EQ(dirty(0), (std::set<u64>{0, 999}));
}

TEST_P(Dirty, LoggingBegins)
{
    const u64 hva = guest.add_ram(0, 0x100000, 64 * kPage);
    for (u64 page = 0; page < 64; page++)
        write(0x100 + page);
    std::set<u64> pages;
    EXPECT_EQ(get(0, pages), -ENOENT);
    ASSERT_EQ(guest.set_region(0, 0x100000, 64 * kPage, hva, KVM_MEM_LOG_DIRTY_PAGES), 0);
    EXPECT_EQ(pml_on(), GetParam().pml);
    EXPECT_EQ(dirty(0), std::set<u64>{});
    const u64 faults = machine.faults;
    write(0x105);
    write(0x13f);
    EXPECT_EQ(machine.faults, faults); // the owner need not be asked again
    EXPECT_EQ(dirty(0), (std::set<u64>{5, 63}));
    ASSERT_EQ(guest.set_region(0, 0x100000, 64 * kPage, hva), 0);
    EXPECT_FALSE(pml_on());
    EXPECT_EQ(get(0, pages), -ENOENT);
    write(0x107);
    EXPECT_EQ(machine.faults, faults);
}

TEST_P(Dirty, LargePagesAreSplit)
{
    const u64 hva = guest.add_ram(0, k2M, 2 * k2M, 0, k2M);
    machine.map_contiguous(hva, 9);
    write(512);
    write(1024);
    unsigned level;
    leaf(512, level);
    EXPECT_EQ(level, 2u);
    ASSERT_EQ(guest.set_region(0, k2M, 2 * k2M, hva, KVM_MEM_LOG_DIRTY_PAGES), 0);
    read(1024 + 5);
    write(512 + 7);
    write(512 + 300);
    leaf(512 + 8, level);
    EXPECT_EQ(level, 1u);
    leaf(1024, level);
    EXPECT_EQ(level, 2u); // only read
    EXPECT_EQ(dirty(0), (std::set<u64>{7, 300}));
    // Without logging the large pages come back.
    ASSERT_EQ(guest.set_region(0, k2M, 2 * k2M, hva), 0);
    take_requests();
    write(512 + 7);
    leaf(512, level);
    EXPECT_EQ(level, 2u);
}

TEST_P(Dirty, TheHypervisorsOwnWrites)
{
    guest.add_ram(0, 0x100000, 16 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    guest.add_ram(1, 0x110000, 16 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    const u8 bytes[2 * kPage] = {};
    EXPECT_EQ(write_guest_phys(guest.vmx(), 0x102ffe, bytes, 4), MemoryResult::kOk);
    EXPECT_EQ(write_guest_phys(guest.vmx(), 0x10f000, bytes, 2 * kPage), MemoryResult::kOk);
    EXPECT_EQ(dirty(0), (std::set<u64>{2, 3, 15}));
    EXPECT_EQ(dirty(1), std::set<u64>{0});
    mark_page_dirty(guest.vmx(), 0x104);
    mark_page_dirty(guest.kvm(), 0x105);
    mark_page_dirty(guest.kvm(), 0x999); // nothing there
    EXPECT_EQ(dirty(0), (std::set<u64>{4, 5}));
}

TEST_P(Dirty, ManualProtection)
{
    EXPECT_EQ(manual(KVM_DIRTY_LOG_INITIALLY_SET), -EINVAL);
    EXPECT_EQ(manual(4), -EINVAL);
    EXPECT_EQ(manual(5), -EINVAL);
    EXPECT_EQ(manual(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE), 0);
    guest.add_ram(0, 0x100000, 200 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    for (const u64 page : {0, 63, 64, 130, 199})
        write(0x100 + page);
    EXPECT_EQ(dirty(0), (std::set<u64>{0, 63, 64, 130, 199}));
    EXPECT_EQ(dirty(0), (std::set<u64>{0, 63, 64, 130, 199})); // nothing is forgotten
    EXPECT_EQ(clear(0, 64, 64, {64, 65}), 0);
    EXPECT_EQ(dirty(0), (std::set<u64>{0, 63, 130, 199}));
    EXPECT_EQ(clear(0, 0, 200, {0, 199}), 0);
    EXPECT_EQ(dirty(0), (std::set<u64>{63, 130}));
    write(0x100 + 0);
    write(0x100 + 63);
    write(0x100 + 64);
    EXPECT_EQ(dirty(0), (std::set<u64>{0, 63, 64, 130}));
    // Bits behind the slot's end are nobody's.
    EXPECT_EQ(clear(0, 192, 8, {192, 199, 200, 255}), 0);
    EXPECT_EQ(manual(0), 0);
    EXPECT_EQ(dirty(0), (std::set<u64>{0, 63, 64, 130}));
    EXPECT_EQ(dirty(0), std::set<u64>{});
}

TEST_P(Dirty, InitiallySet)
{
    EXPECT_EQ(manual(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET), 0);
    const u64 hva = guest.add_ram(0, k2M, 2 * k2M, 0, k2M);
    machine.map_contiguous(hva, 9);
    write(512);
    write(1024);
    const u64 flushes = machine.flush_calls;
    ASSERT_EQ(guest.set_region(0, k2M, 2 * k2M, hva, KVM_MEM_LOG_DIRTY_PAGES), 0);
    EXPECT_EQ(machine.flush_calls, flushes); // nothing was protected
    EXPECT_EQ(dirty(0).size(), 1024u);
    std::set<u64> all;
    for (u64 page = 0; page < 1024; page++)
        all.insert(page);
    EXPECT_EQ(clear(0, 0, 512, all), 0);
    write(512 + 9);
    write(1024 + 9);
    std::set<u64> expected{9};
    for (u64 page = 512; page < 1024; page++)
        expected.insert(page);
    EXPECT_EQ(dirty(0), expected);
    // An odd number of pages.
    guest.add_ram(1, 8 * k2M, 70 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    EXPECT_EQ(dirty(1).size(), 70u);
}

TEST_P(Dirty, Arguments)
{
    guest.add_ram(0, 0x100000, 200 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    guest.add_ram(1, 0x400000, 64 * kPage);
    std::set<u64> pages;
    EXPECT_EQ(get(1, pages), -ENOENT);
    EXPECT_EQ(get(2, pages), -ENOENT);
    EXPECT_EQ(get(kUserMemSlots, pages), -EINVAL);
    EXPECT_EQ(get(0x10000, pages), -EINVAL);
    EXPECT_EQ(get(0xffffffff, pages), -EINVAL);
    EXPECT_EQ(clear(1, 0, 64, {}), -ENOENT);
    EXPECT_EQ(clear(kUserMemSlots, 0, 64, {}), -EINVAL);
    EXPECT_EQ(clear(1, 1, 64, {}), -EINVAL); // before the slot is looked for
    EXPECT_EQ(clear(0, 1, 64, {}), -EINVAL);
    EXPECT_EQ(clear(0, 32, 64, {}), -EINVAL);
    EXPECT_EQ(clear(0, 0, 65, {}), -EINVAL);
    EXPECT_EQ(clear(0, 0, 201, {}), -EINVAL);
    EXPECT_EQ(clear(0, 192, 9, {}), -EINVAL);
    EXPECT_EQ(clear(0, 192, 64, {}), -EINVAL);
    EXPECT_EQ(clear(0, 256, 0, {}), -EINVAL);
    EXPECT_EQ(clear(0, ~u64{63}, 64, {}), -EINVAL);
    EXPECT_EQ(clear(0, 0, 0xffffffff, {}), -EINVAL);
    EXPECT_EQ(clear(0, 0, 0, {}), 0);
    EXPECT_EQ(clear(0, 0, 64, {}), 0);
    EXPECT_EQ(clear(0, 192, 8, {}), 0);
    EXPECT_EQ(clear(0, 0, 200, {}), 0);
}

TEST_P(Dirty, TheBitmapMovesWithItsSlot)
{
    const u64 hva = guest.add_ram(0, 0x100000, 64 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    write(0x103);
    ASSERT_EQ(guest.set_region(0, 0x200000, 64 * kPage, hva, KVM_MEM_LOG_DIRTY_PAGES), 0);
    take_requests();
    write(0x204);
    EXPECT_EQ(dirty(0), (std::set<u64>{3, 4}));
    ASSERT_EQ(guest.set_region(0, 0x300000, 64 * kPage, hva), 0); // moved, and no longer logged
    EXPECT_FALSE(pml_on());
    ASSERT_EQ(guest.set_region(0, 0x400000, 64 * kPage, hva, KVM_MEM_LOG_DIRTY_PAGES), 0);
    EXPECT_EQ(dirty(0), std::set<u64>{});
    ASSERT_EQ(guest.set_region(0, 0, 0, 0), 0);
    EXPECT_FALSE(pml_on());
}

TEST_P(Dirty, AReadOnlySlotIsNeverDirty)
{
    const u64 hva =
        guest.add_ram(0, 0x100000, 64 * kPage, KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY);
    read(0x100);
    const u8 byte = 1;
    EXPECT_EQ(write_guest_phys(guest.vmx(), 0x100000, &byte, 1), MemoryResult::kMmio);
    EXPECT_EQ(dirty(0), std::set<u64>{});
    unsigned level;
    EXPECT_EQ(*leaf(0x100, level) & kW, 0u);
    EXPECT_EQ(guest.set_region(0, 0x100000, 64 * kPage, hva, KVM_MEM_READONLY), 0);
    EXPECT_EQ(guest.set_region(0, 0x100000, 64 * kPage, hva, 0), -EINVAL);
}

TEST_P(Dirty, NoMemoryForTheBitmap)
{
    const u64 hva = machine.add_user_memory(64 * kPage);
    for (int allocations = 0; allocations < 2; allocations++) {
        machine.allocations_left = allocations;
        EXPECT_EQ(guest.set_region(0, 0, 64 * kPage, hva, KVM_MEM_LOG_DIRTY_PAGES), -ENOMEM);
        EXPECT_EQ(guest.kvm().logged_slots, 0u);
    }
    machine.allocations_left = -1;
}

TEST_P(Dirty, ANewVcpuUsesItsBufferToo)
{
    guest.add_ram(0, 0x100000, 64 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    // CPUID changes the secondary controls; PML stays.
    const kvm_cpuid_entry2 entry{};
    EXPECT_EQ(core_set_cpuid2(&guest.vmx(), &entry, 1), 0);
    EXPECT_EQ(pml_on(), GetParam().pml);
}

TEST_P(Dirty, RandomHistoryAgreesWithAModel)
{
    std::mt19937_64 random{11};
    auto below = [&](u64 n) { return random() % n; };
    constexpr u64 kPages = 1600, kBase = 512;
    const u64 hva = machine.add_user_memory(kPages * kPage, true, k2M);
    machine.map_contiguous(hva, 0);
    machine.on_fault_in = [&](u64 address, bool, host_frame &frame) {
        frame.order = (address - hva) / k2M % 2 ? 9 : 0;
        return 0;
    };
    machine.is_populated = [&](u64 address) { return (address >> 12) % 7 != 0; };
    for (u64 page = 0; page < kPages; page += 5)
        machine.clean_pages.insert((hva >> 12) + page);
    ASSERT_EQ(guest.set_region(0, kBase * kPage, kPages * kPage, hva), 0);
    bool logged = false;
    bool is_manual = false;
    std::set<u64> model;
    u64 compared = 0;
    for (unsigned step = 0; step < 40000; step++) {
        const u64 action = below(1000);
        if (action < 4) {
            logged = !logged;
            ASSERT_EQ(guest.set_region(0, kBase * kPage, kPages * kPage, hva,
                                       logged ? KVM_MEM_LOG_DIRTY_PAGES : 0),
                      0);
            take_requests();
            model.clear();
        } else if (action < 6) {
            is_manual = !is_manual;
            ASSERT_EQ(manual(is_manual), 0);
        } else if (action < 20 && logged) {
            ASSERT_EQ(dirty(0), model) << "step " << step;
            compared += model.size();
            if (!is_manual)
                model.clear();
        } else if (action < 30 && logged) {
            const u64 first = below(kPages / 64) * 64;
            std::set<u64> some;
            for (u64 page = first; page < first + 64; page++) {
                if (below(2))
                    some.insert(page);
            }
            ASSERT_EQ(clear(0, first, 64, some), 0);
            for (const u64 page : some)
                model.erase(page);
        } else if (action < 40) {
            const u64 first = below(kPages);
            machine.unmap_user(guest.host(), hva + first * kPage,
                               hva + (first + 1 + below(20)) * kPage);
            take_requests();
        } else if (action < 50) {
            host_mmu_lock(&guest.host());
            core_mmu_age_hva_range(guest.host().core, hva, hva + kPages * kPage, true);
            host_mmu_unlock(&guest.host());
            if (below(2)) {
                guest.area().requests |= VCPU_REQUEST_TLB_FLUSH;
                take_requests();
            }
        } else if (action < 60) {
            const u8 byte = 1;
            const u64 page = below(kPages);
            ASSERT_EQ(write_guest_phys(guest.vmx(), (kBase + page) << 12, &byte, 1),
                      MemoryResult::kOk);
            if (logged)
                model.insert(page);
        } else if (action < 400) {
            read(kBase + below(kPages));
        } else {
            const u64 page = below(kPages);
            write(kBase + page);
            if (logged)
                model.insert(page);
        }
    }
    EXPECT_GT(compared, 1000u);
}

// ---- The buffer ----

TEST(Pml, IsPartOfTheVmcs)
{
    Guest guest{"corei7_skylake_x"};
    ASSERT_TRUE(guest.parameters.pml);
    EXPECT_EQ(guest.get(PML_ADDRESS), host_page_phys(guest.vmx().pml_buffer));
    EXPECT_EQ(guest.get(GUEST_PML_INDEX), 511u);
    EXPECT_EQ(guest.get(SECONDARY_VM_EXEC_CONTROL) & SECONDARY_EXEC_ENABLE_PML, 0u);
    // Whoever logs between the creation and the first run is not missed.
    EXPECT_NE(guest.area().requests & VCPU_REQUEST_DIRTY_LOGGING, 0u);
}

TEST(Pml, FromNoEntryToAllOfThem)
{
    Guest guest{"corei7_skylake_x"};
    guest.add_ram(0, 0, 1024 * kPage, KVM_MEM_LOG_DIRTY_PAGES);
    update_dirty_logging(guest.vmx());
    auto *buffer = static_cast<u64 *>(guest.vmx().pml_buffer);
    for (const u32 entries : {0u, 1u, 511u, 512u}) {
        for (u32 i = 0; i < 512; i++)
            buffer[511 - i] = i < entries ? u64{i} * 2 << 12 : u64{1001} << 12;
        guest.set(GUEST_PML_INDEX, (511 - entries) & 0xffff);
        flush_pml_buffer(guest.vmx());
        EXPECT_EQ(guest.get(GUEST_PML_INDEX), 511u);
        core_dirty_log log{};
        ASSERT_EQ(core_get_dirty_log(guest.host().core, 0, &log), 0);
        const u64 *words = static_cast<const u64 *>(log.bitmap);
        u32 set = 0;
        for (u32 i = 0; i < 16; i++)
            set += count_bits(words[i]);
        EXPECT_EQ(set, entries);
        EXPECT_EQ(words[15] & bit64(1001 % 64), 0u);
    }
    // Addresses without a slot, or without logging, are left alone.
    guest.add_ram(1, u64{1} << 32, kPage);
    buffer[511] = u64{1} << 32;
    buffer[510] = u64{1} << 40;
    guest.set(GUEST_PML_INDEX, 509);
    flush_pml_buffer(guest.vmx());
}

TEST(Pml, FullBufferAndNmis)
{
    Guest guest{"corei7_skylake_x"};
    guest.vmx().exit_reason = EXIT_REASON_PML_FULL;
    guest.vmx().idt_vectoring_info = 0;
    guest.set(EXIT_QUALIFICATION, bit64(12));
    guest.set(GUEST_INTERRUPTIBILITY_INFO, 0);
    EXPECT_TRUE(handle_pml_full(guest.vmx()).resumes());
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), GUEST_INTR_STATE_NMI);
    guest.set(GUEST_INTERRUPTIBILITY_INFO, 0);
    guest.vmx().idt_vectoring_info = INTR_INFO_VALID;
    EXPECT_TRUE(handle_pml_full(guest.vmx()).resumes());
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), 0u);
}

TEST(Pml, NotWithoutIt)
{
    Guest guest{"corei7_haswell_4770"};
    EXPECT_FALSE(guest.parameters.pml);
    EXPECT_EQ(guest.vmx().pml_buffer, nullptr);
    EXPECT_EQ(guest.area().requests & VCPU_REQUEST_DIRTY_LOGGING, 0u);
}

} // namespace
} // namespace minivmx::test
