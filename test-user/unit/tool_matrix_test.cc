// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx matrix`: what its cells say, against plain arithmetic on the MSRs and kvm_intel's lists;
// and that page, picture, table and document all carry it.
#include "kvm_61_oracle.hpp"
#include "support.hpp"
#include "tool_support.hpp"

#include <control_prose.hpp>
#include <matrix/control_facts.hpp>
#include <matrix/controls_markdown.hpp>
#include <matrix/matrix.hpp>
#include <matrix/rule_sweep.hpp>

#include <minivmx/exit_name.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace minivmx::tool {
namespace {

using Json = nlohmann::json;

const Matrix &whole_matrix()
{
    static const Matrix matrix = make_matrix({});
    return matrix;
}

u64 kvm_word(const test::KvmWords &words, ControlField field)
{
    switch (field) {
    case ControlField::kPin:
        return words.pin;
    case ControlField::kPrimary:
        return words.primary;
    case ControlField::kSecondary:
        return words.secondary;
    case ControlField::kTertiary:
        return words.tertiary;
    case ControlField::kExit:
        return words.exit;
    case ControlField::kEntry:
        return words.entry;
    case ControlField::kExitSecondary:
        break;
    }
    return 0;
}

/// What the CPU lets be 1, straight from the MSRs; SDM Vol. 3D, A.3 to A.5. The secondary and
/// tertiary words and the secondary exit word exist where a bit of another word may be 1.
u64 may_be_1(const VmxMsrs &msr, ControlField field)
{
    const auto high = [&](u32 number) { return msr.present(number) ? msr[number] >> 32 : 0; };
    const auto all = [&](u32 number) { return msr.present(number) ? msr[number] : 0; };
    const bool true_msrs = (msr[0x480] >> 55 & 1) != 0;
    switch (field) {
    case ControlField::kPin:
        return high(true_msrs ? 0x48d : 0x481);
    case ControlField::kPrimary:
        return high(true_msrs ? 0x48e : 0x482);
    case ControlField::kSecondary:
        return high(0x48b);
    case ControlField::kTertiary:
        return all(0x492);
    case ControlField::kExit:
        return high(true_msrs ? 0x48f : 0x483);
    case ControlField::kExitSecondary:
        return all(0x493);
    case ControlField::kEntry:
        break;
    }
    return high(true_msrs ? 0x490 : 0x484);
}

bool is_told(const VmxMsrs &msr, ControlField field)
{
    if (field == ControlField::kTertiary)
        return msr.present(0x492) || (may_be_1(msr, ControlField::kPrimary) >> 17 & 1) == 0;
    if (field == ControlField::kExitSecondary)
        return msr.present(0x493) || (may_be_1(msr, ControlField::kExit) >> 31 & 1) == 0;
    return true;
}

/// Errata that 6.1 heeds elsewhere than where it negotiates: a VM exit may clear bits of
/// IA32_PERF_GLOBAL_CTRL, so the pair of controls that switch it is left alone.
bool has_perf_global_ctrl_erratum(const profiles::CpuProfile &profile)
{
    const std::set<u32> models = {26, 30, 37, 44, 46};
    const CpuSignature signature{profile.signature};
    return signature.family() == 6 && models.contains(signature.model());
}

std::string expected_state(const profiles::CpuProfile &profile, const ControlBit &row)
{
    if (!is_told(profile.msr, row.field))
        return "unknown";
    if ((may_be_1(profile.msr, row.field) & row.mask()) == 0)
        return row.use == ControlUse::kRequired ? "missing" : "absent";
    if (row.use == ControlUse::kRequired)
        return "required";
    const test::KvmWords kvm = test::kvm_61::config(profile.host());
    const bool erratum = has_perf_global_ctrl_erratum(profile) &&
                         (row.macro == std::string("VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL") ||
                          row.macro == std::string("VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL"));
    const bool taken = !kvm.refused && !erratum && (kvm_word(kvm, row.field) & row.mask()) != 0;
    return taken ? "used" : "available";
}

TEST(Matrix, EveryCpuHasAColumnWithANameOfItsOwn)
{
    const Matrix &matrix = whole_matrix();
    ASSERT_EQ(matrix.columns.size(), profiles::shipped_profiles().size());
    std::set<std::string> titles;
    std::set<const profiles::CpuProfile *> profiles;
    for (const MatrixColumn &column : matrix.columns) {
        titles.insert(column.title);
        profiles.insert(column.profile);
        EXPECT_FALSE(column.label.empty()) << column.title;
        EXPECT_LE(column.label.size(), 20u) << column.label;
        EXPECT_STRNE(column.generation->name, "unknown") << column.title;
    }
    EXPECT_EQ(titles.size(), matrix.columns.size());
    EXPECT_EQ(profiles.size(), matrix.columns.size());
}

TEST(Matrix, ColumnsGoByGeneration)
{
    const std::vector<MatrixColumn> &columns = whole_matrix().columns;
    std::set<std::string> ended;
    for (std::size_t i = 1; i < columns.size(); i++) {
        const MatrixColumn &a = columns[i - 1], &b = columns[i];
        EXPECT_LE(a.profile->emulated, b.profile->emulated) << b.title;
        if (a.profile->emulated != b.profile->emulated) {
            ended.clear();
            continue;
        }
        EXPECT_LE(a.generation->line, b.generation->line) << b.title;
        if (a.generation->line == b.generation->line) {
            EXPECT_LE(a.generation->year, b.generation->year) << b.title;
        }
        if (!profiles::same_generation(*a.profile, *b.profile)) {
            EXPECT_TRUE(ended.insert(a.generation->name).second) << a.generation->name;
            EXPECT_TRUE(b.representative);
        }
        EXPECT_FALSE(ended.contains(b.generation->name)) << b.generation->name;
    }
}

TEST(Matrix, CellsAgreeWithTheMsrsAndWithKvmIntel)
{
    for (const MatrixColumn &column : whole_matrix().columns)
        for (const ControlBit &row : all_control_bits())
            EXPECT_EQ(cell_state_name(column.state(row)), expected_state(*column.profile, row))
                << column.title << ", " << row.slug;
}

TEST(Matrix, ParametersMoveCells)
{
    MatrixChoice choice;
    choice.parameters.ept = false;
    choice.cpus = {"i7-3770K"};
    const Matrix matrix = make_matrix(choice);
    EXPECT_EQ(matrix.parameters, "ept=0");
    const ControlBit &ept = *find_control("enable-ept");
    const ControlBit &cr3 = *find_control("cr3-load-exiting");
    for (const MatrixColumn &column : matrix.columns) {
        EXPECT_FALSE(column.explanation.bit(ept).on) << column.title;
        EXPECT_TRUE(column.explanation.bit(cr3).on) << column.title;
    }
}

TEST(Matrix, NamesChooseColumns)
{
    MatrixChoice choice;
    choice.cpus = {"haswell", "LUNAR"};
    std::set<std::string> generations;
    for (const MatrixColumn &column : make_matrix(choice).columns)
        generations.insert(column.generation->name);
    EXPECT_EQ(generations, (std::set<std::string>{"Haswell", "Lunar Lake"}));

    choice.cpus = {"z80"};
    EXPECT_NE(usage_error([&] { make_matrix(choice); }).find("'z80'"), std::string::npos);
}

TEST(Matrix, OneColumnForEachGeneration)
{
    MatrixChoice choice;
    choice.one_per_generation = choice.real_only = true;
    std::set<std::string> generations;
    const Matrix matrix = make_matrix(choice);
    for (const MatrixColumn &column : matrix.columns) {
        EXPECT_FALSE(column.profile->emulated);
        EXPECT_TRUE(generations.insert(column.generation->name).second) << column.title;
    }
    EXPECT_GT(generations.size(), 25u);
}

TEST(Matrix, ShortNames)
{
    const auto name_of = [](const char *brand) {
        profiles::CpuProfile profile;
        profile.name = "Name";
        profile.cpu = brand;
        return short_cpu_name(profile);
    };
    EXPECT_EQ(name_of("Intel(R) Core(TM) i7-3770K CPU @ 3.50GHz"), "i7-3770K");
    EXPECT_EQ(name_of("Intel(R) Core(TM)2 CPU         X6800  @ 2.93GHz"), "Core2 X6800");
    EXPECT_EQ(name_of("11th Gen Intel(R) Core(TM) i5-1135G7 @ 2.40GHz"), "i5-1135G7");
    EXPECT_EQ(name_of("INTEL(R) XEON(R) GOLD 5520+"), "Xeon Gold 5520+");
    EXPECT_EQ(name_of("Intel(R) Core(TM) 7 350"), "Core 7 350");
    EXPECT_EQ(name_of("ZHAOXIN KaiXian KX-6640MA@2.2+GHz"), "KX-6640MA");
    EXPECT_EQ(name_of("Genuine Intel(R) CPU  @ 2.60GHz"), "Name");
    EXPECT_EQ(name_of(""), "Name");
}

// ---- The page ----

/// What lies between the first `open` and the `close` that follows.
std::string between(const std::string &text, const std::string &open, const std::string &close)
{
    const std::size_t begin = text.find(open);
    if (begin == std::string::npos)
        return "";
    const std::size_t end = text.find(close, begin + open.size());
    return text.substr(begin + open.size(), end - begin - open.size());
}

std::vector<std::string> all_between(const std::string &text, const std::string &open,
                                     const std::string &close)
{
    std::vector<std::string> parts;
    for (std::size_t at = 0; (at = text.find(open, at)) != std::string::npos;) {
        const std::size_t end = text.find(close, at + open.size());
        parts.push_back(text.substr(at + open.size(), end - at - open.size()));
        at = end;
    }
    return parts;
}

unsigned count(const std::string &text, const std::string &part)
{
    unsigned n = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size())
        n++;
    return n;
}

