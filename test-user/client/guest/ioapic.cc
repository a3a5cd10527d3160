// SPDX-License-Identifier: GPL-2.0-only
//
// Guests with the IOAPIC and the PIT in the kernel, messages, and the IOAPIC left to user space.
#include <poll.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

#include "guest_test.hpp"

namespace {

constexpr uint64_t kIoapicPage = 0xfec00000, kApicPage = 0xfee00000;
constexpr uint32_t kLevel = 0x8000, kRemoteIrr = 0x4000;

void with_chips(Vm &vm)
{
    kvm_pit_config config = {};
    REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
    REQUIRE_OK(call(vm, KVM_CREATE_PIT2, &config));
}

void with_split_irqchip(Vm &vm)
{
    REQUIRE_OK(vm.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 24));
}

// A guest in IA-32e mode that sleeps; each interrupt makes it report pin 18's entry, the last
// vector, and end the interrupt.
struct IoapicGuest : Guest {
    explicit IoapicGuest(Device &d, void (*prepare)(Vm &) = with_chips)
        : Guest(d, Mode::kLong, CODE(64, "hlt"), prepare)
    {
        for (uint64_t page : {kIoapicPage, kApicPage}) // in the page directory of G_MMIO
            memory.at<uint64_t>(G_TABLES + 0x4000 + 8 * (page >> 21 & 511)) =
                page | guest::kPresent | guest::kWrite | guest::kLarge | 0x18;
    }
    int line(uint32_t gsi, uint32_t level)
    {
        kvm_irq_level l = {};
        l.irq = gsi;
        l.level = level;
        REQUIRE_OK(call(vm, KVM_IRQ_LINE_STATUS, &l));
        return l.status;
    }
    uint32_t last_vector() { return log_count() ? log(log_count() - 1).vector : 0; }
    void route(uint32_t gsi, uint32_t data)
    {
        uint64_t table[1 + sizeof(kvm_irq_routing_entry) / 8] = {1};
        auto &entry = *reinterpret_cast<kvm_irq_routing_entry *>(table + 1);
        entry.gsi = gsi;
        entry.type = KVM_IRQ_ROUTING_MSI;
        entry.u.msi.address_lo = kApicPage;
        entry.u.msi.data = data;
        REQUIRE_OK(call(vm, KVM_SET_GSI_ROUTING, table));
    }
};

#define ENABLE_APIC                                                                                \
    "mov ebx, 0xfee00000; mov ecx, 0xfec00000\n"                                                   \
    "mov dword ptr [rbx+0xf0], 0x1ff\n"
// Pin 18 sends vector 31H, level triggered; pin 19 sends 32H by edges.
#define SET_UP_PINS                                                                                \
    "mov dword ptr [rcx], 0x34; mov dword ptr [rcx+0x10], 0x8031\n"                                \
    "mov dword ptr [rcx], 0x36; mov dword ptr [rcx+0x10], 0x32\n"
#define SERVE                                                                                      \
    "mov eax, 1; out 0x10, eax\n"                                                                  \
    "1: sti; hlt; cli\n"                                                                           \
    "mov dword ptr [rcx], 0x34; mov eax, [rcx+0x10]; out 0x10, eax\n"                              \
    "mov dword ptr [rbx+0xb0], 0; jmp 1b\n"

const uint64_t kOne = 1;

} // namespace

TEST_LIMIT(ioapic_level_and_edge, 30)
{
    Device device;
    IoapicGuest g(device);
    start(g, CODE(64, ENABLE_APIC SET_UP_PINS SERVE));
    EXPECT_REPORT(g.vcpu, 1);
    EXPECT_EQ(g.line(18, 1), 1);
    for (int i = 0; i < 3; i++) {
        EXPECT_REPORT(g.vcpu, 0x31 | kLevel | kRemoteIrr);
        EXPECT_EQ(g.last_vector(), 0x31);
        EXPECT_EQ(g.line(18, 1), -1); // sent, not ended
    }
    g.line(18, 0);
    EXPECT_EQ(g.line(19, 1), 1);
    EXPECT_REPORT(g.vcpu, 0x31 | kLevel);
    EXPECT_EQ(g.last_vector(), 0x32);
    EXPECT_EQ(g.line(19, 1), 0); // no edge
    g.line(19, 0);
    g.line(19, 1);
    EXPECT_REPORT(g.vcpu, 0x31 | kLevel);
    EXPECT_EQ(g.log_count(), 5);
}

TEST_LIMIT(ioapic_resampled_irqfd, 30)
{
    Device device;
    IoapicGuest g(device);
    Fd fd(eventfd(0, 0)), end(eventfd(0, EFD_NONBLOCK));
    kvm_irqfd irqfd = {};
    irqfd.fd = static_cast<uint32_t>(fd.get());
    irqfd.gsi = 18;
    irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
    irqfd.resamplefd = static_cast<uint32_t>(end.get());
    REQUIRE_OK(call(g.vm, KVM_IRQFD, &irqfd));
    start(g, CODE(64, ENABLE_APIC SET_UP_PINS SERVE));
    EXPECT_REPORT(g.vcpu, 1);
    for (int i = 0; i < 3; i++) {
        uint64_t count = 0;
        REQUIRE(write(fd.get(), &kOne, 8) == 8);
        EXPECT_REPORT(g.vcpu, 0x31 | kLevel | kRemoteIrr);
        EXPECT_EQ(read(end.get(), &count, 8), -1); // not ended
        g.line(19, 1);
        g.line(19, 0);
        EXPECT_REPORT(g.vcpu, 0x31 | kLevel); // ended, and the line is down
        pollfd p = {end.get(), POLLIN, 0};
        EXPECT_EQ(poll(&p, 1, 5000), 1);
        EXPECT_EQ(read(end.get(), &count, 8), 8);
        EXPECT_EQ(count, 1);
    }
    EXPECT_EQ(g.log_count(), 6);
}

