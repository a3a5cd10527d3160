// SPDX-License-Identifier: GPL-2.0-only
//
// From an event to the guest's handler.
#include "bench.hpp"
#include "bench_vm.hpp"
#include "clock.hpp"
#include "error.hpp"
#include "guest_code.hpp"
#include "marks.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <thread>

namespace minivmx::tool {
namespace {

constexpr unsigned kRounds = 200;

// x2APIC registers as MSRs: SDM Vol. 3A, table 11-6. EOI 80BH, spurious vector 80FH, ICR 830H,
// timer 832H, its initial count 838H and divider 83EH, self-IPI 83FH.
#define ENABLE_APIC      "mov ecx, 0x80f; mov eax, 0x1ff; xor edx, edx; wrmsr\n"
#define END_OF_INTERRUPT "mov ecx, 0x80b; xor eax, eax; xor edx, edx; wrmsr\n"
// R14 counts what has been handled.
#define WAIT_FOR_HANDLER "2: cmp r14, rbx; je 2b\n"

BENCH_CODE(handler_counts, "push rax; push rcx; push rdx\n" END_OF_INTERRUPT
                           "inc r14; pop rdx; pop rcx; pop rax; iretq")
// Tells the VMM by an ioeventfd.
BENCH_CODE(handler_answers, "push rax; push rcx; push rdx\n" END_OF_INTERRUPT
                            "out 0x80, al; inc r14; pop rdx; pop rcx; pop rax; iretq")

BENCH_CODE(code_self_ipi, ENABLE_APIC
           "xor r14d, r14d; sti; mov r13, -1\n"
           "1: rdtsc; shl rdx, 32; lea r12, [rax + rdx]\n"
           "mov rbx, r14; mov ecx, 0x83f; mov eax, 0x40; xor edx, edx; wrmsr\n" WAIT_FOR_HANDLER
           "rdtsc; shl rdx, 32; add rax, rdx; sub rax, r12\n"
           "cmp rax, r13; cmovb r13, rax; dec r15d; jnz 1b; cli; out 0xf4, al")

BENCH_CODE(code_timer,
           ENABLE_APIC
           "mov ecx, 0x832; mov eax, 0x40; xor edx, edx; wrmsr\n" // one shot
           "mov ecx, 0x83e; mov eax, 0xb; xor edx, edx; wrmsr\n"  // by 1
           "xor r14d, r14d; sti; mov r13, -1\n"
           "1: rdtsc; shl rdx, 32; lea r12, [rax + rdx]\n"
           "mov rbx, r14; mov ecx, 0x838; mov eax, 1; xor edx, edx; wrmsr\n" WAIT_FOR_HANDLER
           "rdtsc; shl rdx, 32; add rax, rdx; sub rax, r12\n"
           "cmp rax, r13; cmovb r13, rax; dec r15d; jnz 1b; cli; out 0xf4, al")

// Says that it is ready, then sleeps for good; the handler does the rest.
BENCH_CODE(code_sleep, ENABLE_APIC "out 0x80, al\n1: sti; hlt; jmp 1b")

// The first of two: waits until the other has an APIC, then sends and sleeps until the answer has
// come, as often as R15 says. CLI and STI around the test, so that an answer between it and HLT is
// not missed.
BENCH_CODE(code_ping, ENABLE_APIC "xor r14d, r14d; mov r13, -1; sti\n"
                                  "0: pause; cmp dword ptr [0x103000], 0; je 0b\n"
                                  "1: rdtsc; shl rdx, 32; lea r12, [rax + rdx]\n"
                                  "mov rbx, r14; mov ecx, 0x830; mov eax, 0x40; mov edx, 1; wrmsr\n"
                                  "2: cli; cmp r14, rbx; jne 3f; sti; hlt; jmp 2b\n"
                                  "3: rdtsc; shl rdx, 32; add rax, rdx; sub rax, r12\n"
                                  "cmp rax, r13; cmovb r13, rax; dec r15d; jnz 1b; out 0xf4, al")
// The second: sleeps until it hears, answers.
BENCH_CODE(code_pong, ENABLE_APIC "xor r14d, r14d; mov dword ptr [0x103000], 1\n"
                                  "1: mov rbx, r14\n"
                                  "2: cli; cmp r14, rbx; jne 3f; sti; hlt; jmp 2b\n"
                                  "3: mov ecx, 0x830; mov eax, 0x40; xor edx, edx; wrmsr; jmp 1b")

BenchSample alone(const Device &device, std::span<const std::uint8_t> code)
{
    BenchVm vm(device, true);
    vm.set_handler(handler_counts());
    BenchSample sample;
    sample.ticks = static_cast<double>(vm.run_rounds(vm.add_vcpu(code), kRounds).r13);
    return sample;
}

UniqueFd make_event()
{
    UniqueFd event(eventfd(0, EFD_CLOEXEC));
    if (!event.valid())
        fail("eventfd: {}", errno_text(errno));
    return event;
}

void signal_event(const UniqueFd &event)
{
    const std::uint64_t one = 1;
    if (write(event.get(), &one, sizeof(one)) != sizeof(one))
        fail("eventfd: {}", errno_text(errno));
}

void wait_for_event(const UniqueFd &event)
{
    std::uint64_t count = 0;
    if (read(event.get(), &count, sizeof(count)) != sizeof(count))
        fail("eventfd: {}", errno_text(errno));
}

/// Whoever is woken up by an event does not preempt its sender: that is about to sleep anyway, and
/// a vCPU is to be found in HLT each time. As long as the object lives, for the thread that made
/// it and those that it makes.
class NoPreemption {
  public:
    NoPreemption() { set(SCHED_BATCH); }
    ~NoPreemption() { set(SCHED_OTHER); }
    NoPreemption(const NoPreemption &) = delete;
    NoPreemption &operator=(const NoPreemption &) = delete;

