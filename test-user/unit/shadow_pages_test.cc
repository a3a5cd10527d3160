// SPDX-License-Identifier: GPL-2.0-only
//
// The shadow tables as a data structure. A guest of random tables, which point at each other and at
// themselves, is run by two CPUs with a TLB each, as hostile as the architecture allows: whatever a
// TLB may hold it holds. Everything that must be true of the structure is looked at after each
// step.
#include "guest.hpp"

#include "src/core/mmu/guest_walk.hpp"
#include "src/core/mmu/shadow_page.hpp"

#include <map>
#include <optional>
#include <random>
#include <set>

namespace minivmx::test {
namespace {

constexpr u64 kPage = 4096;

void no_ept(sim::Machine &, Parameters &parameters)
{
    parameters.ept = false;
}

// What must be true of all pages and entries, whatever happened.
class Checker {
  public:
    explicit Checker(const ShadowMmu &mmu) : mmu_{mmu} {}

    void check()
    {
        u32 count = 0;
        for (const ShadowPage *page = mmu_.oldest; page != nullptr; page = page->newer) {
            count++;
            pages_.insert(page);
            ASSERT_FALSE(page->zapped);
            ASSERT_EQ(page_by_number(mmu_, page->number), page);
            ASSERT_EQ(page->newer ? page->newer->older : mmu_.newest,
                      page->newer ? page : mmu_.newest);
        }
        ASSERT_EQ(count, mmu_.count);
        for (const ShadowPage *page : pages_)
            check_page(*page);
        check_lists();
    }

  private:
    const ShadowMmu &mmu_;
    std::set<const ShadowPage *> pages_;
    std::map<u64, std::set<SpteRef>> leaves_, large_;
    std::map<const ShadowPage *, std::set<SpteRef>> parents_;

    void check_page(const ShadowPage &page)
    {
        u32 used = 0;
        for (unsigned i = 0; i < kShadowEntries; i++) {
            const u64 entry = page.entries[i];
            if (entry == 0) {
                ASSERT_TRUE(page.role.direct() || page.guest[i] == 0);
                ASSERT_FALSE(is_marked_below(page, i));
                continue;
            }
            used++;
            ASSERT_TRUE(page.role.direct() || page.guest[i] != 0);
            if (has_child(page, i))
                check_child(page, i);
            else
                check_leaf(page, i);
        }
        ASSERT_EQ(used, page.used);
    }

    void check_child(const ShadowPage &page, unsigned i)
    {
        const ShadowPage &child = child_of(page, i);
        ASSERT_TRUE(pages_.contains(&child));
        ASSERT_EQ(child.role.level + 1, page.role.level);
        ASSERT_TRUE(!is_unsync(child) || is_marked_below(page, i));
        parents_[&child].insert(ref_of(page, i));
    }

    void check_leaf(const ShadowPage &page, unsigned i)
    {
        const u64 entry = page.entries[i];
        const u64 gfn = leaf_gfn(page, i);
        ASSERT_FALSE(is_marked_below(page, i));
        if (page.role.level > 1) {
            ASSERT_NE(entry & kSpteLarge, 0u);
            large_[gfn >> 9].insert(ref_of(page, i));
            ASSERT_TRUE(may_map_large(mmu_, gfn));
            return;
        }
        leaves_[gfn].insert(ref_of(page, i));
        ASSERT_TRUE((entry & kSpteWrite) == 0 || (entry & kSpteMayWrite) == kSpteMayWrite);
        // The invariant that all of this is about.
        ASSERT_TRUE((entry & kSpteWrite) == 0 || !is_protected(mmu_, gfn));
    }

    std::set<SpteRef> refs(SpteRef head) const
    {
        std::set<SpteRef> found;
        for (SpteRef ref = head; ref != 0; ref = next_ref(mmu_, ref))
            EXPECT_TRUE(found.insert(ref).second);
        return found;
    }