TEST(MatrixHtml, EachCellIsInTheTable)
{
    const Matrix &matrix = whole_matrix();
    const std::string page = matrix_html(matrix);
    for (const ControlBit &row : all_control_bits()) {
        const std::string line =
            between(page, "<tr class=\"control\" id=\"" + std::string(row.slug) + "\">", "</tr>");
        const std::vector<std::string> cells = all_between(line, "<td class=\"cell ", "\"");
        ASSERT_EQ(cells.size(), matrix.columns.size()) << row.slug;
        for (std::size_t i = 0; i < cells.size(); i++) {
            std::istringstream words(cells[i]);
            std::string state, on;
            words >> state >> on;
            EXPECT_EQ(state, cell_state_name(matrix.columns[i].state(row))) << row.slug;
            EXPECT_EQ(on == "on", matrix.columns[i].explanation.bit(row).on) << row.slug;
        }
    }
}

TEST(MatrixHtml, EachCellHasItsExplanation)
{
    const Matrix &matrix = whole_matrix();
    const Json data = Json::parse(between(
        matrix_html(matrix), "<script type=\"application/json\" id=\"data\">", "</script>"));
    ASSERT_EQ(data["cpus"].size(), matrix.columns.size());
    ASSERT_EQ(data["controls"].size(), kControlCount);
    for (std::size_t r = 0; r < kControlCount; r++) {
        const ControlBit &row = kControlTable[r];
        const Json &control = data["controls"][r];
        EXPECT_EQ(control["slug"], row.slug);
        ASSERT_EQ(control["cells"].size(), matrix.columns.size());
        for (std::size_t i = 0; i < matrix.columns.size(); i++) {
            const ExplainedBit &bit = matrix.columns[i].explanation.bit(row);
            const Json &way = control["ways"].at(control["cells"][i].get<std::size_t>());
            EXPECT_EQ(way["state"], cell_state_name(matrix.columns[i].state(row)));
            EXPECT_EQ(way["on"], bit.on);
            EXPECT_EQ(way["untouched"], bit.untouched);
            ASSERT_EQ(way["steps"].size(), bit.steps.size());
            for (std::size_t s = 0; s < bit.steps.size(); s++) {
                const Json &step = way["steps"][s];
                EXPECT_EQ(step[0] == 1, bit.steps[s].to_one);
                EXPECT_EQ(data["text"].at(step[1].get<std::size_t>()), bit.steps[s].rule);
                EXPECT_EQ(data["text"].at(step[3].get<std::size_t>()), bit.steps[s].reason);
            }
            EXPECT_TRUE(!bit.steps.empty() || !bit.untouched.empty()) << row.slug;
        }
    }
}

