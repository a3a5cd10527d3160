// SPDX-License-Identifier: GPL-2.0-only
//
// KVM_RUN with the interrupt controllers in the kernel: what is injected when, HLT, and the TPR
// shadow.
#include "lapic_fixture.hpp"

namespace minivmx::test {
namespace {

class LapicRun : public LapicTest {
  protected:
    LapicRun() : LapicTest(2)
    {
        enable_all();
        interrupts(true);
    }
    u32 window(usize at) { return entered.at(at).primary & CPU_BASED_INTR_WINDOW_EXITING; }
};

TEST_F(LapicRun, InjectsTheHighestAndWaitsForItsEnd)
{
    lapic_post(apic(), 0x31, false, true);
    lapic_post(apic(), 0x52, false, true);
    during = [this](usize at) {
        if (at == 1)
            write(kApicEoi, 0);
    };
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_EXTERNAL_INTERRUPT,
                   EXIT_REASON_EXTERNAL_INTERRUPT}),
              0);
    EXPECT_EQ(entered[0].event, event(0x52));
    EXPECT_FALSE(entered[1].event & INTR_INFO_VALID);
    EXPECT_EQ(entered[2].event, event(0x31));
    EXPECT_FALSE(window(0) | window(1) | window(2));
}

TEST_F(LapicRun, InterruptWindow)
{
    interrupts(false);
    lapic_post(apic(), 0x31, false, true);
    during = [this](usize at) {
        if (at == 1)
            guest.machine.current_vmcs().fields[GUEST_RFLAGS.encoding] =
                X86_EFLAGS_FIXED | X86_EFLAGS_IF;
    };
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_INTERRUPT_WINDOW}), 0);
    EXPECT_TRUE(window(0));
    EXPECT_TRUE(window(1));
    EXPECT_EQ(entered[2].event, event(0x31));
    EXPECT_FALSE(window(2));
}

TEST_F(LapicRun, NmiGoesFirst)
{
    lapic_post(apic(), 0x31, false, true);
    core_nmi(host().core);
    EXPECT_EQ(run({EXIT_REASON_INTERRUPT_WINDOW}), 0);
    EXPECT_EQ(entered[0].event, INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
    EXPECT_TRUE(window(0));
    EXPECT_EQ(entered[1].event, event(0x31));
}

// SDM Vol. 3C, 30.1.2 and 26.6.8
TEST_F(LapicRun, TprShadow)
{
    write(kApicTpr, 0x50);
    lapic_post(apic(), 0x41, false, true);
    during = [this](usize at) {
        if (at == 1)
            *reinterpret_cast<u32 *>(apic().page + kApicTpr) = 0x20; // MOV to CR8, without an exit
    };
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_TPR_BELOW_THRESHOLD,
                   EXIT_REASON_EXTERNAL_INTERRUPT}),
              0);
    EXPECT_FALSE(entered[0].event & INTR_INFO_VALID);
    EXPECT_EQ(entered[0].threshold, 4u);
    EXPECT_FALSE(window(0));
    EXPECT_EQ(entered[2].event, event(0x41));
    EXPECT_EQ(entered[2].threshold, 0u);
}

TEST_F(LapicRun, HaltSleepsUntilAnInterrupt)
{
    guest.machine.on_block = [this](host_vcpu &) { icr(0x4041, 0, 1); };
    EXPECT_EQ(run({EXIT_REASON_HLT}), 0);
    EXPECT_EQ(guest.machine.blocks, 1u);
    EXPECT_EQ(entered[1].event, event(0x41));
    EXPECT_EQ(vmx().mp_state, u32{KVM_MP_STATE_RUNNABLE});
}

TEST_F(LapicRun, HaltWithAnInterruptDoesNotSleep)
{
    during = [this](usize at) {
        if (at == 0)
            icr(0x4041, 0, 1);
    };
    EXPECT_EQ(run({EXIT_REASON_HLT}), 0);
    EXPECT_EQ(guest.machine.blocks, 0u);
    EXPECT_EQ(entered[1].event, event(0x41));
}

TEST_F(LapicRun, HaltEndsWithItsSingleStepTrap)
{
    write_rflags(vmx(), X86_EFLAGS_FIXED | X86_EFLAGS_TF);
    EXPECT_EQ(run({EXIT_REASON_HLT}), 0);
    EXPECT_EQ(guest.machine.blocks, 0u);
    EXPECT_EQ(guest.field(host(), GUEST_PENDING_DBG_EXCEPTIONS.encoding), bit64(14));
}

