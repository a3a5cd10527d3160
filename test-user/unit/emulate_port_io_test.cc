// SPDX-License-Identifier: GPL-2.0-only
//
// Port I/O: plain and string forms, what user space is asked, and what becomes of its answers.
#include "guest.hpp"

#include <minivmx.h>

#include <algorithm>
#include <random>

namespace minivmx::test {
namespace {

constexpr u64 kCode = 0x1000, kRam = 0x40000, kBuffer = 0x10000, kDevice = 0xd0000000;
constexpr u16 kPort = 0x1f0;

// Whether the exits describe INS and OUTS (IA32_VMX_BASIC[54]) or the core has to decode them.
class PortIo : public testing::TestWithParam<bool> {
  protected:
    Guest guest{"corei7_haswell_4770", [](sim::Machine &machine, Parameters &) {
                    u64 &basic = machine.msr[MSR_IA32_VMX_BASIC];
                    basic = GetParam() ? basic | bit64(54) : basic & ~bit64(54);
                }};

    void SetUp() override
    {
        guest.add_ram(0, 0, kRam);
        guest.protected_mode(kCode);
        guest.reg(kRdx) = kPort;
        std::memset(&guest.run(), 0xcc, sizeof(kvm_run));
        std::memset(guest.pio(), 0xcc, kPageSize);
    }

    Outcome plain(bool in, u32 size, u16 port, u32 length)
    {
        return exit((size - 1) | (in ? 8 : 0) | u64{port} << 16, length, 0);
    }
    struct String {
        bool in;
        u32 size;
        bool rep = true;
        u32 address_size = 4;
        Segment segment = kDs;
    };
    Outcome string(const String &s)
    {
        std::vector<u8> code;
        if (s.rep)
            code.push_back(0xf3);
        if (s.segment != kDs)
            code.push_back(std::array<u8, 6>{0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}[s.segment]);
        const u32 default_size = mode_64 ? 8 : mode_16 ? 2 : 4;
        if (s.address_size != default_size)
            code.push_back(0x67);
        if (s.size != 1 && (s.size == 2) != mode_16)
            code.push_back(0x66);
        code.push_back((s.in ? 0x6c : 0x6e) | (s.size != 1));
        guest.poke_bytes(kCode, code);
        length = static_cast<u32>(code.size());
        const u64 details = (s.address_size == 2   ? 0
                             : s.address_size == 4 ? 1
                                                   : 2)
                                << 7 |
                            (s.in ? 0 : u64{s.segment} << 15);
        return exit((s.size - 1) | (s.in ? 8 : 0) | 16 | (s.rep ? 32 : 0) | u64{kPort} << 16,
                    length, details);
    }
    Outcome exit(u64 qualification, u32 instruction_length, u64 details)
    {
        guest.set(EXIT_QUALIFICATION, qualification);
        guest.set(VM_EXIT_INSTRUCTION_LEN, instruction_length);
        guest.set(VMX_INSTRUCTION_INFO, details);
        guest.vmx().exit_reason = EXIT_REASON_IO_INSTRUCTION;
        guest.vmx().idt_vectoring_info = 0;
        return handle_port_io(guest.vmx(), IoInfo::decode(qualification));
    }
    Outcome answer() { return complete_pending(guest.vmx()); }

    void expect_io(Outcome outcome, bool in, u32 size, u32 count, u16 port = kPort)
    {
        EXPECT_EQ(outcome.ioctl_result(), 0);
        const kvm_run &run = guest.run();
        EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_IO});
        EXPECT_EQ(run.io.direction, in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT);
        EXPECT_EQ(run.io.size, size);
        EXPECT_EQ(run.io.count, count);
        EXPECT_EQ(run.io.port, port);
        EXPECT_EQ(run.io.data_offset, kPageSize);
    }
    u32 data(u32 size)
    {
        u32 value = 0;
        std::memcpy(&value, guest.pio(), size);
        return value;
    }

    bool mode_64 = false, mode_16 = false;
    u32 length = 0;
};

// ---- Plain ------------------------------------------------------------------

