// SPDX-License-Identifier: GPL-2.0-only
// CR0, CR3, CR4 and CR8 of the guest.
//
// The VMCS has two values of CR0 and CR4 each: what the CPU runs with, and the read shadow. A bit
// of the guest/host mask says whose a bit is. Where the mask has 0 the guest owns the bit: it reads
// and writes the CPU's. Where it has 1 the guest reads the shadow, and a write that differs from it
// exits. SDM Vol. 3C, 25.6.6.
#include <minivmx/control_shadow.hpp>
#include <minivmx/guest_memory.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/intercept_controls.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/private_pages.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

constexpr u64 kCr0Defined = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET |
                            X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD |
                            X86_CR0_PG;
constexpr u64 kCr4Defined = X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE |
                            X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR |
                            X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_LA57 | X86_CR4_VMXE |
                            X86_CR4_FSGSBASE | X86_CR4_PCIDE | X86_CR4_OSXSAVE | X86_CR4_SMEP |
                            X86_CR4_SMAP | X86_CR4_PKE;

// What the guest may own: bits whose change concerns nobody else.
constexpr u64 KVM_POSSIBLE_CR0_GUEST_BITS = X86_CR0_TS | X86_CR0_WP;
constexpr u64 KVM_POSSIBLE_CR4_GUEST_BITS = X86_CR4_PVI | X86_CR4_DE | X86_CR4_PCE |
                                            X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_PGE |
                                            X86_CR4_TSD | X86_CR4_FSGSBASE;

// Writes that load the page-directory-pointer entries in PAE paging: SDM Vol. 3A, 4.4.1.
constexpr u64 kCr0PdptrBits = X86_CR0_CD | X86_CR0_NW | X86_CR0_PG;
constexpr u64 kCr4PdptrBits = X86_CR4_PGE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_SMEP;
// Writes that invalidate translations: SDM Vol. 3A, 4.10.4.1.
constexpr u64 kCr4TlbBits = X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_PAE | X86_CR4_SMEP;

// What shadow tables depend on.
constexpr u64 kCr4ShadowBits = X86_CR4_PAE | X86_CR4_PSE | X86_CR4_SMEP | X86_CR4_SMAP;

constexpr u64 kCr3NoFlush = bit64(63), kCr3PcidMask = 0xfff;
constexpr u64 kCr8Mask = 0xf;
constexpr u32 kCr3Exiting = CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING;

// A CR4 bit that a CPUID feature brings along is reserved without it.
struct Cr4Feature {
    u64 bit;
    CpuidFeature feature;
};
constexpr Cr4Feature kCr4Features[] = {
    {X86_CR4_OSXSAVE, CpuidFeature::kXsave}, {X86_CR4_SMEP, CpuidFeature::kSmep},
    {X86_CR4_SMAP, CpuidFeature::kSmap},     {X86_CR4_FSGSBASE, CpuidFeature::kFsgsbase},
    {X86_CR4_PKE, CpuidFeature::kPku},       {X86_CR4_LA57, CpuidFeature::kLa57},
    {X86_CR4_UMIP, CpuidFeature::kUmip},     {X86_CR4_PCIDE, CpuidFeature::kPcid},
};

// Bits 31:0 of IA32_VMX_CR0_FIXED0 and CR4_FIXED0 that must be 1 in VMX operation: SDM Vol.
// 3C, 24.8. "Unrestricted guest" frees PE and PG.
u64 cr0_always_on()
{
    const u64 fixed = hardware.host.msr[MSR_IA32_VMX_CR0_FIXED0];
    return hardware.params.unrestricted_guest ? fixed & ~(X86_CR0_PE | X86_CR0_PG) : fixed;
}

u64 cr4_always_on(const vcpu_vmx &vmx)
{
    u64 on = hardware.host.msr[MSR_IA32_VMX_CR4_FIXED0];
    if (!hardware.params.unrestricted_guest)
        on |= X86_CR4_PAE; // both kinds of tables that stand in for the guest's are PAE's
    if (vmx.vm86_active)
        on |= X86_CR4_VME;
    return on;
}

