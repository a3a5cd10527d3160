// SPDX-License-Identifier: GPL-2.0-only
//
// A VMCS and a CPU that exist only as numbers, for tests of the audit.
#pragma once

#include <minivmx/audit.hpp>
#include <minivmx/controls.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/vmcs_field.hpp>
#include <minivmx/x86.hpp>

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace minivmx::test {

struct Found {
    std::string name;
    AuditFinding finding;
};

struct AuditImage {
    std::map<u32, u64> fields;
    std::map<u64, std::vector<u8>> memory; ///< by address
    VmxMsrs msr;
    AuditCpu cpu;
    u64 vmcs_address = 0x7000;

    template <VmcsWidth width, class Value>
    u64 &operator[](VmcsField<width, Value> field)
    {
        return fields[field.encoding];
    }

    AuditSource source()
    {
        AuditSource s;
        s.field = read_field;
        s.memory = read_memory;
        s.context = this;
        s.vmcs_address = vmcs_address;
        s.cpu = cpu;
        s.cpu.msr = &msr;
        return s;
    }

    /// All findings, in order.
    std::vector<Found> audit(AuditSummary *summary = nullptr) { return audit(source(), summary); }
    static std::vector<Found> audit(const AuditSource &source, AuditSummary *summary = nullptr)
    {
        std::vector<Found> found;
        const AuditSink sink{[](void *context, const AuditFinding &finding) {
                                 static_cast<std::vector<Found> *>(context)->push_back(
                                     {finding.check->name, finding});
                             },
                             &found};
        const AuditSummary result = audit_vmcs(source, sink);
        if (summary != nullptr)
            *summary = result;
        return found;
    }

  private:
    static bool read_field(void *context, u32 encoding, u64 *value)
    {
        const auto &fields = static_cast<AuditImage *>(context)->fields;
        const auto found = fields.find(encoding);
        if (found == fields.end())
            return false;
        *value = found->second;
        return true;
    }
    static bool read_memory(void *context, u64 address, void *bytes, usize size)
    {
        for (const auto &[start, data] : static_cast<AuditImage *>(context)->memory) {
            if (address < start || address - start + size > data.size())
                continue;
            std::memcpy(bytes, data.data() + (address - start), size);
            return true;
        }
        return false;
    }
};

/// A CPU that can do everything that the tables know of.
inline void describe_able_cpu(AuditImage &image)
{
    constexpr u64 kAnything = 0xffffffff00000000;
    VmxMsrs &m = image.msr;
    m.set(MSR_IA32_VMX_BASIC, bit64(55) | u64{4096} << 32 | u64{6} << 50 | 0x11);
    for (u32 msr : {MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_EXIT_CTLS,
                    MSR_IA32_VMX_ENTRY_CTLS, MSR_IA32_VMX_PROCBASED_CTLS2,
                    MSR_IA32_VMX_TRUE_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
                    MSR_IA32_VMX_TRUE_EXIT_CTLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS})
        m.set(msr, kAnything);
    m.set(MSR_IA32_VMX_PROCBASED_CTLS3, ~u64{0});
    m.set(MSR_IA32_VMX_EXIT_CTLS2, ~u64{0});
    // HLT, shutdown and wait-for-SIPI; 4 CR3 targets; injection of length 0.
    m.set(MSR_IA32_VMX_MISC, 0x1c0 | 4 << 16 | bit64(30));
    m.set(MSR_IA32_VMX_CR0_FIXED0, 0x80000021);
    m.set(MSR_IA32_VMX_CR0_FIXED1, 0xffffffff);
    m.set(MSR_IA32_VMX_CR4_FIXED0, 0x2000);
    m.set(MSR_IA32_VMX_CR4_FIXED1, 0x113ff7fff);
    m.set(MSR_IA32_VMX_EPT_VPID_CAP, 0xf0106734141);
    m.set(MSR_IA32_VMX_VMFUNC, 1);
    image.cpu.physical_bits = 46;
    image.cpu.linear_bits = 48;
    image.cpu.mode = AuditCpu::Mode::kIa32e;
    AuditFeatures &f = image.cpu.features;
    f.nx = f.rtm = f.sgx = f.bus_lock = f.counters = AuditHas::kYes;
    f.lam = AuditHas::kNo;
    f.perf_global_ctrl = 0x70000000f;
}

inline void set_segment(AuditImage &image, Segment s, u16 selector, u32 rights)
{
    image[GUEST_ES_SELECTOR + s] = selector;
    image[GUEST_ES_BASE + s] = 0;
    image[GUEST_ES_LIMIT + s] = 0xffffffff;
    image[GUEST_ES_AR_BYTES + s] = rights;
}

inline void describe_host(AuditImage &image)
{
    image[HOST_CR0] = 0x80050033;
    image[HOST_CR3] = 0x12345000;
    image[HOST_CR4] = 0x3726e0;
    image[HOST_CS_SELECTOR] = 0x10;
    image[HOST_SS_SELECTOR] = 0x18;
    image[HOST_TR_SELECTOR] = 0x40;
    image[HOST_GS_BASE] = 0xffff888100000000;
    image[HOST_TR_BASE] = 0xfffffe0000003000;
    image[HOST_GDTR_BASE] = 0xfffffe0000001000;
    image[HOST_IDTR_BASE] = 0xfffffe0000000000;
    image[HOST_RIP] = 0xffffffffa0001000;
    image[HOST_RSP] = 0xffffc90000003e00;
    image[HOST_IA32_SYSENTER_ESP] = 0xfffffe0000002200;
    image[HOST_IA32_SYSENTER_EIP] = 0xffffffff81001000;
    image[HOST_IA32_PAT] = 0x0407050600070106;
    image[HOST_IA32_EFER] = 0xd01;
}

/// A 64-bit guest at its start; no check fails and none lacks anything. Fields that are not
/// mentioned are 0.
inline AuditImage valid_image()
{
    AuditImage image;
#define MINIVMX_ZERO(width, name, number) image.fields[number] = 0;
    MINIVMX_VMCS_FIELDS(MINIVMX_ZERO)
#undef MINIVMX_ZERO
    describe_able_cpu(image);
    describe_host(image);
    image[PIN_BASED_VM_EXEC_CONTROL] =
        PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS;
    image[CPU_BASED_VM_EXEC_CONTROL] =
        CPU_BASED_HLT_EXITING | CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_ACTIVATE_SECONDARY_CONTROLS;
    image[SECONDARY_VM_EXEC_CONTROL] = SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VPID;
    image[VM_EXIT_CONTROLS] = VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_ACK_INTR_ON_EXIT |
                              VM_EXIT_LOAD_IA32_PAT | VM_EXIT_LOAD_IA32_EFER;
    image[VM_ENTRY_CONTROLS] = VM_ENTRY_LOAD_DEBUG_CONTROLS | VM_ENTRY_IA32E_MODE |
                               VM_ENTRY_LOAD_IA32_PAT | VM_ENTRY_LOAD_IA32_EFER;
    image[MSR_BITMAP] = 0x3000;
    image[EPT_POINTER] = 0x105e; // write-back, 4 levels, accessed and dirty flags
    image[VIRTUAL_PROCESSOR_ID] = 1;
    image[VMCS_LINK_POINTER] = ~u64{0};

    image[GUEST_CR0] = 0x80010031;
    image[GUEST_CR3] = 0x4000;
    image[GUEST_CR4] = 0x2020;
    image[GUEST_DR7] = 0x400;
    image[GUEST_RFLAGS] = 0x202;
    image[GUEST_RIP] = 0x100000;
    image[GUEST_IA32_PAT] = 0x0007040600070406;
    image[GUEST_IA32_EFER] = 0xd01;
    image[GUEST_GDTR_LIMIT] = image[GUEST_IDTR_LIMIT] = 0xffff;
    set_segment(image, kCs, 0x08, 0xa09b);
    for (Segment s : {kSs, kDs, kEs, kFs, kGs})
        set_segment(image, s, 0x10, 0xc093);
    set_segment(image, kLdtr, 0, 0x10000);
    set_segment(image, kTr, 0x18, 0x8b);
    image[GUEST_TR_LIMIT] = 0x67;
    return image;
}

inline std::set<std::string> names_of(const std::vector<Found> &found, AuditVerdict verdict)
{
    std::set<std::string> names;
    for (const Found &f : found)
        if (f.finding.verdict == verdict)
            names.insert(f.name);
    return names;
}

inline std::string sentence(const AuditFinding &finding, bool host_values = true)
{
    AuditSentence text;
    put_audit_finding(text, finding, host_values);
    return text.c_str();
}

inline std::vector<const AuditCheck *> all_checks()
{
    std::vector<const AuditCheck *> checks;
    for (unsigned table = 0; table < audit_table_count(); table++)
        for (const AuditCheck &check : audit_table(table))
            checks.push_back(&check);
    return checks;
}

} // namespace minivmx::test
