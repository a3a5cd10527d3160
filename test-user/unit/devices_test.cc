// SPDX-License-Identifier: GPL-2.0-only
//
// Ioeventfds and coalesced ranges: what may be registered, and which write goes to whom.
#include "chips_fixture.hpp"

namespace minivmx::test {

namespace {

class DevicesTest : public Chips {
  protected:
    DevicesTest() : Chips{With::kNothing} {}
    ~DevicesTest() override
    {
        for (host_eventfd *fd : registered_)
            EXPECT_EQ(fd->references, 1);
    }

    static kvm_ioeventfd args(u64 addr, u32 len, u32 flags = 0, u64 datamatch = 0)
    {
        kvm_ioeventfd args{};
        args.addr = addr;
        args.len = len;
        args.flags = flags;
        args.datamatch = datamatch;
        return args;
    }
    int assign(host_eventfd *fd, const kvm_ioeventfd &args)
    {
        const int result = core_assign_ioeventfd(guest.vm.core, &args, fd);
        if (result == 0) {
            fd->references++;
            registered_.insert(fd);
        }
        return result;
    }
    int deassign(host_eventfd *fd, const kvm_ioeventfd &args)
    {
        const int result = core_deassign_ioeventfd(guest.vm.core, &args, fd);
        if (result == 0)
            registered_.erase(fd);
        return result;
    }
    bool write(u64 gpa, u64 data, u32 size) { return kernel_mmio(vcpu(), gpa, true, &data, size); }
    bool write_port(u16 port, u32 data, u32 size)
    {
        return kernel_pio(vcpu(), port, true, &data, size);
    }
    int coalesced(bool add, u64 addr, u32 size, u32 pio = 0)
    {
        kvm_coalesced_mmio_zone zone{};
        zone.addr = addr;
        zone.size = size;
        zone.pio = pio;
        return add ? core_register_coalesced(guest.vm.core, &zone)
                   : core_unregister_coalesced(guest.vm.core, &zone);
    }
    CoalescedRing &ring()
    {
        return *static_cast<CoalescedRing *>(core_coalesced_ring(guest.vm.core));
    }
    static constexpr u32 kRingSize = 170; // KVM_COALESCED_MMIO_MAX

