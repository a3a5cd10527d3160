// SPDX-License-Identifier: GPL-2.0-only
//
// Groups in which what came before matters: the same tables used again, tables that change, several
// address spaces.
#include <pthread.h>

#include <atomic>

#include "access_test.hpp"

using namespace paging;

namespace {

Kind random_kind(Random &random)
{
    return static_cast<Kind>(random.below(KINDS));
}

// An access of any kind; see each_access().
Case random_access(Runner &run)
{
    const Kind kind = random_kind(run.random);
    const bool user = run.random.one_in(2);
    const bool ac = run.controls.smap && kind < Kind::kLar && run.random.one_in(2);
    return run.again(kind, user, ac);
}

// A likely set of rights: most are given.
uint64_t random_rights(Runner &run)
{
    Random &random = run.random;
    uint64_t bits = kP | kW | kU;
    if (random.one_in(3))
        bits &= ~kW;
    if (random.one_in(3))
        bits &= ~kU;
    if (random.one_in(10))
        bits &= ~kP;
    if (run.mode != Mode::kPaged && run.features.nx && random.one_in(5))
        bits |= kNx;
    if (random.one_in(3))
        bits |= kA;
    if (random.one_in(4))
        bits |= kD;
    return bits;
}

// An entry of any level: to one of two tables, to one of 500 pages, to a large page.
uint64_t random_entry(Runner &run, unsigned level, unsigned set)
{
    Random &random = run.random;
    const bool maps = level == 1 || (run.can_map_page(level) && random.one_in(4));
    uint64_t entry = run.permissive(level, maps, set) & ~(kP | kW | kU);
    if (level == 1)
        entry = A_TARGETS + 0x1000 * (1 + random.below(500));
    entry |= random_rights(run);
    if (maps && random.one_in(4))
        entry |= kG;
    const unsigned first = run.features.physical_bits;
    if (run.mode != Mode::kPaged && random.one_in(20))
        entry |= 1ull << (first + random.below((run.mode == Mode::kPae ? 63 : 52) - first));
    return entry;
}

Controls random_controls(Runner &run)
{
    const std::vector<Controls> all = run.all_controls();
    return all[run.random.below(static_cast<uint32_t>(all.size()))];
}

// Whether an entry in use, or one that was, may have made a translation global.
bool any_global(const Runner &run)
{
    for (unsigned level = 1; level <= run.levels; level++)
        for (unsigned set = 0; set < 2; set++)
            if (run.model.load(run.entry_at(level, set), 2) & kG)
                return true;
    return false;
}

uint32_t random_flush(Runner &run, bool global)
{
    constexpr uint32_t kAll[] = {FLUSH_INVLPG,      FLUSH_PGE,        FLUSH_INVPCID + 2,
                                 FLUSH_CR3,         FLUSH_CR3,        FLUSH_INVPCID + 0,
                                 FLUSH_INVPCID + 1, FLUSH_INVPCID + 3};
    // All but the first three may leave global translations (SDM Vol. 3A, 4.10.4.1).
    for (;;) {
        const uint32_t flush = kAll[run.random.below(global ? 3 : std::size(kAll))];
        if (flush < FLUSH_INVPCID || run.features.invpcid)
            return flush;
    }
}

// The tables of a random walk: for each level, which of two tables its entry leads to.
class Path {
  public:
    explicit Path(Runner &run) : run_(run), top_(run.mode == Mode::kPae ? 2 : run.levels) {}

    // Names the entries in use, from the root down.
    void name(Case &c) const
    {
        for (unsigned level = run_.levels, set = 0; level >= 1; set = leads_to_[level], level--)
            c.at[level - 1] = run_.entry_at(level, set);
    }
    // Changes one entry or all; PDPTEs have a group of their own.
    void change(Case &c, bool all)
    {
        const unsigned only = 1 + run_.random.below(top_);
        for (unsigned level = run_.levels, set = 0; level >= 1; set = leads_to_[level], level--) {
            c.at[level - 1] = run_.entry_at(level, set);
            if (level > top_)
                c.entry[level - 1] = run_.permissive(level);
            else if (all || level == only) {
                leads_to_[level] = run_.random.below(2);
                c.entry[level - 1] = random_entry(run_, level, leads_to_[level]);
            } else
                c.entry[level - 1] =
                    run_.model.load(c.at[level - 1], run_.mode == Mode::kPaged ? 4 : 8);
        }
        c.how |= HOW_WRITE;
    }

