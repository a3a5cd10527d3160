// SPDX-License-Identifier: GPL-2.0-only
//
// What vmxcap prints has names in place of bits, so the MSRs are put together from them:
//     primary processor-based controls
//       Interrupt window exiting                 yes
//       CR3-load exiting                         default
//     Miscellaneous data
//       Hex: 0x7004c1e7
// yes: may be 0 or 1; no: must be 0; forced: must be 1; default: the first MSR says 1, and the TRUE
// MSR that it may be 0 (SDM Vol. 3D, A.2). Bits that it has no name for count as reserved.
#include "error.hpp"
#include "msr_formats.hpp"
#include "text_lines.hpp"

#include <minivmx/controls.hpp>

#include <algorithm>
#include <array>
#include <cctype>

namespace minivmx::tool {
namespace {

struct Section {
    const char *title;
    bool is_word;       ///< of controls, by name
    ControlField field; ///< of a word
    u32 msr;            ///< of any other, in hexadecimal
};
constexpr const char *kFirstTitle = "Basic VMX Information";
constexpr ControlField kNoWord = ControlField::kPin;
constexpr std::array kSections = {
    Section{kFirstTitle, false, kNoWord, MSR_IA32_VMX_BASIC},
    Section{"pin-based controls", true, ControlField::kPin, 0},
    Section{"primary processor-based controls", true, ControlField::kPrimary, 0},
    Section{"secondary processor-based controls", true, ControlField::kSecondary, 0},
    Section{"tertiary processor-based controls", true, ControlField::kTertiary, 0},
    Section{"VM-Exit controls", true, ControlField::kExit, 0},
    Section{"VM-Entry controls", true, ControlField::kEntry, 0},
    Section{"Miscellaneous data", false, kNoWord, MSR_IA32_VMX_MISC},
    Section{"VPID and EPT capabilities", false, kNoWord, MSR_IA32_VMX_EPT_VPID_CAP},
    Section{"VM Functions", false, kNoWord, MSR_IA32_VMX_VMFUNC},
};

/// Where its name of a control is not the architecture's, give or take a hyphen.
struct Alias {
    const char *name;
    ControlField field;
    u64 control;
};
constexpr std::array kAliases = {
    Alias{"Activate secondary control", ControlField::kPrimary,
          CPU_BASED_ACTIVATE_SECONDARY_CONTROLS},
    Alias{"APIC register emulation", ControlField::kSecondary, SECONDARY_EXEC_APIC_REGISTER_VIRT},
    Alias{"Conceal non-root operation from PT", ControlField::kSecondary,
          SECONDARY_EXEC_PT_CONCEAL_VMX},
    Alias{"Mode-based execute control (XS/XU)", ControlField::kSecondary,
          SECONDARY_EXEC_MODE_BASED_EPT_EXEC},
    Alias{"Sub-page write permissions", ControlField::kSecondary, SECONDARY_EXEC_SUB_PAGE_WRITE},
    Alias{"GPA translation for PT", ControlField::kSecondary, SECONDARY_EXEC_PT_USE_GPA},
    Alias{"TSC scaling", ControlField::kSecondary, SECONDARY_EXEC_TSC_SCALING},
    Alias{"User wait and pause", ControlField::kSecondary, SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE},
    Alias{"ENCLV exiting", ControlField::kSecondary, SECONDARY_EXEC_ENCLV_EXITING},
    Alias{"Enable IPI virtualization", ControlField::kTertiary, TERTIARY_EXEC_IPI_VIRT},
    Alias{"Conceal VM exits from PT", ControlField::kExit, VM_EXIT_PT_CONCEAL_PIP},
    Alias{"Conceal VM entries from PT", ControlField::kEntry, VM_ENTRY_PT_CONCEAL_PIP},
};

/// Letters and digits, in lower case.
std::string plain(std::string_view name)
{
    std::string text;
    for (const char c : name)
        if (std::isalnum(static_cast<unsigned char>(c)) != 0)
            text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

/// 0 for a name that no control of the word has.
u64 control_named(ControlField field, std::string_view name)
{
    for (const ControlBit &row : control_bits_of(field))
        if (plain(row.name) == plain(name))
            return row.mask();
    for (const Alias &alias : kAliases)
        if (alias.field == field && name == alias.name)
            return alias.control;
    return 0;
}

/// What was printed of a control word.
struct PrintedWord {
    bool there = false;
    u64 listed = 0;    ///< controls that have a line
    u64 may_be_1 = 0;  ///< yes, forced, default
    u64 must_be_1 = 0; ///< forced
    u64 default1 = 0;  ///< default
};

class VmxcapParser {
  public:
    explicit VmxcapParser(const NamedText &file) : file_(file) {}

    void take(unsigned number, std::string_view line)
    {
        const std::string_view text = trim(line);
        if (text.empty())
            return;
        for (const Section &section : kSections) {
            if (text == section.title) {
                section_ = &section;
                words_[static_cast<std::size_t>(section.field)].there |= section.is_word;
                return;
            }
        }
        if (section_ == nullptr)
            fail_usage("{}:{}: expected \"{}\", with which vmxcap begins, got {}", file_.path,
                       number, kFirstTitle, in_quotes(text));
        // cppcheck-suppress nullPointerRedundantCheck ; fail_usage() does not return
        if (section_->is_word)
            take_control(number, text);
        else
            take_value(number, text);
    }
    profiles::CpuProfile result();

  private:
    void take_value(unsigned number, std::string_view text)
    {
        constexpr std::string_view kHex = "Hex:";
        if (!text.starts_with(kHex))
            return; // the same value in words
        const std::optional<u64> value = parse_hex(trim(text.substr(kHex.size())));
        if (!value)
            fail_usage("{}:{}: expected the value of {} in hexadecimal, got {}", file_.path, number,
                       msr_name(section_->msr), in_quotes(text));
        // It reads an MSR that does not exist as 0, which none that does can be.
        if (*value != 0)
            msrs_.set(section_->msr, *value);
    }

    void take_control(unsigned number, std::string_view text)
    {
        const std::size_t gap = text.find_last_of(" \t");
        const std::string_view state = text.substr(gap == std::string_view::npos ? 0 : gap + 1);
        const std::string_view name =
            gap == std::string_view::npos ? std::string_view() : trim(text.substr(0, gap));
        const bool known_state =
            state == "yes" || state == "no" || state == "forced" || state == "default";
        if (name.empty() || !known_state)
            fail_usage("{}:{}: expected the name of a control and yes, no, default or forced, got "
                       "{}",
                       file_.path, number, in_quotes(text));
        const u64 control = control_named(section_->field, name);
        if (control == 0 && state != "no")
            fail_usage("{}:{}: expected one of the {}, got {}", file_.path, number, section_->title,
                       in_quotes(name));
        PrintedWord &word = words_[static_cast<std::size_t>(section_->field)];
        word.listed |= control;
        word.may_be_1 |= state != "no" ? control : 0;
        word.must_be_1 |= state == "forced" ? control : 0;
        word.default1 |= state == "default" ? control : 0;
    }

    void put_word(const ControlWordInfo &info, const PrintedWord &word, bool has_true);

    const NamedText &file_;
    const Section *section_ = nullptr;
    VmxMsrs msrs_;
    std::array<PrintedWord, kControlFieldCount> words_{};
};

void VmxcapParser::put_word(const ControlWordInfo &info, const PrintedWord &word, bool has_true)
{
    // A line that is missing is not a control that is missing.
    for (const ControlBit &row : control_bits_of(info.field))
        if (row.use == ControlUse::kRequired && (word.listed & row.mask()) == 0)
            fail_usage(
                "{}: expected the whole of what vmxcap prints, but \"{}\" of the {} controls "
                "is not in it",
                file_.path, row.name, info.name);
    if (info.width == 64) {
        msrs_.set(info.msr, word.may_be_1);
        return;
    }
    const u64 reserved = info.default1 & ~word.listed;
    const u64 allowed1 = word.may_be_1 | reserved;
    msrs_.set(info.msr, allowed1 << 32 | word.must_be_1 | word.default1 | reserved);
    if (info.true_msr != 0 && has_true)
        msrs_.set(info.true_msr, allowed1 << 32 | word.must_be_1 | reserved);
}

profiles::CpuProfile VmxcapParser::result()
{
    const bool has_true = VmxBasic{msrs_[MSR_IA32_VMX_BASIC]}.true_controls();
    const auto has = [&](ControlField field) {
        return words_[static_cast<std::size_t>(field)].there;
    };
    for (const ControlField field :
         {ControlField::kPin, ControlField::kPrimary, ControlField::kExit, ControlField::kEntry})
        if (!has(field))
            fail_usage("{}: expected the whole of what vmxcap prints, but the {} controls are not "
                       "in it",
                       file_.path, control_word_info(field).name);
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlWordInfo &info = control_word_info(static_cast<ControlField>(i));
        const u64 primary = words_[static_cast<std::size_t>(ControlField::kPrimary)].may_be_1;
        const bool activated = (info.field != ControlField::kSecondary ||
                                (primary & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) != 0) &&
                               (info.field != ControlField::kTertiary ||
                                (primary & CPU_BASED_ACTIVATE_TERTIARY_CONTROLS) != 0);
        if (has(info.field) && activated)
            put_word(info, words_[i], has_true);
    }
    profiles::CpuProfile cpu;
    cpu.name = cpu.cpu = file_.path;
    cpu.vendor = "GenuineIntel";
    cpu.msr = msrs_;
    return cpu;
}

} // namespace

bool is_vmxcap(std::string_view text)
{
    TextLines lines(text);
    while (const std::optional<std::string_view> line = lines.next())
        if (const std::string_view words = trim(*line); !words.empty())
            return words == kFirstTitle;
    return false;
}

profiles::CpuProfile parse_vmxcap(const NamedText &file)
{
    VmxcapParser parser(file);
    TextLines lines(file.text);
    while (const std::optional<std::string_view> line = lines.next())
        parser.take(lines.number(), *line);
    return parser.result();
}

} // namespace minivmx::tool
