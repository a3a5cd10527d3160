// SPDX-License-Identifier: GPL-2.0-only
#include "native_cpu.hpp"

#include <minivmx/arch.hpp>

#include <cerrno>
#include <chrono>
#include <cpuid.h>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <stdexcept>
#include <unistd.h>
#include <x86intrin.h>

namespace minivmx {

namespace {

/// Open while describe() runs; the core's rdmsr has no place for it.
int msr_device = -1;

u32 tsc_khz()
{
    // SDM Vol. 2A, CPUID leaf 15H: TSC = crystal * EBX / EAX.
    const arch::CpuidResult last = arch::cpuid(0, 0);
    if (last.eax >= 0x15) {
        const arch::CpuidResult r = arch::cpuid(0x15, 0);
        if (r.eax != 0 && r.ebx != 0 && r.ecx != 0)
            return static_cast<u32>(u64{r.ecx} * r.ebx / r.eax / 1000);
    }
    // Count for a moment: the clock and the TSC both run at constant rates.
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    const u64 first = __rdtsc();
    while (Clock::now() - start < std::chrono::milliseconds(20)) {
    }
    const u64 ticks = __rdtsc() - first;
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
    return static_cast<u32>(ticks * 1000000 / static_cast<u64>(ns.count()));
}

/// Keeps this thread on one CPU while it lives.
class OnCpu {
  public:
    explicit OnCpu(u32 cpu)
    {
        CPU_ZERO(&before_);
        sched_getaffinity(0, sizeof(before_), &before_);
        cpu_set_t only;
        CPU_ZERO(&only);
        CPU_SET(cpu, &only);
        if (sched_setaffinity(0, sizeof(only), &only) != 0)
            throw std::runtime_error("CPU " + std::to_string(cpu) + ": " + std::strerror(errno));
    }
    ~OnCpu() { sched_setaffinity(0, sizeof(before_), &before_); }
    OnCpu(const OnCpu &) = delete;
    OnCpu &operator=(const OnCpu &) = delete;

  private:
    cpu_set_t before_;
};

/// The msr device, open while this lives.
class MsrDevice {
  public:
    explicit MsrDevice(const std::string &path)
    {
        msr_device = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (msr_device >= 0)
            return;
        const char *const hint = errno == ENOENT                     ? "; modprobe msr makes it"
                                 : errno == EACCES || errno == EPERM ? "; only root may read MSRs"
                                                                     : "";
        throw std::runtime_error(path + ": " + std::strerror(errno) + hint);
    }
    ~MsrDevice()
    {
        close(msr_device);
        msr_device = -1;
    }
    MsrDevice(const MsrDevice &) = delete;
    MsrDevice &operator=(const MsrDevice &) = delete;
};

} // namespace

arch::CpuidResult arch::cpuid(u32 leaf, u32 subleaf)
{
    CpuidResult r{};
    __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
    return r;
}

bool arch::rdmsr_safe(u32 msr, u64 &value)
{
    value = 0;
    return pread(msr_device, &value, sizeof(value), msr) == sizeof(value);
}

HostDesc native::describe(u32 cpu)
{
    const MsrDevice device("/dev/cpu/" + std::to_string(cpu) + "/msr");
    const OnCpu here(cpu);
    HostDesc host;
    describe_cpu(this_cpu_msr_reader(), host);
    host.cpu = cpu;
    host.tsc_khz = tsc_khz();
    return host;
}

} // namespace minivmx
