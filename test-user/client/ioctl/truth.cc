// SPDX-License-Identifier: GPL-2.0-only
//
// CHECK_EXTENSION tells the truth: where a capability is offered, its ioctl works; where it is not,
// the ioctl is unknown, with the errno that KVM gives for an unknown ioctl of that file.
#include <sys/eventfd.h>

#include "ioctl_test.hpp"

using namespace kvm;

namespace {

struct World {
    Device device;
    Vm vm{device};
    Memory memory{16 * kPage};
};

struct Probe {
    int cap;
    const char *name;
    enum File { kDevice, kVm, kVcpu } file;
    long (*use)(World &,
                const Fd &fd); // the result of an ioctl that is good if the capability is there
    bool before_vcpu;          // must be used before the VM has a vCPU
};

template <class T>
T &scratch()
{
    static T *memory = static_cast<T *>(calloc(1, 1 << 16));
    memset(static_cast<void *>(memory), 0, sizeof(T));
    return *memory;
}

long set_readonly_slot(World &w, const Fd &)
{
    return w.vm.set_slot(3, 0x100000, kPage, w.memory.base, KVM_MEM_READONLY);
}

long add_ioeventfd(World &, const Fd &fd)
{
    kvm_ioeventfd &e = scratch<kvm_ioeventfd>();
    e.addr = 0x500;
    e.len = 1;
    e.fd = eventfd(0, 0);
    e.flags = KVM_IOEVENTFD_FLAG_PIO;
    return call(fd, KVM_IOEVENTFD, &e);
}

long add_coalesced_zone(World &, const Fd &fd)
{
    kvm_coalesced_mmio_zone &z = scratch<kvm_coalesced_mmio_zone>();
    z.addr = 0xd0000000;
    z.size = 0x1000;
    return call(fd, KVM_REGISTER_COALESCED_MMIO, &z);
}

long list_msrs(World &, const Fd &fd, unsigned long request)
{
    kvm_msr_list &list = scratch<kvm_msr_list>();
    list.nmsrs = 2000;
    return call(fd, request, &list);
}

#define READS(cap, file, request, type)                                                            \
    {                                                                                              \
        cap, #cap, Probe::file,                                                                    \
            [](World &, const Fd &fd) -> long { return call(fd, request, &scratch<type>()); },     \
            false                                                                                  \
    }

constexpr Probe kProbes[] = {
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", Probe::kVm,
     [](World &, const Fd &fd) -> long { return call(fd, KVM_CREATE_IRQCHIP); }, true},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", Probe::kVm,
     [](World &, const Fd &fd) -> long { return call(fd, KVM_SET_TSS_ADDR, 0xfffbd000UL); }, true},
    READS(KVM_CAP_MP_STATE, kVcpu, KVM_GET_MP_STATE, kvm_mp_state),
    READS(KVM_CAP_SET_GUEST_DEBUG, kVcpu, KVM_SET_GUEST_DEBUG, kvm_guest_debug),
    READS(KVM_CAP_VCPU_EVENTS, kVcpu, KVM_GET_VCPU_EVENTS, kvm_vcpu_events),
    READS(KVM_CAP_DEBUGREGS, kVcpu, KVM_GET_DEBUGREGS, kvm_debugregs),
    READS(KVM_CAP_XSAVE, kVcpu, KVM_GET_XSAVE, kvm_xsave),
    {KVM_CAP_XCRS, "KVM_CAP_XCRS", Probe::kVcpu,
     [](World &, const Fd &fd) -> long {
         // Without XSAVE it answers, too: that there is no such register.
         auto &xcrs = scratch<kvm_xcrs>();
         const int result = call(fd, KVM_GET_XCRS, &xcrs);
         if (result == 0 && xcrs.nr_xcrs == 0) {
             errno = EINVAL;
             return -1;
         }
         return result;
     },
     false},
    READS(KVM_CAP_SREGS2, kVcpu, KVM_GET_SREGS2, kvm_sregs2),
    READS(KVM_CAP_ADJUST_CLOCK, kVm, KVM_GET_CLOCK, kvm_clock_data),
    {KVM_CAP_USER_NMI, "KVM_CAP_USER_NMI", Probe::kVcpu,
     [](World &, const Fd &fd) -> long { return call(fd, KVM_NMI); }, false},
    {KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ", Probe::kVcpu,
     [](World &, const Fd &fd) -> long { return call(fd, KVM_GET_TSC_KHZ); }, false},
    {KVM_CAP_X86_SMM, "KVM_CAP_X86_SMM", Probe::kVcpu,
     [](World &, const Fd &fd) -> long { return call(fd, KVM_SMI); }, false},
    {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM", Probe::kVm, set_readonly_slot, false},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", Probe::kVm, add_ioeventfd, false},
    {KVM_CAP_COALESCED_MMIO, "KVM_CAP_COALESCED_MMIO", Probe::kVm, add_coalesced_zone, false},
    {KVM_CAP_BINARY_STATS_FD, "KVM_CAP_BINARY_STATS_FD", Probe::kVm,
     [](World &, const Fd &fd) -> long { return call(fd, KVM_GET_STATS_FD); }, false},
    {KVM_CAP_GET_MSR_FEATURES, "KVM_CAP_GET_MSR_FEATURES", Probe::kDevice,
     [](World &w, const Fd &fd) { return list_msrs(w, fd, KVM_GET_MSR_FEATURE_INDEX_LIST); },
     false},
    {KVM_CAP_MCE, "KVM_CAP_MCE", Probe::kDevice,
     [](World &, const Fd &fd) -> long {
         return call(fd, KVM_X86_GET_MCE_CAP_SUPPORTED, &scratch<uint64_t>());
     },
     false},
    {KVM_CAP_EXT_EMUL_CPUID, "KVM_CAP_EXT_EMUL_CPUID", Probe::kDevice,
     [](World &, const Fd &fd) -> long {
         auto &list = scratch<kvm_cpuid2>();
         list.nent = 100;
         return call(fd, KVM_GET_EMULATED_CPUID, &list);
     },
     false},
};

} // namespace

