// SPDX-License-Identifier: GPL-2.0-only
//
// ioctls of a vCPU: bad pointers and values, the mmap'ed kvm_run.
#include <setjmp.h>

#include "ioctl_test.hpp"

using namespace kvm;

namespace {

struct One {
    Device device;
    Vm vm{device};
    Vcpu vcpu{device, vm};
    ~One() { expect_usable(device, vm); }
};

sigjmp_buf after_sigbus;
void on_sigbus(int)
{
    siglongjmp(after_sigbus, 1);
}

// Whether reading `address` raises SIGBUS.
bool is_bus_error(const volatile uint8_t *address)
{
    signal(SIGBUS, on_sigbus);
    if (sigsetjmp(after_sigbus, 1))
        return true;
    (void)*address;
    return false;
}

} // namespace

TEST(vcpu_unknown_ioctls)
{
    One o;
    EXPECT_ERRNO(call(o.vcpu, KVM_CREATE_VM), EINVAL);
    EXPECT_ERRNO(call(o.vcpu, KVM_CREATE_VCPU, 9UL), EINVAL);
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_API_VERSION), EINVAL);
    EXPECT_ERRNO(call(o.vcpu, KVM_CHECK_EXTENSION, 3UL), EINVAL);
    EXPECT_ERRNO(call(o.vcpu, _IO(KVMIO, 0xff)), EINVAL);
    EXPECT_ERRNO(call(o.vcpu, 0x5401 /* TCGETS */), EINVAL);
    EXPECT_ERRNO(call(o.vcpu, _IOR(KVMIO, 0x81, char[8])), EINVAL);
}

TEST(vcpu_bad_pointers)
{
    One o;
    for (unsigned long request :
         {static_cast<unsigned long>(KVM_GET_REGS), static_cast<unsigned long>(KVM_SET_REGS),
          static_cast<unsigned long>(KVM_GET_SREGS), static_cast<unsigned long>(KVM_SET_SREGS),
          static_cast<unsigned long>(KVM_SET_CPUID2), static_cast<unsigned long>(KVM_INTERRUPT),
          static_cast<unsigned long>(KVM_SET_SIGNAL_MASK)}) {
        EXPECT_ERRNO(call(o.vcpu, request, kUnmapped), EFAULT);
        EXPECT_ERRNO(call(o.vcpu, request, kKernelAddress), EFAULT);
    }
    // A structure that ends in an unmapped page.
    Memory memory(2 * kPage);
    REQUIRE_OK(munmap(memory.base + kPage, kPage));
    uint8_t *tail = memory.base + kPage - 16;
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_REGS, tail), EFAULT);
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_REGS, tail), EFAULT);
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_SREGS, tail), EFAULT);
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_SREGS, tail), EFAULT);
    // Read-only memory can't take an answer.
    REQUIRE_OK(mprotect(memory.base, kPage, PROT_READ));
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_REGS, memory.base), EFAULT);
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_SREGS, memory.base), EFAULT);
}

TEST(interrupt_range)
{
    One o;
    for (uint32_t irq : {256u, 0xffffu, 0x80000000u, 0xffffffffu}) {
        kvm_interrupt interrupt = {irq};
        EXPECT_ERRNO(call(o.vcpu, KVM_INTERRUPT, &interrupt), EINVAL);
    }
}

TEST(run_takes_no_argument)
{
    One o;
    EXPECT_ERRNO(call(o.vcpu, KVM_RUN, 1UL), EINVAL);
    EXPECT_ERRNO(call(o.vcpu, KVM_RUN, o.vcpu.run), EINVAL);
}

TEST(run_cr8_range)
{
    One o;
    o.vcpu.run->cr8 = 16;
    EXPECT_ERRNO(o.vcpu.enter(), EINVAL);
    o.vcpu.run->cr8 = ~0ULL;
    EXPECT_ERRNO(o.vcpu.enter(), EINVAL);
}

TEST(signal_mask_length)
{
    One o;
    struct {
        uint32_t len;
        uint8_t bits[16];
    } mask = {};
    for (uint32_t len : {0u, 4u, 7u, 9u, 16u, 128u, 0xffffffffu}) {
        mask.len = len;
        EXPECT_ERRNO(call(o.vcpu, KVM_SET_SIGNAL_MASK, &mask), EINVAL);
    }
    mask.len = 8;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_SIGNAL_MASK, &mask), 0);
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_SIGNAL_MASK, nullptr), 0);
    Memory memory(2 * kPage);
    REQUIRE_OK(munmap(memory.base + kPage, kPage));
    memcpy(memory.base + kPage - 4, &mask, 4); // the length is there, the bits are not
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_SIGNAL_MASK, memory.base + kPage - 4), EFAULT);
}

