// SPDX-License-Identifier: GPL-2.0-only
//
// KVM_SET_USER_MEMORY_REGION: sizes, alignment, overlap, changes of a slot.
#include "ioctl_test.hpp"

using namespace kvm;

namespace {

// A VM, 64 pages, and slots 1 (pages 0x100..0x110) and 2 (0x110..0x120) as the starting point.
struct Slots {
    Device device;
    Vm vm{device};
    Memory memory{64 * kPage};
    static constexpr uint64_t kOne = 0x10000000, kSize = 16 * kPage, kTwo = kOne + kSize;
    uint8_t *two_host = memory.base + kSize;

    Slots()
    {
        REQUIRE_OK(vm.set_slot(1, kOne, kSize, memory.base));
        REQUIRE_OK(vm.set_slot(2, kTwo, kSize, two_host));
    }
    // Nothing that was refused may have changed the two slots: deleting them works, once.
    ~Slots()
    {
        for (uint32_t slot : {1u, 2u}) {
            EXPECT_ERRNO(vm.set_slot(slot, 0, 0, nullptr), 0);
            EXPECT_ERRNO(vm.set_slot(slot, 0, 0, nullptr), EINVAL);
        }
        expect_usable(device, vm);
    }
};

} // namespace

TEST(slot_bad_pointer)
{
    Slots s;
    EXPECT_ERRNO(call(s.vm, KVM_SET_USER_MEMORY_REGION, kUnmapped), EFAULT);
    EXPECT_ERRNO(call(s.vm, KVM_SET_USER_MEMORY_REGION, kKernelAddress), EFAULT);
    EXPECT_ERRNO(call(s.vm, KVM_SET_USER_MEMORY_REGION, nullptr), EFAULT);
}

TEST(slot_alignment)
{
    Slots s;
    uint8_t *host = s.memory.base + 32 * kPage;
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage + 1, host), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, 512, host), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1010, kPage, host), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage, host + 8), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(1, Slots::kOne + 8, 0, s.memory.base), EINVAL); // a deletion too
    EXPECT_ERRNO(s.vm.set_slot(1, Slots::kOne, 0, s.memory.base + 8), EINVAL);
}

TEST(slot_flags)
{
    Slots s;
    uint8_t *host = s.memory.base + 32 * kPage;
    for (uint32_t flag = 4; flag; flag <<= 1)
        EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage, host, flag), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(1, 0, 0, nullptr, 4), EINVAL); // a deletion too
    EXPECT_ERRNO(s.vm.set_slot(1, Slots::kOne, Slots::kSize, s.memory.base, 1u << 31), EINVAL);
}

TEST(slot_numbers)
{
    Slots s;
    uint8_t *host = s.memory.base + 32 * kPage;
    auto slots = static_cast<uint32_t>(s.device.extension(KVM_CAP_NR_MEMSLOTS));
    EXPECT_ERRNO(s.vm.set_slot(slots, 0x1000, kPage, host), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(0xffff, 0x1000, kPage, host), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(slots - 1, 0x1000, kPage, host), 0);
    EXPECT_ERRNO(s.vm.set_slot(slots - 1, 0x1000, 0, host), 0);
    // The upper 16 bits are an address space: KVM has two (the second is SMM's), minivmx one.
    int spaces = s.device.extension(KVM_CAP_MULTI_ADDRESS_SPACE);
    int expected = spaces >= 2 ? 0 : EINVAL;
    EXPECT_ERRNO(s.vm.set_slot(1u << 16 | 3, 0x1000, kPage, host), expected);
    EXPECT_ERRNO(s.vm.set_slot(2u << 16 | 3, 0x1000, kPage, host), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(0xffff0003, 0x1000, kPage, host), EINVAL);
    EXPECT_EQ(spaces >= 2, test::options.reference());
}

TEST(slot_ranges)
{
    Slots s;
    uint8_t *host = s.memory.base + 32 * kPage;
    // Wrapping guest ranges.
    EXPECT_ERRNO(s.vm.set_slot(3, 0xfffffffffffff000, kPage, host), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0xfffffffffffff000, 2 * kPage, host), EINVAL);
    // Beyond 52 bits of physical address.
    EXPECT_ERRNO(s.vm.set_slot(3, 1ULL << 52, kPage, host), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, (1ULL << 52) - kPage, 2 * kPage, host), EINVAL);
    // Host addresses: the kernel's, wrapping, non-canonical; an unmapped one is found only when it
    // is used.
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage, reinterpret_cast<void *>(kKernelAddress)), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, 2 * kPage, reinterpret_cast<void *>(0xfffffffffffff000)),
                 EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage, reinterpret_cast<void *>(0x800000000000)), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, 2 * kPage, reinterpret_cast<void *>(0x7ffffffff000)),
                 EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage, kUnmapped), 0);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, 0, nullptr), 0);
    // More than 2^31 - 1 pages.
    EXPECT_ERRNO(s.vm.set_slot(3, 0x100000000, 1ULL << 43, kUnmapped), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x100000000, 1ULL << 63, kUnmapped), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x100000000, ~0xfffULL, kUnmapped), EINVAL);
}

