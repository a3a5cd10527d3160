// SPDX-License-Identifier: GPL-2.0-only
//
// MMIO: the guest's instruction in memory, an EPT violation where nothing is, what user space is
// asked, and what becomes of its answer, whatever it writes into kvm_run.
#include "guest.hpp"

#include <minivmx.h>

#include <cerrno>
#include <random>

namespace minivmx::test {
namespace {

constexpr u64 kCode = 0x1000, kDevice = 0xd0000000, kRam = 0x40000;

class Mmio : public testing::Test {
  protected:
    Guest guest;

    void SetUp() override
    {
        guest.add_ram(0, 0, kRam);
        guest.protected_mode(kCode);
        std::memset(&guest.run(), 0xcc, sizeof(kvm_run)); // what user space left there
    }

    /// Puts the instruction at CS:RIP and has it touch gpa through this linear address.
    Outcome run(const std::vector<u8> &code, u64 gpa, bool write, u64 linear)
    {
        guest.poke_bytes(guest.rip(), code);
        return again(gpa, write, linear);
    }
    Outcome run(const std::vector<u8> &code, u64 gpa, bool write)
    {
        return run(code, gpa, write, gpa);
    }
    Outcome again(u64 gpa, bool write, u64 linear)
    {
        return guest.ept_violation(
            gpa, (write ? kEptViolationWrite : kEptViolationRead) | kEptViolationLinear, linear);
    }
    Outcome answer(u64 value)
    {
        std::memcpy(guest.run().mmio.data, &value, 8);
        return complete_pending(guest.vmx());
    }

