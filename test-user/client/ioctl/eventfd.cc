// SPDX-License-Identifier: GPL-2.0-only
//
// Irqfds, ioeventfds and coalesced ranges: bad arguments, and that they do what they say.
#include <atomic>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <thread>

#include "ioctl_test.hpp"

using namespace kvm;

DECLARE_GUEST(chips_irqs);
DECLARE_GUEST(chips_writes);

namespace {

constexpr uint16_t kPort = 0xc000;     // where chips_writes writes 0x1234
constexpr uint64_t kAddress = 0xe0010; // and 0x55667788
constexpr uint32_t kPio = KVM_IOEVENTFD_FLAG_PIO, kMatch = KVM_IOEVENTFD_FLAG_DATAMATCH,
                   kDeassign = KVM_IOEVENTFD_FLAG_DEASSIGN;

struct Eventfd : Fd {
    Eventfd() : Fd(eventfd(0, EFD_NONBLOCK)) { REQUIRE(get() >= 0); }
    uint64_t count() const
    {
        uint64_t value = 0;
        return read(get(), &value, sizeof(value)) == sizeof(value) ? value : 0;
    }
    uint64_t wait() const
    {
        pollfd p = {get(), POLLIN, 0};
        poll(&p, 1, 5000);
        return count();
    }
    void signal() const
    {
        const uint64_t one = 1;
        REQUIRE(write(get(), &one, sizeof(one)) == sizeof(one));
    }
};

// A real-mode guest at G_CODE.
struct Small {
    Device device;
    Vm vm{device};
    Memory memory{0x20000};
    Vcpu vcpu;

    Small(const uint8_t *code, const uint8_t *end, bool irqchip)
    {
        if (irqchip) {
            kvm_pit_config config = {};
            REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
            REQUIRE_OK(call(vm, KVM_CREATE_PIT2, &config));
        }
        memcpy(memory.base + G_CODE, code, static_cast<size_t>(end - code));
        REQUIRE_OK(vm.set_slot(0, 0, 0x20000, memory.base));
        vcpu = Vcpu(device, vm);
        restart();
    }
    void line(uint32_t irq, uint32_t level)
    {
        kvm_irq_level l = {};
        l.irq = irq;
        l.level = level;
        REQUIRE_OK(call(vm, KVM_IRQ_LINE, &l));
    }
    void restart()
    {
        kvm_sregs s = vcpu.sregs();
        s.cs.base = s.cs.selector = 0;
        vcpu.set(s);
        kvm_regs r = {};
        r.rip = G_CODE;
        r.rsp = 0x9000;
        r.rflags = 2;
        vcpu.set(r);
    }
    uint32_t enter()
    {
        REQUIRE_OK(vcpu.enter());
        return vcpu.run->exit_reason;
    }
    // The next byte that chips_irqs reports.
    int report()
    {
        if (enter() != KVM_EXIT_IO || vcpu.run->io.port != PORT_OUT)
            return -1;
        return *vcpu.io_data();
    }
    kvm_coalesced_mmio_ring &ring()
    {
        return *reinterpret_cast<kvm_coalesced_mmio_ring *>(reinterpret_cast<uint8_t *>(vcpu.run) +
                                                            KVM_COALESCED_MMIO_PAGE_OFFSET * kPage);
    }
};

struct Writes : Small {
    Writes() : Small(guest_chips_writes, guest_chips_writes_end, false) {}
};

struct Irqs : Small {
    Irqs() : Small(guest_chips_irqs, guest_chips_irqs_end, true) { EXPECT_EQ(report(), 0xff); }
    // The mask of the master: 1 bits are off.
    void mask(uint8_t imr)
    {
        kvm_irqchip chip = {};
        REQUIRE_OK(call(vm, KVM_GET_IRQCHIP, &chip));
        chip.chip.pic.imr = imr;
        REQUIRE_OK(call(vm, KVM_SET_IRQCHIP, &chip));
    }
};

int ioeventfd(const Vm &vm, const Fd &fd, uint64_t addr, uint32_t len, uint32_t flags = 0,
              uint64_t datamatch = 0)
{
    kvm_ioeventfd e = {};
    e.datamatch = datamatch;
    e.addr = addr;
    e.len = len;
    e.fd = fd.get();
    e.flags = flags;
    memset(e.pad, 0xff, sizeof(e.pad)); // not looked at
    return call(vm, KVM_IOEVENTFD, &e);
}

int irqfd(const Vm &vm, const Fd &fd, uint32_t gsi, uint32_t flags = 0,
          const Fd *resample = nullptr)
{
    kvm_irqfd e = {};
    e.fd = static_cast<uint32_t>(fd.get());
    e.gsi = gsi;
    e.flags = flags;
    e.resamplefd = resample ? static_cast<uint32_t>(resample->get()) : 0;
    memset(e.pad, 0xff, sizeof(e.pad));
    return call(vm, KVM_IRQFD, &e);
}

int zone(const Vm &vm, unsigned long request, uint64_t addr, uint32_t size, uint32_t pio = 0)
{
    kvm_coalesced_mmio_zone z = {};
    z.addr = addr;
    z.size = size;
    z.pio = pio;
    return call(vm, request, &z);
}

} // namespace

