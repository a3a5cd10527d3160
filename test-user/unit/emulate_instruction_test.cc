// SPDX-License-Identifier: GPL-2.0-only
//
// emulate_instruction(): what the CPU this runs on can't be compared with, since it needs privilege
// or another mode. SDM Vol. 2, the instructions' pages.
#include "guest.hpp"

namespace minivmx::test {
namespace {

constexpr u64 kCode = 0x1000, kStack = 0x8000, kDevice = 0xd0000, kTss = 0x3000;
constexpr u64 kIopl3 = X86_EFLAGS_IOPL;
constexpr u32 kTssRights = 0x8b; // a busy 32-bit TSS

class OneInstruction : public testing::Test {
  protected:
    Guest guest;

    void SetUp() override
    {
        guest.add_ram(0, 0, 0x40000); // nothing at kDevice
        guest.real_mode(kCode);
        write_gpr(guest.vmx(), kRsp, kStack);
    }
    Outcome run(const std::vector<u8> &code, u64 at = kCode)
    {
        guest.poke_bytes(at, code);
        write_rip(guest.vmx(), at);
        return emulate_instruction(guest.vmx());
    }
    /// It completes; returns how far RIP has moved.
    u64 complete(const std::vector<u8> &code)
    {
        EXPECT_TRUE(run(code).resumes());
        EXPECT_FALSE(guest.vmx().exception.pending)
            << "exception " << int{guest.take_exception().vector};
        return guest.rip() - kCode;
    }
    /// The vector of the exception that it raises; -1: none.
    int fault(const std::vector<u8> &code)
    {
        EXPECT_TRUE(run(code).resumes());
        EXPECT_EQ(guest.rip(), kCode);
        return guest.vmx().exception.pending ? guest.take_exception().vector : -1;
    }
    void set_flags(u64 flags) { write_rflags(guest.vmx(), flags | X86_EFLAGS_FIXED); }
    bool flag(u64 bit) { return (guest.rflags() & bit) != 0; }
    void set_cr4(u64 cr4)
    {
        guest.vmx().cr4 = cr4;
        guest.machine.current_vmcs().fields[GUEST_CR4.encoding] = cr4;
        guest.machine.current_vmcs().fields[CR4_READ_SHADOW.encoding] = cr4;
    }
    void protected_mode(u32 cpl = 0)
    {
        guest.protected_mode(kCode);
        guest.set_cpl(cpl);
        write_gpr(guest.vmx(), kRsp, kStack);
    }
    /// With the first 2 MiB where they are.
    void long_mode()
    {
        constexpr u64 kTables = 0x10000;
        guest.poke<u64>(kTables, (kTables + 0x1000) | 7);
        guest.poke<u64>(kTables + 0x1000, (kTables + 0x2000) | 7);
        guest.poke<u64>(kTables + 0x2000, 0x87);
        guest.long_mode(kCode, kTables);
    }
    void virtual_8086_mode(u64 flags = 0)
    {
        guest.protected_mode(kCode);
        guest.set_segments(0, 0xffff, 0xf3, 0xf3);
        set_flags(X86_EFLAGS_VM | flags);
        write_gpr(guest.vmx(), kRsp, kStack);
    }
    u32 shadow() { return static_cast<u32>(guest.get(GUEST_INTERRUPTIBILITY_INFO)); }
    void set_field(u32 encoding, u64 value)
    {
        guest.machine.current_vmcs().fields[encoding] = value;
    }
};

// ---- IF ---------------------------------------------------------------------

TEST_F(OneInstruction, StiCastsAShadowWhereInterruptsWereOff)
{
    EXPECT_EQ(complete({0xfb}), 1u);
    EXPECT_TRUE(flag(X86_EFLAGS_IF));
    EXPECT_EQ(shadow(), GUEST_INTR_STATE_STI);
    EXPECT_EQ(complete({0xfb}), 1u); // ends it, and casts none
    EXPECT_EQ(shadow(), 0u);
    EXPECT_EQ(complete({0xfa}), 1u);
    EXPECT_FALSE(flag(X86_EFLAGS_IF));
    EXPECT_EQ(complete({0xfb}), 1u);
    EXPECT_EQ(complete({0x90}), 1u);
    EXPECT_EQ(shadow(), 0u);
}

TEST_F(OneInstruction, IoplDecidesOverIfInProtectedMode)
{
    protected_mode(3);
    EXPECT_EQ(fault({0xfb}), GP_VECTOR);
    EXPECT_EQ(fault({0xfa}), GP_VECTOR);
    set_flags(kIopl3);
    EXPECT_EQ(complete({0xfb}), 1u);
    EXPECT_TRUE(flag(X86_EFLAGS_IF));
    protected_mode(0);
    set_flags(0);
    EXPECT_EQ(complete({0xfb}), 1u);
    EXPECT_TRUE(flag(X86_EFLAGS_IF));
}

TEST_F(OneInstruction, VirtualInterruptFlagOfProtectedMode)
{
    protected_mode(3);
    set_cr4(X86_CR4_PVI);
    EXPECT_EQ(complete({0xfb}), 1u);
    EXPECT_TRUE(flag(X86_EFLAGS_VIF));
    EXPECT_FALSE(flag(X86_EFLAGS_IF));
    EXPECT_EQ(shadow(), 0u);
    EXPECT_EQ(complete({0xfa}), 1u);
    EXPECT_FALSE(flag(X86_EFLAGS_VIF));
    set_flags(X86_EFLAGS_VIP);
    EXPECT_EQ(fault({0xfb}), GP_VECTOR); // an interrupt waits for it
    guest.set_cpl(2);
    set_flags(0);
    EXPECT_EQ(fault({0xfb}), GP_VECTOR); // CPL 3 only
}

TEST_F(OneInstruction, VirtualInterruptFlagOfVirtual8086Mode)
{
    virtual_8086_mode();
    EXPECT_EQ(fault({0xfa}), GP_VECTOR);
    set_cr4(X86_CR4_VME);
    EXPECT_EQ(complete({0xfb}), 1u);
    EXPECT_TRUE(flag(X86_EFLAGS_VIF));
    EXPECT_FALSE(flag(X86_EFLAGS_IF));
    virtual_8086_mode(kIopl3);
    EXPECT_EQ(complete({0xfb}), 1u);
    EXPECT_TRUE(flag(X86_EFLAGS_IF));
}

// ---- PUSHF and POPF ---------------------------------------------------------

TEST_F(OneInstruction, PopfInRealMode)
{
    guest.poke<u16>(kStack, 0xffff);
    EXPECT_EQ(complete({0x9d}), 1u);
    EXPECT_EQ(guest.rflags() & 0xffff, 0x7fd7u);
    EXPECT_EQ(read_gpr(guest.vmx(), kRsp), kStack + 2);
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), 0u); // TF counts from the next one on
    // All 32 bits: VM, VIF and VIP stay.
    set_flags(0);
    guest.poke<u32>(kStack + 2, 0xffffffff);
    EXPECT_EQ(complete({0x66, 0x9d}), 2u);
    EXPECT_EQ(guest.rflags(), 0x247fd7u);
}

