// SPDX-License-Identifier: GPL-2.0-only
//
// What emulated instructions do around their results: in which order devices are read and written,
// which exception comes when, what is left half done, and how a string goes on. The results
// themselves are compared with the CPU's in emulate_native_test.cc.
#include "guest.hpp"

#include <minivmx/devices.hpp>

#include "src/core/emulate/opcodes.hpp"

#include <minivmx.h>

#include <random>

namespace minivmx::test {
namespace {

constexpr u64 kCode = 0x1000, kDevice = 0xd0000000, kRam = 0x40000;
constexpr u64 kArithmetic = 0x8d5, kZf = 0x40, kCf = 1;

class Operations : public testing::Test {
  protected:
    Guest guest;

    void SetUp() override
    {
        guest.add_ram(0, 0, kRam);
        guest.protected_mode(kCode);
        guest.vmx().exit_reason = EXIT_REASON_EPT_MISCONFIG;
        guest.vmx().idt_vectoring_info = 0;
        guest.set(GUEST_INTERRUPTIBILITY_INFO, 0);
        std::memset(&guest.run(), 0xcc, sizeof(kvm_run));
    }
    /// Linear addresses are physical ones, but in 64-bit code: 2 MiB at 0 and 2 MiB at the device.
    void long_mode()
    {
        guest.poke<u64>(0x8000, 0x9000 | 7);
        guest.poke<u64>(0x9000, 0xa000 | 7);
        guest.poke<u64>(0x9000 + 8 * (kDevice >> 30), 0xb000 | 7);
        guest.poke<u64>(0xa000, 0x87);
        guest.poke<u64>(0xb000 + 8 * (kDevice >> 21 & 511), kDevice | 0x87);
        guest.long_mode(kCode, 0x8000);
    }
    void set_cr4(u64 cr4)
    {
        guest.set(GUEST_CR4, cr4);
        guest.vmx().cr4 = cr4;
    }
    void set_cr0(u64 cr0)
    {
        guest.set(GUEST_CR0, cr0);
        guest.vmx().cr0 = cr0;
    }

    Outcome again() { return emulate_mmio(guest.vmx(), 0); }
    Outcome run(const std::vector<u8> &code)
    {
        length = code.size();
        const u64 rsp = read_rsp(guest.vmx());
        guest.set_rip(kCode);
        write_rsp(guest.vmx(), rsp);
        guest.poke_bytes(kCode, code);
        return again();
    }
    Outcome answer(u64 value = 0)
    {
        std::memset(&guest.run(), 0xff, 128);
        std::memcpy(guest.run().mmio.data, &value, 8);
        return complete_pending(guest.vmx());
    }
    void expect_read(Outcome outcome, u64 gpa, u32 size)
    {
        EXPECT_EQ(outcome.ioctl_result(), 0);
        EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_MMIO});
        EXPECT_EQ(guest.run().mmio.phys_addr, gpa);
        EXPECT_EQ(guest.run().mmio.len, size);
        EXPECT_FALSE(guest.run().mmio.is_write);
    }
    void expect_write(Outcome outcome, u64 gpa, u32 size, u64 value)
    {
        EXPECT_EQ(outcome.ioctl_result(), 0);
        EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_MMIO});
        EXPECT_EQ(guest.run().mmio.phys_addr, gpa);
        EXPECT_EQ(guest.run().mmio.len, size);
        EXPECT_TRUE(guest.run().mmio.is_write);
        u64 data;
        std::memcpy(&data, guest.run().mmio.data, 8);
        EXPECT_EQ(data, value);
    }
    void expect_done(Outcome outcome)
    {
        EXPECT_TRUE(outcome.resumes());
        EXPECT_FALSE(guest.vmx().exception.pending);
        EXPECT_EQ(guest.rip(), kCode + length);
        EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
    }
    /// An exception, and nothing else happened.
    void expect_exception(Outcome outcome, u8 vector)
    {
        EXPECT_TRUE(outcome.resumes());
        EXPECT_TRUE(guest.vmx().exception.pending);
        EXPECT_EQ(guest.take_exception().vector, vector);
        EXPECT_EQ(guest.rip(), kCode);
        EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
    }

    u64 length = 0;
};

// ---- Read-modify-write ------------------------------------------------------

