// SPDX-License-Identifier: GPL-2.0-only
//
// The simulated machine itself, and module initialisation through host.h on it.
#include "sim/machine.hpp"
#include "sim/vmcs_fields.hpp"
#include "support.hpp"

#include <minivmx/hardware.hpp>
#include <minivmx/vmcs_field.hpp>

#include <gtest/gtest.h>

#include <cstring>

namespace minivmx {
namespace {

using arch::Vmx;
using test::contains;

/// A CPU in VMX operation with one VMCS page.
struct InVmx {
    explicit InVmx(const std::string &profile, unsigned cpus = 1) : machine(sim::cpu(profile), cpus)
    {
        revision = static_cast<u32>(machine.msr[MSR_IA32_VMX_BASIC] & 0x7fffffff);
        region = new_vmcs();
        EXPECT_EQ(arch::vmxon(region), Vmx::kOk);
        vmcs = new_vmcs();
    }
    u64 new_vmcs()
    {
        void *const page = host_page_alloc();
        std::memcpy(page, &revision, sizeof(revision));
        return host_page_phys(page);
    }

    sim::Machine machine;
    u32 revision = 0;
    u64 region = 0;
    u64 vmcs = 0;
};

TEST(SimMachine, DescribesItsProfile)
{
    for (const char *name : {"IvyBridge", "Conroe", "corei7_haswell_4770", "AlderLake_02"}) {
        const HostDesc expected = sim::cpu(name);
        sim::Machine machine(expected);
        HostDesc host;
        describe_cpu(this_cpu_msr_reader(), host);
        EXPECT_STREQ(host.vendor, expected.vendor);
        EXPECT_EQ(host.signature.raw, expected.signature.raw);
        EXPECT_EQ(host.max_phys_bits, expected.max_phys_bits);
        EXPECT_EQ(host.has_sgx, expected.has_sgx);
        EXPECT_TRUE(host.has_vmx && host.has_nx && host.is_64bit);
        for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++) {
            EXPECT_EQ(host.msr[msr], expected.msr[msr]);
            EXPECT_EQ(host.msr.present(msr), expected.msr.present(msr));
        }
    }
}

TEST(SimMachine, BrandStringComesWithoutBlanks)
{
    HostDesc expected = sim::cpu("IvyBridge");
    std::memset(expected.name, 0, sizeof(expected.name));
    std::strcpy(expected.name, "      Some CPU  ");
    sim::Machine machine(expected);
    HostDesc host;
    describe_cpu(this_cpu_msr_reader(), host);
    EXPECT_STREQ(host.name, "Some CPU");
}

TEST(SimMachine, VmxNeedsVmxon)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    u64 value = 1;
    EXPECT_EQ(arch::vmread(0x4000, value), Vmx::kFaulted);
    EXPECT_EQ(value, 0u);
    EXPECT_EQ(arch::vmwrite(0x4000, 1), Vmx::kFaulted);
    EXPECT_EQ(arch::vmclear(0x1000), Vmx::kFaulted);
    EXPECT_EQ(arch::vmptrld(0x1000), Vmx::kFaulted);
    EXPECT_EQ(arch::vmxoff(), Vmx::kFaulted);
    machine.msr[MSR_IA32_FEATURE_CONTROL] = 1;
    EXPECT_EQ(arch::vmxon(0x1000), Vmx::kFaulted);
}

TEST(SimMachine, WithoutACurrentVmcsVmreadFailsInvalid)
{
    InVmx m("corei7_haswell_4770");
    u64 value = 0;
    EXPECT_EQ(arch::vmread(0x4000, value), Vmx::kFailInvalid);
    EXPECT_EQ(arch::vmwrite(0x4000, 1), Vmx::kFailInvalid);
}

TEST(SimMachine, ChecksTheRevisionAndTheAddress)
{
    InVmx m("corei7_haswell_4770");
    void *const page = host_page_alloc();
    EXPECT_EQ(arch::vmptrld(host_page_phys(page)), Vmx::kFailInvalid) << "no revision in it";
    EXPECT_EQ(arch::vmptrld(m.vmcs), Vmx::kOk);
    EXPECT_EQ(arch::vmptrld(m.vmcs + 8), Vmx::kFailValid);
    EXPECT_EQ(m.machine.field(0x4400), 9u);
    EXPECT_EQ(arch::vmptrld(m.region), Vmx::kFailValid);
    EXPECT_EQ(m.machine.field(0x4400), 10u);
    EXPECT_EQ(arch::vmptrld(host_page_phys(page)), Vmx::kFailValid);
    EXPECT_EQ(m.machine.field(0x4400), 11u);
    EXPECT_EQ(arch::vmclear(m.region), Vmx::kFailValid);
    EXPECT_EQ(m.machine.field(0x4400), 3u);
}