TEST(slot_overlap)
{
    Slots s;
    uint8_t *host = s.memory.base + 32 * kPage;
    uint64_t one = Slots::kOne, two = Slots::kTwo, size = Slots::kSize;
    EXPECT_ERRNO(s.vm.set_slot(3, one, size, host), EEXIST);                     // the same
    EXPECT_ERRNO(s.vm.set_slot(3, one - kPage, 2 * kPage, host), EEXIST);        // its first page
    EXPECT_ERRNO(s.vm.set_slot(3, two + size - kPage, 2 * kPage, host), EEXIST); // its last page
    EXPECT_ERRNO(s.vm.set_slot(3, one + kPage, kPage, host), EEXIST);            // inside
    EXPECT_ERRNO(s.vm.set_slot(3, one - kPage, 4 * size, host), EEXIST);         // around both
    EXPECT_ERRNO(s.vm.set_slot(3, one - kPage, kPage, host), 0);                 // just before
    EXPECT_ERRNO(s.vm.set_slot(4, two + size, kPage, host), 0);                  // just behind
    // Two slots may share host memory.
    EXPECT_ERRNO(s.vm.set_slot(5, 0x1000, size, s.memory.base), 0);
    for (uint32_t slot : {3u, 4u, 5u})
        EXPECT_ERRNO(s.vm.set_slot(slot, 0, 0, nullptr), 0);
}

TEST(slot_delete)
{
    Slots s;
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, 0, nullptr), EINVAL); // never was
    // Deletion looks at the slot's number, not at its addresses.
    EXPECT_ERRNO(s.vm.set_slot(1, 0x5000, 0, s.two_host), 0);
    EXPECT_ERRNO(s.vm.set_slot(1, Slots::kOne, 0, s.memory.base), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(1, Slots::kOne, 4 * kPage, s.memory.base), 0); // again, another size
}

TEST(slot_change)
{
    Slots s;
    uint64_t one = Slots::kOne, size = Slots::kSize;
    EXPECT_ERRNO(s.vm.set_slot(1, one, size, s.memory.base), 0); // nothing changes
    EXPECT_ERRNO(s.vm.set_slot(1, one, size - kPage, s.memory.base), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(1, one, size, s.memory.base + kPage), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(1, 0x5000, 2 * size, s.memory.base), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(1, Slots::kTwo, size, s.memory.base), EEXIST); // moved onto slot 2
    EXPECT_ERRNO(s.vm.set_slot(1, one + kPage, size, s.memory.base),
                 EEXIST); // moved onto its first page
    EXPECT_ERRNO(s.vm.set_slot(1, one - kPage, size, s.memory.base), 0); // moved over itself
    EXPECT_ERRNO(s.vm.set_slot(1, 0x5000, size, s.memory.base), 0);
    EXPECT_ERRNO(s.vm.set_slot(3, one, size, s.memory.base), 0); // its old place is free
    EXPECT_ERRNO(s.vm.set_slot(1, 1ULL << 52, size, s.memory.base), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0, 0, nullptr), 0);
}

TEST(slot_readonly_is_fixed)
{
    Slots s;
    if (!s.device.extension(KVM_CAP_READONLY_MEM)) {
        EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage, s.memory.base, KVM_MEM_READONLY), EINVAL);
        return;
    }
    EXPECT_ERRNO(s.vm.set_slot(1, Slots::kOne, Slots::kSize, s.memory.base, KVM_MEM_READONLY),
                 EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage, s.memory.base, KVM_MEM_READONLY), 0);
    EXPECT_ERRNO(s.vm.set_slot(3, 0x1000, kPage, s.memory.base), EINVAL);
    EXPECT_ERRNO(s.vm.set_slot(3, 0, 0, nullptr), 0);
}

TEST(slot_many)
{
    Slots s;
    for (uint32_t i = 0; i < 64; i++)
        EXPECT_ERRNO(
            s.vm.set_slot(10 + i, 0x20000000 + i * 2 * kPage, kPage, s.memory.base + i * kPage), 0);
    for (uint32_t i = 0; i < 64; i++)
        EXPECT_ERRNO(s.vm.set_slot(200 + i, 0x20000000 + i * 2 * kPage, kPage, s.memory.base),
                     EEXIST);
    for (uint32_t i = 64; i-- > 0;)
        EXPECT_ERRNO(s.vm.set_slot(10 + i, 0, 0, nullptr), 0);
}
