// SPDX-License-Identifier: GPL-2.0-only
//
// Each tracepoint tells what the guest did: no more, no less, in order.
#include "trace_test.hpp"

#include <linux/perf_event.h>
#include <sys/syscall.h>

namespace {

// A guest in long mode with code of these bytes; its pages are in place.
struct Traced : Guest {
    explicit Traced(Device &d, Blob code) : Guest(d, Mode::kLong, code) {}
    void restart(Blob code, const kvm_regs &regs = fresh_regs()) { start(*this, code, regs); }
};

std::string at(uint64_t rip)
{
    char text[32];
    snprintf(text, sizeof(text), "rip 0x%llx", static_cast<unsigned long long>(rip));
    return text;
}

size_t count(const std::vector<Event> &events, const std::string &name, const std::string &begin)
{
    size_t n = 0;
    for (const Event &event : events)
        n += event.name == name && event.is(begin);
    return n;
}

} // namespace

TEST(exits_with_their_facts)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    g.restart(CODE(64, "mov eax, 7; mov ecx, 2; cpuid\n" // at 0xa000 + 10
                       "mov eax, 0x41; out 0x10, al\n"   // + 17
                       "in ax, 0x11\n"                   // + 19
                       "mov ecx, 0x345678; rdmsr\n"      // a #GP: + 27
                       "hlt"));
    g.resume_at(G_CODE + 29);
    Listener listener({"exit"});
    ENTER(g.vcpu, KVM_EXIT_IO);
    ENTER(g.vcpu, KVM_EXIT_IO);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_TEXTS(texts(listener.events(), "exit"),
                 "CPUID " + at(G_CODE + 10) + " leaf 0x7 subleaf 0x2",
                 "IO_INSTRUCTION " + at(G_CODE + 17) + " out port 0x10, 1 byte, 0x41",
                 "IO_INSTRUCTION " + at(G_CODE + 19) + " in port 0x11, 2 bytes",
                 "MSR_READ " + at(G_CODE + 27) + " MSR 0x345678", "HLT " + at(G_CODE + 29));
}

TEST(exits_of_control_and_debug_registers)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    g.restart(CODE(64, "mov rax, cr0; btc rax, 29; btc rax, 30; mov cr0, rax\n" // CD, NW: + 13
                       "xor ecx, ecx; xor edx, edx; mov eax, 1; hlt; mov rbx, dr7; hlt"));
    const uint64_t cr0 = g.vcpu.sregs().cr0;
    Listener listener({"exit"});
    ENTER(g.vcpu, KVM_EXIT_HLT);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    char to_cr0[64];
    snprintf(to_cr0, sizeof(to_cr0), "CR_ACCESS rip 0x%x MOV to CR0, 0x%llx", G_CODE + 13,
             static_cast<unsigned long long>(cr0 ^ 0x60000000));
    EXPECT_TEXTS(texts(listener.events(), "exit"), to_cr0, "HLT " + at(G_CODE + 25),
                 "DR_ACCESS " + at(G_CODE + 26) + " MOV from DR7 to RBX", "HLT " + at(G_CODE + 29));
}

TEST(entries_and_exits_take_turns)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    g.restart(CODE(64, "mov ebx, 0; mov r8d, 25\n1: xor eax, eax; cpuid; dec r8d; jnz 1b; hlt"));
    Listener listener({"entry", "exit"});
    ENTER(g.vcpu, KVM_EXIT_HLT);
    const std::vector<Event> events = listener.events();
    REQUIRE(events.size() >= 52 && events.size() % 2 == 0);
    for (size_t i = 0; i < events.size(); i++)
        REQUIRE_EQ(events[i].name == (i % 2 ? "exit" : "entry"), true);
    EXPECT_EQ(count(events, "exit", "CPUID "), 25u);
    EXPECT_EQ(count(events, "exit", "HLT "), 1u);
    EXPECT(events[0].is(at(G_CODE)));
    // Behind each CPUID it goes on, unless that exit was in the middle of something else.
    for (size_t i = 1; i + 1 < events.size(); i += 2)
        if (events[i].is("CPUID "))
            EXPECT(events[i + 1].is(at(G_CODE + 15)));
}

