// SPDX-License-Identifier: GPL-2.0-only
//
// Tracepoints and counters over the simulated machine: what listeners get of each exit, and that
// without a listener nothing is read for them.
#include <minivmx/control_shadow.hpp>
#include <minivmx/stats.hpp>
#include <minivmx/trace.hpp>

#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

namespace minivmx::test {
namespace {

class Trace : public testing::Test {
  protected:
    Trace() : guest(sim::cpu("corei7_haswell_4770"), quiet()), vcpu(guest.create_vcpu())
    {
        guest.machine.on_vmenter = [this](host_vcpu &) { return play(); };
    }
    ~Trace() override
    {
        for (host_trace_key *key : keys())
            key->enabled = 0;
    }
    static Parameters quiet()
    {
        Parameters params = default_parameters();
        params.report = 0;
        return params;
    }
    static std::vector<host_trace_key *> keys()
    {
        return {&host_tracing_entry, &host_tracing_exit, &host_tracing_inject,
                &host_tracing_ept_violation, &host_tracing_control_change};
    }
    static void listen_to_all()
    {
        for (host_trace_key *key : keys())
            key->enabled = 1;
    }

    u32 play()
    {
        if (fails_with != 0) {
            set(VM_INSTRUCTION_ERROR, fails_with);
            return 1;
        }
        auto &fields = guest.machine.current_vmcs().fields;
        fields[VM_EXIT_REASON.encoding] = reason;
        fields[VM_ENTRY_INTR_INFO_FIELD.encoding] = 0;
        return 0;
    }
    template <class Field>
    void set(Field field, u64 value)
    {
        guest.vmcs_of(vcpu).fields[field.encoding] = value;
    }
    // One exit with this reason and qualification, as put_exit_facts() tells it.
    std::string facts(u32 exit_reason, u64 qualification = 0)
    {
        vcpu_vmx &vmx = to_vmx(vcpu.core);
        core_vcpu_load(vcpu.core, 0);
        set(EXIT_QUALIFICATION, qualification);
        vmx.state_available = 0;
        vmx.entry_failed = false;
        vmx.exit_reason = exit_reason;
        Text<120> text;
        put_exit_facts(text, vmx);
        return text.c_str();
    }
    VcpuStats &stats() { return to_vmx(vcpu.core).stats; }
    u64 &reg(Gpr gpr) { return vcpu.area.regs[gpr]; }

    GuestMachine guest;
    host_vcpu &vcpu;
    u32 reason = EXIT_REASON_HLT;
    u32 fails_with = 0;
};

using Lines = std::vector<std::string>;

TEST_F(Trace, NobodyListens)
{
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.traces, Lines{});
    const u64 vmreads = guest.machine.vmreads;
    ASSERT_EQ(guest.run(vcpu), 0);
    const u64 quiet_run = guest.machine.vmreads - vmreads;
    listen_to_all();
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_GT(guest.machine.vmreads - vmreads - quiet_run, quiet_run);
}

TEST_F(Trace, EntryAndExit)
{
    host_tracing_entry.enabled = host_tracing_exit.enabled = 1;
    set(GUEST_RIP, 0x1234);
    core_vcpu_load(vcpu.core, 0);
    write_rip(to_vmx(vcpu.core), 0x1234);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.traces, (Lines{"entry 1234", "exit c 0 1234 0 0 0: "}));
}

TEST_F(Trace, AnEntryThatFailsAtOnce)
{
    host_tracing_entry.enabled = host_tracing_exit.enabled = 1;
    fails_with = 7;
    ASSERT_EQ(guest.run(vcpu), 0);
    ASSERT_EQ(guest.machine.traces.size(), 2u);
    EXPECT_EQ(guest.machine.traces[1],
              "exit 0 7 fff0 0 0 0: VM entry failed: VM-instruction error 7");
    EXPECT_EQ(stats().failed_entries, 1u);
    EXPECT_EQ(stats().exits[EXIT_REASON_EXCEPTION_NMI], 0u);
}

