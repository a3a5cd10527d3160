// SPDX-License-Identifier: GPL-2.0-only
#include "matrix.hpp"

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

/// RFC 4180: quotes only where they are needed, and doubled inside.
std::string quoted(const std::string &text)
{
    if (text.find_first_of(",\"\r\n") == std::string::npos)
        return text;
    std::string result = "\"";
    for (const char c : text) {
        result += c;
        if (c == '"')
            result += c;
    }
    return result + "\"";
}

std::string line(const std::vector<std::string> &cells)
{
    std::string text;
    for (const std::string &cell : cells) {
        if (&cell != &cells.front())
            text += ',';
        text += quoted(cell);
    }
    return text + "\r\n";
}

} // namespace

std::string matrix_csv(const Matrix &matrix)
{
    std::vector<std::string> cells = {"field", "bit", "name", "slug", "constant", "sdm"};
    for (const MatrixColumn &column : matrix.columns)
        cells.push_back(fmt::format("{} {}{}", column.generation->name, column.title,
                                    column.profile->emulated ? " (Bochs)" : ""));
    std::string text = line(cells);
    for (const ControlBit &row : all_control_bits()) {
        cells = {control_word_info(row.field).slug,
                 std::to_string(row.bit),
                 row.name,
                 row.slug,
                 row.macro,
                 row.sdm};
        for (const MatrixColumn &column : matrix.columns)
            cells.emplace_back(cell_state_name(column.state(row)));
        text += line(cells);
    }
    return text;
}

} // namespace minivmx::tool