TEST_F(Operations, AddToADevice)
{
    guest.reg(kRax) = 0x10;
    guest.reg(kRbx) = kDevice;
    expect_read(run({0x01, 0x03}), kDevice, 4); // add [ebx], eax
    EXPECT_EQ(guest.rip(), kCode);
    EXPECT_EQ(guest.rflags() & kArithmetic, 0u);
    expect_write(answer(0xfffffff0), kDevice, 4, 0);
    EXPECT_EQ(guest.rip(), kCode + 2); // as in KVM, done when user space sees the write
    EXPECT_EQ(guest.rflags() & (kZf | kCf), kZf | kCf);
    expect_done(answer());
}

TEST_F(Operations, ReadModifyWriteAcrossPages)
{
    guest.reg(kRbx) = kDevice + 0xffd;
    expect_read(run({0xff, 0x03}), kDevice + 0xffd, 3); // inc dword [ebx]
    expect_read(answer(0xffffff), kDevice + 0x1000, 1);
    expect_write(answer(0), kDevice + 0xffd, 3, 0);
    expect_write(answer(), kDevice + 0x1000, 1, 1);
    expect_done(answer());
}

TEST_F(Operations, ReadModifyWriteHalfInMemory)
{
    guest.poke<u16>(kRam - 2, 0xffff);
    guest.reg(kRbx) = kRam - 2;
    expect_read(run({0xff, 0x03}), kRam, 2);
    expect_write(answer(0x1234), kRam, 2, 0x1235);
    EXPECT_EQ(guest.peek<u16>(kRam - 2), 0u);
    expect_done(answer());
}

TEST_F(Operations, CompareDoesNotWrite)
{
    guest.reg(kRbx) = kDevice;
    expect_read(run({0x80, 0x3b, 0x05}), kDevice, 1); // cmp byte [ebx], 5
    expect_done(answer(5));
    EXPECT_EQ(guest.rflags() & kZf, kZf);
    expect_read(run({0xf6, 0x03, 0x80}), kDevice, 1); // test
    expect_done(answer(0x7f));
    EXPECT_EQ(guest.rflags() & kZf, kZf);
}

TEST_F(Operations, WriteFaultComesBeforeTheDeviceIsRead)
{
    guest.poke<u32>(0x8000, 0x9000 | 7);
    for (u32 page = 0; page < kRam >> 12; page++)
        guest.poke<u32>(0x9000 + 4 * page, page << 12 | 7);
    guest.poke<u32>(0x9000 + 4 * 0x100, kDevice | 5); // linear 0x100000, read-only
    guest.protected_mode(kCode, 0x8000);
    guest.reg(kRbx) = 0x100000;
    expect_exception(run({0x01, 0x03}), PF_VECTOR);
    EXPECT_EQ(guest.area().cr2, 0x100000u);
    expect_exception(run({0x0f, 0xb1, 0x03}), PF_VECTOR); // cmpxchg
    expect_read(run({0x39, 0x03}), kDevice, 4);           // cmp only reads
    expect_done(answer());
}

TEST_F(Operations, TheVcpuIsMovedBetweenReadAndWrite)
{
    guest.reg(kRbx) = kDevice;
    expect_read(run({0x01, 0x03}), kDevice, 4);
    note_place_of_pending(guest.vmx()); // as KVM_SET_REGS does
    write_rip(guest.vmx(), 0xfff0);
    EXPECT_TRUE(answer(1).resumes());
    EXPECT_EQ(guest.rip(), 0xfff0u);
    EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
}

TEST_F(Operations, CompareAndExchange)
{
    guest.reg(kRbx) = kDevice;
    guest.reg(kRax) = 5;
    guest.reg(kRcx) = 9;
    expect_read(run({0xf0, 0x0f, 0xb1, 0x0b}), kDevice, 4); // lock cmpxchg [ebx], ecx
    expect_write(answer(5), kDevice, 4, 9);
    expect_done(answer());
    EXPECT_EQ(guest.rflags() & kZf, kZf);
    // Not equal: its own value is written back.
    expect_read(run({0x0f, 0xb1, 0x0b}), kDevice, 4);
    expect_write(answer(6), kDevice, 4, 6);
    expect_done(answer());
    EXPECT_EQ(guest.reg(kRax), 6u);
    EXPECT_EQ(guest.rflags() & kZf, 0u);
}