  private:
    std::set<host_eventfd *> registered_;
};

constexpr u32 kMatch = KVM_IOEVENTFD_FLAG_DATAMATCH, kPio = KVM_IOEVENTFD_FLAG_PIO;

} // namespace

TEST_F(DevicesTest, AnEventfdHearsOfItsWrites)
{
    host_eventfd *word = eventfd(), *any = eventfd(), *seven = eventfd(), *eight = eventfd();
    ASSERT_EQ(assign(word, args(0xd0000000, 2)), 0);
    ASSERT_EQ(assign(any, args(0xd0000010, 0)), 0);
    ASSERT_EQ(assign(seven, args(0xd0000020, 4, kMatch, 7)), 0);
    ASSERT_EQ(assign(eight, args(0xd0000020, 4, kMatch, 8)), 0);
    EXPECT_TRUE(write(0xd0000000, 0x1234, 2));
    EXPECT_FALSE(write(0xd0000000, 0x1234, 4)) << "another size";
    EXPECT_FALSE(write(0xd0000000, 0x1234, 1));
    EXPECT_FALSE(write(0xd0000001, 0x12, 1));
    EXPECT_EQ(word->count, 1u);
    for (u32 size : {1u, 2u, 4u, 8u})
        EXPECT_TRUE(write(0xd0000010, 0, size));
    EXPECT_FALSE(write(0xd0000011, 0, 1));
    EXPECT_EQ(any->count, 4u);
    EXPECT_TRUE(write(0xd0000020, 7, 4));
    EXPECT_TRUE(write(0xd0000020, 8, 4));
    EXPECT_FALSE(write(0xd0000020, 9, 4));
    EXPECT_EQ(seven->count, 1u);
    EXPECT_EQ(eight->count, 1u);
    u64 data = 0;
    EXPECT_FALSE(kernel_mmio(vcpu(), 0xd0000000, false, &data, 2)) << "a read is user space's";
    EXPECT_FALSE(write_port(0x0, 0x1234, 2));
    EXPECT_EQ(guest.machine.rcu_readers, 0);
}

TEST_F(DevicesTest, PortsAreAnotherBus)
{
    host_eventfd *port = eventfd(), *memory = eventfd();
    ASSERT_EQ(assign(port, args(0xc000, 2, kPio | kMatch, 1)), 0);
    ASSERT_EQ(assign(memory, args(0xc000, 2, kMatch, 1)), 0);
    EXPECT_TRUE(write_port(0xc000, 1, 2));
    EXPECT_FALSE(write_port(0xc000, 2, 2));
    EXPECT_TRUE(write(0xc000, 1, 2));
    EXPECT_EQ(port->count, 1u);
    EXPECT_EQ(memory->count, 1u);
    EXPECT_EQ(deassign(port, args(0xc000, 2, kPio | kMatch, 1)), 0);
    EXPECT_FALSE(write_port(0xc000, 1, 2));
    EXPECT_TRUE(write(0xc000, 1, 2));
}

TEST_F(DevicesTest, BadEventfds)
{
    host_eventfd *fd = eventfd();
    for (u32 len : {3u, 5u, 6u, 7u, 9u, 16u, ~0u})
        EXPECT_EQ(assign(fd, args(0x1000, len)), -EINVAL);
    EXPECT_EQ(assign(fd, args(~u64{0}, 1)), -EINVAL) << "it wraps";
    EXPECT_EQ(assign(fd, args(~u64{0} - 6, 8)), -EINVAL);
    EXPECT_EQ(assign(fd, args(0x1000, 0, kMatch)), -EINVAL);
    for (u32 flag = 8; flag; flag <<= flag == 8 ? 2 : 1)
        EXPECT_EQ(assign(fd, args(0x1000, 4, flag)), -EINVAL);
    EXPECT_EQ(deassign(fd, args(0x1000, 4)), -ENOENT);
    // The very last bytes can be registered, and written.
    host_eventfd *last = eventfd();
    EXPECT_EQ(assign(last, args(~u64{0} - 4, 4)), 0);
    EXPECT_TRUE(write(~u64{0} - 4, 0, 4));
    EXPECT_FALSE(write(~u64{0} - 3, 0, 4));
}

TEST_F(DevicesTest, EventfdsThatCollide)
{
    host_eventfd *fd = eventfd(), *other = eventfd();
    ASSERT_EQ(assign(fd, args(0x1000, 4, kMatch, 1)), 0);
    EXPECT_EQ(assign(other, args(0x1000, 4, kMatch, 1)), -EEXIST);
    EXPECT_EQ(assign(other, args(0x1000, 4)), -EEXIST);
    EXPECT_EQ(assign(other, args(0x1000, 0)), -EEXIST);
    EXPECT_EQ(assign(other, args(0x1000, 2)), 0);
    EXPECT_EQ(assign(fd, args(0x1000, 4, kMatch, 1)), -EEXIST) << "not even the same one";
    EXPECT_EQ(deassign(other, args(0x1000, 4, kMatch, 1)), -ENOENT) << "another's";
    EXPECT_EQ(deassign(fd, args(0x1000, 4, kMatch, 2)), -ENOENT);
    EXPECT_EQ(deassign(fd, args(0x1000, 4)), -ENOENT);
    EXPECT_EQ(deassign(fd, args(0x1000, 4, kMatch | kPio, 1)), -ENOENT);
    EXPECT_EQ(deassign(fd, args(0x1000, 4, kMatch, 1)), 0);
    EXPECT_EQ(deassign(fd, args(0x1000, 4, kMatch, 1)), -ENOENT);
    EXPECT_EQ(fd->references, 0);
}

TEST_F(DevicesTest, WithoutMemory)
{
    host_eventfd *fd = eventfd();
    guest.machine.allocations_left = 0;
    EXPECT_EQ(assign(fd, args(0x1000, 4)), -ENOMEM);
    EXPECT_EQ(coalesced(true, 0x1000, 0x1000), -ENOMEM);
    guest.machine.allocations_left = -1;
    ASSERT_EQ(assign(fd, args(0x1000, 4)), 0);
    host_eventfd *second = eventfd();
    ASSERT_EQ(assign(second, args(0x2000, 4)), 0);
    guest.machine.allocations_left = 0;
    EXPECT_EQ(deassign(fd, args(0x1000, 4)), -ENOMEM);
    guest.machine.allocations_left = -1;
    EXPECT_TRUE(write(0x1000, 0, 4)) << "still there";
}

TEST_F(DevicesTest, ManyEventfds)
{
    std::vector<host_eventfd *> fds;
    for (u32 i = 0; i < 300; i++) {
        fds.push_back(eventfd());
        ASSERT_EQ(assign(fds.back(), args(0x10000 + 8 * ((i * 7) % 300), 4)), 0);
    }
    for (u32 i = 0; i < 300; i++)
        EXPECT_TRUE(write(0x10000 + 8 * i, 0, 4));
    for (host_eventfd *fd : fds)
        EXPECT_EQ(fd->count, 1u);
    for (u32 i = 0; i < 300; i += 2)
        EXPECT_EQ(deassign(fds[i], args(0x10000 + 8 * ((i * 7) % 300), 4)), 0);
    for (u32 i = 0; i < 300; i++)
        EXPECT_EQ(write(0x10000 + 8 * ((i * 7) % 300), 0, 4), i % 2 == 1) << i;
}

TEST_F(DevicesTest, WritesWaitInTheRing)
{
    ASSERT_EQ(coalesced(true, 0xa0000, 0x20000), 0);
    EXPECT_TRUE(write(0xa0000, 0x11, 1));
    EXPECT_TRUE(write(0xbfff8, 0x1122334455667788, 8));
    EXPECT_FALSE(write(0xbfffc, 0, 8)) << "ends behind it";
    EXPECT_FALSE(write(0x9fffc, 0, 8)) << "begins before it";
    u64 data = 0;
    EXPECT_FALSE(kernel_mmio(vcpu(), 0xa0000, false, &data, 1)) << "a read is user space's";
    EXPECT_EQ(ring().first, 0u);
    ASSERT_EQ(ring().last, 2u);
    EXPECT_EQ(ring().entries[0].phys_addr, 0xa0000u);
    EXPECT_EQ(ring().entries[0].len, 1u);
    EXPECT_EQ(ring().entries[0].data[0], 0x11);
    EXPECT_EQ(ring().entries[0].pio, 0u);
    EXPECT_EQ(ring().entries[1].len, 8u);
    EXPECT_EQ(ring().entries[1].data[7], 0x11);
    ASSERT_EQ(coalesced(true, 0xcf8, 4, 1), 0);
    EXPECT_TRUE(write_port(0xcf8, 0x80000000, 4));
    EXPECT_EQ(ring().entries[2].pio, 1u);
    EXPECT_FALSE(write(0xcf8, 0, 4));
}

TEST_F(DevicesTest, AFullRingIsUserSpaces)
{
    ASSERT_EQ(coalesced(true, 0xa0000, 0x20000), 0);
    for (u32 i = 0; i < kRingSize - 1; i++)
        ASSERT_TRUE(write(0xa0000 + i, i, 1)) << i;
    EXPECT_FALSE(write(0xa0000, 0, 1));
    ring().first = 1;
    EXPECT_TRUE(write(0xa0000, 0, 1));
    EXPECT_EQ(ring().last, 0u);
    EXPECT_FALSE(write(0xa0000, 0, 1));
    // User space writes what it likes.
    ring().last = kRingSize;
    EXPECT_FALSE(write(0xa0000, 0, 1));
    ring().last = ~0u;
    EXPECT_FALSE(write(0xa0000, 0, 1));
    ring().last = 0;
    for (u32 first : {0u, 1u, 5u, kRingSize, kRingSize + 1, 0x80000000u, ~0u}) {
        ring().first = first;
        for (u32 i = 0; i < 3 * kRingSize; i++)
            (void)write(0xa0000, i, 8);
        EXPECT_LT(ring().last, kRingSize);
    }
}

TEST_F(DevicesTest, ZonesGoAndCome)
{
    EXPECT_EQ(coalesced(true, 0x1000, 0x1000, 2), -EINVAL);
    EXPECT_EQ(coalesced(false, 0x1000, 0x1000, 2), -EINVAL);
    EXPECT_EQ(coalesced(false, 0x1000, 0x1000), 0) << "nothing to take";
    ASSERT_EQ(coalesced(true, 0x1000, 0x1000), 0);
    ASSERT_EQ(coalesced(true, 0x1000, 0x3000), 0);
    ASSERT_EQ(coalesced(true, 0x1800, 0x100), 0);
    EXPECT_EQ(coalesced(false, 0x1000, 0x1000, 1), 0) << "the other bus";
    EXPECT_EQ(coalesced(false, 0x1000, 0x8000), 0) << "larger than any";
    EXPECT_TRUE(write(0x1000, 0, 4));
    EXPECT_EQ(coalesced(false, 0x1000, 0x10), 0) << "all that contain it";
    EXPECT_FALSE(write(0x1000, 0, 4));
    EXPECT_FALSE(write(0x2000, 0, 4));
    EXPECT_TRUE(write(0x1800, 0, 4)) << "which the third doesn't";
    // Sizes that make no range.
    EXPECT_EQ(coalesced(true, 0x9000, 0), 0);
    EXPECT_FALSE(write(0x9000, 0, 1));
    EXPECT_EQ(coalesced(true, ~u64{0} - 1, 0x1000), 0);
    EXPECT_FALSE(write(~u64{0} - 1, 0, 1));
    EXPECT_EQ(coalesced(true, 0x100000000, ~0u), 0);
    EXPECT_TRUE(write(0x1ffffff00, 0, 8));
    EXPECT_EQ(coalesced(false, 0x100000000, ~0u), 0);
    EXPECT_TRUE(write(0x1ffffff00, 0, 8)) << "KVM takes such a size for negative";
}

TEST_F(DevicesTest, ABusHasAThousandPlaces)
{
    for (u32 i = 0; i < 1000; i++)
        ASSERT_EQ(coalesced(true, 0x100000 + 16 * i, 16), 0) << i;
    EXPECT_EQ(coalesced(true, 0x90000000, 16), -ENOSPC);
    EXPECT_EQ(coalesced(true, 0x9000, 16, 1), 0);
    EXPECT_EQ(coalesced(false, 0x100000, 16), 0);
    EXPECT_EQ(coalesced(true, 0x90000000, 16), 0);
    host_eventfd *fd = eventfd();
    EXPECT_EQ(assign(fd, args(0x90001000, 4)), 0) << "eventfds don't count";
}

TEST_F(DevicesTest, TheFirstOfTheBusTakesIt)
{
    host_eventfd *fd = eventfd();
    ASSERT_EQ(assign(fd, args(0x2000, 4)), 0);
    ASSERT_EQ(coalesced(true, 0x1000, 0x2000), 0);
    EXPECT_TRUE(write(0x2000, 0, 4));
    EXPECT_EQ(ring().last, 1u) << "the range that begins before";
    EXPECT_EQ(fd->count, 0u);
    ring().first = 2; // full
    EXPECT_TRUE(write(0x2000, 0, 4));
    EXPECT_EQ(fd->count, 1u);
}

TEST_F(DevicesTest, Capabilities)
{
    const core_vm *core = guest.vm.core;
    for (u64 cap :
         {KVM_CAP_IRQCHIP, KVM_CAP_IRQ_INJECT_STATUS, KVM_CAP_PIT, KVM_CAP_PIT2, KVM_CAP_PIT_STATE2,
          KVM_CAP_REINJECT_CONTROL, KVM_CAP_IRQFD, KVM_CAP_IRQFD_RESAMPLE, KVM_CAP_IOEVENTFD,
          KVM_CAP_IOEVENTFD_NO_LENGTH, KVM_CAP_IOEVENTFD_ANY_LENGTH, KVM_CAP_SIGNAL_MSI,
          KVM_CAP_COALESCED_PIO, KVM_CAP_SPLIT_IRQCHIP})
        EXPECT_EQ(core_check_extension(core, cap), 1) << cap;
    EXPECT_EQ(core_check_extension(core, KVM_CAP_IRQ_ROUTING), 4096);
    EXPECT_EQ(core_check_extension(core, KVM_CAP_COALESCED_MMIO), KVM_COALESCED_MMIO_PAGE_OFFSET);
}

} // namespace minivmx::test
