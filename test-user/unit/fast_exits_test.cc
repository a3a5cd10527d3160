// SPDX-License-Identifier: GPL-2.0-only
//
// Exits that are answered between two VM entries: which are, what must end that, and that nothing
// there sleeps (the simulated host minds).
#include "lapic_fixture.hpp"

#include <minivmx/devices.hpp>

namespace minivmx::test {
namespace {

constexpr u32 kMsrApicBase = 0x1b, kMsrEoi = 0x80b, kMsrIcr = 0x830, kMsrSelfIpi = 0x83f,
              kMsrTpr = 0x808, kMsrInitialCount = 0x838, kMsrTscDeadline = 0x6e0;

class FastExits : public LapicTest {
  protected:
    // With a faster TSC the VMX-preemption timer's 32 bits last too short to be of use.
    FastExits() : LapicTest(2, quiet(), 400'000)
    {
        enable_all();
        x2apic(1);
        x2apic(0);
        interrupts(true);
        guest.machine.before_entry = [this](host_vcpu &) { prepared++; };
    }
    void wrmsr(u32 index, u64 value)
    {
        u64 *regs = host().area.regs;
        regs[kRcx] = index;
        regs[kRax] = static_cast<u32>(value);
        regs[kRdx] = value >> 32;
    }
    // The MSR and value that the guest writes at its n-th exit.
    void guest_writes(const std::vector<std::pair<u32, u64>> &writes)
    {
        during = [this, writes](usize at) {
            if (at < writes.size())
                wrmsr(writes[at].first, writes[at].second);
        };
    }
    u64 rip() { return guest.field(host(), GUEST_RIP.encoding); }

    unsigned prepared = 0; ///< ways from the host into the guest
};

TEST_F(FastExits, RegistersNeedNoWayBack)
{
    write_rip(vmx(), 0x1000);
    host().area.regs[kRcx] = kMsrApicBase;
    EXPECT_EQ(run({EXIT_REASON_CPUID, EXIT_REASON_VMCALL, EXIT_REASON_MSR_READ}), 0);
    EXPECT_EQ(entered.size(), 4u);
    EXPECT_EQ(prepared, 1u);
    EXPECT_EQ(rip(), 0x1003u);
}

// Somebody's request, for which the host's interrupt would come.
TEST_F(FastExits, ARequestEndsIt)
{
    during = [this](usize at) {
        if (at == 0)
            __atomic_fetch_or(&host().area.requests, u32{VCPU_REQUEST_CLOCK}, __ATOMIC_RELAXED);
    };
    EXPECT_EQ(run({EXIT_REASON_CPUID, EXIT_REASON_CPUID}), 0);
    EXPECT_EQ(entered.size(), 3u);
    EXPECT_EQ(prepared, 2u);
    EXPECT_EQ(host().area.requests, 0u);
}

TEST_F(FastExits, TheyEndByThemselves)
{
    EXPECT_EQ(run(std::vector<u32>(3 * kMostAnsweredAtOnce, EXIT_REASON_CPUID)), 0);
    EXPECT_EQ(entered.size(), 3 * kMostAnsweredAtOnce + 1);
    EXPECT_EQ(prepared, 3u);
}

TEST_F(FastExits, AFailedEntryIsToldAsEver)
{
    EXPECT_EQ(run({EXIT_REASON_CPUID, EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry}), 0);
    EXPECT_EQ(host().area.run->exit_reason, u32{KVM_EXIT_FAIL_ENTRY});
    EXPECT_EQ(host().area.run->fail_entry.hardware_entry_failure_reason, 0x80000021u);
    EXPECT_EQ(prepared, 1u);
}

TEST_F(FastExits, WhatWasInjectedIsNotInjectedAgain)
{
    lapic_post(apic(), 0x41, false, true);
    EXPECT_EQ(run({EXIT_REASON_CPUID, EXIT_REASON_EXTERNAL_INTERRUPT}), 0);
    EXPECT_EQ(entered[0].event, event(0x41));
    EXPECT_FALSE(entered[1].event & INTR_INFO_VALID);
    EXPECT_FALSE(entered[2].event & INTR_INFO_VALID);
}

// SDM Vol. 3B, 18.3.1.4
TEST_F(FastExits, SingleStepTrapsBehindTheInstruction)
{
    write_rflags(vmx(), X86_EFLAGS_FIXED | X86_EFLAGS_TF | X86_EFLAGS_RF);
    EXPECT_EQ(run({EXIT_REASON_CPUID}), 0);
    EXPECT_EQ(prepared, 1u);
    EXPECT_EQ(guest.field(host(), GUEST_PENDING_DBG_EXCEPTIONS.encoding), bit64(14));
    EXPECT_EQ(guest.field(host(), GUEST_RFLAGS.encoding), X86_EFLAGS_FIXED | X86_EFLAGS_TF);
}

TEST_F(FastExits, TheShadowOfStiEnds)
{
    during = [this](usize at) {
        if (at == 0)
            guest.machine.current_vmcs().fields[GUEST_INTERRUPTIBILITY_INFO.encoding] =
                GUEST_INTR_STATE_STI;
        else
            EXPECT_EQ(guest.machine.current_vmcs().fields[GUEST_INTERRUPTIBILITY_INFO.encoding],
                      0u);
    };
    EXPECT_EQ(run({EXIT_REASON_CPUID}), 0);
    EXPECT_EQ(prepared, 1u);
}

TEST_F(FastExits, AnUnknownMsrFaults)
{
    host().area.regs[kRcx] = 0x12345;
    EXPECT_EQ(run({EXIT_REASON_MSR_READ, EXIT_REASON_MSR_WRITE}), 0);
    const u32 fault = INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION | GP_VECTOR; // real mode
    EXPECT_EQ(entered[1].event, fault);
    EXPECT_EQ(entered[2].event, fault);
    EXPECT_EQ(prepared, 3u);
}

TEST_F(FastExits, AForbiddenMsrFaults)
{
    const u8 none = 0;
    const u8 *bitmaps[KVM_MSR_FILTER_MAX_RANGES] = {&none};
    kvm_msr_filter filter{};
    filter.ranges[0].base = kMsrApicBase;
    filter.ranges[0].nmsrs = 1;
    filter.ranges[0].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
    ASSERT_EQ(core_set_msr_filter(guest.vm.core, &filter, bitmaps), 0);
    const u64 before = vmx().apic_base;
    wrmsr(kMsrApicBase, before & ~bit64(11));
    EXPECT_EQ(run({EXIT_REASON_MSR_READ, EXIT_REASON_MSR_WRITE}), 0);
    EXPECT_EQ(entered[1].event & INTR_INFO_VECTOR_MASK, u32{GP_VECTOR});
    EXPECT_EQ(entered[2].event & INTR_INFO_VECTOR_MASK, u32{GP_VECTOR});
    EXPECT_EQ(vmx().apic_base, before);
}

TEST_F(FastExits, SelfIpiArrivesWithTheNextEntry)
{
    guest_writes({{kMsrSelfIpi, 0x41}, {kMsrEoi, 0}});
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE, EXIT_REASON_MSR_WRITE}), 0);
    EXPECT_EQ(entered[1].event, event(0x41));
    EXPECT_FALSE(entered[2].event & INTR_INFO_VALID);
    EXPECT_EQ(lapic_highest_in_service(apic()), -1);
    EXPECT_EQ(prepared, 1u);
}

