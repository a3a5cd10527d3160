// SPDX-License-Identifier: GPL-2.0-only
#include "error.hpp"
#include "msr_formats.hpp"
#include "text_lines.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <limits>

namespace minivmx::tool {
namespace {

using Json = nlohmann::json;
using profiles::CpuProfile;

unsigned line_at(std::string_view text, std::size_t position)
{
    const std::string_view before = text.substr(0, std::min(position, text.size()));
    return 1 + static_cast<unsigned>(std::count(before.begin(), before.end(), '\n'));
}

/// Turns JSON into profiles. The parsed JSON knows no lines, so a complaint looks for the line in
/// which what it quotes comes first.
class JsonParser {
  public:
    explicit JsonParser(const NamedText &file) : file_(file) {}

    std::vector<CpuProfile> parse()
    {
        const Json document = read();
        if (!document.is_object())
            fail("an object with profiles or MSRs", document);
        std::vector<CpuProfile> all;
        if (const auto list = document.find("profiles"); list != document.end()) {
            if (!list->is_array())
                fail("a list of profiles", *list);
            for (const Json &entry : *list)
                all.push_back(profile(entry));
        } else if (document.contains("msr")) {
            all.push_back(profile(document));
        } else {
            CpuProfile cpu = unnamed();
            take_msrs(document, cpu.msr);
            all.push_back(cpu);
        }
        return all;
    }

  private:
    Json read() const
    {
        try {
            return Json::parse(file_.text);
        } catch (const Json::parse_error &error) {
            const std::size_t position = error.byte > 0 ? error.byte - 1 : 0;
            const bool ended = position >= file_.text.size();
            fail_usage("{}:{}: expected JSON, got {}", file_.path, line_at(file_.text, position),
                       ended ? std::string("the end of the file")
                             : in_quotes(file_.text.substr(position, 16)));
        }
    }

    [[noreturn]] void fail(const char *expected, const Json &got) const
    {
        const std::string text = got.dump(-1, ' ', true, Json::error_handler_t::replace);
        const std::size_t position = file_.text.find(text);
        fail_usage("{}:{}: expected {}, got {}", file_.path,
                   line_at(file_.text, position == std::string_view::npos ? 0 : position), expected,
                   in_quotes(text));
    }

    CpuProfile unnamed() const
    {
        CpuProfile cpu;
        cpu.name = cpu.cpu = file_.path;
        cpu.vendor = "GenuineIntel";
        return cpu;
    }

    u64 number(const Json &value, const char *expected, u64 most) const
    {
        u64 number = 0;
        if (value.is_number_unsigned())
            number = value.get<u64>();
        else if (const auto parsed = value.is_string()
                                         ? parse_hex(value.get_ref<const std::string &>())
                                         : std::nullopt)
            number = *parsed;
        else
            fail(expected, value);
        if (number > most)
            fail(expected, value);
        return number;
    }

    std::string text(const Json &object, const char *key, const std::string &otherwise) const
    {
        const auto found = object.find(key);
        if (found == object.end())
            return otherwise;
        if (!found->is_string())
            fail(fmt::format("a text for \"{}\"", key).c_str(), *found);
        return found->get<std::string>();
    }

    void take_msrs(const Json &values, VmxMsrs &msrs) const
    {
        if (!values.is_object())
            fail("an object of MSRs and their values", values);
        for (const auto &[key, value] : values.items()) {
            const std::optional<u64> msr = parse_hex(key);
            if (!msr || *msr > std::numeric_limits<u32>::max())
                fail("an MSR's number like \"0x480\"", key);
            if (value != "gp" && !value.is_null())
                msrs.set(static_cast<u32>(*msr),
                         number(value, "an MSR's value like \"0x00da040000000004\"",
                                std::numeric_limits<u64>::max()));
        }
    }

    CpuProfile profile(const Json &entry) const
    {
        if (!entry.is_object() || !entry.contains("msr"))
            fail("a profile with \"msr\"", entry);
        CpuProfile cpu = unnamed();
        cpu.name = text(entry, "name", cpu.name);
        cpu.cpu = text(entry, "cpu", cpu.name);
        cpu.vendor = text(entry, "vendor", cpu.vendor);
        cpu.source = text(entry, "source", cpu.source);
        if (const auto found = entry.find("cpuid1_eax"); found != entry.end())
            cpu.signature = static_cast<u32>(
                number(*found, "CPUID.1:EAX like \"0x000306a9\"", std::numeric_limits<u32>::max()));
        if (const auto found = entry.find("maxphyaddr"); found != entry.end())
            cpu.max_phys_bits = static_cast<u32>(number(*found, "a width of addresses to 52", 52));
        take_msrs(entry.at("msr"), cpu.msr);
        return cpu;
    }

    const NamedText &file_;
};

} // namespace

std::vector<CpuProfile> parse_msr_json(const NamedText &file)
{
    return JsonParser(file).parse();
}

} // namespace minivmx::tool