TEST(MatrixHtml, ItIsOneFileAndWellFormed)
{
    const std::string page = matrix_html(whole_matrix());
    for (const char *const outside : {" src=", "@import", "url(", "<link", "http://", "https://"})
        EXPECT_EQ(page.find(outside), std::string::npos) << outside;
    EXPECT_EQ(page.find("{{"), std::string::npos);
    for (const std::string element : {"table", "thead", "tbody", "tr", "td", "script", "style",
                                      "main", "aside", "header", "form", "label", "fieldset"})
        EXPECT_EQ(count(page, "<" + element + ">") + count(page, "<" + element + " "),
                  count(page, "</" + element + ">"))
            << element;
    std::set<std::string> ids;
    for (const std::string &id : all_between(page, " id=\"", "\""))
        EXPECT_TRUE(ids.insert(id).second) << id;
}

TEST(MatrixHtml, NamesOfCpusCannotBreakOut)
{
    Matrix matrix = make_matrix({{}, {"i7-3770K"}, true, true});
    matrix.columns[0].title = matrix.columns[0].label = "</script><b onload=\"x\">&";
    const std::string page = matrix_html(matrix);
    EXPECT_EQ(page.find("<b onload"), std::string::npos);
    EXPECT_EQ(count(page, "</script>"), 2u);
    const Json data =
        Json::parse(between(page, "<script type=\"application/json\" id=\"data\">", "</script>"));
    EXPECT_EQ(data["cpus"][0]["title"], "</script><b onload=\"x\">&");
}