  private:
    Runner &run_;
    const unsigned top_;
    unsigned leads_to_[5] = {};
};

// Bochs lets the supervisor fetch from a user's page despite SMEP while it remembers a user's
// fetch.
void spare(Case &c)
{
    if (c.kind == Kind::kFetch && !c.user && (c.cr4 & kCr4Smep))
        c.user = true;
}

void random_steps(Runner &run, uint64_t steps)
{
    Path path(run);
    run.controls = random_controls(run);
    run.add(run.make(Kind::kRead, false));
    for (uint64_t step = 0; step < steps; step++) {
        const Controls before = run.controls;
        if (run.random.one_in(50))
            run.controls = random_controls(run);
        // These two change what an entry means, and so what the CPU may have cached of it.
        const bool other = run.controls.nxe != before.nxe || run.controls.pse != before.pse;
        const bool global = any_global(run);
        Case c = random_access(run);
        path.name(c);
        if (step == 0 || run.random.one_in(2)) {
            path.change(c, step == 0 || run.random.one_in(4));
            c.flush = random_flush(run, global);
        }
        if (other)
            c.flush = FLUSH_PGE;
        else if (c.flush == FLUSH_NONE)
            spare(c);
        run.add(c);
    }
}

// Does something to the host's memory, again and again, while the guest runs.
class Disturbance {
  public:
    Disturbance(Runner &run, void (*what)(Runner &)) : run_(run), what_(what)
    {
        REQUIRE_EQ(pthread_create(&thread_, nullptr, body, this), 0);
    }
    Disturbance(const Disturbance &) = delete;
    Disturbance &operator=(const Disturbance &) = delete;
    ~Disturbance()
    {
        stop_ = true;
        pthread_join(thread_, nullptr);
        if (times_ == 0)
            test::fail(__FILE__, __LINE__, "the memory was left alone");
    }

  private:
    static void *body(void *argument)
    {
        auto &self = *static_cast<Disturbance *>(argument);
        for (; !self.stop_; self.times_++) {
            self.what_(self.run_);
            usleep(20'000);
        }
        return nullptr;
    }
    Runner &run_;
    void (*what_)(Runner &);
    pthread_t thread_;
    std::atomic<bool> stop_ = false;
    unsigned times_ = 0;
};

void drop_caches(const char *what)
{
    kvm::Fd file(open("/proc/sys/vm/drop_caches", O_WRONLY));
    REQUIRE_EQ(write(file.get(), what, 1), 1);
}

} // namespace

// One set of tables, changed entry by entry at random, and used again and again.
GROUP(random)
{
    random_steps(run, number("ACCESS_STEPS", 3000));
}

// The same while the kernel takes back what its caches can spare.
GROUP(shrunk)
{
    drop_caches("4"); // no line in the log for each that follows
    Disturbance drop(run, [](Runner &) { drop_caches("2"); });
    random_steps(run, number("ACCESS_STEPS", 3000) / 2);
    run.finish();
}

// The same while the guest's pages disappear from the client's address space, to be found again.
GROUP(unmapped)
{
    Disturbance unmap(
        run, [](Runner &r) { REQUIRE_OK(madvise(r.memory.base, r.memory.size, MADV_DONTNEED)); });
    random_steps(run, number("ACCESS_STEPS", 3000) / 2);
    run.finish();
}

// A page that is now memory and now none: rights come first, and then an access to what is no
// memory leaves for user space, with the accessed and dirty flags set as ever.
GROUP(devices)
{
    const uint64_t steps = number("ACCESS_STEPS", 3000) / 4;
    run.controls = random_controls(run);
    for (uint64_t step = 0; step < steps; step++) {
        constexpr Kind kKinds[] = {Kind::kRead, Kind::kWrite, Kind::kModify};
        const Kind kind = kKinds[run.random.below(3)];
        Case c = run.again(kind, run.random.one_in(2), run.controls.smap && run.random.one_in(2));
        if (step == 0 || run.random.one_in(2)) {
            if (run.random.one_in(8))
                run.controls = random_controls(run);
            c = run.make(kind, c.user, c.flags & kFlagsAc);
            const uint64_t where = run.random.one_in(2) ? A_TARGETS + 0x1000 : G_MMIO;
            c.entry[0] = (where + 0x1000 * run.random.below(4)) | random_rights(run);
            if (!run.controls.nxe)
                c.entry[0] &= ~kNx;
        }
        run.add(c);
    }
}

// Entries gain rights and nothing is flushed: a fault may be stale, but not the next one (SDM Vol.
// 3A, 4.10.4.3).
GROUP(gains)
{
    const uint64_t steps = number("ACCESS_STEPS", 3000) / 4;
    const unsigned top = run.mode == Mode::kPae ? 2 : run.levels;
    for (uint64_t step = 0; step < steps; step++) {
        run.controls = random_controls(run);
        Case c = random_access(run);
        c.how |= HOW_WRITE;
        c.flush = FLUSH_PGE;
        for (unsigned level = 1; level <= run.levels; level++)
            c.entry[level - 1] = run.permissive(level);
        for (unsigned level = 1; level <= top; level++)
            if (run.random.one_in(2))
                c.entry[level - 1] = (c.entry[level - 1] & ~7ull) | random_rights(run);
        run.add(c);
        Case more = random_access(run);
        spare(more);
        more.how |= HOW_WRITE | HOW_RETRY;
        // A page of the user's is no gain for a supervisor who is kept from them.
        const uint64_t gained = run.controls.smep || run.controls.smap ? 0 : kU;
        for (unsigned level = 1; level <= run.levels; level++) {
            uint64_t &entry = more.entry[level - 1];
            entry = run.model.load(more.at[level - 1], run.mode == Mode::kPaged ? 4 : 8);
            if (level <= top && run.random.one_in(2))
                entry = (entry | kP | kW | gained) & ~kNx;
        }
        run.add(more);
        Case last = random_access(run);
        spare(last);
        run.add(last);
    }
}
