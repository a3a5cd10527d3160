// SPDX-License-Identifier: GPL-2.0-only
//
//     ------[ CPUID Registers / Logical CPU #0 ]------
//     CPUID 00000001: 000306A9-00100800-7F9AE3BF-BFEBFBFF
//     ------[ MSR Registers ]------
//     MSR 00000480: 00DA-0400-0000-0010
//     MSR 00000602: < FAILED >
#include "error.hpp"
#include "msr_formats.hpp"
#include "text_lines.hpp"

#include <minivmx/vmx_msr.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

namespace minivmx::tool {
namespace {

using profiles::CpuProfile;

/// What is known of one logical CPU.
struct LogicalCpu {
    CpuProfile profile;
    std::array<std::string, 3> brand; ///< CPUID leaves 80000002H to 80000004H
};

using Registers = std::array<u32, 4>; // EAX, EBX, ECX, EDX

/// The characters in four bytes, lowest first, without NULs.
std::string characters(u32 value)
{
    std::string text;
    for (unsigned i = 0; i < 4; i++)
        if (const char c = static_cast<char>(value >> 8 * i & 0xff); c != '\0')
            text += c;
    return text;
}

/// "000306A9": exactly so many digits.
std::optional<u64> fixed_hex(std::string_view text, std::size_t digits)
{
    if (text.size() != digits || text.find_first_of("xX") != std::string_view::npos)
        return std::nullopt;
    return parse_hex(text);
}

class DumpParser {
  public:
    explicit DumpParser(const NamedText &file) : file_(file) {}

    void take(unsigned number, std::string_view line)
    {
        line = trim(line);
        if (line.starts_with("------["))
            take_heading(number, line);
        else if (line.starts_with("CPUID "))
            take_cpuid(line);
        else if (line.starts_with("MSR "))
            take_msr(number, line);
    }
    std::vector<CpuProfile> result();

  private:
    void take_heading(unsigned number, std::string_view line)
    {
        const std::size_t hash = line.find("Logical CPU #");
        cpu_ = 0;
        if (hash == std::string_view::npos)
            return;
        const std::string_view digits = line.substr(hash + 13);
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), cpu_);
        if (error != std::errc())
            fail_usage("{}:{}: expected the number of a logical CPU, got {}", file_.path, number,
                       in_quotes(line));
    }

    /// Only identifies the CPU; a line that is not understood is left out.
    void take_cpuid(std::string_view line)
    {
        const std::vector<std::string_view> words = split(line, " :-");
        if (words.size() < 6)
            return;
        const std::optional<u64> leaf = fixed_hex(words[1], 8);
        Registers registers;
        for (unsigned i = 0; i < 4; i++) {
            const std::optional<u64> value = fixed_hex(words[2 + i], 8);
            if (!value)
                return;
            registers[i] = static_cast<u32>(*value);
        }
        if (leaf)
            identify(cpus_[cpu_], static_cast<u32>(*leaf), registers);
    }

    static void identify(LogicalCpu &cpu, u32 leaf, const Registers &r)
    {
        if (leaf == 0)
            cpu.profile.vendor = characters(r[1]) + characters(r[3]) + characters(r[2]);
        else if (leaf == 1)
            cpu.profile.signature = r[0];
        else if (leaf >= 0x80000002 && leaf <= 0x80000004)
            cpu.brand[leaf - 0x80000002] =
                characters(r[0]) + characters(r[1]) + characters(r[2]) + characters(r[3]);
        else if (leaf == 0x80000008)
            cpu.profile.max_phys_bits = r[0] & 0xff;
    }

    void take_msr(unsigned number, std::string_view line)
    {
        const std::size_t colon = line.find(':');
        const std::optional<u64> msr = colon == std::string_view::npos
                                           ? std::nullopt
                                           : fixed_hex(trim(line.substr(3, colon - 3)), 8);
        if (!msr)
            fail_usage("{}:{}: expected a line like MSR 00000480: 00DA-0400-0000-0010, got {}",
                       file_.path, number, in_quotes(line));
        std::string_view text = trim(line.substr(colon + 1));
        if (text.starts_with("< FAILED >"))
            return;
        text = text.substr(0, text.find_first_of(" ["));
        std::string digits(text);
        std::erase(digits, '-');
        const std::optional<u64> value = fixed_hex(digits, 16);
        if (!value)
            fail_usage("{}:{}: expected a value like 00DA-0400-0000-0010 or < FAILED >, got {}",
                       file_.path, number, in_quotes(text));
        set(number, static_cast<u32>(*msr), *value);
    }

    void set(unsigned number, u32 msr, u64 value)
    {
        VmxMsrs &msrs = cpus_[cpu_].profile.msr;
        if (msrs.present(msr) && msrs[msr] != value)
            fail_usage("{}:{}: expected MSR {:#x} to be {:#018x}, as before, got {:#018x}",
                       file_.path, number, msr, msrs[msr], value);
        msrs.set(msr, value);
    }

    const NamedText &file_;
    unsigned cpu_ = 0; ///< the logical CPU whose lines these are
    std::map<unsigned, LogicalCpu> cpus_;
};

bool same_msrs(const CpuProfile &a, const CpuProfile &b)
{
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++)
        if (a.msr.present(msr) != b.msr.present(msr) || a.msr[msr] != b.msr[msr])
            return false;
    return true;
}

std::vector<CpuProfile> DumpParser::result()
{
    std::vector<CpuProfile> distinct;
    for (auto &[number, cpu] : cpus_) {
        CpuProfile &profile = cpu.profile;
        const bool known = std::any_of(distinct.begin(), distinct.end(),
                                       [&](const CpuProfile &p) { return same_msrs(p, profile); });
        if (!profile.msr.present(MSR_IA32_VMX_BASIC) || known)
            continue;
        profile.name = fmt::format("CPU {}", number);
        profile.cpu = trim(cpu.brand[0] + cpu.brand[1] + cpu.brand[2]);
        profile.source = file_.path;
        distinct.push_back(profile);
    }
    return distinct;
}

} // namespace

bool is_cpu_dump(std::string_view text)
{
    TextLines lines(text);
    while (const std::optional<std::string_view> line = lines.next()) {
        const std::string_view words = trim(*line);
        const bool msr = words.starts_with("MSR ") && words.size() > 12 && words[12] == ':' &&
                         fixed_hex(words.substr(4, 8), 8);
        if (msr || words.starts_with("------["))
            return true;
    }
    return false;
}

std::vector<CpuProfile> parse_cpu_dump(const NamedText &file)
{
    DumpParser parser(file);
    TextLines lines(file.text);
    while (const std::optional<std::string_view> line = lines.next())
        parser.take(lines.number(), *line);
    std::vector<CpuProfile> cpus = parser.result();
    if (cpus.empty())
        fail_usage("{}: expected lines like MSR 00000480: 00DA-0400-0000-0010, got no value of "
                   "IA32_VMX_BASIC (0x480)",
                   file.path);
    return cpus;
}

} // namespace minivmx::tool
