// SPDX-License-Identifier: GPL-2.0-only
//
// The shadow tables' limits: what a guest builds to make the hypervisor slow or large costs it
// speed, and what goes on without it.
#include "guest.hpp"

#include "src/core/mmu/guest_walk.hpp"
#include "src/core/mmu/shadow_page.hpp"

namespace minivmx::test {
namespace {

constexpr u64 kPage = 4096;
constexpr u64 kTable = kPtePresent | kPteWritable | kPteUser | kPteAccessed;
constexpr u64 kLeaf = kTable | kPteDirty;

void no_ept(sim::Machine &, Parameters &parameters)
{
    parameters.ept = false;
}

class ShadowLimitsTest : public testing::Test {
  protected:
    static constexpr u64 kFrames = 16384;

    Guest guest{"corei7_haswell_4770", no_ept};
    sim::Machine &machine = guest.machine;
    ShadowMmu &mmu = *guest.kvm().shadow;
    ShadowStock stock{};
    ShadowChanges changes;
    u64 flushes = 0;

    ShadowLimitsTest()
    {
        guest.add_ram(0, 0, kFrames * kPage, 0, u64{2} << 20);
        guest.kvm().mmu_pages.limit = 100000;
    }
    ~ShadowLimitsTest() override
    {
        finish();
        shadow_release(stock);
    }

    void finish()
    {
        flushes += changes.flush;
        shadow_finish(mmu, changes);
        shadow_free(changes);
    }

    static ShadowRole role(unsigned level, u8 rights = kRightsAll)
    {
        ShadowRole r{};
        r.level = static_cast<u8>(level);
        r.table = GuestTable::k64;
        r.rights = rights;
        r.write_protect = r.nxe = true;
        return r;
    }

