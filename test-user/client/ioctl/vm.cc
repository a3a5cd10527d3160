// SPDX-License-Identifier: GPL-2.0-only
//
// ioctls of a VM, but for its memory.
#include <sys/resource.h>

#include "ioctl_test.hpp"

using namespace kvm;

TEST(vm_unknown_ioctls)
{
    Device device;
    Vm vm(device);
    EXPECT_ERRNO(call(vm, KVM_RUN), ENOTTY);
    EXPECT_ERRNO(call(vm, KVM_CREATE_VM), ENOTTY);
    EXPECT_ERRNO(call(vm, KVM_GET_API_VERSION), ENOTTY);
    EXPECT_ERRNO(call(vm, KVM_GET_VCPU_MMAP_SIZE), ENOTTY);
    EXPECT_ERRNO(call(vm, _IO(KVMIO, 0xff)), ENOTTY);
    EXPECT_ERRNO(call(vm, 0x5401 /* TCGETS */), ENOTTY);
    EXPECT_ERRNO(call(vm, _IOW(KVMIO, 0x46, char[24])), ENOTTY);
    expect_usable(device, vm);
}

TEST(set_tss_addr)
{
    Device device;
    Vm vm(device);
    // Three pages must fit below 4 GiB.
    EXPECT_ERRNO(call(vm, KVM_SET_TSS_ADDR, 0xffffd001UL), EINVAL);
    EXPECT_ERRNO(call(vm, KVM_SET_TSS_ADDR, 0x100000000UL), EINVAL);
    EXPECT_ERRNO(call(vm, KVM_SET_TSS_ADDR, ~0UL), EINVAL);
    EXPECT_ERRNO(call(vm, KVM_SET_TSS_ADDR, 0xffffd000UL), 0);
    expect_usable(device, vm);
}

TEST(nr_mmu_pages)
{
    // How many shadow tables a VM may have: a fiftieth of its memory, or what is asked for, but
    // never fewer than 64.
    Device device;
    Vm vm(device);
    EXPECT_EQ(call(vm, KVM_GET_NR_MMU_PAGES), 0);
    kvm::Memory memory(16 << 20);
    REQUIRE_OK(vm.set_slot(0, 0, 1 << 20, memory.base));
    EXPECT_EQ(call(vm, KVM_GET_NR_MMU_PAGES), 64);
    REQUIRE_OK(vm.set_slot(1, 1 << 20, 15 << 20, memory.base + (1 << 20)));
    EXPECT_EQ(call(vm, KVM_GET_NR_MMU_PAGES), (16 << 8) / 50);
    // Moved, or logged, it is as large as before.
    REQUIRE_OK(vm.set_slot(1, 2 << 20, 15 << 20, memory.base + (1 << 20)));
    REQUIRE_OK(vm.set_slot(1, 2 << 20, 15 << 20, memory.base + (1 << 20), KVM_MEM_LOG_DIRTY_PAGES));
    EXPECT_EQ(call(vm, KVM_GET_NR_MMU_PAGES), (16 << 8) / 50);
    REQUIRE_OK(vm.set_slot(1, 2 << 20, 0, nullptr));
    EXPECT_EQ(call(vm, KVM_GET_NR_MMU_PAGES), 64);

    EXPECT_ERRNO(call(vm, KVM_SET_NR_MMU_PAGES, 0UL), EINVAL);
    EXPECT_ERRNO(call(vm, KVM_SET_NR_MMU_PAGES, 63UL), EINVAL);
    EXPECT_ERRNO(call(vm, KVM_SET_NR_MMU_PAGES, 64UL), 0);
    EXPECT_ERRNO(call(vm, KVM_SET_NR_MMU_PAGES, 1000UL), 0);
    EXPECT_EQ(call(vm, KVM_GET_NR_MMU_PAGES), 1000);
    // From then on memory doesn't change it.
    REQUIRE_OK(vm.set_slot(1, 1 << 20, 15 << 20, memory.base + (1 << 20)));
    EXPECT_EQ(call(vm, KVM_GET_NR_MMU_PAGES), 1000);
    REQUIRE_OK(vm.set_slot(0, 0, 0, nullptr));
    REQUIRE_OK(vm.set_slot(1, 1 << 20, 0, nullptr));
    expect_usable(device, vm);
}