TEST_P(PortIo, Out)
{
    guest.reg(kRax) = 0x1122334455667788;
    for (const auto &[size, value] : {std::pair{1u, 0x88u}, {2u, 0x7788u}, {4u, 0x55667788u}}) {
        guest.set_rip(kCode);
        expect_io(plain(false, size, 0x3f8, 1), false, size, 1, 0x3f8);
        EXPECT_EQ(data(4), value | (size == 1 ? 0xcccccc00 : size == 2 ? 0xcccc0000 : 0));
        EXPECT_EQ(guest.rip(), kCode);
        EXPECT_TRUE(answer().resumes());
        EXPECT_EQ(guest.rip(), kCode + 1);
        std::memset(guest.pio(), 0xcc, 4);
    }
    EXPECT_EQ(guest.reg(kRax), 0x1122334455667788u);
}

TEST_P(PortIo, In)
{
    for (const auto &[size, value] :
         {std::pair{1u, 0x11223344556677ddull}, {2u, 0x112233445566ccddull}, {4u, 0xaabbccddull}}) {
        guest.set_rip(kCode);
        guest.reg(kRax) = 0x1122334455667788;
        expect_io(plain(true, size, 0xffff, 2), true, size, 1, 0xffff);
        EXPECT_EQ(data(size), 0u); // nothing of the kernel's or of an earlier answer
        const u32 given = 0xaabbccdd;
        std::memcpy(guest.pio(), &given, 4);
        EXPECT_TRUE(answer().resumes());
        EXPECT_EQ(guest.reg(kRax), value);
        EXPECT_EQ(guest.rip(), kCode + 2);
    }
}

TEST_P(PortIo, OutToPort7eIsOverAtTheExit)
{
    expect_io(plain(false, 1, 0x7e, 2), false, 1, 1, 0x7e);
    EXPECT_EQ(guest.rip(), kCode + 2);
    EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
}

TEST_P(PortIo, TheVcpuIsMovedElsewhereMeanwhile)
{
    guest.reg(kRax) = 0x1234;
    expect_io(plain(true, 4, kPort, 1), true, 4, 1);
    note_place_of_pending(guest.vmx());
    write_rip(guest.vmx(), 0xfff0);
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.reg(kRax), 0x1234u);
    EXPECT_EQ(guest.rip(), 0xfff0u);
    // The same offset in another segment is elsewhere, too.
    guest.set_rip(kCode);
    expect_io(plain(false, 4, kPort, 1), false, 4, 1);
    note_place_of_pending(guest.vmx());
    guest.set(GUEST_CS_BASE, 0xf0000);
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.rip(), kCode);
}

TEST_P(PortIo, RegistersAreSetMeanwhileAndTheVcpuIsWhereItWas)
{
    guest.reg(kRax) = 0;
    expect_io(plain(true, 1, kPort, 1), true, 1, 1);
    note_place_of_pending(guest.vmx());
    write_rip(guest.vmx(), 0xfff0);
    note_place_of_pending(guest.vmx()); // the first one counts
    write_rip(guest.vmx(), kCode);
    *static_cast<u8 *>(guest.vmx().area->pio_data) = 0x5a;
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.reg(kRax), 0x5au);
    EXPECT_EQ(guest.rip(), kCode + 1);
}

TEST_P(PortIo, WhateverUserSpaceWritesIntoKvmRun)
{
    expect_io(plain(true, 1, kPort, 1), true, 1, 1);
    std::memset(&guest.run(), 0xff, sizeof(kvm_run));
    std::memset(guest.pio(), 0x5a, kPageSize);
    guest.reg(kRax) = 0;
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.reg(kRax), 0x5au);
}

// ---- OUTS -------------------------------------------------------------------

TEST_P(PortIo, OutsGivesOneElementAnExit)
{
    for (u32 i = 0; i < 3; i++)
        guest.poke<u16>(kBuffer + 2 * i, static_cast<u16>(0x1111 * (i + 1)));
    guest.reg(kRsi) = kBuffer;
    guest.reg(kRcx) = 3;
    for (u32 i = 0; i < 3; i++) {
        EXPECT_EQ(guest.rip(), kCode);
        expect_io(string({.in = false, .size = 2}), false, 2, 1);
        EXPECT_EQ(data(2), 0x1111u * (i + 1));
        EXPECT_EQ(guest.reg(kRcx), 2 - i);
        EXPECT_EQ(guest.reg(kRsi), kBuffer + 2 * (i + 1));
        EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
    }
    EXPECT_EQ(guest.rip(), kCode + length);
}