TEST_F(OneInstruction, PopfOfOthersLeavesIfAndIopl)
{
    protected_mode(3);
    guest.poke<u32>(kStack, 0xffffffff);
    EXPECT_EQ(complete({0x9d}), 1u);
    EXPECT_EQ(guest.rflags(), 0x244dd7u);
    protected_mode(3);
    set_flags(kIopl3);
    guest.poke<u32>(kStack, X86_EFLAGS_IF);
    EXPECT_EQ(complete({0x9d}), 1u);
    EXPECT_EQ(guest.rflags(), X86_EFLAGS_FIXED | X86_EFLAGS_IF | kIopl3);
}

TEST_F(OneInstruction, FlagsOnTheStackOfVirtual8086Mode)
{
    virtual_8086_mode();
    EXPECT_EQ(fault({0x9c}), GP_VECTOR);
    EXPECT_EQ(fault({0x9d}), GP_VECTOR);
    set_cr4(X86_CR4_VME);
    set_flags(X86_EFLAGS_VM | X86_EFLAGS_VIF);
    EXPECT_EQ(fault({0x66, 0x9c}), GP_VECTOR); // 16 bits only
    EXPECT_EQ(complete({0x9c}), 1u);
    EXPECT_EQ(guest.peek<u16>(kStack - 2), X86_EFLAGS_FIXED | X86_EFLAGS_IF | kIopl3);
    guest.poke<u16>(kStack - 2, X86_EFLAGS_CF);
    EXPECT_EQ(complete({0x9d}), 1u);
    EXPECT_EQ(guest.rflags(), X86_EFLAGS_FIXED | X86_EFLAGS_VM | X86_EFLAGS_CF); // VIF is off
    set_flags(X86_EFLAGS_VM | X86_EFLAGS_VIP);
    guest.poke<u16>(kStack, X86_EFLAGS_IF);
    EXPECT_EQ(fault({0x9d}), GP_VECTOR);
    guest.poke<u16>(kStack, X86_EFLAGS_TF);
    EXPECT_EQ(fault({0x9d}), GP_VECTOR);
    EXPECT_EQ(read_gpr(guest.vmx(), kRsp), kStack);
    // With IOPL 3 it is IF itself.
    virtual_8086_mode(kIopl3);
    guest.poke<u16>(kStack, 0xffff);
    EXPECT_EQ(complete({0x9d}), 1u);
    EXPECT_EQ(guest.rflags(), X86_EFLAGS_VM | 0x7fd7u);
}