TEST_F(Operations, CompareAndExchange16Bytes)
{
    long_mode();
    guest.reg(kRbx) = 0x1111;
    guest.reg(kRcx) = 0x2222;
    guest.reg(kRsi) = kDevice;
    guest.reg(kRax) = 1;
    guest.reg(kRdx) = 2;
    const std::vector<u8> code = {0xf0, 0x48, 0x0f, 0xc7, 0x0e}; // lock cmpxchg16b [rsi]
    expect_read(run(code), kDevice, 8);
    expect_read(answer(1), kDevice + 8, 8);
    expect_write(answer(2), kDevice, 8, 0x1111);
    expect_write(answer(), kDevice + 8, 8, 0x2222);
    expect_done(answer());
    EXPECT_EQ(guest.rflags() & kZf, kZf);
    guest.reg(kRsi) = kDevice + 8;
    expect_exception(run(code), GP_VECTOR);
}

// ---- LOCK -------------------------------------------------------------------

TEST_F(Operations, LockedOperationsOnMemoryAreExchanged)
{
    unsigned tries = 0;
    u64 changes = 0;
    guest.machine.on_cmpxchg = [&](u64 hva) {
        // Another CPU is faster, the first time.
        if (tries++ < changes)
            ++*reinterpret_cast<u32 *>(hva);
    };
    guest.reg(kRbx) = 0x3000;
    guest.reg(kRax) = 0x100;
    guest.poke<u32>(0x3000, 7);
    expect_done(run({0xf0, 0x01, 0x03})); // lock add [ebx], eax
    EXPECT_EQ(guest.peek<u32>(0x3000), 0x107u);
    EXPECT_EQ(tries, 1u);
    expect_done(run({0x01, 0x03}));
    EXPECT_EQ(tries, 1u);
    expect_done(run({0x87, 0x03})); // xchg locks by itself
    EXPECT_EQ(tries, 2u);
    EXPECT_EQ(guest.reg(kRax), 0x207u);
    for (const std::vector<u8> &code : std::vector<std::vector<u8>>{
             {0xf0, 0x0f, 0xc7, 0x0b}, {0xf0, 0xfe, 0x03}, {0xf0, 0x66, 0x0f, 0xba, 0x2b, 0x05}})
        expect_done(run(code)); // cmpxchg8b, inc byte, bts word
    EXPECT_EQ(tries, 5u);
    // If it has changed, the guest tries again.
    guest.reg(kRax) = 1;
    guest.poke<u32>(0x3000, 7);
    changes = tries + 1;
    EXPECT_TRUE(run({0xf0, 0x0f, 0xc1, 0x03}).resumes()); // lock xadd
    EXPECT_EQ(guest.rip(), kCode);
    EXPECT_EQ(guest.reg(kRax), 1u);
    EXPECT_EQ(guest.peek<u32>(0x3000), 8u);
    expect_done(again());
    EXPECT_EQ(guest.reg(kRax), 8u);
    EXPECT_EQ(guest.peek<u32>(0x3000), 9u);
    // Not aligned, and to memory that can only be read.
    guest.reg(kRbx) = 0x3001;
    expect_done(run({0xf0, 0xff, 0x03}));
    guest.add_ram(1, kDevice, 0x1000, KVM_MEM_READONLY);
    guest.reg(kRbx) = kDevice;
    guest.poke<u32>(kDevice, 41);
    expect_write(run({0xf0, 0xff, 0x03}), kDevice, 4, 42);
    expect_done(answer());
}

TEST_F(Operations, LockWhereItMayNotBe)
{
    guest.reg(kRbx) = kDevice;
    const std::vector<std::vector<u8>> wrong = {
        {0xf0, 0x03, 0x03},             // add eax, [ebx]
        {0xf0, 0x01, 0xc3},             // add ebx, eax
        {0xf0, 0x39, 0x03},             // cmp
        {0xf0, 0x80, 0x3b, 0x00},       // cmp byte [ebx], 0
        {0xf0, 0x85, 0x03},             // test
        {0xf0, 0x89, 0x03},             // mov
        {0xf0, 0x0f, 0xa3, 0x03},       // bt
        {0xf0, 0xd1, 0x23},             // shl
        {0xf0, 0xf7, 0x23},             // mul
        {0xf0, 0xf3, 0xa5},             // rep movs
        {0xf0, 0xff, 0x33},             // push
        {0xf0, 0x0f, 0x10, 0x03},       // movups
        {0xf0, 0xc5, 0xf8, 0x10, 0x03}, // vmovups
    };
    for (const std::vector<u8> &code : wrong)
        expect_exception(run(code), UD_VECTOR);
}

