// SPDX-License-Identifier: GPL-2.0-only
//
// The host's memory that a VM takes: what is free of it before and after many are made.
#include "bench.hpp"
#include "bench_vm.hpp"
#include "error.hpp"
#include "guest_code.hpp"
#include "guest_setup.hpp"
#include "start_state.hpp"

#include <unistd.h>

#include <array>
#include <fstream>
#include <memory>
#include <string>

namespace minivmx::tool {
namespace {

constexpr unsigned kVms = 32;
constexpr unsigned kVcpusOfAVm = 4;

BENCH_CODE(code_leave_once, "out 0xf4, al")

double free_bytes()
{
    std::ifstream file("/proc/meminfo");
    std::string name;
    for (double kib = 0; file >> name;) {
        if (name == "MemFree:" && file >> kib)
            return kib * 1024;
        std::getline(file, name);
    }
    throw Error(ExitStatus::kIncomplete, "/proc/meminfo does not tell how much memory is free");
}

/// VMs that ended give their memory back when the kernel gets to it.
void wait_for_calm()
{
    constexpr unsigned kMostTries = 20;
    constexpr unsigned kMicroseconds = 100'000;
    double last = free_bytes();
    for (unsigned i = 0; i < kMostTries; i++) {
        usleep(kMicroseconds);
        const double now = free_bytes();
        if (now == last)
            return;
        last = now;
    }
}

/// A guest's memory that many VMs share, so that it does not count.
struct SharedGuest {
    GuestMemory memory{0, kBenchLowMemory};
    std::uint64_t cr3 = 0;

    SharedGuest()
    {
        cr3 = write_tables(Mode::kLong, memory);
        const auto code = code_leave_once();
        std::copy(code.begin(), code.end(), memory.range(kBenchCode, code.size()).begin());
    }
};

/// A VM with interrupt controllers and a slot; its vCPUs have run.
class IdleVm {
  public:
    IdleVm(const Device &device, const SharedGuest &guest, unsigned vcpus) : vm_(device)
    {
        vm_.reserve_tss(kTssAddress);
        vm_.create_interrupt_controllers();
        vm_.add_memory(0, guest.memory);
        for (unsigned i = 0; i < vcpus; i++)
            add_vcpu(guest);
    }

    void add_vcpu(const SharedGuest &guest)
    {
        const auto index = static_cast<unsigned>(vcpus_.size());
        Vcpu &vcpu = *vcpus_.emplace_back(std::make_unique<Vcpu>(vm_, index));
        vcpu.set_cpuid(vm_.device().supported_cpuid());
        const StartFacts facts = {kBenchCode, kBenchLowMemory, index, index + 1};
        vcpu.set_sregs(start_sregs(Mode::kLong, vcpu.sregs(), guest.cr3, facts));
        vcpu.set_regs(start_regs(Mode::kLong, facts).value());
        kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
        bench_ioctl(vm_.device(), vcpu.fd(), KVM_SET_MP_STATE, "KVM_SET_MP_STATE", &runnable);
        if (const int error = vcpu.run(); error != 0)
            fail("{}: KVM_RUN failed: {}", vm_.device().path(), errno_text(error));
        if (vcpu.state().exit_reason != KVM_EXIT_IO)
            fail("{}: the guest left with exit reason {}, expected {}", vm_.device().path(),
                 vcpu.state().exit_reason, KVM_EXIT_IO);
    }

  private:
    Vm vm_;
    std::vector<std::unique_ptr<Vcpu>> vcpus_;
};

using IdleVms = std::vector<std::unique_ptr<IdleVm>>;

IdleVms make_vms(const Device &device, const SharedGuest &guest, unsigned vcpus)
{
    IdleVms vms;
    for (unsigned i = 0; i < kVms; i++)
        vms.push_back(std::make_unique<IdleVm>(device, guest, vcpus));
    return vms;
}

/// What `operation` takes for each of kVms. Other VMs are there meanwhile, which took what the
/// kernel keeps at hand of VMs that have ended.
template <typename Operation>
BenchSample bytes_of(const Device &device, const SharedGuest &guest, Operation operation)
{
    const IdleVms others = make_vms(device, guest, 1 + kVcpusOfAVm);
    wait_for_calm();
    const double before = free_bytes();
    operation();
    BenchSample sample;
    sample.ticks = (before - free_bytes()) / kVms;
    return sample;
}

BenchSample vm_memory(const Device &device)
{
    const SharedGuest guest;
    IdleVms vms;
    return bytes_of(device, guest, [&] { vms = make_vms(device, guest, 1); });
}

BenchSample vcpu_memory(const Device &device)
{
    const SharedGuest guest;
    const IdleVms vms = make_vms(device, guest, 1);
    BenchSample sample = bytes_of(device, guest, [&] {
        for (const auto &vm : vms)
            for (unsigned i = 0; i < kVcpusOfAVm; i++)
                vm->add_vcpu(guest);
    });
    sample.ticks /= kVcpusOfAVm;
    return sample;
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"vm-memory", BenchGroup::kLife, "the host's memory for an idle VM with one vCPU", 0, vm_memory,
     BenchUnit::kBytes},
    {"vcpu-memory", BenchGroup::kLife, "and for each further vCPU", 0, vcpu_memory,
     BenchUnit::kBytes},
});

} // namespace

std::span<const BenchCase> footprint_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