    void expect_exit(Outcome outcome, u64 gpa, u32 size, bool write, u64 value = 0)
    {
        EXPECT_EQ(outcome.ioctl_result(), 0);
        const kvm_run &run = guest.run();
        EXPECT_EQ(run.exit_reason, KVM_EXIT_MMIO);
        EXPECT_EQ(run.mmio.phys_addr, gpa);
        EXPECT_EQ(run.mmio.len, size);
        EXPECT_EQ(run.mmio.is_write, write);
        if (write) {
            u64 data;
            std::memcpy(&data, run.mmio.data, 8);
            EXPECT_EQ(data, value);
        }
    }
    void expect_resume(Outcome outcome) { EXPECT_TRUE(outcome.resumes()); }
    void expect_fault(Outcome outcome, u8 vector, u32 error_code)
    {
        EXPECT_TRUE(outcome.resumes());
        const ExceptionQueue exception = guest.take_exception();
        EXPECT_TRUE(exception.pending);
        EXPECT_EQ(exception.vector, vector);
        EXPECT_EQ(exception.error_code, error_code);
        EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
    }
};

// ---- Writes -----------------------------------------------------------------

TEST_F(Mmio, Write)
{
    guest.reg(kRax) = 0x1122334455667788;
    guest.reg(kRbx) = kDevice;
    expect_exit(run({0x89, 0x03}, kDevice, true), kDevice, 4, true, 0x55667788);
    // As in KVM the instruction is over when user space sees the write.
    EXPECT_EQ(guest.rip(), kCode + 2);
    expect_resume(answer(~u64{0}));
    EXPECT_EQ(guest.rip(), kCode + 2);
    EXPECT_EQ(guest.reg(kRax), 0x1122334455667788u);
    EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
}

TEST_F(Mmio, WriteImmediate)
{
    guest.reg(kRbx) = kDevice - 8;
    expect_exit(run({0x66, 0xc7, 0x43, 0x08, 0x34, 0x12}, kDevice, true), kDevice, 2, true, 0x1234);
    EXPECT_EQ(guest.rip(), kCode + 6);
}

TEST_F(Mmio, WriteWithSegmentBase)
{
    guest.set_segment(kEs, 0xc0000000, 0xffffffff, 0xc093);
    guest.reg(kRax) = 0x5a00;
    expect_exit(run({0x26, 0x88, 0x25, 0, 0, 0, 0x10}, kDevice, true), kDevice, 1, true, 0x5a);
}

TEST_F(Mmio, WriteAcrossPagesIsTwoExits)
{
    guest.reg(kRax) = 0x44332211;
    guest.reg(kRbx) = kDevice + 0xffd;
    expect_exit(run({0x89, 0x03}, kDevice + 0xffd, true), kDevice + 0xffd, 3, true, 0x332211);
    expect_exit(answer(0), kDevice + 0x1000, 1, true, 0x44);
    expect_resume(answer(0));
    EXPECT_EQ(guest.rip(), kCode + 2);
}

TEST_F(Mmio, WriteHalfToMemory)
{
    guest.reg(kRax) = 0x44332211;
    guest.reg(kRbx) = kRam - 1; // memory ends inside the operand
    expect_exit(run({0x89, 0x03}, kRam, true, kRam), kRam, 3, true, 0x443322);
    EXPECT_EQ(guest.peek<u8>(kRam - 1), 0x11);
    expect_resume(answer(0));
}

TEST_F(Mmio, WriteThatIsAllMemoryNow)
{
    // Somebody put memory there between the exit and its handling.
    guest.reg(kRax) = 0x55667788;
    guest.reg(kRbx) = 0x3000;
    guest.poke_bytes(kCode, {0x89, 0x03});
    guest.set(EXIT_QUALIFICATION, kEptViolationWrite | kEptViolationLinear);
    guest.set(GUEST_LINEAR_ADDRESS, 0x3000);
    expect_resume(emulate_mmio(guest.vmx(), 0x3000));
    EXPECT_EQ(guest.peek<u32>(0x3000), 0x55667788u);
    EXPECT_EQ(guest.rip(), kCode + 2);
}

TEST_F(Mmio, WriteToAReadOnlySlot)
{
    guest.add_ram(1, kDevice, 0x1000, KVM_MEM_READONLY);
    guest.reg(kRax) = 0x55667788;
    guest.reg(kRbx) = kDevice;
    expect_exit(run({0x89, 0x03}, kDevice, true), kDevice, 4, true, 0x55667788);
    EXPECT_EQ(guest.peek<u32>(kDevice), 0u);
}

// ---- Reads ------------------------------------------------------------------

TEST_F(Mmio, Read)
{
    guest.long_mode(kCode, 0x8000);
    guest.reg(kRax) = ~u64{0};
    guest.reg(kRbx) = kDevice;
    // Two megabytes identity-mapped at 0 and at the device.
    guest.poke<u64>(0x8000, 0x9000 | 7);
    guest.poke<u64>(0x9000, 0xa000 | 7);
    guest.poke<u64>(0x9000 + 8 * (kDevice >> 30), 0xb000 | 7);
    guest.poke<u64>(0xa000, 0x87);
    guest.poke<u64>(0xb000 + 8 * (kDevice >> 21 & 511), kDevice | 0x87);
    expect_exit(run({0x8b, 0x03}, kDevice, false), kDevice, 4, false);
    EXPECT_EQ(guest.rip(), kCode); // not over yet
    EXPECT_EQ(guest.reg(kRax), ~u64{0});
    expect_resume(answer(0xaabbccdd11223344));
    EXPECT_EQ(guest.reg(kRax), 0x11223344u); // 32-bit results clear the upper half
    EXPECT_EQ(guest.rip(), kCode + 2);

    guest.set_rip(kCode);
    expect_exit(run({0x48, 0x0f, 0xbe, 0x0b}, kDevice, false), kDevice, 1, false); // movsx rcx, b
    expect_resume(answer(0xff80));
    EXPECT_EQ(guest.reg(kRcx), ~u64{0x7f});

    guest.set_rip(kCode);
    guest.reg(kRdx) = 0x1111111111111111;
    expect_exit(run({0x8a, 0x33}, kDevice, false), kDevice, 1, false); // mov dh, [rbx]
    expect_resume(answer(0xab));
    EXPECT_EQ(guest.reg(kRdx), 0x111111111111ab11u);
}

TEST_F(Mmio, ReadAcrossPages)
{
    guest.reg(kRbx) = kDevice + 0xffe;
    expect_exit(run({0x8b, 0x03}, kDevice + 0xffe, false), kDevice + 0xffe, 2, false);
    expect_exit(answer(0x2211), kDevice + 0x1000, 2, false);
    expect_resume(answer(0x4433));
    EXPECT_EQ(guest.reg(kRax), 0x44332211u);
}

TEST_F(Mmio, ReadHalfFromMemory)
{
    guest.poke<u8>(kRam - 1, 0x11);
    guest.reg(kRbx) = kRam - 1;
    expect_exit(run({0x8b, 0x03}, kRam, false, kRam), kRam, 3, false);
    expect_resume(answer(0x443322));
    EXPECT_EQ(guest.reg(kRax), 0x44332211u);
}

TEST_F(Mmio, MemoryBehindAnUnmappedAddressOfTheOwner)
{
    ASSERT_EQ(guest.set_region(1, kDevice, 0x1000, 0x10000), 0); // nothing is mapped there
    guest.reg(kRbx) = kDevice;
    guest.poke_bytes(kCode, {0x8b, 0x03});
    guest.set(EXIT_QUALIFICATION, kEptViolationRead);
    expect_exit(emulate_mmio(guest.vmx(), kDevice), kDevice, 4, false); // KVM does the same
}

// ---- Side effects of finishing ----------------------------------------------

TEST_F(Mmio, FinishingEndsShadowAndResumeFlagAndTraps)
{
    constexpr u64 kShadow = GUEST_INTR_STATE_STI, kNmi = GUEST_INTR_STATE_NMI,
                  kSingleStep = 1 << 14;
    guest.reg(kRbx) = kDevice;
    guest.set(GUEST_INTERRUPTIBILITY_INFO, kShadow | kNmi);
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_RF | X86_EFLAGS_TF | X86_EFLAGS_IF);
    guest.set(GUEST_PENDING_DBG_EXCEPTIONS, 0);
    expect_exit(run({0x89, 0x03}, kDevice, true), kDevice, 4, true, guest.reg(kRax));
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), kNmi);
    EXPECT_EQ(guest.rflags(), X86_EFLAGS_FIXED | X86_EFLAGS_TF | X86_EFLAGS_IF);
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), kSingleStep);
}

