// SPDX-License-Identifier: GPL-2.0-only
// The current VMCS as text in the log, in the line format of 6.1's kvm_intel, so that scripts that
// read its dumps read ours; what kvm_intel leaves out follows, so that nothing that a VM entry
// checks is missing. Every value is a VMREAD: the hardware's word, not ours.
#include <minivmx/audit.hpp>
#include <minivmx/capabilities.hpp>
#include <minivmx/vmcs_setup.hpp>

#include <minivmx/text.hpp>

namespace minivmx {

namespace {

using DumpLine = Text<200>;

template <class... Parts>
void print(const Parts &...parts)
{
    DumpLine line;
    line.put(parts...);
    host_log(HOST_LOG_ERROR, line.c_str());
}

template <class Field>
Hex number(Field field, unsigned digits = 16)
{
    return hex(vmcs_read(field), digits);
}

template <class Field>
BareHex bare(Field field, unsigned digits = 16)
{
    return bare_hex(vmcs_read(field), digits);
}

void dump_segment(const char *name, Segment segment)
{
    print(name, " sel=", number(GUEST_ES_SELECTOR + segment, 4),
          ", attr=", number(GUEST_ES_AR_BYTES + segment, 5),
          ", limit=", number(GUEST_ES_LIMIT + segment, 8),
          ", base=", number(GUEST_ES_BASE + segment));
}

void dump_table(const char *name, VmcsField32 limit, VmcsFieldNatural base)
{
    print(name, "                           limit=", number(limit, 8), ", base=", number(base));
}

void dump_guest_registers()
{
    print("CR0: actual=", number(GUEST_CR0), ", shadow=", number(CR0_READ_SHADOW),
          ", gh_mask=", bare(CR0_GUEST_HOST_MASK));
    print("CR4: actual=", number(GUEST_CR4), ", shadow=", number(CR4_READ_SHADOW),
          ", gh_mask=", bare(CR4_GUEST_HOST_MASK));
    print("CR3 = ", number(GUEST_CR3));
    if (cpu_has_vmx_ept(hardware.config)) {
        print("PDPTR0 = ", number(GUEST_PDPTR0), "  PDPTR1 = ", number(GUEST_PDPTR1));
        print("PDPTR2 = ", number(GUEST_PDPTR2), "  PDPTR3 = ", number(GUEST_PDPTR3));
    }
    print("RSP = ", number(GUEST_RSP), "  RIP = ", number(GUEST_RIP));
    print("RFLAGS=", number(GUEST_RFLAGS, 8), "         DR7 = ", number(GUEST_DR7));
    print("Sysenter RSP=", bare(GUEST_SYSENTER_ESP), " CS:RIP=", bare(GUEST_SYSENTER_CS, 4), ":",
          bare(GUEST_SYSENTER_EIP));
    dump_segment("CS:  ", kCs);
    dump_segment("DS:  ", kDs);
    dump_segment("SS:  ", kSs);
    dump_segment("ES:  ", kEs);
    dump_segment("FS:  ", kFs);
    dump_segment("GS:  ", kGs);
    dump_table("GDTR:", GUEST_GDTR_LIMIT, GUEST_GDTR_BASE);
    dump_segment("LDTR:", kLdtr);
    dump_table("IDTR:", GUEST_IDTR_LIMIT, GUEST_IDTR_BASE);
    dump_segment("TR:  ", kTr);
}

void dump_guest_msrs(const vcpu_vmx &vmx, u32 entry_controls)
{
    const u64 long_mode = EFER_LMA | EFER_LME;
    if (entry_controls & VM_ENTRY_LOAD_IA32_EFER)
        print("EFER= ", number(GUEST_IA32_EFER));
    else
        print(
            "EFER= ",
            hex(entry_controls & VM_ENTRY_IA32E_MODE ? vmx.efer | long_mode : vmx.efer & ~long_mode,
                16),
            " (effective)");
    if (entry_controls & VM_ENTRY_LOAD_IA32_PAT)
        print("PAT = ", number(GUEST_IA32_PAT));
    print("DebugCtl = ", number(GUEST_IA32_DEBUGCTL),
          "  DebugExceptions = ", number(GUEST_PENDING_DBG_EXCEPTIONS));
    if (entry_controls & VM_ENTRY_LOAD_BNDCFGS)
        print("BndCfgS = ", number(GUEST_BNDCFGS));
    print("Interruptibility = ", bare(GUEST_INTERRUPTIBILITY_INFO, 8),
          "  ActivityState = ", bare(GUEST_ACTIVITY_STATE, 8));
}

void dump_host_state(u32 exit_controls)
{
    print("*** Host State ***");
    print("RIP = ", number(HOST_RIP), "  RSP = ", number(HOST_RSP));
    print("CS=", bare(HOST_CS_SELECTOR, 4), " SS=", bare(HOST_SS_SELECTOR, 4),
          " DS=", bare(HOST_DS_SELECTOR, 4), " ES=", bare(HOST_ES_SELECTOR, 4),
          " FS=", bare(HOST_FS_SELECTOR, 4), " GS=", bare(HOST_GS_SELECTOR, 4),
          " TR=", bare(HOST_TR_SELECTOR, 4));
    print("FSBase=", bare(HOST_FS_BASE), " GSBase=", bare(HOST_GS_BASE),
          " TRBase=", bare(HOST_TR_BASE));
    print("GDTBase=", bare(HOST_GDTR_BASE), " IDTBase=", bare(HOST_IDTR_BASE));
    print("CR0=", bare(HOST_CR0), " CR3=", bare(HOST_CR3), " CR4=", bare(HOST_CR4));
    print("Sysenter RSP=", bare(HOST_IA32_SYSENTER_ESP), " CS:RIP=", bare(HOST_IA32_SYSENTER_CS, 4),
          ":", bare(HOST_IA32_SYSENTER_EIP));
    if (exit_controls & VM_EXIT_LOAD_IA32_EFER)
        print("EFER= ", number(HOST_IA32_EFER));
    if (exit_controls & VM_EXIT_LOAD_IA32_PAT)
        print("PAT = ", number(HOST_IA32_PAT));
}

void dump_event_fields()
{
    print("ExceptionBitmap=", bare(EXCEPTION_BITMAP, 8),
          " PFECmask=", bare(PAGE_FAULT_ERROR_CODE_MASK, 8),
          " PFECmatch=", bare(PAGE_FAULT_ERROR_CODE_MATCH, 8));
    print("VMEntry: intr_info=", bare(VM_ENTRY_INTR_INFO_FIELD, 8),
          " errcode=", bare(VM_ENTRY_EXCEPTION_ERROR_CODE, 8),
          " ilen=", bare(VM_ENTRY_INSTRUCTION_LEN, 8));
    print("VMExit: intr_info=", bare(VM_EXIT_INTR_INFO, 8),
          " errcode=", bare(VM_EXIT_INTR_ERROR_CODE, 8),
          " ilen=", bare(VM_EXIT_INSTRUCTION_LEN, 8));
    print("        reason=", bare(VM_EXIT_REASON, 8), " qualification=", bare(EXIT_QUALIFICATION));
    print("IDTVectoring: info=", bare(IDT_VECTORING_INFO_FIELD, 8),
          " errcode=", bare(IDT_VECTORING_ERROR_CODE, 8));
    print("TSC Offset = ", number(TSC_OFFSET));
}

void dump_control_state(u32 entry_controls, u32 exit_controls)
{
    const u32 primary = vmcs_read(CPU_BASED_VM_EXEC_CONTROL);
    const u32 secondary =
        primary & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS ? vmcs_read(SECONDARY_VM_EXEC_CONTROL) : 0;
    const u64 tertiary =
        primary & CPU_BASED_ACTIVATE_TERTIARY_CONTROLS ? vmcs_read(TERTIARY_VM_EXEC_CONTROL) : 0;

    print("*** Control State ***");
    print("CPUBased=", hex(primary, 8), " SecondaryExec=", hex(secondary, 8),
          " TertiaryExec=", hex(tertiary, 16));
    print("PinBased=", number(PIN_BASED_VM_EXEC_CONTROL, 8),
          " EntryControls=", bare_hex(entry_controls, 8),
          " ExitControls=", bare_hex(exit_controls, 8));
    dump_event_fields();
    if (secondary & SECONDARY_EXEC_TSC_SCALING)
        print("TSC Multiplier = ", number(TSC_MULTIPLIER));
    if (primary & CPU_BASED_TPR_SHADOW) {
        print("TPR Threshold = ", number(TPR_THRESHOLD, 2));
        print("virt-APIC addr = ", number(VIRTUAL_APIC_PAGE_ADDR));
    }
    if (secondary & SECONDARY_EXEC_ENABLE_EPT)
        print("EPT pointer = ", number(EPT_POINTER));
    if (secondary & SECONDARY_EXEC_PAUSE_LOOP_EXITING)
        print("PLE Gap=", bare(PLE_GAP, 8), " Window=", bare(PLE_WINDOW, 8));
    if (secondary & SECONDARY_EXEC_ENABLE_VPID)
        print("Virtual processor ID = ", number(VIRTUAL_PROCESSOR_ID, 4));
}

// Of those that this CPU has.
constexpr u32 kOtherFields[] = {
    CR3_TARGET_COUNT.encoding,
    IO_BITMAP_A.encoding,
    IO_BITMAP_B.encoding,
    MSR_BITMAP.encoding,
    POSTED_INTR_DESC_ADDR.encoding,
    PML_ADDRESS.encoding,
    VM_FUNCTION_CONTROL.encoding,
    EPTP_LIST_ADDRESS.encoding,
    VMREAD_BITMAP.encoding,
    VMWRITE_BITMAP.encoding,
    VE_INFO_ADDRESS.encoding,
    SPP_TABLE_POINTER.encoding,
    HLAT_POINTER.encoding,
    PID_POINTER_TABLE.encoding,
    LAST_PID_POINTER_INDEX.encoding,
    VM_EXIT_MSR_STORE_COUNT.encoding,
    VM_EXIT_MSR_STORE_ADDR.encoding,
    VM_EXIT_MSR_LOAD_COUNT.encoding,
    VM_EXIT_MSR_LOAD_ADDR.encoding,
    VM_ENTRY_MSR_LOAD_COUNT.encoding,
    VM_ENTRY_MSR_LOAD_ADDR.encoding,
    VMCS_LINK_POINTER.encoding,
    GUEST_IA32_PERF_GLOBAL_CTRL.encoding,
    GUEST_IA32_RTIT_CTL.encoding,
    GUEST_IA32_LBR_CTL.encoding,
    GUEST_IA32_PKRS.encoding,
    GUEST_S_CET.encoding,
    GUEST_SSP.encoding,
    GUEST_INTR_SSP_TABLE.encoding,
    HOST_IA32_PERF_GLOBAL_CTRL.encoding,
    HOST_IA32_PKRS.encoding,
    HOST_S_CET.encoding,
    HOST_SSP.encoding,
    HOST_INTR_SSP_TABLE.encoding,
};

void dump_cpu(const AuditCpu &cpu)
{
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++) {
        if (cpu.msr->present(msr))
            print("MSR ", hex(msr), " = ", hex((*cpu.msr)[msr], 16));
    }
    print("physical bits = ", hex(cpu.physical_bits), " linear bits = ", hex(cpu.linear_bits));
    const AuditFeatures &f = cpu.features;
    const auto has = [](AuditHas feature) { return hex(feature == AuditHas::kYes); };
    print("nx = ", has(f.nx), " rtm = ", has(f.rtm), " sgx = ", has(f.sgx),
          " bus lock = ", has(f.bus_lock), " lam = ", has(f.lam),
          " counters = ", hex(f.perf_global_ctrl));
}

void dump_other_state(u64 vmcs_address)
{
    print("*** Other State ***");
    for (u32 encoding : kOtherFields) {
        u64 value;
        if (arch::vmread(encoding, value) == arch::Vmx::kOk)
            print(vmcs_field_name(encoding), " = ", hex(value));
    }
    print("VMCS address = ", hex(vmcs_address));
    dump_cpu(audit_current_vmcs().cpu);
}

} // namespace

void dump_vmcs(vcpu_vmx &vmx)
{
    if (!dump_invalid_vmcs()) {
        if (host_log_allowed())
            host_log(HOST_LOG_WARNING,
                     "set minivmx.dump_invalid_vmcs=1 to print the VMCS of a failed VM entry");
        return;
    }
    const u32 entry_controls = vmcs_read(VM_ENTRY_CONTROLS);
    const u32 exit_controls = vmcs_read(VM_EXIT_CONTROLS);

    print("VMCS of vCPU ", vmx.vcpu_id, ", last attempted VM-entry on CPU ", vmx.last_vmentry_cpu);
    print("*** Guest State ***");
    dump_guest_registers();
    dump_guest_msrs(vmx, entry_controls);
    dump_host_state(exit_controls);
    dump_control_state(entry_controls, exit_controls);
    dump_other_state(vmx.vmcs01.phys);
}

} // namespace minivmx
