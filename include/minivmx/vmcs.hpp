// SPDX-License-Identifier: GPL-2.0-only
// A VMCS in memory, the CPU it is loaded on, access to the current one's fields, and the shadows of
// its control words.
#pragma once

#include <minivmx/arch.hpp>
#include <minivmx/controls.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vmcs_field.hpp>

namespace minivmx {

struct vcpu_vmx;

// The control words as the VMCS holds them, so that reading them costs no VMREAD and writing an
// unchanged one no VMWRITE.
struct controls_shadow {
    u32 vm_entry;
    u32 vm_exit;
    u32 pin;
    u32 exec;
    u32 secondary_exec;
    u64 tertiary_exec;
};

// Host state fields that change between entries; written only when they differ.
struct vmcs_host_state {
    u64 cr3, cr4, fs_base, gs_base;
    u16 fs_sel, gs_sel;
};

inline constexpr u32 kNoCpu = ~0u;

struct loaded_vmcs {
    void *vmcs; // one page of host_page_alloc()
    u64 phys;
    u32 cpu; // where it was loaded last and not cleared since, or kNoCpu
    controls_shadow shadow;
    vmcs_host_state host_state;
    loaded_vmcs *next; // the list of its CPU; changed only on that CPU with interrupts off
    vcpu_vmx *owner;
};

// A VMREAD or VMWRITE of the core's own tables can only fail by a bug or outside VMX operation:
// told once in the log, with the reason that trying again gives.
void report_vmcs_read_failure(u32 encoding);
void report_vmcs_write_failure(u32 encoding, u64 value);

template <VmcsWidth width, class Value>
inline Value vmcs_read(VmcsField<width, Value> field)
{
    u64 value;
    if (!arch::vmread_succeeds(field.encoding, value)) [[unlikely]]
        report_vmcs_read_failure(field.encoding);
    return static_cast<Value>(value);
}

template <VmcsWidth width, class Value>
inline void vmcs_write(VmcsField<width, Value> field,
                       typename VmcsField<width, Value>::value_type value)
{
    if (!arch::vmwrite_succeeds(field.encoding, value)) [[unlikely]]
        report_vmcs_write_failure(field.encoding, value);
}

// One entry a possible CPU; before any other function here. 0 or -ENOMEM. [sleep]
int cpu_table_alloc();
void cpu_table_free();

// Makes the vCPU's VMCS current on this CPU, which is `cpu`; VMCLEARs it elsewhere first. [atomic,
// interrupts on]
void vmx_vcpu_load(vcpu_vmx &vmx, u32 cpu);
// Every cached translation of every guest on this CPU. [atomic], in VMX operation
void flush_all_contexts();
// VMCLEARs v wherever it is loaded, so that it may be loaded on another CPU or freed. [sleep]
void loaded_vmcs_clear(loaded_vmcs &v);
// Every VMCS loaded on this CPU, before it leaves VMX operation. [irqoff]
void vmclear_local_loaded_vmcss();

// Means: this vCPU's VMCS is current on this CPU and stays so, since preemption is off. Nothing may
// sleep while it lives.
class LoadedVmcsGuard {
  public:
    explicit LoadedVmcsGuard(vcpu_vmx &vmx);
    ~LoadedVmcsGuard();
    LoadedVmcsGuard(const LoadedVmcsGuard &) = delete;
    LoadedVmcsGuard &operator=(const LoadedVmcsGuard &) = delete;
};

} // namespace minivmx
