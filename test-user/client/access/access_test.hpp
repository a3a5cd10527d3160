// SPDX-License-Identifier: GPL-2.0-only
//
// Cases of memory accesses, run by a guest (loop.inc) in batches and by the model (model.hpp); what
// differs is a failure.
#pragma once

#include <string>

#include "model.hpp"

extern "C" const uint8_t access32_stubs[], access32_user[], access32_user_end[];
extern "C" const uint8_t access64_stubs[], access64_user[], access64_user_end[];
DECLARE_GUEST(access32);
DECLARE_GUEST(access64);

namespace paging {

using guest::Mode;

// As it lies in the guest's memory: layout.h has the offsets.
struct Case {
    uint64_t entry[4]; // of level 1 first
    uint32_t at[4];    // where they are; 0: no such level
    uint64_t address;
    uint64_t cr3;
    uint64_t flags;
    uint32_t cr0, cr4, efer;
    uint32_t how, flush;
    Kind kind;
    uint32_t user, input, target;
    uint32_t vector, error, output;
    uint64_t cr2;
    uint64_t after[4];
    uint32_t memory, tries;
};
static_assert(sizeof(Case) == C_SIZE);
static_assert(offsetof(Case, kind) == C_KIND && offsetof(Case, cr2) == C_CR2);
static_assert(offsetof(Case, memory) == C_MEMORY && offsetof(Case, efer) == C_EFER);

// A generator whose numbers are the same each time.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
    uint64_t next()
    {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_ * 0x2545f4914f6cdd1d;
    }
    uint32_t below(uint32_t limit) { return static_cast<uint32_t>((next() >> 32) % limit); }
    bool one_in(uint32_t n) { return below(n) == 0; }

  private:
    uint64_t state_;
};

// A number from the environment: ACCESS_SHARE, ACCESS_SEED, ACCESS_STEPS.
inline uint64_t number(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, nullptr, 0) : otherwise;
}

// One guest of one mode, its model, and the cases that wait for it.
class Runner {
  public:
    Runner(Mode mode, const char *group);

    const Mode mode;
    const char *const group;
    kvm::Device device;
    const Features features;
    kvm::Vm vm;
    kvm::Memory memory;
    kvm::Vcpu vcpu;
    Model model;
    const unsigned levels;
    Random random;

    // The address whose page the tables under test map, and where its entries are. There are two
    // tables of each level but the root.
    uint64_t page() const { return mode == Mode::kLong ? 0x8040201000 : 0x40201000; }
    uint32_t entry_at(unsigned level, unsigned set = 0) const;
    uint64_t table(unsigned level, unsigned set = 0) const;
    // An entry that leads to the next table, or maps the page at this level, and allows everything.
    uint64_t permissive(unsigned level, bool maps_page = false, unsigned set = 0) const;
    // Bits that an entry of this level may have, and those under test that it can't.
    bool can_map_page(unsigned level) const;

    Controls controls = {};
    // Every set of controls that this CPU and mode can have, one after the other.
    std::vector<Controls> all_controls() const;

    // A case with all entries permissive, to be written, and MOV to CR3 before the access.
    Case make(Kind kind, bool user, bool ac = false) const;
    // The same access as before: nothing written, nothing flushed.
    Case again(Kind kind, bool user, bool ac = false) const;
    // Whether to run the next of many combinations: all of them only if ACCESS_SHARE is 1.
    bool take(uint32_t of = 1);

    void add(Case c);
    // Runs what waits, and says how it went.
    void finish();

  private:
    static Features features_of(const kvm::Device &device);
    static uint64_t offset_of(Kind kind);
    void write_memory();
    void start();
    void run_batch();
    bool serve(std::vector<DeviceWrite> &writes);
    void compare(const Case &expected, const Case &got);
    std::string describe(const Case &c) const;
    std::string outcome(const Case &c) const;

    std::vector<Case> waiting_; // with what the model says of them
    uint64_t count_ = 0, different_ = 0, known_ = 0;
    const uint32_t share_; // one in so many combinations is run
    const bool reference_shadow_;
    // Cases that the guest runs without a stop: one, where the model has to follow known
    // differences.
    const size_t batch_;
    std::string first_;
};

// Every access there is: kind, CPL, and AC where it may matter. Descriptors are read with AC = 0
// only: SMAP applies to them whatever AC says (SDM Vol. 3A, 4.6.1), but Bochs looks at AC.
template <class Each>
void each_access(const Controls &controls, const Each &each)
{
    for (uint32_t kind = 0; kind < KINDS; kind++)
        for (bool user : {false, true})
            for (bool ac : {false, true})
                if (!ac || (controls.smap && kind < KIND_LAR))
                    each(static_cast<Kind>(kind), user, ac);
}

// A group of cases for each mode, as a test "mode.group".
#define GROUP_LIMIT(name, seconds, ...)                                                            \
    static void group_##name(paging::Runner &run);                                                 \
    template <guest::Mode mode>                                                                    \
    static void body_##name()                                                                      \
    {                                                                                              \
        paging::Runner run(mode, #name);                                                           \
        group_##name(run);                                                                         \
        run.finish();                                                                              \
    }                                                                                              \
    static paging::Registered registered_##name(                                                   \
        #name, seconds,                                                                            \
        {{body_##name<guest::Mode::kLong>, body_##name<guest::Mode::kPae>,                         \
          body_##name<guest::Mode::kPaged>}},                                                      \
        ##__VA_ARGS__);                                                                            \
    static void group_##name(paging::Runner &run)
// The limit, in the machine's seconds, only ends what hangs.
#define GROUP(name, ...) GROUP_LIMIT(name, 400, ##__VA_ARGS__)

class Registered {
  public:
    using Bodies = std::array<void (*)(), 3>;
    static constexpr Mode kModes[] = {Mode::kLong, Mode::kPae, Mode::kPaged};
    Registered(const char *name, unsigned seconds, Bodies bodies,
               std::initializer_list<Mode> modes = {Mode::kLong, Mode::kPae, Mode::kPaged})
    {
        for (unsigned i = 0; i < 3; i++)
            for (Mode mode : modes)
                if (mode == kModes[i]) {
                    // For the life of the program, as the tests themselves.
                    auto *full = new std::string(std::string(guest::name(mode)) + "." + name);
                    new test::Case(full->c_str(), bodies[i], seconds);
                }
    }
};

} // namespace paging