// ---- Debug exceptions -------------------------------------------------------

TEST_F(OneInstruction, SingleStepTrapsBeforeTheNext)
{
    set_flags(X86_EFLAGS_TF);
    EXPECT_EQ(complete({0x90, 0x40}), 1u);
    ASSERT_TRUE(emulate_instruction(guest.vmx()).resumes());
    EXPECT_EQ(guest.rip(), kCode + 1);
    EXPECT_EQ(guest.take_exception().vector, DB_VECTOR);
    EXPECT_EQ(guest.area().dr6 & DR6_BS, u64{DR6_BS});
    ASSERT_TRUE(emulate_instruction(guest.vmx()).resumes());
    EXPECT_EQ(guest.rip(), kCode + 2);
}

TEST_F(OneInstruction, PopfThatClearsTfTrapsOnceMore)
{
    set_flags(X86_EFLAGS_TF);
    guest.poke<u16>(kStack, 0);
    EXPECT_EQ(complete({0x9d}), 1u);
    EXPECT_FALSE(flag(X86_EFLAGS_TF));
    EXPECT_NE(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), 0u);
}

TEST_F(OneInstruction, LoadOfSsHoldsTheTrapBack)
{
    set_flags(X86_EFLAGS_TF);
    EXPECT_EQ(complete({0x8e, 0xd0, 0x90}), 2u); // mov ss, ax
    EXPECT_EQ(shadow(), GUEST_INTR_STATE_MOV_SS);
    ASSERT_TRUE(emulate_instruction(guest.vmx()).resumes());
    EXPECT_EQ(guest.rip(), kCode + 3);
    EXPECT_FALSE(guest.vmx().exception.pending);
    ASSERT_TRUE(emulate_instruction(guest.vmx()).resumes());
    EXPECT_EQ(guest.take_exception().vector, DB_VECTOR);
}

TEST_F(OneInstruction, BreakpointComesBeforeItsInstruction)
{
    guest.area().loaded_db[1] = kCode;
    set_field(GUEST_DR7.encoding, 0x404); // L1
    EXPECT_EQ(fault({0x90}), DB_VECTOR);
    EXPECT_EQ(guest.area().dr6 & 0xf, 2u);
    set_flags(X86_EFLAGS_RF); // as the handler's IRET has it
    EXPECT_EQ(complete({0x90}), 1u);
    EXPECT_FALSE(flag(X86_EFLAGS_RF));
    set_field(GUEST_DR7.encoding, 0x100404); // on writes
    EXPECT_EQ(complete({0x90}), 1u);
}

TEST_F(OneInstruction, UserSpaceStepsThroughIt)
{
    kvm_guest_debug debug = {};
    debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    ASSERT_EQ(core_set_guest_debug(&guest.vmx(), &debug), 0);
    EXPECT_EQ(complete({0x9c, 0x90}), 1u);
    EXPECT_EQ(guest.peek<u16>(kStack - 2) & X86_EFLAGS_TF, 0u); // TF is the debugger's
    EXPECT_FALSE(emulate_instruction(guest.vmx()).resumes());
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_DEBUG});
    EXPECT_EQ(guest.run().debug.arch.pc, kCode + 1);
}

// ---- Where code ends --------------------------------------------------------