    void check_lists()
    {
        std::map<u64, std::set<u64>> tables_of_run;
        u64 listed = 0;
        mmu_.frames.for_each(0, u64{1} << 40, [&](u64 gfn, FrameInfo &info) {
            EXPECT_EQ(refs(info.leaf), leaves_[gfn]) << gfn;
            EXPECT_EQ(info.leaves, leaves_[gfn].size());
            EXPECT_LE(info.leaves, kMaxFrameLeaves);
            u32 shadowing = 0, all = 0;
            for (const ShadowPage *page = first_page(mmu_, info); page; page = page->frame_next) {
                EXPECT_EQ(page->gfn, gfn);
                shadowing += !page->role.direct();
                all++;
            }
            EXPECT_EQ(shadowing, info.shadowing);
            EXPECT_LE(all, kMaxFramePages);
            listed += all;
            if (shadowing != 0)
                tables_of_run[gfn >> 9].insert(gfn);
        });
        EXPECT_EQ(listed, mmu_.count);
        mmu_.runs.for_each(0, u64{1} << 31, [&](u64 run, FrameInfo &info) {
            EXPECT_EQ(refs(info.leaf), large_[run]);
            EXPECT_EQ(info.leaves, large_[run].size());
            EXPECT_EQ(info.shadowing, tables_of_run[run].size());
        });
        for (const ShadowPage *page : pages_) {
            EXPECT_EQ(refs(page->parents), parents_[page]);
            EXPECT_EQ(page->parent_count, parents_[page].size());
            EXPECT_LE(page->parent_count, kMaxParents);
        }
    }
};

// How a kind of guest tables looks.
struct Kind {
    const char *name;
    GuestTable table;
    u8 levels; // of shadow pages
};
constexpr Kind k64{"four levels", GuestTable::k64, 4}, kPae{"PAE", GuestTable::kPae, 2},
    k32{"32-bit", GuestTable::k32, 2};

// What a CPU remembers of a translation.
struct Cached {
    u64 gfn;
    bool writable, user, execute;
};
using Tlb = std::map<u64, Cached>; // by linear address

// A guest's entry on the way to an address.
struct Step {
    u64 table; // its frame
    u32 index;
    u64 value;
    u8 rights; // of this entry and those above
};
struct Walk {
    std::vector<Step> steps;
    bool large; // the last one is of level 2
    u64 gfn;    // of the address
    u8 rights;
};

class ShadowPagesTest : public testing::TestWithParam<Kind> {
  protected:
    static constexpr u64 kTables = 12, kRuns = 3, kFrames = kRuns * 512;

    Guest guest{"corei7_haswell_4770", no_ept};
    ShadowMmu &mmu = *guest.kvm().shadow;
    host_vm *host = &guest.host();
    ShadowStock stock{};
    ShadowPage *root = nullptr;
    Tlb tlbs[2];
    std::mt19937 random{1};
    u64 steps_done = 0;

    ShadowPagesTest()
    {
        guest.add_ram(0, 0, kFrames * kPage, 0, u64{2} << 20);
        guest.machine.on_request_all = [this](u32 requests) {
            if ((requests & VCPU_REQUEST_TLB_FLUSH) != 0)
                tlbs[0].clear(), tlbs[1].clear();
        };
    }
    ~ShadowPagesTest() override
    {
        if (root != nullptr) {
            ShadowChanges changes;
            release_root(mmu, *root, changes);
            finish(changes);
        }
        shadow_release(stock);
    }

    u32 pick(u32 n) { return static_cast<u32>(random() % n); }
    bool chance(u32 percent) { return pick(100) < percent; }

    // ---- The guest ----

    bool wide() const { return GetParam().table != GuestTable::k32; }
    u32 entry_size() const { return wide() ? 8 : 4; }
    u32 guest_index(u64 linear, unsigned level) const
    {
        return wide() ? shadow_index(linear, level)
                      : static_cast<u32>(linear >> (12 + 10 * (level - 1)) & 1023);
    }
    u64 read_entry(u64 gfn, u32 index)
    {
        return wide() ? guest.peek<u64>(gfn * kPage + index * 8)
                      : guest.peek<u32>(gfn * kPage + index * 4);
    }
    void write_entry(u64 gfn, u32 index, u64 value)
    {
        if (wide())
            guest.poke<u64>(gfn * kPage + index * 8, value);
        else
            guest.poke<u32>(gfn * kPage + index * 4, static_cast<u32>(value));
    }