TEST_F(Mmio, RipWrapsAt4GiB)
{
    // The code's last byte is the segment's last: EIP goes on at 0.
    guest.add_ram(2, 0xfffff000, 0x1000);
    guest.set_rip(0xfffffffe);
    guest.reg(kRbx) = kDevice;
    guest.poke_bytes(0xfffffffe, {0x89, 0x03});
    expect_exit(again(kDevice, true, kDevice), kDevice, 4, true, guest.reg(kRax));
    EXPECT_EQ(guest.rip(), 0u);
}

// ---- Faults -----------------------------------------------------------------

class PagedMmio : public Mmio {
  protected:
    static constexpr u64 kDirectory = 0x8000, kTable = 0x9000;
    void SetUp() override
    {
        Mmio::SetUp();
        // The first 4 MiB identity-mapped, the device at 0x400000.
        guest.poke<u32>(kDirectory, kTable | 7);
        guest.poke<u32>(kDirectory + 4, (kTable + 0x1000) | 7);
        for (u32 page = 0; page < 1024; page++)
            guest.poke<u32>(kTable + 4 * page, page << 12 | 7);
        guest.poke<u32>(kTable + 0x1000, kDevice | 7);
        guest.poke<u32>(kTable + 0x1004, (kDevice + 0x1000) | 7);
        guest.protected_mode(kCode, kDirectory);
    }
};

TEST_F(PagedMmio, LinearAddressOfTheExitSavesTheWalk)
{
    guest.reg(kRbx) = 0x400010;
    guest.reg(kRax) = 0x77;
    guest.poke<u32>(kTable + 0x1000, 0); // the table no longer says so, but the CPU has translated
    expect_exit(run({0x88, 0x03}, kDevice + 0x10, true, 0x400010), kDevice + 0x10, 1, true, 0x77);
}

