// SPDX-License-Identifier: GPL-2.0-only
//
// ioctls of the device node itself.
#include <cpuid.h>

#include "ioctl_test.hpp"

using namespace kvm;

TEST(api_version)
{
    Device device;
    EXPECT_EQ(call(device, KVM_GET_API_VERSION), 12);
    EXPECT_ERRNO(call(device, KVM_GET_API_VERSION, 1UL), EINVAL);
}

TEST(mmap_size)
{
    Device device;
    EXPECT_ERRNO(call(device, KVM_GET_VCPU_MMAP_SIZE, 1UL), EINVAL);
    size_t size = device.run_size();
    EXPECT_EQ(size % kPage, 0);
    // kvm_run and the port I/O page at least; KVM has a third page, for coalesced MMIO.
    EXPECT_EQ(size, 3 * kPage);
    if (device.extension(KVM_CAP_COALESCED_MMIO))
        EXPECT_EQ(size, 3 * kPage);
}

TEST(device_unknown_ioctls)
{
    Device device;
    EXPECT_ERRNO(call(device, KVM_RUN), EINVAL);
    EXPECT_ERRNO(call(device, KVM_CREATE_VCPU), EINVAL);
    EXPECT_ERRNO(call(device, _IO(KVMIO, 0xff)), EINVAL);
    EXPECT_ERRNO(call(device, 0x5401 /* TCGETS */), EINVAL);
    // The right number with the wrong size of argument is another ioctl.
    EXPECT_ERRNO(call(device, _IOWR(KVMIO, 0x05, char[16])), EINVAL);
    kvm_enable_cap cap = {};
    cap.cap = KVM_CAP_X86_DISABLE_EXITS;
    EXPECT_ERRNO(call(device, KVM_ENABLE_CAP, &cap), EINVAL);
}

TEST(device_read_write)
{
    Device device;
    Vm vm(device);
    Vcpu vcpu(device, vm);
    char byte = 0;
    for (int fd : {device.get(), vm.get(), vcpu.get()}) {
        EXPECT_ERRNO(read(fd, &byte, 1), EINVAL);
        EXPECT_ERRNO(write(fd, &byte, 1), EINVAL);
    }
    for (int fd : {device.get(), vm.get()}) {
        void *area = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 0);
        EXPECT_ERRNO(area == MAP_FAILED ? -1 : 0, ENODEV);
    }
}

TEST(create_vm_bad_type)
{
    Device device;
    for (unsigned long type : {1UL, 2UL, 0x100UL, 1UL << 32, ~0UL})
        EXPECT_ERRNO(call(device, KVM_CREATE_VM, type), EINVAL);
    Vm vm(device);
    expect_usable(device, vm);
}

TEST(create_vm_many)
{
    Device device;
    Vm one(device), two(device), three(device);
    expect_usable(device, two);
    expect_usable(device, one);
    expect_usable(device, three);
}

TEST(check_extension_unknown)
{
    Device device;
    for (int cap : {-1, 0xffff, 0x7fffffff, 1 << 16})
        EXPECT_EQ(device.extension(cap), 0);
}

TEST(check_extension_values)
{
    Device device;
    EXPECT_EQ(device.extension(KVM_CAP_USER_MEMORY), 1);
    EXPECT_EQ(device.extension(KVM_CAP_DESTROY_MEMORY_REGION_WORKS), 1);
    EXPECT_EQ(device.extension(KVM_CAP_JOIN_MEMORY_REGIONS_WORKS), 1);
    EXPECT_EQ(device.extension(KVM_CAP_MMU_SHADOW_CACHE_CONTROL), 1);
    EXPECT_EQ(device.extension(KVM_CAP_SET_TSS_ADDR), 1);
    EXPECT_EQ(device.extension(KVM_CAP_SET_IDENTITY_MAP_ADDR), 1);
    EXPECT_EQ(device.extension(KVM_CAP_EXT_CPUID), 1);
    EXPECT_EQ(device.extension(KVM_CAP_USER_NMI), 1);
    EXPECT_EQ(device.extension(KVM_CAP_IMMEDIATE_EXIT), 1);
    EXPECT_EQ(device.extension(KVM_CAP_SYNC_MMU), 1);
    EXPECT_EQ(device.extension(KVM_CAP_CHECK_EXTENSION_VM), 1);
    EXPECT_EQ(device.extension(KVM_CAP_ENABLE_CAP_VM), 1);
    EXPECT_EQ(device.extension(KVM_CAP_INTERNAL_ERROR_DATA), 1);
    EXPECT_EQ(device.extension(KVM_CAP_NR_VCPUS), sysconf(_SC_NPROCESSORS_ONLN));
    int most = device.extension(KVM_CAP_MAX_VCPUS), ids = device.extension(KVM_CAP_MAX_VCPU_ID);
    EXPECT(most >= 8 && ids >= most);
    EXPECT(device.extension(KVM_CAP_NR_MEMSLOTS) >= 32);
    // HLT, PAUSE and C-state always; MWAIT only with an always-running APIC timer (CPUID.6:EAX[2])
    // and MWAIT.
    unsigned a = 0, b, c = 0, d;
    __get_cpuid(1, &a, &b, &c, &d);
    bool mwait = c & 8;
    __get_cpuid(6, &a, &b, &c, &d);
    int always =
        KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_CSTATE;
    int exits = device.extension(KVM_CAP_X86_DISABLE_EXITS);
    EXPECT_EQ(exits & ~KVM_X86_DISABLE_EXITS_MWAIT, always);
    if (!mwait || !(a & 4))
        EXPECT_EQ(exits & KVM_X86_DISABLE_EXITS_MWAIT, 0);
}

