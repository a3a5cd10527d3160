// SPDX-License-Identifier: GPL-2.0-only
//
// What a client is told of each kind of intercepted exit, and what happens when it lets it happen.
#include "intercept_fixture.hpp"

namespace minivmx::test {
namespace {

// ---- Kinds --------------------------------------------------------------------------------------

TEST_F(Intercept, HaltIsToldAndThenTakesPlace)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_HLT), 0);
    expect_question(MINIVMX_INTERCEPT_HLT, EXIT_REASON_HLT);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_HLT});
    EXPECT_EQ(guest.machine.entries, 1u);
}

// KVM_X86_DISABLE_EXITS_HLT: once it has been told of, the guest halts by itself.
TEST_F(Intercept, HaltInTheGuest)
{
    static constexpr u32 kHaltedActivity = 1;
    to_vmx(vcpu.core).kvm->hlt_in_guest = true;
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_HLT), 0);
    EXPECT_TRUE(primary_now() & CPU_BASED_HLT_EXITING);
    exits({{EXIT_REASON_HLT}, {EXIT_REASON_RDPMC}});
    expect_question(MINIVMX_INTERCEPT_HLT, EXIT_REASON_HLT);
    guest.machine.on_vmenter = [this](host_vcpu &) {
        EXPECT_EQ(field(GUEST_ACTIVITY_STATE.encoding), u64{kHaltedActivity});
        set(GUEST_ACTIVITY_STATE.encoding, 0);
        guest.machine.signal_pending = true;
        return play();
    };
    EXPECT_EQ(guest.run(vcpu), -EINTR);
    EXPECT_EQ(guest.machine.entries, 2u);
}

