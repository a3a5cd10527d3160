// SPDX-License-Identifier: GPL-2.0-only
//
// Memory slots: KVM_SET_USER_MEMORY_REGION's rules, lookups against a simple model, and readers.
#include "guest.hpp"

#include <minivmx.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <optional>
#include <random>

namespace minivmx::test {
namespace {

constexpr u64 kPage = 4096;

class Slots : public testing::Test {
  protected:
    Guest guest;
    u64 hva = guest.machine.add_user_memory(64 * kPage);

    int set(u32 slot, u64 gpa, u64 size, u64 address, u32 flags = 0)
    {
        return guest.set_region(slot, gpa, size, address, flags);
    }
    /// The hva that a reader finds for a frame.
    std::optional<u64> find(u64 gfn)
    {
        SlotsReader reader{guest.vmx()};
        const MemSlot *slot = reader.find(gfn);
        return slot ? std::optional{slot->hva_of_gfn(gfn)} : std::nullopt;
    }
};

TEST_F(Slots, CreateFindDelete)
{
    EXPECT_EQ(find(0), std::nullopt);
    EXPECT_EQ(set(0, 0x10000, 4 * kPage, hva), 0);
    EXPECT_EQ(find(0xf), std::nullopt);
    EXPECT_EQ(find(0x10), hva);
    EXPECT_EQ(find(0x13), hva + 3 * kPage);
    EXPECT_EQ(find(0x14), std::nullopt);
    EXPECT_EQ(set(0, 0, 0, 0), 0);
    EXPECT_EQ(find(0x10), std::nullopt);
    EXPECT_EQ(guest.kvm().slots.current, nullptr);
}

TEST_F(Slots, DeletionIgnoresWhereTheSlotIsSaidToBe)
{
    EXPECT_EQ(set(7, 0x10000, kPage, hva), 0);
    EXPECT_EQ(set(7, 0x40000000, 0, 0), 0);
    EXPECT_EQ(find(0x10), std::nullopt);
}

TEST_F(Slots, DeletionOfNothing)
{
    EXPECT_EQ(set(0, 0, 0, 0), -EINVAL);
    EXPECT_EQ(set(0, 0x1000, kPage, hva), 0);
    EXPECT_EQ(set(1, 0x1000, 0, hva), -EINVAL);
}

TEST_F(Slots, Alignment)
{
    EXPECT_EQ(set(0, 0x1001, kPage, hva), -EINVAL);
    EXPECT_EQ(set(0, 0x1000, kPage + 1, hva), -EINVAL);
    EXPECT_EQ(set(0, 0x1000, 1, hva), -EINVAL);
    EXPECT_EQ(set(0, 0x1000, kPage, hva + 8), -EINVAL);
    EXPECT_EQ(find(1), std::nullopt);
}

TEST_F(Slots, Flags)
{
    EXPECT_EQ(set(0, 0, kPage, hva, 4), -EINVAL);
    EXPECT_EQ(set(0, 0, kPage, hva, 0x80000000), -EINVAL);
    EXPECT_EQ(set(0, 0, kPage, hva, KVM_MEM_READONLY), 0);
    EXPECT_EQ(set(0, 0, kPage, hva, 0), -EINVAL); // read-only stays read-only
    EXPECT_EQ(set(0, 0, kPage, hva, KVM_MEM_READONLY), 0);
    // A wrong flag is refused even when the slot goes.
    EXPECT_EQ(set(0, 0, 0, 0, 4), -EINVAL);
}

TEST_F(Slots, Numbers)
{
    EXPECT_EQ(set(kUserMemSlots - 1, 0, kPage, hva), 0);
    EXPECT_EQ(set(kUserMemSlots, 0x100000, kPage, hva), -EINVAL);
    EXPECT_EQ(set(0x7fff, 0x100000, kPage, hva), -EINVAL);
    EXPECT_EQ(set(0xffff, 0x100000, kPage, hva), -EINVAL);
    EXPECT_EQ(set(0x10000, 0x100000, kPage, hva), -EINVAL); // another address space
    EXPECT_EQ(set(0xffffffff, 0x100000, kPage, hva), -EINVAL);
}

TEST_F(Slots, WrapAndLimits)
{
    EXPECT_EQ(set(0, ~u64{0} - kPage + 1, kPage, hva), -EINVAL); // ends at 2^64
    EXPECT_EQ(set(0, ~u64{0} - kPage + 1, 2 * kPage, hva), -EINVAL);
    EXPECT_EQ(set(0, 0, u64{1} << 63, hva), -EINVAL);
    EXPECT_EQ(set(0, 0, kPage, 0x8000000000000000), -EINVAL); // not user space's
    EXPECT_EQ(set(0, 0, kPage, 0x7ffffffff000), -EINVAL);
    EXPECT_EQ(set(0, 0, (kMemSlotMaxPages + 1) * kPage, 0x10000), -EINVAL);
    guest.kvm().ept.features.max_gfn = (u64{1} << 36) - 1;      // a CPU with wide addresses
    EXPECT_EQ(set(0, 0, kMemSlotMaxPages * kPage, 0x10000), 0); // nothing needs to be mapped there
}

TEST_F(Slots, PhysicalAddressWidth)
{
    const u64 frames = guest.kvm().ept.features.max_gfn + 1;
    EXPECT_EQ(frames, u64{1} << (guest.machine.host_info.maxphyaddr - 12));
    EXPECT_EQ(set(0, frames * kPage, kPage, hva), -EINVAL);
    EXPECT_EQ(set(0, (frames - 1) * kPage, 2 * kPage, hva), -EINVAL);
    EXPECT_EQ(set(0, (frames - 1) * kPage, kPage, hva), 0);
    // Overlap is found first.
    EXPECT_EQ(set(1, (frames - 1) * kPage, 2 * kPage, hva), -EEXIST);
}

TEST_F(Slots, Overlap)
{
    ASSERT_EQ(set(0, 0x10000, 4 * kPage, hva), 0);
    EXPECT_EQ(set(1, 0x10000, kPage, hva), -EEXIST);
    EXPECT_EQ(set(1, 0xf000, 2 * kPage, hva), -EEXIST);
    EXPECT_EQ(set(1, 0x13000, kPage, hva), -EEXIST);
    EXPECT_EQ(set(1, 0, 64 * kPage, hva), -EEXIST);
    EXPECT_EQ(set(1, 0xf000, kPage, hva), 0);
    EXPECT_EQ(set(2, 0x14000, kPage, hva), 0); // the same host memory: allowed
}

TEST_F(Slots, ChangeAndMove)
{
    ASSERT_EQ(set(0, 0x10000, 4 * kPage, hva), 0);
    ASSERT_EQ(set(1, 0x20000, 4 * kPage, hva), 0);
    EXPECT_EQ(set(0, 0x10000, 4 * kPage, hva), 0); // nothing to do
    EXPECT_EQ(set(0, 0x10000, 5 * kPage, hva), -EINVAL);
    EXPECT_EQ(set(0, 0x10000, 3 * kPage, hva), -EINVAL);
    EXPECT_EQ(set(0, 0x10000, 4 * kPage, hva + kPage), -EINVAL);
    EXPECT_EQ(set(0, 0x1e000, 4 * kPage, hva), -EEXIST); // moved onto the other
    EXPECT_EQ(find(0x10), hva);
    EXPECT_EQ(set(0, 0x12000, 4 * kPage, hva), 0); // onto itself is fine
    EXPECT_EQ(find(0x11), std::nullopt);
    EXPECT_EQ(find(0x12), hva);
    EXPECT_EQ(find(0x15), hva + 3 * kPage);
    EXPECT_EQ(find(0x23), hva + 3 * kPage);
}

TEST_F(Slots, NoMemory)
{
    ASSERT_EQ(set(0, 0x10000, kPage, hva), 0);
    guest.machine.allocations_left = 0;
    EXPECT_EQ(set(1, 0x20000, kPage, hva), -ENOMEM);
    EXPECT_EQ(set(0, 0x30000, kPage, hva), -ENOMEM);
    EXPECT_EQ(find(0x10), hva);
    EXPECT_EQ(set(0, 0, 0, 0), 0); // the last one goes without
    guest.machine.allocations_left = -1;
}

TEST_F(Slots, AllOfThem)
{
    // Every other page of guest memory, backwards, so that each slot goes to the front.
    guest.kvm().ept.features.max_gfn = (u64{1} << 36) - 1;
    const auto start = std::chrono::steady_clock::now();
    for (u32 id = 0; id < kUserMemSlots; id++)
        ASSERT_EQ(set(id, u64{kUserMemSlots - id} * 2 * kPage, kPage, hva + id % 64 * kPage), 0);
    EXPECT_EQ(guest.kvm().slots.current->count(), kUserMemSlots);
    std::mt19937_64 random{3};
    for (unsigned i = 0; i < 100000; i++) {
        const u64 gfn = random() % (2 * kUserMemSlots + 10);
        const bool there = gfn % 2 == 0 && gfn >= 2 && gfn <= 2 * kUserMemSlots;
        ASSERT_EQ(find(gfn), there ? std::optional{hva + (kUserMemSlots - gfn / 2) % 64 * kPage}
                                   : std::nullopt);
    }
    for (u32 id = 0; id < kUserMemSlots; id += 1 + id % 3)
        ASSERT_EQ(set(id, 0, 0, 0), 0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds{20});
}

// ---- Against a model ----

struct Model {
    struct Slot {
        u64 gfn, pages, hva;
    };
    std::map<u32, Slot> slots;

