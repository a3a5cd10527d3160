// SPDX-License-Identifier: GPL-2.0-only
//
// The rules in words, and the one step whose bits come from the table of control bits.
#include <minivmx/controls.hpp>
#include <minivmx/rules.hpp>

namespace minivmx {

namespace {

constexpr const char *kAdjust = "adjust_vmx_controls";
constexpr const char *kSetup = "setup_vmcs_config";
constexpr const char *kOfTheWord = nullptr;

constexpr RuleInfo kRules[] = {
    {Rule::kRequired, "required", kAdjust, "required", "minivmx can't do without it"},
    {Rule::kOptional, "optional", kAdjust, "optional", "minivmx uses it where the CPU has it"},
    {Rule::kNotAllowed, "not-allowed", kAdjust, "not on this CPU",
     "the capability MSR's allowed-1 half has a 0 there: the CPU does not have the control"},
    {Rule::kMustBeOne, "must-be-one", kAdjust, "always on",
     "the capability MSR's allowed-0 half has a 1 there: the CPU wants the bit to be 1"},
    {Rule::kTprShadowServesCr8, "tpr-shadow-cr8", kSetup, "TPR shadow",
     "with the TPR shadow, CR8 is served from memory and need not leave the guest"},
    {Rule::kTprShadowNeedsApicAccess, "tpr-shadow-apic-access", kSetup, "no APIC accesses",
     "a 32-bit host has no CR8: without virtualized APIC accesses the TPR shadow has no use"},
    {Rule::kApicVirtNeedsTprShadow, "apic-virt-tpr-shadow", kSetup, "no TPR shadow",
     "APIC virtualization works on the page that the TPR shadow provides"},
    {Rule::kEptMakesCr3ExitsNeedless, "ept-cr3-invlpg", kSetup, "EPT",
     "with EPT the guest owns its page tables: CR3 and INVLPG need not leave the guest"},
    {Rule::kNoSgx, "no-sgx", kSetup, "no SGX", "this CPU has no SGX, so there is no ENCLS"},
    {Rule::kBrokenPreemptionTimer, "broken-preemption-timer", kSetup, "erratum",
     "this CPU model's preemption timer counts at a wrong rate"},
    {Rule::kPostedNeedsDelivery, "posted-needs-delivery", kSetup, "no interrupt delivery",
     "posted interrupts need virtual-interrupt delivery"},
    {Rule::kEntryExitPair, "entry-exit-pair", kSetup, "its pair is missing",
     "VM entry and VM exit must switch the same state, and this CPU does only one of them"},
    {Rule::kPerfGlobalCtrlErratum, "perf-global-ctrl-erratum", kSetup, "erratum",
     "on this CPU model a VM exit may clear bits 34:32 of IA32_PERF_GLOBAL_CTRL"},
    {Rule::kEnlightenedVmcs, "enlightened-vmcs", kSetup, "enlightened VMCS",
     "Hyper-V's enlightened VMCS has no fields for it"},
    {Rule::kParameter, "parameter", kOfTheWord, "parameter", "a module parameter decides"},
    {Rule::kNegotiated, "negotiated", kOfTheWord, "negotiated",
     "module initialisation negotiated it"},
    {Rule::kUnusedByVcpu, "unused-by-vcpu", kOfTheWord, "not used",
     "the CPU has it, but a vCPU uses it only when asked to"},
    {Rule::kOnlyWhilePending, "only-while-pending", kOfTheWord, "nothing waits",
     "it is on only while an interrupt or NMI waits for the guest to accept it"},
    {Rule::kDebugRegistersLoaded, "debug-registers-loaded", kOfTheWord, "debug registers loaded",
     "the guest's debug registers are in the CPU, so it may use them freely"},
    {Rule::kNoApicInKernel, "no-apic-in-kernel", kOfTheWord, "no APIC in the kernel",
     "the VM's APIC is emulated by user space, so there is no APIC page to serve it from"},
    {Rule::kTprShadowOff, "tpr-shadow-off", kOfTheWord, "no TPR shadow",
     "without the TPR shadow every access to CR8 must leave the guest"},
    {Rule::kTprShadowOn, "tpr-shadow-on", kOfTheWord, "TPR shadow",
     "with the TPR shadow, CR8 is served from memory"},
    {Rule::kExitDisabled, "exit-disabled", kOfTheWord, "exit disabled",
     "the VM's owner let the guest run the instruction (KVM_CAP_X86_DISABLE_EXITS)"},
    {Rule::kApicvInactive, "apicv-inactive", kOfTheWord, "APICv inactive",
     "APIC virtualization is not active for this vCPU"},
    {Rule::kXapicInactive, "xapic-inactive", kOfTheWord, "no xAPIC",
     "the guest's APIC is disabled or in x2APIC mode"},
    {Rule::kX2apicInactive, "x2apic-inactive", kOfTheWord, "no x2APIC",
     "the guest's APIC is not in x2APIC mode"},
    {Rule::kNoVpid, "no-vpid", kOfTheWord, "no VPID", "this vCPU has no VPID"},
    {Rule::kUmipNotEmulated, "umip-not-emulated", kOfTheWord, "UMIP not emulated",
     "the guest has not set CR4.UMIP, or the CPU has UMIP itself"},
    {Rule::kDirtyLoggingOff, "dirty-logging-off", kOfTheWord, "no dirty logging",
     "no memory slot of the VM logs dirty pages"},
    {Rule::kGuestCpuidLacks, "guest-cpuid-lacks", kOfTheWord, "not in guest CPUID",
     "the guest's CPUID does not have the instruction, so it must raise #UD"},
    {Rule::kGuestCpuidHas, "guest-cpuid-has", kOfTheWord, "in guest CPUID",
     "the guest's CPUID has the instruction, so it need not leave the guest"},
    {Rule::kCapabilityNotEnabled, "capability-not-enabled", kOfTheWord, "not enabled",
     "the VM's owner has not enabled it (KVM_ENABLE_CAP)"},
    {Rule::kProcessorTraceHostOnly, "pt-host-only", kOfTheWord, "Intel PT is the host's",
     "Intel PT traces host and guest into the host's buffer"},
    {Rule::kToggledAtRunTime, "toggled-at-run-time", kOfTheWord, "toggled at run time",
     "it is switched on and off while the guest runs, as the guest's state asks"},
    {Rule::kIntercepted, "intercepted", kOfTheWord, "intercepted",
     "the client wants to see the exit (MINIVMX_SET_INTERCEPTS)"},
};

constexpr bool rules_in_order()
{
    for (unsigned i = 0; i < static_cast<unsigned>(Rule::kCount); i++) {
        if (kRules[i].rule != static_cast<Rule>(i))
            return false;
    }
    return true;
}
static_assert(sizeof(kRules) / sizeof(kRules[0]) == static_cast<unsigned>(Rule::kCount));
static_assert(rules_in_order());

// parameter_mask(), looked up: every vCPU that is created asks a dozen times.
struct ParameterMasks {
    u64 clears[kControlFieldCount][kParameterCount];
    u64 sets[kControlFieldCount][kParameterCount];
};

constexpr ParameterMasks parameter_masks()
{
    ParameterMasks masks{};
    for (unsigned field = 0; field < kControlFieldCount; field++) {
        for (unsigned parameter = 0; parameter < kParameterCount; parameter++) {
            const auto f = static_cast<ControlField>(field);
            const auto p = static_cast<Parameter>(parameter);
            masks.clears[field][parameter] = parameter_mask(f, p, WhenOff::kClears);
            masks.sets[field][parameter] = parameter_mask(f, p, WhenOff::kSets);
        }
    }
    return masks;
}
constexpr ParameterMasks kParameterMasks = parameter_masks();

} // namespace

const RuleInfo &rule_info(Rule rule)
{
    return kRules[static_cast<unsigned>(rule)];
}

void ControlWord::apply_parameter(Parameter parameter, bool on)
{
    if (on)
        return;
    const auto field = static_cast<unsigned>(field_);
    const u64 clears = kParameterMasks.clears[field][static_cast<unsigned>(parameter)];
    const u64 sets = kParameterMasks.sets[field][static_cast<unsigned>(parameter)];
    change(Rule::kParameter, parameter, clears & value_, false);
    change(Rule::kParameter, parameter, sets & ~value_, true);
}

} // namespace minivmx
