// SPDX-License-Identifier: GPL-2.0-only
//
// What the core's audit says of dumps, for `minivmx audit`.
#pragma once

#include "vmcs_dump.hpp"

#include <minivmx/host_desc.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// The capabilities of the CPU that a dump is from, beyond what the dump tells.
struct AuditedCpu {
    std::string name; ///< of the CPU or its file; empty: nothing is known
    VmxMsrs msr;
    u32 physical_bits = 0; ///< 0: unknown
    AuditFeatures features;
};
/// `width_known`: the description's width of physical addresses is not just a default.
AuditedCpu audited_cpu(const std::string &name, const HostDesc &host, bool width_known);

enum class AuditResult {
    kClean,      ///< every check was made, and holds
    kViolated,   ///< one at least is violated
    kIncomplete, ///< none that could be made is violated, but not all could be made
};

struct AuditedDump {
    VmcsDump dump;
    AuditSummary summary;
    std::vector<AuditFinding> violated, not_checkable;

    AuditResult result() const;
    /// The CPU got as far as the guest state: what comes before is valid.
    bool passed_controls() const;
};

struct AuditReport {
    std::string path;
    std::string cpu; ///< empty: capabilities were not given
    std::vector<AuditedDump> dumps;
    std::vector<std::string> notes;

    AuditResult result() const; ///< the worst: violated, then incomplete
};

AuditReport audit_dumps(const std::string &path, const VmcsDumps &dumps, const AuditedCpu &cpu);

/// Lines for a person.
std::string audit_text(const AuditReport &report);

/// Everything; numbers of more than 32 bits are strings in hexadecimal.
nlohmann::ordered_json audit_json(const AuditReport &report);

} // namespace minivmx::tool