TEST(SimMachine, FieldsKeepTheirWidth)
{
    InVmx m("corei7_haswell_4770");
    ASSERT_EQ(arch::vmptrld(m.vmcs), Vmx::kOk);
    const struct {
        u32 field;
        u64 kept;
    } writes[] = {
        {0x0802, 0xcdef},             // guest CS selector, 16 bits
        {0x4800, 0x89abcdef},         // guest ES limit, 32 bits
        {0x2000, 0x0123456789abcdef}, // I/O bitmap A, 64 bits
        {0x681e, 0x0123456789abcdef}, // guest RIP, natural width
    };
    for (const auto &w : writes) {
        EXPECT_EQ(arch::vmwrite(w.field, 0x0123456789abcdef), Vmx::kOk);
        u64 value = 0;
        EXPECT_EQ(arch::vmread(w.field, value), Vmx::kOk);
        EXPECT_EQ(value, w.kept) << std::hex << w.field;
    }
    // The high halves of 64-bit fields, and only theirs.
    u64 value = 0;
    EXPECT_EQ(arch::vmread(0x2001, value), Vmx::kOk);
    EXPECT_EQ(value, 0x01234567u);
    EXPECT_EQ(arch::vmwrite(0x2001, 0xffffffff11111111), Vmx::kOk);
    EXPECT_EQ(arch::vmread(0x2000, value), Vmx::kOk);
    EXPECT_EQ(value, 0x1111111189abcdefu);
    EXPECT_EQ(arch::vmread(0x4801, value), Vmx::kFailValid);
}

TEST(SimMachine, FieldsExistOnlyWithTheirControls)
{
    InVmx m("core2_penryn_t9600");
    ASSERT_EQ(arch::vmptrld(m.vmcs), Vmx::kOk);
    EXPECT_EQ(arch::vmwrite(0x201a, 0), Vmx::kFailValid) << "no EPT, no EPTP";
    EXPECT_EQ(m.machine.field(0x4400), 12u);
    EXPECT_EQ(arch::vmwrite(0x0000, 1), Vmx::kFailValid) << "no VPID";
    EXPECT_EQ(arch::vmwrite(0x401e, 0), Vmx::kOk) << "it has secondary controls";
    EXPECT_EQ(arch::vmwrite(0x6fff, 0), Vmx::kFailValid) << "no such field";
    const VmxMsrs conroe = test::profile("Conroe").msr;
    EXPECT_FALSE(sim::field_exists(0x401e, conroe));
    EXPECT_FALSE(sim::field_exists(0x482e, conroe));
    const VmxMsrs modern = test::profile("AlderLake_02").msr;
    EXPECT_TRUE(sim::field_exists(0x401e, modern));
    EXPECT_TRUE(sim::field_exists(0x482e, modern));
    EXPECT_TRUE(sim::field_exists(0x2032, modern));
}

TEST(SimMachine, ExitFieldsAreReadOnlyWhereTheCpuSaysSo)
{
    InVmx m("corei7_haswell_4770");
    ASSERT_EQ(arch::vmptrld(m.vmcs), Vmx::kOk);
    m.machine.msr[MSR_IA32_VMX_MISC] &= ~(u64{1} << 29);
    EXPECT_EQ(arch::vmwrite(0x4402, 1), Vmx::kFailValid);
    EXPECT_EQ(m.machine.field(0x4400), 13u);
    m.machine.msr[MSR_IA32_VMX_MISC] |= u64{1} << 29;
    EXPECT_EQ(arch::vmwrite(0x4402, 1), Vmx::kOk);
}

TEST(SimMachine, NotesAVmcsThatIsActiveOnTwoCpus)
{
    InVmx m("corei7_haswell_4770", 2);
    ASSERT_EQ(arch::vmptrld(m.vmcs), Vmx::kOk);
    m.machine.this_cpu = 1;
    ASSERT_EQ(arch::vmxon(m.new_vmcs()), Vmx::kOk);
    EXPECT_TRUE(m.machine.violations.empty());
    EXPECT_EQ(arch::vmptrld(m.vmcs), Vmx::kOk);
    ASSERT_EQ(m.machine.violations.size(), 1u);
    EXPECT_TRUE(contains(m.machine.violations[0], "active on another CPU"));
    m.machine.violations.clear();
}

TEST(SimMachine, NotesVmxoffWithAnActiveVmcs)
{
    InVmx m("corei7_haswell_4770");
    ASSERT_EQ(arch::vmptrld(m.vmcs), Vmx::kOk);
    EXPECT_EQ(arch::vmxoff(), Vmx::kOk);
    EXPECT_EQ(m.machine.violations.size(), 1u);
    m.machine.violations.clear();
}

TEST(SimMachine, NotesSleepingWithPreemptionOff)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    host_preempt_disable();
    host_page_free(host_page_alloc());
    EXPECT_EQ(machine.violations.size(), 1u);
    host_preempt_enable();
    host_preempt_enable();
    EXPECT_EQ(machine.violations.size(), 2u);
    machine.violations.clear();
}

TEST(SimMachine, AllocationsCanRunOut)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    machine.allocations_left = 1;
    void *const first = host_zalloc(100);
    EXPECT_NE(first, nullptr);
    EXPECT_EQ(host_zalloc(100), nullptr);
    EXPECT_EQ(host_page_alloc(), nullptr);
    host_free(first);
}

