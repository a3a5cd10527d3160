// SPDX-License-Identifier: GPL-2.0-only
#include "power.hpp"

namespace minivmx::tool {
namespace {

constexpr std::uint16_t kPortKeyboardCommand = 0x64;
constexpr std::uint8_t kPulseResetLine = 0xfe;

constexpr std::uint16_t kPortPm1Enable = kPortPm1Event + 2;
// The high byte of the PM1 control register: ACPI specification 6.4, 4.8.3.2.1.
constexpr std::uint16_t kPortPm1ControlHigh = kPortPm1Control + 1;
constexpr unsigned kSleepEnable = 1U << 5;
constexpr unsigned kSleepTypeShift = 2;
constexpr unsigned kSleepTypeMask = 7;
// The low byte's SCI_EN: the machine is in ACPI mode, always.
constexpr std::uint8_t kSciEnabled = 0x01;

/// Bit 2 of the reset register, as in Intel's chipsets (ICH9 data sheet, 13.7.5).
constexpr std::uint8_t kResetCpu = 0x04;

} // namespace

bool PowerControl::owns(std::uint16_t port) const
{
    return (port >= kPortPm1Event && port <= kPortPm1ControlHigh) || port == kPortReset ||
           port == kPortKeyboardCommand;
}

void PowerControl::write(std::uint16_t port, std::uint8_t value)
{
    if (port == kPortPm1Enable || port == kPortPm1Enable + 1)
        event_enable_.at(port - kPortPm1Enable) = value;
    if (port == kPortPm1ControlHigh && (value & kSleepEnable) != 0 &&
        (value >> kSleepTypeShift & kSleepTypeMask) == kSleepTypeOff)
        ask(PowerRequest::kOff);
    if (port == kPortReset && (value & kResetCpu) != 0)
        ask(PowerRequest::kReset);
    if (port == kPortKeyboardCommand && value == kPulseResetLine)
        ask(PowerRequest::kReset);
}

std::uint8_t PowerControl::read(std::uint16_t port) const
{
    if (port == kPortPm1Control)
        return kSciEnabled;
    if (port == kPortPm1Enable || port == kPortPm1Enable + 1)
        return event_enable_.at(port - kPortPm1Enable);
    // There is no keyboard controller, but its reset line works.
    return port == kPortKeyboardCommand ? 0xff : 0;
}

void PowerControl::ask(PowerRequest request)
{
    if (!request_)
        request_ = request;
}

} // namespace minivmx::tool