TEST_P(PortIo, OutsDownThroughAnotherSegment)
{
    guest.set_segment(kFs, 0x100, 0xffffffff, 0xc093);
    guest.poke<u32>(kBuffer + 0x100, 0x12345678);
    guest.reg(kRsi) = kBuffer;
    guest.reg(kRcx) = 77;
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_DF);
    expect_io(string({.in = false, .size = 4, .rep = false, .segment = kFs}), false, 4, 1);
    EXPECT_EQ(data(4), 0x12345678u);
    EXPECT_EQ(guest.reg(kRsi), kBuffer - 4);
    EXPECT_EQ(guest.reg(kRcx), 77u);
    EXPECT_EQ(guest.rip(), kCode + length);
}

TEST_P(PortIo, OutsFromADevice)
{
    guest.reg(kRsi) = kDevice;
    guest.reg(kRcx) = 2;
    EXPECT_EQ(string({.in = false, .size = 4}).ioctl_result(), 0);
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_MMIO});
    EXPECT_EQ(guest.run().mmio.phys_addr, kDevice);
    const u64 given = 0x99887766;
    std::memcpy(guest.run().mmio.data, &given, 8);
    expect_io(answer(), false, 4, 1);
    EXPECT_EQ(data(4), 0x99887766u);
    EXPECT_EQ(guest.reg(kRcx), 1u);
    EXPECT_EQ(guest.reg(kRsi), kDevice + 4);
}

TEST_P(PortIo, OutsFault)
{
    guest.set_segment(kDs, 0, kBuffer + 3, 0x4093);
    guest.reg(kRsi) = kBuffer;
    guest.reg(kRcx) = 2;
    expect_io(string({.in = false, .size = 4}), false, 4, 1);
    EXPECT_TRUE(string({.in = false, .size = 4}).resumes());
    EXPECT_EQ(guest.take_exception().vector, u8{GP_VECTOR});
    EXPECT_EQ(guest.reg(kRcx), 1u);
    EXPECT_EQ(guest.rip(), kCode);
}

// ---- INS --------------------------------------------------------------------

struct InsCase {
    u32 size;
    bool down;
    u64 count;
    u64 address;
    u32 address_size;
};

TEST_P(PortIo, InsAgreesWithAModel)
{
    // Random REP INS, user space feeding a counted stream; memory must hold it where it belongs.
    std::mt19937_64 random{5};
    for (unsigned round = 0; round < 400; round++) {
        const u32 size = 1u << random() % 3;
        const bool down = random() % 2;
        const u64 count = 1 + random() % 3000;
        const u64 start =
            down ? kBuffer + count * size + random() % 5000 : kBuffer + random() % 5000;
        std::vector<u8> expected(kRam - kBuffer);
        std::generate(expected.begin(), expected.end(), [&] { return static_cast<u8>(random()); });
        for (usize i = 0; i < expected.size(); i++)
            *guest.at(kBuffer + i) = expected[i];
        guest.set_rip(kCode);
        guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | (down ? X86_EFLAGS_DF : 0));
        guest.reg(kRdi) = start;
        guest.reg(kRcx) = count;
        u8 stream = static_cast<u8>(round);
        u64 place = start;
        for (u64 done = 0; done < count;) {
            ASSERT_EQ(guest.rip(), kCode);
            ASSERT_EQ(string({.in = true, .size = size}).ioctl_result(), 0);
            const u32 n = guest.run().io.count;
            ASSERT_TRUE(n >= 1 && n <= count - done && n * size <= kPageSize);
            // As many as fit: only an element that crosses a page goes alone for no other reason.
            const u64 page = place & 0xfff;
            const u64 fit = down ? page / size + 1 : (kPageSize - page) / size;
            if (page + size <= kPageSize) {
                ASSERT_EQ(n, std::min(count - done, fit));
            }
            for (u32 i = 0; i < n; i++, place += down ? -u64{size} : size) {
                for (u32 b = 0; b < size; b++)
                    guest.pio()[i * size + b] = expected[place - kBuffer + b] = stream++;
            }
            std::memset(&guest.run(), 0xff, sizeof(kvm_run));
            ASSERT_TRUE(answer().resumes());
            done += n;
            ASSERT_EQ(guest.reg(kRcx), count - done);
            ASSERT_EQ(guest.reg(kRdi), place);
        }
        ASSERT_EQ(guest.rip(), kCode + length);
        ASSERT_EQ(std::memcmp(guest.at(kBuffer), expected.data(), expected.size()), 0) << round;
    }
}

