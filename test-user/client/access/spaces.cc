// SPDX-License-Identifier: GPL-2.0-only
//
// Groups with more than one address space, with tables that map themselves, with accesses to two
// pages, and the PDPTEs of PAE paging.
#include "access_test.hpp"

using namespace paging;

namespace {

// Copies the root: the guest's own mappings, and an entry under test that leads to the second
// tables.
uint64_t second_root(Runner &run)
{
    memcpy(run.memory.base + A_ROOTS, run.memory.base + G_TABLES, kvm::kPage);
    memcpy(run.model.memory.data() + A_ROOTS, run.memory.base + G_TABLES, kvm::kPage);
    return A_ROOTS;
}

// Moves a case into the second address space.
void use_second(Runner &run, Case &c, uint64_t root)
{
    const uint32_t in_root = run.entry_at(run.levels) - G_TABLES;
    c.cr3 = root;
    c.at[run.levels - 1] = static_cast<uint32_t>(root) + in_root;
    for (unsigned level = 1; level < run.levels; level++)
        c.at[level - 1] = run.entry_at(level, 1);
    for (unsigned level = 2; level <= run.levels; level++)
        c.entry[level - 1] = run.permissive(level, false, 1);
}

uint64_t random_leaf(Runner &run)
{
    uint64_t entry = (A_TARGETS + 0x1000 * (1 + run.random.below(500))) | kP;
    entry |= run.random.one_in(3) ? 0 : kW;
    entry |= run.random.one_in(3) ? 0 : kU;
    return entry;
}

} // namespace

// Two processes: CR3 goes back and forth; each finds its tables as it left them, or changes a page
// of its own.
GROUP(switches)
{
    const uint64_t other = second_root(run);
    const uint64_t steps = number("ACCESS_STEPS", 3000) / 2;
    for (uint64_t step = 0; step < steps; step++) {
        if (run.random.one_in(100))
            run.controls = run.all_controls()[run.random.below(
                static_cast<uint32_t>(run.all_controls().size()))];
        Case c = run.make(static_cast<Kind>(run.random.below(KIND_LAR)), run.random.one_in(2));
        if (run.random.one_in(2))
            use_second(run, c, other);
        c.entry[0] = random_leaf(run);
        if (step > 40 && !run.random.one_in(4))
            c.how &= ~HOW_WRITE;
        run.add(c);
    }
}

// The same with process-context identifiers: MOV to CR3 may keep what is cached (SDM Vol. 3A,
// 4.10.1), and INVPCID names the other space.
GROUP(pcid, {Mode::kLong})
{
    if (!run.features.pcid)
        test::skip("the CPU has no PCIDs");
    const uint64_t other = second_root(run);
    constexpr uint64_t kKeep = 1ull << 63;
    const uint64_t steps = number("ACCESS_STEPS", 3000) / 2;
    run.controls = {true, false, false, false, true};
    for (uint64_t step = 0; step < steps; step++) {
        Case c = run.make(static_cast<Kind>(run.random.below(KIND_LAR)), run.random.one_in(2));
        c.cr4 |= kCr4Pcide;
        uint64_t pcid = 1;
        if (run.random.one_in(2)) {
            use_second(run, c, other);
            pcid = 2;
        }
        c.cr3 |= pcid;
        c.entry[0] = random_leaf(run);
        if (step > 40 && !run.random.one_in(4)) {
            c.how &= ~HOW_WRITE;
            c.cr3 |= run.random.one_in(4) ? 0 : kKeep;
            run.add(c);
            continue;
        }
        // Changed in the space that is in use after the switch; then this or all is forgotten.
        run.add(c);
        if (!run.features.invpcid)
            continue;
        Case again = c;
        again.entry[0] = random_leaf(run);
        again.flush = FLUSH_INVPCID + run.random.below(4);
        run.add(again);
    }
}

// An access to two pages: the second one may fault, with its own address in CR2.
GROUP(straddling)
{
    for (const Controls &controls : run.all_controls()) {
        run.controls = controls;
        for (unsigned rights = 0; rights < 32; rights++)
            each_access(controls, [&](Kind kind, bool user, bool ac) {
                if (kind >= Kind::kLar || !run.take())
                    return;
                Case c = run.make(kind, user, ac);
                c.entry[0] = (c.entry[0] & ~7ull) | (rights & 7) | (rights & 8 ? kA : 0) |
                             (rights & 16 && run.mode != Mode::kPaged ? kNx : 0);
                // Bochs remembers an instruction in two pages and does not look at the second entry
                // again; a write to the instruction makes it.
                if (kind == Kind::kFetch) {
                    Case touch = run.make(Kind::kWrite, false, true);
                    touch.address = run.page() - 4;
                    touch.input = 0xff900000; // as it is
                    run.add(touch);
                }
                c.address = run.page() - (kind == Kind::kFetch ? 1 : 2);
                // As it is: the bytes are those of a jump.
                c.input = kind == Kind::kModify ? 0 : 0x90e3ff90;
                run.add(c);
            });
    }
}

