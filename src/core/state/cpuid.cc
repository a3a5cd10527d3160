// SPDX-License-Identifier: GPL-2.0-only
// The guest's CPUID: KVM_SET_CPUID2, KVM_GET_CPUID2, and the instruction.
#include <minivmx/capabilities.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

constexpr u32 kBitApic = bit32(9);     // leaf 1, EDX
constexpr u32 kBitOsxsave = bit32(27); // leaf 1, ECX
constexpr u64 kApicBaseEnable = bit64(11);

void set_bit(u32 &word, u32 bit, bool on)
{
    word = on ? word | bit : word & ~bit;
}

// A list of entries before or after it became a vCPU's.
using Entries = Span<kvm_cpuid_entry2>;

// KVM's rule: the first entry that matches; a subleaf counts only where the client said that it
// does.
kvm_cpuid_entry2 *find_entry(Entries entries, u32 leaf, u32 subleaf)
{
    for (kvm_cpuid_entry2 &entry : entries) {
        const bool any_subleaf = !(entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
        if (entry.function == leaf && (any_subleaf || entry.index == subleaf))
            return &entry;
    }
    return nullptr;
}

kvm_cpuid_entry2 *find_entry(Entries entries, u32 leaf)
{
    for (kvm_cpuid_entry2 &entry : entries)
        if (entry.function == leaf)
            return &entry;
    return nullptr;
}

Entries entries_of(const Cpuid &cpuid)
{
    return {cpuid.entries, cpuid.count};
}

// Leaves that guests ask for: the first 32 of the basic and of the extended class. Where one has an
// entry, the search begins there.
u32 shortcut_slot(u32 leaf)
{
    return (leaf & 0x7fffffe0) == 0 ? (leaf & 0x1f) | (leaf >> 26 & 0x20) : kCpuidShortcuts;
}

void make_shortcuts(Cpuid &cpuid)
{
    for (u16 &first : cpuid.shortcut)
        first = static_cast<u16>(cpuid.count);
    for (u32 i = cpuid.count; i-- > 0;) {
        const u32 slot = shortcut_slot(cpuid.entries[i].function);
        if (slot < kCpuidShortcuts)
            cpuid.shortcut[slot] = static_cast<u16>(i);
    }
}

// The entries from the first one for this leaf on.
Entries entries_for(const Cpuid &cpuid, u32 leaf)
{
    const u32 slot = shortcut_slot(leaf);
    const u32 first = slot < kCpuidShortcuts ? cpuid.shortcut[slot] : 0;
    return {cpuid.entries + first, cpuid.count - first};
}

// What follows the vCPU's state. SDM Vol. 2A, CPUID, leaf 01H and Vol. 1, 13.2.
void show_state(vcpu_vmx &vmx, Entries entries)
{
    if (kvm_cpuid_entry2 *entry = find_entry(entries, 1)) {
        if (supports(CpuidFeature::kXsave))
            set_bit(entry->ecx, kBitOsxsave, (guest_cr4(vmx) & X86_CR4_OSXSAVE) != 0);
        set_bit(entry->edx, kBitApic, (vmx.apic_base & kApicBaseEnable) != 0);
    }
    if (kvm_cpuid_entry2 *entry = find_entry(entries, 0xd, 0))
        entry->ebx = xstate_required_size(vmx.msrs.xcr0, false);
    constexpr u32 kCompacts = bit32(1) | bit32(3); // XSAVEC, XSAVES
    if (kvm_cpuid_entry2 *entry = find_entry(entries, 0xd, 1); entry && entry->eax & kCompacts)
        entry->ebx = xstate_required_size(vmx.msrs.xcr0 | vmx.msrs.xss, true);
}

bool same_entries(Entries a, Entries b)
{
    if (a.size() != b.size())
        return false;
    for (usize i = 0; i < a.size(); i++) {
        const kvm_cpuid_entry2 &x = a[i], &y = b[i];
        if (x.function != y.function || x.index != y.index || x.flags != y.flags ||
            x.eax != y.eax || x.ebx != y.ebx || x.ecx != y.ecx || x.edx != y.edx)
            return false;
    }
    return true;
}

// Linear addresses are checked for canonical form as 48 or 57 bits wide: no other width may be
// claimed.
bool valid_address_width(Entries entries)
{
    const kvm_cpuid_entry2 *entry = find_entry(entries, 0x80000008);
    if (!entry)
        return true;
    const u32 linear_bits = entry->eax >> 8 & 0xff;
    return linear_bits == 0 || linear_bits == 48 || linear_bits == 57;
}

// SDM Vol. 3A, 4.1.4.
u32 physical_bits(Entries entries)
{
    constexpr u32 kDefault = 36;
    const kvm_cpuid_entry2 *last = find_entry(entries, 0x80000000);
    if (!last || last->eax < 0x80000008)
        return kDefault;
    const kvm_cpuid_entry2 *widths = find_entry(entries, 0x80000008);
    return widths ? widths->eax & 0xff : kDefault;
}

void compute_derived(Cpuid &cpuid)
{
    make_shortcuts(cpuid);
    const Entries entries = entries_of(cpuid);
    for (unsigned i = 0; i < kCpuidWordCount; i++) {
        const kvm_cpuid_entry2 *entry =
            find_entry(entries, kCpuidWordPlaces[i].leaf, kCpuidWordPlaces[i].subleaf);
        cpuid.words[i] = entry ? entry->*kCpuidWordPlaces[i].word : 0;
    }
    cpuid.physical_bits = physical_bits(entries);
    const kvm_cpuid_entry2 *xstate = find_entry(entries, 0xd, 0);
    cpuid.supported_xcr0 = xstate ? (xstate->eax | u64{xstate->edx} << 32) & supported_xcr0() : 0;
}

bool vendor_is(const kvm_cpuid_entry2 &leaf_0, u32 ebx, u32 edx, u32 ecx)
{
    return leaf_0.ebx == ebx && leaf_0.edx == edx && leaf_0.ecx == ecx;
}

// "AuthenticAMD", "AMDisbetter!", "HygonGenuine"
bool is_amd_or_hygon(const kvm_cpuid_entry2 &leaf_0)
{
    return vendor_is(leaf_0, 0x68747541, 0x69746e65, 0x444d4163) ||
           vendor_is(leaf_0, 0x69444d41, 0x74656273, 0x21726574) ||
           vendor_is(leaf_0, 0x6f677948, 0x6e65476e, 0x656e6975);
}

// The class of a leaf begins at this one, which says in EAX where it ends. Each 256 hypervisor
// leaves are one of their own.
u32 class_of(u32 leaf)
{
    if (leaf >= 0x40000000 && leaf <= 0x4fffffff)
        return leaf & 0xffffff00;
    if (leaf >= 0xc0000000)
        return 0xc0000000;
    return leaf & 0x80000000;
}

// A leaf beyond the last one of its class answers like the last basic leaf: SDM Vol. 2A, CPUID,
// "INPUT EAX = ...". AMD and Hygon answer with zeros. `leaf` comes out as the one that is shown.
const kvm_cpuid_entry2 *out_of_range_entry(Entries entries, u32 &leaf, u32 subleaf)
{
    const kvm_cpuid_entry2 *basic = find_entry(entries, 0);
    if (!basic || is_amd_or_hygon(*basic))
        return nullptr;
    const kvm_cpuid_entry2 *first = find_entry(entries, class_of(leaf));
    if (first && leaf <= first->eax)
        return nullptr;
    leaf = basic->eax;
    return find_entry(entries, leaf, subleaf);
}

// Leaves 0BH and 1FH beyond their last subleaf: ECX[7:0] as it came in, and EDX is the x2APIC ID in
// all of them.
CpuidAnswer topology_answer(Entries entries, u32 leaf, u32 subleaf)
{
    const kvm_cpuid_entry2 *entry =
        leaf == 0xb || leaf == 0x1f ? find_entry(entries, leaf, 1) : nullptr;
    if (!entry)
        return {};
    return {0, 0, subleaf & 0xff, entry->edx};
}

void after_set_cpuid(vcpu_vmx &vmx)
{
    compute_derived(vmx.cpuid);
    vmx.xsaves_enabled = cpu_has_vmx_xsaves(hardware.config) &&
                         vmx.cpuid.has(CpuidFeature::kXsave) &&
                         vmx.cpuid.has(CpuidFeature::kXsaves);
    update_cr4_reserved_bits(vmx);
    update_switched_msrs(vmx);
    update_secondary_exec_control(vmx);
}

kvm_cpuid_entry2 *copy_entries(const kvm_cpuid_entry2 *entries, u32 count)
{
    auto *copy = static_cast<kvm_cpuid_entry2 *>(host_zalloc(count * sizeof(kvm_cpuid_entry2)));
    for (u32 i = 0; copy && i < count; i++)
        copy[i] = entries[i];
    return copy;
}

// MISC_FEATURES_ENABLES bit 0: CPUID faults outside CPL 0.
bool cpuid_faults(vcpu_vmx &vmx)
{
    return (vmx.msrs.misc_features_enables & 1) != 0 && guest_cpl(vmx) > 0;
}

} // namespace

