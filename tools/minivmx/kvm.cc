// SPDX-License-Identifier: GPL-2.0-only
#include "kvm.hpp"

#include "error.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

namespace minivmx::tool {
namespace {

/// What to do about an open() that failed, as the second half of a sentence.
std::string open_remedy(const std::string &path, int error)
{
    const bool other_there = path != "/dev/kvm" && access("/dev/kvm", F_OK) == 0;
    switch (error) {
    case ENOENT:
        if (path == "/dev/kvm")
            return "is the module kvm_intel loaded?";
        return fmt::format("load the module (insmod minivmx.ko){}",
                           other_there ? ", or use KVM's with --device /dev/kvm" : "");
    case EACCES:
    case EPERM:
        return "run as root, or join the group that owns it (kvm, with minivmx's udev rule)";
    case ENXIO:
    case ENODEV:
        return "the device file is there, but no module stands behind it: load it";
    default:
        return "see dmesg for what the module says";
    }
}

int open_device(const std::string &path)
{
    const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        const int error = errno;
        fail("cannot open {}: {}; {}", path, errno_text(error), open_remedy(path, error));
    }
    return fd;
}

/// An ioctl that must succeed; returns its value. `name` is how the API calls it.
template <typename Argument>
int call(const Device &device, int fd, unsigned long request, const char *name, Argument argument)
{
    const int result = ioctl(fd, request, argument);
    if (result < 0)
        fail("{}: {} failed: {}", device.path(), name, errno_text(errno));
    return result;
}

int create_vm(const Device &device)
{
    const int fd = ioctl(device.fd(), KVM_CREATE_VM, 0UL);
    if (fd >= 0)
        return fd;
    const int error = errno;
    const char *remedy = "see dmesg for what the module says";
    if (error == EBUSY)
        remedy = "another hypervisor is using VMX; end its virtual machines or unload it "
                 "(dmesg says which)";
    fail("{}: cannot create a virtual machine: {}; {}", device.path(), errno_text(error), remedy);
}

/// A kvm_cpuid2 with room for `entries`: the structure ends in a flexible array.
class CpuidBuffer {
  public:
    explicit CpuidBuffer(std::size_t entries)
        : bytes_(sizeof(kvm_cpuid2) + entries * sizeof(kvm_cpuid_entry2))
    {
        table()->nent = static_cast<std::uint32_t>(entries);
    }
    kvm_cpuid2 *table() { return reinterpret_cast<kvm_cpuid2 *>(bytes_.data()); }

  private:
    std::vector<std::uint8_t> bytes_;
};

} // namespace

Device::Device(std::string path) : path_(std::move(path)), fd_(open_device(path_))
{
    const int version = ioctl(fd_.get(), KVM_GET_API_VERSION, 0UL);
    if (version < 0)
        fail("{} is not a KVM device: {}", path_, errno_text(errno));
    if (version != KVM_API_VERSION)
        fail("{} speaks version {} of the KVM API, expected {}", path_, version, KVM_API_VERSION);
}

int Device::capability(int capability) const
{
    return call(*this, fd(), KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION",
                static_cast<unsigned long>(capability));
}