TEST_F(OneInstruction, BranchesOf16BitsWrapAround)
{
    EXPECT_TRUE(run({0xe9, 0x00, 0xf0}, 0xff0).resumes()); // jmp -0x1000
    EXPECT_EQ(guest.rip(), 0xfff3u);
    EXPECT_TRUE(run({0xeb, 0x7f}, 0xfff0).resumes());
    EXPECT_EQ(guest.rip(), 0x71u);
    // A 32-bit branch doesn't: its target is outside.
    EXPECT_EQ(fault({0x66, 0xe9, 0x00, 0x00, 0x01, 0x00}), GP_VECTOR);
    EXPECT_EQ(fault({0x66, 0xe9, 0x00, 0x80, 0xff, 0xff}), GP_VECTOR);
}

TEST_F(OneInstruction, NothingBehindTheEndOfTheSegment)
{
    EXPECT_TRUE(run({0x90}, 0xffff).resumes());
    EXPECT_EQ(guest.rip(), 0x10000u);
    EXPECT_TRUE(emulate_instruction(guest.vmx()).resumes());
    EXPECT_EQ(guest.take_exception().vector, GP_VECTOR);
    EXPECT_TRUE(run({0xe9, 0x00}, 0xfffe).resumes()); // ends beyond it
    EXPECT_EQ(guest.take_exception().vector, GP_VECTOR);
}

TEST_F(OneInstruction, Jumps64BitsWide)
{
    long_mode();
    guest.reg(kRbx) = 0x0000'8000'0000'0000; // not canonical
    EXPECT_EQ(fault({0xff, 0xe3}), GP_VECTOR);
    guest.reg(kRbx) = 0xffff'8000'0000'1234;
    EXPECT_TRUE(run({0x66, 0xff, 0xe3}).resumes()); // no prefix makes it narrower
    EXPECT_EQ(guest.rip(), 0xffff'8000'0000'1234u);
    write_gpr(guest.vmx(), kRsp, kStack);
    EXPECT_TRUE(run({0xe8, 0x00, 0x01, 0, 0}).resumes());
    EXPECT_EQ(guest.rip(), kCode + 0x105);
    EXPECT_EQ(guest.peek<u64>(kStack - 8), kCode + 5);
}

// ---- The stack --------------------------------------------------------------

TEST_F(OneInstruction, StacksOf16BitsWrapAround)
{
    write_gpr(guest.vmx(), kRsp, 0xabcd0000);
    guest.reg(kRax) = 0x1234;
    EXPECT_EQ(complete({0x50}), 1u);
    EXPECT_EQ(read_gpr(guest.vmx(), kRsp), 0xabcdfffeu);
    EXPECT_EQ(guest.peek<u16>(0xfffe), 0x1234);
    write_gpr(guest.vmx(), kRsp, 1);
    EXPECT_EQ(fault({0x50}), SS_VECTOR); // a word at FFFF
    EXPECT_EQ(fault({0x60}), SS_VECTOR);
    EXPECT_EQ(read_gpr(guest.vmx(), kRsp), 1u);
}

TEST_F(OneInstruction, PushAllAndBack)
{
    for (u8 i = 0; i < 8; i++)
        if (i != kRsp)
            guest.reg(static_cast<Gpr>(i)) = 0x11110000u + i;
    EXPECT_EQ(complete({0x60}), 1u);
    for (u16 i = 0; i < 8; i++)
        EXPECT_EQ(guest.peek<u16>(kStack - 2 - 2 * i), i == kRsp ? kStack : i);
    for (u8 i = 0; i < 8; i++)
        if (i != kRsp)
            guest.reg(static_cast<Gpr>(i)) = 0x2222ffff;
    EXPECT_EQ(complete({0x61}), 1u);
    for (u8 i = 0; i < 8; i++)
        EXPECT_EQ(read_gpr(guest.vmx(), i), i == kRsp ? kStack : 0x22220000u + i);
}

TEST_F(OneInstruction, AStackInADevice)
{
    guest.set(GUEST_SS_BASE, kDevice);
    write_gpr(guest.vmx(), kRsp, 0x10);
    write_rip(guest.vmx(), kCode);
    guest.reg(kRax) = 0x1234;
    EXPECT_FALSE(run({0x50}).resumes());
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_MMIO});
    EXPECT_EQ(guest.run().mmio.phys_addr, kDevice + 0xe);
    EXPECT_TRUE(complete_pending(guest.vmx()).resumes());
    EXPECT_EQ(guest.rip(), kCode + 1);
    EXPECT_EQ(read_gpr(guest.vmx(), kRsp), 0xeu);
    // Eight words are more than we keep: user space hears of it, with the instruction.
    EXPECT_FALSE(run({0x60}).resumes());
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(guest.run().emulation_failure.insn_bytes[0], 0x60);
    EXPECT_EQ(read_gpr(guest.vmx(), kRsp), 0xeu);
    guest.take_exception();
}