TEST_F(Trace, AnEntryThatFailsInTheGuestState)
{
    host_tracing_exit.enabled = 1;
    reason = EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry;
    set(EXIT_QUALIFICATION, 4);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.traces,
              Lines{"exit 80000021 0 fff0 4 0 0: VM entry failed, qualification 0x4"});
    EXPECT_EQ(stats().failed_entries, 1u);
    EXPECT_EQ(stats().exits[EXIT_REASON_INVALID_STATE], 1u);
}

TEST_F(Trace, AnInjectionIsToldWithItsEntryOnly)
{
    host_tracing_inject.enabled = host_tracing_entry.enabled = 1;
    core_vcpu_load(vcpu.core, 0);
    queue_exception(to_vmx(vcpu.core), GP_VECTOR, 0x18);
    ASSERT_EQ(guest.run(vcpu), 0);
    // In real-address mode an exception has no error code: SDM Vol. 3C, 27.2.1.3.
    EXPECT_EQ(guest.machine.traces, (Lines{"inject 8000030d 0: #GP", "entry fff0"}));
    EXPECT_EQ(stats().exceptions, 1u);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.traces.size(), 3u);
    EXPECT_EQ(stats().exceptions, 1u);
}

TEST_F(Trace, AnInjectionThatIsTakenBackDoesNotCount)
{
    host_tracing_inject.enabled = 1;
    core_nmi(vcpu.core);
    guest.machine.signal_pending = true;
    ASSERT_EQ(guest.run(vcpu), -EINTR);
    EXPECT_EQ(guest.machine.traces, Lines{});
    EXPECT_EQ(stats().nmis, 0u);
    guest.machine.signal_pending = false;
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(guest.machine.traces, Lines{"inject 80000202 0: NMI"});
    EXPECT_EQ(stats().nmis, 1u);
}

TEST_F(Trace, ControlChanges)
{
    host_tracing_control_change.enabled = 1;
    core_vcpu_load(vcpu.core, 0);
    loaded_vmcs &v = to_vmx(vcpu.core).vmcs01;
    const u32 before = exec_controls_get(v);
    exec_controls_setbit<CPU_BASED_INTR_WINDOW_EXITING>(v);
    exec_controls_setbit<CPU_BASED_INTR_WINDOW_EXITING>(v); // no change
    exec_controls_clearbit<CPU_BASED_INTR_WINDOW_EXITING>(v);
    Line off_word, on_word;
    off_word.put(bare_hex(before));
    on_word.put(bare_hex(before | CPU_BASED_INTR_WINDOW_EXITING));
    const std::string off = off_word.c_str(), on = on_word.c_str();
    EXPECT_EQ(guest.machine.traces,
              (Lines{"control_change primary " + off + " " + on + ": +Interrupt-window exiting",
                     "control_change primary " + on + " " + off + ": -Interrupt-window exiting"}));
}

TEST_F(Trace, ANewVcpusWordsAreToldFromZero)
{
    host_tracing_control_change.enabled = 1;
    guest.create_vcpu();
    ASSERT_GE(guest.machine.traces.size(), 5u);
    EXPECT_EQ(guest.machine.traces[0].rfind("control_change pin 0 ", 0), 0u);
    EXPECT_NE(guest.machine.traces[0].find("+External-interrupt exiting"), std::string::npos);
}