TEST(SimMachine, UserMemoryHasEdges)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    const u64 start = machine.add_user_memory(0x2000);
    u64 value = 0x1122334455667788;
    EXPECT_EQ(host_copy_to_user(start + 0x1ff8, &value, 8), 0);
    EXPECT_EQ(host_copy_to_user(start + 0x1ff9, &value, 8), -EFAULT);
    EXPECT_EQ(host_copy_from_user(&value, start - 1, 8), -EFAULT);
    EXPECT_EQ(host_copy_from_user(&value, start, ~u64{0}), -EFAULT);
}

// ---- core_hardware_setup() and its siblings ----

TEST(ModuleInit, AMeasuredLaunchIsToldFromTheKernelsOpinion)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    Parameters params = default_parameters();
    machine.msr[MSR_IA32_FEATURE_CONTROL] = 3; // locked, VMX inside SMX only
    EXPECT_EQ(core_hardware_setup(&params, &machine.host_info), 0) << machine.log_text();
    core_hardware_unsetup();
    machine.host_info.uses_vmx = false; // no such launch: the kernel keeps off
    EXPECT_EQ(core_hardware_setup(&params, &machine.host_info), -EOPNOTSUPP);
    EXPECT_TRUE(contains(machine.log_text(), "outside SMX")) << machine.log_text();
}

TEST(ModuleInit, LogsTheReportAndKeepsTheResult)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"), 2);
    Parameters params = default_parameters();
    ASSERT_EQ(core_hardware_setup(&params, &machine.host_info), 0) << machine.log_text();
    EXPECT_TRUE(contains(machine.log_text(), "i7-4770")) << machine.log_text();
    EXPECT_TRUE(contains(machine.log_text(), "*HLT exiting"));
    EXPECT_EQ(hardware.config.revision_id, 0x2bu);
    EXPECT_EQ(hardware.info.maxphyaddr, machine.host_info.maxphyaddr);
    EXPECT_TRUE(params.ept);
    EXPECT_FALSE(params.enable_apicv);
    EXPECT_EQ(machine.preempt_count, 0);
    EXPECT_TRUE(machine.violations.empty());
    for (const sim::LogLine &line : machine.log)
        EXPECT_EQ(line.level, HOST_LOG_INFO) << line.text;
    core_hardware_unsetup();
    EXPECT_TRUE(machine.allocations.empty());
}

TEST(ModuleInit, ReportZeroIsSilent)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    Parameters params = default_parameters();
    params.report = 0;
    ASSERT_EQ(core_hardware_setup(&params, &machine.host_info), 0);
    EXPECT_EQ(machine.log_text(), "");
    core_hardware_unsetup();
}

TEST(ModuleInit, AnyLargerReportIsTheFullOne)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    Parameters params = default_parameters();
    params.report = 0xffffffff;
    ASSERT_EQ(core_hardware_setup(&params, &machine.host_info), 0);
    EXPECT_GT(machine.log.size(), 108u);
    core_hardware_unsetup();
}

TEST(ModuleInit, AFailureIsOneSentence)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    machine.msr[MSR_IA32_FEATURE_CONTROL] = 1;
    Parameters params = default_parameters();
    EXPECT_EQ(core_hardware_setup(&params, &machine.host_info), -EOPNOTSUPP);
    ASSERT_EQ(machine.log.size(), 1u);
    EXPECT_EQ(machine.log[0].level, HOST_LOG_ERROR);
    EXPECT_TRUE(contains(machine.log[0].text, "disabled by firmware"));
}

TEST(ModuleInit, OutOfMemoryLeavesNothing)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    machine.allocations_left = 0;
    Parameters params = default_parameters();
    EXPECT_EQ(core_hardware_setup(&params, &machine.host_info), -ENOMEM);
    EXPECT_TRUE(machine.allocations.empty());
}

TEST(ModuleInit, ChecksEachCpu)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"), 4);
    Parameters params = default_parameters();
    params.report = 0;
    ASSERT_EQ(core_hardware_setup(&params, &machine.host_info), 0);
    machine.this_cpu = 3;
    EXPECT_EQ(core_check_processor_compatibility(), 0) << machine.log_text();
    machine.msr[0x48b] &= ~(u64{SECONDARY_EXEC_ENABLE_VPID} << 32);
    EXPECT_EQ(core_check_processor_compatibility(), -EIO);
    EXPECT_TRUE(contains(machine.log_text(),
                         "CPU 3 differs from CPU 0: secondary bit 5 (Enable VPID) is absent"))
        << machine.log_text();
    core_hardware_unsetup();
}

TEST(ModuleInit, RegionsBeginWithTheRevision)
{
    sim::Machine machine(sim::cpu("corei7_haswell_4770"));
    Parameters params = default_parameters();
    params.report = 0;
    ASSERT_EQ(core_hardware_setup(&params, &machine.host_info), 0);
    void *const page = host_page_alloc();
    core_init_vmx_region(page);
    u32 revision = 0;
    std::memcpy(&revision, page, sizeof(revision));
    EXPECT_EQ(revision, 0x2bu);
    core_hardware_unsetup();
}

} // namespace
} // namespace minivmx