TEST(set_cpuid2_sizes)
{
    One o;
    Cpuid list;
    list.list->nent = Cpuid::kRoom + 1;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_CPUID2, list.list), E2BIG);
    list.list->nent = 0xffffffff;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_CPUID2, list.list), E2BIG);
    list.list->nent = 0;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_CPUID2, list.list), 0);
    list.list->nent = Cpuid::kRoom;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_CPUID2, list.list), 0);
    Memory memory(2 * kPage);
    REQUIRE_OK(munmap(memory.base + kPage, kPage));
    auto *tail = reinterpret_cast<kvm_cpuid2 *>(memory.base + kPage - sizeof(kvm_cpuid2));
    tail->nent = 1;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_CPUID2, tail), EFAULT);
}

TEST(set_cpuid2_address_width)
{
    // Linear addresses of 48 or 57 bits, or none given; nothing else.
    One o;
    Cpuid list;
    list.list->nent = 1;
    kvm_cpuid_entry2 &entry = list.list->entries[0];
    entry.function = 0x80000008;
    for (uint32_t bits : {1u, 32u, 47u, 49u, 56u, 64u, 255u}) {
        entry.eax = bits << 8 | 36;
        EXPECT_ERRNO(call(o.vcpu, KVM_SET_CPUID2, list.list), EINVAL);
    }
    for (uint32_t bits : {0u, 48u, 57u}) {
        entry.eax = bits << 8 | 36;
        EXPECT_ERRNO(call(o.vcpu, KVM_SET_CPUID2, list.list), 0);
    }
}

TEST(set_cpuid2_after_run)
{
    // Once the vCPU has run, the same list is taken and another one refused.
    Device device;
    guest::Guest g(device, guest::Mode::kReal, BLOB(hlt_forever));
    REQUIRE_OK(g.vcpu.enter());
    Cpuid list;
    Cpuid::supported(device, list);
    EXPECT_ERRNO(call(g.vcpu, KVM_SET_CPUID2, list.list), 0);
    list.find(1)->ebx ^= 0xff00;
    EXPECT_ERRNO(call(g.vcpu, KVM_SET_CPUID2, list.list), EINVAL);
    list.list->nent = 1;
    EXPECT_ERRNO(call(g.vcpu, KVM_SET_CPUID2, list.list), EINVAL);
    REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_HLT);
}

TEST(vcpu_mmap)
{
    One o;
    // As many pages as one likes can be mapped; those that do not exist raise SIGBUS.
    constexpr size_t kMany = 32;
    auto *area = static_cast<uint8_t *>(
        mmap(nullptr, kMany * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, o.vcpu.get(), 0));
    EXPECT_ERRNO(area == MAP_FAILED ? -1 : 0, 0);
    size_t pages = o.device.run_size() / kPage;
    if (area != MAP_FAILED)
        for (size_t page : {size_t{0}, pages - 1, pages, kMany - 1})
            EXPECT_EQ(is_bus_error(area + page * kPage), page >= pages);
    // The same page, seen twice.
    area[offsetof(kvm_run, request_interrupt_window)] = 1;
    EXPECT_EQ(o.vcpu.run->request_interrupt_window, 1);
    // An offset far outside; and one that is no page.
    void *far = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, o.vcpu.get(), 1L << 40);
    EXPECT_ERRNO(far == MAP_FAILED ? -1 : 0, 0);
    if (far != MAP_FAILED)
        EXPECT(is_bus_error(static_cast<uint8_t *>(far)));
    EXPECT_ERRNO(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, o.vcpu.get(), 100) == MAP_FAILED ? -1
                                                                                              : 0,
                 EINVAL);
    EXPECT_ERRNO(mmap(nullptr, 0, PROT_READ, MAP_SHARED, o.vcpu.get(), 0) == MAP_FAILED ? -1 : 0,
                 EINVAL);
}

TEST(kvm_run_starts_zeroed)
{
    One o;
    const auto *bytes = reinterpret_cast<const uint8_t *>(o.vcpu.run);
    for (size_t i = 0; i < o.vcpu.run_size; i++)
        if (bytes[i]) {
            test::fail(__FILE__, __LINE__, "byte %zu of kvm_run is 0x%x", i, bytes[i]);
            return;
        }
}
