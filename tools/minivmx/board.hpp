// SPDX-License-Identifier: GPL-2.0-only
//
// The machine around the vCPUs: which device answers at which port and address.
#pragma once

#include "guest_abi.h"
#include "power.hpp"
#include "serial.hpp"

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

namespace minivmx::tool {

/// All vCPUs may call it at the same time.
class Board {
  public:
    /// The sinks and the source must outlive the board. Bytes written to `debug_port` go to
    /// `debug`.
    Board(ByteSink &serial_output, ByteSource &serial_input, ByteSink &debug,
          std::uint16_t debug_port);

    /// Makes it a PC's board: the serial port interrupts through `serial_line`, which outlives the
    /// board, and the guest can turn the machine off. The ports of GUEST_PORT_EXIT and the debug
    /// console stay.
    void make_pc(InterruptLine &serial_line);

    /// One OUT or IN of 1, 2 or 4 bytes. As on the ISA bus, a wide access to byte-wide devices
    /// reaches the ports one after the other, and a port without a device reads as ones.
    void port_write(std::uint16_t port, std::span<const std::uint8_t> data);
    void port_read(std::uint16_t port, std::span<std::uint8_t> data);

    /// One access to memory that is not RAM, of at most 8 bytes.
    void mmio_write(std::uint64_t address, std::span<const std::uint8_t> data);
    void mmio_read(std::uint64_t address, std::span<std::uint8_t> data);

    /// What the guest wrote to GUEST_PORT_EXIT first.
    std::optional<std::uint32_t> exit_status() const;

    /// Whether the guest turned the machine off, or reset it.
    std::optional<PowerRequest> power_request() const;

    /// The serial port's input may have something. Returns false when nothing will ever come.
    bool look_for_input();

    void flush();

  private:
    void write_byte(std::uint16_t port, std::uint8_t value);
    std::uint8_t read_byte(std::uint16_t port);

    mutable std::mutex lock_; // guards all below
    Serial serial_;
    ByteSink &serial_output_;
    ByteSource &serial_input_;
    std::optional<PowerControl> power_; // a PC's board has it
    ByteSink &debug_;
    std::uint16_t debug_port_;
    std::array<std::uint8_t, GUEST_MMIO_SIZE> registers_ = {};
    std::optional<std::uint32_t> exit_status_;
};

} // namespace minivmx::tool