std::size_t Device::vcpu_mapping_size() const
{
    const int size = call(*this, fd(), KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE", 0UL);
    if (static_cast<std::size_t>(size) < sizeof(kvm_run))
        fail("{}: the vCPU's mapping has {} bytes, expected at least {}", path_, size,
             sizeof(kvm_run));
    return static_cast<std::size_t>(size);
}

std::vector<kvm_cpuid_entry2> Device::supported_cpuid() const
{
    constexpr std::size_t kMostEntries = 4096;
    for (std::size_t entries = 64; entries <= kMostEntries; entries *= 2) {
        CpuidBuffer buffer(entries);
        if (ioctl(fd(), KVM_GET_SUPPORTED_CPUID, buffer.table()) == 0)
            return {buffer.table()->entries, buffer.table()->entries + buffer.table()->nent};
        if (errno != E2BIG)
            fail("{}: KVM_GET_SUPPORTED_CPUID failed: {}", path_, errno_text(errno));
    }
    fail("{}: KVM_GET_SUPPORTED_CPUID has more than {} entries", path_, kMostEntries);
}

Vm::Vm(const Device &device) : device_(device), fd_(create_vm(device)) {}

void Vm::add_memory(std::uint32_t slot, const GuestMemory &memory) const
{
    kvm_userspace_memory_region region = {};
    region.slot = slot;
    region.guest_phys_addr = memory.base();
    region.memory_size = memory.size();
    region.userspace_addr = reinterpret_cast<std::uint64_t>(memory.host());
    call(device_, fd(), KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", &region);
}

void Vm::reserve_tss(std::uint64_t address) const
{
    constexpr std::uint64_t kPageSize = 4096;
    std::uint64_t identity_map = address;
    if (device_.capability(KVM_CAP_SET_IDENTITY_MAP_ADDR) != 0)
        call(device_, fd(), KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR", &identity_map);
    if (device_.capability(KVM_CAP_SET_TSS_ADDR) != 0)
        call(device_, fd(), KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR",
             static_cast<unsigned long>(address + kPageSize));
}

void Vm::create_interrupt_controllers() const
{
    if (device_.capability(KVM_CAP_IRQCHIP) == 0)
        fail("{}: it has no interrupt controllers (KVM_CAP_IRQCHIP), which a kernel needs",
             device_.path());
    call(device_, fd(), KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP", 0UL);
    kvm_pit_config timer = {};
    timer.flags = KVM_PIT_SPEAKER_DUMMY; // port 0x61, by which its third channel is read
    call(device_, fd(), KVM_CREATE_PIT2, "KVM_CREATE_PIT2", &timer);
}

void Vm::set_interrupt_line(std::uint32_t gsi, bool level) const
{
    kvm_irq_level line = {};
    line.irq = gsi;
    line.level = level ? 1 : 0;
    call(device_, fd(), KVM_IRQ_LINE, "KVM_IRQ_LINE", &line);
}

Vcpu::Vcpu(const Vm &vm, unsigned index)
    : index_(index), device_(vm.device()),
      fd_(call(vm.device(), vm.fd(), KVM_CREATE_VCPU, "KVM_CREATE_VCPU",
               static_cast<unsigned long>(index))),
      mapping_size_(vm.device().vcpu_mapping_size())
{
    void *mapped = mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (mapped == MAP_FAILED)
        fail("{}: cannot map vCPU {}: {}", device_.path(), index, errno_text(errno));
    state_ = static_cast<kvm_run *>(mapped);
}

Vcpu::~Vcpu()
{
    munmap(state_, mapping_size_);
}

int Vcpu::run()
{
    return ioctl(fd_.get(), KVM_RUN, 0UL) == 0 ? 0 : errno;
}

void Vcpu::request_exit()
{
    __atomic_store_n(&state_->immediate_exit, std::uint8_t{1}, __ATOMIC_RELAXED);
}

void Vcpu::complete_exit()
{
    // KVM finishes the pending instruction at the start of the next KVM_RUN, and with
    // immediate_exit set it does nothing else. That run overwrites the page's exit.
    const auto exit_before = std::make_unique<kvm_run>(*state_);
    request_exit();
    run();
    *state_ = *exit_before;
}

std::span<std::uint8_t> Vcpu::io_data()
{
    const std::uint64_t length = std::uint64_t{state_->io.size} * state_->io.count;
    if (state_->io.data_offset > mapping_size_ || length > mapping_size_ - state_->io.data_offset)
        fail("{}: the I/O exit's data lies outside of the vCPU's mapping", device_.path());
    return {reinterpret_cast<std::uint8_t *>(state_) + state_->io.data_offset, length};
}

kvm_regs Vcpu::regs() const
{
    kvm_regs regs = {};
    call(device_, fd_.get(), KVM_GET_REGS, "KVM_GET_REGS", &regs);
    return regs;
}

void Vcpu::set_regs(const kvm_regs &regs)
{
    call(device_, fd_.get(), KVM_SET_REGS, "KVM_SET_REGS", &regs);
}

kvm_sregs Vcpu::sregs() const
{
    kvm_sregs sregs = {};
    call(device_, fd_.get(), KVM_GET_SREGS, "KVM_GET_SREGS", &sregs);
    return sregs;
}

void Vcpu::set_sregs(const kvm_sregs &sregs)
{
    call(device_, fd_.get(), KVM_SET_SREGS, "KVM_SET_SREGS", &sregs);
}

void Vcpu::set_cpuid(const std::vector<kvm_cpuid_entry2> &entries)
{
    CpuidBuffer buffer(entries.size());
    std::copy(entries.begin(), entries.end(), buffer.table()->entries);
    call(device_, fd_.get(), KVM_SET_CPUID2, "KVM_SET_CPUID2", buffer.table());
}

} // namespace minivmx::tool