// ---- Faults -----------------------------------------------------------------

TEST_F(Operations, AddressesThatAreNotCanonical)
{
    long_mode();
    guest.reg(kRbx) = u64{1} << 47;
    expect_exception(run({0x01, 0x03}), GP_VECTOR);
    guest.reg(kRbp) = u64{1} << 47;
    expect_exception(run({0x01, 0x45, 0x00}), SS_VECTOR);
    write_rsp(guest.vmx(), (u64{1} << 47) + 4);
    expect_exception(run({0xff, 0x35, 0, 0, 0, 0}), SS_VECTOR); // push [rip]
    guest.reg(kRsi) = (u64{1} << 47) - 4;                       // the last bytes are outside
    expect_exception(run({0x48, 0xad}), GP_VECTOR);             // lods
}

TEST_F(Operations, DivisionErrors)
{
    guest.reg(kRbx) = kDevice;
    guest.reg(kRax) = 100;
    guest.reg(kRdx) = 0;
    expect_read(run({0xf7, 0x33}), kDevice, 4); // div dword [ebx]
    expect_done(answer(7));
    EXPECT_EQ(guest.reg(kRax), 14u);
    EXPECT_EQ(guest.reg(kRdx), 2u);
    struct Case {
        u64 eax, edx, divisor;
        bool is_signed, fits;
    };
    for (const Case &c :
         {Case{1, 0, 0, false, false}, Case{0, 7, 7, false, false}, Case{~0u, 6, 7, false, true},
          Case{0x80000000, ~0u, ~0u, true, false}, Case{0x80000001, ~0u, ~0u, true, true},
          Case{0x80000000, 0, 1, true, false}, Case{0x80000000, 0, ~0u, true, true},
          Case{1, 0, 0, true, false}}) {
        guest.reg(kRax) = c.eax;
        guest.reg(kRdx) = c.edx;
        expect_read(run({0xf7, static_cast<u8>(c.is_signed ? 0x3b : 0x33)}), kDevice, 4);
        if (c.fits) {
            expect_done(answer(c.divisor));
        } else {
            expect_exception(answer(c.divisor), DE_VECTOR);
            EXPECT_EQ(guest.reg(kRax), c.eax);
        }
    }
}

TEST_F(Operations, AlignmentOfVectors)
{
    set_cr4(X86_CR4_OSFXSR);
    guest.reg(kRbx) = kDevice + 8;
    expect_exception(run({0x0f, 0x28, 0x03}), GP_VECTOR);       // movaps
    expect_exception(run({0x66, 0x0f, 0x7f, 0x03}), GP_VECTOR); // movdqa
    expect_read(run({0x0f, 0x10, 0x03}), kDevice + 8, 8);       // movups
    expect_read(answer(1), kDevice + 16, 8);
    expect_done(answer(2));
}

TEST_F(Operations, VectorsThatAreTurnedOff)
{
    guest.reg(kRbx) = kDevice;
    const std::vector<u8> movups = {0x0f, 0x10, 0x03}, movq_mm = {0x0f, 0x6f, 0x03},
                          vmovups = {0xc5, 0xf8, 0x10, 0x03};
    expect_exception(run(movups), UD_VECTOR); // CR4.OSFXSR is 0
    expect_exception(run(vmovups), UD_VECTOR);
    expect_read(run(movq_mm), kDevice, 8);
    expect_done(answer(0x1122334455667788));
    EXPECT_EQ(guest.machine.mmx[0], 0x1122334455667788u);
    guest.machine.x87_exception = true; // MMX instructions raise it
    expect_read(run(movq_mm), kDevice, 8);
    expect_exception(answer(), MF_VECTOR);
    expect_exception(run({0x0f, 0x7f, 0x03}), MF_VECTOR);
    guest.machine.x87_exception = false;
    set_cr4(X86_CR4_OSFXSR | X86_CR4_OSXSAVE);
    expect_read(run(movups), kDevice, 8);
    guest.vmx().pending.kind = PendingIo::kNone;
    expect_exception(run(vmovups), UD_VECTOR); // XCR0 has no AVX
    guest.vmx().msrs.xcr0 = 7;
    expect_read(run(vmovups), kDevice, 8);
    guest.vmx().pending.kind = PendingIo::kNone;
    set_cr0(X86_CR0_PE | X86_CR0_TS);
    for (const auto &code : {movups, movq_mm, vmovups})
        expect_exception(run(code), NM_VECTOR);
    set_cr0(X86_CR0_PE | X86_CR0_EM);
    expect_exception(run(movups), UD_VECTOR);
    expect_exception(run(movq_mm), UD_VECTOR);
    // VEX prefixes mean nothing in real mode.
    guest.real_mode(kCode);
    set_cr4(X86_CR4_OSFXSR | X86_CR4_OSXSAVE);
    expect_exception(run({0xc5, 0xf8, 0x10, 0x07}), UD_VECTOR);
}