// ---- Ports ------------------------------------------------------------------

TEST_F(OneInstruction, PortsAreUserSpaces)
{
    set_field(VM_EXIT_INSTRUCTION_LEN.encoding, 7); // of an exit long ago
    guest.reg(kRax) = 0xaabbccdd;
    EXPECT_FALSE(run({0xe4, 0x80}).resumes()); // in al, 0x80
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_IO});
    EXPECT_EQ(guest.run().io.port, 0x80);
    EXPECT_EQ(guest.run().io.size, 1);
    EXPECT_EQ(guest.run().io.direction, KVM_EXIT_IO_IN);
    guest.pio()[0] = 0x55;
    EXPECT_TRUE(complete_pending(guest.vmx()).resumes());
    EXPECT_EQ(guest.reg(kRax), 0xaabbcc55u);
    EXPECT_EQ(guest.rip(), kCode + 2);

    guest.reg(kRdx) = 0x3f8;
    EXPECT_FALSE(run({0x66, 0xef}).resumes()); // out dx, eax
    EXPECT_EQ(guest.run().io.port, 0x3f8);
    EXPECT_EQ(guest.run().io.size, 4);
    EXPECT_EQ(guest.pio()[0], 0x55);
    EXPECT_TRUE(complete_pending(guest.vmx()).resumes());
    EXPECT_EQ(guest.rip(), kCode + 2);
}

TEST_F(OneInstruction, StringsFromPorts)
{
    guest.reg(kRdx) = 0x1f0;
    guest.reg(kRdi) = 0x4000;
    guest.reg(kRcx) = 4;
    EXPECT_FALSE(run({0xf3, 0x6d}).resumes()); // rep insw
    EXPECT_EQ(guest.run().io.count, 4u);
    for (u8 i = 0; i < 8; i++)
        guest.pio()[i] = i;
    EXPECT_TRUE(complete_pending(guest.vmx()).resumes());
    EXPECT_EQ(guest.peek<u64>(0x4000), 0x0706050403020100u);
    EXPECT_EQ(guest.reg(kRcx), 0u);
    EXPECT_EQ(guest.rip(), kCode + 2);
}

TEST_F(OneInstruction, TheTaskSaysWhichPorts)
{
    constexpr u16 kMap = 0x68;
    protected_mode(3);
    guest.set_segment(kTr, kTss, kMap + 0x2000, kTssRights);
    write_rip(guest.vmx(), kCode);
    write_gpr(guest.vmx(), kRsp, kStack);
    guest.poke<u16>(kTss + 102, kMap);
    std::memset(guest.at(kTss + kMap), 0, 0x2000);
    guest.poke<u8>(kTss + kMap + 0x80 / 8, 0x04); // 82
    const auto in = [](u8 port, bool wide) {
        return std::vector<u8>{static_cast<u8>(wide ? 0xe5 : 0xe4), port};
    };
    EXPECT_FALSE(run(in(0x81, false)).resumes());
    EXPECT_TRUE(complete_pending(guest.vmx()).resumes());
    EXPECT_EQ(fault(in(0x82, false)), GP_VECTOR);
    EXPECT_EQ(fault(in(0x7f, true)), GP_VECTOR); // 7F to 82: two bytes of the map
    EXPECT_FALSE(run(in(0x7e, true)).resumes());
    EXPECT_TRUE(complete_pending(guest.vmx()).resumes());
    guest.reg(kRdx) = 0x82;
    guest.reg(kRcx) = 1;
    EXPECT_EQ(fault({0xf3, 0x6c}), GP_VECTOR);
    guest.reg(kRdx) = 0xffff; // the map ends before its second byte
    set_field(GUEST_TR_LIMIT.encoding, kMap + 0x1fff);
    EXPECT_EQ(fault({0xec}), GP_VECTOR);
    set_field(GUEST_TR_LIMIT.encoding, kMap + 0x2000);
    EXPECT_FALSE(run({0xec}).resumes());
    EXPECT_TRUE(complete_pending(guest.vmx()).resumes());
    // A 16-bit TSS has no map; IOPL makes it unnecessary.
    set_field((GUEST_ES_AR_BYTES + kTr).encoding, 0x83);
    EXPECT_EQ(fault(in(0x81, false)), GP_VECTOR);
    set_flags(kIopl3);
    EXPECT_FALSE(run(in(0x82, false)).resumes());
    EXPECT_TRUE(complete_pending(guest.vmx()).resumes());
}