TEST_F(Intercept, ControlRegisters)
{
    constexpr u64 kMovToCr3FromRbx = 3 | 0u << 4 | u64{kRbx} << 8;
    constexpr u64 kMovFromCr3ToRsi = 3 | 1u << 4 | u64{kRsi} << 8;
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_CR3_LOAD | MINIVMX_INTERCEPT_CR3_STORE), 0);
    reg(kRbx) = 0x5000;
    exits({{EXIT_REASON_CR_ACCESS, {{EXIT_QUALIFICATION.encoding, kMovToCr3FromRbx}}},
           {EXIT_REASON_CR_ACCESS, {{EXIT_QUALIFICATION.encoding, kMovFromCr3ToRsi}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_CR3_LOAD, EXIT_REASON_CR_ACCESS);
    EXPECT_EQ(facts().number, 3u);
    EXPECT_EQ(facts().value, 0x5000u);
    EXPECT_EQ(facts().reg, kRbx);
    EXPECT_EQ(facts().is_write, 1);
    EXPECT_EQ(facts().size, 4);
    expect_question(MINIVMX_INTERCEPT_CR3_STORE, EXIT_REASON_CR_ACCESS);
    EXPECT_EQ(field(GUEST_CR3.encoding), 0x5000u);
    EXPECT_EQ(facts().reg, kRsi);
    EXPECT_EQ(facts().is_write, 0);
    expect_halt();
    EXPECT_EQ(reg(kRsi), 0x5000u);
    ASSERT_EQ(ask_controls(0), 0);
    core_vcpu_load(vcpu.core, 0);
    kvm_sregs sregs{};
    ASSERT_EQ(core_get_sregs(vcpu.core, &sregs), 0);
    EXPECT_EQ(sregs.cr3, 0x5000u);
}

TEST_F(Intercept, DebugRegistersExitEachTime)
{
    constexpr u64 kMovToDr1FromRax = 1, kMovFromDr1ToRcx = 1 | 16 | u64{kRcx} << 8;
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_MOV_DR), 0);
    reg(kRax) = 0xabc;
    exits({{EXIT_REASON_DR_ACCESS, {{EXIT_QUALIFICATION.encoding, kMovToDr1FromRax}}},
           {EXIT_REASON_DR_ACCESS, {{EXIT_QUALIFICATION.encoding, kMovFromDr1ToRcx}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_MOV_DR, EXIT_REASON_DR_ACCESS);
    EXPECT_EQ(facts().number, 1u);
    EXPECT_EQ(facts().value, 0xabcu);
    expect_question(MINIVMX_INTERCEPT_MOV_DR, EXIT_REASON_DR_ACCESS);
    EXPECT_EQ(facts().reg, kRcx);
    expect_halt();
    EXPECT_EQ(reg(kRcx), 0xabcu);
    for (const u32 word : primary)
        EXPECT_TRUE(word & CPU_BASED_MOV_DR_EXITING);
}

TEST_F(Intercept, Ports)
{
    constexpr u64 kOutWord = 1 | 0x63ull << 16; // ports 63H and 64H
    constexpr u64 kInByte = 0 | 8 | 0x65ull << 16;
    ASSERT_EQ(ask({}, {{0x64, 0x64, 0}}), 0);
    reg(kRax) = 0x12345678;
    exits({{EXIT_REASON_IO_INSTRUCTION, {{EXIT_QUALIFICATION.encoding, kOutWord}}},
           {EXIT_REASON_IO_INSTRUCTION, {{EXIT_QUALIFICATION.encoding, kInByte}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_IO_INSTRUCTION);
    EXPECT_EQ(facts().number, 0x63u);
    EXPECT_EQ(facts().size, 2);
    EXPECT_EQ(facts().is_write, 1);
    EXPECT_EQ(facts().value, 0x5678u);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_IO}) << "what it is without intercepts";
    EXPECT_EQ(vcpu.area.run->io.port, 0x63);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_IO});
    EXPECT_EQ(vcpu.area.run->io.port, 0x65);
    expect_halt();
}

TEST_F(Intercept, Msrs)
{
    ASSERT_EQ(ask({}, {}, {{MSR_LSTAR, MSR_LSTAR, MINIVMX_MSR_WRITE, 0}}), 0);
    reg(kRcx) = MSR_LSTAR;
    reg(kRax) = 0x1000;
    reg(kRdx) = 0xffff8000;
    exits({{EXIT_REASON_MSR_WRITE}, {EXIT_REASON_MSR_READ}, {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_MSR_WRITE);
    EXPECT_EQ(facts().number, MSR_LSTAR);
    EXPECT_EQ(facts().value, 0xffff800000001000u);
    EXPECT_EQ(facts().is_write, 1);
    expect_halt();
    EXPECT_EQ(vcpu.area.uret[URET_LSTAR], 0xffff800000001000u);
}

TEST_F(Intercept, RandomNumbers)
{
    use_cpuid();
    constexpr u64 kRdrand16ToRbx = u64{kRbx} << 3, kRdseed64ToRdi = 2u << 11 | u64{kRdi} << 3;
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDRAND | MINIVMX_INTERCEPT_RDSEED), 0);
    reg(kRbx) = 0xffffffffffffffff;
    exits({{EXIT_REASON_RDRAND, {{VMX_INSTRUCTION_INFO.encoding, kRdrand16ToRbx}}},
           {EXIT_REASON_RDSEED, {{VMX_INSTRUCTION_INFO.encoding, kRdseed64ToRdi}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_RDRAND, EXIT_REASON_RDRAND);
    EXPECT_EQ(facts().reg, kRbx);
    EXPECT_EQ(facts().size, 2);
    expect_question(MINIVMX_INTERCEPT_RDSEED, EXIT_REASON_RDSEED);
    EXPECT_EQ(reg(kRbx), 0xffffffffffff0000 | (guest.machine.random_number & 0xffff));
    EXPECT_TRUE(field(GUEST_RFLAGS.encoding) & X86_EFLAGS_CF);
    guest.machine.random_ready = false;
    expect_halt();
    EXPECT_EQ(reg(kRdi), 0u);
    EXPECT_FALSE(field(GUEST_RFLAGS.encoding) & X86_EFLAGS_CF);
}

// Without RDRAND in its CPUID a guest gets #UD, and it isn't RDRAND that the client hears of.
TEST_F(Intercept, RandomNumbersThatTheGuestLacks)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDRAND), 0);
    exits({{EXIT_REASON_RDRAND}, {EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION | UD_VECTOR);
}

TEST_F(Intercept, InvlpgForgetsTranslations)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_INVLPG), 0);
    exits({{EXIT_REASON_INVLPG, {{EXIT_QUALIFICATION.encoding, 0x7000}}}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_INVLPG, EXIT_REASON_INVLPG);
    EXPECT_EQ(facts().address, 0x7000u);
    const u64 before = guest.machine.invalidations;
    expect_halt();
    EXPECT_EQ(guest.machine.invalidations, before + 1);
}

TEST_F(Intercept, WindowsAreReportedOnce)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_INTERRUPT_WINDOW), 0);
    EXPECT_TRUE(primary_now() & CPU_BASED_INTR_WINDOW_EXITING);
    exits({{EXIT_REASON_INTERRUPT_WINDOW}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_INTERRUPT_WINDOW, EXIT_REASON_INTERRUPT_WINDOW);
    EXPECT_EQ(facts().length, 0u);
    EXPECT_FALSE(primary_now() & CPU_BASED_INTR_WINDOW_EXITING);
    expect_halt();
    EXPECT_FALSE(primary.back() & CPU_BASED_INTR_WINDOW_EXITING);
}

