// SPDX-License-Identifier: GPL-2.0-only
//
// The serial port and the board around it, register by register.
#include <board.hpp>
#include <streams.hpp>

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <string_view>

namespace minivmx::tool {
namespace {

/// Input that the test feeds, and hangs up.
class TestSource : public ByteSource {
  public:
    void send(std::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
    void hang_up() { hung_up_ = true; }
    std::optional<std::uint8_t> take() override
    {
        if (bytes_.empty())
            return std::nullopt;
        const std::uint8_t byte = bytes_.front();
        bytes_.pop_front();
        return byte;
    }
    bool ended() override { return hung_up_ && bytes_.empty(); }

  private:
    std::deque<std::uint8_t> bytes_;
    bool hung_up_ = false;
};

/// Output that counts how often it was asked to show itself.
class TestSink : public StringSink {
  public:
    void flush() override { flushes++; }
    int flushes = 0;
};

class ToolSerial : public ::testing::Test {
  protected:
    TestSink output;
    TestSource input;
    Serial serial{output, input};
};

TEST_F(ToolSerial, SendsWhatIsWrittenAndIsAlwaysReadyToSend)
{
    for (const char c : std::string_view("hi\n")) {
        EXPECT_EQ(serial.read(5) & 0x60, 0x60);
        serial.write(0, static_cast<std::uint8_t>(c));
    }
    EXPECT_EQ(output.text(), "hi\n");
}

TEST_F(ToolSerial, ReceivesEachByteOnce)
{
    EXPECT_EQ(serial.read(5) & 1, 0);
    EXPECT_EQ(serial.read(0), 0);
    input.send("ab");
    EXPECT_EQ(serial.read(5) & 1, 1);
    EXPECT_EQ(serial.read(5) & 1, 1);
    EXPECT_EQ(serial.read(0), 'a');
    EXPECT_EQ(serial.read(0), 'b');
    EXPECT_EQ(serial.read(5) & 1, 0);
}

TEST_F(ToolSerial, TheCarrierFallsAfterTheLastByteWasRead)
{
    EXPECT_EQ(serial.read(6) & 0x80, 0x80);
    input.send("x");
    input.hang_up();
    EXPECT_EQ(serial.read(6) & 0x80, 0x80);
    EXPECT_EQ(serial.read(0), 'x');
    EXPECT_EQ(serial.read(6) & 0x80, 0);
}

TEST_F(ToolSerial, OutputAppearsWhenTheGuestWaitsForInput)
{
    serial.read(5);
    const int before = output.flushes;
    serial.write(0, '>');
    serial.read(5); // asked before the next byte that it would send
    EXPECT_EQ(output.flushes, before);
    serial.read(5); // asked again: it waits
    EXPECT_EQ(output.flushes, before + 1);
}

TEST_F(ToolSerial, TheDivisorHidesBehindItsLatch)
{
    serial.write(3, 0x83);
    serial.write(0, 0x34);
    serial.write(1, 0x12);
    EXPECT_EQ(serial.read(0), 0x34);
    EXPECT_EQ(serial.read(1), 0x12);
    serial.write(3, 0x03);
    EXPECT_EQ(serial.read(1), 0);
    EXPECT_EQ(output.text(), "");
    serial.write(1, 0xff);
    EXPECT_EQ(serial.read(1), 0x0f);
}

TEST_F(ToolSerial, LoopbackLeadsBackAndCutsTheLineOff)
{
    input.send("z");
    serial.write(4, 0x1f);
    EXPECT_EQ(serial.read(6), 0xf0);
    EXPECT_EQ(serial.read(5) & 1, 0);
    serial.write(0, 'q');
    EXPECT_EQ(serial.read(5) & 1, 1);
    EXPECT_EQ(serial.read(0), 'q');
    EXPECT_EQ(output.text(), "");
    serial.write(4, 0);
    EXPECT_EQ(serial.read(0), 'z');
}

TEST_F(ToolSerial, IdentifiesItselfAsA16550A)
{
    EXPECT_EQ(serial.read(2), 0x01);
    serial.write(2, 0x01);
    EXPECT_EQ(serial.read(2), 0xc1);
    serial.write(7, 0x5a);
    EXPECT_EQ(serial.read(7), 0x5a);
}

/// The wire, with how often it changed.
class TestLine : public InterruptLine {
  public:
    void set(bool new_level) override
    {
        EXPECT_NE(new_level, level);
        level = new_level;
        changes++;
    }
    bool level = false;
    int changes = 0;
};

/// The port as a driver sets it up: OUT2 on, which lets interrupts through.
class ToolSerialInterrupts : public ToolSerial {
  protected:
    ToolSerialInterrupts()
    {
        serial.connect(line);
        serial.write(4, 0x0b);
    }
    TestLine line;
};

TEST_F(ToolSerialInterrupts, InputRaisesTheLineUntilItIsRead)
{
    serial.write(1, 0x01);
    EXPECT_FALSE(line.level);
    input.send("ab");
    serial.look_for_input();
    EXPECT_TRUE(line.level);
    EXPECT_EQ(serial.read(2) & 0x0f, 0x04);
    EXPECT_EQ(serial.read(0), 'a');
    EXPECT_TRUE(line.level); // the next byte is there already
    EXPECT_EQ(serial.read(0), 'b');
    EXPECT_FALSE(line.level);
    EXPECT_EQ(serial.read(2) & 0x0f, 0x01);
}

TEST_F(ToolSerialInterrupts, InputThatNobodyWantsWaits)
{
    input.send("a");
    serial.look_for_input();
    EXPECT_EQ(line.changes, 0);
    serial.write(1, 0x01);
    EXPECT_TRUE(line.level);
}

TEST_F(ToolSerialInterrupts, TheEmptyTransmitterIsToldOnceForEachByte)
{
    serial.write(1, 0x02);
    EXPECT_TRUE(line.level); // it is empty when the interrupt is turned on
    EXPECT_EQ(serial.read(2) & 0x0f, 0x02);
    EXPECT_FALSE(line.level); // told
    EXPECT_EQ(serial.read(2) & 0x0f, 0x01);
    serial.write(0, 'x');
    EXPECT_TRUE(line.level);
    EXPECT_EQ(output.text(), "x");
    serial.write(1, 0x00);
    EXPECT_FALSE(line.level);
}

TEST_F(ToolSerialInterrupts, InputIsMoreUrgentThanTheTransmitter)
{
    serial.write(1, 0x03);
    input.send("a");
    serial.look_for_input();
    EXPECT_EQ(serial.read(2) & 0x0f, 0x04);
    EXPECT_EQ(serial.read(2) & 0x0f, 0x04); // reading it takes nothing back
    EXPECT_EQ(serial.read(0), 'a');
    EXPECT_EQ(serial.read(2) & 0x0f, 0x02);
}

TEST_F(ToolSerialInterrupts, Out2CutsTheLine)
{
    serial.write(1, 0x02);
    EXPECT_TRUE(line.level);
    serial.write(4, 0x03);
    EXPECT_FALSE(line.level);
    serial.write(4, 0x0b);
    EXPECT_TRUE(line.level);
}

TEST(ToolPower, SleepTypeFiveTurnsItOff)
{
    PowerControl power;
    power.write(0x604, 0x00);
    power.write(0x605, 0x14); // type 5, but not yet
    EXPECT_FALSE(power.request().has_value());
    power.write(0x605, 0x20 | 0x04); // another type
    EXPECT_FALSE(power.request().has_value());
    power.write(0x605, 0x34);
    EXPECT_EQ(power.request(), PowerRequest::kOff);
    power.write(0xcf9, 0x06);
    EXPECT_EQ(power.request(), PowerRequest::kOff); // the first one counts
}

TEST(ToolPower, TwoPortsReset)
{
    PowerControl chipset;
    chipset.write(0xcf9, 0x02); // the kind of reset, not the reset
    EXPECT_FALSE(chipset.request().has_value());
    chipset.write(0xcf9, 0x06);
    EXPECT_EQ(chipset.request(), PowerRequest::kReset);
    PowerControl keyboard;
    keyboard.write(0x64, 0xaa);
    EXPECT_FALSE(keyboard.request().has_value());
    keyboard.write(0x64, 0xfe);
    EXPECT_EQ(keyboard.request(), PowerRequest::kReset);
}

TEST(ToolPower, ItIsInAcpiModeAndKeepsWhatEventsAreEnabled)
{
    PowerControl power;
    EXPECT_EQ(power.read(0x604) & 1, 1);
    power.write(0x602, 0x20);
    power.write(0x603, 0x01);
    EXPECT_EQ(power.read(0x602), 0x20);
    EXPECT_EQ(power.read(0x603), 0x01);
    EXPECT_EQ(power.read(0x600), 0);
    EXPECT_TRUE(power.owns(0x605));
    EXPECT_FALSE(power.owns(0x606));
}

class ToolBoard : public ::testing::Test {
  protected:
    std::uint64_t read_mmio(std::uint64_t address, std::size_t size)
    {
        std::array<std::uint8_t, 8> bytes = {};
        board.mmio_read(address, {bytes.data(), size});
        std::uint64_t value = 0;
        for (std::size_t i = size; i > 0; i--)
            value = value << 8 | bytes.at(i - 1);
        return value;
    }
    void write_mmio(std::uint64_t address, std::uint64_t value, std::size_t size)
    {
        std::array<std::uint8_t, 8> bytes = {};
        for (std::size_t i = 0; i < size; i++)
            bytes.at(i) = static_cast<std::uint8_t>(value >> 8 * i);
        board.mmio_write(address, {bytes.data(), size});
    }