TEST_F(FastExits, SelfIpiWaitsForTheInterruptWindow)
{
    interrupts(false);
    during = [this](usize at) {
        if (at == 0)
            wrmsr(kMsrSelfIpi, 0x41);
        if (at == 1)
            guest.machine.current_vmcs().fields[GUEST_RFLAGS.encoding] =
                X86_EFLAGS_FIXED | X86_EFLAGS_IF;
    };
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE, EXIT_REASON_INTERRUPT_WINDOW}), 0);
    EXPECT_FALSE(entered[1].event & INTR_INFO_VALID);
    EXPECT_TRUE(entered[1].primary & CPU_BASED_INTR_WINDOW_EXITING);
    EXPECT_EQ(entered[2].event, event(0x41));
    EXPECT_FALSE(entered[2].primary & CPU_BASED_INTR_WINDOW_EXITING);
    EXPECT_EQ(prepared, 1u);
}

TEST_F(FastExits, AnNmiComesThroughTheWindowOfInterrupts)
{
    write_interruptibility(vmx(), GUEST_INTR_STATE_STI);
    core_nmi(host().core);
    during = [this](usize) {
        guest.machine.current_vmcs().fields[GUEST_INTERRUPTIBILITY_INFO.encoding] = 0;
    };
    EXPECT_EQ(run({EXIT_REASON_INTERRUPT_WINDOW}), 0);
    EXPECT_TRUE(entered[0].primary & CPU_BASED_INTR_WINDOW_EXITING);
    EXPECT_EQ(entered[1].event, INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
}

TEST_F(FastExits, TprAndEoiLetTheNextInterruptIn)
{
    lapic_post(apic(), 0x31, false, true);
    guest_writes({{kMsrTpr, 0x40}, {kMsrSelfIpi, 0x41}, {kMsrTpr, 0}, {kMsrEoi, 0}});
    EXPECT_EQ(run(std::vector<u32>(4, EXIT_REASON_MSR_WRITE)), 0);
    EXPECT_EQ(entered[0].event, event(0x31));
    EXPECT_FALSE(entered[2].event & INTR_INFO_VALID);
    EXPECT_EQ(entered[2].threshold, 4u);
    EXPECT_EQ(entered[3].event, event(0x41));
    EXPECT_EQ(entered[3].threshold, 0u);
    EXPECT_EQ(lapic_highest_in_service(apic()), 0x31);
    EXPECT_EQ(prepared, 1u);
}

TEST_F(FastExits, AnIpiToOneIsSentAtOnce)
{
    guest_writes({{kMsrIcr, u64{1} << 32 | 0x4041}});
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE}), 0);
    EXPECT_EQ(receivers(0x41), 2u);
    EXPECT_EQ(prepared, 1u);
}