// ---- Ioeventfds ----

TEST(ioeventfd_arguments)
{
    Device device;
    Vm vm(device);
    Eventfd fd;
    Fd no_eventfd(open("/dev/null", O_RDWR)), none;
    for (uint32_t len : {3u, 5u, 6u, 7u, 9u, 16u, 0x80000000u, 0xffffffffu})
        EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, len), EINVAL);
    EXPECT_ERRNO(ioeventfd(vm, fd, ~0UL, 1), EINVAL);
    EXPECT_ERRNO(ioeventfd(vm, fd, ~0UL - 6, 8), EINVAL);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, 0, kMatch), EINVAL);
    for (uint32_t flag = 32; flag; flag <<= 1)
        EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, 4, flag), EINVAL);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x3000, 4, 16), 0); // a flag that KVM has for itself
    // kvm_intel takes the flag of another architecture's bus, where nothing ever happens.
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, 4, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY),
                 test::options.reference() ? 0 : EINVAL);
    EXPECT_ERRNO(ioeventfd(vm, none, 0x1000, 4), EBADF);
    EXPECT_ERRNO(ioeventfd(vm, no_eventfd, 0x1000, 4), EINVAL);
    EXPECT_ERRNO(ioeventfd(vm, vm, 0x1000, 4), EINVAL);
    EXPECT_ERRNO(ioeventfd(vm, none, 0x1000, 3), EINVAL); // before the descriptor
    EXPECT_ERRNO(ioeventfd(vm, none, 0x1000, 3, kDeassign), EBADF);
    EXPECT_ERRNO(ioeventfd(vm, no_eventfd, 0x1000, 4, kDeassign), EINVAL);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, 3, kDeassign | 0xff00), ENOENT);
    expect_usable(device, vm);
}

TEST(ioeventfd_collisions)
{
    Device device;
    Vm vm(device);
    Eventfd fd, other;
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, 4, kMatch, 1), 0);
    EXPECT_ERRNO(ioeventfd(vm, other, 0x1000, 4, kMatch, 1), EEXIST);
    EXPECT_ERRNO(ioeventfd(vm, other, 0x1000, 4), EEXIST);
    EXPECT_ERRNO(ioeventfd(vm, other, 0x1000, 0), EEXIST);
    EXPECT_ERRNO(ioeventfd(vm, other, 0x1000, 4, kMatch, 2), 0);
    EXPECT_ERRNO(ioeventfd(vm, other, 0x1000, 2), 0);
    EXPECT_ERRNO(ioeventfd(vm, other, 0x1000, 4, kPio), 0);
    EXPECT_ERRNO(ioeventfd(vm, other, 0x1000, 4, kDeassign | kMatch, 1), ENOENT);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, 4, kDeassign), ENOENT);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, 4, kDeassign | kMatch, 1), 0);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x1000, 4, kDeassign | kMatch, 1), ENOENT);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x2000, 0), 0);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x2000, 0, kDeassign), 0);
    EXPECT_ERRNO(ioeventfd(vm, fd, 0x2000, 0, kDeassign), ENOENT);
}