TEST(injected_events)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    kvm_interrupt interrupt = {0x31};
    // The first delivery finds no page of the handler's; an interrupted one is injected again.
    g.restart(CODE(64, "nop; hlt; hlt"), fresh_regs(0x202));
    REQUIRE_OK(call(g.vcpu, KVM_INTERRUPT, &interrupt));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    const Counters before = counters("0/0/events");

    g.restart(CODE(64, "nop; hlt; hlt"), fresh_regs(0x202));
    Listener listener({"inject"});
    REQUIRE_OK(call(g.vcpu, KVM_INTERRUPT, &interrupt));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    REQUIRE_OK(call(g.vcpu, KVM_NMI));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    Blob code = CODE(64, "mov ecx, 0x345678; rdmsr; hlt");
    g.restart(code);
    g.resume_at(G_CODE + code.size() - 1);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_TEXTS(texts(listener.events(), "inject"), "interrupt 0x31", "NMI", "#GP error 0x0");
    EXPECT_EQ(g.log_count(), 1); // restart() forgot the others
    const Counters events = counters("0/0/events");
    for (const char *name : {"injected_interrupts", "injected_nmis", "injected_exceptions"})
        EXPECT_EQ(events.at(name) - before.at(name), 1u);
}

TEST(ept_violations)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    // Small pages, so that each first touch is one.
    madvise(g.memory.base, G_SIZE, MADV_NOHUGEPAGE);
    g.restart(
        CODE(64, "mov eax, [0x100000]; mov byte ptr [0x101008], 1; mov eax, [0x100010]; hlt"));
    Listener listener({"exit", "ept_violation"});
    const uint64_t before = counters("0/0/exits")["EPT_VIOLATION"];
    ENTER(g.vcpu, KVM_EXIT_HLT);
    const std::vector<Event> events = listener.events();
    EXPECT_EQ(count(events, "ept_violation", "gpa 0x100000 linear 0x100000 read of no page"), 1u);
    EXPECT_EQ(count(events, "ept_violation", "gpa 0x101008 linear 0x101008 write of no page"), 1u);
    EXPECT_EQ(count(events, "ept_violation", "gpa 0x100010 "), 0u);
    EXPECT_EQ(count(events, "exit", "EPT_VIOLATION "), count(events, "ept_violation", "gpa "));
    EXPECT_EQ(counters("0/0/exits").at("EPT_VIOLATION") - before,
              count(events, "ept_violation", "gpa "));
}

TEST(mmio)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    g.restart(CODE(64, "mov ebx, 0xd0000000; mov eax, [rbx]; mov eax, [rbx + 4]; hlt"));
    Listener listener({"exit"});
    EXPECT_MMIO_READ(g.vcpu, G_MMIO, 4, 1);
    EXPECT_MMIO_READ(g.vcpu, G_MMIO + 4, 4, 2);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    const std::vector<Event> events = listener.events();
    EXPECT_EQ(count(events, "exit", "EPT_MISCONFIG " + at(G_CODE + 7) + " at 0xd0000004"), 1u);
}

