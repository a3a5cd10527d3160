// SPDX-License-Identifier: GPL-2.0-only
//
// From a file and options to a guest that is ready to run.
#pragma once

#include "guest_memory.hpp"
#include "kvm.hpp"
#include "start_state.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace minivmx::tool {

/// Bounds of --mem. The upper one keeps RAM below the addresses of devices.
constexpr std::uint64_t kLeastMemory = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostMemory = std::uint64_t{3} << 30;

/// The four pages that KVM may need for real mode. They lie below the largest firmware.
constexpr std::uint64_t kTssAddress = 0xfffbc000;

/// What was asked for; an empty value leaves the choice to the mode.
struct GuestRequest {
    std::string file;
    std::optional<Mode> mode;
    std::uint64_t memory_size = std::uint64_t{64} << 20; // bytes
    std::optional<std::uint64_t> load;
    std::optional<std::uint64_t> entry;
    unsigned cpus = 1;
};

/// What was decided: all addresses are guest-physical.
struct GuestPlan {
    Mode mode;
    std::uint64_t memory_size; // whole pages
    std::uint64_t load;
    std::uint64_t entry;
    unsigned cpus;
    std::vector<std::uint8_t> image;
};

/// Reads the file and checks everything that can be checked without a device. Throws a usage Error
/// that names the option or the file.
GuestPlan plan_guest(const GuestRequest &request);

/// The guest's memory with the image and the VMM's tables in it.
struct GuestRam {
    std::vector<GuestMemory> slots; // [0] starts at address 0
    std::uint64_t cr3;
};
GuestRam build_ram(const GuestPlan &plan);

/// Gives `vm` the memory, then makes the vCPUs and sets their registers and CPUID. `vm` and `ram`
/// must outlive the vCPUs.
std::vector<std::unique_ptr<Vcpu>> build_vcpus(const GuestPlan &plan, const GuestRam &ram, Vm &vm);

} // namespace minivmx::tool
