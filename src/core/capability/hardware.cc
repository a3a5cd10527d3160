// SPDX-License-Identifier: GPL-2.0-only
//
// The module's side of initialisation: runs the negotiation for the CPU this is on, prints what
// came out, and keeps it.
#include <minivmx/cpuid.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/report.hpp>
#include <minivmx/vmcs.hpp>

namespace minivmx {

constinit Hardware hardware;

namespace {
/// The host's own, which it may change later; null before the module is set up.
constinit const core_params *live_params = nullptr;
} // namespace

bool dump_invalid_vmcs()
{
    return live_params != nullptr &&
           __atomic_load_n(&live_params->dump_invalid_vmcs, __ATOMIC_RELAXED);
}

namespace {

void log_warning_line(void *, const char *line)
{
    host_log(HOST_LOG_WARNING, line);
}

void log_info_line(void *, const char *line)
{
    host_log(HOST_LOG_INFO, line);
}

/// CPUID and MSRs of the CPU this runs on, with what only the kernel knows. [atomic]
void describe_this_cpu(const core_host_info &info, HostDesc &host)
{
    describe_cpu(this_cpu_msr_reader(), host);
    host.cpu = host_cpu();
    host.tsc_khz = info.tsc_khz;
    host.enlightened_vmcs = info.hyperv_evmcs;
    host.kernel_uses_vmx = info.uses_vmx;
    // Only the kernel knows of a measured launch, and keeps it to itself; but if it uses VMX
    // although that is not allowed outside SMX, it can only be inside.
    const FeatureControl control{host.msr[MSR_IA32_FEATURE_CONTROL]};
    host.in_smx = info.uses_vmx && control.vmx_in_smx() && !control.vmx_outside_smx();
}

ReportLevel report_level(u32 parameter)
{
    if (parameter >= static_cast<u32>(ReportLevel::kEveryBit))
        return ReportLevel::kEveryBit;
    return static_cast<ReportLevel>(parameter);
}

} // namespace

} // namespace minivmx

using namespace minivmx;

int core_hardware_setup(core_params *params, const core_host_info *info)
{
    HostDesc host;
    host_preempt_disable();
    describe_this_cpu(*info, host);
    host_preempt_enable();

    SetupLog log;
    log.warnings = LineSink{log_warning_line, nullptr};
    if (Status status = hardware_setup(host, *params, hardware, log); status.failed()) {
        host_log(HOST_LOG_ERROR, status.why());
        return status.code();
    }
    hardware.info = *info;
    live_params = params;
    init_supported_cpuid();
    print_report(hardware, report_level(params->report), LineSink{log_info_line, nullptr});
    return cpu_table_alloc();
}

void core_hardware_unsetup()
{
    cpu_table_free();
}

int core_check_processor_compatibility()
{
    HostDesc host;
    describe_this_cpu(hardware.info, host);
    SetupLog log;
    Status status = check_processor_compatibility(hardware, host, log);
    if (status.failed())
        host_log(HOST_LOG_ERROR, status.why());
    return status.code();
}

// The revision identifier is the first thing in a VMXON region and in a VMCS; bit 31 stays 0 (it
// would mean a shadow VMCS). SDM Vol. 3C, 25.2 and 25.11.5.
void core_init_vmx_region(void *page)
{
    *static_cast<u32 *>(page) = hardware.config.revision_id;
}
