// SPDX-License-Identifier: GPL-2.0-only
#include "serial.hpp"

namespace minivmx::tool {
namespace {

// Register offsets and bits as in the data sheet of the PC16550D, section 8.
enum Register : unsigned {
    kData = 0,              // RBR on reads, THR on writes; divisor's low byte with DLAB
    kInterruptEnable = 1,   // divisor's high byte with DLAB
    kInterruptIdentity = 2, // FCR on writes
    kLineControl = 3,
    kModemControl = 4,
    kLineStatus = 5,
    kModemStatus = 6,
    kScratch = 7,
};

constexpr std::uint8_t kInterruptEnableBits = 0x0f;
constexpr std::uint8_t kWantsReceived = 0x01;
constexpr std::uint8_t kWantsTransmitterEmpty = 0x02;
constexpr std::uint8_t kNoInterruptPending = 0x01;
constexpr std::uint8_t kTransmitterEmptyCause = 0x02;
constexpr std::uint8_t kReceivedCause = 0x04;
constexpr std::uint8_t kFifosOn = 0xc0;
constexpr std::uint8_t kFifoEnable = 0x01;
constexpr std::uint8_t kFifoClearReceive = 0x02;
constexpr std::uint8_t kDivisorLatchAccess = 0x80;
constexpr std::uint8_t kModemControlBits = 0x1f;
constexpr std::uint8_t kDtr = 0x01;
constexpr std::uint8_t kRts = 0x02;
constexpr std::uint8_t kOut1 = 0x04;
constexpr std::uint8_t kOut2 = 0x08;
constexpr std::uint8_t kLoop = 0x10;
constexpr std::uint8_t kDataReady = 0x01;
constexpr std::uint8_t kTransmitterEmpty = 0x60; // holding and shift register
constexpr std::uint8_t kClearToSend = 0x10;
constexpr std::uint8_t kDataSetReady = 0x20;
constexpr std::uint8_t kRingIndicator = 0x40;
constexpr std::uint8_t kCarrierDetect = 0x80;

} // namespace

bool Serial::divisor_latch() const
{
    return (line_control_ & kDivisorLatchAccess) != 0;
}

bool Serial::loopback() const
{
    return (modem_control_ & kLoop) != 0;
}

/// Moves a waiting byte of input into the receiver. The line is cut off in loopback mode.
void Serial::fill()
{
    if (!received_ && !loopback())
        received_ = input_.take();
}

std::uint8_t Serial::line_status()
{
    fill();
    // A guest polls before each byte that it sends; one that polls without sending waits for us.
    if (!sent_since_poll_)
        output_.flush();
    sent_since_poll_ = false;
    return static_cast<std::uint8_t>(kTransmitterEmpty | (received_ ? kDataReady : 0));
}

/// In loopback mode the modem's outputs drive its inputs: data sheet, 8.6.
std::uint8_t Serial::modem_status()
{
    unsigned status = 0;
    if (loopback()) {
        status |= (modem_control_ & kRts) != 0 ? kClearToSend : 0;
        status |= (modem_control_ & kDtr) != 0 ? kDataSetReady : 0;
        status |= (modem_control_ & kOut1) != 0 ? kRingIndicator : 0;
        status |= (modem_control_ & kOut2) != 0 ? kCarrierDetect : 0;
    } else {
        fill();
        status = kClearToSend | kDataSetReady;
        status |= received_ || !input_.ended() ? kCarrierDetect : 0;
    }
    return static_cast<std::uint8_t>(status);
}

std::uint8_t Serial::receive()
{
    fill();
    const std::uint8_t byte = received_.value_or(0);
    received_.reset();
    return byte;
}

void Serial::transmit(std::uint8_t byte)
{
    sent_since_poll_ = true;
    // The byte is gone as soon as it is written.
    transmitter_pending_ = true;
    if (loopback())
        received_ = byte;
    else
        output_.put(byte);
}

/// The most urgent interrupt that is pending and wanted: data sheet, 8.5. Line errors and changes
/// of the modem's inputs don't happen here.
std::uint8_t Serial::interrupt_cause() const
{
    if ((interrupt_enable_ & kWantsReceived) != 0 && received_)
        return kReceivedCause;
    if ((interrupt_enable_ & kWantsTransmitterEmpty) != 0 && transmitter_pending_)
        return kTransmitterEmptyCause;
    return kNoInterruptPending;
}

/// Reading the cause takes "transmitter empty" back, but only when that is what was read.
std::uint8_t Serial::identify_interrupt()
{
    const std::uint8_t cause = interrupt_cause();
    if (cause == kTransmitterEmptyCause)
        transmitter_pending_ = false;
    return static_cast<std::uint8_t>(cause | (fifo_enabled_ ? kFifosOn : 0));
}

/// Turned on, "transmitter empty" is pending at once: the transmitter is.
void Serial::enable_interrupts(std::uint8_t bits)
{
    const unsigned turned_on = bits & ~unsigned{interrupt_enable_};
    if ((turned_on & kWantsTransmitterEmpty) != 0)
        transmitter_pending_ = true;
    interrupt_enable_ = bits & kInterruptEnableBits;
}

/// On a PC, the modem control's OUT2 connects the port to its interrupt line.
void Serial::update_line()
{
    const bool level = (modem_control_ & kOut2) != 0 && interrupt_cause() != kNoInterruptPending;
    if (line_ == nullptr || level == line_level_)
        return;
    line_level_ = level;
    line_->set(level);
}

void Serial::look_for_input()
{
    fill();
    update_line();
}

std::uint8_t Serial::read(unsigned offset)
{
    const std::uint8_t value = read_register(offset);
    // The next byte may be waiting already.
    if (line_ != nullptr)
        fill();
    update_line();
    return value;
}

void Serial::write(unsigned offset, std::uint8_t value)
{
    write_register(offset, value);
    update_line();
}

std::uint8_t Serial::read_register(unsigned offset)
{
    switch (offset) {
    case kData:
        return divisor_latch() ? static_cast<std::uint8_t>(divisor_) : receive();
    case kInterruptEnable:
        return divisor_latch() ? static_cast<std::uint8_t>(divisor_ >> 8) : interrupt_enable_;
    case kInterruptIdentity:
        return identify_interrupt();
    case kLineControl:
        return line_control_;
    case kModemControl:
        return modem_control_;
    case kLineStatus:
        return line_status();
    case kModemStatus:
        return modem_status();
    case kScratch:
        return scratch_;
    default:
        return 0xff;
    }
}

void Serial::write_register(unsigned offset, std::uint8_t value)
{
    switch (offset) {
    case kData:
        if (divisor_latch())
            divisor_ = static_cast<std::uint16_t>((divisor_ & 0xff00) | value);
        else
            transmit(value);
        break;
    case kInterruptEnable:
        if (divisor_latch())
            divisor_ = static_cast<std::uint16_t>((divisor_ & 0x00ff) | value << 8);
        else
            enable_interrupts(value);
        break;
    case kInterruptIdentity:
        fifo_enabled_ = (value & kFifoEnable) != 0;
        if ((value & kFifoClearReceive) != 0)
            received_.reset();
        break;
    case kLineControl:
        line_control_ = value;
        break;
    case kModemControl:
        modem_control_ = value & kModemControlBits;
        break;
    case kScratch:
        scratch_ = value;
        break;
    default: // the two status registers are not for writing
        break;
    }
}

} // namespace minivmx::tool
