// SPDX-License-Identifier: GPL-2.0-only
//
// Exits one by one: those that the kernel answers measure themselves in the guest, those that go to
// the VMM are measured around KVM_RUN.
#include "bench.hpp"
#include "bench_vm.hpp"
#include "clock.hpp"
#include "error.hpp"
#include "guest_code.hpp"
#include "marks.hpp"

#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <array>

namespace minivmx::tool {
namespace {

// Each takes one exit: what could be passed through is avoided. IA32_APIC_BASE is nobody's to let
// through, and of CR0 the caching bits belong to the hypervisor.
BENCH_WINDOW(code_empty, "")
BENCH_WINDOW(code_cpuid, "xor eax, eax; cpuid")
BENCH_WINDOW(code_vmcall, "mov eax, 100; vmcall")
BENCH_WINDOW(code_rdmsr, "mov ecx, 0x1b; rdmsr")
BENCH_WINDOW(code_wrmsr, "mov ecx, 0x1b; mov eax, 0xfee00900; xor edx, edx; wrmsr")
BENCH_WINDOW(code_cr0, "mov rax, cr0; xor eax, 0x40000000; mov cr0, rax")
BENCH_WINDOW(code_ioeventfd, "out 0x80, al")

BENCH_CODE(code_out, "1: out 0x80, al; jmp 1b")
BENCH_CODE(code_in, "1: in al, 0x80; jmp 1b")
BENCH_CODE(code_string_in,
           "1: mov edi, 0x103000; mov ecx, 64; mov edx, 0x80; cld; rep insb; jmp 1b")
BENCH_CODE(code_mmio_write, "mov ebx, 0xd0000000\n1: mov [rbx], eax; jmp 1b")
BENCH_CODE(code_mmio_read, "mov ebx, 0xd0000000\n1: mov eax, [rbx]; jmp 1b")

constexpr unsigned kTries = 300;
constexpr unsigned kRounds = 200;

/// Runs a guest that measures itself.
BenchSample in_guest(BenchVm &vm, std::span<const std::uint8_t> code)
{
    Vcpu &vcpu = vm.add_vcpu(code);
    const BenchVm::Rounds rounds = vm.run_rounds(vcpu, kRounds);
    BenchSample sample;
    sample.ticks = static_cast<double>(rounds.r13) / kBenchWindow;
    if (rounds.exits)
        sample.exits = static_cast<double>(*rounds.exits) / (kRounds * kBenchWindow);
    return sample;
}

BenchSample in_guest(const Device &device, std::span<const std::uint8_t> code)
{
    BenchVm vm(device);
    return in_guest(vm, code);
}

/// From KVM_RUN to KVM_RUN of a guest that does nothing but leave, each time with `reason`.
BenchSample to_user(const Device &device, std::span<const std::uint8_t> code, std::uint32_t reason)
{
    BenchVm vm(device);
    Vcpu &vcpu = vm.add_vcpu(code);
    const auto run = [&] {
        if (const int error = vcpu.run(); error != 0)
            fail("{}: KVM_RUN failed: {}", device.path(), errno_text(error));
    };
    for (unsigned i = 0; i < 3; i++) // the first fills the page tables
        run();
    const auto before = vm.exits();
    BenchSample sample;
    {
        const BenchMarks marks(&vm);
        sample.ticks = static_cast<double>(least_ticks(bench_rounds(kTries), run));
    }
    const auto after = vm.exits();
    if (vcpu.state().exit_reason != reason)
        fail("{}: the guest left with exit reason {}, expected {}", device.path(),
             vcpu.state().exit_reason, reason);
    if (before && after)
        sample.exits = static_cast<double>(*after - *before) / kTries;
    return sample;
}

BenchSample null_ioctl(const Device &device)
{
    BenchSample sample;
    sample.ticks = static_cast<double>(
        least_ticks(kTries, [&] { ioctl(device.fd(), KVM_GET_API_VERSION, 0UL); }));
    return sample;
}

BenchSample ioeventfd(const Device &device)
{
    BenchVm vm(device);
    const UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    kvm_ioeventfd request = {};
    request.addr = kBenchPort;
    request.len = 1;
    request.fd = event.get();
    request.flags = KVM_IOEVENTFD_FLAG_PIO;
    bench_ioctl(device, vm.vm().fd(), KVM_IOEVENTFD, "KVM_IOEVENTFD", &request);
    return in_guest(vm, code_ioeventfd());
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"null-ioctl", BenchGroup::kFloor, "ioctl(KVM_GET_API_VERSION)", 0, null_ioctl},
    {"guest-loop", BenchGroup::kFloor, "an empty window of the guest, an eighth", 0,
     [](const Device &d) { return in_guest(d, code_empty()); }},
    {"cpuid", BenchGroup::kInKernel, "CPUID leaf 0", 1,
     [](const Device &d) { return in_guest(d, code_cpuid()); }},
    {"vmcall", BenchGroup::kInKernel, "VMCALL of an unknown hypercall", 1,
     [](const Device &d) { return in_guest(d, code_vmcall()); }},
    {"rdmsr", BenchGroup::kInKernel, "RDMSR of IA32_APIC_BASE", 1,
     [](const Device &d) { return in_guest(d, code_rdmsr()); }},
    {"wrmsr", BenchGroup::kInKernel, "WRMSR of IA32_APIC_BASE", 1,
     [](const Device &d) { return in_guest(d, code_wrmsr()); }},
    {"cr0-write", BenchGroup::kInKernel, "MOV to CR0 that changes CD", 1,
     [](const Device &d) { return in_guest(d, code_cr0()); }},
    {"ioeventfd", BenchGroup::kInKernel, "OUT to a port with an ioeventfd", 1, ioeventfd},
    {"pio-out", BenchGroup::kToUser, "OUT of a byte, KVM_RUN to KVM_RUN", 1,
     [](const Device &d) { return to_user(d, code_out(), KVM_EXIT_IO); }},
    {"pio-in", BenchGroup::kToUser, "IN of a byte, KVM_RUN to KVM_RUN", 1,
     [](const Device &d) { return to_user(d, code_in(), KVM_EXIT_IO); }},
    {"pio-string", BenchGroup::kToUser, "REP INSB of 64 bytes", 0,
     [](const Device &d) { return to_user(d, code_string_in(), KVM_EXIT_IO); }},
    {"mmio-write", BenchGroup::kToUser, "MOV of 4 bytes to MMIO, KVM_RUN to KVM_RUN", 1,
     [](const Device &d) { return to_user(d, code_mmio_write(), KVM_EXIT_MMIO); }},
    {"mmio-read", BenchGroup::kToUser, "MOV of 4 bytes from MMIO, KVM_RUN to KVM_RUN", 1,
     [](const Device &d) { return to_user(d, code_mmio_read(), KVM_EXIT_MMIO); }},
});

} // namespace

std::span<const BenchCase> exit_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
