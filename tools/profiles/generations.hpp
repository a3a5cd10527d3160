// SPDX-License-Identifier: GPL-2.0-only
//
// The microarchitecture behind a CPU's signature, and when it came: what orders CPUs by generation.
#pragma once

#include "profiles.hpp"

namespace minivmx::profiles {

/// A family of designs, each with a history of its own.
enum class CpuLine {
    kCore,    ///< Intel Core and Xeon
    kAtom,    ///< Intel Atom and its successors
    kCentaur, ///< VIA and Zhaoxin
    kUnknown,
};

struct Generation {
    const char *name; ///< "Ivy Bridge"
    CpuLine line;
    unsigned year; ///< the first of its CPUs was sold in; 0: unknown
};

/// "Core and Xeon", "Atom", "VIA and Zhaoxin", "other".
const char *line_name(CpuLine line);

/// By vendor, family, model and stepping; a Generation named "unknown" when it is none of ours.
const Generation &generation_of(const std::string &vendor, CpuSignature signature);
const Generation &generation_of(const CpuProfile &profile);
bool same_generation(const CpuProfile &a, const CpuProfile &b);

/// All shipped profiles: real CPUs before emulated ones, then by line, year and generation.
std::vector<const CpuProfile *> profiles_by_generation();

} // namespace minivmx::profiles
