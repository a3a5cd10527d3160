// SPDX-License-Identifier: GPL-2.0-only
//
// The CPUs that ship with minivmx: VMX MSRs of real CPUs and of the emulated models, from data/.
// Userspace only.
#pragma once

#include <minivmx/host_desc.hpp>

#include <map>
#include <string>
#include <vector>

namespace minivmx::profiles {

struct CpuProfile {
    std::string name;              ///< "IvyBridge", "corei7_haswell_4770"
    std::string cpu;               ///< the brand string
    std::string vendor;            ///< "GenuineIntel"
    std::string source;            ///< where the values are from
    std::vector<std::string> also; ///< other CPUs with the same values
    u32 signature = 0;             ///< CPUID.1:EAX
    u32 max_phys_bits = 36;
    bool emulated = false;
    VmxMsrs msr;
    /// Of real CPUs: what another decoder read out of the same values; false and true are 0 and 1.
    std::map<std::string, u64> decoded;

    /// As negotiation wants it: a 64-bit kernel on this CPU, VMX enabled by the firmware, TSC at
    /// 2 GHz, and SGX as far as the MSRs tell (ENCLS exiting exists only with SGX).
    HostDesc host() const;
};

/// Parses the text of a profiles file; throws std::runtime_error with a sentence.
std::vector<CpuProfile> parse_profiles(const std::string &text, bool emulated);

/// All shipped profiles, real ones first. Parsed once.
const std::vector<CpuProfile> &shipped_profiles();

/// By exact name; nullptr when there is none.
const CpuProfile *find_profile(const std::string &name);

} // namespace minivmx::profiles