// ---- Picture and table ----

/// A file of docs/.
std::string document(const std::string &name)
{
    std::ifstream file(std::filesystem::path(__FILE__).parent_path() / "../../docs" / name);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

TEST(MatrixSvg, ThePictureInDocsIsCurrent)
{
    MatrixChoice choice;
    choice.one_per_generation = choice.real_only = true;
    EXPECT_TRUE(document("matrix.svg") == matrix_svg(make_matrix(choice)))
        << "docs/matrix.svg: make docs renews it";
}

TEST(MatrixSvg, HasAMarkForEachCell)
{
    const Matrix &matrix = whole_matrix();
    const std::string picture = matrix_svg(matrix);
    EXPECT_TRUE(picture.starts_with("<svg ")) << picture.substr(0, 20);
    EXPECT_TRUE(picture.ends_with("</svg>\n"));
    for (const std::string element : {"text", "style", "title"})
        EXPECT_EQ(count(picture, "<" + element), count(picture, "</" + element + ">")) << element;
    std::map<std::string, unsigned> expected;
    for (const MatrixColumn &column : matrix.columns)
        for (const ControlBit &row : all_control_bits())
            expected[cell_state_name(column.state(row))]++;
    // The last path of each kind; the one before is the legend's.
    const auto marks = [&](const std::string &kind) {
        const std::vector<std::string> paths =
            all_between(picture, "<path class=\"" + kind + "\" d=\"", "\"");
        return paths.empty() ? 0 : count(paths.back(), "M");
    };
    for (const char *const kind : {"required", "used", "absent"})
        EXPECT_EQ(marks(kind), expected[kind]) << kind;
    EXPECT_EQ(count(picture, ">?</text>"), expected["unknown"] + 1);
    for (const MatrixColumn &column : matrix.columns)
        EXPECT_NE(picture.find(">" + column.label + "</text>"), std::string::npos) << column.label;
}

/// RFC 4180, read by the book.
std::vector<std::vector<std::string>> read_csv(const std::string &text)
{
    std::vector<std::vector<std::string>> lines(1);
    std::string cell;
    bool quoted = false;
    for (std::size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if (quoted && c == '"' && text[i + 1] == '"') {
            cell += text[++i];
        } else if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && (c == ',' || c == '\r')) {
            lines.back().push_back(cell);
            cell.clear();
        } else if (!quoted && c == '\n') {
            lines.emplace_back();
        } else {
            cell += c;
        }
    }
    lines.pop_back();
    return lines;
}

TEST(MatrixCsv, HasALineForEachControl)
{
    const Matrix &matrix = whole_matrix();
    const auto lines = read_csv(matrix_csv(matrix));
    ASSERT_EQ(lines.size(), kControlCount + 1);
    constexpr std::size_t kFirst = 6;
    EXPECT_EQ(std::set<std::string>(lines[0].begin(), lines[0].end()).size(), lines[0].size());
    for (std::size_t r = 0; r < kControlCount; r++) {
        ASSERT_EQ(lines[r + 1].size(), kFirst + matrix.columns.size());
        EXPECT_EQ(lines[r + 1][2], kControlTable[r].name);
        for (std::size_t i = 0; i < matrix.columns.size(); i++)
            EXPECT_EQ(lines[r + 1][kFirst + i],
                      cell_state_name(matrix.columns[i].state(kControlTable[r])));
    }
}

// ---- The document ----

const std::string &new_controls_document()
{
    static const std::string text = controls_markdown();
    return text;
}