    // Few indices, so that accesses meet.
    u64 some_linear()
    {
        static constexpr u64 kIndices[] = {0, 1, 2, 511};
        u64 linear = 0;
        for (unsigned level = 1; level <= GetParam().levels; level++) {
            const u64 range = !wide() && level == 2 ? 1 : 0;
            linear |= kIndices[pick(4)] << (12 + 9 * (level - 1));
            linear |= range & (u64{pick(2)} << 30);
        }
        return wide() ? linear : linear & 0x7fffffff;
    }

    u64 some_entry(unsigned level)
    {
        u64 value = chance(90) ? kPtePresent : 0;
        value |= chance(85) ? kPteWritable : 0;
        value |= chance(85) ? kPteUser : 0;
        value |= chance(50) ? kPteAccessed : 0;
        value |= chance(50) ? kPteDirty : 0;
        if (wide() && chance(10))
            value |= kPteNoExecute;
        if (level == 2 && chance(25)) // 4 MiB pages begin at an even run
            return value | kPtePageSize | u64{pick(kRuns)} << (wide() ? 21 : 22);
        const u64 gfn = level > 1 || chance(30) ? pick(kTables) : pick(kFrames);
        return value | gfn << 12;
    }

    u64 leaf_base(u64 entry, bool large) const
    {
        if (!large)
            return wide() ? (entry & kSpteAddressMask) >> 12 : (entry & 0xfffff000) >> 12;
        return wide() ? (entry & kSpteAddressMask) >> 12 & ~u64{511} : (entry & 0xffc00000) >> 12;
    }

    static u8 rights_of(u64 entry)
    {
        return static_cast<u8>((entry & kPteWritable ? kRightWrite : 0) |
                               (entry & kPteUser ? kRightUser : 0) |
                               (entry & kPteNoExecute ? 0 : kRightExecute));
    }

    // As the CPU walks, setting flags. Nothing: the guest's own page fault.
    std::optional<Walk> walk(u64 linear, bool write, bool set_flags)
    {
        Walk w{{}, false, 0, kRightsAll};
        u64 table = 0; // CR3
        for (unsigned level = GetParam().levels; level > 0; level--) {
            const u32 index = guest_index(linear, level);
            u64 entry = read_entry(table, index);
            if ((entry & kPtePresent) == 0)
                return {};
            const bool large = level == 2 && (entry & kPtePageSize) != 0;
            if (level > 2 && (entry & kPtePageSize) != 0)
                return {};
            w.rights &= rights_of(entry);
            w.steps.push_back({table, index, entry, w.rights});
            const u64 base = leaf_base(entry, large);
            if (large || level == 1) {
                const u64 mask = large ? (wide() ? 511 : 1023) : 0;
                w.large = large;
                w.gfn = base | (linear >> 12 & mask);
                break;
            }
            table = base;
            if (table >= kFrames)
                return {};
        }
        if (w.gfn >= kFrames || (write && (w.rights & kRightWrite) == 0))
            return {};
        for (Step &step : w.steps) {
            const bool last = &step == &w.steps.back();
            const u64 flags = kPteAccessed | (last && write ? kPteDirty : 0);
            if (set_flags && (step.value & flags) != flags)
                write_entry(step.table, step.index, read_entry(step.table, step.index) | flags);
            if (!set_flags && (step.value & kPteAccessed) == 0)
                return {};
            step.value |= set_flags ? flags : 0;
        }
        return w;
    }

    // ---- The hypervisor ----

    ShadowRole role_at(unsigned level, u8 rights, u64 linear) const
    {
        ShadowRole role{};
        role.level = static_cast<u8>(level);
        role.table = GetParam().table;
        role.rights = rights;
        role.write_protect = role.nxe = true;
        if (!wide())
            role.quadrant = static_cast<u8>(level == 2 ? linear >> 30 & 3 : linear >> 21 & 1);
        return role;
    }

    void finish(ShadowChanges &changes)
    {
        shadow_finish(mmu, changes);
        shadow_free(changes);
    }