TEST(check_extension_of_vm)
{
    Device device;
    Vm vm(device);
    for (int cap = 0; cap < 256; cap++)
        EXPECT_EQ(vm.extension(cap), device.extension(cap));
}

TEST(supported_cpuid_sizes)
{
    Device device;
    Cpuid all;
    Cpuid::supported(device, all);
    uint32_t count = all.list->nent;
    EXPECT(count >= 4 && count < Cpuid::kRoom);

    Cpuid some;
    some.list->nent = 0;
    EXPECT_ERRNO(call(device, KVM_GET_SUPPORTED_CPUID, some.list), E2BIG);
    for (uint32_t room : {1u, count - 1}) {
        some.list->nent = room;
        EXPECT_ERRNO(call(device, KVM_GET_SUPPORTED_CPUID, some.list), E2BIG);
        EXPECT_EQ(some.list->nent, room);
    }
    some.list->nent = count;
    EXPECT_ERRNO(call(device, KVM_GET_SUPPORTED_CPUID, some.list), 0);
    EXPECT_EQ(some.list->nent, count);
    // More room than KVM ever uses is clamped, not refused.
    some.list->nent = 0xffffffff;
    EXPECT_ERRNO(call(device, KVM_GET_SUPPORTED_CPUID, some.list), 0);
    EXPECT_EQ(some.list->nent, count);
}

TEST(supported_cpuid_bad_pointers)
{
    Device device;
    EXPECT_ERRNO(call(device, KVM_GET_SUPPORTED_CPUID, kUnmapped), EFAULT);
    EXPECT_ERRNO(call(device, KVM_GET_SUPPORTED_CPUID, kKernelAddress), EFAULT);
    // The header at the very end of a page, the entries in an unmapped one.
    Memory memory(2 * kPage);
    REQUIRE_OK(munmap(memory.base + kPage, kPage));
    auto *list = reinterpret_cast<kvm_cpuid2 *>(memory.base + kPage - sizeof(kvm_cpuid2));
    list->nent = 200;
    EXPECT_ERRNO(call(device, KVM_GET_SUPPORTED_CPUID, list), EFAULT);
}

TEST(supported_cpuid_content)
{
    Device device;
    Cpuid all;
    Cpuid::supported(device, all);
    unsigned a = 0, b = 0, c = 0, d = 0;
    __cpuid(0, a, b, c, d);
    kvm_cpuid_entry2 *leaf = all.find(0);
    REQUIRE(leaf != nullptr);
    EXPECT_EQ(leaf->ebx, b);
    EXPECT_EQ(leaf->ecx, c);
    EXPECT_EQ(leaf->edx, d);
    EXPECT(leaf->eax <= a && leaf->eax >= 1);
    leaf = all.find(1);
    REQUIRE(leaf != nullptr);
    __cpuid(1, a, b, c, d);
    EXPECT_EQ(leaf->eax, a);
    // EDX: FPU, TSC, MSR, PAE, CX8, PGE, CMOV, FXSR, SSE, SSE2: what a 64-bit guest can't do
    // without.
    uint32_t needed = 1 << 0 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 13 | 1 << 15 | 1 << 24 |
                      1 << 25 | 1 << 26;
    EXPECT_EQ(leaf->edx & needed, needed);
    EXPECT_EQ(leaf->edx & ~d, 0);
    // What KVM offers in ECX without the CPU's help: x2APIC, TSC deadline, the hypervisor bit.
    uint32_t software = 1u << 21 | 1u << 24 | 1u << 31;
    EXPECT_EQ(leaf->ecx & ~c & ~software, 0);
    if (!test::options.reference()) {
        // minivmx has no nested VMX: offering it would be a lie. The TSC-deadline timer is a matter
        // of KVM_CAP_TSC_DEADLINE_TIMER; x2APIC is there whatever the CPU has.
        EXPECT_EQ(leaf->ecx & (1u << 5 | 1u << 24), 0);
        EXPECT_EQ(leaf->ecx & (1u << 21), 1u << 21);
    }
    leaf = all.find(0x80000001);
    REQUIRE(leaf != nullptr);
    __cpuid(0x80000001, a, b, c, d);
    // EDX: SYSCALL is reported by some CPUs in 64-bit mode only; LM and NX as the CPU has them.
    EXPECT_EQ(leaf->edx & (1u << 29 | 1u << 20), d & (1u << 29 | 1u << 20));
    leaf = all.find(0x80000008);
    REQUIRE(leaf != nullptr);
    __cpuid(0x80000008, a, b, c, d);
    EXPECT_EQ(leaf->eax & 0xffff, a & 0xffff);
    for (uint32_t i = 0; i < all.list->nent; i++)
        for (uint32_t pad : all.list->entries[i].padding)
            EXPECT_EQ(pad, 0);
}
