// SPDX-License-Identifier: GPL-2.0-only
//
// What the tests of the capability code share.
#pragma once

#include <minivmx/report.hpp>
#include <minivmx/vmcs_config.hpp>

#include "profiles.hpp"

#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace minivmx::profiles {

/// GoogleTest shows a profile by its name.
inline void PrintTo(const CpuProfile &profile, std::ostream *out)
{
    *out << profile.name << " (" << profile.cpu << ")";
}

} // namespace minivmx::profiles

namespace minivmx::test {

using profiles::CpuProfile;
using profiles::shipped_profiles;

inline const CpuProfile &profile(const std::string &name)
{
    const CpuProfile *found = profiles::find_profile(name);
    if (found == nullptr)
        throw std::runtime_error("no profile " + name);
    return *found;
}

/// The seven parameters that change control words, on or off by the bits of `number`.
inline Parameters combination(unsigned number)
{
    Parameters p = default_parameters();
    p.vnmi = (number & 1) == 0;
    p.preemption_timer = (number & 2) == 0;
    p.ept = (number & 4) == 0;
    p.vpid = (number & 8) == 0;
    p.unrestricted_guest = (number & 16) == 0;
    p.flexpriority = (number & 32) == 0;
    if ((number & 64) != 0)
        p.ple_gap = 0;
    return p;
}

/// Collects lines.
struct Lines {
    std::vector<std::string> lines;

    LineSink sink()
    {
        return LineSink{[](void *context, const char *line) {
                            static_cast<Lines *>(context)->lines.emplace_back(line);
                        },
                        this};
    }
    std::string text() const
    {
        std::string all;
        for (const std::string &line : lines)
            all += line + "\n";
        return all;
    }
};

/// One run of setup_vmcs_config() with all that it says.
struct Negotiated {
    int code = 0;
    std::string why;
    std::string warnings;
    vmcs_config config;
    vmx_capability capability;
};

inline Negotiated negotiate(const HostDesc &host, const Parameters &params = default_parameters())
{
    Negotiated result;
    Lines warnings;
    SetupLog log;
    log.warnings = warnings.sink();
    Status status = setup_vmcs_config(host, params, result.config, result.capability, log);
    result.code = status.code();
    result.why = status.why();
    result.warnings = warnings.text();
    return result;
}

/// One run of hardware_setup().
struct Loaded {
    int code = 0;
    std::string why;
    std::string warnings;
    Hardware hardware;
    Parameters params;
};

inline Loaded set_up(const HostDesc &host, Parameters params = default_parameters())
{
    Loaded result;
    Lines warnings;
    SetupLog log;
    log.warnings = warnings.sink();
    Status status = hardware_setup(host, params, result.hardware, log);
    result.code = status.code();
    result.why = status.why();
    result.warnings = warnings.text();
    result.params = params;
    return result;
}

/// Clears bits of the allowed-1 half of a control MSR, and of its TRUE twin.
inline void forbid(HostDesc &host, ControlField field, u64 mask)
{
    const ControlWordInfo &word = control_word_info(field);
    const u64 shift = word.width == 64 ? 0 : 32;
    for (const u32 msr : {word.msr, word.true_msr}) {
        if (msr == 0 || !host.msr.present(msr))
            continue;
        u64 value = host.msr[msr] & ~(mask << shift);
        if (shift != 0)
            value &= ~mask; // what may not be 1 can't have to be 1
        host.msr.set(msr, value);
    }
}

inline bool contains(const std::string &text, const std::string &part)
{
    return text.find(part) != std::string::npos;
}

} // namespace minivmx::test