TEST_F(PagedMmio, AnotherLinearAddressIsWalked)
{
    guest.reg(kRbx) = 0x400ffe;
    guest.reg(kRax) = 0x44332211;
    expect_exit(run({0x89, 0x03}, kDevice + 0x1000, true, 0x401000), kDevice + 0xffe, 2, true,
                0x2211);
    expect_exit(answer(0), kDevice + 0x1000, 2, true, 0x4433);
    EXPECT_EQ(guest.peek<u32>(kTable + 0x1000), kDevice | 0x67);
    EXPECT_EQ(guest.peek<u32>(kTable + 0x1004), (kDevice + 0x1000) | 0x67);
}

TEST_F(PagedMmio, PageFaultOfTheOperand)
{
    guest.reg(kRbx) = 0x400ffe;
    guest.poke<u32>(kTable + 0x1004, kDevice | 5); // read-only
    expect_fault(run({0x89, 0x03}, kDevice + 0xffe, true, 0x400ffe), PF_VECTOR, 3);
    EXPECT_EQ(guest.area().cr2, 0x401000u);
    EXPECT_EQ(guest.rip(), kCode);
    EXPECT_NE(guest.run().exit_reason, u32{KVM_EXIT_MMIO}); // not even for the first page
}

TEST_F(PagedMmio, PageFaultOfTheSecondCodePage)
{
    guest.set_rip(0x1fff);
    guest.poke_bytes(0x1fff, {0x89, 0x03});
    guest.poke<u32>(kTable + 4 * 2, 0);
    expect_fault(again(kDevice, true, 0x400000), PF_VECTOR, 0);
    EXPECT_EQ(guest.area().cr2, 0x2000u);
}

TEST_F(PagedMmio, CodeInTwoPagesThatAreNoNeighbours)
{
    guest.set_rip(0x1fff);
    guest.poke<u8>(0x1fff, 0x89);
    guest.poke<u32>(kTable + 4 * 2, 0x5000 | 7);
    guest.poke<u8>(0x5000, 0x03);
    guest.reg(kRbx) = 0x400000;
    expect_exit(again(kDevice, true, 0x400000), kDevice, 4, true, guest.reg(kRax));
    EXPECT_EQ(guest.rip(), 0x2001u);
}

TEST_F(Mmio, SegmentFaults)
{
    guest.set_segment(kDs, 0, 0xffff, 0x4093);
    guest.reg(kRbx) = kDevice;
    expect_fault(run({0x89, 0x03}, kDevice, true), GP_VECTOR, 0);
    guest.set_segment(kSs, 0, 0xffff, 0x4093);
    guest.reg(kRbp) = kDevice;
    expect_fault(run({0x89, 0x45, 0x00}, kDevice, true), SS_VECTOR, 0);
    guest.set_segment(kCs, 0, kCode, 0x409b); // one byte of code
    expect_fault(run({0x89, 0x03}, kDevice, true), GP_VECTOR, 0);
}

TEST_F(Mmio, LockIsInvalid)
{
    guest.reg(kRbx) = kDevice;
    expect_fault(run({0xf0, 0x89, 0x03}, kDevice, true), UD_VECTOR, 0);
}

TEST_F(Mmio, TooLong)
{
    std::vector<u8> code(16, 0x66);
    expect_fault(run(code, kDevice, true), GP_VECTOR, 0);
}

// ---- What we don't know -----------------------------------------------------

TEST_F(Mmio, UnknownInstruction)
{
    guest.vmx().idt_vectoring_info = 0;
    const Outcome outcome = run({0x0f, 0x58, 0x03}, kDevice, false); // addps xmm0, [ebx]
    EXPECT_EQ(outcome.ioctl_result(), 0);
    const kvm_run &run = guest.run();
    EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(run.emulation_failure.suberror, u32{KVM_INTERNAL_ERROR_EMULATION});
    EXPECT_EQ(run.emulation_failure.flags,
              u64{KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES});
    EXPECT_EQ(run.emulation_failure.insn_size, 15);
    EXPECT_EQ(run.emulation_failure.insn_bytes[0], 0x0f);
    EXPECT_EQ(run.emulation_failure.insn_bytes[2], 0x03);
    EXPECT_EQ(run.emulation_failure.ndata, 8u);
    EXPECT_EQ(run.internal.data[3], u64{EXIT_REASON_EPT_VIOLATION});
    EXPECT_EQ(run.internal.data[4], kEptViolationRead | kEptViolationLinear);
    EXPECT_EQ(guest.rip(), kCode);
    // If user space goes on, the guest gets #UD, as in KVM.
    EXPECT_EQ(guest.take_exception().vector, u8{UD_VECTOR});
}