u64 hardware_cr0(u64 cr0)
{
    // CD and NW would disable the caches for everybody.
    u64 value = (cr0 & ~(X86_CR0_CD | X86_CR0_NW)) | cr0_always_on();
    // In virtual-8086 mode, which stands in for real mode then, alignment checks would be on.
    if (!hardware.params.unrestricted_guest && !(cr0 & X86_CR0_PE))
        value &= ~X86_CR0_AM;
    if (!hardware.params.ept)
        value |= X86_CR0_WP; // shadow pages are write-protected against the guest's kernel, too
    return value;
}

u64 hardware_cr4(vcpu_vmx &vmx, u64 cr4)
{
    // Machine checks are the host's business.
    u64 value = (cr4 & ~X86_CR4_MCE) | (hardware.info.cr4 & X86_CR4_MCE) | cr4_always_on(vmx);
    if (umip_is_emulated())
        value &= ~X86_CR4_UMIP;
    // One set of shadow tables serves all PCIDs, and they tag nothing: CR3 is ours.
    if (!hardware.params.ept)
        value &= ~X86_CR4_PCIDE;
    if (hardware.params.unrestricted_guest)
        return value;
    // The CPU's paging is never off: take away what only paging gives a meaning, and what the
    // guest's own tables lack.
    if (!is_paging(vmx))
        value &= ~(X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE);
    if (hardware.params.ept && !is_paging(vmx))
        value = (value & ~X86_CR4_PAE) | X86_CR4_PSE; // the identity map has 4-MiB pages
    else if (hardware.params.ept && !(cr4 & X86_CR4_PAE))
        value &= ~X86_CR4_PAE;
    return value;
}

bool cr3_loads_exit(const vcpu_vmx &vmx)
{
    return (exec_controls_get(vmx.vmcs01) & CPU_BASED_CR3_LOAD_EXITING) != 0;
}

// Without EPT the CPU's CR3 points to shadow tables instead, which are not the guest's.
void write_hardware_cr3(vcpu_vmx &vmx)
{
    if (!hardware.params.ept)
        return;
    if (hardware.params.unrestricted_guest || is_paging(vmx))
        vmcs_write(GUEST_CR3, vmx.cr3);
    else
        vmcs_write(GUEST_CR3, identity_map_address(*vmx.kvm));
}

void write_cr3(vcpu_vmx &vmx, u64 cr3)
{
    vmx.cr3 = cr3;
    vmx.state_available |= kStateCr3;
    vmx.shadow_root_stale = true;
    write_hardware_cr3(vmx);
}

void write_cr4(vcpu_vmx &vmx, u64 cr4)
{
    const u64 changed = vmx.cr4 ^ cr4;
    vmx.cr4 = cr4;
    vmx.state_available |= kStateCr4;
    vmcs_write(CR4_READ_SHADOW, cr4);
    vmcs_write(GUEST_CR4, hardware_cr4(vmx, cr4));
    if (changed & X86_CR4_UMIP && umip_is_emulated())
        update_secondary_exec_control(vmx);
    if (changed & (X86_CR4_OSXSAVE | X86_CR4_PKE))
        update_cpuid_runtime(vmx);
    if (changed & kCr4ShadowBits && !hardware.params.ept)
        paging_mode_changed(vmx);
}

void write_cr0(vcpu_vmx &vmx, u64 cr0);

// SDM Vol. 3A, 10.8.5: setting CR0.PG with EFER.LME enters IA-32e mode, clearing it leaves it;
// EFER.LMA follows.
void enter_long_mode(vcpu_vmx &vmx)
{
    // VM entry wants a 64-bit TSS (SDM Vol. 3C, 27.3.1.2); the CPU keeps the 32-bit one until the
    // next LTR.
    const u32 rights = segment_rights(vmx, kTr);
    if ((rights & AR_TYPE_MASK) != AR_TYPE_BUSY_TSS)
        write_segment_rights(vmx, kTr, (rights & ~AR_TYPE_MASK) | AR_TYPE_BUSY_TSS);
    write_efer(vmx, vmx.efer | EFER_LMA);
}

