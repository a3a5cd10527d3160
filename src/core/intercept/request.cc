// SPDX-License-Identifier: GPL-2.0-only
// MINIVMX_SET_INTERCEPTS: what is refused, and how the rest gets into the VMCS.
#include <minivmx/capabilities.hpp>
#include <minivmx/control_shadow.hpp>
#include <minivmx/intercept.hpp>
#include <minivmx/intercept_controls.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

bool can_intercept(const Hardware &hw, u64 intercepts)
{
    for (const InterceptControl &row : kInterceptControls) {
        if (!(row.intercept & intercepts))
            continue;
        // Negotiation takes away controls that it has no use for: here it is the CPU that counts.
        if (row.field == ControlField::kSecondary && !cpu_has_secondary_exec_ctrls(hw.config))
            return false;
        if (row.bits & ~allowed_settings(hw.host.msr, row.field).allowed1)
            return false;
    }
    // SDM Vol. 3C, 27.2.1.1: only with virtual NMIs.
    return !(intercepts & MINIVMX_INTERCEPT_NMI_WINDOW) ||
           (hw.params.vnmi && cpu_has_virtual_nmis(hw.config));
}

namespace {

template <class Range>
bool overlap(const Range &a, const Range &b)
{
    return a.first <= b.last && b.first <= a.last;
}

bool are_valid_ranges(const minivmx_port_range *ports, u32 count)
{
    for (u32 i = 0; i < count; i++) {
        if (ports[i].first > ports[i].last || ports[i].pad)
            return false;
        for (u32 j = 0; j < i; j++)
            if (overlap(ports[i], ports[j]))
                return false;
    }
    return true;
}

bool are_valid_ranges(const minivmx_msr_range *msrs, u32 count)
{
    constexpr u32 kFlags = MINIVMX_MSR_READ | MINIVMX_MSR_WRITE;
    for (u32 i = 0; i < count; i++) {
        if (msrs[i].first > msrs[i].last || msrs[i].pad || !msrs[i].flags ||
            msrs[i].flags & ~kFlags)
            return false;
        for (u32 j = 0; j < i; j++)
            if (msrs[i].flags & msrs[j].flags && overlap(msrs[i], msrs[j]))
                return false;
    }
    return true;
}

bool is_well_formed(const minivmx_intercepts &asked)
{
    for (const __u64 reserved : asked.reserved)
        if (reserved)
            return false;
    return !(asked.controls & ~MINIVMX_INTERCEPT_ALL) &&
           !(asked.exceptions & ~MINIVMX_INTERCEPT_EXCEPTIONS) && !asked.pad &&
           asked.port_count <= MINIVMX_MAX_INTERCEPT_RANGES &&
           asked.msr_count <= MINIVMX_MAX_INTERCEPT_RANGES;
}

bool asks_for_nothing(const minivmx_intercepts &asked)
{
    return !asked.controls && !asked.exceptions && !asked.port_count && !asked.msr_count;
}

void free_request(Intercepts *intercepts)
{
    if (!intercepts)
        return;
    host_page_free(intercepts->io_bitmap);
    host_free(intercepts);
}

// Every port has an exit already, since none is the guest's own. So the bitmaps (SDM Vol. 3C,
// 25.6.4) have all bits set, and one page does for both; which exits are the client's is told apart
// afterwards.
void *make_io_bitmap()
{
    u64 *words = static_cast<u64 *>(host_page_alloc());
    for (u32 i = 0; words && i < kPageSize / sizeof(u64); i++)
        words[i] = ~u64{0};
    return words;
}

bool has_io_bitmaps()
{
    return (allowed_settings(hardware.host.msr, ControlField::kPrimary).allowed1 &
            CPU_BASED_USE_IO_BITMAPS) != 0;
}

// Null: there is no memory.
Intercepts *make_request(const minivmx_intercepts &asked, const minivmx_port_range *ports,
                         const minivmx_msr_range *msrs)
{
    auto *fresh = static_cast<Intercepts *>(host_zalloc(sizeof(Intercepts)));
    if (!fresh)
        return nullptr;
    fresh->exceptions = asked.exceptions;
    fresh->port_count = asked.port_count;
    fresh->msr_count = asked.msr_count;
    for (u32 i = 0; i < asked.port_count; i++)
        fresh->ports[i] = ports[i];
    for (u32 i = 0; i < asked.msr_count; i++)
        fresh->msrs[i] = msrs[i];
    if (asked.port_count && has_io_bitmaps()) {
        fresh->io_bitmap = make_io_bitmap();
        if (!fresh->io_bitmap) {
            free_request(fresh);
            return nullptr;
        }
    }
    return fresh;
}

void use_request(vcpu_vmx &vmx, u64 controls, Intercepts *fresh)
{
    // Whether CR3 is in the VMCS or in the vCPU may change with the words: it is read as it was.
    (void)guest_cr3(vmx);
    Intercepts *old = vmx.intercepts;
    vmx.intercepts = fresh;
    vmx.intercepted_controls = controls;
    vmx.intercepts_ports = fresh && fresh->io_bitmap;
    if (vmx.pending_intercept.kind == InterceptWait::kNativeStep)
        vmx.pending_intercept = {}; // begins anew
    if (fresh && fresh->io_bitmap) {
        vmcs_write(IO_BITMAP_A, host_page_phys(fresh->io_bitmap));
        vmcs_write(IO_BITMAP_B, host_page_phys(fresh->io_bitmap));
    }
    update_exec_controls(vmx);
    vmx_update_exception_bitmap(vmx);
    update_cr_guest_host_masks(vmx);
    if (vmx.msr_bitmap)
        init_msr_bitmap(vmx);
    free_request(old);
}

bool in_ranges(const minivmx_port_range *ports, u32 count, u32 first, u32 last)
{
    for (u32 i = 0; i < count; i++)
        if (ports[i].first <= last && first <= ports[i].last)
            return true;
    return false;
}

} // namespace