TEST_F(Mmio, UnknownInstructionOfUserMode)
{
    guest.set_cpl(3);
    expect_fault(run({0x0f, 0x58, 0x03}, kDevice, false), UD_VECTOR, 0);
}

TEST_F(Mmio, CodeOutsideOfMemory)
{
    guest.set_rip(kDevice);
    const Outcome outcome =
        guest.ept_violation(kDevice, kEptViolationFetch | kEptViolationLinear, kDevice);
    EXPECT_EQ(outcome.ioctl_result(), 0);
    const kvm_run &run = guest.run();
    EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(run.emulation_failure.suberror, u32{KVM_INTERNAL_ERROR_EMULATION});
    EXPECT_EQ(run.emulation_failure.flags, 0u);
    EXPECT_EQ(run.emulation_failure.ndata, 6u);
    guest.take_exception();
}

TEST_F(Mmio, DuringTheDeliveryOfAnEvent)
{
    guest.set(EXIT_QUALIFICATION, kEptViolationWrite);
    guest.vmx().exit_reason = EXIT_REASON_EPT_VIOLATION;
    guest.vmx().idt_vectoring_info = INTR_INFO_VALID | 0x20;
    const Outcome outcome =
        handle_ept_violation(guest.vmx(), kDevice, EptViolationInfo::decode(kEptViolationWrite));
    EXPECT_EQ(outcome.ioctl_result(), 0);
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(guest.run().internal.suberror, u32{KVM_INTERNAL_ERROR_DELIVERY_EV});
    EXPECT_EQ(guest.run().internal.ndata, 5u);
    EXPECT_EQ(guest.run().internal.data[0], INTR_INFO_VALID | 0x20u);
    EXPECT_EQ(guest.run().internal.data[3], kDevice);
}

// ---- A hostile user space ---------------------------------------------------

TEST_F(Mmio, WhateverUserSpaceWritesIntoKvmRun)
{
    guest.reg(kRbx) = kDevice + 0xffe;
    expect_exit(run({0x8b, 0x03}, kDevice + 0xffe, false), kDevice + 0xffe, 2, false);
    kvm_run &run = guest.run();
    std::memset(&run, 0xff, sizeof(run)); // length 2^32 - 1, another address, a write
    expect_exit(answer(0xffffffffffff2211), kDevice + 0x1000, 2, false);
    std::memset(&run, 0, sizeof(run));
    run.mmio.len = 8;
    expect_resume(answer(0xffffffffffff4433));
    EXPECT_EQ(guest.reg(kRax), 0x44332211u);
}

TEST_F(Mmio, TheVcpuIsMovedElsewhereMeanwhile)
{
    guest.reg(kRbx) = kDevice;
    guest.reg(kRax) = 0x1234;
    expect_exit(run({0x8b, 0x03}, kDevice, false), kDevice, 4, false);
    note_place_of_pending(guest.vmx());
    write_rip(guest.vmx(), 0xfff0); // a reset, say
    expect_resume(answer(~u64{0}));
    EXPECT_EQ(guest.reg(kRax), 0x1234u);
    EXPECT_EQ(guest.rip(), 0xfff0u);
    EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
}

TEST_F(Mmio, RegistersMayChangeWhileARedIsAnswered)
{
    // The instruction that was decoded is finished; the code under it may change.
    guest.reg(kRbx) = kDevice;
    expect_exit(run({0x8b, 0x03}, kDevice, false), kDevice, 4, false);
    guest.poke_bytes(kCode, {0x0f, 0x0b, 0x90});
    guest.reg(kRbx) = 0;
    expect_resume(answer(0x99));
    EXPECT_EQ(guest.reg(kRax), 0x99u);
    EXPECT_EQ(guest.rip(), kCode + 2);
}

