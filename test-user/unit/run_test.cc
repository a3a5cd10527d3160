// SPDX-License-Identifier: GPL-2.0-only
//
// KVM_RUN over the simulated machine: on_vmenter plays the guest by filling in the exit fields, as
// a CPU would.
#include <minivmx/control_shadow.hpp>

#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <minivmx.h>

namespace minivmx::test {
namespace {

class Run : public testing::Test {
  protected:
    explicit Run(Parameters params = quiet())
        : guest(sim::cpu("corei7_haswell_4770"), params), vcpu(guest.create_vcpu())
    {
        guest.machine.on_vmenter = [this](host_vcpu &) { return play(); };
    }
    static Parameters quiet()
    {
        Parameters params = default_parameters();
        params.report = 0;
        return params;
    }

    // The guest's next exits, in turn; the last one repeats.
    void exits(std::vector<u32> reasons) { script = std::move(reasons); }
    u32 play()
    {
        auto &fields = guest.machine.current_vmcs().fields;
        const u32 reason =
            script.empty() ? u32{EXIT_REASON_HLT} : script[std::min(entry, script.size() - 1)];
        injected.push_back(static_cast<u32>(fields[VM_ENTRY_INTR_INFO_FIELD.encoding]));
        primary.push_back(static_cast<u32>(fields[CPU_BASED_VM_EXEC_CONTROL.encoding]));
        if (!(reason &
              kExitReasonFailedEntry)) // SDM Vol. 3C, 27.8.3: a failed entry leaves it as it is
            fields[VM_ENTRY_INTR_INFO_FIELD.encoding] &= ~u64{INTR_INFO_VALID};
        fields[VM_EXIT_REASON.encoding] = reason;
        fields[IDT_VECTORING_INFO_FIELD.encoding] = entry < vectoring.size() ? vectoring[entry] : 0;
        fields[VM_EXIT_INSTRUCTION_LEN.encoding] = 1;
        entry++;
        if (during)
            during();
        return 0;
    }
    kvm_run &run() { return *vcpu.area.run; }
    u64 read(u32 encoding) { return guest.field(vcpu, encoding); }
    void set(u32 encoding, u64 value) { guest.vmcs_of(vcpu).fields[encoding] = value; }
    void interrupts_on()
    {
        kvm_regs regs{};
        core_vcpu_load(vcpu.core, 0);
        core_get_regs(vcpu.core, &regs);
        regs.rflags |= X86_EFLAGS_IF;
        core_set_regs(vcpu.core, &regs);
    }

