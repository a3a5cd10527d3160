// SPDX-License-Identifier: GPL-2.0-only
//
// What an operation costs in a VM with many slots or vCPUs more than in one with few.
#include "bench.hpp"
#include "bench_vm.hpp"
#include "clock.hpp"
#include "error.hpp"
#include "guest_code.hpp"
#include "unique_fd.hpp"

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

namespace minivmx::tool {
namespace {

constexpr unsigned kManySlots = 4000;
constexpr unsigned kFewSlots = 64;
constexpr unsigned kManyVcpus = 64;
constexpr unsigned kTries = 200;
constexpr std::uint64_t kPage = 4096;
/// A slot is a page, and behind each there is room for one, so that none could become one with the
/// next.
constexpr std::uint64_t kSlotStride = 2 * kPage;

BENCH_CODE(code_growth_out, "1: out 0x80, al; jmp 1b")
BENCH_CODE(code_growth_mmio, "mov ebx, 0xd0000000\n1: mov [rbx], eax; jmp 1b")
// Writes to ESI places from EBX on, EDI bytes apart; R13: ticks of it all.
BENCH_CODE(code_growth_touch,
           "rdtsc; shl rdx, 32; lea r12, [rax + rdx]\n"
           "1: mov [rbx], al; add rbx, rdi; dec esi; jnz 1b\n"
           "rdtsc; shl rdx, 32; add rax, rdx; sub rax, r12; mov r13, rax; out 0xf4, al")
// Enables its APIC, and sends itself vector 40H by its ID, as to any other: R13 is the least that
// the WRMSR of the ICR took. The interrupt stays pending.
BENCH_CODE(code_growth_ipi,
           "mov ecx, 0x80f; mov eax, 0x1ff; xor edx, edx; wrmsr; cli; mov r13, -1\n"
           "1: rdtsc; shl rdx, 32; lea r12, [rax + rdx]\n"
           "mov ecx, 0x830; mov eax, 0x40; xor edx, edx; wrmsr\n"
           "rdtsc; shl rdx, 32; add rax, rdx; sub rax, r12\n"
           "cmp rax, r13; cmovb r13, rax; dec r15d; jnz 1b; out 0xf4, al")

/// Memory that the host has, for slots of one page each.
class SlotMemory {
  public:
    explicit SlotMemory(unsigned slots) : size_(slots * kPage)
    {
        void *mapped =
            mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED)
            fail("no room for {} KiB: {}", size_ >> 10, errno_text(errno));
        memory_ = static_cast<std::uint8_t *>(mapped);
        madvise(memory_, size_, MADV_NOHUGEPAGE);
        std::memset(memory_, 1, size_);
    }
    ~SlotMemory() { munmap(memory_, size_); }
    SlotMemory(const SlotMemory &) = delete;
    SlotMemory &operator=(const SlotMemory &) = delete;

    std::uint64_t page(unsigned slot) const
    {
        return reinterpret_cast<std::uint64_t>(memory_) + slot * kPage;
    }

