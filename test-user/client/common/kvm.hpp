// SPDX-License-Identifier: GPL-2.0-only
//
// The KVM API as three small owners of file descriptors: Device, Vm, Vcpu. Calls that a test
// expects to succeed end the test when they do not; everything else is a plain ioctl with errno.
#pragma once

#include <fcntl.h>
#include <minivmx.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "harness.hpp"

namespace kvm {

constexpr uint64_t kPage = 4096;

class Fd {
  public:
    explicit Fd(int fd = -1) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(other.release()) {}
    Fd &operator=(Fd &&other) noexcept
    {
        reset(other.release());
        return *this;
    }
    ~Fd() { reset(); }
    int get() const { return fd_; }
    int release()
    {
        int fd = fd_;
        fd_ = -1;
        return fd;
    }
    void reset(int fd = -1)
    {
        if (fd_ >= 0)
            close(fd_);
        fd_ = fd;
    }

  private:
    int fd_;
};

// An ioctl with any argument: a number, a pointer, or none.
template <class T>
int call(const Fd &fd, unsigned long request, T arg)
{
    return ioctl(fd.get(), request, arg);
}
inline int call(const Fd &fd, unsigned long request)
{
    return ioctl(fd.get(), request, 0UL);
}

// A boolean parameter of the module behind the device, as it reads back.
inline bool module_parameter(const char *name)
{
    const char *module = test::options.reference() ? "kvm_intel" : "minivmx";
    const std::string path = std::string("/sys/module/") + module + "/parameters/" + name;
    FILE *file = fopen(path.c_str(), "re");
    const int value = file ? fgetc(file) : EOF;
    if (file)
        fclose(file);
    if (value == EOF)
        test::fail(__FILE__, __LINE__, "cannot read %s", path.c_str());
    return value == 'Y';
}

struct Device : Fd {
    Device() : Fd(open(test::options.device.c_str(), O_RDWR | O_CLOEXEC))
    {
        if (get() < 0) {
            test::fail(__FILE__, __LINE__, "open %s: %s", test::options.device.c_str(),
                       test::errno_name(errno));
            test::leave();
        }
    }
    int extension(int cap) const { return call(*this, KVM_CHECK_EXTENSION, long{cap}); }
    size_t run_size() const { return static_cast<size_t>(call(*this, KVM_GET_VCPU_MMAP_SIZE)); }
};

struct Vm : Fd {
    explicit Vm(const Device &device) : Fd(call(device, KVM_CREATE_VM, 0UL))
    {
        if (get() < 0) {
            test::fail(__FILE__, __LINE__, "KVM_CREATE_VM: %s", test::errno_name(errno));
            test::leave();
        }
    }
    int extension(int cap) const { return call(*this, KVM_CHECK_EXTENSION, long{cap}); }
    int set_slot(uint32_t slot, uint64_t gpa, uint64_t size, const void *host,
                 uint32_t flags = 0) const
    {
        kvm_userspace_memory_region region = {slot, flags, gpa, size,
                                              reinterpret_cast<uint64_t>(host)};
        return call(*this, KVM_SET_USER_MEMORY_REGION, &region);
    }
    int enable_cap(uint32_t cap, uint64_t arg, uint32_t flags = 0) const
    {
        kvm_enable_cap enable = {};
        enable.cap = cap;
        enable.flags = flags;
        enable.args[0] = arg;
        return call(*this, KVM_ENABLE_CAP, &enable);
    }
};

struct Vcpu : Fd {
    kvm_run *run = nullptr;
    size_t run_size = 0;

