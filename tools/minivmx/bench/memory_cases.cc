// SPDX-License-Identifier: GPL-2.0-only
//
// The first touch of memory, and who wrote it.
#include "bench.hpp"
#include "bench_vm.hpp"
#include "clock.hpp"
#include "error.hpp"
#include "guest_code.hpp"
#include "marks.hpp"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <fstream>
#include <string>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLargePage = std::uint64_t{2} << 20;
constexpr unsigned kRepeats = 3;

// Writes to ESI places from EBX on, EDI bytes apart; R13: ticks of it all.
BENCH_CODE(code_touch, "rdtsc; shl rdx, 32; lea r12, [rax + rdx]\n"
                       "1: mov [rbx], al; add rbx, rdi; dec esi; jnz 1b\n"
                       "rdtsc; shl rdx, 32; add rax, rdx; sub rax, r12; mov r13, rax; out 0xf4, al")

/// Host memory for the guest's second slot, aligned for large pages.
class HostMemory {
  public:
    HostMemory(std::uint64_t size, bool large) : size_(size + kLargePage)
    {
        mapped_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped_ == MAP_FAILED)
            fail("no room for {} MiB: {}", size_ >> 20, errno_text(errno));
        const auto address = reinterpret_cast<std::uint64_t>(mapped_);
        begin_ = (address + kLargePage - 1) & ~(kLargePage - 1);
        madvise(mapped_, size_, large ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    }
    ~HostMemory() { munmap(mapped_, size_); }
    HostMemory(const HostMemory &) = delete;
    HostMemory &operator=(const HostMemory &) = delete;

    std::uint64_t address() const { return begin_; }
    std::uint8_t *host() const { return reinterpret_cast<std::uint8_t *>(begin_); }

  private:
    std::uint64_t size_;
    void *mapped_;
    std::uint64_t begin_;
};

struct Touch {
    std::uint64_t pages;
    std::uint64_t stride;
    bool populated;      ///< the host has touched it before
    bool large = false;  ///< 2 MiB pages; each is touched 8 times, so that a small one shows
    bool logged = false; ///< KVM_MEM_LOG_DIRTY_PAGES
};

void add_slot(const Device &device, const BenchVm &vm, const HostMemory &memory, std::uint64_t size,
              bool logged)
{
    kvm_userspace_memory_region region = {};
    region.slot = 1;
    region.flags = logged ? KVM_MEM_LOG_DIRTY_PAGES : 0;
    region.guest_phys_addr = kBenchMemory;
    region.memory_size = size;
    region.userspace_addr = memory.address();
    bench_ioctl(device, vm.vm().fd(), KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION",
                &region);
}

void start_touch(Vcpu &vcpu, std::uint64_t first, std::uint64_t pages, std::uint64_t stride)
{
    kvm_regs regs = vcpu.regs();
    regs.rip = kBenchCode;
    regs.rbx = kBenchMemory + first * stride;
    regs.rsi = pages;
    regs.rdi = stride;
    vcpu.set_regs(regs);
}

/// Its code has run once, on a page that is in no case, so that it needs no new ones of its own.
Vcpu &add_toucher(BenchVm &vm, std::uint64_t pages, std::uint64_t stride)
{
    Vcpu &vcpu = vm.add_vcpu(code_touch());
    kvm_regs regs = vcpu.regs();
    regs.rbx = kBenchData;
    regs.rsi = 1;
    vcpu.set_regs(regs);
    vm.run_to_end(vcpu);
    start_touch(vcpu, 0, pages, stride);
    return vcpu;
}

/// Some pages from the middle on, after the guest has touched all before.
void touch_between_marks(BenchVm &vm, const Touch &touch)
{
    constexpr std::uint64_t kMarkedPages = 24;
    const std::uint64_t half = touch.pages / 2;
    Vcpu &vcpu = add_toucher(vm, half, touch.stride);
    vm.run_to_end(vcpu);
    start_touch(vcpu, half, std::min(half, kMarkedPages), touch.stride);
    const BenchMarks marks(&vm);
    vm.run_to_end(vcpu);
}

BenchSample touch_once(const Device &device, const Touch &touch)
{
    const std::uint64_t size = touch.pages * touch.stride;
    const auto pages = static_cast<double>(touch.large ? size / kLargePage : touch.pages);
    const HostMemory memory(size, touch.large);
    if (touch.populated)
        std::memset(memory.host(), 1, size);
    BenchVm vm(device);
    add_slot(device, vm, memory, size, touch.logged);
    BenchSample sample;
    if (bench_marking().on) {
        touch_between_marks(vm, touch);
        return sample;
    }
    Vcpu &vcpu = add_toucher(vm, touch.pages, touch.stride);
    const auto before = vm.exits();
    sample.ticks = static_cast<double>(vm.run_to_end(vcpu)) / pages;
    const auto after = vm.exits();
    if (before && after) // without the one at the end
        sample.exits = static_cast<double>(*after - *before - 1) / pages;
    return sample;
}

