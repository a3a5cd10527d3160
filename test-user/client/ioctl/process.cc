// SPDX-License-Identifier: GPL-2.0-only
//
// Other processes, and 32-bit system calls.
#include <sched.h>

#include "ioctl_test.hpp"

using namespace kvm;

namespace {

// ioctl through the 32-bit entry of the kernel; pointers must be below 4 GiB. Returns 0 or more, or
// -errno.
int compat_ioctl(int fd, unsigned long request, uint64_t arg)
{
    int result;
    asm volatile("int $0x80"
                 : "=a"(result)
                 : "a"(54), "b"(fd), "c"(static_cast<uint32_t>(request)),
                   "d"(static_cast<uint32_t>(arg))
                 : "memory", "r8", "r9", "r10", "r11");
    return result;
}

uint8_t *low_memory(size_t size)
{
    void *area =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    REQUIRE(area != MAP_FAILED);
    return static_cast<uint8_t *>(area);
}

template <class T>
T &low()
{
    return *reinterpret_cast<T *>(low_memory(sizeof(T)));
}

template <class T>
uint64_t at(T &object)
{
    return reinterpret_cast<uint64_t>(&object);
}

// In a forked child; the child's failures are seen by the parent through the shared verdict.
template <class F>
void in_child(F body)
{
    pid_t child = fork();
    if (child == 0) {
        body();
        test::leave();
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

} // namespace

TEST(other_process)
{
    // A VM belongs to the address space that created it: every ioctl from another answers -EIO,
    // before anything else is looked at. The device itself may be used by anyone.
    Device device;
    Vm vm(device);
    Memory memory(kPage);
    REQUIRE_OK(vm.set_slot(0, 0, kPage, memory.base));
    Vcpu vcpu(device, vm);
    in_child([&] {
        kvm_regs r = {};
        EXPECT_ERRNO(vm.set_slot(1, 0x1000, kPage, memory.base), EIO);
        EXPECT_ERRNO(call(vm, KVM_CREATE_VCPU, 1UL), EIO);
        EXPECT_ERRNO(call(vm, KVM_CHECK_EXTENSION, 0UL), EIO);
        EXPECT_ERRNO(call(vm, _IO(KVMIO, 0xff)), EIO);
        EXPECT_ERRNO(call(vcpu, KVM_GET_REGS, &r), EIO);
        EXPECT_ERRNO(vcpu.enter(), EIO);
        EXPECT_ERRNO(call(vcpu, 0x5401), EIO);
        EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_RUN, 0), -EIO);
        EXPECT_EQ(compat_ioctl(vm.get(), KVM_CREATE_VCPU, 1), -EIO);
        EXPECT_EQ(call(device, KVM_GET_API_VERSION), 12);
        Vm own(device);
        expect_usable(device, own);
    });
    REQUIRE_OK(vm.set_slot(0, 0, 0, nullptr));
    expect_usable(device, vm);
}

TEST(clone_with_same_memory)
{
    // Sharing the address space is enough, whatever the process.
    Device device;
    guest::Guest g(device, guest::Mode::kLong, BLOB(hlt_forever));
    Memory stack(16 * kPage);
    auto run = [](void *arg) {
        auto *guest = static_cast<guest::Guest *>(arg);
        return ioctl(guest->vcpu.get(), KVM_RUN, 0) == 0 &&
                       guest->vcpu.run->exit_reason == KVM_EXIT_HLT
                   ? 0
                   : 1;
    };
    pid_t child = clone(run, stack.base + stack.size, CLONE_VM | CLONE_FILES | SIGCHLD, &g);
    REQUIRE_OK(child);
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_HLT);
}

