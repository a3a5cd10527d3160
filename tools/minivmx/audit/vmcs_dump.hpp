// SPDX-License-Identifier: GPL-2.0-only
//
// The dump of a VMCS that kvm_intel (6.1 and later, with dump_invalid_vmcs=1) and minivmx print
// into the kernel's log, read back.
#pragma once

#include <minivmx/audit.hpp>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace minivmx::tool {

struct VmcsDump {
    unsigned line = 0; ///< where it begins in the file
    std::string title; ///< the line above it: "VMCS 00000000cafe, last attempted VM-entry on CPU 3"
    std::map<u32, u64> fields;                       ///< by encoding
    std::vector<AuditMsrEntry> entry_msrs;           ///< the VM-entry MSR-load area
    u64 vmcs_address = AuditSource::kUnknownAddress; ///< only minivmx tells it, and what follows
    VmxMsrs msr;
    u32 physical_bits = 0, linear_bits = 0; ///< 0: not told
    AuditFeatures features;
};

struct VmcsDumps {
    std::vector<VmcsDump> dumps;    ///< at least one
    std::vector<std::string> notes; ///< about dumps that are not complete
};

/// All dumps of the text, among whatever else is in the log, with whatever the log puts before each
/// line. Throws a usage Error that names `path`, the line, and what it expected: where a line of a
/// dump is malformed, and where there is no complete dump.
VmcsDumps parse_vmcs_dumps(const std::string &path, std::string_view text);

} // namespace minivmx::tool
