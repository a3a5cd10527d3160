// SPDX-License-Identifier: GPL-2.0-only
#include "profiles.hpp"

#include <minivmx/control_bits.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <stdexcept>

// The files of data/ as they are, put into the program by the assembler.
asm(".section .rodata\n"
    "minivmx_real_cpus: .incbin \"" MINIVMX_DATA_DIR "/real-cpus.json\"\n"
    "minivmx_real_cpus_end:\n"
    "minivmx_emulated_cpus: .incbin \"" MINIVMX_DATA_DIR "/emulated-cpus.json\"\n"
    "minivmx_emulated_cpus_end:\n"
    ".previous\n");
extern "C" const char minivmx_real_cpus[], minivmx_real_cpus_end[];
extern "C" const char minivmx_emulated_cpus[], minivmx_emulated_cpus_end[];

namespace minivmx::profiles {

namespace {

u64 parse_number(const std::string &text)
{
    std::size_t used = 0;
    const u64 value = std::stoull(text, &used, 0);
    if (used != text.size())
        throw std::runtime_error("\"" + text + "\" is not a number");
    return value;
}

CpuProfile parse_profile(const nlohmann::json &json, bool emulated)
{
    CpuProfile profile;
    profile.name = json.at("name");
    profile.cpu = json.at("cpu");
    profile.vendor = json.at("vendor");
    profile.source = json.at("source");
    profile.also = json.at("also").get<std::vector<std::string>>();
    profile.signature = static_cast<u32>(parse_number(json.at("cpuid1_eax")));
    profile.max_phys_bits = json.at("maxphyaddr");
    profile.emulated = emulated;
    for (const auto &[number, value] : json.at("msr").items()) {
        if (value != "gp")
            profile.msr.set(static_cast<u32>(parse_number(number)), parse_number(value));
    }
    if (json.contains("decoded")) {
        for (const auto &[name, value] : json["decoded"].items())
            profile.decoded[name] = value.is_boolean() ? value.get<bool>() : value.get<u64>();
    }
    return profile;
}

template <std::size_t N>
void copy_text(char (&to)[N], const std::string &from)
{
    std::memset(to, 0, N);
    std::memcpy(to, from.data(), std::min(from.size(), N - 1));
}

} // namespace

HostDesc CpuProfile::host() const
{
    HostDesc desc;
    copy_text(desc.vendor, vendor);
    copy_text(desc.name, cpu);
    desc.signature.raw = signature;
    desc.max_phys_bits = max_phys_bits;
    desc.has_vmx = true;
    desc.has_nx = true;
    desc.tsc_khz = 2000000;
    desc.msr = msr;
    desc.has_sgx =
        allowed_settings(msr, ControlField::kSecondary).may_be_1(SECONDARY_EXEC_ENCLS_EXITING);
    if (!msr.present(MSR_IA32_FEATURE_CONTROL))
        desc.msr.set(MSR_IA32_FEATURE_CONTROL, 5);
    return desc;
}

std::vector<CpuProfile> parse_profiles(const std::string &text, bool emulated)
{
    std::vector<CpuProfile> profiles;
    try {
        const nlohmann::json document = nlohmann::json::parse(text);
        for (const nlohmann::json &entry : document.at("profiles"))
            profiles.push_back(parse_profile(entry, emulated));
    } catch (const std::exception &error) {
        throw std::runtime_error(std::string("CPU profile ") + std::to_string(profiles.size() + 1) +
                                 ": " + error.what());
    }
    return profiles;
}

const std::vector<CpuProfile> &shipped_profiles()
{
    static const std::vector<CpuProfile> all = [] {
        std::vector<CpuProfile> list =
            parse_profiles(std::string(minivmx_real_cpus, minivmx_real_cpus_end), false);
        for (CpuProfile &profile :
             parse_profiles(std::string(minivmx_emulated_cpus, minivmx_emulated_cpus_end), true))
            list.push_back(std::move(profile));
        return list;
    }();
    return all;
}

const CpuProfile *find_profile(const std::string &name)
{
    const auto &all = shipped_profiles();
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const CpuProfile &p) { return p.name == name; });
    return found == all.end() ? nullptr : &*found;
}

} // namespace minivmx::profiles
