// SPDX-License-Identifier: GPL-2.0-only
// Instructions that exit by themselves, or may: CPUID, RDTSC, RDTSCP, RDPMC, PAUSE. The handlers of
// their exits carry them out, after the checks that the CPU makes before an exit.
#include <minivmx/run.hpp>
#include <minivmx/state.hpp>

#include "emulator.hpp"

namespace minivmx {

namespace {

// SDM Vol. 2B, "RDTSC", "RDTSCP".
Outcome read_time(Emulation &e)
{
    const bool with_processor_id = e.insn().operation == Operation::kRdtscp;
    if (with_processor_id && !e.vmx.cpuid.has(CpuidFeature::kRdtscp)) {
        inject_ud(e.vmx);
        return Outcome::resume();
    }
    if (guest_cr4(e.vmx) & X86_CR4_TSD && e.state.protected_mode && guest_cpl(e.vmx) > 0) {
        inject_gp(e.vmx);
        return Outcome::resume();
    }
    return handle_rdtsc(e.vmx, with_processor_id);
}

} // namespace

void execute_processor(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kCpuid:
        e.outcome = handle_cpuid(e.vmx);
        break;
    case Operation::kRdtsc:
    case Operation::kRdtscp:
        e.outcome = read_time(e);
        break;
    case Operation::kRdpmc:
        e.outcome = handle_rdpmc(e.vmx);
        break;
    default: // kPause
        e.outcome = handle_pause(e.vmx);
        break;
    }
}

} // namespace minivmx