u32 intercepted_exceptions(const vcpu_vmx &vmx)
{
    return vmx.intercepts ? vmx.intercepts->exceptions : 0;
}

bool intercepts_port(const vcpu_vmx &vmx, u16 port, u8 size)
{
    const Intercepts *asked = vmx.intercepts;
    // Any of the ports that a wide access touches counts, as in the bitmaps: SDM Vol. 3C, 26.1.3.
    return asked && in_ranges(asked->ports, asked->port_count, port, u32{port} + size - 1);
}

bool intercepts_msr(const vcpu_vmx &vmx, u32 msr, u32 access)
{
    const Intercepts *asked = vmx.intercepts;
    for (u32 i = 0; asked && i < asked->msr_count; i++) {
        const minivmx_msr_range &range = asked->msrs[i];
        if (range.first <= msr && msr <= range.last && range.flags & access)
            return true;
    }
    return false;
}

void free_intercepts(vcpu_vmx &vmx)
{
    free_request(vmx.intercepts);
    vmx.intercepts = nullptr;
}

} // namespace minivmx

using namespace minivmx;

extern "C" int core_set_intercepts(core_vcpu *vcpu, const minivmx_intercepts *asked,
                                   const minivmx_port_range *ports, const minivmx_msr_range *msrs)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (!is_well_formed(*asked) || !are_valid_ranges(ports, asked->port_count) ||
        !are_valid_ranges(msrs, asked->msr_count))
        return -EINVAL;
    if (!can_intercept(hardware, asked->controls))
        return -EOPNOTSUPP;
    Intercepts *fresh = nullptr;
    if (!asks_for_nothing(*asked)) {
        fresh = make_request(*asked, ports, msrs);
        if (!fresh)
            return -ENOMEM;
    }
    use_request(vmx, asked->controls, fresh);
    return 0;
}
