// SPDX-License-Identifier: GPL-2.0-only
//
// setup_vmcs_config(): from the capability MSRs to the control words, in the document's order.
//
// The document shows kvm_intel of about Linux 5.15. Where Linux 6.1's kvm_intel differs:
//  - 6.1 clears CR8, CR3 and INVLPG exiting when it creates a vCPU, the document here, setting them
//    again for a vCPU that needs them. The words a vCPU gets are the same.
//  - 6.1 leaves the PERF_GLOBAL_CTRL erratum and the enlightened VMCS to vCPU creation and to
//    Hyper-V; the document clears the bits here.
//  - 6.1 refuses a CPU whose EPT and VPID capabilities contradict its controls, or that loads a
//    state at entry and not at exit; the document warns and clears the former and does not look at
//    the latter. error_on_inconsistent_vmcs_config chooses, and covers both.
//  - 6.1 asks for more controls than the document; see control_table.hpp.
#include <minivmx/capabilities.hpp>
#include <minivmx/errata.hpp>
#include <minivmx/vmcs_config.hpp>

namespace minivmx {

namespace {

constexpr u32 required_mask(ControlField field, HostTraits host)
{
    return static_cast<u32>(control_mask(field, ControlUse::kRequired, host));
}

constexpr u32 optional_mask(ControlField field, HostTraits host)
{
    return static_cast<u32>(control_mask(field, ControlUse::kOptional, host));
}

/// Everything setup_vmcs_config() works on, so that each of its steps is a function.
struct Negotiation {
    Negotiation(const HostDesc &h, const Parameters &p, SetupLog &l)
        : host(h), params(p), log(l), pin(ControlField::kPin, l.rules),
          primary(ControlField::kPrimary, l.rules), secondary(ControlField::kSecondary, l.rules),
          tertiary(ControlField::kTertiary, l.rules), exit(ControlField::kExit, l.rules),
          entry(ControlField::kEntry, l.rules)
    {}