TEST(ControlsDocument, IsCurrent)
{
    // Not EXPECT_EQ: it would print both.
    EXPECT_TRUE(document("controls.md") == new_controls_document())
        << "docs/controls.md: make docs renews it";
}

TEST(ControlsDocument, HasASectionForEachBit)
{
    const std::string &text = new_controls_document();
    EXPECT_EQ(count(text, "\n### "), kControlCount);
    for (const ControlBit &row : all_control_bits()) {
        const std::string section =
            between(text, "\n### " + std::string(row.slug) + "\n", "\n### ");
        EXPECT_NE(section.find(row.macro), std::string::npos) << row.slug;
        EXPECT_NE(section.find(row.sdm), std::string::npos) << row.slug;
        EXPECT_NE(section.find("| minivmx | " + std::string(use_name(row.use))), std::string::npos)
            << row.slug;
        EXPECT_NE(section.find("| kvm_intel 6.1 | "), std::string::npos) << row.slug;
        EXPECT_NE(section.find("| exit reason | "), std::string::npos) << row.slug;
        EXPECT_NE(section.find("| CPUs | "), std::string::npos) << row.slug;
    }
}

TEST(ControlsDocument, EachControlHasProse)
{
    for (const ControlBit &row : all_control_bits()) {
        const char *const prose = control_prose(row);
        ASSERT_NE(prose, nullptr) << row.slug;
        EXPECT_TRUE(std::string(prose).ends_with(".")) << row.slug;
    }
    EXPECT_EQ(control_prose("no-such-control"), nullptr);
}

TEST(ControlsDocument, ExitReasonsHaveNames)
{
    for (const ControlBit &row : all_control_bits())
        for (const int reason : {row.exit_reason, row.other_exit_reason})
            if (reason >= 0) {
                EXPECT_NE(exit_reason_name(static_cast<u32>(reason)), nullptr) << row.slug;
            }
}

/// A CPU on which each control may be 0 and 1.
HostDesc willing_cpu()
{
    HostDesc host = test::profile("SapphireRapids_05").host();
    for (u32 msr = 0x481; msr <= 0x490; msr++)
        if (msr <= 0x484 || msr == 0x48b || msr >= 0x48d)
            host.msr.set(msr, 0xffffffff00000000);
    host.msr.set(0x492, ~u64{0});
    host.has_sgx = true;
    return host;
}

// What the document says of kvm_intel: without a required control it refuses, of an optional one it
// takes what there is, an unused one it leaves alone.
TEST(ControlsDocument, KvmIntelAsksForTheSame)
{
    const HostDesc willing = willing_cpu();
    const test::KvmWords all = test::kvm_61::config(willing);
    ASSERT_FALSE(all.refused);
    for (const ControlBit &row : all_control_bits()) {
        if (row.field == ControlField::kExitSecondary)
            continue;
        HostDesc host = willing;
        test::forbid(host, row.field, row.mask());
        EXPECT_EQ((kvm_word(all, row.field) & row.mask()) != 0, row.use != ControlUse::kUnused)
            << row.slug;
        if (row.use == ControlUse::kRequired) {
            EXPECT_TRUE(test::kvm_61::config(host).refused) << row.slug;
        }
    }
}

TEST(ControlsDocument, RulesThatActAreFound)
{
    const RuleSweep sweep;
    const auto moves = [&](const char *slug, Rule rule, bool sets) {
        const std::vector<Mover> &movers = sweep.movers(*find_control(slug));
        return std::any_of(movers.begin(), movers.end(), [&](const Mover &mover) {
            return mover.rule == rule && mover.sets == sets;
        });
    };
    EXPECT_TRUE(moves("cr3-load-exiting", Rule::kEptMakesCr3ExitsNeedless, false));
    EXPECT_TRUE(moves("cr3-load-exiting", Rule::kParameter, true));
    EXPECT_TRUE(moves("hlt-exiting", Rule::kExitDisabled, false));
    EXPECT_TRUE(moves("rdtsc-exiting", Rule::kIntercepted, true));
    EXPECT_TRUE(moves("activate-vmx-preemption-timer", Rule::kBrokenPreemptionTimer, false));
    EXPECT_TRUE(moves("enable-encls-exiting", Rule::kNoSgx, false));
    EXPECT_TRUE(moves("use-tpr-shadow", Rule::kTprShadowNeedsApicAccess, false));
    EXPECT_FALSE(moves("external-interrupt-exiting", Rule::kParameter, false));
}

} // namespace
} // namespace minivmx::tool