// Without "unrestricted guest" CR0.PE is on all the same; real mode has to run as virtual-8086
// mode.
// Returns whether it did anything; then CR4 has to be written, too.
bool update_vm86(vcpu_vmx &vmx, u64 cr0)
{
    const bool vm86 = !hardware.params.unrestricted_guest && !(cr0 & X86_CR0_PE);
    if (vm86 == vmx.vm86_active)
        return false;
    if (vm86)
        enter_virtual_8086(vmx);
    else
        leave_virtual_8086(vmx);
    return true;
}

// On the identity map the guest's CR3 is only ours.
void update_cr3_exiting(vcpu_vmx &vmx)
{
    if (!hardware.params.ept || hardware.params.unrestricted_guest)
        return;
    (void)guest_cr3(vmx); // while it still can be read
    const u32 primary = exec_controls_get(vmx.vmcs01) & ~kCr3Exiting;
    const u32 intercepted =
        intercept_bits(vmx.intercepted_controls, ControlField::kPrimary, InterceptEffect::kSets);
    exec_controls_set(vmx.vmcs01,
                      primary | (is_paging(vmx) ? intercepted & kCr3Exiting : kCr3Exiting));
    write_cr4(vmx, guest_cr4(vmx));
    write_hardware_cr3(vmx);
}

void write_cr0(vcpu_vmx &vmx, u64 cr0)
{
    const u64 was = guest_cr0(vmx);
    const bool was_paging = (was & X86_CR0_PG) != 0;
    const bool paging = (cr0 & X86_CR0_PG) != 0;

    const bool vm86_changed = update_vm86(vmx, cr0);
    vmcs_write(CR0_READ_SHADOW, cr0);
    vmcs_write(GUEST_CR0, hardware_cr0(cr0));
    vmx.cr0 = cr0;
    vmx.state_available |= kStateCr0;
    if (vmx.efer & EFER_LME && !was_paging && paging)
        enter_long_mode(vmx);
    else if (vmx.efer & EFER_LME && was_paging && !paging)
        write_efer(vmx, vmx.efer & ~EFER_LMA);
    update_cr3_exiting(vmx);
    if (vm86_changed)
        write_cr4(vmx, guest_cr4(vmx));
    if ((was ^ cr0) & (X86_CR0_PG | X86_CR0_WP) && !hardware.params.ept)
        paging_mode_changed(vmx);
    if (was_paging != paging)
        forget_guest_translations(vmx);
}

// Bits that must be 0 in a present entry: SDM Vol. 3A, 4.4.1, table 4-8.
u64 pdptr_reserved_bits(const vcpu_vmx &vmx)
{
    constexpr u64 kAlways = 0x1e6; // 2:1 and 8:5
    return kAlways | illegal_gpa_bits(vmx);
}

u64 reserved_cr4_bits(const Cpuid &cpuid)
{
    u64 reserved = X86_CR4_VMXE; // no guest is told of VMX
    for (const Cr4Feature &row : kCr4Features)
        if (!cpuid.has(row.feature))
            reserved |= row.bit;
    return reserved;
}

u64 unsupported_cr4_bits()
{
    u64 unsupported = ~kCr4Defined | X86_CR4_VMXE;
    for (const Cr4Feature &row : kCr4Features)
        if (!supports(row.feature))
            unsupported |= row.bit;
    return unsupported;
}

} // namespace

bool runs_on_identity_map(vcpu_vmx &vmx)
{
    return hardware.params.ept && !hardware.params.unrestricted_guest && !is_paging(vmx);
}

bool is_pae_paging(vcpu_vmx &vmx)
{
    return is_paging(vmx) && (guest_cr4(vmx) & X86_CR4_PAE) != 0 && !is_long_mode(vmx);
}

// With EPT the CPU keeps them, and the guest's MOV to CR3 loads them without an exit.
u64 guest_pdptr(vcpu_vmx &vmx, u32 index)
{
    return hardware.params.ept ? vmcs_read(GUEST_PDPTR0 + index) : vmx.pdptrs[index];
}

