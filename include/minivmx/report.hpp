// SPDX-License-Identifier: GPL-2.0-only
//
// The negotiated capabilities as text: dmesg at module load, and `minivmx report`.
#pragma once

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
void print_report(const Hardware& hardware, ReportLevel level, const LineSink& out);

/// For each bit of each word: the rule that decided it last, as recorded while negotiating.
class RuleHistory {
public:
    /// Negotiates again for `hardware` and keeps what acted.
    explicit RuleHistory(const Hardware& hardware);
    /// Rule::kCount when no rule touched the bit.
    Rule last_rule(ControlField field, unsigned bit) const {
        return last_[static_cast<unsigned>(field)][bit];
    }

private:
    static void record(void* context, const RuleEvent& event);

    Rule last_[kControlFieldCount][64];
};

} // namespace minivmx
