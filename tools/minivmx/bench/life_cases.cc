// SPDX-License-Identifier: GPL-2.0-only
//
// VMs that come and go. No memory is mapped or filled within what is timed, so that it is the
// hypervisor's work alone.
#include "bench.hpp"
#include "bench_vm.hpp"
#include "clock.hpp"
#include "error.hpp"
#include "guest_code.hpp"
#include "unique_fd.hpp"

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <optional>
#include <vector>

namespace minivmx::tool {
namespace {

constexpr unsigned kRounds = 10;
constexpr unsigned kMany = 64;

BENCH_CODE(code_leave, "out 0xf4, al")

/// The mean of what was timed between start() and stop(), and how much of it nobody ran.
class Timer {
  public:
    void start()
    {
        idle_.emplace();
        begin_ = now_ticks();
    }
    void stop()
    {
        ticks_ += static_cast<double>(now_ticks() - begin_);
        if (const auto idle = idle_->ticks())
            waiting_ += *idle;
        else
            knows_waiting_ = false;
        count_++;
    }
    BenchSample mean() const
    {
        BenchSample sample;
        sample.ticks = ticks_ / count_;
        if (knows_waiting_)
            sample.waiting = waiting_ / count_;
        return sample;
    }

  private:
    std::optional<IdleClock> idle_;
    std::uint64_t begin_ = 0;
    double ticks_ = 0, waiting_ = 0;
    bool knows_waiting_ = true;
    unsigned count_ = 0;
};

UniqueFd make(const Device &device, int fd, unsigned long request, const char *name,
              std::uint64_t argument)
{
    UniqueFd made(ioctl(fd, request, argument));
    if (!made.valid())
        fail("{}: {} failed: {}", device.path(), name, errno_text(errno));
    return made;
}

/// A VM as the kernel has it: nothing is mapped.
struct BareVm {
    UniqueFd vm;
    std::vector<UniqueFd> vcpus;

    BareVm(const Device &device, unsigned count)
        : vm(make(device, device.fd(), KVM_CREATE_VM, "KVM_CREATE_VM", 0))
    {
        vcpus.reserve(count);
        for (unsigned i = 0; i < count; i++)
            vcpus.push_back(make(device, vm.get(), KVM_CREATE_VCPU, "KVM_CREATE_VCPU", i));
    }
};

struct Life {
    BenchSample creation, end;
};

Life live(const Device &device, unsigned vcpus)
{
    {
        const BareVm first(device, vcpus); // fills caches
    }
    Timer creation, end;
    for (unsigned i = 0; i < kRounds; i++) {
        creation.start();
        std::optional<BareVm> vm(std::in_place, device, vcpus);
        creation.stop();
        end.start();
        vm.reset();
        end.stop();
    }
    return {creation.mean(), end.mean()};
}

BenchSample divided(BenchSample sample, unsigned by)
{
    sample.ticks /= by;
    if (sample.waiting)
        *sample.waiting /= by;
    return sample;
}

BenchSample open_to_first_instruction(const Device &device)
{
    Timer timer;
    for (unsigned i = 0; i < kRounds; i++) {
        timer.start();
        {
            const Device again(device.path());
            BenchVm vm(again);
            vm.run_to_end(vm.add_vcpu(code_leave()));
        }
        timer.stop();
    }
    return timer.mean();
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"create-1-vcpu", BenchGroup::kLife, "a VM with one vCPU made", 0,
     [](const Device &d) { return live(d, 1).creation; }},
    {"destroy-1-vcpu", BenchGroup::kLife, "a VM with one vCPU destroyed", 0,
     [](const Device &d) { return live(d, 1).end; }},
    {"create-4-vcpus", BenchGroup::kLife, "a VM with four vCPUs made", 0,
     [](const Device &d) { return live(d, 4).creation; }},
    {"destroy-4-vcpus", BenchGroup::kLife, "a VM with four vCPUs destroyed", 0,
     [](const Device &d) { return live(d, 4).end; }},
    {"create-64-vcpus", BenchGroup::kGrowth, "a VM with 64 vCPUs made, a vCPU", 0,
     [](const Device &d) { return divided(live(d, kMany).creation, kMany); }},
    {"destroy-64-vcpus", BenchGroup::kGrowth, "a VM with 64 vCPUs destroyed, a vCPU", 0,
     [](const Device &d) { return divided(live(d, kMany).end, kMany); }},
    {"first-exit", BenchGroup::kLife, "from open() over a guest's first exit to its end", 0,
     open_to_first_instruction},
});

} // namespace

std::span<const BenchCase> life_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