TEST(set_identity_map_addr)
{
    Device device;
    Vm vm(device);
    uint64_t address = 0xfffbc000;
    EXPECT_ERRNO(call(vm, KVM_SET_IDENTITY_MAP_ADDR, kUnmapped), EFAULT);
    EXPECT_ERRNO(call(vm, KVM_SET_IDENTITY_MAP_ADDR, &address), 0);
    address = 0;
    EXPECT_ERRNO(call(vm, KVM_SET_IDENTITY_MAP_ADDR, &address), 0);
    Vcpu vcpu(device, vm);
    // Too late, and that is found before the pointer is looked at.
    EXPECT_ERRNO(call(vm, KVM_SET_IDENTITY_MAP_ADDR, &address), EINVAL);
    EXPECT_ERRNO(call(vm, KVM_SET_IDENTITY_MAP_ADDR, kUnmapped), EINVAL);
    expect_usable(device, vm);
}

TEST(enable_cap)
{
    Device device;
    Vm vm(device);
    EXPECT_ERRNO(call(vm, KVM_ENABLE_CAP, kUnmapped), EFAULT);
    EXPECT_ERRNO(vm.enable_cap(0xffff, 0), EINVAL);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_USER_MEMORY, 0), EINVAL);
    for (uint64_t bits : {0x10ULL, 0x1fULL, 1ULL << 32, ~0ULL})
        EXPECT_ERRNO(vm.enable_cap(KVM_CAP_X86_DISABLE_EXITS, bits), EINVAL);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_X86_DISABLE_EXITS, 2, 1), EINVAL);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_X86_DISABLE_EXITS, 0), 0);
    for (uint64_t bit : {1, 2, 4, 8})
        EXPECT_ERRNO(vm.enable_cap(KVM_CAP_X86_DISABLE_EXITS, bit), 0);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_X86_DISABLE_EXITS, 0xf), 0);
}

TEST(disable_exits_after_vcpu)
{
    // 6.1 does not mind; the vCPU that exists keeps its controls.
    Device device;
    Vm vm(device);
    Vcpu vcpu(device, vm);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_PAUSE), 0);
    expect_usable(device, vm);
}

TEST(create_vcpu_ids)
{
    Device device;
    Vm vm(device);
    unsigned long ids = static_cast<unsigned long>(device.extension(KVM_CAP_MAX_VCPU_ID));
    EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, ids), EINVAL);
    EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, 0xffffffffUL), EINVAL);
    EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, ~0UL), EINVAL);
    Vcpu last(device, vm, ids - 1), zero(device, vm, 0), three(device, vm, 3);
    for (unsigned long id : {0UL, 3UL, ids - 1})
        EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, id), EEXIST);
    // An id is 32 bits wide: KVM drops what is above.
    EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, 1UL << 32), EEXIST);
    expect_usable(device, vm);
}

TEST(max_vcpu_id)
{
    Device device;
    Vm vm(device);
    const auto most = static_cast<uint64_t>(device.extension(KVM_CAP_MAX_VCPU_ID));
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_MAX_VCPU_ID, 8, 1), EINVAL);
    for (uint64_t count : {most + 1, uint64_t{1} << 32, ~uint64_t{0}})
        EXPECT_ERRNO(vm.enable_cap(KVM_CAP_MAX_VCPU_ID, count), EINVAL);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_MAX_VCPU_ID, 0), 0); // says nothing
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_MAX_VCPU_ID, 8), 0);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_MAX_VCPU_ID, 8), 0);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_MAX_VCPU_ID, 9), EINVAL); // once
    EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, 8UL), EINVAL);
    Vcpu last(device, vm, 7);
    EXPECT_ERRNO(vm.enable_cap(KVM_CAP_MAX_VCPU_ID, 8), 0);

    // The first vCPU decides it, even one that can't be had.
    Vm other(device);
    Vcpu vcpu(device, other, 0);
    EXPECT_ERRNO(other.enable_cap(KVM_CAP_MAX_VCPU_ID, 8), EINVAL);
    EXPECT_ERRNO(other.enable_cap(KVM_CAP_MAX_VCPU_ID, most), 0);
    expect_usable(device, other);
}

