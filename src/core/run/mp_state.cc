// SPDX-License-Identifier: GPL-2.0-only
// Whether a vCPU runs, sleeps or waits for another one to start it.
#include <minivmx/run.hpp>

using namespace minivmx;

extern "C" {

bool core_vcpu_runnable(core_vcpu *)
{
    return true;
}

} // extern "C"