TEST_P(PortIo, InsOnce)
{
    guest.reg(kRdi) = kBuffer;
    guest.reg(kRcx) = 9;
    expect_io(string({.in = true, .size = 4, .rep = false}), true, 4, 1);
    EXPECT_EQ(data(4), 0u);
    EXPECT_EQ(guest.reg(kRdi), kBuffer);
    const u32 given = 0x44332211;
    std::memcpy(guest.pio(), &given, 4);
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.peek<u32>(kBuffer), given);
    EXPECT_EQ(guest.reg(kRdi), kBuffer + 4);
    EXPECT_EQ(guest.reg(kRcx), 9u);
    EXPECT_EQ(guest.rip(), kCode + length);
}

TEST_P(PortIo, InsWith16BitAddressesWrapsOnlyAtTheEdge)
{
    guest.real_mode(kCode);
    mode_16 = true;
    guest.set_segment(kEs, 0x800, 0xffff, 0x93);
    guest.reg(kRdi) = 0xabcdfffc;
    guest.reg(kRcx) = 0x12340000 | 6;
    // Four bytes up to offset FFFF, then from 0 on.
    expect_io(string({.in = true, .size = 1, .address_size = 2}), true, 1, 4);
    std::memset(guest.pio(), 0x77, 4);
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.peek<u32>(0x800 + 0xfffc), 0x77777777u);
    EXPECT_EQ(guest.reg(kRdi), 0xabcd0000u);
    EXPECT_EQ(guest.reg(kRcx), 0x12340002u);
    expect_io(string({.in = true, .size = 1, .address_size = 2}), true, 1, 2);
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.rip(), kCode + length);
    // A word at FFFF is beyond the limit.
    guest.set_rip(kCode);
    guest.reg(kRdi) = 0xffff;
    guest.reg(kRcx) = 1;
    EXPECT_TRUE(string({.in = true, .size = 2, .address_size = 2}).resumes());
    EXPECT_EQ(guest.take_exception().vector, u8{GP_VECTOR});
}

TEST_P(PortIo, InsAsksOnlyForElementsWithinTheLimit)
{
    guest.set_segment(kEs, 0, kBuffer + 9, 0x4093);
    guest.reg(kRdi) = kBuffer;
    guest.reg(kRcx) = 100;
    for (unsigned i = 0; i < 2; i++) {
        expect_io(string({.in = true, .size = 4}), true, 4, 1);
        EXPECT_TRUE(answer().resumes());
    }
    EXPECT_TRUE(string({.in = true, .size = 4}).resumes());
    EXPECT_EQ(guest.take_exception().vector, u8{GP_VECTOR});
    EXPECT_EQ(guest.reg(kRcx), 98u);
}

TEST_P(PortIo, InsToAPageThatFaultsReadsNoPort)
{
    guest.poke<u32>(0x8000, 0x9000 | 7);
    for (u32 page = 0; page < kRam >> 12; page++)
        guest.poke<u32>(0x9000 + 4 * page, page << 12 | 7);
    guest.poke<u32>(0x9000 + 4 * (kBuffer >> 12) + 4, 0);
    guest.protected_mode(kCode, 0x8000);
    guest.reg(kRdi) = kBuffer + 0xffc;
    guest.reg(kRcx) = 2;
    expect_io(string({.in = true, .size = 4}), true, 4, 1);
    EXPECT_TRUE(answer().resumes());
    EXPECT_TRUE(string({.in = true, .size = 4}).resumes());
    EXPECT_EQ(guest.take_exception().vector, u8{PF_VECTOR});
    EXPECT_EQ(guest.area().cr2, kBuffer + 0x1000);
    EXPECT_EQ(guest.reg(kRcx), 1u);
    // An element of which only the second half faults.
    guest.reg(kRdi) = kBuffer + 0xffe;
    EXPECT_TRUE(string({.in = true, .size = 4}).resumes());
    EXPECT_EQ(guest.take_exception().vector, u8{PF_VECTOR});
    EXPECT_EQ(guest.area().cr2, kBuffer + 0x1000);
}

