// SPDX-License-Identifier: GPL-2.0-only
//
// The whole core as one translation unit: the only C++ object of minivmx.ko. Two objects sharing an
// inline function can't be linked into a module (their __mcount_loc entries would point into
// discarded sections). Userspace builds may compile the files one by one.
#include "capability/compatibility.cc"
#include "capability/controls.cc"
#include "capability/hardware.cc"
#include "capability/hardware_setup.cc"
#include "capability/host_desc.cc"
#include "capability/report.cc"
#include "capability/rules.cc"
#include "capability/setup_vmcs_config.cc"
#include "capability/vmx_msr.cc"
#include "run/debug_registers.cc"
#include "run/events.cc"
#include "run/exceptions.cc"
#include "run/exit_dispatch.cc"
#include "run/run.cc"
#include "vm.cc"
#include "vmcs/controls.cc"
#include "vmcs/dump.cc"
#include "vmcs/loaded_vmcs.cc"
#include "vmcs/setup.cc"
#include "vmcs/vpid.cc"