// The root maps itself: tables are reached through themselves, and the accessed and dirty flags of
// one entry come from several levels.
GROUP(recursive, {Mode::kLong, Mode::kPaged})
{
    // The root's entry 2 (4-level) or 0x200 (32-bit) leads to the root.
    const bool wide = run.mode == Mode::kLong;
    const uint32_t slot = wide ? 2 : 0x200;
    const uint32_t self = static_cast<uint32_t>(G_TABLES + slot * (wide ? 8 : 4));
    const uint64_t steps = number("ACCESS_STEPS", 3000) / 4;
    for (uint64_t step = 0; step < steps; step++) {
        run.controls.wp = run.random.one_in(2);
        run.controls.pse = true;
        Case c = run.make(run.random.one_in(2) ? Kind::kRead : Kind::kWrite, run.random.one_in(2));
        // Through the root so many times, and then along the page under test.
        const unsigned times = 1 + run.random.below(wide ? 4 : 2);
        uint64_t address = 0;
        const unsigned width = wide ? 9 : 10;
        for (unsigned i = 0; i < run.levels; i++) {
            const unsigned level = run.levels - i;
            const unsigned shift = 12 + width * (level - 1);
            const uint64_t index =
                i < times ? slot
                          : run.page() >> (12 + width * (run.levels - 1 - (i - times))) &
                                ((1u << width) - 1);
            address |= index << shift;
        }
        // The word behind the entries in use: nobody's.
        c.address = address | 0xff0;
        const uint64_t entry = G_TABLES | random_leaf(run);
        c.at[0] = self;
        c.entry[0] = G_TABLES | (entry & 7);
        for (unsigned level = 2; level <= run.levels; level++) {
            c.at[level - 1] = run.entry_at(level);
            c.entry[level - 1] = run.permissive(level);
        }
        c.input = 0;
        run.add(c);
    }
}

// Six pages, each of which is a table of any level, of several, or the page that is accessed: now
// this, now that.
GROUP(roles)
{
    constexpr unsigned kPages = 6;
    Random &random = run.random;
    const unsigned top = run.mode == Mode::kPae ? 2 : run.levels;
    unsigned tables[5] = {};
    run.controls = {true, false, false, run.features.nx, true};
    run.add(run.make(Kind::kRead, false)); // the PDPTE
    const uint64_t steps = number("ACCESS_STEPS", 3000) / 2;
    for (uint64_t step = 0; step < steps; step++) {
        constexpr Kind kKinds[] = {Kind::kRead, Kind::kWrite, Kind::kModify};
        Case c = run.again(kKinds[random.below(3)], random.one_in(2));
        const bool change = step == 0 || random.one_in(2);
        if (change)
            for (unsigned level = 1; level < top; level++)
                tables[level] = random.below(kPages);
        // In PAE paging the second level is the first table that the PDPTE leads to.
        for (unsigned level = 1; level < top; level++)
            c.at[level - 1] = run.entry_at(level) - static_cast<uint32_t>(run.table(level)) +
                              A_TABLES + 0x1000 * tables[level];
        for (unsigned level = 1; change && level <= run.levels; level++) {
            uint64_t entry = run.permissive(level, level > 1 && level <= top &&
                                                       run.can_map_page(level) && random.one_in(8));
            if (level > 1 && level <= top && !(entry & kPs))
                entry = (A_TABLES + 0x1000 * tables[level - 1]) | (entry & 0xfff);
            if (level == 1 && random.one_in(2))
                entry = (A_TABLES + 0x1000 * random.below(kPages)) | (entry & 0xfff);
            if (level <= top) {
                entry &= random.one_in(4) ? ~kW : ~0ull;
                entry &= random.one_in(4) ? ~kU : ~0ull;
            }
            c.entry[level - 1] = entry;
        }
        if (change) {
            c.how |= HOW_WRITE;
            c.flush = random.one_in(2) ? FLUSH_CR3 : FLUSH_INVLPG;
        }
        run.add(c);
    }
}

// The PDPTEs are loaded and checked by MOV to CR3 (SDM Vol. 3A, 4.4.1), and not looked at again.
GROUP(pdptes, {Mode::kPae})
{
    for (unsigned bit = 0; bit < 64; bit++)
        for (bool present : {false, true}) {
            Case good = run.make(Kind::kWrite, false);
            run.add(good);
            Case c = run.make(Kind::kRead, true);
            // Other addresses would be other memory.
            if (bit == 0 || (bit >= 12 && bit < run.features.physical_bits))
                continue;
            c.entry[2] = (run.permissive(3) & ~kP) | (present ? kP : 0) | 1ull << bit;
            run.add(c);
            // Whatever became of it, INVLPG does not load them.
            Case later = run.make(Kind::kRead, false);
            later.flush = FLUSH_INVLPG;
            run.add(later);
            later.entry[2] = 0;
            run.add(later);
            run.add(run.again(Kind::kWrite, true));
        }
}