// ---- Vectors ----------------------------------------------------------------

TEST_F(Operations, VectorAcrossPages)
{
    long_mode();
    set_cr4(X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXSAVE);
    guest.vmx().msrs.xcr0 = 7;
    guest.reg(kRbx) = kDevice + 0xff5; // 11 bytes, then 21
    for (unsigned i = 0; i < 32; i++)
        guest.machine.ymm[9][i] = static_cast<u8>(i);
    expect_write(run({0xc5, 0x7e, 0x7f, 0x0b}), kDevice + 0xff5, 8, 0x0706050403020100);
    expect_write(answer(), kDevice + 0xffd, 3, 0x0a0908);
    expect_write(answer(), kDevice + 0x1000, 8, 0x1211100f0e0d0c0b);
    expect_write(answer(), kDevice + 0x1008, 8, 0x1a19181716151413);
    expect_write(answer(), kDevice + 0x1010, 5, 0x1f1e1d1c1b);
    expect_done(answer());
    // A legacy load leaves the upper half, a VEX load clears it.
    guest.reg(kRbx) = kDevice;
    expect_read(run({0x44, 0x0f, 0x10, 0x0b}), kDevice, 8);
    expect_read(answer(0xaa), kDevice + 8, 8);
    expect_done(answer(0xbb));
    EXPECT_EQ(guest.machine.ymm[9][0], 0xaa);
    EXPECT_EQ(guest.machine.ymm[9][8], 0xbb);
    EXPECT_EQ(guest.machine.ymm[9][16], 0x10);
    expect_read(run({0xc5, 0x7a, 0x10, 0x0b}), kDevice, 4); // vmovss xmm9, [rbx]
    expect_done(answer(0x44332211));
    EXPECT_EQ(guest.machine.ymm[9][3], 0x44);
    EXPECT_EQ(guest.machine.ymm[9][8], 0);
    EXPECT_EQ(guest.machine.ymm[9][16], 0);
}

// ---- The stack --------------------------------------------------------------

TEST_F(Operations, PushAndPop)
{
    guest.reg(kRbx) = kDevice;
    write_rsp(guest.vmx(), 0x3000);
    expect_read(run({0xff, 0x33}), kDevice, 4); // push dword [ebx]
    expect_done(answer(0x12345678));
    EXPECT_EQ(read_rsp(guest.vmx()), 0x2ffcu);
    EXPECT_EQ(guest.peek<u32>(0x2ffc), 0x12345678u);
    expect_write(run({0x8f, 0x03}), kDevice, 4, 0x12345678);
    EXPECT_EQ(read_rsp(guest.vmx()), 0x3000u);
    expect_done(answer());
    // The address is that after the pop.
    guest.poke<u32>(0x3000, 0x5555);
    expect_done(run({0x8f, 0x44, 0x24, 0x08})); // pop dword [esp + 8]
    EXPECT_EQ(guest.peek<u32>(0x300c), 0x5555u);
    EXPECT_EQ(read_rsp(guest.vmx()), 0x3004u);
    // A fault leaves the stack pointer.
    guest.set_segment(kSs, 0, 0x2fff, 0x4093);
    write_rsp(guest.vmx(), 0x3004);
    expect_exception(run({0x8f, 0x03}), SS_VECTOR);
    EXPECT_EQ(read_rsp(guest.vmx()), 0x3004u);
}