/// The least of some VMs, since in one every page is new only once.
BenchSample touch(const Device &device, const Touch &what)
{
    BenchSample least = touch_once(device, what);
    for (unsigned i = 1; i < kRepeats && !bench_marking().on; i++)
        if (const BenchSample next = touch_once(device, what); next.ticks < least.ticks)
            least = next;
    return least;
}

BenchSample touch_large(const Device &device, bool populated)
{
    std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
    std::string text;
    std::getline(file, text);
    if (text.empty() || text.find("[never]") != std::string::npos)
        throw Error(ExitStatus::kIncomplete, "the host has transparent huge pages turned off");
    return touch(
        device, {.pages = 16 * 8, .stride = kLargePage / 8, .populated = populated, .large = true});
}

/// What a fresh page costs in any program: the host's first touch of it.
BenchSample host_touch(const Device &)
{
    constexpr std::uint64_t kPages = 512;
    const HostMemory memory(kPages * kPage, false);
    const std::uint64_t begin = now_ticks();
    for (std::uint64_t i = 0; i < kPages; i++)
        *reinterpret_cast<volatile std::uint8_t *>(memory.host() + i * kPage) = 1;
    BenchSample sample;
    sample.ticks = static_cast<double>(now_ticks() - begin) / kPages;
    return sample;
}

/// A guest that writes all of a logged slot, again and again, and the log that is fetched and
/// cleared each time.
BenchSample dirty_round(const Device &device)
{
    constexpr std::uint64_t kPages = 512;
    const HostMemory memory(kPages * kPage, false);
    std::memset(memory.host(), 1, kPages * kPage);
    BenchVm vm(device);
    add_slot(device, vm, memory, kPages * kPage, true);
    Vcpu &vcpu = add_toucher(vm, kPages, kPage);
    const kvm_regs start = vcpu.regs();
    std::array<std::uint64_t, kPages / 64> bitmap = {};
    const auto round = [&] {
        vcpu.set_regs(start);
        vm.run_to_end(vcpu);
        kvm_dirty_log log = {};
        log.slot = 1;
        log.dirty_bitmap = bitmap.data();
        bench_ioctl(device, vm.vm().fd(), KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG", &log);
    };
    round();
    BenchSample sample;
    sample.ticks = static_cast<double>(least_ticks(10, round)) / kPages;
    for (const std::uint64_t word : bitmap)
        if (word != UINT64_MAX)
            fail("{}: the dirty log lacks pages that the guest wrote", device.path());
    return sample;
}

constexpr auto kCases = std::to_array<BenchCase>({
    {"host-touch", BenchGroup::kFloor, "a program's first touch of a page", 0, host_touch},
    {"touch-fresh", BenchGroup::kMemory, "a fresh page, in sequence", 0,
     [](const Device &d) {
         return touch(d, {.pages = 1024, .stride = kPage, .populated = false});
     }},
    {"touch-populated", BenchGroup::kMemory, "a page that the host has, in sequence", 0,
     [](const Device &d) { return touch(d, {.pages = 1024, .stride = kPage, .populated = true}); }},
    {"touch-sparse", BenchGroup::kMemory, "a page that the host has, 2 MiB from the last", 0,
     [](const Device &d) {
         return touch(d, {.pages = 16, .stride = kLargePage, .populated = true});
     }},
    {"touch-logged", BenchGroup::kMemory, "a page that the host has, with dirty logging", 0,
     [](const Device &d) {
         return touch(d, {.pages = 1024, .stride = kPage, .populated = true, .logged = true});
     }},
    {"touch-large-fresh", BenchGroup::kMemory, "a fresh 2 MiB page, touched in 8 places", 0,
     [](const Device &d) { return touch_large(d, false); }},
    {"touch-large", BenchGroup::kMemory, "a 2 MiB page that the host has, in 8 places", 0,
     [](const Device &d) { return touch_large(d, true); }},
    {"dirty-round", BenchGroup::kMemory, "a page written again after KVM_GET_DIRTY_LOG", 0,
     dirty_round},
});

} // namespace

std::span<const BenchCase> memory_bench_cases()
{
    return kCases;
}

} // namespace minivmx::tool