TEST_F(LapicRun, SignalEndsAHaltAndRunGoesOnWithIt)
{
    guest.machine.on_block = [this](host_vcpu &) { guest.machine.signal_pending = true; };
    EXPECT_EQ(run({EXIT_REASON_HLT}), -EINTR);
    EXPECT_EQ(host().area.run->exit_reason, u32{KVM_EXIT_INTR});
    EXPECT_EQ(vmx().mp_state, u32{KVM_MP_STATE_HALTED});
    guest.machine.signal_pending = false;
    guest.machine.on_block = [this](host_vcpu &) { icr(0x4042, 0, 1); };
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT}), 0);
    EXPECT_EQ(entered[0].event, event(0x42));
}

TEST_F(LapicRun, HaltWithInterruptsOffWaitsForAnNmi)
{
    interrupts(false);
    guest.machine.on_block = [this](host_vcpu &vcpu) {
        icr(0x4041, 0, 1);
        EXPECT_FALSE(core_vcpu_runnable(vcpu.core));
        icr(0x4400, 0, 1);
        EXPECT_TRUE(core_vcpu_runnable(vcpu.core));
    };
    EXPECT_EQ(run({EXIT_REASON_HLT}), 0);
    EXPECT_EQ(entered[1].event, INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
}

TEST_F(LapicRun, DeadVmWakesAHalt)
{
    guest.machine.on_block = [this](host_vcpu &) {
        host_request_all(&guest.vm, VCPU_REQUEST_VM_DEAD);
    };
    EXPECT_EQ(run({EXIT_REASON_HLT}), -EIO);
}

TEST_F(LapicRun, InitStartsAHaltedVcpuAnew)
{
    guest.machine.on_block = [this](host_vcpu &) { icr(0x4500, 0, 1); };
    EXPECT_EQ(run({EXIT_REASON_HLT}), 0);
    EXPECT_EQ(entered.size(), 2u);
    EXPECT_EQ(guest.field(host(), GUEST_CS_BASE.encoding), 0xffff0000u);
}

// A kick between the last look and the entry keeps the vCPU out.
TEST_F(LapicRun, InterruptJustBeforeTheEntry)
{
    unsigned looks = 0;
    guest.machine.before_entry = [&](host_vcpu &) {
        if (looks++ == 0)
            icr(0x4041, 0, 1);
    };
    EXPECT_EQ(run({}), 0);
    ASSERT_EQ(entered.size(), 1u);
    EXPECT_EQ(entered[0].event, event(0x41));
    EXPECT_EQ(looks, 2u);
}

// One that was on its way already comes first, and is in service once.
TEST_F(LapicRun, CancelledInjection)
{
    lapic_post(apic(), 0x41, false, true);
    unsigned looks = 0;
    guest.machine.before_entry = [&](host_vcpu &) {
        if (looks++ == 0)
            icr(0x4051, 0, 1);
    };
    EXPECT_EQ(run({EXIT_REASON_INTERRUPT_WINDOW}), 0);
    EXPECT_EQ(entered[0].event, event(0x41));
    EXPECT_TRUE(window(0));
    EXPECT_EQ(entered[1].event, event(0x51));
    EXPECT_EQ(read(kApicIsr + 0x20), 1u << 1 | 1u << 17);
}

TEST_F(LapicRun, EoiByApicAccessNeedsNoDecoding)
{
    lapic_post(apic(), 0x41, false, true);
    qualification = 1u << 12 | kApicEoi;
    write_rip(vmx(), 0x1000);
    EXPECT_EQ(run({EXIT_REASON_APIC_ACCESS}), 0);
    EXPECT_EQ(lapic_highest_in_service(apic()), -1);
    EXPECT_EQ(read_rip(vmx()), 0x1001u);
}

TEST_F(LapicRun, PicThroughLint0)
{
    kvm_vm &kvm = *vmx().kvm;
    kvm_irqchip chip{};
    chip.chip_id = KVM_IRQCHIP_PIC_MASTER;
    ASSERT_EQ(core_get_irqchip(guest.vm.core, &chip), 0);
    chip.chip.pic.irq_base = 0x20;
    chip.chip.pic.imr = 0;
    chip.chip.pic.irr = 1;
    ASSERT_EQ(core_set_irqchip(guest.vm.core, &chip), 0);
    ASSERT_TRUE(pic_output(kvm));
    EXPECT_TRUE(lapic_accepts_pic(apic(0)));
    EXPECT_FALSE(lapic_accepts_pic(apic(1)));
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT}), 0);
    EXPECT_EQ(entered[0].event, event(0x20));
    EXPECT_FALSE(pic_output(kvm)) << "acknowledged";
    write(kApicLvtLint0, 0x10700);
    EXPECT_FALSE(lapic_accepts_pic(apic(0)));
}