    // As a fault does, with as many attempts as it takes.
    ShadowPage &page(u64 gfn, unsigned level, u8 rights = kRightsAll)
    {
        for (unsigned i = 0; i < 10; i++) {
            EXPECT_TRUE(shadow_fill(stock));
            ShadowPage *found = find_or_make(mmu, stock, gfn, role(level, rights), changes);
            finish();
            if (found != nullptr)
                return *found;
        }
        throw std::runtime_error("no shadow page");
    }
    void link(ShadowPage &parent, unsigned index, ShadowPage &child)
    {
        const u64 entry = child.gfn << 12 | kTable;
        guest.poke<u64>(parent.gfn * kPage + index * 8, entry);
        unsigned attempts = 0;
        while (!link_child(mmu, parent, index, child, entry))
            ASSERT_LT(attempts++, 10000u);
    }
    void map(ShadowPage &table, unsigned index, u64 gfn, u64 guest_entry = kLeaf)
    {
        guest_entry |= gfn << 12;
        guest.poke<u64>(table.gfn * kPage + index * 8, guest_entry);
        const u64 spte =
            (gfn + 0x100000) << 12 | kSptePresent | kSpteUser | kSpteMayWrite | kSpteWrite;
        for (unsigned i = 0; i < 10; i++) {
            EXPECT_TRUE(shadow_fill(stock));
            if (set_leaf(mmu, stock, table, index, spte, guest_entry))
                return;
        }
        FAIL() << "no leaf";
    }
    const FrameInfo &info(u64 gfn) { return *mmu.frames.find(gfn); }
    static bool writable(const ShadowPage &table, unsigned index)
    {
        return (table.entries[index] & kSpteWrite) != 0;
    }
    u64 sync(ShadowPage &root)
    {
        u64 cursor = 0, turns = 1;
        while (sync_below(mmu, root, cursor, changes)) {
            finish();
            turns++;
        }
        finish();
        return turns;
    }
};

TEST_F(ShadowLimitsTest, AFrameThatManyEntriesMap)
{
    const u64 gfn = 9000;
    for (u64 table = 0; table < 8; table++) {
        ShadowPage &p = page(table, 1);
        for (unsigned i = 0; i < kShadowEntries; i++) {
            map(p, i, gfn);
            ASSERT_NE(p.entries[i], 0u);
            ASSERT_LE(info(gfn).leaves, kMaxFrameLeaves);
        }
    }
    // Those that went may still be cached: nobody takes the frame without a flush.
    EXPECT_TRUE(mmu.unflushed);
    EXPECT_TRUE(shadow_unmap_gfns(guest.kvm(), gfn, gfn + 1));
    EXPECT_EQ(info(gfn).leaf, 0u);
    EXPECT_EQ(page(0, 1).used, 0u);
}

TEST_F(ShadowLimitsTest, ATableThatManyEntriesLeadTo)
{
    ShadowPage &child = page(100, 1);
    for (u64 table = 0; table < 4; table++) {
        ShadowPage &p = page(table, 2);
        for (unsigned i = 0; i < kShadowEntries; i++) {
            link(p, i, child);
            ASSERT_TRUE(has_child(p, i));
            ASSERT_LE(child.parent_count, kMaxParents);
        }
    }
    mark_unsync(mmu, 100);
    EXPECT_TRUE(child.unsync);
    for (SpteRef ref = child.parents; ref != 0; ref = next_ref(mmu, ref))
        ASSERT_TRUE(is_marked_below(page_of(mmu, ref), ref % kShadowEntries));
}

TEST_F(ShadowLimitsTest, AFrameThatIsManyTables)
{
    u32 made = 0;
    for (unsigned level = 1; level <= 4; level++) {
        for (u8 rights = 0; rights <= kRightsAll; rights++) {
            for (const bool nxe : {false, true}) {
                ShadowRole r = role(level, rights);
                r.nxe = nxe;
                ASSERT_TRUE(shadow_fill(stock));
                ASSERT_NE(find_or_make(mmu, stock, 5, r, changes), nullptr);
                finish();
                made++;
            }
        }
    }
    EXPECT_EQ(made, 64u);
    EXPECT_EQ(mmu.count, kMaxFramePages);
    EXPECT_EQ(info(5).shadowing, kMaxFramePages);
}

// A page with many ancestors: marking them all at once would take too long.
TEST_F(ShadowLimitsTest, ATableFarBelowManyRoots)
{
    ShadowPage &child = page(8000, 1);
    std::vector<ShadowPage *> middle, roots;
    for (u64 i = 0; i < 64; i++)
        middle.push_back(&page(i, 3));
    for (u64 i = 0; i < 64; i++)
        roots.push_back(&page(100 + i, 4));
    for (u64 i = 0; i < 64; i++) {
        ShadowPage &lower = page(200 + i, 2);
        for (unsigned k = 0; k < 16; k++)
            link(lower, k, child);
        for (unsigned k = 0; k < 8; k++)
            link(*middle[i], 8 + k, lower);
        for (u64 k = 0; k < 64; k++)
            link(*roots[k], static_cast<unsigned>(i), *middle[i]);
    }
    const u32 parents = child.parent_count;
    mark_unsync(mmu, 8000);
    EXPECT_LT(child.parent_count, parents) << "some were easier cut off than marked";
    EXPECT_GT(child.parent_count, 0u);
    // Whoever still reaches it will see that it is to be compared.
    for (ShadowPage *root : roots) {
        for (unsigned i = 0; i < kShadowEntries; i++) {
            if (!has_child(*root, i))
                continue;
            ShadowPage &third = child_of(*root, i);
            ASSERT_TRUE(!is_unsync(third) || is_marked_below(*root, i));
            for (unsigned k = 0; k < kShadowEntries; k++) {
                ASSERT_TRUE(!has_child(third, k) || !is_unsync(child_of(third, k)) ||
                            is_marked_below(third, k));
            }
        }
    }
    for (SpteRef ref = child.parents; ref != 0; ref = next_ref(mmu, ref))
        ASSERT_TRUE(is_marked_below(page_of(mmu, ref), ref % kShadowEntries));
}

TEST_F(ShadowLimitsTest, ComparesInTurnsAndEnds)
{
    ShadowPage &root = page(0, 4), &third = page(1, 3);
    link(root, 0, third);
    for (u64 i = 0; i < 4; i++) {
        ShadowPage &second = page(2 + i, 2);
        link(third, static_cast<unsigned>(i), second);
        for (u64 k = 0; k < 64; k++) {
            ShadowPage &first = page(16 + i * 64 + k, 1);
            link(second, static_cast<unsigned>(k), first);
            map(first, 0, 9000);
            mark_unsync(mmu, first.gfn);
        }
    }
    u64 cursor = 0, turns = 1;
    while (sync_below(mmu, root, cursor, changes)) {
        finish();
        ASSERT_LT(turns++, 100u);
        // Another CPU goes on writing to the first table: that is not ours to wait for.
        mark_unsync(mmu, 16);
    }
    finish();
    EXPECT_GE(turns, 256u / 16);
    EXPECT_TRUE(is_unsync(root));
    (void)sync(root);
    EXPECT_FALSE(is_unsync(root));
}

TEST_F(ShadowLimitsTest, MemoryIsBoundedByTheLimit)
{
    guest.kvm().mmu_pages.limit = 64;
    ShadowPage &root = page(0, 4);
    hold_root(root);
    u64 most = 0;
    for (u64 i = 1; i < 8000; i++) {
        ASSERT_TRUE(shadow_fill(stock));
        make_room(mmu, changes);
        ShadowPage *p = find_or_make(mmu, stock, i, role(1), changes);
        finish();
        ASSERT_NE(p, nullptr);
        map(*p, 0, i + 8000);
        ASSERT_LE(mmu.count, 64u);
        most = machine.pages.size() > most ? machine.pages.size() : most;
    }
    // Three pages each, the maps of 16000 frames in nodes of 256, and a few.
    EXPECT_LT(most, 64u * 3 + 16000 / 256 + 60);
    EXPECT_TRUE(root.zapped);
    EXPECT_EQ(page(7999, 1).used, 1u) << "the youngest is still there";

    const u64 count = mmu.count;
    EXPECT_EQ(shadow_shrink(guest.kvm(), 7), 7u);
    EXPECT_EQ(shadow_shrink(guest.kvm(), 1000), count - 7);
    EXPECT_EQ(shadow_page_count(guest.kvm()), 0u);
    const u64 before = machine.pages.size();
    shadow_forget_gfns(guest.kvm(), 0, kFrames);
    EXPECT_LT(machine.pages.size(), before - 60) << "the maps of the frames";
    release_root(mmu, root, changes);
    finish();
}

TEST_F(ShadowLimitsTest, ALowerLimitIsEnforced)
{
    for (u64 i = 0; i < 500; i++)
        (void)page(i, 1);
    EXPECT_EQ(core_set_nr_mmu_pages(guest.host().core, 63), -EINVAL);
    EXPECT_EQ(core_set_nr_mmu_pages(guest.host().core, 100), 0);
    EXPECT_EQ(core_mmu_shadow_pages(guest.host().core), 100u);
    EXPECT_EQ(find_page(mmu, 0, role(1)), nullptr);
    EXPECT_NE(find_page(mmu, 499, role(1)), nullptr);
}

TEST_F(ShadowLimitsTest, ARootInUseOutlivesItsTables)
{
    ShadowPage &root = page(0, 4);
    hold_root(root);
    link(root, 3, page(1, 3));
    zap_page(mmu, root, changes);
    finish();
    EXPECT_TRUE(root.zapped);
    EXPECT_EQ(root.entries[3], 0u);
    EXPECT_NE(&page(0, 4), &root);
    const auto pages = machine.pages.size();
    release_root(mmu, root, changes);
    finish();
    EXPECT_LT(machine.pages.size(), pages);
}

TEST_F(ShadowLimitsTest, ANewTableIsProtectedEvenFromWhatOnlyACpuRemembers)
{
    ShadowPage &table = page(1, 1);
    map(table, 7, 500);
    finish();
    ASSERT_TRUE(writable(table, 7));
    clear_entry(mmu, table, 7); // the guest's flush on one CPU; another may still write
    flushes = 0;
    (void)page(500, 1);
    EXPECT_EQ(flushes, 1u);

    map(table, 8, 501);
    flushes = 0;
    (void)page(501, 1);
    EXPECT_EQ(flushes, 1u);
    EXPECT_FALSE(writable(table, 8));
    flushes = 0;
    (void)page(502, 1);
    EXPECT_EQ(flushes, 0u) << "nothing mapped it";
}

TEST_F(ShadowLimitsTest, WatchedWritesAreNotForgottenByTheNextProtection)
{
    ShadowPage &table = page(1, 1);
    map(table, 7, 500);
    EXPECT_TRUE(shadow_watch_writes(guest.kvm(), 500, 501)); // its flush comes after the lock
    flushes = 0;
    (void)page(500, 1);
    EXPECT_EQ(flushes, 1u);
}

TEST_F(ShadowLimitsTest, LargePagesGiveWayToTables)
{
    ShadowPage &second = page(1, 2);
    const u64 entry = u64{512} << 12 | kLeaf | kPtePageSize;
    guest.poke<u64>(kPage, entry);
    const u64 spte = u64{0x100000} << 12 | kSptePresent | kSpteLarge | kSpteMayWrite | kSpteWrite;
    ASSERT_TRUE(shadow_fill(stock));
    ASSERT_TRUE(set_leaf(mmu, stock, second, 0, spte, entry));
    EXPECT_TRUE(may_map_large(mmu, 700));
    flushes = 0;
    ShadowPage &table = page(700, 1);
    EXPECT_EQ(flushes, 1u);
    EXPECT_EQ(second.entries[0], 0u);
    EXPECT_FALSE(may_map_large(mmu, 600));
    EXPECT_FALSE(set_leaf(mmu, stock, second, 0, spte, entry));
    EXPECT_EQ(second.guest[0], 0u);
    zap_page(mmu, table, changes);
    finish();
    EXPECT_TRUE(set_leaf(mmu, stock, second, 0, spte, entry));
}

// What the guest only allowed less or more of stays mapped, and what it means otherwise goes.
TEST_F(ShadowLimitsTest, ComparedEntriesAreAdapted)
{
    ShadowPage &root = page(0, 4), &third = page(1, 3), &second = page(2, 2), &table = page(3, 1);
    link(root, 0, third);
    link(third, 0, second);
    link(second, 0, table);
    const u64 changed[] = {
        500u << 12 | (kLeaf & ~kPteWritable),
        500u << 12 | (kLeaf & ~kPteDirty),
        500u << 12 | (kLeaf & ~kPteUser),
        500u << 12 | kLeaf | kPteNoExecute,
        501u << 12 | kLeaf,
        500u << 12 | (kLeaf & ~kPteAccessed),
        500u << 12 | kLeaf | kPteGlobal,
        0,
    };
    for (unsigned i = 0; i < std::size(changed); i++)
        map(table, i, 500);
    mark_unsync(mmu, 3);
    for (unsigned i = 0; i < std::size(changed); i++)
        guest.poke<u64>(3 * kPage + i * 8, changed[i]);
    EXPECT_EQ(sync(root), 1u);
    EXPECT_FALSE(writable(table, 0));
    EXPECT_TRUE(table.entries[0] & kSptePresent);
    EXPECT_FALSE(writable(table, 1));
    EXPECT_EQ(table.entries[1] & kSpteMayWrite, kSpteOwnerWritable);
    EXPECT_TRUE(table.entries[1] & kSptePresent);
    EXPECT_EQ(table.entries[2] & (kSptePresent | kSpteUser), kSptePresent);
    EXPECT_EQ(table.entries[3] & (kSptePresent | kSpteNoExecute), kSptePresent | kSpteNoExecute);
    EXPECT_EQ(table.entries[4], 0u);
    EXPECT_EQ(table.entries[5], 0u);
    EXPECT_TRUE(writable(table, 6));
    EXPECT_EQ(table.entries[7], 0u);
}

TEST_F(ShadowLimitsTest, ATableThatCannotBeReadIsForgotten)
{
    ShadowPage &root = page(0, 4), &third = page(1, 3);
    link(root, 0, third);
    mark_unsync(mmu, 0);
    machine.on_read_atomic = [](u64) { return false; };
    EXPECT_EQ(sync(root), 1u);
    EXPECT_EQ(root.used, 0u);
    EXPECT_FALSE(is_unsync(root));

    machine.on_read_atomic = {};
    link(root, 0, third);
    mark_unsync(mmu, 0);
    machine.on_read_atomic = [](u64) { return false; };
    sync_linear(mmu, root, 0);
    EXPECT_EQ(root.used, 0u);
}

TEST_F(ShadowLimitsTest, WithoutMemoryNothingIsHalfDone)
{
    EXPECT_EQ(find_or_make(mmu, stock, 7, role(1), changes), nullptr);
    // One page more at a time, as if others took them.
    for (u32 nodes = 0; nodes < 12; nodes++) {
        machine.allocations_left = static_cast<int>(4 * ShadowStock::kBlanks + nodes);
        EXPECT_FALSE(shadow_fill(stock));
        machine.allocations_left = -1;
        if (ShadowPage *p = find_or_make(mmu, stock, 1000 * nodes, role(1), changes)) {
            (void)set_leaf(mmu, stock, *p, 0, kSptePresent, u64{13000} << 12 | kLeaf);
            EXPECT_EQ(p->used, p->entries[0] != 0 ? 1u : 0u);
            EXPECT_EQ(p->guest[0] != 0, p->entries[0] != 0);
        }
        finish();
        shadow_release(stock);
    }
}

TEST_F(ShadowLimitsTest, SlotsThatGoTakeAllAlong)
{
    ShadowPage &root = page(0, 4);
    hold_root(root);
    link(root, 0, page(1, 3));
    const u64 generation = mmu.generation;
    const u64 asked = machine.flush_calls;
    ASSERT_EQ(guest.set_region(0, 0, 0, 0), 0);
    EXPECT_NE(mmu.generation, generation);
    EXPECT_GT(machine.flush_calls, asked);
    EXPECT_EQ(mmu.count, 0u);
    EXPECT_EQ(mmu.frames.find(0), nullptr) << "and nothing is remembered of its frames";
    EXPECT_TRUE(root.zapped);
    release_root(mmu, root, changes);
}

TEST_F(ShadowLimitsTest, WhenTheOwnersMemoryGoesNothingIsMadeAnyMore)
{
    ShadowPage &root = page(0, 4);
    hold_root(root);
    link(root, 0, page(1, 3));
    host_mmu_lock(&guest.host());
    core_mmu_zap_all(guest.host().core);
    host_mmu_unlock(&guest.host());
    EXPECT_EQ(root.entries[0], 0u);
    ASSERT_TRUE(shadow_fill(stock));
    EXPECT_EQ(find_or_make(mmu, stock, 2, role(1), changes), nullptr);
    EXPECT_TRUE(machine.unmap_user(guest.host(), 0, ~u64{0}));
    release_root(mmu, root, changes);
}

} // namespace
} // namespace minivmx::test
