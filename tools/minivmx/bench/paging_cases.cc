// SPDX-License-Identifier: GPL-2.0-only
//
// What a guest does to its page tables: nearly nothing with EPT, exits without.
#include "bench.hpp"
#include "bench_vm.hpp"
#include "error.hpp"
#include "guest_code.hpp"
#include "marks.hpp"
#include "paging_guest.hpp"

#include <algorithm>
#include <array>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kMemory = std::uint64_t{128} << 20;
constexpr std::uint8_t kPageFault = 14;
constexpr std::uint64_t kCr0WriteProtect = 1 << 16;
constexpr unsigned kRounds = 50;

// Calls RBX, R14 times in a window; R13: the least that a window took, of R15 windows.
BENCH_CODE(code_paging, "mov r13, -1\n"
                        "1: rdtsc; shl rdx, 32; lea r12, [rax + rdx]\n"
                        "mov ebp, r14d\n"
                        "2: call rbx; dec ebp; jnz 2b\n"
                        "rdtsc; shl rdx, 32; add rax, rdx; sub rax, r12\n"
                        "cmp rax, r13; cmovb r13, rax\n"
                        "dec r15d; jnz 1b; out 0xf4, al")

struct PagingWork {
    void (*call)();
    unsigned processes = 1;
    unsigned pages = kPagingTouched; ///< that each has
    unsigned calls = 1;              ///< in a window
    unsigned operations = 1;         ///< in a call
    unsigned faults = 0;             ///< the guest's own, in a call
};

/// Where it is in the guest.
template <typename Function>
std::uint64_t address_of(Function *function)
{
    return kPagingCode + reinterpret_cast<std::uint64_t>(function) -
           reinterpret_cast<std::uint64_t>(__start_bench_paging);
}

void set_work(Vcpu &vcpu, void (*call)(), unsigned calls)
{
    kvm_regs regs = vcpu.regs();
    regs.rip = kBenchCode;
    regs.rbx = address_of(call);
    regs.r14 = calls;
    regs.r15 = 1;
    vcpu.set_regs(regs);
}

Vcpu &add_pager(BenchVm &vm, const PagingWork &work)
{
    const std::span<const std::uint8_t> code(__start_bench_paging, __stop_bench_paging);
    std::ranges::copy(code, vm.memory().range(kPagingCode, code.size()).begin());
    vm.set_gate(kPageFault, address_of(paging_fault));
    PagingState state = {};
    state.processes = work.processes;
    state.pages = work.pages;
    state.unused = kBenchMemory;
    vm.memory().store(kPagingState, state);

    Vcpu &vcpu = vm.add_vcpu(code_paging());
    kvm_sregs sregs = vcpu.sregs();
    sregs.cr0 |= kCr0WriteProtect; // or no page is read-only to a kernel: SDM Vol. 3A, 4.6
    vcpu.set_sregs(sregs);
    set_work(vcpu, paging_setup, 1);
    vm.run_to_end(vcpu);
    return vcpu;
}

std::uint32_t faults_of(const BenchVm &vm)
{
    return vm.memory().load<PagingState>(kPagingState).faults;
}

BenchSample paging(const Device &device, const PagingWork &work)
{
    const GuestMemory memory(kBenchMemory, kMemory);
    BenchVm vm(device);
    vm.vm().add_memory(1, memory);
    Vcpu &vcpu = add_pager(vm, work);
    set_work(vcpu, work.call, work.calls);
    const std::uint32_t before = faults_of(vm);
    const BenchVm::Rounds rounds = vm.run_rounds(vcpu, kRounds);
    // run_rounds() has one more, for warmth.
    const std::uint32_t expected = (bench_rounds(kRounds) + 1) * work.calls * work.faults;
    if (const std::uint32_t faults = faults_of(vm) - before; faults != expected)
        fail("{}: the guest had {} page faults, expected {}", device.path(), faults, expected);
    const auto operations = static_cast<double>(work.calls * work.operations);
    BenchSample sample;
    sample.ticks = static_cast<double>(rounds.r13) / operations;
    if (rounds.exits)
        sample.exits = static_cast<double>(*rounds.exits) / (kRounds * operations);
    return sample;
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"cr3-switch", BenchGroup::kPaging, "to the other of 2 processes, 16 pages written", 0,
     [](const Device &d) {
         return paging(d, {.call = paging_switch, .processes = 2, .calls = 16});
     }},
    {"cr3-switch-many", BenchGroup::kPaging, "to the next of 64 processes, 16 pages written", 0,
     [](const Device &d) {
         return paging(
             d, {.call = paging_switch, .processes = kPagingProcesses, .calls = kPagingProcesses});
     }},
    {"demand-fault", BenchGroup::kPaging, "a page mapped in the guest's #PF, and unmapped", 0,
     [](const Device &d) {
         return paging(d,
                       {.call = paging_demand, .operations = kPagingRange, .faults = kPagingRange});
     }},
    {"fork", BenchGroup::kPaging, "32 pages shared, each side writes 16; the child's end", 0,
     [](const Device &d) {
         return paging(
             d, {.call = paging_fork, .pages = 2 * kPagingTouched, .faults = 2 * kPagingTouched});
     }},
    {"mprotect", BenchGroup::kPaging, "64 pages read-only and read, writable and written", 0,
     [](const Device &d) { return paging(d, {.call = paging_protect, .pages = kPagingRange}); }},
});

} // namespace

std::span<const BenchCase> paging_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