    StringSink output;
    StringSink debug;
    NoSource input;
    Board board{output, input, debug, GUEST_PORT_DEBUG};
};

TEST_F(ToolBoard, AWideAccessReachesThePortsOneAfterTheOther)
{
    const std::array<std::uint8_t, 2> scratch_and_beyond = {0x42, 0x99};
    board.port_write(GUEST_PORT_SERIAL + 7, scratch_and_beyond);
    std::array<std::uint8_t, 4> read = {};
    board.port_read(GUEST_PORT_SERIAL + 7, read);
    EXPECT_EQ(read, (std::array<std::uint8_t, 4>{0x42, 0xff, 0xff, 0xff}));
}

TEST_F(ToolBoard, PortsWrapAtTheEndOfTheirSpace)
{
    std::array<std::uint8_t, 4> read = {};
    board.port_read(0xfffe, read);
    EXPECT_EQ(read, (std::array<std::uint8_t, 4>{0xff, 0xff, 0xff, 0xff}));
}

TEST_F(ToolBoard, TheDebugPortCollectsBytesAndTellsThatItIsThere)
{
    const std::array<std::uint8_t, 1> byte = {'d'};
    board.port_write(GUEST_PORT_DEBUG, byte);
    EXPECT_EQ(debug.text(), "d");
    EXPECT_EQ(output.text(), "");
    std::array<std::uint8_t, 1> read = {};
    board.port_read(GUEST_PORT_DEBUG, read);
    EXPECT_EQ(read[0], 0xe9);
}

TEST_F(ToolBoard, TheFirstExitStatusCounts)
{
    EXPECT_FALSE(board.exit_status().has_value());
    const std::array<std::uint8_t, 4> wide = {0x78, 0x56, 0x34, 0x12};
    const std::array<std::uint8_t, 1> narrow = {9};
    board.port_write(GUEST_PORT_EXIT, wide);
    board.port_write(GUEST_PORT_EXIT, narrow);
    EXPECT_EQ(board.exit_status(), 0x12345678u);
}

TEST_F(ToolBoard, MmioRegistersKeepWhatTheyAreGivenButForTheFirst)
{
    EXPECT_EQ(read_mmio(GUEST_MMIO_BASE, 4), std::uint64_t{GUEST_MAGIC});
    write_mmio(GUEST_MMIO_BASE, 0, 4);
    EXPECT_EQ(read_mmio(GUEST_MMIO_BASE, 4), std::uint64_t{GUEST_MAGIC});
    write_mmio(GUEST_MMIO_BASE + 8, 0x1122334455667788, 8);
    EXPECT_EQ(read_mmio(GUEST_MMIO_BASE + 8, 8), 0x1122334455667788u);
    EXPECT_EQ(read_mmio(GUEST_MMIO_BASE + 9, 2), 0x6677u);
}

TEST_F(ToolBoard, MmioBesideTheRegistersReadsAsOnes)
{
    EXPECT_EQ(read_mmio(0xc0000000, 4), 0xffffffffu);
    EXPECT_EQ(read_mmio(~std::uint64_t{0} - 3, 8), ~std::uint64_t{0});
    write_mmio(~std::uint64_t{0} - 3, 0, 8);
    // Half in, half out, at both ends.
    EXPECT_EQ(read_mmio(GUEST_MMIO_BASE - 2, 4),
              (std::uint64_t{GUEST_MAGIC} & 0xffff) << 16 | 0xffff);
    const std::uint64_t last = GUEST_MMIO_BASE + GUEST_MMIO_SIZE - 1;
    write_mmio(last, 0xabcd, 2);
    EXPECT_EQ(read_mmio(last, 2), 0xffcdu);
}

} // namespace
} // namespace minivmx::tool