void write_pdptr(vcpu_vmx &vmx, u32 index, u64 value)
{
    vmx.pdptrs[index] = value;
    vmx.shadow_root_stale = true;
    if (hardware.params.ept)
        vmcs_write(GUEST_PDPTR0 + index, value);
}

u64 guest_cr0(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateCr0)) {
        const u64 owned = vmx.cr0_guest_owned_bits;
        vmx.cr0 = (vmx.cr0 & ~owned) | (vmcs_read(GUEST_CR0) & owned);
        vmx.state_available |= kStateCr0;
    }
    return vmx.cr0;
}

u64 guest_cr3(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateCr3)) {
        if (!cr3_loads_exit(vmx))
            vmx.cr3 = vmcs_read(GUEST_CR3);
        vmx.state_available |= kStateCr3;
    }
    return vmx.cr3;
}

u64 guest_cr4(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateCr4)) {
        const u64 owned = vmx.cr4_guest_owned_bits;
        vmx.cr4 = (vmx.cr4 & ~owned) | (vmcs_read(GUEST_CR4) & owned);
        vmx.state_available |= kStateCr4;
    }
    return vmx.cr4;
}

void set_cr_guest_host_masks(vcpu_vmx &vmx)
{
    vmx.cr0_guest_owned_bits = KVM_POSSIBLE_CR0_GUEST_BITS;
    vmx.cr4_guest_owned_bits = KVM_POSSIBLE_CR4_GUEST_BITS & ~vmx.cr4_reserved_bits;
    if (!hardware.params.ept) {
        // Shadow tables are made for one setting of these.
        vmx.cr0_guest_owned_bits &= ~X86_CR0_WP;
        vmx.cr4_guest_owned_bits &= ~(kCr4TlbBits | kCr4PdptrBits);
    }
    if (vmx.intercepted_controls & MINIVMX_INTERCEPT_CR0_WRITE)
        vmx.cr0_guest_owned_bits = 0;
    if (vmx.intercepted_controls & MINIVMX_INTERCEPT_CR4_WRITE)
        vmx.cr4_guest_owned_bits = 0;
    vmcs_write(CR0_GUEST_HOST_MASK, ~vmx.cr0_guest_owned_bits);
    vmcs_write(CR4_GUEST_HOST_MASK, ~vmx.cr4_guest_owned_bits);
}

void update_cr_guest_host_masks(vcpu_vmx &vmx)
{
    const u64 cr0 = guest_cr0(vmx), cr4 = guest_cr4(vmx);
    set_cr_guest_host_masks(vmx);
    vmcs_write(CR0_READ_SHADOW, cr0);
    vmcs_write(CR4_READ_SHADOW, cr4);
}

void update_cr4_reserved_bits(vcpu_vmx &vmx)
{
    vmx.cr4_reserved_bits = reserved_cr4_bits(vmx.cpuid);
    set_cr_guest_host_masks(vmx);
}

// SDM Vol. 2B, MOV to control registers: #GP(0) for NW without CD, PG without PE, and bits 63:32.
bool is_valid_cr0(u64 cr0)
{
    if (cr0 >> 32)
        return false;
    if (cr0 & X86_CR0_NW && !(cr0 & X86_CR0_CD))
        return false;
    return !(cr0 & X86_CR0_PG) || cr0 & X86_CR0_PE;
}

bool is_valid_cr4(const vcpu_vmx &vmx, u64 cr4)
{
    return !(cr4 & (unsupported_cr4_bits() | vmx.cr4_reserved_bits));
}

bool load_pdptrs(vcpu_vmx &vmx, u64 cr3)
{
    constexpr u64 kTableMask = 0xffffffe0, kPresent = 1;
    u64 entries[4];
    if (read_guest_phys(vmx, cr3 & kTableMask, entries, sizeof(entries)) != MemoryResult::kOk)
        return false;
    for (const u64 entry : entries)
        if (entry & kPresent && entry & pdptr_reserved_bits(vmx))
            return false;
    for (u32 i = 0; i < 4; i++)
        write_pdptr(vmx, i, entries[i]);
    return true;
}