TEST_F(LapicRun, UserSpaceHasNoPart)
{
    host().area.run->request_interrupt_window = 1;
    EXPECT_EQ(core_interrupt(host().core, 0x30), -ENXIO);
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT}), 0);
    EXPECT_EQ(host().area.run->exit_reason, u32{KVM_EXIT_SHUTDOWN});
    EXPECT_EQ(host().area.run->ready_for_interrupt_injection, 1);
    EXPECT_FALSE(window(0));
    lapic_set_cr8(apic(), 7);
    EXPECT_EQ(run({}), 0);
    EXPECT_EQ(host().area.run->cr8, 7u);
}

TEST_F(LapicRun, TprAccessReporting)
{
    EXPECT_EQ(core_set_tpr_access_reporting(host().core, 1, 1), -EINVAL);
    EXPECT_EQ(core_set_tpr_access_reporting(host().core, 1, 0), 0);
    write_rip(vmx(), 0x1234);
    during = [this](usize) { write(kApicTpr, 0x10); };
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT}), 0);
    EXPECT_EQ(host().area.run->exit_reason, u32{KVM_EXIT_TPR_ACCESS});
    EXPECT_EQ(host().area.run->tpr_access.is_write, 1u);
    EXPECT_EQ(core_set_tpr_access_reporting(host().core, 0, 0), 0);
}

// ---- The PIC and the IOAPIC in user space ----

class LapicSplit : public LapicTest {
  protected:
    LapicSplit() : LapicTest(1, quiet(), 1'000'000, Irqchip::kSplit)
    {
        enable(0);
        interrupts(true);
    }
};

TEST_F(LapicSplit, UserInterruptComesThroughLint0)
{
    EXPECT_EQ(core_interrupt(host().core, 0x30), 0);
    EXPECT_EQ(core_interrupt(host().core, 0x31), -EEXIST);
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT}), 0);
    EXPECT_EQ(entered[0].event, event(0x30));
    EXPECT_EQ(lapic_highest_in_service(apic()), -1) << "the APIC has no part in it";
    EXPECT_EQ(core_interrupt(host().core, 0x31), 0);
}

TEST_F(LapicSplit, UserInterruptEndsAHalt)
{
    EXPECT_EQ(core_interrupt(host().core, 0x30), 0);
    EXPECT_EQ(core_set_mp_state(host().core, KVM_MP_STATE_HALTED), 0);
    EXPECT_EQ(run({}), 0);
    EXPECT_EQ(guest.machine.blocks, 0u);
    EXPECT_EQ(entered[0].event, event(0x30));
}

TEST_F(LapicSplit, WindowOpensWhenLint0Does)
{
    interrupts(false);
    host().area.run->request_interrupt_window = 1;
    during = [this](usize at) {
        if (at == 1)
            guest.machine.current_vmcs().fields[GUEST_RFLAGS.encoding] =
                X86_EFLAGS_FIXED | X86_EFLAGS_IF;
    };
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_INTERRUPT_WINDOW}), 0);
    EXPECT_EQ(host().area.run->exit_reason, u32{KVM_EXIT_IRQ_WINDOW_OPEN});
    EXPECT_EQ(host().area.run->ready_for_interrupt_injection, 1);
    EXPECT_EQ(entered.size(), 2u);

    // A masked LINT0 takes nothing: no window, and none that user space is told of.
    write(kApicLvtLint0, 0x10700);
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT}), 0);
    EXPECT_EQ(host().area.run->exit_reason, u32{KVM_EXIT_SHUTDOWN});
    EXPECT_EQ(host().area.run->ready_for_interrupt_injection, 0);
    EXPECT_FALSE(entered[0].primary & CPU_BASED_INTR_WINDOW_EXITING);
}

TEST_F(LapicSplit, DirectedEoiIsThere)
{
    EXPECT_EQ(read(kApicVersion), 0x1050014u);
    write(kApicSvr, 0x11ff);
    EXPECT_EQ(read(kApicSvr), 0x11ffu);
}

// As run_test.cc's without an APIC: nothing has changed, nothing is looked at.
TEST_F(LapicRun, CpuidExitTouchesFewFields)
{
    lapic_post(apic(), 0x41, false, true);
    std::vector<u64> reads;
    std::vector<usize> writes;
    during = [&](usize) {
        reads.push_back(guest.machine.vmreads);
        writes.push_back(guest.machine.vmwrites.size());
    };
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_CPUID, EXIT_REASON_CPUID,
                   EXIT_REASON_CPUID}),
              0);
    EXPECT_LE(reads[3] - reads[2], 6u);
    EXPECT_LE(writes[3] - writes[2], 1u);
}

} // namespace
} // namespace minivmx::test
