// SPDX-License-Identifier: GPL-2.0-only
//
// What lies where in a lab guest's memory; all addresses are guest-physical, and linear, too: the
// page tables of `minivmx run` map the low 4 GiB to themselves.
#pragma once

#include <cstdint>

namespace minivmx::tool {

constexpr std::uint64_t kLabCode = 0x100000;
constexpr std::uint64_t kLabRealModeCode = 0x7c00;
constexpr std::uint64_t kLabIdt = 0x110000;
constexpr std::uint64_t kLabStubs = 0x111000;
constexpr std::uint64_t kLabState = 0x112000; // LabState
constexpr std::uint64_t kLabData = 0x113000;
constexpr std::uint64_t kLabXsaveArea = 0x114000;
constexpr std::uint64_t kLabMemorySize = 0x800000;

/// Pages whose changes may be logged, in a slot of their own.
constexpr std::uint64_t kLabLogged = 0x1000000;
constexpr std::uint64_t kLabLoggedPages = 1024;

/// The guest remaps the 2 MiB at 1 GiB. The entry is the first of the second page directory.
constexpr std::uint64_t kLabMappingEntry = 0x4000;
constexpr std::uint64_t kLabFirstPage = 0x200000;
constexpr std::uint64_t kLabSecondPage = 0x400000; // each holds its own address

} // namespace minivmx::tool