TEST(killed_in_run_and_reused)
{
    Device device;
    for (int i = 0; i < 3; i++) {
        int ready[2];
        REQUIRE_OK(pipe(ready));
        pid_t child = fork();
        if (child == 0) {
            Vm vm(device);
            Vcpu vcpu(device, vm);
            // Interrupts on: see the note on the emulator in guest_test's loops.
            guest::Guest g(device, guest::Mode::kLong, BLOB(hlt_forever));
            (void)!write(ready[1], "x", 1);
            for (;;)
                g.vcpu.enter();
        }
        char byte;
        REQUIRE_OK(read(ready[0], &byte, 1));
        usleep(1000 * static_cast<useconds_t>(i));
        kill(child, SIGKILL);
        int status = 0;
        waitpid(child, &status, 0);
        EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    Vm vm(device);
    expect_usable(device, vm);
}

TEST(compat_whole_life)
{
    // A VM from creation to a port write, all through 32-bit system calls. The structures of these
    // ioctls have one layout for both.
    Device device;
    EXPECT_EQ(compat_ioctl(device.get(), KVM_GET_API_VERSION, 0), 12);
    EXPECT_EQ(compat_ioctl(device.get(), KVM_GET_API_VERSION, 1), -EINVAL);
    EXPECT_EQ(compat_ioctl(device.get(), KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
    int size = compat_ioctl(device.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
    EXPECT_EQ(size, device.run_size());
    Fd vm(compat_ioctl(device.get(), KVM_CREATE_VM, 0));
    REQUIRE(vm.get() >= 0);
    uint8_t *memory = low_memory(0x20000);
    memcpy(memory + G_CODE, guest_out_then_hlt, guest_out_then_hlt_end - guest_out_then_hlt);
    auto &region = low<kvm_userspace_memory_region>();
    region = {0, 0, 0, 0x20000, reinterpret_cast<uint64_t>(memory)};
    EXPECT_EQ(compat_ioctl(vm.get(), KVM_SET_USER_MEMORY_REGION, at(region)), 0);
    EXPECT_EQ(compat_ioctl(vm.get(), KVM_SET_USER_MEMORY_REGION, 0x10000), -EFAULT);
    EXPECT_EQ(compat_ioctl(vm.get(), _IO(KVMIO, 0xff), 0), -ENOTTY);
    Fd vcpu(compat_ioctl(vm.get(), KVM_CREATE_VCPU, 0));
    REQUIRE(vcpu.get() >= 0);
    EXPECT_EQ(compat_ioctl(vm.get(), KVM_CREATE_VCPU, 0), -EEXIST);
    auto &sregs = low<kvm_sregs>();
    EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_GET_SREGS, at(sregs)), 0);
    EXPECT_EQ(sregs.cs.base, 0xffff0000);
    sregs.cs.base = sregs.cs.selector = 0;
    EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_SET_SREGS, at(sregs)), 0);
    auto &regs = low<kvm_regs>();
    regs.rip = G_CODE;
    regs.rflags = 2;
    EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_SET_REGS, at(regs)), 0);
    auto *run = static_cast<kvm_run *>(mmap(nullptr, static_cast<size_t>(size),
                                            PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.get(), 0));
    REQUIRE(run != MAP_FAILED);
    EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_RUN, 0), 0);
    EXPECT_EQ(run->exit_reason, KVM_EXIT_IO);
    EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_RUN, 0), 0);
    EXPECT_EQ(run->exit_reason, KVM_EXIT_HLT);
}

TEST(compat_signal_mask)
{
    Device device;
    Vm vm(device);
    Vcpu vcpu(device, vm);
    struct Mask {
        uint32_t len;
        uint32_t bits[2];
    };
    auto &mask = low<Mask>();
    for (uint32_t len : {0u, 4u, 16u}) {
        mask.len = len;
        EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_SET_SIGNAL_MASK, at(mask)), -EINVAL);
    }
    mask.len = 8;
    EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_SET_SIGNAL_MASK, at(mask)), 0);
    EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_SET_SIGNAL_MASK, 0x10000), -EFAULT);
    EXPECT_EQ(compat_ioctl(vcpu.get(), KVM_SET_SIGNAL_MASK, 0), 0);
    expect_usable(device, vm);
}

TEST(compat_msr_filter)
{
    // The one ioctl of a VM whose number differs, since its pointers are shorter.
    Device device;
    Vm vm(device);
    struct Range {
        uint32_t flags, nmsrs, base, bitmap;
    };
    struct Filter {
        uint32_t flags;
        Range ranges[KVM_MSR_FILTER_MAX_RANGES];
    };
    constexpr unsigned long kSet = _IOW(KVMIO, 0xc6, Filter);
    auto &filter = low<Filter>();
    EXPECT_EQ(compat_ioctl(vm.get(), kSet, at(filter)), 0);
    filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
    EXPECT_EQ(compat_ioctl(vm.get(), kSet, at(filter)), -EINVAL); // without a range
    filter.ranges[15] = {KVM_MSR_FILTER_READ, 64, 0xc0000080,
                         static_cast<uint32_t>(at(low<uint64_t>()))};
    EXPECT_EQ(compat_ioctl(vm.get(), kSet, at(filter)), 0);
    filter.ranges[15].bitmap = 0x10000;
    EXPECT_EQ(compat_ioctl(vm.get(), kSet, at(filter)), -EFAULT);
    filter.ranges[15].nmsrs = 0xffffffff;
    EXPECT_EQ(compat_ioctl(vm.get(), kSet, at(filter)), -EINVAL);
    EXPECT_EQ(compat_ioctl(vm.get(), kSet, 0x10000), -EFAULT);
    EXPECT_ERRNO(call(vm, kSet, &filter), ENOTTY); // not a 64-bit client's
}