const kvm_cpuid_entry2 *Cpuid::find(u32 leaf, u32 subleaf) const
{
    return find_entry(entries_of(*this), leaf, subleaf);
}

const kvm_cpuid_entry2 *Cpuid::find(u32 leaf) const
{
    return find_entry(entries_of(*this), leaf);
}

bool Cpuid::is_intel() const
{
    const kvm_cpuid_entry2 *leaf_0 = find(0);
    return leaf_0 && vendor_is(*leaf_0, 0x756e6547, 0x49656e69, 0x6c65746e); // "GenuineIntel"
}

bool Cpuid::is_amd_compatible() const
{
    const kvm_cpuid_entry2 *leaf_0 = find(0);
    return leaf_0 && is_amd_or_hygon(*leaf_0);
}

void Cpuid::release()
{
    host_free(entries);
    *this = {};
}

u32 guest_physical_bits(const vcpu_vmx &vmx)
{
    constexpr u32 kWithoutCpuid = 36;
    return vmx.cpuid.entries ? vmx.cpuid.physical_bits : kWithoutCpuid;
}

u64 illegal_gpa_bits(const vcpu_vmx &vmx)
{
    const u32 bits = guest_physical_bits(vmx); // user space may have put anything up to 255 there
    return bits < 64 ? ~(bit64(bits) - 1) : 0;
}