TEST_P(PortIo, InsToADevice)
{
    guest.reg(kRdi) = kRam - 4;
    guest.reg(kRcx) = 3;
    expect_io(string({.in = true, .size = 4}), true, 4, 1);
    EXPECT_TRUE(answer().resumes());
    expect_io(string({.in = true, .size = 4}), true, 4, 2); // nothing is there: MMIO
    const u32 given[] = {0x11111111, 0x22222222};
    std::memcpy(guest.pio(), given, 8);
    for (u32 i = 0; i < 2; i++) {
        EXPECT_EQ(answer().ioctl_result(), 0);
        EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_MMIO});
        EXPECT_EQ(guest.run().mmio.phys_addr, kRam + 4 * i);
        EXPECT_EQ(guest.run().mmio.len, 4u);
        EXPECT_EQ(std::memcmp(guest.run().mmio.data, &given[i], 4), 0);
    }
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.reg(kRcx), 0u);
    EXPECT_EQ(guest.rip(), kCode + length);
    EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
}

TEST_P(PortIo, CounterLoweredWhileInsIsAnswered)
{
    guest.reg(kRdi) = kBuffer;
    guest.reg(kRcx) = 8;
    expect_io(string({.in = true, .size = 1}), true, 1, 8);
    guest.reg(kRcx) = 3;
    std::memset(guest.pio(), 0x66, 8);
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.peek<u32>(kBuffer), 0x00666666u);
    EXPECT_EQ(guest.reg(kRcx), 0u);
    EXPECT_EQ(guest.rip(), kCode + length);
    // To zero: nothing is left to do.
    guest.set_rip(kCode);
    guest.reg(kRcx) = 8;
    expect_io(string({.in = true, .size = 1}), true, 1, 8);
    guest.reg(kRcx) = 0;
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.reg(kRcx), 0u);
}

TEST_P(PortIo, ZeroTimes)
{
    guest.reg(kRcx) = 0;
    for (const bool in : {false, true}) {
        guest.set_rip(kCode);
        EXPECT_TRUE(string({.in = in, .size = 4}).resumes());
        EXPECT_EQ(guest.rip(), kCode + length);
    }
}

TEST_P(PortIo, LongModeAddressSizes)
{
    guest.poke<u64>(0x8000, 0x9000 | 7);
    guest.poke<u64>(0x9000, 0xa000 | 7);
    guest.poke<u64>(0xa000, 0x87);
    guest.long_mode(kCode, 0x8000);
    mode_64 = true;
    guest.poke<u32>(kBuffer, 0x04030201);
    guest.reg(kRsi) = 0x100000000 | kBuffer;
    guest.reg(kRcx) = 0x100000002;
    expect_io(string({.in = false, .size = 1, .address_size = 4}), false, 1, 1);
    EXPECT_EQ(data(1), 1u);
    EXPECT_EQ(guest.reg(kRsi), kBuffer + 1); // 32-bit results clear the upper half
    EXPECT_EQ(guest.reg(kRcx), 1u);
    guest.reg(kRdi) = kBuffer;
    guest.reg(kRcx) = 2;
    expect_io(string({.in = true, .size = 4, .address_size = 8}), true, 4, 2);
    EXPECT_TRUE(answer().resumes());
    EXPECT_EQ(guest.reg(kRdi), kBuffer + 8);
}

TEST_P(PortIo, CodeThatChangedUnderTheExit)
{
    guest.reg(kRcx) = 1;
    guest.reg(kRsi) = kBuffer;
    guest.poke_bytes(kCode, {0x90, 0x90});
    const Outcome outcome = exit(16 | 32 | u64{kPort} << 16, 2, 1 << 7 | kDs << 15);
    if (GetParam())
        expect_io(outcome, false, 1, 1); // the exit said all there is to say
    else
        EXPECT_TRUE(outcome.resumes() || guest.run().exit_reason == KVM_EXIT_INTERNAL_ERROR);
    guest.take_exception();
}

std::string param_name(const testing::TestParamInfo<bool> &info)
{
    return info.param ? "described" : "decoded";
}

INSTANTIATE_TEST_SUITE_P(Exits, PortIo, testing::Values(true, false), param_name);

} // namespace
} // namespace minivmx::test
