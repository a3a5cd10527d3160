// SPDX-License-Identifier: GPL-2.0-only
// A virtual machine: guest memory, its EPT tables, and the choices made for it as a whole.
#pragma once

#include <linux/errno.h>

#include <minivmx/ept.hpp>
#include <minivmx/host.h>
#include <minivmx/memslot.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm : core_vm {
    host_vm *host;
    MemSlots slots;
    Ept ept;
    u64 tss_addr;
    u64 identity_map_addr;
    // KVM_CAP_X86_DISABLE_EXITS, before the first vCPU exists.
    bool mwait_in_guest;
    bool hlt_in_guest;
    bool pause_in_guest;
    bool cstate_in_guest;
    u32 created_vcpus;
    // All vCPUs of a VM count time from the moment its first one was created.
    bool tsc_started;
    u64 tsc_offset;
};

inline kvm_vm &to_kvm(core_vm *vm)
{
    return *static_cast<kvm_vm *>(vm);
}

} // namespace minivmx