TEST_F(Operations, SixteenBitStackWraps)
{
    guest.real_mode(kCode);
    guest.set_segment(kDs, kDevice, 0xffff, 0x93);
    guest.set_segment(kSs, 0x10000, 0xffff, 0x93);
    guest.reg(kRbx) = 0;
    write_rsp(guest.vmx(), 0xabcd0000);
    expect_read(run({0xff, 0x37}), kDevice, 2); // push word [bx]
    expect_done(answer(0x1234));
    EXPECT_EQ(guest.peek<u16>(0x1fffe), 0x1234u);
    EXPECT_EQ(read_rsp(guest.vmx()), 0xabcdfffeu);
}

// ---- Segment registers ------------------------------------------------------

TEST_F(Operations, SegmentRegisters)
{
    guest.set(GUEST_DS_SELECTOR, 0x1234);
    guest.reg(kRbx) = kDevice;
    expect_write(run({0x8c, 0x1b}), kDevice, 2, 0x1234); // mov [ebx], ds
    expect_done(answer());
    expect_read(run({0x8e, 0x1b}), kDevice, 2); // mov ds, [ebx]
    expect_done(answer(0));                     // a null selector
    EXPECT_EQ(guest.get(GUEST_DS_SELECTOR), 0u);
    guest.real_mode(kCode);
    guest.set_segment(kDs, kDevice, 0xffff, 0x93);
    guest.reg(kRbx) = 0;
    expect_read(run({0x8e, 0x17}), kDevice, 2); // mov ss, [bx]
    expect_done(answer(0x2345));
    EXPECT_EQ(guest.get(GUEST_SS_SELECTOR), 0x2345u);
    EXPECT_EQ(guest.get(GUEST_SS_BASE), 0x23450u);
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), u64{GUEST_INTR_STATE_MOV_SS});
    expect_exception(run({0x8e, 0x0f}), UD_VECTOR); // mov cs
}

// ---- Strings ----------------------------------------------------------------

TEST_F(Operations, CompareStringsBothInDevices)
{
    guest.reg(kRsi) = kDevice;
    guest.reg(kRdi) = kDevice + 0x2000;
    guest.reg(kRcx) = 3;
    expect_read(run({0xf3, 0xa6}), kDevice, 1); // repe cmpsb
    expect_read(answer(0x41), kDevice + 0x2000, 1);
    EXPECT_TRUE(answer(0x41).resumes());
    EXPECT_EQ(guest.rip(), kCode);
    EXPECT_EQ(guest.reg(kRcx), 2u);
    EXPECT_EQ(guest.reg(kRsi), kDevice + 1);
    EXPECT_EQ(guest.reg(kRdi), kDevice + 0x2001);
    EXPECT_EQ(guest.rflags() & kZf, kZf);
    expect_read(again(), kDevice + 1, 1);
    expect_read(answer(0x41), kDevice + 0x2001, 1);
    expect_done(answer(0x42)); // the first difference ends it
    EXPECT_EQ(guest.reg(kRcx), 1u);
    EXPECT_EQ(guest.rflags() & (kZf | kCf), kCf);
}

TEST_F(Operations, ScanString)
{
    guest.reg(kRax) = 0x55;
    guest.reg(kRdi) = kDevice;
    guest.reg(kRcx) = 10;
    expect_read(run({0xf2, 0xae}), kDevice, 1); // repne scasb
    EXPECT_TRUE(answer(0x11).resumes());
    EXPECT_EQ(guest.rip(), kCode);
    expect_read(again(), kDevice + 1, 1);
    expect_done(answer(0x55));
    EXPECT_EQ(guest.reg(kRcx), 8u);
    EXPECT_EQ(guest.reg(kRdi), kDevice + 2);
    EXPECT_EQ(guest.rflags() & X86_EFLAGS_RF, 0u);
}

TEST_F(Operations, FirstReadIsKeptWhileTheSecondIsAnswered)
{
    guest.poke<u8>(0x3000, 0x10);
    guest.reg(kRsi) = 0x3000;
    guest.reg(kRdi) = kDevice;
    expect_read(run({0xa6}), kDevice, 1); // cmpsb
    guest.poke<u8>(0x3000, 0x20);
    expect_done(answer(0x10));
    EXPECT_EQ(guest.rflags() & kZf, kZf);
}