    // Finds the root again if need be.
    bool ensure_root(u64 linear)
    {
        const ShadowRole role = role_at(GetParam().levels, kRightsAll, linear);
        ShadowChanges changes;
        ShadowPage *found = find_or_make(mmu, stock, 0, role, changes);
        if (found != root) {
            if (root != nullptr)
                release_root(mmu, *root, changes);
            root = found;
            if (root != nullptr)
                hold_root(*root);
            // A CPU that loads another root flushes and compares.
            sync_all(changes);
            tlbs[0].clear(), tlbs[1].clear();
        }
        finish(changes);
        return root != nullptr;
    }

    void sync_all(ShadowChanges &changes)
    {
        u64 cursor = 0;
        while (root != nullptr && sync_below(mmu, *root, cursor, changes))
            finish(changes);
    }

    u64 spte_for(const Walk &w, bool write) const
    {
        const bool dirty = (w.steps.back().value & kPteDirty) != 0;
        u64 spte = kSptePresent | kSpteAccessed | kSpteOwnerWritable | (w.gfn + 0x100000) << 12;
        if ((w.rights & kRightWrite) != 0 && dirty)
            spte |= kSpteGuestWritable | kSpteWrite;
        if ((w.rights & kRightUser) != 0)
            spte |= kSpteUser;
        if ((w.rights & kRightExecute) == 0)
            spte |= kSpteNoExecute;
        (void)write;
        return spte;
    }

    // One attempt of a fault handler; false: again with a full stock.
    bool enter(u64 linear, const Walk &w, bool write, bool wants_large)
    {
        ShadowChanges changes;
        make_room(mmu, changes);
        if (write)
            mark_unsync(mmu, w.gfn);
        const bool done = descend(linear, w, write, wants_large, changes);
        finish(changes);
        return done;
    }

    bool descend(u64 linear, const Walk &w, bool write, bool wants_large, ShadowChanges &changes)
    {
        ShadowPage *page = root;
        const unsigned large_level = 2;
        for (;;) {
            const unsigned level = page->role.level, index = shadow_index(linear, level);
            const bool direct = page->role.direct();
            const Step *step = direct ? nullptr : &w.steps[GetParam().levels - level];
            const u64 now = direct ? 0 : step->value;
            const bool guest_leaf = direct || step == &w.steps.back();
            u64 spte = spte_for(w, write);
            if (level == 1 ||
                (guest_leaf && level == large_level && wants_large && may_map_large(mmu, w.gfn))) {
                if (level == large_level)
                    spte = (spte & ~(u64{511} << 12)) | kSpteLarge;
                return set_leaf(mmu, stock, *page, index, spte, now);
            }
            ShadowRole role{};
            u64 gfn;
            if (guest_leaf) {
                role.level = static_cast<u8>(level - 1);
                role.rights = static_cast<u8>(
                    w.rights & ((now & kPteDirty) != 0 ? kRightsAll : kRightsAll & ~kRightWrite));
                gfn = w.gfn & ~u64{511};
            } else {
                role = role_at(level - 1, step->rights, linear);
                gfn = step[1].table;
            }
            if (has_child(*page, index)) {
                ShadowPage &child = child_of(*page, index);
                if (child.gfn == gfn && child.role == role &&
                    same_guest_entry(page->role, page->guest[index], now, guest_leaf)) {
                    touch(mmu, child);
                    page = &child;
                    continue;
                }
            }
            ShadowPage *child = find_or_make(mmu, stock, gfn, role, changes);
            if (child == nullptr)
                return false;
            shadow_finish(mmu, changes);
            clear_entry(mmu, *page, index);
            if (!link_child(mmu, *page, index, *child, now))
                return false;
            page = child;
        }
    }

    // A CPU's access. False: the guest's own page fault.
    bool access(Tlb &tlb, u64 linear, bool write, u64 &gfn)
    {
        const auto cached = tlb.find(linear >> 12);
        if (cached != tlb.end() && (!write || cached->second.writable)) {
            gfn = cached->second.gfn;
            return true;
        }
        for (unsigned attempt = 0; attempt < 200; attempt++) {
            if (look_up(tlb, linear, write, gfn))
                return true;
            const auto w = walk(linear, write, true);
            if (!w) {
                tlb.erase(linear >> 12); // SDM Vol. 3A, 4.10.4.1: a fault forgets the address
                return false;
            }
            EXPECT_TRUE(shadow_fill(stock));
            if (ensure_root(linear))
                (void)enter(linear, *w, write, chance(50));
            tlb.erase(linear >> 12);
        }
        ADD_FAILURE() << "no progress";
        return false;
    }