TEST_F(Mmio, CodeAndSlotsChangeWhileWritesAreServed)
{
    guest.reg(kRax) = 0x44332211;
    guest.reg(kRbx) = kDevice + 0xffe;
    expect_exit(run({0x89, 0x03}, kDevice + 0xffe, true), kDevice + 0xffe, 2, true, 0x2211);
    ASSERT_EQ(guest.set_region(0, 0, 0, 0), 0);
    expect_exit(answer(0), kDevice + 0x1000, 2, true, 0x4433);
    expect_resume(answer(0));
}

// ---- String instructions ----------------------------------------------------

TEST_F(Mmio, Stos)
{
    guest.reg(kRax) = 0x55667788;
    guest.reg(kRdi) = kDevice;
    guest.reg(kRcx) = 2;
    expect_exit(run({0xf3, 0xab}, kDevice, true), kDevice, 4, true, 0x55667788);
    EXPECT_EQ(guest.reg(kRdi), kDevice + 4);
    EXPECT_EQ(guest.reg(kRcx), 1u);
    EXPECT_EQ(guest.rip(), kCode); // one more to come
    EXPECT_NE(guest.rflags() & X86_EFLAGS_RF, 0u);
    expect_resume(answer(0));
    expect_exit(again(kDevice + 4, true, kDevice + 4), kDevice + 4, 4, true, 0x55667788);
    EXPECT_EQ(guest.reg(kRcx), 0u);
    EXPECT_EQ(guest.rip(), kCode + 2);
    EXPECT_EQ(guest.rflags() & X86_EFLAGS_RF, 0u);
}

TEST_F(Mmio, StosDownward)
{
    guest.reg(kRdi) = kDevice + 0x10;
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_DF);
    expect_exit(run({0xaa}, kDevice + 0x10, true), kDevice + 0x10, 1, true, guest.reg(kRax) & 0xff);
    EXPECT_EQ(guest.reg(kRdi), kDevice + 0xf);
    EXPECT_EQ(guest.rip(), kCode + 1);
}

TEST_F(Mmio, MovsFromDeviceToDevice)
{
    guest.reg(kRsi) = kDevice;
    guest.reg(kRdi) = kDevice + 0x2000;
    expect_exit(run({0xa5}, kDevice, false), kDevice, 4, false);
    EXPECT_EQ(guest.reg(kRsi), kDevice);
    expect_exit(answer(0x11223344), kDevice + 0x2000, 4, true, 0x11223344);
    expect_resume(answer(0));
    EXPECT_EQ(guest.reg(kRsi), kDevice + 4);
    EXPECT_EQ(guest.reg(kRdi), kDevice + 0x2004);
    EXPECT_EQ(guest.rip(), kCode + 1);
}

TEST_F(Mmio, MovsToMemoryAndBack)
{
    guest.reg(kRsi) = kDevice;
    guest.reg(kRdi) = 0x3000;
    guest.reg(kRcx) = 5;
    expect_exit(run({0xf3, 0xa4}, kDevice, false), kDevice, 1, false);
    expect_resume(answer(0x5a));
    EXPECT_EQ(guest.peek<u8>(0x3000), 0x5a);
    EXPECT_EQ(guest.reg(kRcx), 4u);
    EXPECT_EQ(guest.rip(), kCode);
    guest.reg(kRsi) = 0x3000;
    guest.reg(kRdi) = kDevice;
    expect_exit(again(kDevice, true, kDevice), kDevice, 1, true, 0x5a);
}

TEST_F(Mmio, LodsWith16BitAddresses)
{
    guest.real_mode(kCode);
    guest.set_segment(kDs, 0xb8000, 0xffff, 0x93);
    guest.reg(kRsi) = 0xabcdffff;
    guest.reg(kRax) = 0x11223344;
    expect_exit(run({0xac}, 0xc7fff, false), 0xc7fff, 1, false);
    expect_resume(answer(0x99));
    EXPECT_EQ(guest.reg(kRax), 0x11223399u);
    EXPECT_EQ(guest.reg(kRsi), 0xabcd0000u); // only SI moves
}