TEST_F(Operations, StringsInMemoryGoOnInBatches)
{
    guest.reg(kRdi) = 0x10000;
    guest.reg(kRcx) = 600;
    guest.reg(kRax) = 0x5a;
    EXPECT_TRUE(run({0xf3, 0xaa}).resumes());
    EXPECT_EQ(guest.rip(), kCode);
    const u64 first = 600 - guest.reg(kRcx);
    EXPECT_GT(first, 1u);
    EXPECT_EQ(guest.reg(kRdi), 0x10000 + first);
    EXPECT_NE(guest.rflags() & X86_EFLAGS_RF, 0u);
    // Somebody wants the vCPU: one element at a time.
    guest.area().requests = VCPU_REQUEST_TLB_FLUSH;
    EXPECT_TRUE(again().resumes());
    EXPECT_EQ(guest.reg(kRcx), 600 - first - 1);
    guest.area().requests = 0;
    while (guest.rip() == kCode)
        EXPECT_TRUE(again().resumes());
    EXPECT_EQ(guest.reg(kRcx), 0u);
    EXPECT_EQ(guest.peek<u8>(0x10000 + 599), 0x5a);
    EXPECT_EQ(guest.peek<u8>(0x10000 + 600), 0);
}

TEST_F(Operations, SingleStepsThroughAString)
{
    constexpr u64 kStep = 1 << 14;
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_TF);
    guest.set(GUEST_PENDING_DBG_EXCEPTIONS, 0);
    guest.reg(kRdi) = 0x10000;
    guest.reg(kRcx) = 5;
    EXPECT_TRUE(run({0xf3, 0xaa}).resumes());
    EXPECT_EQ(guest.reg(kRcx), 4u);
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), kStep);
}

TEST_F(Operations, AFaultInTheMiddleOfAString)
{
    guest.set_segment(kEs, 0, 0x10003, 0x4093);
    guest.reg(kRdi) = 0x10000;
    guest.reg(kRcx) = 100;
    EXPECT_TRUE(run({0xf3, 0xaa}).resumes());
    EXPECT_EQ(guest.take_exception().vector, u8{GP_VECTOR});
    EXPECT_EQ(guest.reg(kRcx), 96u);
    EXPECT_EQ(guest.reg(kRdi), 0x10004u);
    EXPECT_EQ(guest.rip(), kCode);
}

// ---- Devices of the module ---------------------------------------------------

TEST_F(Operations, StringToADeviceOfTheModuleNeedsNoExit)
{
    const kvm_coalesced_mmio_zone zone = {.addr = kDevice, .size = 0x1000, .pio = 0};
    ASSERT_EQ(register_coalesced(guest.kvm(), zone), 0);
    guest.reg(kRdi) = kDevice;
    guest.reg(kRcx) = 100;
    guest.reg(kRax) = 0x12345678;
    expect_done(run({0xf3, 0xab})); // rep stosd
    EXPECT_EQ(guest.reg(kRdi), kDevice + 400);
    const auto *ring = static_cast<const kvm_coalesced_mmio_ring *>(guest.kvm().coalesced_ring);
    EXPECT_EQ(ring->last, 100u);
    EXPECT_EQ(ring->coalesced_mmio[99].phys_addr, kDevice + 396);
    EXPECT_EQ(ring->coalesced_mmio[99].len, 4u);
    // When the ring is full user space has to look.
    guest.reg(kRcx) = 100;
    Outcome outcome = run({0xf3, 0xab});
    EXPECT_EQ(outcome.ioctl_result(), 0);
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_MMIO});
    EXPECT_GT(guest.reg(kRcx), 0u);
    EXPECT_EQ(guest.rip(), kCode);
    EXPECT_TRUE(answer().resumes());
}