// Many to wake, and NMI, INIT and SIPI, take the way that may sleep.
TEST_F(FastExits, OtherIpisAreNot)
{
    for (const u64 value : {u64{0xffffffff} << 32 | 0x4041, u64{0x84041}, u64{0xc4041},
                            u64{1} << 32 | 0x4400, u64{1} << 32 | 0x4500, u64{1} << 32 | 0x4610}) {
        prepared = 0;
        guest_writes({{kMsrIcr, value}});
        EXPECT_EQ(run({EXIT_REASON_MSR_WRITE}), 0);
        EXPECT_EQ(prepared, 2u) << std::hex << value;
    }
}

TEST_F(FastExits, WhoeverWasWokenMayHaveTheCpu)
{
    during = [this](usize at) {
        if (at == 0) {
            wrmsr(kMsrIcr, u64{1} << 32 | 0x4041);
            guest.machine.signal_pending = true;
        }
    };
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE, EXIT_REASON_CPUID}), -EINTR);
    EXPECT_EQ(receivers(0x41), 2u);
    EXPECT_EQ(entered.size(), 1u);
    guest.machine.signal_pending = false;
}

TEST_F(FastExits, TimersAreSetAtOnce)
{
    ASSERT_TRUE(lapic_write_msr(vmx(), 0x832, 0x40));
    guest_writes({{kMsrInitialCount, 1'000'000}});
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE}), 0);
    EXPECT_EQ(prepared, 1u);
    EXPECT_NE(lapic_current_count(apic()), 0u);
}

TEST_F(FastExits, ADeadlineIsSetAtOnce)
{
    ASSERT_TRUE(lapic_write_msr(vmx(), 0x832, 0x40040));
    guest_writes({{kMsrTscDeadline, ~u64{0} >> 1}});
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE}), 0);
    EXPECT_EQ(prepared, 1u);
    EXPECT_EQ(lapic_tsc_deadline(vmx()), ~u64{0} >> 1);
}

TEST_F(FastExits, TheTimersInterruptComesWithTheNextEntry)
{
    ASSERT_TRUE(lapic_write_msr(vmx(), 0x832, 0x40040));
    during = [this](usize at) {
        if (at == 0)
            wrmsr(kMsrTscDeadline, guest_tsc(vmx()) + 10000);
        else if (at == 1)
            guest.machine.tsc += 20000;
    };
    ASSERT_TRUE(entered.empty());
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE, EXIT_REASON_PREEMPTION_TIMER}), 0);
    EXPECT_EQ(entered[2].event, event(0x40));
    EXPECT_EQ(prepared, 1u);
}

TEST_F(FastExits, ApicBaseTakesEffectFirst)
{
    wrmsr(kMsrApicBase, vmx().apic_base);
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE}), 0);
    EXPECT_EQ(prepared, 1u);

    // Off: what the CPU knows of the APIC's page is stale now.
    prepared = 0;
    wrmsr(kMsrApicBase, vmx().apic_base & ~u64{0xc00});
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE}), 0);
    EXPECT_EQ(prepared, 2u);
    EXPECT_EQ(apic_mode(apic()), ApicMode::kDisabled);
}