// The bytes may be others than those that touched the device.
TEST_F(OneInstruction, PortsAreForbiddenWhateverExited)
{
    protected_mode(3);
    set_field(GUEST_TR_LIMIT.encoding, 0);
    guest.poke_bytes(kCode, {0x6c});
    write_rip(guest.vmx(), kCode);
    guest.vmx().exit_reason = EXIT_REASON_EPT_MISCONFIG;
    EXPECT_TRUE(emulate_mmio(guest.vmx(), kDevice).resumes());
    EXPECT_EQ(guest.take_exception().vector, GP_VECTOR);
}

TEST_F(OneInstruction, PortsOfVirtual8086ModeAreTheMaps)
{
    virtual_8086_mode(kIopl3); // whatever IOPL says
    guest.set_segment(kTr, kTss, 0x67, kTssRights);
    write_rip(guest.vmx(), kCode);
    write_gpr(guest.vmx(), kRsp, kStack);
    set_flags(X86_EFLAGS_VM | kIopl3);
    guest.poke<u16>(kTss + 102, 0x68);
    EXPECT_EQ(fault({0xe4, 0x80}), GP_VECTOR);
}

// ---- What exits by itself ---------------------------------------------------

TEST_F(OneInstruction, CpuidIsThatOfTheExit)
{
    kvm_cpuid_entry2 entry = {};
    entry.function = 1;
    entry.eax = 0x1067a;
    ASSERT_EQ(core_set_cpuid2(&guest.vmx(), &entry, 1), 0);
    set_field(VM_EXIT_INSTRUCTION_LEN.encoding, 9);
    guest.reg(kRax) = 1;
    EXPECT_EQ(complete({0x0f, 0xa2}), 2u);
    EXPECT_EQ(guest.reg(kRax), 0x1067au);
}

TEST_F(OneInstruction, TimeStampsMayBeForbidden)
{
    guest.reg(kRax) = guest.reg(kRdx) = ~u64{0};
    EXPECT_EQ(complete({0x0f, 0x31}), 2u);
    EXPECT_EQ(guest.reg(kRax) >> 32, 0u);
    protected_mode(3);
    set_cr4(X86_CR4_TSD);
    EXPECT_EQ(fault({0x0f, 0x31}), GP_VECTOR);
    guest.set_cpl(0);
    EXPECT_EQ(complete({0x0f, 0x31}), 2u);
    EXPECT_EQ(fault({0x0f, 0x01, 0xf9}), UD_VECTOR); // the guest's CPUID has no RDTSCP
}

TEST_F(OneInstruction, PauseGivesTheCpuAway)
{
    EXPECT_EQ(complete({0xf3, 0x90}), 2u);
    EXPECT_EQ(complete({0x66, 0x90}), 2u);
}

// ---- x87 --------------------------------------------------------------------

TEST_F(OneInstruction, X87Control)
{
    guest.machine.x87_control = 0x123;
    guest.reg(kRbx) = 0x4000;
    EXPECT_EQ(complete({0xd9, 0x3f}), 2u); // fnstcw [bx]
    EXPECT_EQ(guest.peek<u16>(0x4000), 0x123);
    EXPECT_EQ(complete({0xdb, 0xe3}), 2u); // fninit
    EXPECT_EQ(guest.machine.x87_control, 0x37f);
    guest.reg(kRax) = 0x1111;
    EXPECT_EQ(complete({0xdf, 0xe0}), 2u); // fnstsw ax
    EXPECT_EQ(guest.reg(kRax), 0u);
    EXPECT_EQ(complete({0x9b}), 1u); // wait
    guest.machine.x87_exception = true;
    EXPECT_EQ(fault({0x9b}), MF_VECTOR);
    EXPECT_EQ(fault({0xd9, 0x2f}), MF_VECTOR); // fldcw [bx]
    EXPECT_EQ(complete({0xdd, 0x3f}), 2u);     // fnstsw [bx]
    EXPECT_EQ(guest.peek<u16>(0x4000), 0x80);
    EXPECT_EQ(complete({0xdb, 0xe2}), 2u); // fnclex
    guest.poke<u16>(0x4000, 0x27f);
    EXPECT_EQ(complete({0xd9, 0x2f}), 2u);
    EXPECT_EQ(guest.machine.x87_control, 0x27f);
}

