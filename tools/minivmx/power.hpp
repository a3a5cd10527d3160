// SPDX-License-Identifier: GPL-2.0-only
//
// How a PC's operating system turns it off and resets it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace minivmx::tool {

/// The ports of ACPI's fixed hardware, as the FADT of acpi_tables.hpp names them.
constexpr std::uint16_t kPortPm1Event = 0x600;   // 4 bytes: status, enable
constexpr std::uint16_t kPortPm1Control = 0x604; // 2 bytes
constexpr std::uint8_t kSleepTypeOff = 5;        // what the DSDT says of S5

/// The reset register of PCI chipsets, and what to write to it.
constexpr std::uint16_t kPortReset = 0xcf9;
constexpr std::uint8_t kResetValue = 0x06;

enum class PowerRequest {
    kOff,
    kReset,
};

/// Not synchronised.
class PowerControl {
  public:
    bool owns(std::uint16_t port) const;

    /// One byte to or from a port that it owns.
    void write(std::uint16_t port, std::uint8_t value);
    std::uint8_t read(std::uint16_t port) const;

    /// What the guest asked for first.
    std::optional<PowerRequest> request() const { return request_; }

  private:
    void ask(PowerRequest request);

    std::optional<PowerRequest> request_;
    std::array<std::uint8_t, 2> event_enable_ = {}; // kept, for events that never come
};

} // namespace minivmx::tool
