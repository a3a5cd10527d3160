// SPDX-License-Identifier: GPL-2.0-only
// KVM_GET_SUPPORTED_CPUID: this CPU's leaves with what guests may be given of them, in KVM's order.
#include <minivmx/arch.hpp>
#include <minivmx/cpuid.hpp>
#include <minivmx/hardware.hpp>

#include <linux/errno.h>

namespace minivmx {

namespace {

struct List {
    kvm_cpuid_entry2 *entries;
    u32 count;
    u32 limit;
};

// KVM's idea of which leaves have subleaves.
bool has_subleaves(u32 leaf)
{
    switch (leaf) {
    case 4:
    case 7:
    case 0xb:
    case 0xd:
    case 0xf:
    case 0x10:
    case 0x12:
    case 0x14:
    case 0x17:
    case 0x18:
    case 0x1d:
    case 0x1e:
    case 0x1f:
        return true;
    default:
        return false;
    }
}

// The next entry, zeroed but for its numbers; nullptr when the list is full.
kvm_cpuid_entry2 *append_empty(List &list, u32 leaf, u32 subleaf)
{
    if (list.count == list.limit)
        return nullptr;
    kvm_cpuid_entry2 &entry = list.entries[list.count++];
    entry = {};
    entry.function = leaf;
    entry.index = subleaf;
    if (has_subleaves(leaf))
        entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    return &entry;
}

// The next entry, with what this CPU answers.
kvm_cpuid_entry2 *append(List &list, u32 leaf, u32 subleaf)
{
    kvm_cpuid_entry2 *entry = append_empty(list, leaf, subleaf);
    if (!entry)
        return nullptr;
    const arch::CpuidResult answer = arch::cpuid(leaf, subleaf);
    entry->eax = answer.eax;
    entry->ebx = answer.ebx;
    entry->ecx = answer.ecx;
    entry->edx = answer.edx;
    return entry;
}

void clear_registers(kvm_cpuid_entry2 &entry)
{
    entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
}

// Caches: until an entry of type 0.
bool append_leaf_4(List &list)
{
    kvm_cpuid_entry2 *entry = append(list, 4, 0);
    for (u32 i = 1; entry && entry->eax & 0x1f; i++)
        entry = append(list, 4, i);
    return entry != nullptr;
}

bool append_leaf_7(List &list)
{
    constexpr u32 kLastSubleaf = 2;
    kvm_cpuid_entry2 *entry = append(list, 7, 0);
    if (!entry)
        return false;
    const u32 last = entry->eax < kLastSubleaf ? entry->eax : kLastSubleaf;
    *entry = {.function = 7,
              .index = 0,
              .flags = entry->flags,
              .eax = last,
              .ebx = supported_features(CpuidWord::k7Ebx),
              .ecx = supported_features(CpuidWord::k7Ecx),
              .edx = supported_features(CpuidWord::k7Edx),
              .padding = {}};
    if (last >= 1) {
        entry = append_empty(list, 7, 1);
        if (!entry)
            return false;
        entry->eax = supported_features(CpuidWord::k7Sub1Eax);
    }
    if (last >= 2) {
        entry = append_empty(list, 7, 2);
        if (!entry)
            return false;
        entry->edx = supported_features(CpuidWord::k7Sub2Edx);
    }
    return true;
}

// XSAVE's areas: SDM Vol. 1, 13.2.
bool append_leaf_d(List &list)
{
    constexpr u32 kAligned = 2; // the area begins at a multiple of 64 bytes in the compacted form
    const u64 xcr0 = supported_xcr0();
    kvm_cpuid_entry2 *entry = append_empty(list, 0xd, 0);
    if (!entry)
        return false;
    entry->eax = static_cast<u32>(xcr0);
    entry->edx = static_cast<u32>(xcr0 >> 32);
    entry->ebx = entry->ecx = xstate_required_size(xcr0, false);
    if (!xcr0)
        return true;

    entry = append_empty(list, 0xd, 1);
    if (!entry)
        return false;
    entry->eax = supported_features(CpuidWord::kDSub1Eax);
    if (supports(CpuidFeature::kXsaves) || supports(CpuidFeature::kXsavec))
        entry->ebx = xstate_required_size(xcr0, true);
    for (u32 i = 2; i < 64; i++) {
        if (!(xcr0 >> i & 1))
            continue;
        entry = append(list, 0xd, i);
        if (!entry)
            return false;
        entry->ecx &= kAligned;
        entry->edx = 0;
    }
    return true;
}

// Address widths: SDM Vol. 3A, 4.1.4.
void fill_leaf_80000008(kvm_cpuid_entry2 &entry)
{
    constexpr u32 kLinearBits = 48; // CR4.LA57 is not offered
    constexpr u32 kReservedEcx = 0xffff0f00;
    // Shadow pages carry the host's physical addresses, which may have fewer bits than the CPU's.
    const u32 physical = hardware.params.ept ? entry.eax & 0xff : hardware.info.maxphyaddr;
    entry.eax = physical | kLinearBits << 8;
    entry.ebx = supported_features(CpuidWord::kExt8Ebx);
    entry.ecx &= ~kReservedEcx;
    entry.edx = 0;
}

constexpr u32 kLastBasicLeaf = 0x1f, kLastExtendedLeaf = 0x80000008;

void fill_leaf_1(kvm_cpuid_entry2 &entry)
{
    entry.ecx = supported_features(CpuidWord::k1Ecx);
    entry.edx = supported_features(CpuidWord::k1Edx);
}

void fill_leaf_80000001(kvm_cpuid_entry2 &entry)
{
    entry.ebx &= ~0x0fff0000u;
    entry.ecx = supported_features(CpuidWord::kExt1Ecx);
    entry.edx = supported_features(CpuidWord::kExt1Edx);
}

// Leaves without subleaves, or with only the first.
void fill_simple_leaf(kvm_cpuid_entry2 &entry)
{
    constexpr u32 kArat = bit32(2), kInvariantTsc = bit32(8);
    switch (entry.function) {
    case 0:
        entry.eax = entry.eax < kLastBasicLeaf ? entry.eax : kLastBasicLeaf;
        break;
    case 1:
        fill_leaf_1(entry);
        break;
    case 2: // caches and TLBs by descriptor
        break;
    case 6: // of power management only that the APIC's timer never stops
        clear_registers(entry);
        entry.eax = kArat;
        break;
    case 0xb: // no topology; EDX is the APIC ID
    case 0x1f:
        entry.eax = entry.ebx = entry.ecx = 0;
        break;
    case 0x80000000:
        entry.eax = entry.eax < kLastExtendedLeaf ? entry.eax : kLastExtendedLeaf;
        break;
    case 0x80000001:
        fill_leaf_80000001(entry);
        break;
    case 0x80000006: // the L2 cache
        entry.edx &= ~0x00030000u;
        break;
    case 0x80000007:
        entry.eax = entry.ebx = entry.ecx = 0;
        entry.edx &= kInvariantTsc;
        break;
    case 0x80000008:
        fill_leaf_80000008(entry);
        break;
    default: // performance counters, SGX, PT, and all that is unknown: not there
        clear_registers(entry);
        break;
    }
}

bool append_leaf(List &list, u32 leaf)
{
    switch (leaf) {
    case 4:
        return append_leaf_4(list);
    case 7:
        return append_leaf_7(list);
    case 0xd:
        return append_leaf_d(list);
    default:
        kvm_cpuid_entry2 *entry = append(list, leaf, 0);
        if (entry)
            fill_simple_leaf(*entry);
        return entry != nullptr;
    }
}

// All leaves of a class: its first one says in EAX which is the last.
bool append_class(List &list, u32 first)
{
    const u32 at = list.count;
    if (!append_leaf(list, first))
        return false;
    const u32 last = list.entries[at].eax;
    for (u32 leaf = first + 1; leaf <= last; leaf++)
        if (!append_leaf(list, leaf))
            return false;
    return true;
}

// KVM's paravirtual features: Documentation/virt/kvm/x86/cpuid.rst. kvmclock by its old MSRs and by
// its new ones, whose TSCs may agree; port I/O needs no delay.
constexpr u32 kKvmClock = bit32(0), kKvmNoIoDelay = bit32(1), kKvmClock2 = bit32(3),
              kKvmClockStable = bit32(24);

bool append_hypervisor(List &list)
{
    kvm_cpuid_entry2 *signature = append_empty(list, 0x40000000, 0);
    kvm_cpuid_entry2 *features = append_empty(list, 0x40000001, 0);
    if (!signature || !features)
        return false;
    features->eax = kKvmClock | kKvmNoIoDelay | kKvmClock2 | kKvmClockStable;
    signature->eax = 0x40000001;
    signature->ebx = 0x4b4d564b; // "KVMK"
    signature->ecx = 0x564b4d56; // "VMKV"
    signature->edx = 0x0000004d; // "M"
    return true;
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" int core_get_supported_cpuid(kvm_cpuid_entry2 *entries, host_u32 *count)
{
    if (*count < 1)
        return -E2BIG;
    List list{entries, 0, *count < kMaxCpuidEntries ? *count : kMaxCpuidEntries};
    // All answers from one CPU: some leaves differ between CPUs.
    host_preempt_disable();
    const bool fits =
        append_class(list, 0) && append_class(list, 0x80000000) && append_hypervisor(list);
    host_preempt_enable();
    if (!fits)
        return -E2BIG;
    *count = list.count;
    return 0;
}

// Features that only software could give: none; the CPU's own instructions run by themselves.
extern "C" int core_get_emulated_cpuid(kvm_cpuid_entry2 *entries, host_u32 *count)
{
    constexpr u32 kLeaves[] = {0, 1, 7};
    List list{entries, 0, *count < kMaxCpuidEntries ? *count : kMaxCpuidEntries};
    for (const u32 leaf : kLeaves)
        if (!append_empty(list, leaf, 0))
            return -E2BIG;
    entries[0].eax = 7;
    *count = list.count;
    return 0;
}
