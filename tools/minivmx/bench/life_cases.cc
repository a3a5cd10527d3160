// SPDX-License-Identifier: GPL-2.0-only
//
// VMs that come and go. No memory is mapped or filled within what is timed, so that it is the
// hypervisor's work alone.
#include "bench.hpp"
#include "bench_vm.hpp"
#include "clock.hpp"
#include "guest_code.hpp"

#include <array>
#include <memory>

namespace minivmx::tool {
namespace {

constexpr unsigned kRounds = 10;

BENCH_CODE(code_leave, "out 0xf4, al")

/// The mean of some rounds, and how much of it nobody ran.
template <typename Operation>
BenchSample mean_of_rounds(Operation operation)
{
    operation(); // the first one turns VMX on and fills caches
    const IdleClock idle;
    const std::uint64_t begin = now_ticks();
    for (unsigned i = 0; i < kRounds; i++)
        operation();
    BenchSample sample;
    sample.ticks = static_cast<double>(now_ticks() - begin) / kRounds;
    if (const auto ticks = idle.ticks())
        sample.waiting = *ticks / kRounds;
    return sample;
}

template <unsigned vcpus>
BenchSample create_and_destroy(const Device &device)
{
    return mean_of_rounds([&] {
        const Vm vm(device);
        std::array<std::unique_ptr<Vcpu>, vcpus> all;
        for (unsigned i = 0; i < vcpus; i++)
            all[i] = std::make_unique<Vcpu>(vm, i);
    });
}

BenchSample open_to_first_instruction(const Device &device)
{
    return mean_of_rounds([&] {
        const Device again(device.path());
        BenchVm vm(again);
        vm.run_to_end(vm.add_vcpu(code_leave()));
    });
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"vm-1-vcpu", BenchGroup::kLife, "a VM with one vCPU made and destroyed", 0,
     create_and_destroy<1>},
    {"vm-4-vcpus", BenchGroup::kLife, "a VM with four vCPUs made and destroyed", 0,
     create_and_destroy<4>},
    {"first-exit", BenchGroup::kLife, "from open() over a guest's first exit to its end", 0,
     open_to_first_instruction},
});

} // namespace

std::span<const BenchCase> life_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
