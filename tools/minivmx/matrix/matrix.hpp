// SPDX-License-Identifier: GPL-2.0-only
//
// Every control on every CPU that ships with minivmx: controls down, CPUs across by generation.
// What is in a cell and why is the explanation's; this only arranges it.
#pragma once

#include "../explain.hpp"

#include <generations.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace minivmx::tool {

/// What a control is on one CPU.
enum class CellState {
    kAbsent,    ///< the CPU does not have it
    kAvailable, ///< the CPU has it; minivmx leaves it alone, or had to turn it off
    kUsed,      ///< optional, and taken
    kRequired,  ///< required, and there
    kMissing,   ///< required, and not there: the module does not load
    kUnknown,   ///< its capability MSR is not among the CPU's values
};
inline constexpr CellState kCellStates[] = {CellState::kRequired,  CellState::kUsed,
                                            CellState::kAvailable, CellState::kAbsent,
                                            CellState::kMissing,   CellState::kUnknown};
/// "absent", "available", "used", "required", "missing", "unknown".
const char *cell_state_name(CellState state);
/// The state in words: "optional, and taken".
const char *cell_state_text(CellState state);

/// One CPU.
struct MatrixColumn {
    const profiles::CpuProfile *profile;
    const profiles::Generation *generation;
    std::string label;   ///< short, for a heading: "i7-3770K"
    std::string title;   ///< in full, and unique
    bool representative; ///< the first of its generation and kind (real or emulated)
    Explanation explanation;

    CellState state(const ControlBit &row) const;
};

/// Which columns there are.
struct MatrixChoice {
    Parameters parameters = default_parameters();
    std::vector<std::string> cpus; ///< parts of names, any of which will do; none: all
    bool one_per_generation = false;
    bool real_only = false;
};

struct Matrix {
    std::string parameters; ///< those that are not the default: "ept=0 vpid=0"
    std::vector<MatrixColumn> columns;
};

/// The vCPU whose words a cell tells: as QEMU makes it, with the interrupt controllers in the
/// kernel and a CPUID that has all that the controls can offer.
VcpuChoice typical_vcpu();

/// Throws a usage Error when no CPU has any of the names.
Matrix make_matrix(const MatrixChoice &choice);

/// "Intel(R) Core(TM) i7-3770K CPU @ 3.50GHz" as "i7-3770K"; the profile's name where the brand
/// string says nothing.
std::string short_cpu_name(const profiles::CpuProfile &profile);

/// "12 Control-register access"; empty for -1.
std::string exit_reason_text(int basic_reason);

/// A self-contained page.
std::string matrix_html(const Matrix &matrix);
/// A picture.
std::string matrix_svg(const Matrix &matrix);
/// A line for each control, RFC 4180.
std::string matrix_csv(const Matrix &matrix);

} // namespace minivmx::tool
