// SPDX-License-Identifier: GPL-2.0-only
#include "parameters.hpp"

#include "error.hpp"
#include "number.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

namespace minivmx::tool {
namespace {

struct BoolParameter {
    const char *name;
    bool core_params::*member;
};

struct NumberParameter {
    const char *name;
    host_u32 core_params::*member;
};

constexpr std::array kBoolParameters = {
    BoolParameter{"vnmi", &core_params::vnmi},
    BoolParameter{"preemption_timer", &core_params::preemption_timer},
    BoolParameter{"ept", &core_params::ept},
    BoolParameter{"eptad", &core_params::eptad},
    BoolParameter{"vpid", &core_params::vpid},
    BoolParameter{"unrestricted_guest", &core_params::unrestricted_guest},
    BoolParameter{"flexpriority", &core_params::flexpriority},
    BoolParameter{"pml", &core_params::pml},
    BoolParameter{"enable_apicv", &core_params::enable_apicv},
    BoolParameter{"emulate_invalid_guest_state", &core_params::emulate_invalid_guest_state},
    BoolParameter{"error_on_inconsistent_vmcs_config",
                  &core_params::error_on_inconsistent_vmcs_config},
};

constexpr std::array kNumberParameters = {
    NumberParameter{"ple_gap", &core_params::ple_gap},
    NumberParameter{"ple_window", &core_params::ple_window},
};

std::string known_names()
{
    std::vector<std::string_view> names;
    for (const BoolParameter &parameter : kBoolParameters)
        names.emplace_back(parameter.name);
    for (const NumberParameter &parameter : kNumberParameters)
        names.emplace_back(parameter.name);
    return fmt::format("{}", fmt::join(names, ", "));
}

bool parse_bool(std::string_view name, std::string_view value)
{
    constexpr std::array<std::string_view, 6> kTrue = {"", "1", "y", "Y", "on", "ON"};
    constexpr std::array<std::string_view, 5> kFalse = {"0", "n", "N", "off", "OFF"};
    if (std::find(kTrue.begin(), kTrue.end(), value) != kTrue.end())
        return true;
    if (std::find(kFalse.begin(), kFalse.end(), value) != kFalse.end())
        return false;
    fail_usage("--param: {}={}: expected 1 or 0", name, value);
}

void assign(Parameters &parameters, std::string_view name, std::string_view value)
{
    for (const BoolParameter &parameter : kBoolParameters) {
        if (name == parameter.name) {
            parameters.*parameter.member = parse_bool(name, value);
            return;
        }
    }
    for (const NumberParameter &parameter : kNumberParameters) {
        if (name == parameter.name) {
            parameters.*parameter.member = static_cast<host_u32>(parse_number(
                fmt::format("--param: {}", name), value, 0, std::numeric_limits<host_u32>::max()));
            return;
        }
    }
    fail_usage("--param: the module has no parameter '{}' that decides over controls, expected {}",
               name, known_names());
}

} // namespace

Parameters parse_parameters(const std::vector<std::string> &assignments)
{
    Parameters parameters = default_parameters();
    for (const std::string &assignment : assignments) {
        const std::string_view text = assignment;
        const std::size_t equals = std::min(text.find('='), text.size());
        assign(parameters, text.substr(0, equals), text.substr(std::min(equals + 1, text.size())));
    }
    return parameters;
}

nlohmann::ordered_json parameters_json(const Parameters &parameters)
{
    nlohmann::ordered_json json;
    for (const BoolParameter &parameter : kBoolParameters)
        json[parameter.name] = parameters.*parameter.member;
    for (const NumberParameter &parameter : kNumberParameters)
        json[parameter.name] = parameters.*parameter.member;
    return json;
}

} // namespace minivmx::tool