    // The CPU's own walk through the shadow tables.
    bool look_up(Tlb &tlb, u64 linear, bool write, u64 &gfn)
    {
        const ShadowPage *page = root;
        if (page == nullptr || page->zapped || is_obsolete(mmu, *page) ||
            page->role != role_at(GetParam().levels, kRightsAll, linear))
            return false;
        while (has_child(*page, shadow_index(linear, page->role.level)))
            page = &child_of(*page, shadow_index(linear, page->role.level));
        u64 &entry = page->entries[shadow_index(linear, page->role.level)];
        if (entry == 0 || (write && (entry & kSpteWrite) == 0))
            return false;
        entry |= kSpteAccessed;
        gfn = leaf_gfn(*page, shadow_index(linear, page->role.level));
        if (page->role.level > 1)
            gfn |= linear >> 12 & 511;
        tlb[linear >> 12] = {gfn, (entry & kSpteWrite) != 0, (entry & kSpteUser) != 0,
                             (entry & kSpteNoExecute) == 0};
        return true;
    }

    // ---- What must be true ----

    // A CPU that may still write a frame doesn't make that of a protected table.
    void check_tlbs()
    {
        for (const Tlb &tlb : tlbs) {
            for (const auto &[page, cached] : tlb)
                ASSERT_TRUE(!cached.writable || !is_protected(mmu, cached.gfn));
        }
    }

    void check()
    {
        Checker{mmu}.check();
        check_tlbs();
    }

    // What the shadow tables say of the address the guest's tables say, too.
    void check_translation(u64 linear)
    {
        Tlb none;
        u64 gfn;
        if (!look_up(none, linear, false, gfn))
            return;
        const auto w = walk(linear, false, false);
        ASSERT_TRUE(w) << std::hex << linear;
        ASSERT_EQ(gfn, w->gfn);
        const Cached &cached = none.begin()->second;
        ASSERT_TRUE(!cached.writable || (w->rights & kRightWrite) != 0);
        ASSERT_TRUE(!cached.user || (w->rights & kRightUser) != 0);
        ASSERT_TRUE(!cached.execute || (w->rights & kRightExecute) != 0);
        ASSERT_TRUE(!cached.writable || (w->steps.back().value & kPteDirty) != 0);
    }

    // ---- What happens ----

    // One bit of an entry, or all of it.
    void change_an_entry(u64 gfn)
    {
        const unsigned level = 1 + pick(GetParam().levels);
        const u32 index = guest_index(some_linear(), level);
        const u64 bits[] = {kPtePresent,
                            kPteWritable,
                            kPteUser,
                            kPteAccessed,
                            kPteDirty,
                            u64{1} << 12,
                            wide() ? kPteNoExecute : 0};
        if (chance(60))
            write_entry(gfn, index, read_entry(gfn, index) ^ bits[pick(7)]);
        else
            write_entry(gfn, index, some_entry(level));
    }

    void guest_writes_an_entry()
    {
        // Through whatever address leads to a frame; a table as a rule.
        u64 gfn;
        Tlb &tlb = tlbs[pick(2)];
        const u64 linear = some_linear();
        if (!access(tlb, linear, true, gfn))
            return;
        ASSERT_FALSE(is_protected(mmu, gfn));
        change_an_entry(gfn);
    }

    // Someone outside, as a device: the hypervisor says so.
    void hypervisor_writes_an_entry()
    {
        const u64 gfn = pick(kTables);
        change_an_entry(gfn);
        shadow_note_write(guest.kvm(), gfn);
    }

    void guest_flushes()
    {
        tlbs[pick(2)].clear();
        ShadowChanges changes;
        if (root != nullptr && !root->zapped && !is_obsolete(mmu, *root))
            sync_all(changes);
        finish(changes);
        for (unsigned i = 0; i < 64; i++)
            check_translation(some_linear());
    }