    std::optional<u64> find(u64 gfn) const
    {
        for (const auto &[id, s] : slots) {
            if (gfn >= s.gfn && gfn < s.gfn + s.pages)
                return s.hva + (gfn - s.gfn) * kPage;
        }
        return std::nullopt;
    }
    bool overlaps(u32 id, const Slot &slot) const
    {
        return std::ranges::any_of(slots, [&](const auto &entry) {
            const auto &[other, s] = entry;
            return other != id && slot.gfn < s.gfn + s.pages && s.gfn < slot.gfn + slot.pages;
        });
    }
    int set(u32 id, const Slot &slot)
    {
        const auto old = slots.find(id);
        if (slot.pages == 0) {
            if (old == slots.end())
                return -EINVAL;
            slots.erase(old);
            return 0;
        }
        if (old != slots.end() && (old->second.pages != slot.pages || old->second.hva != slot.hva))
            return -EINVAL;
        if (overlaps(id, slot))
            return -EEXIST;
        slots[id] = slot;
        return 0;
    }
    std::map<std::pair<u64, u64>, u64> in_hva_range(u64 start, u64 end) const
    {
        std::map<std::pair<u64, u64>, u64> found;
        for (const auto &[id, s] : slots) {
            if (s.hva < end && s.hva + s.pages * kPage > start)
                found[{s.gfn, s.pages}] = s.hva;
        }
        return found;
    }
};

// A few slots that are changed all the time, and many, which fill several chunks.
class SlotsModel : public Slots, public testing::WithParamInterface<unsigned> {};
INSTANTIATE_TEST_SUITE_P(Slots, SlotsModel, testing::Values(40, 600));

TEST_P(SlotsModel, RandomUpdatesAgree)
{
    const u32 ids = GetParam();
    const u64 frames = u64{ids} * 10;
    std::mt19937_64 random{20};
    auto below = [&](u64 n) { return random() % n; };
    Model model;
    unsigned changed = 0;
    for (unsigned step = 0; step < 20000; step++) {
        const u32 id = static_cast<u32>(below(ids));
        Model::Slot slot = {below(frames), below(4) == 0 ? 0 : 1 + below(12),
                            hva + below(48) * kPage};
        const auto old = model.slots.find(id);
        if (old != model.slots.end() && slot.pages != 0 && below(4) != 0) {
            slot.pages = old->second.pages; // a move that may succeed
            slot.hva = old->second.hva;
        }
        const int expected = model.set(id, slot);
        ASSERT_EQ(set(id, slot.gfn * kPage, slot.pages * kPage, slot.hva), expected);
        changed += expected == 0;
        // And around it, where what the last lookup left behind may be of use.
        const u64 gfn = below(frames + 20);
        for (const u64 near : {gfn, gfn, gfn + 1, gfn + 3, gfn, gfn < 2 ? gfn : gfn - 2})
            ASSERT_EQ(find(near), model.find(near));

        const u64 start = hva + below(64) * kPage + below(2);
        const u64 end = start + 1 + below(3 * kPage);
        std::map<std::pair<u64, u64>, u64> found;
        if (guest.kvm().slots.current != nullptr) {
            guest.kvm().slots.current->for_each_in_hva_range(start, end, [&](const MemSlot &s) {
                EXPECT_TRUE(found.emplace(std::pair{s.base_gfn, s.npages}, s.hva).second);
            });
        }
        ASSERT_EQ(found, model.in_hva_range(start, end));
    }
    EXPECT_GT(changed, 5000u);
}

// ---- Readers ----

TEST_F(Slots, AnUpdateWaitsForReaders)
{
    ASSERT_EQ(set(0, 0x10000, kPage, hva), 0);
    auto reader = std::make_unique<SlotsReader>(guest.vmx());
    const MemSlot *slot = reader->find(0x10);
    unsigned waited = 0;
    guest.machine.on_relax = [&] {
        // The old slots are still there for the reader, though no longer current.
        EXPECT_FALSE(reader->current());
        EXPECT_EQ(slot->hva, hva);
        EXPECT_EQ(reader->find(0x10), slot);
        if (++waited == 3)
            reader.reset();
    };
    EXPECT_EQ(set(0, 0, 0, 0), 0);
    EXPECT_EQ(waited, 3u);
    EXPECT_EQ(find(0x10), std::nullopt);
}

TEST_F(Slots, NestedReadersSeeTheSameSlots)
{
    ASSERT_EQ(set(0, 0x10000, kPage, hva), 0);
    auto outer = std::make_unique<SlotsReader>(guest.vmx());
    unsigned waited = 0;
    guest.machine.on_relax = [&] {
        {
            SlotsReader inner{guest.vmx()};
            EXPECT_NE(inner.find(0x10), nullptr);
        }
        EXPECT_NE(outer->find(0x10), nullptr); // the inner one's end releases nothing
        if (++waited == 2)
            outer.reset();
    };
    EXPECT_EQ(set(0, 0, 0, 0), 0);
    EXPECT_EQ(waited, 2u);
}

TEST_F(Slots, AReaderOfOtherSlotsIsNotWaitedFor)
{
    ASSERT_EQ(set(0, 0x10000, kPage, hva), 0);
    guest.machine.on_relax = [] { FAIL() << "nobody reads"; };
    EXPECT_EQ(set(1, 0x20000, kPage, hva), 0);
}

} // namespace
} // namespace minivmx::test