TEST(ioeventfd_hears_the_guest)
{
    Writes g;
    Eventfd port, memory, any, wrong;
    REQUIRE_OK(ioeventfd(g.vm, port, kPort, 2, kPio | kMatch, 0x1234));
    REQUIRE_OK(ioeventfd(g.vm, wrong, kPort, 2, kPio | kMatch, 0x1235));
    REQUIRE_OK(ioeventfd(g.vm, memory, kAddress, 4));
    EXPECT_EQ(g.enter(), KVM_EXIT_HLT);
    EXPECT_EQ(port.count(), 2);
    EXPECT_EQ(memory.count(), 2);
    EXPECT_EQ(wrong.count(), 0);
    REQUIRE_OK(ioeventfd(g.vm, memory, kAddress, 4, kDeassign));
    REQUIRE_OK(ioeventfd(g.vm, any, kAddress, 0));
    close(port.release()); // its registration stays
    g.restart();
    EXPECT_EQ(g.enter(), KVM_EXIT_HLT);
    EXPECT_EQ(any.count(), 2);
    EXPECT_EQ(memory.count(), 0);
    REQUIRE_OK(ioeventfd(g.vm, any, kAddress, 0, kDeassign));
    g.restart();
    EXPECT_EQ(g.enter(), KVM_EXIT_MMIO);
    EXPECT_EQ(g.vcpu.run->mmio.phys_addr, kAddress);
}

// ---- Coalesced ranges ----

TEST(coalesced_arguments)
{
    Device device;
    Vm vm(device);
    for (unsigned long request : {static_cast<unsigned long>(KVM_REGISTER_COALESCED_MMIO),
                                  static_cast<unsigned long>(KVM_UNREGISTER_COALESCED_MMIO)}) {
        for (uint32_t pio : {2u, 3u, 0x80000000u, 0xffffffffu})
            EXPECT_ERRNO(zone(vm, request, 0x1000, 0x1000, pio), EINVAL);
        for (uint32_t size : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu})
            for (uint64_t addr : {0UL, 0x1000UL, ~0UL})
                EXPECT_ERRNO(zone(vm, request, addr, size), 0);
    }
    EXPECT_ERRNO(zone(vm, KVM_UNREGISTER_COALESCED_MMIO, 0x5000, 1, 1), 0);
    int added = 0;
    while (added < 1100 && zone(vm, KVM_REGISTER_COALESCED_MMIO, 0x100000, 16, 1) == 0)
        added++;
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_EQ(added, 1000);
    EXPECT_ERRNO(zone(vm, KVM_UNREGISTER_COALESCED_MMIO, 0x100000, 16, 1), 0);
    EXPECT_ERRNO(zone(vm, KVM_REGISTER_COALESCED_MMIO, 0x100000, 16, 1), 0);
}

TEST(coalesced_counts_own_devices)
{
    Device device;
    Vm vm(device);
    kvm_pit_config config = {};
    config.flags = KVM_PIT_SPEAKER_DUMMY;
    REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
    REQUIRE_OK(call(vm, KVM_CREATE_PIT2, &config));
    int added = 0;
    while (added < 1100 && zone(vm, KVM_REGISTER_COALESCED_MMIO, 0x100000, 16, 1) == 0)
        added++;
    EXPECT_EQ(added, 995);
    for (added = 0; added < 1100 && zone(vm, KVM_REGISTER_COALESCED_MMIO, 0x100000, 16) == 0;
         added++)
        ;
    EXPECT_EQ(added, 999);
}

TEST(coalesced_writes_wait)
{
    Writes g;
    REQUIRE_OK(zone(g.vm, KVM_REGISTER_COALESCED_MMIO, 0xe0000, 0x1000));
    REQUIRE_OK(zone(g.vm, KVM_REGISTER_COALESCED_MMIO, kPort, 2, 1));
    EXPECT_EQ(g.enter(), KVM_EXIT_HLT);
    EXPECT_EQ(g.ring().first, 0);
    REQUIRE(g.ring().last == 4);
    for (uint32_t i = 0; i < 4; i++) {
        const kvm_coalesced_mmio &entry = g.ring().coalesced_mmio[i];
        EXPECT_EQ(entry.pio, i % 2 == 0);
        EXPECT_EQ(entry.phys_addr, i % 2 ? kAddress : kPort);
        EXPECT_EQ(entry.len, i % 2 ? 4 : 2);
        EXPECT_EQ(entry.data[0], i % 2 ? 0x88 : 0x34);
    }
    // A full ring: user space gets the write itself.
    g.ring().first = 5;
    g.restart();
    EXPECT_EQ(g.enter(), KVM_EXIT_IO);
    g.ring().first = g.ring().last = 0xffffffff;
    EXPECT_EQ(g.enter(), KVM_EXIT_MMIO);
    g.ring().first = g.ring().last = 0;
    REQUIRE_OK(zone(g.vm, KVM_UNREGISTER_COALESCED_MMIO, 0xe0000, 0x10));
    g.restart();
    EXPECT_EQ(g.enter(), KVM_EXIT_MMIO);
    EXPECT_EQ(g.ring().last, 1);
}

