// SPDX-License-Identifier: GPL-2.0-only
#include "board.hpp"

#include <algorithm>
#include <cstring>

namespace minivmx::tool {
namespace {

constexpr unsigned kSerialPorts = 8;

bool is_serial(std::uint16_t port)
{
    return port >= GUEST_PORT_SERIAL && port < GUEST_PORT_SERIAL + kSerialPorts;
}

/// The bytes of an access that fall into the page of registers, from which of the access's bytes
/// on.
struct Overlap {
    std::size_t register_offset;
    std::size_t data_offset;
    std::size_t length;
};

Overlap overlap(std::uint64_t address, std::size_t size)
{
    const std::uint64_t first = std::max<std::uint64_t>(address, GUEST_MMIO_BASE);
    const std::uint64_t end =
        std::min<std::uint64_t>(address + size, GUEST_MMIO_BASE + GUEST_MMIO_SIZE);
    if (address + size < address || first >= end)
        return {0, 0, 0};
    return {first - GUEST_MMIO_BASE, first - address, end - first};
}

} // namespace

Board::Board(ByteSink &serial_output, ByteSource &serial_input, ByteSink &debug,
             std::uint16_t debug_port)
    : serial_(serial_output, serial_input), serial_output_(serial_output),
      serial_input_(serial_input), debug_(debug), debug_port_(debug_port)
{
    constexpr std::uint32_t kMagic = GUEST_MAGIC;
    std::memcpy(registers_.data(), &kMagic, sizeof(kMagic));
}

void Board::make_pc(InterruptLine &serial_line)
{
    serial_.connect(serial_line);
    power_.emplace();
}

void Board::write_byte(std::uint16_t port, std::uint8_t value)
{
    if (port == debug_port_)
        debug_.put(value);
    else if (is_serial(port))
        serial_.write(port - GUEST_PORT_SERIAL, value);
    else if (power_ && power_->owns(port))
        power_->write(port, value);
}

std::uint8_t Board::read_byte(std::uint16_t port)
{
    // Bochs's port answers with its usual number, wherever it was put.
    if (port == debug_port_)
        return GUEST_PORT_DEBUG;
    if (is_serial(port))
        return serial_.read(port - GUEST_PORT_SERIAL);
    if (power_ && power_->owns(port))
        return power_->read(port);
    return 0xff;
}

void Board::port_write(std::uint16_t port, std::span<const std::uint8_t> data)
{
    const std::lock_guard guard(lock_);
    if (port == GUEST_PORT_EXIT) {
        std::uint32_t status = 0;
        std::memcpy(&status, data.data(), std::min(data.size(), sizeof(status)));
        if (!exit_status_)
            exit_status_ = status;
        return;
    }
    for (std::size_t i = 0; i < data.size(); i++)
        write_byte(static_cast<std::uint16_t>(port + i), data[i]);
}

void Board::port_read(std::uint16_t port, std::span<std::uint8_t> data)
{
    const std::lock_guard guard(lock_);
    for (std::size_t i = 0; i < data.size(); i++)
        data[i] = read_byte(static_cast<std::uint16_t>(port + i));
}

void Board::mmio_write(std::uint64_t address, std::span<const std::uint8_t> data)
{
    const std::lock_guard guard(lock_);
    const Overlap hit = overlap(address, data.size());
    for (std::size_t i = 0; i < hit.length; i++) {
        const std::size_t at = hit.register_offset + i;
        if (at >= sizeof(std::uint32_t)) // the first register is read-only
            registers_.at(at) = data[hit.data_offset + i];
    }
}

void Board::mmio_read(std::uint64_t address, std::span<std::uint8_t> data)
{
    const std::lock_guard guard(lock_);
    std::fill(data.begin(), data.end(), std::uint8_t{0xff});
    const Overlap hit = overlap(address, data.size());
    std::copy_n(registers_.begin() + static_cast<std::ptrdiff_t>(hit.register_offset), hit.length,
                data.begin() + static_cast<std::ptrdiff_t>(hit.data_offset));
}

std::optional<std::uint32_t> Board::exit_status() const
{
    const std::lock_guard guard(lock_);
    return exit_status_;
}

std::optional<PowerRequest> Board::power_request() const
{
    const std::lock_guard guard(lock_);
    return power_ ? power_->request() : std::nullopt;
}

bool Board::look_for_input()
{
    const std::lock_guard guard(lock_);
    serial_.look_for_input();
    return !serial_input_.ended();
}

void Board::flush()
{
    const std::lock_guard guard(lock_);
    serial_output_.flush();
    debug_.flush();
}

} // namespace minivmx::tool
