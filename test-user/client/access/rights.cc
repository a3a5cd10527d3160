// SPDX-License-Identifier: GPL-2.0-only
//
// Groups that walk through combinations: of one entry's bits, and of all levels' rights.
#include "access_test.hpp"

using namespace paging;

namespace {

// All combinations of an entry's bits at one level, with the other levels allowing everything.
void one_entry(Runner &run, unsigned level)
{
    const bool wide = run.mode != Mode::kPaged;
    constexpr uint64_t kBits[] = {kP, kW, kU, kA, kD, kPs};
    const uint64_t reserved = wide ? 1ull << run.features.physical_bits : 1 << 21;
    for (const Controls &controls : run.all_controls()) {
        run.controls = controls;
        for (unsigned choice = 0; choice < (wide ? 256u : 128u); choice++) {
            uint64_t bits = 0;
            for (unsigned i = 0; i < std::size(kBits); i++)
                bits |= choice >> i & 1 ? kBits[i] : 0;
            bits |= choice & 0x40 ? reserved : 0;
            bits |= choice & 0x80 ? kNx : 0;
            each_access(controls, [&](Kind kind, bool user, bool ac) {
                if (!run.take())
                    return;
                Case c = run.make(kind, user, ac);
                const bool maps = level > 1 && (bits & kPs) && run.can_map_page(level);
                const bool takes_it = wide || (maps && controls.pse);
                uint64_t &entry = c.entry[level - 1];
                entry = (run.permissive(level, maps) & ~(kP | kW | kU | kPs)) |
                        (takes_it ? bits : bits & ~reserved);
                // Without PSE, the bit means nothing, and the entry leads to the next table.
                if (!wide && level == 2 && !controls.pse)
                    entry = (run.permissive(2) & ~7ull) | (bits & ~reserved);
                run.add(c);
            });
        }
    }
}

} // namespace

// All combinations of the rights of all levels, for a page of each size.
GROUP(levels)
{
    const bool wide = run.mode != Mode::kPaged;
    const unsigned with_rights = run.mode == Mode::kPae ? 2 : run.levels;
    const unsigned bits = wide ? 3 : 2;
    for (const Controls &controls : run.all_controls()) {
        run.controls = controls;
        for (unsigned leaf = 1; leaf <= with_rights; leaf++) {
            if (!run.can_map_page(leaf) || (leaf > 1 && !controls.pse))
                continue;
            const unsigned choices = 1u << bits * (with_rights - leaf + 1);
            for (unsigned choice = 0; choice < choices; choice++)
                each_access(controls, [&](Kind kind, bool user, bool ac) {
                    if (!run.take(choices > 512 ? 8 : 1))
                        return;
                    Case c = run.make(kind, user, ac);
                    for (unsigned level = leaf, rest = choice; level <= with_rights; level++) {
                        uint64_t &entry = c.entry[level - 1];
                        entry = run.permissive(level, level == leaf) & ~(kW | kU);
                        entry |= (rest & 1 ? kW : 0) | (rest & 2 ? kU : 0);
                        if (wide && controls.nxe && (rest & 4))
                            entry |= kNx;
                        rest >>= bits;
                    }
                    run.add(c);
                });
        }
    }
}
GROUP(level1)
{
    one_entry(run, 1);
}
GROUP(level2)
{
    one_entry(run, 2);
}
GROUP(level3, {Mode::kLong})
{
    one_entry(run, 3);
}
GROUP(level4, {Mode::kLong})
{
    one_entry(run, 4);
}