TEST_F(Operations, AccessHalfToADeviceOfTheModule)
{
    const kvm_coalesced_mmio_zone zone = {.addr = kDevice, .size = 0x1000, .pio = 0};
    ASSERT_EQ(register_coalesced(guest.kvm(), zone), 0);
    guest.reg(kRax) = 0x44332211;
    guest.reg(kRbx) = kDevice + 0xffe;
    expect_write(run({0x89, 0x03}), kDevice + 0x1000, 2, 0x4433);
    expect_done(answer());
    guest.reg(kRbx) = kDevice - 2;
    expect_write(run({0x89, 0x03}), kDevice - 2, 2, 0x2211);
    expect_done(answer()); // the second half went to the ring
    const auto *ring = static_cast<const kvm_coalesced_mmio_ring *>(guest.kvm().coalesced_ring);
    EXPECT_EQ(ring->last, 2u);
    EXPECT_EQ(ring->coalesced_mmio[1].phys_addr, kDevice);
    EXPECT_EQ(ring->coalesced_mmio[1].data[0], 0x33);
    expect_read(run({0x8b, 0x03}), kDevice - 2, 2); // reads are never coalesced
    expect_read(answer(), kDevice, 2);
    expect_done(answer());
}

// ---- Bits -------------------------------------------------------------------

TEST_F(Operations, BitStringsReachBeyondTheOperand)
{
    guest.reg(kRbx) = kDevice + 0x100;
    guest.reg(kRax) = 8 * 0x40 + 33;
    expect_read(run({0x0f, 0xab, 0x03}), kDevice + 0x144, 4); // bts [ebx], eax
    expect_write(answer(0), kDevice + 0x144, 4, 2);
    expect_done(answer());
    guest.reg(kRax) = static_cast<u32>(-1);
    expect_read(run({0x0f, 0xa3, 0x03}), kDevice + 0xfc, 4); // bt
    expect_done(answer(0x80000000));
    EXPECT_EQ(guest.rflags() & kCf, kCf);
    // An immediate does not.
    expect_read(run({0x0f, 0xba, 0x23, 0x3f}), kDevice + 0x100, 4);
    expect_done(answer(0));
    EXPECT_EQ(guest.rflags() & kCf, 0u);
}

// ---- Anything at all --------------------------------------------------------

TEST_F(Operations, EveryOpcodeWithRandomOperandsDoesNoHarm)
{
    std::mt19937_64 random{7};
    unsigned mmio = 0;
    unsigned failures = 0;
    for (unsigned round = 0; round < 20000; round++) {
        const bool code_64 = random() % 2;
        if (code_64)
            long_mode();
        else
            guest.protected_mode(kCode);
        set_cr4((code_64 ? X86_CR4_PAE : 0) | X86_CR4_OSFXSR | X86_CR4_OSXSAVE);
        guest.vmx().msrs.xcr0 = 7;
        for (u32 i = 0; i < 16; i++)
            write_gpr(guest.vmx(), static_cast<u8>(i),
                      random() % 3 ? kDevice + random() % 0x3000 : random() % 0x8000);
        std::vector<u8> code;
        while (random() % 3 == 0)
            code.push_back(std::array<u8, 6>{0x66, 0x67, 0xf2, 0xf3, 0x64, 0xf0}[random() % 6]);
        if (code_64 && random() % 2)
            code.push_back(static_cast<u8>(0x40 | random() % 16));
        switch (random() % 4) {
        case 0:
            code.push_back(0x0f);
            break;
        case 1:
            code.push_back(0xc5);
            code.push_back(static_cast<u8>(random() | 0x78 | (code_64 ? 0 : 0xc0)));
            break;
        default:
            break;
        }
        for (unsigned i = 0; i < 12; i++)
            code.push_back(static_cast<u8>(random()));
        guest.vmx().pending.io_size = 4;
        Outcome outcome = run(code);
        for (unsigned steps = 0; !outcome.resumes() && steps < 100; steps++) {
            ASSERT_EQ(outcome.ioctl_result(), 0);
            const bool is_mmio = guest.run().exit_reason == KVM_EXIT_MMIO;
            mmio += is_mmio;
            failures += guest.run().exit_reason == KVM_EXIT_INTERNAL_ERROR;
            if (is_mmio) {
                ASSERT_GE(guest.run().mmio.len, 1u);
                ASSERT_LE(guest.run().mmio.len, 8u);
            }
            if (guest.vmx().pending.kind == PendingIo::kNone)
                break;
            outcome = answer(random());
        }
        guest.take_exception();
        guest.vmx().pending.kind = PendingIo::kNone;
        guest.vmx().triple_fault = false;
    }
    EXPECT_GT(mmio, 2000u);
    EXPECT_GT(failures, 1000u);
}

} // namespace
} // namespace minivmx::test