TEST(vcpu_id_stays_taken)
{
    // A closed vCPU lives on until its VM dies.
    Device device;
    Vm vm(device);
    {
        Vcpu vcpu(device, vm, 5);
    }
    EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, 5UL), EEXIST);
    expect_usable(device, vm);
}

TEST(create_vcpu_without_a_descriptor)
{
    // A vCPU that user space can't be given was never there.
    Device device;
    Vm vm(device);
    rlimit before;
    REQUIRE_OK(getrlimit(RLIMIT_NOFILE, &before));
    const rlimit none = {0, before.rlim_max};
    REQUIRE_OK(setrlimit(RLIMIT_NOFILE, &none));
    for (int i = 0; i < 10; i++)
        EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, 7UL), EMFILE);
    REQUIRE_OK(setrlimit(RLIMIT_NOFILE, &before));
    REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP)); // only before the first vCPU
    REQUIRE_OK(call(vm, KVM_SET_BOOT_CPU_ID, 7UL));
    Vcpu vcpu(device, vm, 7);
    EXPECT_EQ(vcpu.sregs().cs.base, 0xffff0000);
}

TEST_LIMIT(create_vcpu_too_many, 240)
{
    Device device;
    int most = device.extension(KVM_CAP_MAX_VCPUS);
    rlimit files = {static_cast<rlim_t>(most) + 64, static_cast<rlim_t>(most) + 64};
    REQUIRE_OK(setrlimit(RLIMIT_NOFILE, &files));
    if (most > 64 && test::options.reference())
        test::skip("%d vCPUs are too many for an emulated machine", most);
    Vm vm(device);
    for (int id = 0; id < most; id++)
        if (call(vm, KVM_CREATE_VCPU, long{id}) < 0) {
            test::fail(__FILE__, __LINE__, "vCPU %d of %d: %s", id, most, test::errno_name(errno));
            return;
        }
    EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, long{most}), EINVAL);
    // Even an id that exists: the count is looked at first.
    EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, 0UL), EINVAL);
}

TEST(close_in_any_order)
{
    for (int order = 0; order < 6; order++) {
        auto device = new Device;
        auto vm = new Vm(*device);
        auto memory = new Memory(kPage);
        REQUIRE_OK(vm->set_slot(0, 0, kPage, memory->base));
        auto vcpu = new Vcpu(*device, *vm);
        // The three in all six orders.
        int first = order / 2, second = (first + 1 + order % 2) % 3, third = 3 - first - second;
        for (int which : {first, second, third}) {
            if (which == 0)
                delete device;
            else if (which == 1)
                delete vm;
            else
                delete vcpu;
        }
        delete memory;
    }
    Device device;
    Vm vm(device);
    expect_usable(device, vm);
}

TEST(vcpu_outlives_vm_and_device_files)
{
    Memory memory(0x20000);
    memcpy(memory.base + G_CODE, guest_out_then_hlt, guest_out_then_hlt_end - guest_out_then_hlt);
    Vcpu vcpu;
    {
        Device device;
        Vm vm(device);
        REQUIRE_OK(vm.set_slot(0, 0, 0x20000, memory.base));
        vcpu = Vcpu(device, vm);
    }
    kvm_sregs s = vcpu.sregs();
    s.cs.base = s.cs.selector = 0;
    vcpu.set(s);
    kvm_regs r = {};
    r.rip = G_CODE;
    r.rflags = 2;
    vcpu.set(r);
    REQUIRE_OK(vcpu.enter());
    EXPECT_EQ(vcpu.run->exit_reason, KVM_EXIT_IO);
    REQUIRE_OK(vcpu.enter());
    EXPECT_EQ(vcpu.run->exit_reason, KVM_EXIT_HLT);
}

TEST(kvm_run_outlives_vcpu_file)
{
    Device device;
    Vm vm(device);
    Vcpu vcpu(device, vm);
    vcpu.run->request_interrupt_window = 1;
    vcpu.reset();
    vm.reset();
    EXPECT_EQ(vcpu.run->request_interrupt_window, 1);
    vcpu.run->request_interrupt_window = 0;
    EXPECT_EQ(vcpu.run->request_interrupt_window, 0);
}
