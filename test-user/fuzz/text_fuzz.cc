// SPDX-License-Identifier: GPL-2.0-only
//
// The fuzzer of what the minivmx command reads: MSRs in every form, dumps of a VMCS, and the
// module's file of a vCPU's controls. Each parser gets each input; it takes it, or refuses it with
// a usage Error of one printable line. What it takes is then explained and printed.
#include <audit/vmcs_dump.hpp>
#include <control_search.hpp>
#include <error.hpp>
#include <explain_diff.hpp>
#include <explain_json.hpp>
#include <explain_text.hpp>
#include <msr_file.hpp>
#include <vcpu_controls.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

using namespace minivmx;
using namespace minivmx::tool;

[[noreturn]] void wrong(const char *what, const std::string &text)
{
    std::fprintf(stderr, "%s: %s\n", what, text.c_str());
    std::abort();
}

/// One sentence that names the file, and nothing that a terminal would obey.
void check_sentence(const Error &error)
{
    const std::string text = error.what();
    if (error.status() != ExitStatus::kUsage)
        wrong("not a usage error", text);
    if (text.find("input") == std::string::npos && text.find("control") == std::string::npos)
        wrong("no file named", text);
    for (const char c : text)
        if (c < ' ' || c > '~')
            wrong("not printable", text);
}

template <typename Work>
void refused_or_taken(Work work)
{
    try {
        work();
    } catch (const Error &error) {
        check_sentence(error);
    }
}

/// Whatever the MSRs say, an explanation says something of each bit.
void explain_cpu(const profiles::CpuProfile &cpu)
{
    Question question;
    question.source = cpu.name;
    question.host = cpu.host();
    const Explanation whole = explain(question);
    question.parameters.ept = false;
    question.parameters.error_on_inconsistent_vmcs_config = false;
    const Explanation other = explain(question);
    for (const ExplainedWord &word : whole.words) {
        if (word_text(whole, word, true).empty() || word_text(whole, word, false).empty())
            wrong("a word without text", word.info->slug);
        for (const ExplainedBit &bit : word.bits)
            if (bit_text(whole, bit).empty() || bit.short_reason().empty())
                wrong("a bit without text", bit.row->slug);
    }
    if (diff_text(whole, other).empty() || explanation_json(whole, {}).is_null())
        wrong("nothing said", "");
}

void explain_all(const std::vector<profiles::CpuProfile> &cpus)
{
    for (const profiles::CpuProfile &cpu : cpus)
        explain_cpu(cpu);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    const std::string text(reinterpret_cast<const char *>(data), size);
    const NamedText file{"input", text};
    refused_or_taken([&] { explain_all(parse_msr_text("input", text)); });
    refused_or_taken([&] { explain_cpu(parse_vmxcap(file)); });
    refused_or_taken([&] { parse_cpu_dump(file); });
    refused_or_taken([&] { parse_msr_json(file); });
    refused_or_taken([&] { parse_msr_lines(file); });
    refused_or_taken([&] { parse_vmcs_dumps("input", text); });
    refused_or_taken([&] { parse_vcpu_controls("input", text); });
    refused_or_taken([&] { find_controls(text); });
    return 0;
}