TEST(control_changes)
{
    Device device;
    Listener listener({"control_change"});
    Traced g(device, CODE(64, "hlt"));
    const std::vector<Event> creation = listener.events();
    for (const char *word : {"pin 0x0 -> ", "primary 0x0 -> ", "exit 0x0 -> ", "entry 0x0 -> "})
        EXPECT_EQ(count(creation, "control_change", word), 1u);
    // With IF = 0 the interrupt has to wait for the window, which closes when it opened.
    g.restart(CODE(64, "nop; sti; nop; hlt"));
    g.vcpu.run->request_interrupt_window = 1;
    ENTER(g.vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
    const std::vector<std::string> changes = texts(listener.events(), "control_change");
    REQUIRE_EQ(changes.size(), 2u);
    unsigned long long before, after, again, last;
    char name[64], name_again[64];
    REQUIRE_EQ(
        sscanf(changes[0].c_str(), "primary 0x%llx -> 0x%llx %63[^\n]", &before, &after, name), 3);
    REQUIRE_EQ(
        sscanf(changes[1].c_str(), "primary 0x%llx -> 0x%llx %63[^\n]", &again, &last, name_again),
        3);
    EXPECT_EQ(after, before | 4);
    EXPECT_EQ(strcmp(name, "+Interrupt-window exiting"), 0);
    EXPECT_EQ(again, after);
    EXPECT_EQ(last, before);
    EXPECT_EQ(strcmp(name_again, "-Interrupt-window exiting"), 0);
}

TEST(filter_by_number)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    if (!exists(EVENTS))
        test::skip("this kernel has no tracepoints");
    REQUIRE_EQ(write_file(EVENTS "/exit/filter", "reason == 10 && vcpu == 0"), 0);
    g.restart(CODE(64, "xor eax, eax; cpuid; out 0x10, al; hlt"));
    Listener listener({"exit"});
    ENTER(g.vcpu, KVM_EXIT_IO);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    const std::vector<Event> events = listener.events();
    EXPECT_EQ(events.size(), 1u);
    EXPECT_EQ(count(events, "exit", "CPUID "), 1u);
    REQUIRE_EQ(write_file(EVENTS "/exit/filter", "0"), 0);
}

TEST(perf_counts_them)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    if (!exists(EVENTS))
        test::skip("this kernel has no tracepoints");
    perf_event_attr attr = {};
    attr.type = PERF_TYPE_TRACEPOINT;
    attr.size = sizeof(attr);
    attr.config = strtoull(read_file(EVENTS "/exit/id").c_str(), nullptr, 10);
    Fd perf(static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0)));
    if (perf.get() < 0 && (errno == ENOSYS || errno == ENOENT || errno == ENODEV))
        test::skip("this kernel's perf has no tracepoints");
    REQUIRE(perf.get() >= 0);
    auto exits = [] {
        uint64_t sum = 0;
        for (const auto &[reason, n] : counters("0/0/exits"))
            sum += n;
        return sum;
    };
    const uint64_t before = exits();
    uint64_t counted = 0, more = 0;
    REQUIRE_EQ(read(perf.get(), &counted, sizeof(counted)), 8);
    g.restart(CODE(64, "mov r8d, 100\n1: xor eax, eax; cpuid; dec r8d; jnz 1b; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    REQUIRE_EQ(read(perf.get(), &more, sizeof(more)), 8);
    EXPECT(more - counted >= 101);
    EXPECT_EQ(more - counted, exits() - before);
}

// The guest times its own CPUID exits. On an emulator whose clock counts instructions the least
// time is exact; elsewhere it says little.
TEST_LIMIT(cost_of_an_exit, 60)
{
    Device device;
    Traced g(device, CODE(64, "hlt"));
    auto least = [&] {
        g.restart(CODE(64, "mov r15d, 500; mov r14, -1\n"
                           "1: rdtsc; mov r12d, eax; xor eax, eax; cpuid; rdtsc; sub eax, r12d\n"
                           "cmp eax, r14d; cmovb r14d, eax; dec r15d; jnz 1b; mov eax, r14d; hlt"));
        ENTER(g.vcpu, KVM_EXIT_HLT);
        return g.vcpu.regs().rax;
    };
    const uint64_t off = least();
    uint64_t on;
    {
        Listener listener({"entry", "exit"});
        on = least();
    }
    const uint64_t off_again = least();
    printf("# a CPUID exit takes %llu ticks, %llu with entry and exit traced\n",
           static_cast<unsigned long long>(off), static_cast<unsigned long long>(on));
    EXPECT(on > off);
    EXPECT_EQ(off_again, off);
}
