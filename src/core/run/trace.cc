// SPDX-License-Identifier: GPL-2.0-only
// What the tracepoints' listeners get, gathered while somebody listens.
#include <minivmx/exit_name.hpp>
#include <minivmx/run.hpp>
#include <minivmx/trace.hpp>

namespace minivmx {

namespace {

// One fact line; what doesn't fit a record isn't read anyway.
using FactsLine = Text<120>;

constexpr const char *const kGprNames[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                           "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};

void put_exception(TextBuilder &out, u32 vector)
{
    if (const char *name = exception_name(vector))
        out.put(name);
    else
        out.put("exception ", vector);
}

void put_cpuid(TextBuilder &out, const vcpu_vmx &vmx)
{
    out.put("leaf ", hex(static_cast<u32>(vmx.area->regs[kRax])), " subleaf ",
            hex(static_cast<u32>(vmx.area->regs[kRcx])));
}

void put_io(TextBuilder &out, vcpu_vmx &vmx)
{
    const IoInfo io = IoInfo::decode(exit_qualification(vmx));
    out.put(io.rep ? "rep " : "", io.string ? (io.in ? "ins" : "outs") : (io.in ? "in" : "out"),
            " port ", hex(io.port), ", ", io.size, io.size == 1 ? " byte" : " bytes");
    if (!io.in && !io.string)
        out.put(", ", hex(vmx.area->regs[kRax] & (bit64(8u * io.size) - 1)));
}

void put_cr_access(TextBuilder &out, vcpu_vmx &vmx)
{
    const CrAccessInfo access = CrAccessInfo::decode(exit_qualification(vmx));
    switch (access.type) {
    case CrAccessInfo::kMovTo:
        out.put("MOV to CR", access.cr, ", ", hex(read_gpr(vmx, access.gpr)));
        break;
    case CrAccessInfo::kMovFrom:
        out.put("MOV from CR", access.cr, " to ", kGprNames[access.gpr]);
        break;
    case CrAccessInfo::kClts:
        out.put("CLTS");
        break;
    case CrAccessInfo::kLmsw:
        out.put("LMSW, ", hex(access.lmsw_source));
        break;
    }
}

void put_dr_access(TextBuilder &out, vcpu_vmx &vmx)
{
    const DrAccessInfo access = DrAccessInfo::decode(exit_qualification(vmx));
    if (access.from)
        out.put("MOV from DR", access.dr, " to ", kGprNames[access.gpr]);
    else
        out.put("MOV to DR", access.dr, ", ", hex(read_gpr(vmx, access.gpr)));
}

// Hardware exceptions put more into the exit qualification: SDM Vol. 3C, 28.2.1.
void put_exit_event(TextBuilder &out, vcpu_vmx &vmx)
{
    const u32 information = exit_intr_info(vmx);
    const bool has_error_code = (information & INTR_INFO_HAS_ERROR_CODE) != 0;
    put_event(out, information, has_error_code ? vmcs_read(VM_EXIT_INTR_ERROR_CODE) : 0);
    if ((information & INTR_INFO_VECTOR_MASK) == PF_VECTOR)
        out.put(" at ", hex(exit_qualification(vmx)));
}

// SDM Vol. 3C, 28.2.1, table 28-6.
void put_apic_access(TextBuilder &out, vcpu_vmx &vmx)
{
    constexpr const char *kTypes[] = {"read", "write", "fetch", "event delivery"};
    const u64 qualification = exit_qualification(vmx);
    const u64 type = qualification >> 12 & 15;
    out.put(type < 4 ? kTypes[type] : "guest-physical access", " at offset ",
            hex(qualification & 0xfff, 3));
}

// SDM Vol. 3C, 28.2.1, table 28-2.
void put_task_switch(TextBuilder &out, vcpu_vmx &vmx)
{
    constexpr const char *kSources[] = {"CALL", "IRET", "JMP", "task gate"};
    const u64 qualification = exit_qualification(vmx);
    out.put(kSources[qualification >> 30 & 3], " to selector ", hex(qualification & 0xffff, 4));
}

void put_msr(TextBuilder &out, const vcpu_vmx &vmx, bool write)
{
    out.put("MSR ", hex(static_cast<u32>(vmx.area->regs[kRcx])));
    if (write)
        out.put(" = ", hex(read_edx_eax(vmx)));
}

void put_facts_of_reason(TextBuilder &out, vcpu_vmx &vmx, u32 basic)
{
    switch (basic) {
    case EXIT_REASON_EXCEPTION_NMI:
    case EXIT_REASON_EXTERNAL_INTERRUPT:
        put_exit_event(out, vmx);
        break;
    case EXIT_REASON_TASK_SWITCH:
        put_task_switch(out, vmx);
        break;
    case EXIT_REASON_CPUID:
        put_cpuid(out, vmx);
        break;
    case EXIT_REASON_INVLPG:
        out.put("address ", hex(exit_qualification(vmx)));
        break;
    case EXIT_REASON_CR_ACCESS:
        put_cr_access(out, vmx);
        break;
    case EXIT_REASON_DR_ACCESS:
        put_dr_access(out, vmx);
        break;
    case EXIT_REASON_IO_INSTRUCTION:
        put_io(out, vmx);
        break;
    case EXIT_REASON_MSR_READ:
    case EXIT_REASON_MSR_WRITE:
        put_msr(out, vmx, basic == EXIT_REASON_MSR_WRITE);
        break;
    case EXIT_REASON_APIC_ACCESS:
        put_apic_access(out, vmx);
        break;
    case EXIT_REASON_EPT_VIOLATION:
        put_ept_violation(out, EptViolationInfo::decode(exit_qualification(vmx)));
        out.put(" at ", hex(vmcs_read(GUEST_PHYSICAL_ADDRESS)));
        break;
    case EXIT_REASON_EPT_MISCONFIG:
        out.put("at ", hex(vmcs_read(GUEST_PHYSICAL_ADDRESS)));
        break;
    case EXIT_REASON_XSETBV:
        out.put("XCR", static_cast<u32>(vmx.area->regs[kRcx]), " = ", hex(read_edx_eax(vmx)));
        break;
    default:
        break;
    }
}

} // namespace

void put_event(TextBuilder &out, u32 information, u32 error_code)
{
    const u32 vector = information & INTR_INFO_VECTOR_MASK;
    switch (information & INTR_INFO_TYPE_MASK) {
    case INTR_TYPE_EXT_INTR:
        out.put("interrupt ", hex(vector, 2));
        return;
    case INTR_TYPE_NMI:
        out.put("NMI");
        return;
    case INTR_TYPE_SOFT_INTR:
        out.put("INT ", hex(vector, 2));
        return;
    default:
        put_exception(out, vector);
        if (information & INTR_INFO_HAS_ERROR_CODE)
            out.put(" error ", hex(error_code));
        return;
    }
}

void put_exit_facts(TextBuilder &out, vcpu_vmx &vmx)
{
    if (vmx.entry_failed) {
        out.put("VM entry failed: VM-instruction error ", vmcs_read(VM_INSTRUCTION_ERROR));
        return;
    }
    if (vmx.exit_reason & kExitReasonFailedEntry) {
        out.put("VM entry failed, qualification ", hex(exit_qualification(vmx)));
        return;
    }
    put_facts_of_reason(out, vmx, vmx.exit_reason & kExitReasonBasicMask);
    if (vmx.idt_vectoring_info & INTR_INFO_VALID) {
        out.put(out.empty() ? "" : ", ", "while delivering ");
        put_event(out, vmx.idt_vectoring_info, vmcs_read(IDT_VECTORING_ERROR_CODE));
    }
}

void put_ept_violation(TextBuilder &out, const EptViolationInfo &access)
{
    out.put(access.fetch ? "fetch" : access.write ? "write" : "read");
    if (access.readable || access.writable || access.executable)
        out.put(" of a page with ", access.readable ? "r" : "-", access.writable ? "w" : "-",
                access.executable ? "x" : "-");
    else
        out.put(" of no page");
    if (access.linear_address_valid && !access.to_final_page)
        out.put(", by the page walk");
}

void put_control_change(TextBuilder &out, ControlField field, u64 before, u64 after)
{
    if (const u64 on = after & ~before) {
        out.put("+");
        put_control_names(out, field, on, " +");
    }
    if (const u64 off = before & ~after) {
        out.put(out.empty() ? "-" : " -");
        put_control_names(out, field, off, " -");
    }
}

void gather_trace_entry(vcpu_vmx &vmx)
{
    host_trace_entry(vmx.host, vmcs_read(GUEST_RIP));
}

void gather_trace_inject(vcpu_vmx &vmx)
{
    const u32 information = vmcs_read(VM_ENTRY_INTR_INFO_FIELD);
    if (!(information & INTR_INFO_VALID))
        return;
    const u32 error_code =
        information & INTR_INFO_HAS_ERROR_CODE ? vmcs_read(VM_ENTRY_EXCEPTION_ERROR_CODE) : 0;
    FactsLine event;
    put_event(event, information, error_code);
    host_trace_inject(vmx.host, information, error_code, event.c_str());
}

void gather_trace_exit(vcpu_vmx &vmx)
{
    FactsLine facts;
    put_exit_facts(facts, vmx);
    host_exit_facts exit = {};
    exit.facts = facts.c_str();
    exit.rip = vmcs_read(GUEST_RIP);
    if (vmx.entry_failed) {
        exit.instruction_error = vmcs_read(VM_INSTRUCTION_ERROR);
    } else {
        exit.reason = vmx.exit_reason;
        exit.qualification = exit_qualification(vmx);
        exit.intr_info = exit_intr_info(vmx);
        exit.idt_vectoring_info = vmx.idt_vectoring_info;
    }
    host_trace_exit(vmx.host, &exit);
}

void gather_trace_ept_violation(vcpu_vmx &vmx, u64 gpa, const EptViolationInfo &access)
{
    FactsLine text;
    put_ept_violation(text, access);
    const u64 linear = access.linear_address_valid ? vmcs_read(GUEST_LINEAR_ADDRESS) : 0;
    host_trace_ept_violation(vmx.host, gpa, linear, exit_qualification(vmx), text.c_str());
}

void gather_trace_control_change(const vcpu_vmx &vmx, ControlField field, u64 before, u64 after)
{
    // A shadow that knows nothing yet is all ones, which no control word is: a new vCPU's words are
    // told as what is on in them.
    if (static_cast<u32>(before) == ~0u)
        before = 0;
    Sentence changes;
    put_control_change(changes, field, before, after);
    host_trace_control_change(vmx.host, control_word_info(field).slug, before, after,
                              changes.c_str());
}

} // namespace minivmx