TEST(truth_of_capabilities)
{
    for (const Probe &probe : kProbes) {
        World world;
        Vcpu vcpu;
        if (!probe.before_vcpu)
            vcpu = Vcpu(world.device, world.vm);
        const Fd &fd = probe.file == Probe::kDevice ? static_cast<Fd &>(world.device)
                       : probe.file == Probe::kVm   ? static_cast<Fd &>(world.vm)
                                                    : static_cast<Fd &>(vcpu);
        int offered = world.device.extension(probe.cap);
        long result = probe.use(world, fd);
        int error = result == -1 ? errno : 0;
        // A slot flag is an argument of a known ioctl; the rest are ioctls of their own.
        int unknown = probe.cap == KVM_CAP_READONLY_MEM ? EINVAL
                      : probe.file == Probe::kVm        ? ENOTTY
                                                        : EINVAL;
        int expected = offered ? 0 : unknown;
        if (error != expected)
            test::fail(__FILE__, __LINE__, "%s is %d but its ioctl answers %s (expected %s)",
                       probe.name, offered, test::errno_name(error), test::errno_name(expected));
    }
}

// ioctls without a capability of their own: all or nothing.
TEST(truth_of_dirty_log)
{
    World w;
    int logged = w.vm.set_slot(1, 0, kPage, w.memory.base, KVM_MEM_LOG_DIRTY_PAGES);
    int refused = errno;
    uint64_t bitmap[8] = {};
    kvm_dirty_log log = {};
    log.slot = 1;
    log.dirty_bitmap = bitmap;
    int got = call(w.vm, KVM_GET_DIRTY_LOG, &log);
    if (logged == 0)
        EXPECT_ERRNO(got, 0);
    else {
        EXPECT_EQ(refused, EINVAL);
        EXPECT_ERRNO(got, ENOTTY);
    }
    EXPECT(logged == 0 || !test::options.reference());
}

TEST(truth_of_msr_ioctls)
{
    World w;
    Vcpu vcpu(w.device, w.vm);
    auto &msrs = scratch<kvm_msrs>();
    msrs.nmsrs = 1;
    msrs.entries[0].index = 0x174;
    long read = call(vcpu, KVM_GET_MSRS, &msrs);
    int read_error = errno;
    long listed = list_msrs(w, w.device, KVM_GET_MSR_INDEX_LIST);
    int list_error = errno;
    if (listed == 0)
        EXPECT_EQ(read, 1);
    else {
        EXPECT_EQ(list_error, EINVAL);
        EXPECT_EQ(read, -1);
        EXPECT_EQ(read_error, EINVAL);
    }
    EXPECT(listed == 0 || !test::options.reference());
}

TEST(truth_of_sync_regs)
{
    World w;
    Vcpu vcpu(w.device, w.vm);
    uint64_t offered = static_cast<uint64_t>(w.device.extension(KVM_CAP_SYNC_REGS));
    vcpu.run->kvm_valid_regs = 1 << 10;
    EXPECT_ERRNO(vcpu.enter(), EINVAL);
    vcpu.run->kvm_valid_regs = 0;
    vcpu.run->kvm_dirty_regs = 1 << 10;
    EXPECT_ERRNO(vcpu.enter(), EINVAL);
    vcpu.run->kvm_dirty_regs = 0;
    if (!(offered & KVM_SYNC_X86_REGS)) {
        vcpu.run->kvm_valid_regs = KVM_SYNC_X86_REGS;
        EXPECT_ERRNO(vcpu.enter(), EINVAL);
        vcpu.run->kvm_valid_regs = 0;
    }
    expect_usable(w.device, w.vm);
}
