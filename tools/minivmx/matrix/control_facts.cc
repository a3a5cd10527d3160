// SPDX-License-Identifier: GPL-2.0-only
#include "control_facts.hpp"

#include "../lab/lab.hpp"

#include <minivmx/report.hpp>

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

/// Where a control appears in one line of CPUs.
struct Appearance {
    const profiles::Generation *first = nullptr;
    unsigned with = 0, without = 0, unknown = 0;

    void count(const MatrixColumn &column, const ControlBit &row)
    {
        switch (column.state(row)) {
        case CellState::kUnknown:
            unknown++;
            break;
        case CellState::kAbsent:
        case CellState::kMissing:
            without++;
            break;
        default:
            with++;
            if (first == nullptr)
                first = column.generation;
        }
    }

    std::string text(profiles::CpuLine line, bool is_oldest) const
    {
        const char *const name = profiles::line_name(line);
        if (with == 0)
            return unknown == 0 ? fmt::format("{}: none", name)
                                : fmt::format("{}: not known for {}", name, unknown);
        std::string text = is_oldest && without == 0
                               ? fmt::format("{}: all", name)
                               : fmt::format("{} since {} ({})", name, first->name, first->year);
        if (without != 0)
            text += fmt::format(", {} of {}", with, with + without + unknown);
        if (unknown != 0)
            text += fmt::format(", not known for {}", unknown);
        return text;
    }
};

} // namespace

std::string use_text(const ControlBit &row)
{
    std::string text = use_name(row.use);
    if (row.condition == ControlCondition::kHost64)
        text += " on a 64-bit host";
    else if (row.condition == ControlCondition::kSgx)
        text += " on a CPU with SGX";
    return text;
}

std::string kvm_intel_use_text(const ControlBit &row)
{
    return use_text(row);
}

std::string document_use_text(const ControlBit &row)
{
    return row.document == ControlUse::kUnused ? "in neither list" : use_name(row.document);
}

std::vector<std::string> exit_texts(const ControlBit &row)
{
    std::vector<std::string> texts;
    for (const int reason : {row.exit_reason, row.other_exit_reason})
        if (reason >= 0)
            texts.push_back(exit_reason_text(reason));
    return texts;
}

std::string since_text(const Matrix &matrix, const ControlBit &row)
{
    std::string text;
    bool everywhere = true;
    for (const auto line :
         {profiles::CpuLine::kCore, profiles::CpuLine::kAtom, profiles::CpuLine::kCentaur}) {
        Appearance appearance;
        const profiles::Generation *oldest = nullptr;
        for (const MatrixColumn &column : matrix.columns) {
            if (column.profile->emulated || column.generation->line != line)
                continue;
            if (oldest == nullptr)
                oldest = column.generation;
            appearance.count(column, row);
        }
        if (oldest == nullptr)
            continue;
        everywhere = everywhere && appearance.without == 0 && appearance.unknown == 0;
        if (!text.empty())
            text += "; ";
        text += appearance.text(line, appearance.first == oldest);
    }
    return everywhere ? "all" : text;
}

std::string sdm_text(const ControlBit &row)
{
    return fmt::format("SDM Vol. 3C, {}", row.sdm);
}

std::string lab_text(const ControlBit &row)
{
    const LabCase *const found = lab_case_of(row.slug);
    if (found == nullptr)
        return "";
    return found->shows() ? fmt::format("minivmx lab {}", row.slug)
                          : fmt::format("nothing to show: {}", found->why_not);
}

std::string capitalized(std::string text)
{
    if (!text.empty() && text[0] >= 'a' && text[0] <= 'z')
        text[0] = static_cast<char>(text[0] - 32);
    return text;
}

} // namespace minivmx::tool