TEST_F(OneInstruction, X87Stopped)
{
    guest.set_control(X86_CR0_ET | X86_CR0_EM, 0, 0, 0);
    EXPECT_EQ(fault({0xdb, 0xe3}), NM_VECTOR);
    EXPECT_EQ(complete({0x9b}), 1u);
    guest.set_control(X86_CR0_ET | X86_CR0_TS, 0, 0, 0);
    EXPECT_EQ(fault({0xdf, 0xe0}), NM_VECTOR);
    EXPECT_EQ(complete({0x9b}), 1u);
    guest.set_control(X86_CR0_ET | X86_CR0_TS | X86_CR0_MP, 0, 0, 0);
    EXPECT_EQ(fault({0x9b}), NM_VECTOR);
}

// ---- The state of x87 and SSE -----------------------------------------------

// mov bx, address; the image's parts: SDM Vol. 2A, "FXSAVE", table 3-43.
constexpr u64 kImage = 0x4000, kImageMxcsr = kImage + 24, kImageXmm = kImage + 160;
const std::vector<u8> kFxsave = {0x0f, 0xae, 0x07}, kFxrstor = {0x0f, 0xae, 0x0f}; // [bx]
const std::vector<u8> kLdmxcsr = {0x0f, 0xae, 0x17}, kStmxcsr = {0x0f, 0xae, 0x1f};

TEST_F(OneInstruction, FxsaveAndFxrstor)
{
    set_cr4(X86_CR4_OSFXSR);
    guest.reg(kRbx) = kImage;
    guest.machine.x87_control = 0x123;
    guest.machine.mxcsr = 0x1fc0;
    guest.machine.ymm[7][15] = 0x77;
    guest.machine.ymm[8][0] = 0x88;
    guest.poke<u8>(kImageXmm + 8 * 16, 0x99);
    EXPECT_EQ(complete(kFxsave), 3u);
    EXPECT_EQ(guest.peek<u16>(kImage), 0x123);
    EXPECT_EQ(guest.peek<u32>(kImageMxcsr), 0x1fc0u);
    EXPECT_EQ(guest.peek<u8>(kImageXmm + 7 * 16 + 15), 0x77);
    EXPECT_EQ(guest.peek<u8>(kImageXmm + 8 * 16), 0x99); // outside 64-bit mode there is no XMM8

    guest.machine.ymm[7][16] = 0x11;
    guest.poke<u16>(kImage, 0x27f);
    guest.poke<u32>(kImageMxcsr, 0x1f80);
    guest.poke<u8>(kImageXmm + 7 * 16 + 15, 0x55);
    EXPECT_EQ(complete(kFxrstor), 3u);
    EXPECT_EQ(guest.machine.x87_control, 0x27f);
    EXPECT_EQ(guest.machine.mxcsr, 0x1f80u);
    EXPECT_EQ(guest.machine.ymm[7][15], 0x55);
    EXPECT_EQ(guest.machine.ymm[7][16], 0x11); // no part of it
    EXPECT_EQ(guest.machine.ymm[8][0], 0x88);
}

TEST_F(OneInstruction, FxsaveWithoutSse)
{
    guest.reg(kRbx) = kImage;
    guest.machine.ymm[0][0] = 0x44;
    EXPECT_EQ(complete(kFxsave), 3u);
    EXPECT_EQ(guest.peek<u8>(kImageXmm), 0);
    guest.poke<u8>(kImageXmm, 0x55);
    guest.poke<u32>(kImageMxcsr, 0x9fc0);
    EXPECT_EQ(complete(kFxrstor), 3u);
    EXPECT_EQ(guest.machine.ymm[0][0], 0x44);
    EXPECT_EQ(guest.machine.mxcsr, 0x9fc0u);
}

TEST_F(OneInstruction, FxsaveIn64BitMode)
{
    long_mode();
    set_cr4(X86_CR4_PAE | X86_CR4_OSFXSR);
    guest.reg(kRdi) = kImage; // 64-bit code has [rdi] where 16-bit code has [bx]
    guest.machine.ymm[15][3] = 0x33;
    EXPECT_EQ(complete({0x48, 0x0f, 0xae, 0x07}), 4u);
    EXPECT_EQ(guest.peek<u8>(kImageXmm + 15 * 16 + 3), 0x33);
    guest.poke<u8>(kImageXmm + 15 * 16 + 3, 0x44);
    EXPECT_EQ(complete({0x48, 0x0f, 0xae, 0x0f}), 4u);
    EXPECT_EQ(guest.machine.ymm[15][3], 0x44);
}

