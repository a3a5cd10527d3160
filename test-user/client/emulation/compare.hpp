// SPDX-License-Identifier: GPL-2.0-only
//
// One piece of code by the CPU and by the emulator: all that it leaves behind must be equal.
#pragma once

#include "world.hpp"

namespace emulation {

class Comparison {
  public:
    explicit Comparison(Mode mode) : world(mode) {}
    ~Comparison() { test::note("%u pieces of code in %s mode", count_, name(world.mode())); }

    void compare(const std::string &what, const Code &code, Cpl cpl, uint64_t flags = 2)
    {
        if (records()) {
            printf("@ %s, CPL %d, %s mode: %s\n", what.c_str(), cpl == Cpl::k3 ? 3 : 0,
                   name(world.mode()),
                   world.run(code, cpl, has_argument("--emulated"), flags).text().c_str());
            return;
        }
        const State native = world.run(code, cpl, false, flags);
        const State emulated = world.run(code, cpl, true, flags);
        count_++;
        for (size_t i = 0; i < native.size() || i < emulated.size(); i++) {
            if (i < native.size() && i < emulated.size() && native[i] == emulated[i])
                continue;
            report(what, cpl, i < native.size() ? native[i] : kNone,
                   i < emulated.size() ? emulated[i] : kNone);
            return;
        }
    }

    World world;

  private:
    // For a comparison with another run, on another module: the states themselves.
    static bool has_argument(const char *argument)
    {
        for (const std::string &given : test::options.args)
            if (given == argument)
                return true;
        return false;
    }
    static bool records() { return has_argument("--record"); }

    static inline const State::value_type kNone{"nothing", 0};

    void report(const std::string &what, Cpl cpl, const State::value_type &native,
                const State::value_type &emulated)
    {
        printf("# %s at CPL %d in %s mode: %s %llx, emulated %s %llx\n", what.c_str(),
               cpl == Cpl::k3 ? 3 : 0, name(world.mode()), native.first.c_str(),
               static_cast<unsigned long long>(native.second), emulated.first.c_str(),
               static_cast<unsigned long long>(emulated.second));
        test::fail(__FILE__, __LINE__, "%s (%s: expected 0x%llx, got 0x%llx)", what.c_str(),
                   native.first.c_str(), static_cast<unsigned long long>(native.second),
                   static_cast<unsigned long long>(emulated.second));
    }

    unsigned count_ = 0;
};

} // namespace emulation