    void guest_flushes_one()
    {
        const u64 linear = some_linear();
        tlbs[pick(2)].erase(linear >> 12);
        if (root != nullptr && !root->zapped && !is_obsolete(mmu, *root) &&
            root->role == role_at(GetParam().levels, kRightsAll, linear))
            sync_linear(mmu, *root, linear);
        check_translation(linear);
    }

    void owner_takes_frames()
    {
        const u64 first = pick(kFrames), end = first + 1 + pick(chance(20) ? 600 : 4);
        host_mmu_lock(host);
        if (shadow_unmap_gfns(guest.kvm(), first, end))
            host_request_all(host, VCPU_REQUEST_TLB_FLUSH);
        host_mmu_unlock(host);
        for (const Tlb &tlb : tlbs) {
            for (const auto &[page, cached] : tlb)
                ASSERT_FALSE(cached.gfn >= first && cached.gfn < end);
        }
    }

    void owner_watches_writes()
    {
        const u64 first = pick(kFrames), end = first + 1 + pick(300);
        if (shadow_watch_writes(guest.kvm(), first, end))
            host_request_all(host, VCPU_REQUEST_TLB_FLUSH);
        for (const Tlb &tlb : tlbs) {
            for (const auto &[page, cached] : tlb)
                ASSERT_FALSE(cached.gfn >= first && cached.gfn < end && cached.writable);
        }
    }

    void owner_looks_at_age()
    {
        const u64 first = pick(kFrames), end = first + 1 + pick(300);
        (void)shadow_age_gfns(guest.kvm(), first, end, true);
        ASSERT_FALSE(shadow_age_gfns(guest.kvm(), first, end, false));
    }

    void everything_goes()
    {
        host_mmu_lock(host);
        shadow_obsolete_all(guest.kvm());
        host_request_all(host, VCPU_REQUEST_TLB_FLUSH);
        host_mmu_unlock(host);
        if (chance(50))
            shadow_free_obsolete(guest.kvm());
    }

    void step()
    {
        const u32 dice = pick(1000);
        u64 gfn;
        if (dice < 500)
            (void)access(tlbs[pick(2)], some_linear(), chance(40), gfn);
        else if (dice < 800)
            guest_writes_an_entry();
        else if (dice < 840)
            hypervisor_writes_an_entry();
        else if (dice < 880)
            guest_flushes();
        else if (dice < 930)
            guest_flushes_one();
        else if (dice < 950)
            owner_takes_frames();
        else if (dice < 970)
            owner_watches_writes();
        else if (dice < 980)
            owner_looks_at_age();
        else if (dice < 990)
            (void)shadow_shrink(guest.kvm(), 1 + pick(8));
        else if (dice < 993)
            everything_goes();
        else if (dice < 996)
            shadow_forget_gfns(guest.kvm(), 0, kFrames);
        else
            guest.kvm().mmu_pages.limit = 64 + pick(64);
    }

    void make_tables()
    {
        for (u64 gfn = 0; gfn < kTables; gfn++) {
            for (u32 i = 0; i < kPage / entry_size(); i++)
                write_entry(gfn, i, 0);
            for (u64 linear : {u64{0}, some_linear(), some_linear(), some_linear()}) {
                for (unsigned level = 1; level <= GetParam().levels; level++)
                    write_entry(gfn, guest_index(linear, level), some_entry(level));
            }
        }
    }
};

TEST_P(ShadowPagesTest, WhateverTheGuestDoes)
{
    for (u32 seed = 1; seed <= 16; seed++) {
        random.seed(seed);
        make_tables();
        everything_goes();
        for (unsigned i = 0; i < 500; i++) {
            step();
            if (i % 8 == 0)
                check();
            check_tlbs();
            if (HasFatalFailure() || HasFailure()) {
                ADD_FAILURE() << "seed " << seed << " step " << i;
                return;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, ShadowPagesTest, testing::Values(k64, kPae, k32),
                         [](const auto &info) {
                             return std::string(info.param.table == GuestTable::k64    ? "Wide"
                                                : info.param.table == GuestTable::kPae ? "Pae"
                                                                                       : "Narrow");
                         });

} // namespace
} // namespace minivmx::test
