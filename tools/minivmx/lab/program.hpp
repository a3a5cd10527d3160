// SPDX-License-Identifier: GPL-2.0-only
//
// The program around a lab's snippets: it repeats them, measures, catches exceptions and ends.
#pragma once

#include "lab.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace minivmx::tool {

/// For 64-bit mode, at any address. It finds the number of rounds in R14 and ~0 in R13, and leaves
/// the least cost of `code` in R13 and RAX of the last round in R10.
struct LabProgram {
    std::vector<std::uint8_t> bytes;
    std::size_t resume = 0; // offset of what is behind the measured code
};
LabProgram lab_program(const LabCode &before, const LabCode &code);

constexpr unsigned kLabVectors = 64;

/// Handlers of exceptions and interrupts, for kLabStubs. That of a fault stores its vector at
/// kLabState and goes on at the address that is stored at kLabState + 8.
struct LabStubs {
    std::vector<std::uint8_t> bytes;
    std::array<std::size_t, kLabVectors> offsets{};
};
LabStubs lab_stubs();

} // namespace minivmx::tool