void write_paging_state(vcpu_vmx &vmx, const PagingRegisters &registers)
{
    write_cr3(vmx, registers.cr3);
    write_efer(vmx, registers.efer);
    write_cr0(vmx, registers.cr0);
    write_cr4(vmx, registers.cr4);
    // Bad entries stay out, and the old ones in, as in KVM.
    if (is_pae_paging(vmx))
        (void)load_pdptrs(vmx, registers.cr3);
    forget_guest_translations(vmx);
}

bool set_cr0(vcpu_vmx &vmx, u64 value)
{
    if (!is_valid_cr0(value))
        return false;
    const u64 old = guest_cr0(vmx);
    const u64 cr4 = guest_cr4(vmx);
    // Reserved bits are ignored, and ET reads as 1: SDM Vol. 3A, 2.5.
    const u64 cr0 = (value | X86_CR0_ET) & kCr0Defined;
    const bool paging = (cr0 & X86_CR0_PG) != 0;

    // Into IA-32e mode only with PAE and from a code segment without L: SDM Vol. 3A, 10.8.5.
    if (vmx.efer & EFER_LME && paging && !(old & X86_CR0_PG) &&
        (!(cr4 & X86_CR4_PAE) || segment_rights(vmx, kCs) & AR_L))
        return false;
    // Out of it only from compatibility mode, and not with PCIDs on: SDM Vol. 3A, 4.10.1.
    if (!paging && (is_64_bit_code(vmx) || cr4 & X86_CR4_PCIDE))
        return false;
    if (!(vmx.efer & EFER_LME) && paging && cr4 & X86_CR4_PAE && (cr0 ^ old) & kCr0PdptrBits &&
        !load_pdptrs(vmx, guest_cr3(vmx)))
        return false;
    write_cr0(vmx, cr0);
    return true;
}

bool set_cr3(vcpu_vmx &vmx, u64 value)
{
    // With PCIDs on, bit 63 asks to keep translations, and is not part of the register: SDM Vol.
    // 3A, 4.10.4.1.
    const bool pcids = (guest_cr4(vmx) & X86_CR4_PCIDE) != 0;
    const bool keep_translations = pcids && value & kCr3NoFlush;
    const u64 cr3 = pcids ? value & ~kCr3NoFlush : value;

    if (is_illegal_gpa(vmx, cr3))
        return false;
    if (is_pae_paging(vmx) && !load_pdptrs(vmx, cr3))
        return false;
    write_cr3(vmx, cr3);
    if (!keep_translations)
        forget_guest_translations(vmx);
    return true;
}

bool set_cr4(vcpu_vmx &vmx, u64 value)
{
    if (!is_valid_cr4(vmx, value))
        return false;
    const u64 old = guest_cr4(vmx);
    const u64 changed = old ^ value;

    // SDM Vol. 2B, MOV to CR4: in IA-32e mode PAE stays set and LA57 as it is.
    if (is_long_mode(vmx)) {
        if (!(value & X86_CR4_PAE) || changed & X86_CR4_LA57)
            return false;
    } else if (is_paging(vmx) && value & X86_CR4_PAE && changed & kCr4PdptrBits &&
               !load_pdptrs(vmx, guest_cr3(vmx))) {
        return false;
    }
    // SDM Vol. 3A, 4.10.1: PCIDs go on only in IA-32e mode, and with PCID 0 in CR3.
    if (value & X86_CR4_PCIDE && changed & X86_CR4_PCIDE &&
        (!is_long_mode(vmx) || guest_cr3(vmx) & kCr3PcidMask))
        return false;

    write_cr4(vmx, value);
    if (changed & kCr4TlbBits)
        forget_guest_translations(vmx);
    return true;
}

bool set_cr8(vcpu_vmx &vmx, u64 value)
{
    // SDM Vol. 3A, 11.8.6: bits 63:4 are reserved.
    if (value & ~kCr8Mask)
        return false;
    if (vmx.has_apic)
        lapic_set_cr8(*vmx.apic, value);
    else
        vmx.cr8 = value;
    return true;
}

u64 guest_cr8(const vcpu_vmx &vmx)
{
    return vmx.has_apic ? lapic_cr8(*vmx.apic) : vmx.cr8;
}

} // namespace minivmx
