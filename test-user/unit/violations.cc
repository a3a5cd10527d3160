// SPDX-License-Identifier: GPL-2.0-only
//
// What a simulated machine noted that no hardware or kernel would forgive fails the test.
#include "sim/machine.hpp"

#include <gtest/gtest.h>

namespace minivmx::test {
namespace {

[[maybe_unused]] const bool heard = [] {
    sim::Machine::hear_violations = [](const std::vector<std::string> &violations) {
        for (const std::string &violation : violations)
            ADD_FAILURE() << violation;
    };
    return true;
}();

} // namespace
} // namespace minivmx::test
