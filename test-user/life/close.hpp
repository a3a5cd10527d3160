// SPDX-License-Identifier: GPL-2.0-only
#pragma once

namespace life {

// Ends a VM's four holds on the module (device, VM, vCPU, the vCPU's mapping) in each of the 24
// orders, and runs the guest as long as its vCPU is open. One test line for each order; returns the
// program's status.
int close_in_every_order(const char *device);

} // namespace life
