// SPDX-License-Identifier: GPL-2.0-only
//
// A serial port as a PC has it: the registers of a 16550A and its interrupts, but not its speed.
#pragma once

#include <cstdint>
#include <optional>

namespace minivmx::tool {

/// Where a device's output goes.
class ByteSink {
  public:
    virtual ~ByteSink() = default;
    virtual void put(std::uint8_t byte) = 0;
    /// The guest looks for input, or the run ends: what was put should be visible now.
    virtual void flush() = 0;
};

/// Where a device's input comes from.
class ByteSource {
  public:
    virtual ~ByteSource() = default;
    /// The next byte if there is one now. Never waits.
    virtual std::optional<std::uint8_t> take() = 0;
    /// Whether no byte will ever come any more.
    virtual bool ended() = 0;
};

/// The wire that carries a device's interrupt.
class InterruptLine {
  public:
    virtual ~InterruptLine() = default;
    /// Called when the level changes only.
    virtual void set(bool level) = 0;
};

/// Eight ports from a base on; `offset` counts from it, 0 to 7. The line's carrier (MSR.DCD) is up
/// until the input has ended and its last byte was read: so a guest sees the end of a file.
/// Not synchronised.
class Serial {
  public:
    /// Both must outlive the port.
    Serial(ByteSink &output, ByteSource &input) : output_(output), input_(input) {}

    /// Where its interrupts go; nowhere until this is called. The line must outlive the port.
    void connect(InterruptLine &line) { line_ = &line; }

    std::uint8_t read(unsigned offset);
    void write(unsigned offset, std::uint8_t value);

    /// The input may have a byte now: interrupts the guest if it wants to know.
    void look_for_input();

  private:
    bool divisor_latch() const;
    bool loopback() const;
    std::uint8_t read_register(unsigned offset);
    void write_register(unsigned offset, std::uint8_t value);
    void enable_interrupts(std::uint8_t bits);
    std::uint8_t interrupt_cause() const;
    std::uint8_t identify_interrupt();
    void update_line();
    void fill();
    std::uint8_t line_status();
    std::uint8_t modem_status();
    std::uint8_t receive();
    void transmit(std::uint8_t byte);

    ByteSink &output_;
    ByteSource &input_;
    InterruptLine *line_ = nullptr;
    bool line_level_ = false;
    bool transmitter_pending_ = false; // "transmitter empty" was not yet seen by the guest
    std::optional<std::uint8_t> received_;
    bool sent_since_poll_ = false; // a byte went out after the last look at the line status
    std::uint8_t interrupt_enable_ = 0;
    bool fifo_enabled_ = false;
    std::uint8_t line_control_ = 0;
    std::uint8_t modem_control_ = 0;
    std::uint8_t scratch_ = 0;
    std::uint16_t divisor_ = 1;
};

} // namespace minivmx::tool