    Vcpu() = default;
    Vcpu(const Device &device, const Vm &vm, unsigned long id = 0)
        : Fd(call(vm, KVM_CREATE_VCPU, id))
    {
        if (get() < 0) {
            test::fail(__FILE__, __LINE__, "KVM_CREATE_VCPU %lu: %s", id, test::errno_name(errno));
            test::leave();
        }
        run_size = device.run_size();
        void *area = mmap(nullptr, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, get(), 0);
        if (area == MAP_FAILED) {
            test::fail(__FILE__, __LINE__, "mmap of the vCPU: %s", test::errno_name(errno));
            test::leave();
        }
        run = static_cast<kvm_run *>(area);
    }
    Vcpu(Vcpu &&other) noexcept
        : Fd(static_cast<Fd &&>(other)), run(other.run), run_size(other.run_size)
    {
        other.run = nullptr;
    }
    Vcpu &operator=(Vcpu &&other) noexcept
    {
        Fd::operator=(static_cast<Fd &&>(other));
        std::swap(run, other.run);
        std::swap(run_size, other.run_size);
        return *this;
    }
    ~Vcpu()
    {
        if (run)
            munmap(run, run_size);
    }
    int enter() const { return call(*this, KVM_RUN); }
    kvm_regs regs() const
    {
        kvm_regs r = {};
        REQUIRE_OK(call(*this, KVM_GET_REGS, &r));
        return r;
    }
    void set(const kvm_regs &r) const { REQUIRE_OK(call(*this, KVM_SET_REGS, &r)); }
    kvm_sregs sregs() const
    {
        kvm_sregs s = {};
        REQUIRE_OK(call(*this, KVM_GET_SREGS, &s));
        return s;
    }
    void set(const kvm_sregs &s) const { REQUIRE_OK(call(*this, KVM_SET_SREGS, &s)); }
    const uint8_t *io_data() const
    {
        return reinterpret_cast<const uint8_t *>(run) + run->io.data_offset;
    }
    uint8_t *io_data() { return reinterpret_cast<uint8_t *>(run) + run->io.data_offset; }
};

// Page-aligned, zeroed, private memory of this process.
struct Memory {
    uint8_t *base;
    size_t size;
    explicit Memory(size_t bytes)
        : base(static_cast<uint8_t *>(
              mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))),
          size(bytes)
    {
        REQUIRE(base != MAP_FAILED);
    }
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    ~Memory() { munmap(base, size); }
    template <class T>
    T &at(uint64_t offset)
    {
        return *reinterpret_cast<T *>(base + offset);
    }
};

// A kvm_cpuid2 with room for as many entries as KVM ever takes.
struct Cpuid {
    static constexpr uint32_t kRoom = 256;
    kvm_cpuid2 *list;
    Cpuid()
        : list(static_cast<kvm_cpuid2 *>(
              calloc(1, sizeof(kvm_cpuid2) + kRoom * sizeof(kvm_cpuid_entry2))))
    {
        list->nent = kRoom;
    }
    Cpuid(const Cpuid &) = delete;
    Cpuid &operator=(const Cpuid &) = delete;
    ~Cpuid() { free(list); }
    static void supported(const Device &device, Cpuid &out)
    {
        out.list->nent = kRoom;
        REQUIRE_OK(call(device, KVM_GET_SUPPORTED_CPUID, out.list));
    }
    kvm_cpuid_entry2 *find(uint32_t function, uint32_t index = 0)
    {
        for (uint32_t i = 0; i < list->nent; i++)
            if (list->entries[i].function == function && list->entries[i].index == index)
                return &list->entries[i];
        return nullptr;
    }
};

inline const char *exit_name(uint32_t reason)
{
    switch (reason) {
    case KVM_EXIT_UNKNOWN:
        return "UNKNOWN";
    case KVM_EXIT_IO:
        return "IO";
    case KVM_EXIT_HLT:
        return "HLT";
    case KVM_EXIT_MMIO:
        return "MMIO";
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return "IRQ_WINDOW_OPEN";
    case KVM_EXIT_SHUTDOWN:
        return "SHUTDOWN";
    case KVM_EXIT_FAIL_ENTRY:
        return "FAIL_ENTRY";
    case KVM_EXIT_INTR:
        return "INTR";
    case KVM_EXIT_SET_TPR:
        return "SET_TPR";
    case KVM_EXIT_INTERNAL_ERROR:
        return "INTERNAL_ERROR";
    default:
        return "?";
    }
}

} // namespace kvm
