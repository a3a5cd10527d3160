// SPDX-License-Identifier: GPL-2.0-only
// The guest's CPUID: what KVM_SET_CPUID2 gave this vCPU, and what follows from it. SDM Vol. 2A,
// "CPUID".
//
// Touched only with the vCPU's mutex held. A fresh vCPU has no entries: its CPUID is all zeros, as
// KVM's.
#pragma once

#include <minivmx.h>

#include <minivmx/types.hpp>

namespace minivmx {

struct vcpu_vmx;

// The registers of CPUID that have feature bits.
enum class CpuidWord : u8 {
    k1Ecx,
    k1Edx,
    k7Ebx,
    k7Ecx,
    k7Edx,
    k7Sub1Eax,
    k7Sub2Edx,
    kDSub1Eax,
    kExt1Ecx, // leaf 80000001H
    kExt1Edx,
    kExt8Ebx, // leaf 80000008H
};
inline constexpr unsigned kCpuidWordCount = 11;

// Where each of them is; `word` picks the register.
struct CpuidWordPlace {
    u32 leaf, subleaf;
    __u32 kvm_cpuid_entry2::*word;
};
inline constexpr CpuidWordPlace kCpuidWordPlaces[kCpuidWordCount] = {
    {1, 0, &kvm_cpuid_entry2::ecx},          {1, 0, &kvm_cpuid_entry2::edx},
    {7, 0, &kvm_cpuid_entry2::ebx},          {7, 0, &kvm_cpuid_entry2::ecx},
    {7, 0, &kvm_cpuid_entry2::edx},          {7, 1, &kvm_cpuid_entry2::eax},
    {7, 2, &kvm_cpuid_entry2::edx},          {0xd, 1, &kvm_cpuid_entry2::eax},
    {0x80000001, 0, &kvm_cpuid_entry2::ecx}, {0x80000001, 0, &kvm_cpuid_entry2::edx},
    {0x80000008, 0, &kvm_cpuid_entry2::ebx},
};

constexpr u16 cpuid_feature(CpuidWord word, unsigned bit)
{
    return static_cast<u16>(static_cast<unsigned>(word) * 32 + bit);
}

// The features that some rule of the hypervisor asks for.
enum class CpuidFeature : u16 {
    kXmm3 = cpuid_feature(CpuidWord::k1Ecx, 0), // SSE3
    kPcid = cpuid_feature(CpuidWord::k1Ecx, 17),
    kX2apic = cpuid_feature(CpuidWord::k1Ecx, 21),
    kTscDeadline = cpuid_feature(CpuidWord::k1Ecx, 24),
    kXsave = cpuid_feature(CpuidWord::k1Ecx, 26),
    kRdrand = cpuid_feature(CpuidWord::k1Ecx, 30),
    kMtrr = cpuid_feature(CpuidWord::k1Edx, 12),
    kFsgsbase = cpuid_feature(CpuidWord::k7Ebx, 0),
    kTscAdjust = cpuid_feature(CpuidWord::k7Ebx, 1),
    kSmep = cpuid_feature(CpuidWord::k7Ebx, 7),
    kInvpcid = cpuid_feature(CpuidWord::k7Ebx, 10),
    kRtm = cpuid_feature(CpuidWord::k7Ebx, 11),
    kMpx = cpuid_feature(CpuidWord::k7Ebx, 14),
    kRdseed = cpuid_feature(CpuidWord::k7Ebx, 18),
    kSmap = cpuid_feature(CpuidWord::k7Ebx, 20),
    kUmip = cpuid_feature(CpuidWord::k7Ecx, 2),
    kPku = cpuid_feature(CpuidWord::k7Ecx, 3),
    kWaitpkg = cpuid_feature(CpuidWord::k7Ecx, 5),
    kLa57 = cpuid_feature(CpuidWord::k7Ecx, 16),
    kRdpid = cpuid_feature(CpuidWord::k7Ecx, 22),
    kSpecCtrl = cpuid_feature(CpuidWord::k7Edx, 26), // IBRS and IBPB
    kArchCapabilities = cpuid_feature(CpuidWord::k7Edx, 29),
    kXsaveopt = cpuid_feature(CpuidWord::kDSub1Eax, 0),
    kXsavec = cpuid_feature(CpuidWord::kDSub1Eax, 1),
    kXsaves = cpuid_feature(CpuidWord::kDSub1Eax, 3),
    kNx = cpuid_feature(CpuidWord::kExt1Edx, 20),
    kPages1G = cpuid_feature(CpuidWord::kExt1Edx, 26),
    kRdtscp = cpuid_feature(CpuidWord::kExt1Edx, 27),
    kLm = cpuid_feature(CpuidWord::kExt1Edx, 29),
    // AMD's bits for what Intel has in leaf 7, EDX: a guest of either kind may look there.
    kAmdIbpb = cpuid_feature(CpuidWord::kExt8Ebx, 12),
    kAmdIbrs = cpuid_feature(CpuidWord::kExt8Ebx, 14),
    kAmdStibp = cpuid_feature(CpuidWord::kExt8Ebx, 15),
    kAmdSsbd = cpuid_feature(CpuidWord::kExt8Ebx, 24),
};

// KVM_MAX_CPUID_ENTRIES.
inline constexpr u32 kMaxCpuidEntries = 256;

inline constexpr u32 kCpuidShortcuts = 64;

// One vCPU's CPUID. All zeros is a valid state: no entries.
struct Cpuid {
    kvm_cpuid_entry2 *entries; // of host_zalloc()
    u32 count;
    u16 shortcut[kCpuidShortcuts]; // where the first entry of a leaf is; count: nowhere
    // What find() would answer, computed once at each change.
    u32 words[kCpuidWordCount];
    u32 physical_bits;  // 0 while there are no entries: see guest_physical_bits()
    u64 supported_xcr0; // the bits XSETBV accepts, beside x87