// ---- Irqfds ----

TEST(irqfd_arguments)
{
    Device device;
    Vm vm(device), bare(device), split(device);
    REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
    Eventfd fd, other, resample;
    Fd no_eventfd(open("/dev/null", O_RDWR)), none;
    EXPECT_ERRNO(irqfd(bare, fd, 5), EINVAL);
    EXPECT_ERRNO(irqfd(bare, none, 5), EINVAL);
    EXPECT_ERRNO(irqfd(bare, fd, 5, KVM_IRQFD_FLAG_DEASSIGN), 0);
    for (uint32_t flag = 4; flag; flag <<= 1)
        EXPECT_ERRNO(irqfd(vm, fd, 5, flag), EINVAL);
    EXPECT_ERRNO(irqfd(bare, fd, 5, 4), EINVAL);
    EXPECT_ERRNO(irqfd(vm, none, 5), EBADF);
    EXPECT_ERRNO(irqfd(vm, no_eventfd, 5), EINVAL);
    EXPECT_ERRNO(irqfd(vm, vm, 5), EINVAL);
    EXPECT_ERRNO(irqfd(vm, none, 5, KVM_IRQFD_FLAG_DEASSIGN), EBADF);
    EXPECT_ERRNO(irqfd(vm, no_eventfd, 5, KVM_IRQFD_FLAG_DEASSIGN), EINVAL);
    EXPECT_ERRNO(irqfd(vm, fd, 5, KVM_IRQFD_FLAG_RESAMPLE, &none), EBADF);
    EXPECT_ERRNO(irqfd(vm, fd, 5, KVM_IRQFD_FLAG_RESAMPLE, &no_eventfd), EINVAL);
    EXPECT_ERRNO(irqfd(vm, fd, 5), 0);
    EXPECT_ERRNO(irqfd(vm, fd, 6), EBUSY);
    EXPECT_ERRNO(irqfd(vm, fd, 5, KVM_IRQFD_FLAG_RESAMPLE, &resample), EBUSY);
    EXPECT_ERRNO(irqfd(vm, other, 5, KVM_IRQFD_FLAG_RESAMPLE, &resample), 0);
    EXPECT_ERRNO(irqfd(vm, fd, 6, KVM_IRQFD_FLAG_DEASSIGN), 0); // none: not an error
    EXPECT_ERRNO(irqfd(vm, fd, 6), EBUSY);
    EXPECT_ERRNO(irqfd(vm, fd, 5, KVM_IRQFD_FLAG_DEASSIGN), 0);
    for (uint32_t gsi : {23u, 4096u, 0x80000000u, 0xffffffffu}) {
        EXPECT_ERRNO(irqfd(vm, fd, gsi), 0);
        fd.signal(); // goes nowhere
        EXPECT_ERRNO(irqfd(vm, fd, gsi, KVM_IRQFD_FLAG_DEASSIGN), 0);
    }
    REQUIRE_OK(split.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 24));
    EXPECT_ERRNO(irqfd(split, fd, 5, KVM_IRQFD_FLAG_RESAMPLE, &resample), EINVAL);
    EXPECT_ERRNO(irqfd(split, fd, 5), 0);
}

TEST(irqfd_many)
{
    Device device;
    Vm vm(device);
    REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
    std::vector<Eventfd> fds(200);
    for (size_t i = 0; i < fds.size(); i++)
        EXPECT_ERRNO(irqfd(vm, fds[i], i % 24), 0);
    for (Eventfd &fd : fds)
        fd.signal();
    fds.resize(100); // closed, not deassigned
    for (size_t i = 0; i < fds.size(); i += 2)
        EXPECT_ERRNO(irqfd(vm, fds[i], i % 24, KVM_IRQFD_FLAG_DEASSIGN), 0);
    for (Eventfd &fd : fds)
        fd.signal();
    // The VM goes with the rest.
}