TEST_F(Trace, FactsOfExits)
{
    reg(kRax) = 0xffffffff00000007;
    reg(kRcx) = 0x1a0;
    reg(kRdx) = 0x12;
    reg(kRbx) = 0xabcd;
    EXPECT_EQ(facts(EXIT_REASON_CPUID), "leaf 0x7 subleaf 0x1a0");
    EXPECT_EQ(facts(EXIT_REASON_MSR_READ), "MSR 0x1a0");
    EXPECT_EQ(facts(EXIT_REASON_MSR_WRITE), "MSR 0x1a0 = 0x1200000007");
    EXPECT_EQ(facts(EXIT_REASON_XSETBV), "XCR416 = 0x1200000007");
    // SDM Vol. 3C, 28.2.1, tables 28-3 to 28-5.
    EXPECT_EQ(facts(EXIT_REASON_IO_INSTRUCTION, 0x3f80000), "out port 0x3f8, 1 byte, 0x7");
    EXPECT_EQ(facts(EXIT_REASON_IO_INSTRUCTION, 0x3f80003 | 0x38), "rep ins port 0x3f8, 4 bytes");
    EXPECT_EQ(facts(EXIT_REASON_CR_ACCESS, 0x303), "MOV to CR3, 0xabcd");
    EXPECT_EQ(facts(EXIT_REASON_CR_ACCESS, 0x118), "MOV from CR8 to RCX");
    EXPECT_EQ(facts(EXIT_REASON_CR_ACCESS, 0x20), "CLTS");
    EXPECT_EQ(facts(EXIT_REASON_CR_ACCESS, 0x90030), "LMSW, 0x9");
    EXPECT_EQ(facts(EXIT_REASON_DR_ACCESS, 0x307), "MOV to DR7, 0xabcd");
    EXPECT_EQ(facts(EXIT_REASON_DR_ACCESS, 0x016), "MOV from DR6 to RAX");
    EXPECT_EQ(facts(EXIT_REASON_APIC_ACCESS, 0x10b0), "write at offset 0x0b0");
    EXPECT_EQ(facts(EXIT_REASON_TASK_SWITCH, 0x80000028), "JMP to selector 0x0028");
    EXPECT_EQ(facts(EXIT_REASON_INVLPG, 0x5000), "address 0x5000");
    EXPECT_EQ(facts(EXIT_REASON_HLT), "");
}

TEST_F(Trace, FactsOfEvents)
{
    core_vcpu_load(vcpu.core, 0);
    set(VM_EXIT_INTR_INFO, 0x80000b0e);
    set(VM_EXIT_INTR_ERROR_CODE, 2);
    EXPECT_EQ(facts(EXIT_REASON_EXCEPTION_NMI, 0x7000), "#PF error 0x2 at 0x7000");
    set(VM_EXIT_INTR_INFO, 0x800000ec);
    EXPECT_EQ(facts(EXIT_REASON_EXTERNAL_INTERRUPT), "interrupt 0xec");
    to_vmx(vcpu.core).idt_vectoring_info = 0x80000430;
    EXPECT_EQ(facts(EXIT_REASON_HLT), "while delivering INT 0x30");
    to_vmx(vcpu.core).idt_vectoring_info = 0x80000202;
    EXPECT_EQ(facts(EXIT_REASON_INVLPG, 1), "address 0x1, while delivering NMI");
    to_vmx(vcpu.core).idt_vectoring_info = 0;
}

TEST_F(Trace, FactsOfEptViolations)
{
    auto text = [](u64 qualification) {
        Text<120> out;
        put_ept_violation(out, EptViolationInfo::decode(qualification));
        return std::string(out.c_str());
    };
    EXPECT_EQ(text(0x1), "read of no page");
    EXPECT_EQ(text(0x182 | 0x28), "write of a page with r-x");
    EXPECT_EQ(text(0x82), "write of no page, by the page walk");
    EXPECT_EQ(text(0x184), "fetch of no page");
}

TEST_F(Trace, CountersAsLines)
{
    auto lines = [](auto print, auto *object) {
        Lines all;
        print(
            object,
            [](void *context, const char *line) {
                static_cast<Lines *>(context)->emplace_back(line);
            },
            &all);
        return all;
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    ASSERT_EQ(guest.run(vcpu), 0);
    reason = 35; // not in use
    (void)guest.run(vcpu);
    reason = 4000;
    (void)guest.run(vcpu);
    EXPECT_EQ(lines(core_vcpu_print_exits, vcpu.core),
              (Lines{"HLT 2", "REASON_35 1", "UNKNOWN 1"}));
    host_vcpu &second = guest.create_vcpu();
    reason = EXIT_REASON_HLT;
    ASSERT_EQ(guest.run(second), 0);
    EXPECT_EQ(lines(core_vcpu_print_exits, second.core), Lines{"HLT 1"});
    EXPECT_EQ(lines(core_vm_print_exits, guest.vm.core),
              (Lines{"HLT 3", "REASON_35 1", "UNKNOWN 1"}));
    const Lines events = lines(core_vm_print_events, guest.vm.core);
    EXPECT_EQ(events.front(), "injected_exceptions 0");
    EXPECT_EQ(events.back(), "returns_to_user 5");
}

} // namespace
} // namespace minivmx::test