    GuestMachine guest;
    host_vcpu &vcpu;
    std::vector<u32> script, vectoring, injected, primary, launched;
    usize entry = 0;
    std::function<void()> during;
};

TEST_F(Run, HaltReachesUserSpaceBehindTheInstruction)
{
    kvm_regs regs{};
    core_vcpu_load(vcpu.core, 0);
    ASSERT_EQ(core_get_regs(vcpu.core, &regs), 0);
    const u64 rip = regs.rip;
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(run().exit_reason, u32{KVM_EXIT_HLT});
    ASSERT_EQ(core_get_regs(vcpu.core, &regs), 0);
    EXPECT_EQ(regs.rip, rip + 1);
}

TEST_F(Run, HostEventsAreTheHosts)
{
    exits({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_EXCEPTION_NMI, EXIT_REASON_HLT});
    during = [this] {
        set(VM_EXIT_INTR_INFO.encoding, entry == 1 ? INTR_INFO_VALID | INTR_TYPE_EXT_INTR | 0xec
                                                   : INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.host_events, (std::vector<std::string>{"interrupt 236", "nmi"}));
    EXPECT_EQ(guest.machine.entries, 3u);
}

TEST_F(Run, TripleFaultIsShutdown)
{
    exits({EXIT_REASON_TRIPLE_FAULT});
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(run().exit_reason, u32{KVM_EXIT_SHUTDOWN});
}

TEST_F(Run, UnknownExitIsToldWithReasonAndCpu)
{
    exits({0x55});
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(run().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(run().internal.suberror, u32{KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON});
    EXPECT_EQ(run().internal.ndata, 2u);
    EXPECT_EQ(run().internal.data[0], 0x55u);
    EXPECT_EQ(run().internal.data[1], 0u);
}

TEST_F(Run, FailedEntryGivesTheHardwaresReason)
{
    exits({EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry});
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(run().exit_reason, u32{KVM_EXIT_FAIL_ENTRY});
    EXPECT_EQ(run().fail_entry.hardware_entry_failure_reason, 0x80000021u);
}

// SDM Vol. 3C, 27.8: its event is still there, but may not be what the next entry injects.
TEST_F(Run, FailedEntryLeavesNoEventBehind)
{
    interrupts_on();
    ASSERT_EQ(core_interrupt(vcpu.core, 0x41), 0);
    exits({EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry, EXIT_REASON_HLT});
    ASSERT_EQ(guest.run(vcpu), 0);
    kvm_vcpu_events events{};
    core_vcpu_load(vcpu.core, 0);
    ASSERT_EQ(core_set_vcpu_events(vcpu.core, &events), 0); // user space takes it back
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_TRUE(injected.at(0) & INTR_INFO_VALID);
    EXPECT_FALSE(injected.at(1) & INTR_INFO_VALID);
}

// Each debugger's step begins outside of an interrupt shadow: SDM Vol. 3C, 27.3.1.5.
TEST_F(Run, SingleStepBeginsWithoutAShadow)
{
    kvm_guest_debug debug{};
    debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    interrupts_on();
    ASSERT_EQ(core_set_guest_debug(vcpu.core, &debug), 0);
    core_vcpu_load(vcpu.core, 0);
    write_interruptibility(to_vmx(vcpu.core), GUEST_INTR_STATE_STI);
    u64 state = ~u64{0};
    during = [&] { state = read(GUEST_INTERRUPTIBILITY_INFO.encoding); };
    exits({EXIT_REASON_TRIPLE_FAULT});
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(state, 0u);
}

TEST_F(Run, FailedVmlaunchGivesTheInstructionError)
{
    guest.machine.on_vmenter = [this](host_vcpu &) -> u32 {
        guest.machine.current_vmcs().fields[VM_INSTRUCTION_ERROR.encoding] = 7;
        return 1;
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(run().exit_reason, u32{KVM_EXIT_FAIL_ENTRY});
    EXPECT_EQ(run().fail_entry.hardware_entry_failure_reason, 7u);
    EXPECT_EQ(vcpu.area.launched, 0u);
}

TEST_F(Run, SecondEntryResumes)
{
    exits({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_HLT});
    during = [this] { launched.push_back(vcpu.area.launched); };
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(launched, (std::vector<u32>{0, 1}));
}

TEST_F(Run, ImmediateExitEntersNothing)
{
    run().immediate_exit = 1;
    EXPECT_EQ(guest.run(vcpu), -EINTR);
    EXPECT_EQ(guest.machine.entries, 0u);
}

TEST_F(Run, SignalEndsTheRun)
{
    exits({EXIT_REASON_EXTERNAL_INTERRUPT});
    during = [this] { guest.machine.signal_pending = true; };
    EXPECT_EQ(guest.run(vcpu), -EINTR);
    EXPECT_EQ(run().exit_reason, u32{KVM_EXIT_INTR});
    EXPECT_EQ(guest.machine.entries, 1u);
}

TEST_F(Run, InterruptIsInjectedOnce)
{
    interrupts_on();
    ASSERT_EQ(core_interrupt(vcpu.core, 0x30), 0);
    exits({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_HLT});
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(injected[0], INTR_INFO_VALID | INTR_TYPE_EXT_INTR | 0x30);
    EXPECT_EQ(injected[1] & INTR_INFO_VALID, 0u);
}

TEST_F(Run, InterruptOutOfRangeIsRefused)
{
    EXPECT_EQ(core_interrupt(vcpu.core, 256), -EINVAL);
    EXPECT_EQ(core_interrupt(vcpu.core, 255), 0);
}

// SDM Vol. 3C, 28.2.4: an exit in the middle of a delivery leaves the event in the IDT-vectoring
// field.
TEST_F(Run, InterruptedDeliveryIsRepeated)
{
    interrupts_on();
    ASSERT_EQ(core_interrupt(vcpu.core, 0x31), 0);
    vectoring = {INTR_INFO_VALID | INTR_TYPE_EXT_INTR | 0x31};
    exits({EXIT_REASON_EXCEPTION_NMI, EXIT_REASON_HLT});
    during = [this] {
        set(VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_EXT_INTR | 0x31);
}

// KVM's KVM_INTERNAL_ERROR_DELIVERY_EV: such an exit would come back for ever.
TEST_F(Run, UnrepairableExitDuringDeliveryStops)
{
    vectoring = {INTR_INFO_VALID | INTR_TYPE_EXT_INTR | 0x31};
    exits({EXIT_REASON_HLT});
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(run().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(run().internal.suberror, u32{KVM_INTERNAL_ERROR_DELIVERY_EV});
}

TEST_F(Run, IrqWindowOpensWhenInterruptsDo)
{
    run().request_interrupt_window = 1;
    exits({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_INTERRUPT_WINDOW});
    during = [this] {
        if (entry == 2)
            set(GUEST_RFLAGS.encoding, X86_EFLAGS_FIXED | X86_EFLAGS_IF);
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(run().exit_reason, u32{KVM_EXIT_IRQ_WINDOW_OPEN});
    EXPECT_EQ(run().ready_for_interrupt_injection, 1);
    EXPECT_EQ(guest.machine.entries, 2u);
    EXPECT_EQ(primary[0] & CPU_BASED_INTR_WINDOW_EXITING, CPU_BASED_INTR_WINDOW_EXITING);
    EXPECT_EQ(read(CPU_BASED_VM_EXEC_CONTROL.encoding) & CPU_BASED_INTR_WINDOW_EXITING, 0u);
}

TEST_F(Run, SecondNmiWaitsForItsWindow)
{
    core_nmi(vcpu.core);
    core_nmi(vcpu.core);
    exits({EXIT_REASON_NMI_WINDOW, EXIT_REASON_HLT});
    during = [this] { // the CPU blocks NMIs with the first; IRET opens the window
        set(GUEST_INTERRUPTIBILITY_INFO.encoding, 0);
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(injected[0], INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
    EXPECT_EQ(primary[0] & CPU_BASED_NMI_WINDOW_EXITING, CPU_BASED_NMI_WINDOW_EXITING);
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
    EXPECT_EQ(primary[1] & CPU_BASED_NMI_WINDOW_EXITING, 0u);
}

class RunWithoutVnmi : public Run {
  protected:
    static Parameters without_vnmi()
    {
        Parameters params = quiet();
        params.vnmi = false;
        return params;
    }
    RunWithoutVnmi() : Run(without_vnmi()) {}
};

// A handler that never opens interrupts, as that of a guest in panic.
TEST_F(RunWithoutVnmi, EndOfAnNmiIsGuessed)
{
    core_nmi(vcpu.core);
    exits({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_EXTERNAL_INTERRUPT,
           EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_HLT});
    during = [this] {
        if (entry == 1)
            core_nmi(vcpu.core);
        guest.machine.advance(entry == 3 ? 900'000'000 : 200'000'000);
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_TRUE(injected[0] & INTR_INFO_VALID);
    EXPECT_FALSE(injected[1] & INTR_INFO_VALID);
    EXPECT_FALSE(injected[2] & INTR_INFO_VALID);
    EXPECT_EQ(injected[3], INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
}

TEST_F(Run, NmisBeyondTwoAreLost)
{
    for (int i = 0; i < 5; i++)
        core_nmi(vcpu.core);
    exits({EXIT_REASON_NMI_WINDOW, EXIT_REASON_NMI_WINDOW, EXIT_REASON_HLT});
    ASSERT_EQ(guest.run(vcpu), 0);
    unsigned delivered = 0;
    for (const u32 event : injected)
        delivered += (event & INTR_INFO_VALID) != 0;
    EXPECT_EQ(delivered, 2u);
}

// The debug registers come in with the first access and go out with the next exit.
TEST_F(Run, DebugRegistersAreLoadedOnFirstUse)
{
    exits({EXIT_REASON_DR_ACCESS, EXIT_REASON_HLT});
    std::vector<u32> switched;
    during = [&] { switched.push_back(vcpu.area.switch_db_regs); };
    set(GUEST_SS_AR_BYTES.encoding, 0x93);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(primary[0] & CPU_BASED_MOV_DR_EXITING, CPU_BASED_MOV_DR_EXITING);
    EXPECT_EQ(primary[1] & CPU_BASED_MOV_DR_EXITING, 0u);
    EXPECT_EQ(switched[1] & KVM_DEBUGREG_WONT_EXIT, u32{KVM_DEBUGREG_WONT_EXIT});
    EXPECT_EQ(read(CPU_BASED_VM_EXEC_CONTROL.encoding) & CPU_BASED_MOV_DR_EXITING,
              CPU_BASED_MOV_DR_EXITING);
    EXPECT_EQ(vcpu.area.switch_db_regs & KVM_DEBUGREG_WONT_EXIT, 0u);
}

TEST_F(Run, TlbFlushRequestInvalidatesBeforeTheEntry)
{
    ASSERT_EQ(guest.run(vcpu), 0);
    const u64 before = guest.machine.invalidations;
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.invalidations, before) << "an entry without a reason to flush";
    host_request_all(&guest.vm, VCPU_REQUEST_TLB_FLUSH);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.invalidations, before + 1);
}

TEST_F(Run, AChangeOfPagingLeavesGuestPhysicalTranslations)
{
    ASSERT_EQ(guest.run(vcpu), 0);
    constexpr u64 kMovRaxToCr4 = 4;
    exits({EXIT_REASON_CR_ACCESS, EXIT_REASON_HLT});
    entry = 0;
    set(EXIT_QUALIFICATION.encoding, kMovRaxToCr4);
    vcpu.area.regs[kRax] = X86_CR4_PSE | X86_CR4_PGE;
    const u64 before = guest.machine.invalidations, invvpids = guest.machine.invvpids;
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.invalidations, before + 1);
    EXPECT_EQ(guest.machine.invvpids, invvpids + 1);
}

TEST_F(Run, DeadVmCannotRun)
{
    host_request_all(&guest.vm, VCPU_REQUEST_VM_DEAD);
    EXPECT_EQ(guest.run(vcpu), -EIO);
}

TEST_F(Run, SyncRegsKnowsThreeKinds)
{
    run().kvm_valid_regs = 8;
    EXPECT_EQ(guest.run(vcpu), -EINVAL);
    run().kvm_valid_regs = 0;
    run().kvm_dirty_regs = u64{1} << 63;
    EXPECT_EQ(guest.run(vcpu), -EINVAL);
}

// An exit that is handled in the kernel costs no VMREAD or VMWRITE that it doesn't need.
TEST_F(Run, CpuidExitTouchesFewFields)
{
    exits({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_CPUID, EXIT_REASON_CPUID, EXIT_REASON_CPUID,
           EXIT_REASON_HLT});
    std::vector<u64> reads;
    std::vector<usize> writes;
    during = [&] {
        reads.push_back(guest.machine.vmreads);
        writes.push_back(guest.machine.vmwrites.size());
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    // Exit reason, IDT-vectoring information, instruction length, RIP, interruptibility for the
    // shadow of STI, and RFLAGS for a single-step trap.
    EXPECT_LE(reads[3] - reads[2], 6u);
    EXPECT_LE(writes[3] - writes[2], 1u) << "only RIP";
}

// A guest in real mode that nothing can be fetched for: first there is no instruction to emulate,
// then no handler of the #UD that it has become.
TEST(WithoutUnrestrictedGuest, AGuestWithoutMemoryIsAnInternalError)
{
    Parameters params = default_parameters();
    params.report = 0;
    params.unrestricted_guest = false;
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), params);
    host_vcpu &vcpu = guest.create_vcpu();
    for (const u32 suberror : {KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_DELIVERY_EV,
                               KVM_INTERNAL_ERROR_DELIVERY_EV}) {
        ASSERT_EQ(guest.run(vcpu), 0);
        EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
        EXPECT_EQ(vcpu.area.run->internal.suberror, suberror);
    }
    EXPECT_EQ(guest.machine.entries, 0u);
}

} // namespace
} // namespace minivmx::test