TEST(irqfd_ends_in_any_order)
{
    Device device;
    auto assign = [](const Vm &vm, Eventfd &fd, Eventfd &resample) {
        REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
        REQUIRE_OK(irqfd(vm, fd, 5, KVM_IRQFD_FLAG_RESAMPLE, &resample));
        fd.signal();
    };
    Eventfd survivor, both;
    for (int i = 0; i < 20; i++) {
        Vm vm(device);
        Eventfd resample;
        assign(vm, survivor, resample);
    } // the VM before the eventfd, which is free again then
    survivor.signal();
    EXPECT_EQ(survivor.count(), 1); // nobody takes it
    for (int i = 0; i < 20; i++) {
        Vm vm(device);
        Eventfd fd;
        assign(vm, fd, survivor);
        Eventfd closed = std::move(fd); // closed first, and the VM at once
    }
    {
        Vm vm(device);
        assign(vm, both, both); // its own resampler
        both.signal();
    }
    for (int i = 0; i < 20; i++) { // closed while it is deassigned
        Vm vm(device);
        Eventfd fd, resample;
        assign(vm, fd, resample);
        const int number = dup(fd.get());
        std::thread other([&] { close(number); });
        (void)irqfd(vm, fd, 5, KVM_IRQFD_FLAG_DEASSIGN);
        other.join();
    }
}