bool is_illegal_gpa(const vcpu_vmx &vmx, u64 gpa)
{
    return (gpa & illegal_gpa_bits(vmx)) != 0;
}

bool guest_has_1g_pages(const vcpu_vmx &vmx)
{
    return vmx.cpuid.has(CpuidFeature::kPages1G);
}

void update_cpuid_runtime(vcpu_vmx &vmx)
{
    show_state(vmx, entries_of(vmx.cpuid));
}

CpuidAnswer guest_cpuid(const vcpu_vmx &vmx, u32 leaf, u32 subleaf)
{
    const kvm_cpuid_entry2 *entry = find_entry(entries_for(vmx.cpuid, leaf), leaf, subleaf);
    if (entry) [[likely]]
        return {entry->eax, entry->ebx, entry->ecx, entry->edx};
    const Entries entries = entries_of(vmx.cpuid);
    entry = out_of_range_entry(entries, leaf, subleaf);
    if (!entry)
        return topology_answer(entries, leaf, subleaf);
    return {entry->eax, entry->ebx, entry->ecx, entry->edx};
}

// Flat: what it calls is all there is to one of the commonest exits.
[[gnu::flatten]] bool answer_cpuid(vcpu_vmx &vmx)
{
    if (cpuid_faults(vmx))
        return false;
    u64 *regs = vmx.area->regs; // none of them RSP, which has a cache
    const CpuidAnswer answer =
        guest_cpuid(vmx, static_cast<u32>(regs[kRax]), static_cast<u32>(regs[kRcx]));
    regs[kRax] = answer.eax;
    regs[kRbx] = answer.ebx;
    regs[kRcx] = answer.ecx;
    regs[kRdx] = answer.edx;
    skip_emulated_instruction(vmx);
    return true;
}

Outcome handle_cpuid(vcpu_vmx &vmx)
{
    if (!answer_cpuid(vmx))
        inject_gp(vmx);
    return Outcome::resume();
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_set_cpuid2(core_vcpu *vcpu, const kvm_cpuid_entry2 *entries, host_u32 count)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (count > kMaxCpuidEntries)
        return -E2BIG;
    kvm_cpuid_entry2 *copy = count ? copy_entries(entries, count) : nullptr;
    if (count && !copy)
        return -ENOMEM;
    show_state(vmx, {copy, count});

    // A guest that has run may rely on what it saw: only the same again is accepted, from clients
    // that reset vCPUs that way.
    const bool has_run = vmx.last_vmentry_cpu != kNoCpu;
    const bool same = has_run && same_entries({copy, count}, entries_of(vmx.cpuid));
    if (has_run || !valid_address_width({copy, count})) {
        host_free(copy);
        return same ? 0 : -EINVAL;
    }
    vmx.cpuid.release();
    vmx.cpuid.entries = copy;
    vmx.cpuid.count = count;
    after_set_cpuid(vmx);
    return 0;
}

int core_get_cpuid2(core_vcpu *vcpu, kvm_cpuid_entry2 *entries, host_u32 *count)
{
    const Cpuid &cpuid = to_vmx(vcpu).cpuid;
    const bool fits = *count >= cpuid.count;
    *count = cpuid.count;
    if (!fits)
        return -E2BIG;
    for (u32 i = 0; i < cpuid.count; i++)
        entries[i] = cpuid.entries[i];
    return 0;
}

} // extern "C"
