// SPDX-License-Identifier: GPL-2.0-only
//
// What a hypervisor that keeps the same mitigations can't save: the flush of the L1 data cache
// before VM entry.
#include "bench.hpp"
#include "error.hpp"
#include "text_lines.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

namespace minivmx::tool {
namespace {

namespace fs = std::filesystem;

/// The parameter vmentry_l1d_flush of the module behind `device`.
fs::path flush_parameter(const Device &device)
{
    struct stat facts = {};
    if (fstat(device.fd(), &facts) != 0)
        fail("{}: {}", device.path(), errno_text(errno));
    std::error_code error;
    const fs::path sysfs = fs::canonical(
        fmt::format("/sys/dev/char/{}:{}", major(facts.st_rdev), minor(facts.st_rdev)), error);
    const std::string module = sysfs.filename() == "kvm" ? "kvm_intel" : sysfs.filename().string();
    return fs::path("/sys/module") / module / "parameters/vmentry_l1d_flush";
}

std::string read_parameter(const fs::path &path)
{
    std::ifstream file(path);
    std::string text;
    std::getline(file, text);
    return std::string(trim(text));
}

/// Sets the parameter as long as it lives. It only ever flushes more often than before.
class FlushAlways {
  public:
    explicit FlushAlways(const fs::path &path) : path_(path), before_(read_parameter(path))
    {
        write("always");
        if (read_parameter(path_) != "always")
            throw Error(ExitStatus::kIncomplete,
                        fmt::format("{} can't be set to always: run as root", path_.string()));
    }
    ~FlushAlways() { write(before_); }
    FlushAlways(const FlushAlways &) = delete;
    FlushAlways &operator=(const FlushAlways &) = delete;

  private:
    void write(const std::string &value) const
    {
        std::ofstream file(path_);
        file << value << '\n';
    }
    fs::path path_;
    std::string before_;
};

BenchSample cpuid_exit(const Device &device)
{
    const auto cases = exit_bench_cases();
    const auto found =
        std::ranges::find(cases, std::string_view("cpuid"),
                          [](const BenchCase &one) { return std::string_view(one.name); });
    return found->measure(device);
}

/// An exit that the kernel answers flushes nothing while the flush is conditional, as nothing ran
/// that handles secrets; with `always` each does. A KVM_RUN flushes once either way.
BenchSample l1d_flush(const Device &device)
{
    const fs::path parameter = flush_parameter(device);
    const std::string value = read_parameter(parameter);
    BenchSample sample;
    if (value != "cond" && value != "always") // "never", "not required": no flush, no cost
        return sample;
    if (value == "always")
        throw Error(ExitStatus::kIncomplete,
                    fmt::format("{} is always, and is not lowered", parameter.string()));
    const double without = cpuid_exit(device).ticks;
    const FlushAlways always(parameter);
    sample.ticks = cpuid_exit(device).ticks - without;
    return sample;
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"l1d-flush", BenchGroup::kFloor, "the flush of the L1D cache, once in a KVM_RUN", 0,
     l1d_flush},
});

} // namespace

std::span<const BenchCase> floor_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
