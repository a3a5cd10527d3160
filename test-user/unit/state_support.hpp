// SPDX-License-Identifier: GPL-2.0-only
//
// What the tests of a vCPU's architectural state share: a machine with a full CPUID, and a vCPU on
// it that was given all of what is supported.
#pragma once

#include <minivmx/cpuid.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/state.hpp>

#include "guest.hpp"

#include <cerrno>
#include <optional>

namespace minivmx::test {

inline constexpr u32 kGenu = 0x756e6547, kIneI = 0x49656e69, kNtel = 0x6c65746e;

/// CPUID of a CPU that has nearly everything. Subleaves of 0DH as on real CPUs with AVX-512.
inline void give_full_cpuid(sim::Machine &machine)
{
    auto &cpuid = machine.cpuid;
    cpuid[{0, 0}] = {0x16, kGenu, kNtel, kIneI};
    cpuid[{1, 0}] = {0x000906a3, 0x05100800, 0xffffffff, 0xffffffff};
    cpuid[{2, 0}] = {0x00feff01, 0xf0, 0, 0};
    cpuid[{4, 0}] = {0x04000121, 0x02c0003f, 0x3f, 0};
    cpuid[{4, 1}] = {0x04000122, 0x01c0003f, 0x3f, 0};
    cpuid[{5, 0}] = {0x40, 0x40, 3, 0x11142120};
    cpuid[{6, 0}] = {0x77, 2, 9, 0};
    cpuid[{7, 0}] = {2, 0xffffffff, 0xffffffff, 0xffffffff};
    cpuid[{7, 1}] = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
    cpuid[{7, 2}] = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
    cpuid[{0xa, 0}] = {0x07300404, 0, 0, 0x603};
    cpuid[{0xb, 0}] = {1, 2, 0x100, 5};
    cpuid[{0xb, 1}] = {4, 8, 0x201, 5};
    cpuid[{0xd, 0}] = {0x2ff, 0xa88, 0xa88, 0};
    cpuid[{0xd, 1}] = {0x1f, 0x3c0, 0x1900, 0};
    cpuid[{0xd, 2}] = {256, 576, 0, 0};
    cpuid[{0xd, 3}] = {64, 960, 0, 0};
    cpuid[{0xd, 4}] = {64, 1024, 0, 0};
    cpuid[{0xd, 5}] = {64, 1088, 0, 0};
    cpuid[{0xd, 6}] = {512, 1152, 2, 0};
    cpuid[{0xd, 7}] = {1024, 1664, 2, 0};
    cpuid[{0x14, 0}] = {1, 0xf, 7, 0};
    cpuid[{0x15, 0}] = {2, 0x90, 0, 0};
    cpuid[{0x80000000, 0}] = {0x80000008, 0, 0, 0};
    cpuid[{0x80000001, 0}] = {0, 0, 0xffffffff, 0xffffffff};
    cpuid[{0x80000006, 0}] = {0, 0, 0x01007040, 0x00030000};
    cpuid[{0x80000007, 0}] = {0, 0, 0, 0x101};
    cpuid[{0x80000008, 0}] = {0x302e, 0xffffffff, 0, 0};
    machine.host_info.xcr0 = 0xff;
    machine.host_info.maxphyaddr = 46;
}

/// A CPU with every VMX control that negotiation knows, and a full CPUID.
class StateGuest : public Guest {
  public:
    explicit StateGuest(const std::string &profile = "tigerlake", const Tweak &tweak = {})
        : Guest(profile, [tweak](sim::Machine &machine, Parameters &parameters) {
              give_full_cpuid(machine);
              if (tweak)
                  tweak(machine, parameters);
          })
    {}

    core_vcpu *vcpu() { return &vmx(); }

    std::vector<kvm_cpuid_entry2> supported()
    {
        std::vector<kvm_cpuid_entry2> entries(kMaxCpuidEntries);
        u32 count = kMaxCpuidEntries;
        EXPECT_EQ(core_get_supported_cpuid(entries.data(), &count), 0);
        entries.resize(count);
        return entries;
    }
    int set_cpuid(const std::vector<kvm_cpuid_entry2> &entries)
    {
        return core_set_cpuid2(vcpu(), entries.data(), static_cast<u32>(entries.size()));
    }
    void set_supported_cpuid() { ASSERT_EQ(set_cpuid(supported()), 0); }

    /// The value, or nothing for #GP.
    std::optional<u64> rdmsr(u32 index)
    {
        u64 value;
        if (!get_msr(vmx(), index, value))
            return std::nullopt;
        return value;
    }
    bool wrmsr(u32 index, u64 value) { return set_msr(vmx(), index, value); }

    kvm_sregs sregs()
    {
        kvm_sregs sregs;
        EXPECT_EQ(core_get_sregs(vcpu(), &sregs), 0);
        return sregs;
    }
    int set_sregs(const kvm_sregs &sregs) { return core_set_sregs(vcpu(), &sregs); }

    /// 64-bit mode with paging, as KVM_SET_SREGS sets it.
    void enter_long_mode()
    {
        kvm_sregs s = sregs();
        s.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG;
        s.cr3 = 0x1000;
        s.cr4 = X86_CR4_PAE;
        s.efer = EFER_LME | EFER_LMA;
        s.cs.l = 1;
        s.cs.db = 0;
        ASSERT_EQ(set_sregs(s), 0);
    }

    /// An instruction of this length exits; RIP is at `rip`.
    void instruction(u64 rip, u32 length)
    {
        set(VM_EXIT_INSTRUCTION_LEN, length);
        write_rip(vmx(), rip);
    }
    /// The exception that is about to be delivered, or -1.
    int exception() { return vmx().exception.pending ? vmx().exception.vector : -1; }
};

inline const kvm_cpuid_entry2 *find(const std::vector<kvm_cpuid_entry2> &entries, u32 leaf,
                                    u32 subleaf = 0)
{
    for (const kvm_cpuid_entry2 &entry : entries)
        if (entry.function == leaf && entry.index == subleaf)
            return &entry;
    return nullptr;
}

inline kvm_cpuid_entry2 *find(std::vector<kvm_cpuid_entry2> &entries, u32 leaf, u32 subleaf = 0)
{
    return const_cast<kvm_cpuid_entry2 *>(
        find(static_cast<const std::vector<kvm_cpuid_entry2> &>(entries), leaf, subleaf));
}

} // namespace minivmx::test