// SDM Vol. 3A, 11.8.5: a pin's interrupt ends at its IOAPIC, too, and devices hear of it.
TEST_F(FastExits, APinsEoiIsNotAnsweredAtOnce)
{
    lapic_post(apic(), 0x41, true, true);
    guest_writes({{kMsrEoi, 0}});
    EXPECT_EQ(run({EXIT_REASON_MSR_WRITE}), 0);
    EXPECT_EQ(entered[0].event, event(0x41));
    EXPECT_EQ(lapic_highest_in_service(apic()), -1);
    EXPECT_EQ(prepared, 2u);
}

TEST_F(FastExits, CachingIsTurnedOffAtOnceButNotPaging)
{
    ASSERT_TRUE(set_cr0(vmx(), X86_CR0_PE | X86_CR0_ET));
    host().area.regs[kRax] = X86_CR0_PE | X86_CR0_ET | X86_CR0_CD;
    EXPECT_EQ(run({EXIT_REASON_CR_ACCESS}), 0);
    EXPECT_EQ(prepared, 1u);
    EXPECT_EQ(guest_cr0(vmx()), X86_CR0_PE | X86_CR0_ET | X86_CR0_CD);

    prepared = 0;
    host().area.regs[kRax] = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG;
    EXPECT_EQ(run({EXIT_REASON_CR_ACCESS}), 0);
    EXPECT_EQ(prepared, 2u);
    EXPECT_TRUE(is_paging(vmx()));

    prepared = 0; // NW without CD
    host().area.regs[kRax] = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG | X86_CR0_NW;
    EXPECT_EQ(run({EXIT_REASON_CR_ACCESS}), 0);
    EXPECT_EQ(entered[1].event & INTR_INFO_VECTOR_MASK, u32{GP_VECTOR});
}

TEST_F(FastExits, AnIoeventfdIsSignalledAtOnce)
{
    host_eventfd eventfd{};
    eventfd.references = 1;
    kvm_ioeventfd args{};
    args.addr = 0x1f0;
    args.len = 2;
    args.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH;
    args.datamatch = 0x1234;
    ASSERT_EQ(assign_ioeventfd(*vmx().kvm, args, &eventfd), 0);

    host().area.regs[kRax] = 0xabcd1234;
    qualification = u64{0x1f0} << 16 | 1; // OUT of two bytes
    EXPECT_EQ(run({EXIT_REASON_IO_INSTRUCTION}), 0);
    EXPECT_EQ(eventfd.count, 1u);
    EXPECT_EQ(prepared, 1u);

    host().area.regs[kRax] = 0x1235; // other data: user space's
    EXPECT_EQ(run({EXIT_REASON_IO_INSTRUCTION}), 0);
    EXPECT_EQ(host().area.run->exit_reason, u32{KVM_EXIT_IO});
    EXPECT_EQ(host().area.run->io.port, 0x1f0);
    EXPECT_EQ(eventfd.count, 1u);

    host().area.regs[kRax] = 0x1234;
    qualification |= 8; // IN
    EXPECT_EQ(run({EXIT_REASON_IO_INSTRUCTION}), 0);
    EXPECT_EQ(host().area.run->exit_reason, u32{KVM_EXIT_IO});
    EXPECT_EQ(eventfd.count, 1u);
    vmx().pending.kind = PendingIo::kNone;
    ASSERT_EQ(deassign_ioeventfd(*vmx().kvm, args, &eventfd), 0);
}

// A client that hears of the TPR, or keeps it in memory, has its say around each entry.
TEST_F(FastExits, NotWhileTheTprIsReported)
{
    ASSERT_EQ(core_set_tpr_access_reporting(host().core, 1, 0), 0);
    EXPECT_EQ(run({EXIT_REASON_CPUID, EXIT_REASON_CPUID}), 0);
    EXPECT_EQ(prepared, 3u);
    ASSERT_EQ(core_set_tpr_access_reporting(host().core, 0, 0), 0);
}

TEST_F(FastExits, NotForAClientThatWantsToHearOfThem)
{
    minivmx_intercepts wanted{};
    wanted.controls = MINIVMX_INTERCEPT_MWAIT;
    ASSERT_EQ(core_set_intercepts(host().core, &wanted, nullptr, nullptr), 0);
    EXPECT_EQ(run({EXIT_REASON_CPUID, EXIT_REASON_CPUID}), 0);
    EXPECT_EQ(prepared, 3u);
}

} // namespace
} // namespace minivmx::test
