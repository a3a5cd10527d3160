// SPDX-License-Identifier: GPL-2.0-only
//
// hardware_setup(): may this CPU's VMX be used at all, what can it do, and what remains of the
// parameters that the module was loaded with.
#include <minivmx/capabilities.hpp>
#include <minivmx/vmcs_config.hpp>

namespace minivmx {

namespace {

/// Why a parameter can't stay on. The first rule that applies is the reason that is shown, so
/// what the hardware lacks comes before what another parameter took away.
struct ParameterRule {
    Parameter parameter;
    bool (*applies)(const Hardware &);
    const char *why;
    /// Another parameter is to blame: told in dmesg, since somebody asked for a combination that
    /// can't be. What the hardware lacks only reads back as off.
    bool conflict;
};

constexpr ParameterRule kParameterRules[] = {
    {Parameter::kVpid, [](const Hardware &h) { return !cpu_has_vmx_vpid(h.config); },
     "this CPU has no VPID", false},
    {Parameter::kVpid, [](const Hardware &h) { return !h.capability.vpid_cap().invvpid(); },
     "this CPU has no INVVPID", false},
    {Parameter::kVpid,
     [](const Hardware &h) {
         return !h.capability.vpid_cap().invvpid_single() && !h.capability.vpid_cap().invvpid_all();
     },
     "this CPU's INVVPID can't flush a whole VPID", false},

    {Parameter::kEpt, [](const Hardware &h) { return !cpu_has_vmx_ept(h.config); },
     "this CPU has no EPT", false},
    {Parameter::kEpt, [](const Hardware &h) { return !h.capability.ept_cap().walk_4_levels(); },
     "this CPU's EPT has no 4-level tables", false},
    {Parameter::kEpt, [](const Hardware &h) { return !h.capability.ept_cap().type_write_back(); },
     "this CPU's EPT tables can't be in write-back memory", false},
    {Parameter::kEpt, [](const Hardware &h) { return !h.capability.ept_cap().invept_all(); },
     "this CPU has no INVEPT of all contexts", false},

    {Parameter::kEptad, [](const Hardware &h) { return !h.capability.ept_cap().accessed_dirty(); },
     "this CPU's EPT has no accessed and dirty flags", false},
    {Parameter::kEptad, [](const Hardware &h) { return !h.params.ept; }, "it needs ept", true},

    {Parameter::kUnrestrictedGuest,
     [](const Hardware &h) { return !cpu_has_vmx_unrestricted_guest(h.config); },
     "this CPU has no unrestricted guest", false},
    {Parameter::kUnrestrictedGuest, [](const Hardware &h) { return !h.params.ept; }, "it needs ept",
     true},

    {Parameter::kFlexpriority, [](const Hardware &h) { return !cpu_has_vmx_tpr_shadow(h.config); },
     "this CPU has no TPR shadow", false},
    {Parameter::kFlexpriority,
     [](const Hardware &h) { return !cpu_has_vmx_virtualize_apic_accesses(h.config); },
     "this CPU can't virtualize APIC accesses", false},

    {Parameter::kVnmi,
     [](const Hardware &h) { return (h.config.pin_based_exec_ctrl & PIN_BASED_VIRTUAL_NMIS) == 0; },
     "this CPU has no virtual NMIs", false},
    {Parameter::kVnmi, [](const Hardware &h) { return !cpu_has_virtual_nmis(h.config); },
     "this CPU has no NMI-window exiting", false},

    {Parameter::kPleGap, [](const Hardware &h) { return !cpu_has_vmx_ple(h.config); },
     "this CPU has no PAUSE-loop exiting", false},
    {Parameter::kApicv, [](const Hardware &h) { return !cpu_has_vmx_apicv(h.config); },
     "this CPU has not all of APICv", false},

    {Parameter::kPml, [](const Hardware &h) { return !cpu_has_vmx_pml(h.config); },
     "this CPU has no page-modification logging", false},
    {Parameter::kPml, [](const Hardware &h) { return !h.params.ept; }, "it needs ept", true},
    {Parameter::kPml, [](const Hardware &h) { return !h.params.eptad; }, "it needs eptad", true},

    {Parameter::kPreemptionTimer,
     [](const Hardware &h) { return !cpu_has_vmx_preemption_timer(h.config); },
     "this CPU has no usable preemption timer", false},
    {Parameter::kPreemptionTimer,
     [](const Hardware &h) {
         // kvm_intel's rule: the timer is "off" while it counts down from 2^32 - 1, which must
         // take at least 10 seconds. Without a known TSC frequency 5 GHz is assumed.
         const u64 tsc_hz = h.host.tsc_khz != 0 ? u64{h.host.tsc_khz} * 1000 : 5000000000u;
         return tsc_hz >> h.preemption_timer_shift > 0xffffffffu / 10;
     },
     "at this TSC frequency the timer runs out within 10 s", false},
};

void turn_off(Parameters &params, Parameter parameter)
{
    switch (parameter) {
    case Parameter::kNone:
        break;
    case Parameter::kVnmi:
        params.vnmi = false;
        break;
    case Parameter::kPreemptionTimer:
        params.preemption_timer = false;
        break;
    case Parameter::kEpt:
        params.ept = false;
        break;
    case Parameter::kVpid:
        params.vpid = false;
        break;
    case Parameter::kUnrestrictedGuest:
        params.unrestricted_guest = false;
        break;
    case Parameter::kFlexpriority:
        params.flexpriority = false;
        break;
    case Parameter::kApicv:
        params.enable_apicv = false;
        break;
    case Parameter::kEptad:
        params.eptad = false;
        break;
    case Parameter::kPml:
        params.pml = false;
        break;
    case Parameter::kPleGap:
        params.ple_gap = 0;
        params.ple_window = 0;
        break;
    }
}

void reconcile_parameters(Hardware &hardware, SetupLog &log)
{
    for (const ParameterRule &rule : kParameterRules) {
        if (!parameter_on(hardware.params, rule.parameter) || !rule.applies(hardware))
            continue;
        turn_off(hardware.params, rule.parameter);
        hardware.why_off[static_cast<unsigned>(rule.parameter)] = rule.why;
        if (rule.conflict) {
            Line line;
            line.put("parameter ", parameter_name(rule.parameter), " is off: ", rule.why);
            log.warnings(line);
        }
    }
}

Status unsupported(SetupLog &log)
{
    return Status::failure(Errno::kOpNotSupp, log.error.c_str());
}

} // namespace

bool parameter_on(const Parameters &params, Parameter parameter)
{
    switch (parameter) {
    case Parameter::kNone:
        break;
    case Parameter::kVnmi:
        return params.vnmi;
    case Parameter::kPreemptionTimer:
        return params.preemption_timer;
    case Parameter::kEpt:
        return params.ept;
    case Parameter::kVpid:
        return params.vpid;
    case Parameter::kUnrestrictedGuest:
        return params.unrestricted_guest;
    case Parameter::kFlexpriority:
        return params.flexpriority;
    case Parameter::kApicv:
        return params.enable_apicv;
    case Parameter::kEptad:
        return params.eptad;
    case Parameter::kPml:
        return params.pml;
    case Parameter::kPleGap:
        return params.ple_gap != 0;
    }
    return true;
}

/// SDM Vol. 3C, 24.6 and 24.7. Like kvm_intel this only looks: a kernel with VMX support has set
/// and locked IA32_FEATURE_CONTROL at boot if the firmware left that to it.
Status check_vmx_support(const HostDesc &host, SetupLog &log)
{
    log.error.clear();
    if (!host.has_vmx) {
        log.error.put("no VMX on CPU ", host.cpu, " (", host.vendor,
                      "): CPUID.1:ECX bit 5 is 0. It needs an Intel CPU with VT-x; in a virtual "
                      "machine, one whose hypervisor offers nested virtualization");
        return unsupported(log);
    }
    const FeatureControl control{host.msr[MSR_IA32_FEATURE_CONTROL]};
    const bool allowed = host.in_smx ? control.vmx_in_smx() : control.vmx_outside_smx();
    if (control.locked() && allowed) {
        if (host.kernel_uses_vmx)
            return Status::success();
        log.error.put("the kernel does not use VMX on CPU ", host.cpu,
                      " although IA32_FEATURE_CONTROL (0x3a) is ", hex(control.raw),
                      ": it was booted with clearcpuid=vmx, or measured (TXT), which needs bit 1. "
                      "Boot it without");
        return unsupported(log);
    }
    log.error.put("VMX disabled by firmware on CPU ", host.cpu, ": IA32_FEATURE_CONTROL (0x3a)");
    if (!host.msr.present(MSR_IA32_FEATURE_CONTROL)) {
        log.error.put(" can't be read");
    } else {
        log.error.put(" is ", hex(control.raw));
        if (control.locked())
            log.error.put(", locked with bit ", host.in_smx ? 1 : 2, " (VMX ",
                          host.in_smx ? "inside" : "outside", " SMX) 0");
        else
            log.error.put(", and neither firmware nor kernel has locked it with VMX enabled");
    }
    log.error.put(". Enable VT-x in the firmware's setup");
    return unsupported(log);
}

Status vmx_in_use(u32 cpu, const char *owner, Sentence &why)
{
    why.clear();
    why.put("VMX is in use by another hypervisor: CR4.VMXE is set on CPU ", cpu);
    if (owner != nullptr)
        why.put("; stop its virtual machines, then: modprobe -r ", owner);
    else
        why.put("; stop it and unload its module first");
    return Status::failure(Errno::kBusy, why.c_str());
}

Status hardware_setup(const HostDesc &host, Parameters &params, Hardware &hardware, SetupLog &log)
{
    hardware = Hardware{};
    hardware.host = host;
    hardware.asked = params;
    hardware.params = params;

    if (Status status = check_vmx_support(host, log); status.failed())
        return status;
    Status status = setup_vmcs_config(host, params, hardware.config, hardware.capability, log);
    if (status.failed())
        return status;

    hardware.preemption_timer_shift = VmxMisc{hardware.config.misc}.preemption_timer_shift();
    reconcile_parameters(hardware, log);

    if (!hardware.params.ept && !host.has_nx) {
        log.error.put("this CPU has no execute-disable (NX), which guests need without EPT");
        return unsupported(log);
    }
    params = hardware.params;
    return Status::success();
}

} // namespace minivmx