TEST_F(Mmio, RepeatedZeroTimes)
{
    guest.reg(kRdi) = kDevice;
    guest.reg(kRcx) = 0;
    expect_resume(run({0xf3, 0xab}, kDevice, true));
    EXPECT_EQ(guest.rip(), kCode + 2);
    EXPECT_EQ(guest.reg(kRdi), kDevice);
}

// ---- Anything at all --------------------------------------------------------

TEST_F(PagedMmio, RandomCodeAndTablesDoNoHarm)
{
    std::mt19937_64 random{99};
    unsigned exits[5] = {};
    for (unsigned round = 0; round < 10000; round++) {
        guest.protected_mode(kCode, kDirectory); // the last round's code may have left it
        for (u32 i = 0; i < 16; i++)
            guest.reg(static_cast<Gpr>(i)) = random() % 3   ? 0x400000 + random() % 0x2000
                                             : random() % 2 ? random()
                                                            : random() % kRam;
        static constexpr u8 kOpcodes[] = {0x88, 0x89, 0x8a, 0x8b, 0xa4, 0xa5, 0xaa, 0xab,
                                          0xac, 0xad, 0xc6, 0xc7, 0xa1, 0xa3, 0x6d, 0x6f};
        std::vector<u8> code;
        while (random() % 3 == 0)
            code.push_back(std::array<u8, 6>{0x66, 0x67, 0xf2, 0xf3, 0x64, 0xf0}[random() % 6]);
        code.push_back(random() % 16 ? kOpcodes[random() % 16] : static_cast<u8>(random()));
        for (unsigned i = 0; i < 14; i++)
            code.push_back(static_cast<u8>(random()));
        guest.set_rip(random() % 8 ? kCode : 0x1ff8 + random() % 8);
        for (unsigned i = 0; i < 4; i++)
            guest.poke<u32>(
                kTable + 0x1000 + 4 * i,
                static_cast<u32>(random() % 4 ? kDevice + i * 0x1000 : random() % kRam) | 7);
        guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | (random() % 2 ? X86_EFLAGS_DF : 0));
        guest.set_cpl(random() % 2 ? 3 : 0);
        guest.poke_bytes(guest.rip(), code);
        guest.vmx().pending.io_size = 4;
        Outcome outcome = again(kDevice, random() % 2, 0x400000 + random() % 0x2000);
        for (unsigned steps = 0; !outcome.resumes(); steps++) {
            ASSERT_EQ(outcome.ioctl_result(), 0);
            ASSERT_LT(steps, 2000u);
            const u32 reason = guest.run().exit_reason;
            exits[reason == KVM_EXIT_MMIO ? 0 : reason == KVM_EXIT_IO ? 1 : 2]++;
            if (reason == KVM_EXIT_MMIO) {
                ASSERT_GE(guest.run().mmio.len, 1u);
                ASSERT_LE(guest.run().mmio.len, 8u);
            }
            if (guest.vmx().pending.kind == PendingIo::kNone)
                break;
            for (u32 i = 0; i < 64; i++)
                reinterpret_cast<u8 *>(&guest.run())[i] = static_cast<u8>(random());
            outcome = complete_pending(guest.vmx());
        }
        guest.take_exception();
        guest.vmx().pending.kind = PendingIo::kNone;
        guest.vmx().triple_fault = false;
        guest.poke<u32>(kDirectory, kTable | 7); // stray stores
        guest.poke<u32>(kDirectory + 4, (kTable + 0x1000) | 7);
        for (u32 page = 0; page < 4; page++)
            guest.poke<u32>(kTable + 4 * page, page << 12 | 7);
    }
    EXPECT_GT(exits[0], 1000u);
    EXPECT_GT(exits[1], 30u);
    EXPECT_GT(exits[2], 30u);
}

} // namespace
} // namespace minivmx::test