TEST_LIMIT(ioapic_messages, 30)
{
    Device device;
    IoapicGuest g(device);
    start(g, CODE(64, ENABLE_APIC SET_UP_PINS SERVE));
    EXPECT_REPORT(g.vcpu, 1);
    kvm_msi msi = {};
    msi.address_lo = kApicPage;
    msi.data = 0x33;
    EXPECT_EQ(call(g.vm, KVM_SIGNAL_MSI, &msi), 1);
    EXPECT_REPORT(g.vcpu, 0x31 | kLevel);
    EXPECT_EQ(g.last_vector(), 0x33);
    g.route(100, 0x34);
    EXPECT_EQ(g.line(100, 1), 1);
    EXPECT_REPORT(g.vcpu, 0x31 | kLevel);
    EXPECT_EQ(g.last_vector(), 0x34);
    EXPECT_EQ(g.line(100, 0), -1);
    EXPECT_EQ(g.line(18, 1), -1); // no such route any more
    // An eventfd of a message.
    Fd fd(eventfd(0, 0));
    kvm_irqfd irqfd = {};
    irqfd.fd = static_cast<uint32_t>(fd.get());
    irqfd.gsi = 100;
    REQUIRE_OK(call(g.vm, KVM_IRQFD, &irqfd));
    REQUIRE(write(fd.get(), &kOne, 8) == 8);
    EXPECT_REPORT(g.vcpu, 0x31 | kLevel);
    EXPECT_EQ(g.last_vector(), 0x34);
    g.route(100, 0x35); // the eventfd follows its GSI
    REQUIRE(write(fd.get(), &kOne, 8) == 8);
    EXPECT_REPORT(g.vcpu, 0x31 | kLevel);
    EXPECT_EQ(g.last_vector(), 0x35);
}

TEST_LIMIT(ioapic_in_user_space, 30)
{
    Device device;
    IoapicGuest g(device, with_split_irqchip);
    start(g, CODE(64, ENABLE_APIC "1: sti; hlt; cli; mov eax, [0x10000]; out 0x10, eax\n"
                                  "mov dword ptr [rbx+0xb0], 0; mov eax, 77; out 0x10, eax\n"
                                  "mov eax, [rcx]; jmp 1b"));
    g.route(4, 0x8036); // a level-triggered pin of user space's IOAPIC
    // The guest has not enabled its APIC yet: let it run into its sleep.
    std::thread later([&] {
        usleep(200'000);
        EXPECT_EQ(g.line(4, 1), 1);
    });
    EXPECT_REPORT(g.vcpu, 1);
    later.join();
    EXPECT_EQ(g.last_vector(), 0x36);
    ENTER(g.vcpu, KVM_EXIT_IOAPIC_EOI);
    EXPECT_EQ(g.vcpu.run->eoi.vector, 0x36);
    EXPECT_REPORT(g.vcpu, 77);
    ENTER(g.vcpu, KVM_EXIT_MMIO); // its registers are user space's
    EXPECT_EQ(g.vcpu.run->mmio.phys_addr, kIoapicPage);
    // Edges need no end.
    g.route(4, 0x0037);
    EXPECT_EQ(g.line(4, 1), 1);
    EXPECT_REPORT(g.vcpu, 2);
    EXPECT_REPORT(g.vcpu, 77);
}

TEST_LIMIT(ioapic_timer, 60)
{
    Device device;
    IoapicGuest g(device);
    // The PIT ticks every 20 ms through pin 0; a slow machine needs some of them for a turn.
    start(g, CODE(64, ENABLE_APIC SET_UP_PINS
                  "mov dword ptr [rcx], 0x10; mov dword ptr [rcx+0x10], 0x30\n"
                  "mov al, 0xff; out 0x21, al; out 0xa1, al\n"
                  "mov al, 0x34; out 0x43, al; mov al, 0x37; out 0x40, al; mov al, 0x5d; out 0x40, "
                  "al\n" SERVE));
    EXPECT_REPORT(g.vcpu, 1);
    for (const uint8_t reinject : {1, 0}) {
        kvm_reinject_control control = {};
        control.pit_reinject = reinject;
        REQUIRE_OK(call(g.vm, KVM_REINJECT_CONTROL, &control));
        EXPECT_REPORT(g.vcpu, 0x31 | kLevel);
        g.memory.at<uint32_t>(LOG_COUNT) = 0;
        usleep(1'000'000); // fifty ticks
        timespec begin, now;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        int ticks = 0, wait_ms = 0;
        do {
            EXPECT_REPORT(g.vcpu, 0x31 | kLevel);
            g.memory.at<uint32_t>(LOG_COUNT) = 0;
            ticks++;
            clock_gettime(CLOCK_MONOTONIC, &now);
            wait_ms = static_cast<int>((now.tv_sec - begin.tv_sec) * 1000 +
                                       (now.tv_nsec - begin.tv_nsec) / 1'000'000);
        } while (wait_ms < 1000);
        // With reinjection those that were missed follow: 100 in all; else 50.
        if (reinject)
            EXPECT(ticks >= 80 && ticks <= 300);
        else
            EXPECT(ticks >= 5 && ticks <= 60);
    }
}