// ---- Exceptions ---------------------------------------------------------------------------------

constexpr u32 kHardException = INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION;

TEST_F(Intercept, PageFaultProceeds)
{
    ASSERT_EQ(ask_exceptions(bit32(PF_VECTOR)), 0);
    exits({{EXIT_REASON_EXCEPTION_NMI,
            {{VM_EXIT_INTR_INFO.encoding, kHardException | INTR_INFO_HAS_ERROR_CODE | PF_VECTOR},
             {VM_EXIT_INTR_ERROR_CODE.encoding, 6},
             {EXIT_QUALIFICATION.encoding, 0xdead000}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    EXPECT_EQ(facts().number, u32{PF_VECTOR});
    EXPECT_EQ(facts().value, 6u);
    EXPECT_EQ(facts().address, 0xdead000u);
    EXPECT_EQ(facts().length, 0u);
    EXPECT_EQ(vcpu.area.cr2, 0u) << "not delivered yet";
    expect_halt();
    EXPECT_EQ(vcpu.area.cr2, 0xdead000u);
    EXPECT_EQ(injected[1] & ~INTR_INFO_HAS_ERROR_CODE, kHardException | PF_VECTOR);
}

TEST_F(Intercept, AFaultThatIsSkippedIsTriedAgain)
{
    ASSERT_EQ(ask_exceptions(bit32(GP_VECTOR)), 0);
    const u64 before = rip();
    exits({{EXIT_REASON_EXCEPTION_NMI, {{VM_EXIT_INTR_INFO.encoding, kHardException | GP_VECTOR}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    answer().answer = MINIVMX_ANSWER_SKIP;
    expect_halt();
    EXPECT_FALSE(injected[1] & INTR_INFO_VALID);
    EXPECT_EQ(rip(), before + 2);
}

TEST_F(Intercept, BreakpointInstructionReturnsBehindItself)
{
    ASSERT_EQ(ask_exceptions(bit32(BP_VECTOR)), 0);
    const Exit int3{
        EXIT_REASON_EXCEPTION_NMI,
        {{VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR},
         {VM_EXIT_INSTRUCTION_LEN.encoding, 1}}};
    exits({int3, int3, {EXIT_REASON_HLT}});
    const u64 before = rip();
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    EXPECT_EQ(facts().length, 1u);
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR);
    EXPECT_EQ(field(VM_ENTRY_INSTRUCTION_LEN.encoding), 1u);
    answer().answer = MINIVMX_ANSWER_SKIP;
    expect_halt();
    EXPECT_FALSE(injected[2] & INTR_INFO_VALID);
    EXPECT_EQ(rip(), before + 1 + 2);
}

// A client that has lost interest since.
TEST_F(Intercept, ABreakpointProceedsWithoutItsRequest)
{
    ASSERT_EQ(ask_exceptions(bit32(BP_VECTOR)), 0);
    exits({{EXIT_REASON_EXCEPTION_NMI,
            {{VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR},
             {VM_EXIT_INSTRUCTION_LEN.encoding, 1}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    ASSERT_EQ(ask_controls(0), 0);
    expect_halt();
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR);
}

// SDM Vol. 3A, 6.15, table 6-5: as it would have been without the exit in between.
TEST_F(Intercept, AFaultWhileAFaultIsDeliveredIsADoubleFault)
{
    ASSERT_EQ(ask_exceptions(bit32(GP_VECTOR)), 0);
    exits({{EXIT_REASON_EXCEPTION_NMI,
            {{VM_EXIT_INTR_INFO.encoding, kHardException | INTR_INFO_HAS_ERROR_CODE | GP_VECTOR},
             {IDT_VECTORING_INFO_FIELD.encoding, kHardException | NP_VECTOR}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    expect_halt();
    EXPECT_EQ(injected[1] & INTR_INFO_VECTOR_MASK, u32{DF_VECTOR});
}

TEST_F(Intercept, ADebuggersExceptionIsNotTheClients)
{
    ASSERT_EQ(ask_exceptions(bit32(DB_VECTOR) | bit32(BP_VECTOR)), 0);
    kvm_guest_debug debug{};
    debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    core_vcpu_load(vcpu.core, 0);
    ASSERT_EQ(core_set_guest_debug(vcpu.core, &debug), 0);
    EXPECT_TRUE(field(EXCEPTION_BITMAP.encoding) & bit32(BP_VECTOR));
    exits(
        {{EXIT_REASON_EXCEPTION_NMI,
          {{VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR}}}});
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_DEBUG});
    debug = {};
    ASSERT_EQ(core_set_guest_debug(vcpu.core, &debug), 0);
    EXPECT_TRUE(field(EXCEPTION_BITMAP.encoding) & bit32(BP_VECTOR)) << "the client's remains";
}

// The host's events never are a question.
TEST_F(Intercept, NmisAreTheHosts)
{
    ASSERT_EQ(ask_exceptions(MINIVMX_INTERCEPT_EXCEPTIONS), 0);
    exits({{EXIT_REASON_EXCEPTION_NMI,
            {{VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR}}},
           {EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_EQ(guest.machine.host_events, std::vector<std::string>{"nmi"});
}

// ---- The monitor trap flag ----------------------------------------------------------------------

class InterceptOnTigerLake : public Intercept {
  protected:
    InterceptOnTigerLake() : Intercept("tigerlake") {}
};

TEST_F(InterceptOnTigerLake, SingleStep)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_SINGLE_STEP), 0);
    EXPECT_TRUE(primary_now() & CPU_BASED_MONITOR_TRAP_FLAG);
    exits({{EXIT_REASON_MONITOR_TRAP_FLAG}, {EXIT_REASON_CPUID}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_SINGLE_STEP, EXIT_REASON_MONITOR_TRAP_FLAG);
    const u64 before = rip();
    // CPUID is carried out here: the CPU knows of no step.
    expect_question(MINIVMX_INTERCEPT_SINGLE_STEP, EXIT_REASON_MONITOR_TRAP_FLAG);
    EXPECT_EQ(guest.machine.entries, 2u);
    EXPECT_EQ(rip(), before + 2);
    expect_halt();
}

class InterceptOnAlderLake : public Intercept {
  protected:
    InterceptOnAlderLake() : Intercept("AlderLake_02") {}
};

TEST_F(InterceptOnAlderLake, UserWait)
{
    use_cpuid();
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_USER_WAIT), 0);
    EXPECT_TRUE(primary_now() & CPU_BASED_RDTSC_EXITING);
    reg(kRax) = 100;
    set(GUEST_RFLAGS.encoding, X86_EFLAGS_FIXED | X86_EFLAGS_CF | X86_EFLAGS_ZF);
    to_vmx(vcpu.core).state_available = 0;
    exits({{EXIT_REASON_RDTSC},
           {EXIT_REASON_TPAUSE, {{VMX_INSTRUCTION_INFO.encoding, u64{kRbx} << 3}}},
           {EXIT_REASON_UMWAIT, {{VMX_INSTRUCTION_INFO.encoding, u64{kRbx} << 3}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_USER_WAIT, EXIT_REASON_TPAUSE);
    EXPECT_EQ(guest.machine.entries, 2u) << "RDTSC is nobody's question";
    EXPECT_EQ(facts().reg, kRbx);
    reg(kRbx) = 1;
    expect_question(MINIVMX_INTERCEPT_USER_WAIT, EXIT_REASON_UMWAIT);
    EXPECT_EQ(field(GUEST_RFLAGS.encoding), X86_EFLAGS_FIXED);
    reg(kRbx) = 2;
    expect_halt();
    EXPECT_EQ(injected.back() & INTR_INFO_VECTOR_MASK, u32{GP_VECTOR}) << "a reserved bit";
}

// ---- Descriptor tables --------------------------------------------------------------------------

// 64 KiB from 0 on, in protected mode without paging; the next instruction is this one.
class InterceptCode : public Intercept {
  protected:
    explicit InterceptCode(const char *cpu = "corei7_skylake_x") : Intercept(cpu)
    {
        const u64 hva = guest.machine.add_user_memory(0x10000, true, 4096);
        const kvm_userspace_memory_region region = {0, 0, 0, 0x10000, hva};
        EXPECT_EQ(core_set_memory_region(guest.vm.core, &region), 0);
        memory = reinterpret_cast<u8 *>(hva);
        use_cpuid();
        core_vcpu_load(vcpu.core, 0);
        kvm_sregs sregs{};
        EXPECT_EQ(core_get_sregs(vcpu.core, &sregs), 0);
        for (kvm_segment *segment : {&sregs.cs, &sregs.ds, &sregs.es, &sregs.ss}) {
            *segment = {};
            segment->limit = 0xffffffff;
            segment->type = segment == &sregs.cs ? 11 : 3;
            segment->selector = 8;
            segment->present = segment->s = segment->db = segment->g = 1;
        }
        sregs.cr0 |= X86_CR0_PE;
        sregs.gdt.base = 0x5000;
        sregs.gdt.limit = 0x7f;
        EXPECT_EQ(core_set_sregs(vcpu.core, &sregs), 0);
        to_vmx(vcpu.core).cr4 |= X86_CR4_OSXSAVE; // which this machine's kernel hasn't enabled
        kvm_regs regs{};
        regs.rflags = X86_EFLAGS_FIXED;
        regs.rip = 0x1000;
        EXPECT_EQ(core_set_regs(vcpu.core, &regs), 0);
        core_vcpu_put(vcpu.core);
    }
    void code(const std::vector<u8> &bytes) { std::ranges::copy(bytes, memory + 0x1000); }

    u8 *memory;
};

TEST_F(InterceptCode, StoringATable)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_DESCRIPTOR_TABLE), 0);
    code({0x0f, 0x01, 0x05, 0x00, 0x30, 0x00, 0x00}); // SGDT [3000H]
    exits({{EXIT_REASON_GDTR_IDTR, {{VM_EXIT_INSTRUCTION_LEN.encoding, 7}}}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_DESCRIPTOR_TABLE, EXIT_REASON_GDTR_IDTR);
    EXPECT_EQ(facts().number, u32{MINIVMX_SGDT});
    EXPECT_EQ(facts().address, 0x3000u);
    EXPECT_EQ(facts().size, 6);
    EXPECT_EQ(facts().is_write, 0);
    EXPECT_EQ(facts().value, 0x5000u);
    EXPECT_EQ(facts().reg, MINIVMX_NO_REGISTER);
    EXPECT_EQ(memory[0x3000], 0);
    expect_halt();
    EXPECT_EQ(memory[0x3000], 0x7f);
    EXPECT_EQ(memory[0x3003], 0x50);
}

TEST_F(InterceptCode, LoadingATable)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_DESCRIPTOR_TABLE), 0);
    code({0x0f, 0x00, 0xd1}); // LLDT CX
    reg(kRcx) = 0x10;
    memory[0x5015] = 0x82;
    exits({{EXIT_REASON_LDTR_TR,
            {{VMX_INSTRUCTION_INFO.encoding, 2u << 28}, {VM_EXIT_INSTRUCTION_LEN.encoding, 3}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_DESCRIPTOR_TABLE, EXIT_REASON_LDTR_TR);
    EXPECT_EQ(facts().number, u32{MINIVMX_LLDT});
    EXPECT_EQ(facts().is_write, 1);
    EXPECT_EQ(facts().reg, kRcx);
    EXPECT_EQ(facts().value, 0x10u);
    expect_halt();
    EXPECT_EQ(field(GUEST_LDTR_SELECTOR.encoding), 0x10u);
    EXPECT_EQ(field(GUEST_LDTR_AR_BYTES.encoding), 0x82u);
}

TEST_F(InterceptCode, InvpcidIsAnInvlpg)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_INVLPG), 0);
    code({0x66, 0x0f, 0x38, 0x82, 0x03}); // INVPCID EAX, [EBX]
    reg(kRax) = 2;
    reg(kRbx) = 0x4000;
    exits({{EXIT_REASON_INVPCID, {{VM_EXIT_INSTRUCTION_LEN.encoding, 5}}}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_INVLPG, EXIT_REASON_INVPCID);
    EXPECT_EQ(facts().number, 2u);
    EXPECT_EQ(facts().address, 0x4000u);
    EXPECT_EQ(facts().size, 16);
    const u64 before = guest.machine.invalidations;
    expect_halt();
    EXPECT_EQ(guest.machine.invalidations, before + 1);
}

// ---- XSAVES -------------------------------------------------------------------------------------

class InterceptXsaves : public InterceptCode {
  protected:
    InterceptXsaves() : InterceptCode("tigerlake") {}

    const Exit kUndefined{
        EXIT_REASON_EXCEPTION_NMI,
        {{VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION | UD_VECTOR}}};
};

TEST_F(InterceptXsaves, ExecutesInTheGuestWhenItProceeds)
{
    EXPECT_TRUE(secondary_now() & SECONDARY_EXEC_XSAVES);
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_XSAVES), 0);
    EXPECT_FALSE(secondary_now() & SECONDARY_EXEC_XSAVES);
    code({0x0f, 0xc7, 0x2d, 0x00, 0x30, 0x00, 0x00}); // XSAVES [3000H]
    reg(kRax) = 3;
    exits({kUndefined,
           {EXIT_REASON_EXTERNAL_INTERRUPT},
           {EXIT_REASON_MONITOR_TRAP_FLAG, {{GUEST_RIP.encoding, 0x1007}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_XSAVES, EXIT_REASON_EXCEPTION_NMI);
    EXPECT_EQ(facts().number, u32{MINIVMX_XSAVES});
    EXPECT_EQ(facts().value, 3u);
    EXPECT_EQ(facts().address, 0x3000u);
    EXPECT_EQ(facts().length, 7u);
    expect_halt();
    ASSERT_EQ(secondary.size(), 4u);
    EXPECT_FALSE(secondary[0] & SECONDARY_EXEC_XSAVES);
    for (const usize native : {1u, 2u}) {
        EXPECT_TRUE(secondary[native] & SECONDARY_EXEC_XSAVES) << native;
        EXPECT_TRUE(primary[native] & CPU_BASED_MONITOR_TRAP_FLAG) << native;
    }
    EXPECT_FALSE(secondary[3] & SECONDARY_EXEC_XSAVES);
    EXPECT_FALSE(primary[3] & CPU_BASED_MONITOR_TRAP_FLAG);
}

TEST_F(InterceptXsaves, SkippingKnowsTheLength)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_XSAVES), 0);
    code({0x0f, 0xc7, 0x1b}); // XRSTORS [EBX]
    exits({kUndefined, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_XSAVES, EXIT_REASON_EXCEPTION_NMI);
    EXPECT_EQ(facts().number, u32{MINIVMX_XRSTORS});
    answer().answer = MINIVMX_ANSWER_SKIP;
    expect_halt();
    EXPECT_EQ(rip(), 0x1003u + 2);
}

// Its memory operand isn't there: the guest gets the fault, and no second question.
TEST_F(InterceptXsaves, AFaultEndsTheStep)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_XSAVES), 0);
    code({0x0f, 0xc7, 0x2b}); // XSAVES [EBX]
    exits({kUndefined, kUndefined, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_XSAVES, EXIT_REASON_EXCEPTION_NMI);
    expect_halt();
    EXPECT_EQ(injected[2], INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION | UD_VECTOR);
    EXPECT_FALSE(primary[2] & CPU_BASED_MONITOR_TRAP_FLAG);
}

TEST_F(InterceptXsaves, AnotherRequestEndsTheStep)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_XSAVES), 0);
    code({0x0f, 0xc7, 0x2b});
    exits({kUndefined, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_XSAVES, EXIT_REASON_EXCEPTION_NMI);
    vcpu.area.run->immediate_exit = 1;
    EXPECT_EQ(guest.run(vcpu), -EINTR);
    vcpu.area.run->immediate_exit = 0;
    EXPECT_TRUE(primary_now() & CPU_BASED_MONITOR_TRAP_FLAG);
    ASSERT_EQ(ask_controls(0), 0);
    EXPECT_FALSE(primary_now() & CPU_BASED_MONITOR_TRAP_FLAG);
    EXPECT_TRUE(secondary_now() & SECONDARY_EXEC_XSAVES);
    expect_halt();
}

TEST_F(InterceptXsaves, OtherUndefinedInstructionsAreNotReported)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_XSAVES), 0);
    code({0x0f, 0x0b}); // UD2
    exits({kUndefined, {EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION | UD_VECTOR);
}

// An interrupt that comes meanwhile waits for the one instruction.
TEST_F(InterceptXsaves, EventsWaitForTheStep)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_XSAVES), 0);
    code({0x0f, 0xc7, 0x2b});
    exits({kUndefined,
           {EXIT_REASON_MONITOR_TRAP_FLAG, {{GUEST_RIP.encoding, 0x1003}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_XSAVES, EXIT_REASON_EXCEPTION_NMI);
    core_nmi(vcpu.core);
    expect_halt();
    EXPECT_FALSE(injected[1] & INTR_INFO_VALID);
    EXPECT_EQ(injected[2], INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
}

} // namespace
} // namespace minivmx::test
