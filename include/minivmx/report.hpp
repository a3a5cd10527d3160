// SPDX-License-Identifier: GPL-2.0-only
//
// The negotiated capabilities as text: dmesg at module load, and `minivmx report`.
#pragma once

#include <minivmx/explain.hpp>
#include <minivmx/text.hpp>
#include <minivmx/vmcs_config.hpp>

namespace minivmx {

/// How much print_report() says.
enum class ReportLevel : u32 {
    kNone = 0,
    kScreen = 1,   ///< fits a terminal: each word as hex and as names
    kEveryBit = 2, ///< a line for each bit of each word, with the reason
};

/// Writes the report of a successful hardware_setup(), line by line. Does not sleep.
void print_report(const Hardware &hardware, ReportLevel level, const LineSink &out);

/// What became of a bit, in the order in which it was decided.
struct BitFate {
    bool negotiated;       ///< on after setup_vmcs_config()
    bool on;               ///< on after the parameters
    bool allowed;          ///< the CPU has it
    Rule rule;             ///< what decided it in setup_vmcs_config(), or Rule::kCount
    const char *untouched; ///< why nothing decided over it, or nullptr
};
BitFate fate_of(const Hardware &hw, const WordHistory &history, const ControlBit &row);

/// Appends why the bit is on or off, or what it does when there is nothing to explain.
void put_reason(TextBuilder &line, const Hardware &hw, const ControlBit &row, const BitFate &fate);

/// "required", "optional", "unused".
const char *use_name(ControlUse use);

/// The negotiated word after what the module's parameters do to it when a vCPU is created.
u64 word_after_parameters(const Hardware &hw, ControlField field);

/// Names of the bits of vmx_capability::ept and ::vpid. SDM Vol. 3D, A.10.
struct CapabilityName {
    u32 mask;
    const char *name;
};
Span<const CapabilityName> ept_capability_names();
Span<const CapabilityName> vpid_capability_names();

} // namespace minivmx
