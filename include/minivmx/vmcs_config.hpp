// SPDX-License-Identifier: GPL-2.0-only
//
// Module initialisation: what this CPU's VMX can do, negotiated once and the same for every vCPU.
//
//   hardware_setup()
//     check_vmx_support()         is there VMX, and does the firmware let us use it
//     setup_vmcs_config()         MSRs -> the five control words
//       adjust_vmx_controls()     required | optional, against allowed-0 and allowed-1
//     reconcile parameters        what the hardware lacks reads back as off
//
// All of it works on plain data, has no side effect and does not sleep.
#pragma once

#include <minivmx/host.h>
#include <minivmx/host_desc.hpp>
#include <minivmx/result.hpp>
#include <minivmx/rules.hpp>
#include <minivmx/text.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

/// What was negotiated. Member names are the document's.
struct vmcs_config {
    u32 size = 0;        ///< bytes of a VMCS
    u32 order = 0;       ///< log2 of the pages it takes
    u32 basic_cap = 0;   ///< high half of IA32_VMX_BASIC without the size
    u32 revision_id = 0; ///< what a VMCS and a VMXON region begin with
    u32 pin_based_exec_ctrl = 0;
    u32 cpu_based_exec_ctrl = 0;
    u32 cpu_based_2nd_exec_ctrl = 0;
    u32 vmexit_ctrl = 0;
    u32 vmentry_ctrl = 0;
    u64 cpu_based_3rd_exec_ctrl = 0;
    u64 misc = 0; ///< IA32_VMX_MISC

    /// The word by field; 0 for the secondary VM-exit controls, which are never activated.
    u64 control(ControlField field) const;
};

/// The halves of IA32_VMX_EPT_VPID_CAP, 0 where the control behind them is missing.
struct vmx_capability {
    u32 ept = 0;
    u32 vpid = 0;

    EptCapability ept_cap() const { return EptCapability{ept}; }
    VpidCapability vpid_cap() const { return VpidCapability{vpid}; }
};

/// The module's parameters under kvm_intel's names.
using Parameters = core_params;
/// kvm_intel's defaults, and report=1.
constexpr Parameters default_parameters()
{
    Parameters p{};
    p.vnmi = p.preemption_timer = p.ept = p.eptad = p.vpid = true;
    p.unrestricted_guest = p.flexpriority = p.pml = p.enable_apicv = true;
    p.emulate_invalid_guest_state = p.error_on_inconsistent_vmcs_config = true;
    p.dump_invalid_vmcs = false;
    p.ple_gap = 128;
    p.ple_window = 4096;
    p.report = 1;
    return p;
}
/// Whether the parameter is on; ple_gap counts as on when it is not 0. kNone is always on.
bool parameter_on(const Parameters &params, Parameter parameter);

/// What negotiation says besides its result.
struct SetupLog {
    Sentence error;                  ///< why it failed; Status::why() points here
    LineSink warnings;               ///< inconsistencies and corrections, one line each
    const RuleSink *rules = nullptr; ///< every step that set or cleared control bits
};

/// Everything the module knows after hardware_setup().
struct Hardware {
    HostDesc host;
    core_host_info info{}; ///< what else the host kernel told, as it is
    vmcs_config config;
    vmx_capability capability;
    Parameters asked{};  ///< as given
    Parameters params{}; ///< as they came out
    /// For each Parameter that was asked for but came out off: why. Else nullptr.
    const char *why_off[kParameterCount] = {};
    u32 preemption_timer_shift = 0; ///< the timer ticks every 2^n TSC ticks
};

/// VMX present and usable on this CPU? -EOPNOTSUPP and a sentence if not, as kvm_intel.
Status check_vmx_support(const HostDesc &host, SetupLog &log);

/// The sentence and errno (-EBUSY) for a CPU whose CR4.VMXE is set by somebody else. `owner` names
/// the module if it is known, else nullptr.
Status vmx_in_use(u32 cpu, const char *owner, Sentence &why);

/// The document's setup_vmcs_config(). -EIO and a sentence when this CPU lacks something required
/// or contradicts itself.
Status setup_vmcs_config(const HostDesc &host, const Parameters &params, vmcs_config &conf,
                         vmx_capability &cap, SetupLog &log);

/// One control word: ctl_min and what there is of ctl_opt, with all bits that must be 1. Fails
/// (-EIO) when a bit of ctl_min is not to be had. `msr` is the word's capability MSR.
Status adjust_vmx_controls(const HostDesc &host, u32 ctl_min, u32 ctl_opt, u32 msr,
                           ControlWord &result, SetupLog &log);

/// Module load: checks, negotiates and reconciles `params`, which come out as they will read back.
Status hardware_setup(const HostDesc &host, Parameters &params, Hardware &hardware, SetupLog &log);

/// Does this CPU offer what `reference` was set up from? -EIO and a sentence that names both CPUs,
/// the word and the differing bits if not.
Status check_processor_compatibility(const Hardware &reference, const HostDesc &host,
                                     SetupLog &log);

} // namespace minivmx