    const HostDesc &host;
    const Parameters &params;
    SetupLog &log;
    ControlWord pin, primary, secondary, tertiary, exit, entry;
    vmx_capability cap;
};

Status fail_eio(SetupLog &log)
{
    return Status::failure(Errno::kIo, log.error.c_str());
}

void put_msr(TextBuilder &out, const HostDesc &host, u32 msr)
{
    out.put(msr_name(msr), " (", hex(msr), ")");
    if (host.msr.present(msr))
        out.put(" is ", hex(host.msr[msr], 16));
    else
        out.put(" does not exist");
}

/// "bit 7" or "bits 7 and 9".
void put_bit_numbers(TextBuilder &out, u64 mask)
{
    out.put(count_bits(mask) == 1 ? "bit " : "bits ");
    for (bool first = true; mask != 0; mask &= mask - 1, first = false) {
        if (!first)
            out.put((mask & (mask - 1)) == 0 ? " and " : ", ");
        out.put(lowest_bit(mask));
    }
}

Status required_control_missing(const HostDesc &host, const ControlWordInfo &word, u64 missing,
                                SetupLog &log)
{
    log.error.clear();
    log.error.put("this CPU can't run guests: it does not offer \"");
    put_control_names(log.error, word.field, missing, "\", \"");
    log.error.put("\" (");
    put_bit_numbers(log.error, missing);
    log.error.put(" of the ", word.name, " controls, required), as ");
    put_msr(log.error, host, word.msr);
    log.error.put("; if this is a virtual machine, its hypervisor hides the control");
    return fail_eio(log);
}

/// Asks for what SGX needs even without SGX, as 6.1 does: the rule that takes it away again is
/// then on record.
Status negotiate_word(Negotiation &n, ControlWord &word)
{
    const HostTraits host{n.host.is_64bit, true};
    return adjust_vmx_controls(n.host, required_mask(word.field(), host),
                               optional_mask(word.field(), host),
                               control_word_info(word.field()).msr, word, n.log);
}

/// A 64-bit word has only optional bits and no bits that must be 1. SDM Vol. 3D, A.3.4.
void adjust_vmx_controls64(Negotiation &n, ControlWord &word)
{
    word.set(Rule::kOptional, control_mask(word.field(), ControlUse::kOptional, n.host.traits()));
    word.clear(Rule::kNotAllowed, ~allowed_settings(n.host.msr, word.field()).allowed1);
}

Status negotiate_processor_based(Negotiation &n)
{
    if (Status status = negotiate_word(n, n.primary); status.failed())
        return status;
    if (n.host.is_64bit && n.primary.has(CPU_BASED_TPR_SHADOW))
        n.primary.clear(Rule::kTprShadowServesCr8,
                        CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING);

    if (n.primary.has(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS)) {
        if (Status status = negotiate_word(n, n.secondary); status.failed())
            return status;
    }
    if (!n.host.has_sgx)
        n.secondary.clear(Rule::kNoSgx, SECONDARY_EXEC_ENCLS_EXITING);
    if (!n.host.is_64bit && !n.secondary.has(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES))
        n.primary.clear(Rule::kTprShadowNeedsApicAccess, CPU_BASED_TPR_SHADOW);
    if (!n.primary.has(CPU_BASED_TPR_SHADOW))
        n.secondary.clear(Rule::kApicVirtNeedsTprShadow, SECONDARY_EXEC_APIC_REGISTER_VIRT |
                                                             SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
                                                             SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
    if (n.primary.has(CPU_BASED_ACTIVATE_TERTIARY_CONTROLS))
        adjust_vmx_controls64(n, n.tertiary);
    return Status::success();
}

/// A capability that the CPU reports without the control that would use it.
Status capability_without_control(Negotiation &n, const char *what, u32 control, u32 *half)
{
    Sentence &text = n.log.error;
    text.clear();
    text.put("this CPU contradicts itself: it reports ", what, " capabilities (");
    put_msr(text, n.host, MSR_IA32_VMX_EPT_VPID_CAP);
    text.put(") but not \"");
    put_control_names(text, ControlField::kSecondary, control, "");
    text.put("\" (bit ", lowest_bit(control), " of the secondary processor-based controls)");
    if (n.params.error_on_inconsistent_vmcs_config) {
        text.put("; error_on_inconsistent_vmcs_config=0 would ignore the capabilities");
        return fail_eio(n.log);
    }
    text.put("; ignored");
    n.log.warnings(text);
    text.clear();
    *half = 0;
    return Status::success();
}

/// SDM Vol. 3D, A.10: the MSR exists only with EPT or VPID.
Status check_ept_vpid_capabilities(Negotiation &n)
{
    const u64 msr = n.host.msr[MSR_IA32_VMX_EPT_VPID_CAP];
    n.cap.ept = static_cast<u32>(msr);
    n.cap.vpid = static_cast<u32>(msr >> 32);

    if (n.secondary.has(SECONDARY_EXEC_ENABLE_EPT)) {
        n.primary.clear(Rule::kEptMakesCr3ExitsNeedless, CPU_BASED_CR3_LOAD_EXITING |
                                                             CPU_BASED_CR3_STORE_EXITING |
                                                             CPU_BASED_INVLPG_EXITING);
    } else if (n.cap.ept != 0) {
        Status status = capability_without_control(n, "EPT", SECONDARY_EXEC_ENABLE_EPT, &n.cap.ept);
        if (status.failed())
            return status;
    }
    if (!n.secondary.has(SECONDARY_EXEC_ENABLE_VPID) && n.cap.vpid != 0)
        return capability_without_control(n, "VPID", SECONDARY_EXEC_ENABLE_VPID, &n.cap.vpid);
    return Status::success();
}

Status negotiate_pin_based(Negotiation &n)
{
    if (Status status = negotiate_word(n, n.pin); status.failed())
        return status;
    if (broken_preemption_timer_erratum(n.host.signature) != nullptr)
        n.pin.clear(Rule::kBrokenPreemptionTimer, PIN_BASED_VMX_PREEMPTION_TIMER);
    if (!n.secondary.has(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY))
        n.pin.clear(Rule::kPostedNeedsDelivery, PIN_BASED_POSTED_INTR);
    return Status::success();
}

/// States that VM entry loads for the guest and VM exit must put back for the host.
/// Debug controls are not here: both sides are required.
struct EntryExitPair {
    u32 entry;
    u32 exit;
};
constexpr EntryExitPair kEntryExitPairs[] = {
    {VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL, VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL},
    {VM_ENTRY_LOAD_IA32_PAT, VM_EXIT_LOAD_IA32_PAT},
    {VM_ENTRY_LOAD_IA32_EFER, VM_EXIT_LOAD_IA32_EFER},
    {VM_ENTRY_LOAD_BNDCFGS, VM_EXIT_CLEAR_BNDCFGS},
    {VM_ENTRY_LOAD_IA32_RTIT_CTL, VM_EXIT_CLEAR_IA32_RTIT_CTL},
};

Status inconsistent_pair(Negotiation &n, const EntryExitPair &pair)
{
    const bool at_entry = n.entry.has(pair.entry);
    Sentence &text = n.log.error;
    text.clear();
    text.put("this CPU contradicts itself: it offers \"");
    if (at_entry)
        put_control_names(text, ControlField::kEntry, pair.entry, "");
    else
        put_control_names(text, ControlField::kExit, pair.exit, "");
    text.put(at_entry ? "\" at VM entry but not \"" : "\" at VM exit but not \"");
    if (at_entry)
        put_control_names(text, ControlField::kExit, pair.exit, "");
    else
        put_control_names(text, ControlField::kEntry, pair.entry, "");
    text.put(at_entry ? "\" at VM exit: " : "\" at VM entry: ");
    put_msr(text, n.host, MSR_IA32_VMX_ENTRY_CTLS);
    text.put(", ");
    put_msr(text, n.host, MSR_IA32_VMX_EXIT_CTLS);
    if (n.params.error_on_inconsistent_vmcs_config) {
        text.put("; error_on_inconsistent_vmcs_config=0 would use neither");
        return fail_eio(n.log);
    }
    text.put("; neither is used");
    n.log.warnings(text);
    text.clear();
    n.entry.clear(Rule::kEntryExitPair, pair.entry);
    n.exit.clear(Rule::kEntryExitPair, pair.exit);
    return Status::success();
}

Status check_entry_exit_pairs(Negotiation &n)
{
    for (const EntryExitPair &pair : kEntryExitPairs) {
        if (n.entry.has(pair.entry) == n.exit.has(pair.exit))
            continue;
        if (Status status = inconsistent_pair(n, pair); status.failed())
            return status;
    }
    return Status::success();
}

void apply_perf_global_ctrl_erratum(Negotiation &n)
{
    const char *const erratum = perf_global_ctrl_erratum(n.host.signature);
    if (erratum == nullptr)
        return;
    if (!n.entry.has(VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL) &&
        !n.exit.has(VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL))
        return;
    n.entry.clear(Rule::kPerfGlobalCtrlErratum, VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL);
    n.exit.clear(Rule::kPerfGlobalCtrlErratum, VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL);
    Sentence text;
    text.put("loading IA32_PERF_GLOBAL_CTRL at VM exit does not work properly on this CPU model "
             "(",
             erratum, "); it is not used");
    n.log.warnings(text);
}

/// The document's evmcs_sanitize_exec_ctrls().
void evmcs_sanitize_exec_ctrls(Negotiation &n)
{
    ControlWord *const words[] = {&n.pin, &n.primary, &n.secondary, &n.tertiary, &n.exit, &n.entry};
    for (ControlWord *word : words)
        word->clear(Rule::kEnlightenedVmcs, enlightened_vmcs_unsupported(word->field()));
}

Status vmx_basic_unusable(Negotiation &n, const char *what)
{
    n.log.error.clear();
    n.log.error.put("this CPU can't run guests: ", what, ": ");
    put_msr(n.log.error, n.host, MSR_IA32_VMX_BASIC);
    return fail_eio(n.log);
}

/// SDM Vol. 3D, A.1.
Status check_vmx_basic(Negotiation &n)
{
    const VmxBasic basic{n.host.msr[MSR_IA32_VMX_BASIC]};
    if (basic.vmcs_size() == 0 || basic.vmcs_size() > n.host.page_size)
        return vmx_basic_unusable(n, "its VMCS does not take 1 to 4096 bytes (bits 44:32)");
    if (n.host.is_64bit && basic.addresses_32_bit())
        return vmx_basic_unusable(n, "a 64-bit CPU must not limit a VMCS to 32-bit addresses "
                                     "(bit 48)");
    if (basic.memory_type() != VmxBasic::kWriteBack)
        return vmx_basic_unusable(n, "its VMCS is not in write-back memory (bits 53:50 are not 6)");
    return Status::success();
}

Status word_not_accepted(Negotiation &n, const ControlWordInfo &word, u64 bits, const char *why,
                         u32 msr)
{
    n.log.error.clear();
    n.log.error.put("this CPU contradicts itself: ", why, " \"");
    put_control_names(n.log.error, word.field, bits, "\", \"");
    n.log.error.put("\" (");
    put_bit_numbers(n.log.error, bits);
    n.log.error.put(" of the ", word.name, " controls): ");
    put_msr(n.log.error, n.host, msr);
    return fail_eio(n.log);
}

/// Would VM entry take the word? The rules above must not have cleared a bit that this CPU wants
/// to be 1, and a bit that must be 1 must also be allowed to be.
Status check_word_is_accepted(Negotiation &n, const ControlWord &word)
{
    const ControlWordInfo &info = control_word_info(word.field());
    const u64 outside = word.value() & ~allowed_settings(n.host.msr, word.field()).allowed1;
    if (outside != 0)
        return word_not_accepted(n, info, outside, "it wants always on, and does not offer,",
                                 info.msr);
    const u64 missing = true_allowed_settings(n.host.msr, word.field()).allowed0 & ~word.value();
    if (missing != 0)
        return word_not_accepted(n, info, missing,
                                 "with the other controls that it has, this one must be off, but "
                                 "it wants always on",
                                 deciding_msr(n.host.msr, info.field));
    return Status::success();
}

Status check_words_are_accepted(Negotiation &n)
{
    const ControlWord *const words[] = {&n.pin, &n.primary, &n.secondary, &n.exit, &n.entry};
    for (const ControlWord *word : words) {
        const bool secondary_unused = word->field() == ControlField::kSecondary &&
                                      !n.primary.has(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
        if (secondary_unused)
            continue;
        if (Status status = check_word_is_accepted(n, *word); status.failed())
            return status;
    }
    return Status::success();
}

u32 order_of(u32 size, u32 page_size)
{
    u32 order = 0;
    while ((page_size << order) < size)
        order++;
    return order;
}

void store_config(const Negotiation &n, vmcs_config &conf)
{
    const u64 basic = n.host.msr[MSR_IA32_VMX_BASIC];
    conf.size = VmxBasic{basic}.vmcs_size();
    conf.order = order_of(conf.size, n.host.page_size);
    conf.basic_cap = static_cast<u32>(basic >> 32) & ~0x1fffu;
    conf.revision_id = VmxBasic{basic}.revision();
    conf.pin_based_exec_ctrl = n.pin.value32();
    conf.cpu_based_exec_ctrl = n.primary.value32();
    conf.cpu_based_2nd_exec_ctrl = n.secondary.value32();
    conf.cpu_based_3rd_exec_ctrl = n.tertiary.value();
    conf.vmexit_ctrl = n.exit.value32();
    conf.vmentry_ctrl = n.entry.value32();
    conf.misc = n.host.msr[MSR_IA32_VMX_MISC];
}

} // namespace

u64 vmcs_config::control(ControlField field) const
{
    switch (field) {
    case ControlField::kPin:
        return pin_based_exec_ctrl;
    case ControlField::kPrimary:
        return cpu_based_exec_ctrl;
    case ControlField::kSecondary:
        return cpu_based_2nd_exec_ctrl;
    case ControlField::kTertiary:
        return cpu_based_3rd_exec_ctrl;
    case ControlField::kExit:
        return vmexit_ctrl;
    case ControlField::kEntry:
        return vmentry_ctrl;
    case ControlField::kExitSecondary:
        break;
    }
    return 0;
}

Status adjust_vmx_controls(const HostDesc &host, u32 ctl_min, u32 ctl_opt, u32 msr,
                           ControlWord &result, SetupLog &log)
{
    const AllowedSettings allowed = AllowedSettings::of_32_bit_word(host.msr[msr]);

    result.set(Rule::kRequired, ctl_min);
    result.set(Rule::kOptional, ctl_opt & ~ctl_min);
    result.clear(Rule::kNotAllowed, ~allowed.allowed1);
    result.set(Rule::kMustBeOne, allowed.allowed0);

    const u64 missing = ctl_min & ~result.value();
    if (missing != 0)
        return required_control_missing(host, control_word_info(result.field()), missing, log);
    return Status::success();
}

Status setup_vmcs_config(const HostDesc &host, const Parameters &params, vmcs_config &conf,
                         vmx_capability &cap, SetupLog &log)
{
    conf = vmcs_config{};
    cap = vmx_capability{};
    Negotiation n(host, params, log);

    if (Status status = negotiate_processor_based(n); status.failed())
        return status;
    if (Status status = check_ept_vpid_capabilities(n); status.failed())
        return status;
    if (Status status = negotiate_word(n, n.exit); status.failed())
        return status;
    if (Status status = negotiate_pin_based(n); status.failed())
        return status;
    if (Status status = negotiate_word(n, n.entry); status.failed())
        return status;
    if (Status status = check_entry_exit_pairs(n); status.failed())
        return status;
    apply_perf_global_ctrl_erratum(n);
    if (Status status = check_vmx_basic(n); status.failed())
        return status;
    if (host.enlightened_vmcs)
        evmcs_sanitize_exec_ctrls(n);
    if (Status status = check_words_are_accepted(n); status.failed())
        return status;

    store_config(n, conf);
    cap = n.cap;
    return Status::success();
}

} // namespace minivmx