    bool has(CpuidFeature feature) const
    {
        const unsigned number = static_cast<unsigned>(feature);
        return (words[number / 32] >> number % 32 & 1) != 0;
    }
    // The entry for a leaf with subleaves; nullptr when there is none.
    const kvm_cpuid_entry2 *find(u32 leaf, u32 subleaf) const;
    // The first entry for a leaf without.
    const kvm_cpuid_entry2 *find(u32 leaf) const;
    bool is_intel() const;          // by the vendor's name
    bool is_amd_compatible() const; // AMD or Hygon
    void release();                 // frees the entries [sleep]
};

// MAXPHYADDR of the guest: SDM Vol. 3A, 4.1.4. 36 when its CPUID says nothing.
u32 guest_physical_bits(const vcpu_vmx &vmx);
// The bits that a guest-physical address can't have, and whether this one has some.
u64 illegal_gpa_bits(const vcpu_vmx &vmx);
bool is_illegal_gpa(const vcpu_vmx &vmx, u64 gpa);
bool guest_has_1g_pages(const vcpu_vmx &vmx);

// Bits of CPUID that show the vCPU's state (OSXSAVE, APIC, the size of the XSAVE area) follow it:
// to be called after each change of CR4.OSXSAVE, XCR0, IA32_XSS or the APIC's enable bit.
void update_cpuid_runtime(vcpu_vmx &vmx);

// What CPUID answers the guest.
struct CpuidAnswer {
    u32 eax, ebx, ecx, edx;
};
CpuidAnswer guest_cpuid(const vcpu_vmx &vmx, u32 leaf, u32 subleaf);

// At module load, after negotiation, on any CPU: finds out what guests may be given. [any]
void init_supported_cpuid();
// What guests of this machine may be given: features the CPU has, the host kernel uses, and this
// hypervisor virtualises.
u32 supported_features(CpuidWord word);
bool supports(CpuidFeature feature);
// The CPU lacks UMIP, or the host has it off: guests have it by the exits of what it forbids.
bool umip_is_emulated();
// The XCR0 bits that guests may set.
u64 supported_xcr0();
// Bytes that XSAVE needs for these state components. SDM Vol. 1, 13.4.2 and 13.4.3.
u32 xstate_required_size(u64 components, bool compacted);

} // namespace minivmx