  private:
    static void set(int policy)
    {
        const sched_param none = {};
        sched_setscheduler(0, policy, &none);
    }
};

/// A question by one event and its answer by another; vm: whose exits count.
BenchSample ping(const BenchVm *vm, const UniqueFd &question, const UniqueFd &answer)
{
    const auto round = [&] {
        signal_event(question);
        wait_for_event(answer);
    };
    round();
    const BenchMarks marks(vm);
    BenchSample sample;
    sample.ticks = static_cast<double>(least_ticks(bench_rounds(kRounds), round));
    return sample;
}

/// What HLT's wake-up can't be cheaper than: the same with a thread in the guest's place.
BenchSample eventfd_ping(const Device &)
{
    const NoPreemption meanwhile;
    const UniqueFd question = make_event();
    const UniqueFd answer = make_event();
    std::thread other([&] {
        for (unsigned i = 0; i < kRounds + 1; i++) {
            wait_for_event(question);
            signal_event(answer);
        }
    });
    const BenchSample sample = ping(nullptr, question, answer);
    other.join();
    return sample;
}

/// Runs a vCPU in a thread of its own until stop().
class RunningVcpu {
  public:
    explicit RunningVcpu(Vcpu &vcpu) : vcpu_(vcpu), thread_([this] { vcpu_.run(); }) {}
    ~RunningVcpu()
    {
        vcpu_.request_exit();
        pthread_kill(thread_.native_handle(), SIGUSR1);
        thread_.join();
    }
    RunningVcpu(const RunningVcpu &) = delete;
    RunningVcpu &operator=(const RunningVcpu &) = delete;

  private:
    /// The signal has to interrupt KVM_RUN, nothing more.
    struct Handler {
        Handler()
        {
            struct sigaction action = {};
            action.sa_handler = [](int) {};
            sigaction(SIGUSR1, &action, nullptr);
        }
    } handler_;
    Vcpu &vcpu_;
    std::thread thread_;
};

BenchSample halt_wakeup(const Device &device)
{
    const NoPreemption meanwhile;
    BenchVm vm(device, true);
    vm.set_handler(handler_answers());
    const UniqueFd question = make_event();
    const UniqueFd answer = make_event();

    // GSI 24 is an MSI with our vector for APIC 0: SDM Vol. 3A, 11.11.
    constexpr std::uint32_t kGsi = 24;
    struct {
        kvm_irq_routing header;
        kvm_irq_routing_entry entry;
    } routing = {};
    routing.header.nr = 1;
    routing.entry.gsi = kGsi;
    routing.entry.type = KVM_IRQ_ROUTING_MSI;
    routing.entry.u.msi.address_lo = 0xfee00000;
    routing.entry.u.msi.data = kBenchVector;
    bench_ioctl(device, vm.vm().fd(), KVM_SET_GSI_ROUTING, "KVM_SET_GSI_ROUTING", &routing);
    kvm_irqfd irqfd = {};
    irqfd.fd = static_cast<std::uint32_t>(question.get());
    irqfd.gsi = kGsi;
    bench_ioctl(device, vm.vm().fd(), KVM_IRQFD, "KVM_IRQFD", &irqfd);
    kvm_ioeventfd ioeventfd = {};
    ioeventfd.addr = kBenchPort;
    ioeventfd.len = 1;
    ioeventfd.fd = answer.get();
    ioeventfd.flags = KVM_IOEVENTFD_FLAG_PIO;
    bench_ioctl(device, vm.vm().fd(), KVM_IOEVENTFD, "KVM_IOEVENTFD", &ioeventfd);

    const RunningVcpu running(vm.add_vcpu(code_sleep()));
    wait_for_event(answer); // its APIC is on now
    return ping(&vm, question, answer);
}

BenchSample ipi(const Device &device)
{
    const NoPreemption meanwhile;
    BenchVm vm(device, true);
    vm.set_handler(handler_counts());
    Vcpu &first = vm.add_vcpu(code_ping());
    const RunningVcpu second(vm.add_vcpu(code_pong()));
    BenchSample sample;
    sample.ticks = static_cast<double>(vm.run_rounds(first, kRounds).r13) / 2;
    return sample;
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"eventfd-ping", BenchGroup::kFloor, "an eventfd to another thread and one back", 0,
     eventfd_ping},
    {"self-ipi", BenchGroup::kInterrupts, "x2APIC self-IPI to the handler's end", 0,
     [](const Device &d) { return alone(d, code_self_ipi()); }},
    {"apic-timer", BenchGroup::kInterrupts, "timer set to 1 to the handler's end", 0,
     [](const Device &d) { return alone(d, code_timer()); }},
    {"halt-wakeup", BenchGroup::kInterrupts, "irqfd to a vCPU in HLT, ioeventfd back", 0,
     halt_wakeup},
    {"ipi", BenchGroup::kInterrupts, "IPI to another vCPU in HLT", 0, ipi},
});

} // namespace

std::span<const BenchCase> interrupt_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
