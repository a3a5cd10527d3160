// SPDX-License-Identifier: GPL-2.0-only
#include "bench_vm.hpp"

#include "error.hpp"
#include "exit_count.hpp"
#include "guest_code.hpp"
#include "guest_setup.hpp"
#include "marks.hpp"

#include <guest_abi.h>

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kCodeStride = 0x400;
constexpr std::uint64_t kX2apicEnabled = 1 << 10; // IA32_APIC_BASE.EXTD: SDM Vol. 3A, 11.12.1

/// A 64-bit interrupt gate: SDM Vol. 3A, figure 6-8.
void write_gate(const GuestMemory &memory, std::uint64_t idt, std::uint8_t vector,
                std::uint64_t handler)
{
    constexpr std::uint64_t kPresentInterruptGate = 0x8e00;
    const std::uint64_t low = (handler & 0xffff) | std::uint64_t{GUEST_SEL_CODE64} << 16 |
                              kPresentInterruptGate << 32 | (handler >> 16 & 0xffff) << 48;
    memory.store(idt + vector * 16, low);
    memory.store(idt + vector * 16 + 8, handler >> 32);
}

} // namespace

int bench_ioctl(const Device &device, int fd, unsigned long request, const char *name,
                void *argument)
{
    const int result = ioctl(fd, request, argument);
    if (result < 0)
        fail("{}: {} failed: {}", device.path(), name, errno_text(errno));
    return result;
}

BenchVm::BenchVm(const Device &device, bool interrupts)
    : interrupts_(interrupts), memory_(0, kBenchLowMemory), vm_(device),
      cr3_(write_tables(Mode::kLong, memory_))
{
    vm_.reserve_tss(kTssAddress);
    if (interrupts)
        vm_.create_interrupt_controllers();
    vm_.add_memory(0, memory_);
}

void BenchVm::set_handler(std::span<const std::uint8_t> code)
{
    std::ranges::copy(code, memory_.range(kBenchHandler, code.size()).begin());
    set_gate(kBenchVector, kBenchHandler);
}

void BenchVm::set_gate(std::uint8_t vector, std::uint64_t handler)
{
    write_gate(memory_, kBenchIdt, vector, handler);
}

Vcpu &BenchVm::add_vcpu(std::span<const std::uint8_t> code)
{
    const auto index = static_cast<unsigned>(vcpus_.size());
    const std::uint64_t entry = kBenchCode + index * kCodeStride;
    if (code.size() > kCodeStride)
        fail("the guest's code has {} bytes, expected at most {}", code.size(), kCodeStride);
    std::ranges::copy(code, memory_.range(entry, code.size()).begin());

    Vcpu &vcpu = *vcpus_.emplace_back(std::make_unique<Vcpu>(vm_, index));
    vcpu.set_cpuid(vm_.device().supported_cpuid());
    const StartFacts facts = {entry, kBenchLowMemory, index, index + 1};
    kvm_sregs sregs = start_sregs(Mode::kLong, vcpu.sregs(), cr3_, facts);
    sregs.idt.base = kBenchIdt;
    sregs.idt.limit = 0xfff;
    if (interrupts_)
        sregs.apic_base |= kX2apicEnabled;
    vcpu.set_sregs(sregs);
    vcpu.set_regs(start_regs(Mode::kLong, facts).value());
    if (interrupts_) { // all but the first would wait for INIT
        kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
        bench_ioctl(vm_.device(), vcpu.fd(), KVM_SET_MP_STATE, "KVM_SET_MP_STATE", &runnable);
    }
    return vcpu;
}

std::uint64_t BenchVm::run_to_end(Vcpu &vcpu) const
{
    const int error = vcpu.run();
    const kvm_run &state = vcpu.state();
    if (error != 0)
        fail("{}: KVM_RUN failed: {}", vm_.device().path(), errno_text(error));
    if (state.exit_reason != KVM_EXIT_IO || state.io.port != kBenchEndPort)
        fail("{}: the guest did not end by itself (exit reason {})", vm_.device().path(),
             state.exit_reason);
    return vcpu.regs().r13;
}

BenchVm::Rounds BenchVm::run_rounds(Vcpu &vcpu, unsigned rounds) const
{
    kvm_regs start = vcpu.regs();
    start.r15 = bench_rounds(rounds);
    kvm_regs warm = start;
    warm.r15 = 1;
    vcpu.set_regs(warm);
    run_to_end(vcpu);
    vcpu.set_regs(start);
    const auto before = exits();
    Rounds result = {};
    {
        const BenchMarks marks(this);
        result.r13 = run_to_end(vcpu);
    }
    const auto after = exits();
    if (before && after)
        result.exits = *after - *before - 1;
    return result;
}

std::optional<std::uint64_t> BenchVm::exits() const
{
    return count_exits(vm_.fd());
}

} // namespace minivmx::tool