TEST_F(OneInstruction, FxsaveFaults)
{
    guest.reg(kRbx) = kImage + 8;
    EXPECT_EQ(fault(kFxsave), GP_VECTOR);
    EXPECT_EQ(fault(kFxrstor), GP_VECTOR);
    guest.reg(kRbx) = 0xfe10; // the last of 512 bytes is beyond the limit
    EXPECT_EQ(fault(kFxsave), GP_VECTOR);
    EXPECT_EQ(fault(kFxrstor), GP_VECTOR);
    set_cr4(X86_CR4_OSFXSR);
    guest.reg(kRbx) = kImage;
    EXPECT_EQ(complete(kFxsave), 3u);
    guest.poke<u32>(kImageMxcsr, 0x10000);
    guest.poke<u16>(kImage, 0x123);
    EXPECT_EQ(fault(kFxrstor), GP_VECTOR);
    EXPECT_EQ(guest.machine.x87_control, 0x37f);
    guest.set_control(X86_CR0_ET | X86_CR0_TS, 0, X86_CR4_OSFXSR, 0);
    EXPECT_EQ(fault(kFxsave), NM_VECTOR);
    guest.set_control(X86_CR0_ET | X86_CR0_EM, 0, X86_CR4_OSFXSR, 0);
    EXPECT_EQ(fault(kFxrstor), NM_VECTOR);
}

TEST_F(OneInstruction, FxsaveToADeviceIsToldOf)
{
    protected_mode();
    guest.reg(kRdi) = kDevice;
    EXPECT_FALSE(run(kFxsave).resumes());
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(guest.run().emulation_failure.insn_bytes[1], 0xae);
}

TEST_F(OneInstruction, Mxcsr)
{
    guest.reg(kRbx) = kImage + 1; // needn't be aligned
    EXPECT_EQ(fault(kStmxcsr), UD_VECTOR);
    set_cr4(X86_CR4_OSFXSR);
    EXPECT_EQ(complete(kStmxcsr), 3u);
    EXPECT_EQ(guest.peek<u32>(kImage + 1), 0x1f80u);
    guest.poke<u32>(kImage + 1, 0x9fc0);
    EXPECT_EQ(complete(kLdmxcsr), 3u);
    EXPECT_EQ(guest.machine.mxcsr, 0x9fc0u);
    guest.poke<u32>(kImage + 1, 0x80001f80);
    EXPECT_EQ(fault(kLdmxcsr), GP_VECTOR);
    guest.set_control(X86_CR0_ET | X86_CR0_TS, 0, X86_CR4_OSFXSR, 0);
    EXPECT_EQ(fault(kLdmxcsr), NM_VECTOR);
    guest.set_control(X86_CR0_ET | X86_CR0_EM, 0, X86_CR4_OSFXSR, 0);
    EXPECT_EQ(fault(kStmxcsr), UD_VECTOR);
}

// ---- What isn't known -------------------------------------------------------

TEST_F(OneInstruction, UnknownInstructionsAreToldOf)
{
    EXPECT_FALSE(run({0x0f, 0x58, 0xc1}).resumes()); // addps
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(guest.run().emulation_failure.suberror, u32{KVM_INTERNAL_ERROR_EMULATION});
    EXPECT_EQ(guest.run().emulation_failure.insn_bytes[0], 0x0f);
    EXPECT_EQ(guest.run().emulation_failure.insn_bytes[1], 0x58);
    EXPECT_EQ(guest.take_exception().vector, UD_VECTOR);
    protected_mode(3); // a program of the guest's gets its exception
    EXPECT_EQ(fault({0x0f, 0x58, 0xc1}), UD_VECTOR);
}

TEST_F(OneInstruction, WhatTheArchitectureRefusesIsTheGuestsAffair)
{
    EXPECT_EQ(fault({0x0f, 0x0b}), UD_VECTOR);
    EXPECT_EQ(fault({0xf0, 0x90}), UD_VECTOR);
    EXPECT_EQ(fault({0x8d, 0xc0}), UD_VECTOR);
    EXPECT_EQ(fault({0x63, 0xc0}), UD_VECTOR); // ARPL in real mode
}

} // namespace
} // namespace minivmx::test
