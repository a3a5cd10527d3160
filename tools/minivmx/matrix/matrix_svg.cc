// SPDX-License-Identifier: GPL-2.0-only
//
// The matrix as a picture: marks as in the page. Marks of one kind are one path, so that the file
// stays small: a line of no length with round or square ends is a disc or a square.
#include "control_facts.hpp"
#include "markup.hpp"
#include "matrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace minivmx::tool {
namespace {

constexpr int kCell = 14;
constexpr int kRow = 16;
constexpr int kHeading = 30;
constexpr int kMargin = 20;
constexpr int kNames = 250;
constexpr int kGenerations = 148;
constexpr int kLabels = 136;
constexpr int kTitle = 54;
constexpr int kLeft = kMargin + kNames;
constexpr int kTop = kTitle + kGenerations + kLabels;

constexpr const char *kStyle = R"(<style>
  :root { --page: #ffffff; --text: #1b1f27; --soft: #5b6472; --faint: #c3c8d1; --band: #f2f4f7; --rule: #d5dae2;
    --required: #1d4fd7; --used: #0b8577; --available: #b9770e; --missing: #c81e1e; }
  @media (prefers-color-scheme: dark) {
    :root { --page: #12151b; --text: #e6e9ef; --soft: #9aa3b2; --faint: #444c59; --band: #191d25; --rule: #303744;
      --required: #7ba6ff; --used: #36c9b4; --available: #e0a83f; --missing: #ff7b72; } }
  text { font: 11.5px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--text); }
  .soft { fill: var(--soft); font-size: 10.5px; } .strong { font-weight: 600; } .title { font-size: 17px; font-weight: 650; }
  .page { fill: var(--page); } .band { fill: var(--band); } .rule { stroke: var(--rule); }
  path { fill: none; }
  .required, .required-off { stroke: var(--required); stroke-width: 9; stroke-linecap: square; }
  .used, .used-off { stroke: var(--used); stroke-width: 10; stroke-linecap: round; }
  .hole-square { stroke: var(--page); stroke-width: 5; stroke-linecap: square; }
  .hole-round { stroke: var(--page); stroke-width: 6; stroke-linecap: round; }
  .available { stroke: var(--available); stroke-width: 1.4; } .available-on { fill: var(--available); }
  .absent { stroke: var(--faint); stroke-width: 3; stroke-linecap: round; }
  .missing { stroke: var(--missing); stroke-width: 2.2; }
  .unknown { fill: var(--soft); font-size: 10px; text-anchor: middle; }
</style>
)";

/// The marks of each kind, as the paths that draw them.
class Marks {
  public:
    void put(CellState state, bool on, int x, int y)
    {
        switch (state) {
        case CellState::kRequired:
            required_ += dot(x, y, "h.01");
            if (!on)
                square_holes_ += dot(x, y, "h.01");
            break;
        case CellState::kUsed:
            used_ += dot(x, y, "h.01");
            if (!on)
                round_holes_ += dot(x, y, "h.01");
            break;
        case CellState::kAvailable:
            (on ? available_on_ : available_) += dot(x, y - 4, "l4 4l-4 4l-4-4z");
            break;
        case CellState::kAbsent:
            absent_ += dot(x, y, "h.01");
            break;
        case CellState::kMissing:
            missing_ += dot(x - 4, y - 4, "l8 8m0-8l-8 8");
            break;
        case CellState::kUnknown:
            unknown_ +=
                fmt::format("<text class=\"unknown\" x=\"{}\" y=\"{}\">?</text>\n", x, y + 4);
            break;
        }
    }

    std::string svg() const
    {
        std::string text;
        const std::array<std::pair<const char *, const std::string *>, 8> paths = {{
            {"absent", &absent_},
            {"required", &required_},
            {"hole-square", &square_holes_},
            {"used", &used_},
            {"hole-round", &round_holes_},
            {"available", &available_},
            {"available available-on", &available_on_},
            {"missing", &missing_},
        }};
        for (const auto &[name, path] : paths)
            if (!path->empty())
                text += fmt::format("<path class=\"{}\" d=\"{}\"/>\n", name, *path);
        return text + unknown_;
    }

  private:
    static std::string dot(int x, int y, const char *shape)
    {
        return fmt::format("M{} {}{}", x, y, shape);
    }

    std::string required_, square_holes_, used_, round_holes_, available_, available_on_, absent_,
        missing_, unknown_;
};

int center_of_column(std::size_t i)
{
    return kLeft + static_cast<int>(i) * kCell + kCell / 2;
}

std::string upright(const char *style, int x, int y, std::string_view text)
{
    return fmt::format("<text class=\"{}\" transform=\"translate({} {}) rotate(-90)\">{}</text>\n",
                       style, x + 4, y, escaped(text));
}

bool begins_generation(const Matrix &matrix, std::size_t i)
{
    if (i == 0 || i == matrix.columns.size())
        return true;
    const MatrixColumn &before = matrix.columns[i - 1], &column = matrix.columns[i];
    return before.profile->emulated != column.profile->emulated ||
           !profiles::same_generation(*before.profile, *column.profile);
}

/// Every other generation on a darker ground, with its name above.
std::string generations(const Matrix &matrix, int height)
{
    std::string text;
    unsigned number = 0;
    for (std::size_t first = 0; first < matrix.columns.size(); number++) {
        std::size_t end = first + 1;
        while (!begins_generation(matrix, end))
            end++;
        const MatrixColumn &column = matrix.columns[first];
        const int x = kLeft + static_cast<int>(first) * kCell;
        const int width = static_cast<int>(end - first) * kCell;
        if (number % 2 == 0)
            text += fmt::format("<rect class=\"band\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\""
                                "/>\n",
                                x, kTitle, width, height - kTitle - kMargin);
        text += upright("strong", x + width / 2, kTitle + kGenerations - 6,
                        fmt::format("{} {}{}", column.generation->name, column.generation->year,
                                    column.profile->emulated ? "*" : ""));
        first = end;
    }
    for (std::size_t i = 0; i < matrix.columns.size(); i++)
        text += upright("soft", center_of_column(i), kTop - 6, matrix.columns[i].label);
    return text;
}

std::string legend(int right)
{
    Marks marks;
    std::string text;
    int x = right - 615;
    const int y = 26;
    for (const CellState state : kCellStates) {
        const bool on = state == CellState::kRequired || state == CellState::kUsed;
        marks.put(state, on, x, y);
        const std::string_view name = cell_state_name(state);
        text += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", x + 10, y + 4, name);
        x += 32 + 7 * static_cast<int>(name.size());
    }
    marks.put(CellState::kRequired, false, x, y);
    marks.put(CellState::kUsed, false, x + 14, y);
    text += fmt::format("<text x=\"{}\" y=\"{}\">off in a typical vCPU</text>\n", x + 24, y + 4);
    return text + marks.svg();
}

} // namespace

std::string matrix_svg(const Matrix &matrix)
{
    Marks marks;
    std::string body;
    int y = kTop;
    const int width =
        std::max(kLeft + static_cast<int>(matrix.columns.size()) * kCell + kMargin, 900);
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlField field = static_cast<ControlField>(i);
        y += kHeading;
        body += fmt::format("<text class=\"strong\" x=\"{}\" y=\"{}\">{}</text><path class=\"rule\""
                            " d=\"M{} {}H{}\"/>\n",
                            kMargin, y - 8, capitalized(control_word_info(field).name), kMargin,
                            y - 2, width - kMargin);
        for (const ControlBit &row : control_bits_of(field)) {
            body += fmt::format("<text x=\"{}\" y=\"{}\">{}<title>{}</title></text>\n", kMargin + 8,
                                y + 12, escaped(row.name), escaped(row.summary));
            for (std::size_t c = 0; c < matrix.columns.size(); c++)
                marks.put(matrix.columns[c].state(row), matrix.columns[c].explanation.bit(row).on,
                          center_of_column(c), y + kRow / 2);
            y += kRow;
        }
    }
    const int height = y + kMargin;
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\" role=\"img\" aria-label=\"VMX controls by CPU\">\n{2}<rect class=\"page\" "
        "width=\"{0}\" height=\"{1}\"/>\n<text class=\"title\" x=\"{3}\" y=\"32\">VMX controls by "
        "CPU</text>\n{4}{5}{6}{7}</svg>\n",
        width, height, kStyle, kMargin, legend(width - kMargin), generations(matrix, height), body,
        marks.svg());
}

} // namespace minivmx::tool