  private:
    std::uint64_t size_;
    std::uint8_t *memory_;
};

void add_slots(const Device &device, int vm, const SlotMemory &memory, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        kvm_userspace_memory_region region = {};
        region.slot = 1 + i;
        region.guest_phys_addr = kBenchMemory + i * kSlotStride;
        region.memory_size = kPage;
        region.userspace_addr = memory.page(i);
        bench_ioctl(device, vm, KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", &region);
    }
}

double difference(double many, double few)
{
    return std::max(many - few, 0.0);
}

/// From KVM_RUN to KVM_RUN.
double to_user(const Device &device, Vcpu &vcpu)
{
    const auto run = [&] {
        if (const int error = vcpu.run(); error != 0)
            fail("{}: KVM_RUN failed: {}", device.path(), errno_text(error));
    };
    for (unsigned i = 0; i < 3; i++)
        run();
    return static_cast<double>(least_ticks(kTries, run));
}

/// A page touched in each of the first few slots.
double touch_slots(const Device &device, unsigned slots)
{
    const SlotMemory memory(slots);
    BenchVm vm(device);
    add_slots(device, vm.vm().fd(), memory, slots);
    Vcpu &vcpu = vm.add_vcpu(code_growth_touch());
    const auto touch = [&](std::uint64_t from, unsigned pages) {
        kvm_regs regs = vcpu.regs();
        regs.rip = kBenchCode;
        regs.rbx = from;
        regs.rsi = pages;
        regs.rdi = kSlotStride;
        vcpu.set_regs(regs);
        return static_cast<double>(vm.run_to_end(vcpu)) / pages;
    };
    touch(kBenchData, 1); // its own pages
    touch(kBenchMemory, 1);
    return touch(kBenchMemory + kSlotStride, kFewSlots - 1);
}

double mmio_among_slots(const Device &device, unsigned slots)
{
    const SlotMemory memory(slots);
    BenchVm vm(device);
    add_slots(device, vm.vm().fd(), memory, slots);
    return to_user(device, vm.add_vcpu(code_growth_mmio()));
}

/// vCPUs that never run.
std::vector<std::unique_ptr<Vcpu>> idle_vcpus(const BenchVm &vm, unsigned first, unsigned end)
{
    std::vector<std::unique_ptr<Vcpu>> vcpus;
    for (unsigned i = first; i < end; i++)
        vcpus.push_back(std::make_unique<Vcpu>(vm.vm(), i));
    return vcpus;
}

double out_among_vcpus(const Device &device, unsigned vcpus)
{
    BenchVm vm(device);
    Vcpu &vcpu = vm.add_vcpu(code_growth_out());
    const auto others = idle_vcpus(vm, 1, vcpus);
    return to_user(device, vcpu);
}

double ipi_among_vcpus(const Device &device, unsigned vcpus)
{
    BenchVm vm(device, true);
    Vcpu &vcpu = vm.add_vcpu(code_growth_ipi());
    const auto others = idle_vcpus(vm, 1, vcpus);
    return static_cast<double>(vm.run_rounds(vcpu, kTries).r13);
}

BenchSample more(double many, double few)
{
    BenchSample sample;
    sample.ticks = difference(many, few);
    return sample;
}

/// All slots of a VM made one after the other, a slot.
BenchSample make_slots(const Device &device)
{
    const SlotMemory memory(kManySlots);
    const Vm vm(device);
    const IdleClock idle;
    const std::uint64_t begin = now_ticks();
    add_slots(device, vm.fd(), memory, kManySlots);
    BenchSample sample;
    sample.ticks = static_cast<double>(now_ticks() - begin) / kManySlots;
    if (const auto ticks = idle.ticks())
        sample.waiting = *ticks / kManySlots;
    return sample;
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"make-4000-slots", BenchGroup::kGrowth, "4,000 slots made one by one, a slot", 0, make_slots},
    {"touch-4000-slots", BenchGroup::kGrowth, "EPT fault: more with 4,000 slots than with 64", 0,
     [](const Device &d) { return more(touch_slots(d, kManySlots), touch_slots(d, kFewSlots)); }},
    {"mmio-4000-slots", BenchGroup::kGrowth, "MMIO write: more with 4,000 slots than with 1", 0,
     [](const Device &d) { return more(mmio_among_slots(d, kManySlots), mmio_among_slots(d, 1)); }},
    {"out-64-vcpus", BenchGroup::kGrowth, "OUT to the VMM: more with 64 vCPUs than with 1", 0,
     [](const Device &d) { return more(out_among_vcpus(d, kManyVcpus), out_among_vcpus(d, 1)); }},
    {"ipi-64-vcpus", BenchGroup::kGrowth, "IPI by ID: more with 64 vCPUs than with 1", 0,
     [](const Device &d) { return more(ipi_among_vcpus(d, kManyVcpus), ipi_among_vcpus(d, 1)); }},
});

} // namespace

std::span<const BenchCase> growth_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