TEST(irqfd_interrupts)
{
    Irqs g;
    g.mask(0x01);
    Eventfd three, twelve, early;
    early.signal();
    REQUIRE_OK(irqfd(g.vm, three, 3));
    REQUIRE_OK(irqfd(g.vm, twelve, 12));
    three.signal();
    EXPECT_EQ(g.report(), 3);
    twelve.signal();
    EXPECT_EQ(g.report(), 12);
    EXPECT_EQ(three.count(), 0); // the kernel takes them
    REQUIRE_OK(irqfd(g.vm, early, 4));
    EXPECT_EQ(g.report(), 4); // signalled before it was assigned
    REQUIRE_OK(irqfd(g.vm, three, 3, KVM_IRQFD_FLAG_DEASSIGN));
    three.signal();
    EXPECT_EQ(three.count(), 1);
    // While the vCPU sleeps.
    std::thread later([&] {
        usleep(50'000);
        twelve.signal();
    });
    EXPECT_EQ(g.report(), 12);
    later.join();
}

TEST(irqfd_resamples)
{
    Irqs g;
    g.mask(0x01);
    Eventfd fd, second, end, second_end;
    REQUIRE_OK(irqfd(g.vm, fd, 5, KVM_IRQFD_FLAG_RESAMPLE, &end));
    REQUIRE_OK(irqfd(g.vm, second, 5, KVM_IRQFD_FLAG_RESAMPLE, &second_end));
    fd.signal();
    EXPECT_EQ(g.report(), 5);
    EXPECT_EQ(end.count(), 0); // not ended yet
    g.line(3, 1);
    g.line(3, 0);
    EXPECT_EQ(g.report(), 3); // the end of 5 is behind us, and the line is down
    EXPECT_EQ(end.wait(), 1);
    EXPECT_EQ(second_end.wait(), 1);
    // Deassigned while it holds the line up: it goes down with the last of them.
    g.mask(0xff);
    fd.signal();
    second.signal();
    usleep(100'000);
    REQUIRE_OK(irqfd(g.vm, fd, 5, KVM_IRQFD_FLAG_DEASSIGN));
    REQUIRE_OK(irqfd(g.vm, second, 5, KVM_IRQFD_FLAG_DEASSIGN));
    kvm_irqchip chip = {};
    REQUIRE_OK(call(g.vm, KVM_GET_IRQCHIP, &chip));
    EXPECT_EQ(chip.chip.pic.irr & 0x20, 0);
}

// ---- The chips with a guest ----

TEST(chips_level_and_edge)
{
    Irqs g;
    g.mask(0x01);
    g.line(11, 1); // level triggered: again and again
    for (int i = 0; i < 5; i++)
        EXPECT_EQ(g.report(), 11);
    g.line(11, 0);
    g.line(10, 1); // edge triggered: once
    g.line(4, 1);
    std::vector<int> seen;
    for (int i = 0; i < 2; i++)
        seen.push_back(g.report());
    // The handler of 11 may be at its report still; the slave's come first.
    EXPECT(seen == (std::vector<int>{10, 4}));
}

TEST(chips_timer)
{
    Irqs g;
    timespec begin, end;
    g.mask(0xfe);
    EXPECT_EQ(g.report(), 0);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(g.report(), 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const int64_t us =
        (end.tv_sec - begin.tv_sec) * 1'000'000 + (end.tv_nsec - begin.tv_nsec) / 1000;
    // 1193 ticks of 838 ns each; the first may have waited for us. How much later than that the
    // guest runs is this machine's affair.
    EXPECT(us > 95'000);
}

// Everything changes under a guest that uses it, from several threads: nothing may break, and the
// VM goes at once afterwards.
TEST_LIMIT(chips_change_under_a_guest, 60)
{
    signal(SIGUSR1, [](int) {});
    Writes g;
    Vm other(g.device);
    std::atomic<bool> done = false;
    auto repeat = [&done](auto &&step) {
        return std::thread([&done, step] {
            for (uint32_t i = 0; !done; i++)
                step(i);
        });
    };
    Irqs irqs; // ready: a state from before would take its vectors away
    std::atomic<bool> asleep = true;
    std::vector<Eventfd> fds(8);
    std::thread threads[] = {
        // Eventfds of a port and of memory, and a coalesced range over both.
        repeat([&](uint32_t i) {
            const Eventfd &fd = fds[i % 4];
            const bool port = i & 1;
            if (ioeventfd(g.vm, fd, port ? kPort : kAddress,
                          i & 4  ? 0
                          : port ? 2
                                 : 4,
                          port ? kPio : 0) == 0)
                ioeventfd(g.vm, fd, port ? kPort : kAddress,
                          i & 4  ? 0
                          : port ? 2
                                 : 4,
                          kDeassign | (port ? kPio : 0));
            zone(g.vm, i & 2 ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO,
                 port ? kPort : 0xe0000, port ? 2 : 0x1000, port);
        }),
        // Irqfds that come and go, closed and deassigned, with and without an end to hear of.
        repeat([&](uint32_t i) {
            Eventfd fd, end;
            irqfd(irqs.vm, fd, 3 + i % 9, i & 1 ? KVM_IRQFD_FLAG_RESAMPLE : 0, &end);
            fd.signal();
            if (i & 2)
                irqfd(irqs.vm, fd, 3 + i % 9, KVM_IRQFD_FLAG_DEASSIGN);
            irqfd(irqs.vm, fds[4 + i % 4], 3 + i % 9, i & 4 ? KVM_IRQFD_FLAG_DEASSIGN : 0);
        }),
        repeat([&](uint32_t i) { fds[i % 8].signal(); }),
        // Tables, states, lines.
        repeat([&](uint32_t i) {
            uint64_t table[1 + 2 * sizeof(kvm_irq_routing_entry) / 8] = {2};
            auto *entries = reinterpret_cast<kvm_irq_routing_entry *>(table + 1);
            for (uint32_t n = 0; n < 2; n++) {
                entries[n].gsi = 3 + (i + n) % 9;
                entries[n].type = i & 1 ? KVM_IRQ_ROUTING_IRQCHIP : KVM_IRQ_ROUTING_MSI;
                if (i & 1)
                    entries[n].u.irqchip = {n ? 2u : 0u, 3 + i % 5};
                else
                    entries[n].u.msi.address_lo = 0xfee00000 | (i & 2 ? 0xff000 : 0);
                if (!(i & 1))
                    entries[n].u.msi.data = 0x20 + i % 200;
            }
            call(irqs.vm, KVM_SET_GSI_ROUTING, table);
        }),
        repeat([&](uint32_t i) {
            kvm_irqchip chip = {};
            chip.chip_id = i % 3;
            call(irqs.vm, KVM_GET_IRQCHIP, &chip);
            if (i % 64 == 0)
                call(irqs.vm, KVM_SET_IRQCHIP, &chip);
            kvm_pit_state2 pit;
            call(irqs.vm, KVM_GET_PIT2, &pit);
            pit.channels[0].count = 1 + i % 5000;
            pit.channels[0].mode = i % 8;
            call(irqs.vm, KVM_SET_PIT2, &pit);
            irqs.line(3 + i % 12, i & 1);
        }),
        std::thread([&] {
            while (!done) {
                g.restart();
                while (!done && g.vcpu.enter() == 0 && g.vcpu.run->exit_reason != KVM_EXIT_HLT)
                    ;
                g.ring().first = g.ring().last;
            }
        }),
        std::thread([&] {
            while (!done)
                irqs.vcpu.enter();
            asleep = false;
        }),
    };
    sleep(3);
    done = true;
    while (asleep) { // the guest sleeps in the kernel
        pthread_kill(threads[6].native_handle(), SIGUSR1);
        usleep(1000);
    }
    for (std::thread &thread : threads)
        thread.join();
    expect_usable(g.device, other);
}
