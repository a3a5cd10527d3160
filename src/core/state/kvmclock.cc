// SPDX-License-Identifier: GPL-2.0-only
// kvmclock: the pages in which a guest finds the time, the MSRs that say where they are, and the
// ioctls that set the clock. The layouts are KVM's (Documentation/virt/kvm/x86/msr.rst).
#include <minivmx/guest_memory.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/host_guard.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

constexpr u64 kNsPerSecond = 1000000000;
constexpr u64 kClockEnabled = 1;
constexpr u8 kTscStable = 1, kGuestStopped = 2;

// MSR_KVM_SYSTEM_TIME's page.
struct SystemTimePage {
    u32 version; // odd while the rest changes
    u32 pad;
    u64 tsc_timestamp;
    u64 system_time;
    u32 tsc_to_system_mul;
    s8 tsc_shift;
    u8 flags;
    u8 pad2[2];
};
static_assert(sizeof(SystemTimePage) == 32);

// MSR_KVM_WALL_CLOCK's page: when the clock was at 0.
struct WallClockPage {
    u32 version;
    u32 seconds;
    u32 nanoseconds;
};

// Ticks to nanoseconds: (ticks << shift) * mul / 2^32, with as many significant bits in mul as fit.
void set_rate(SystemTimePage &page, u32 khz)
{
    u64 hz = u64{khz ? khz : 1} * 1000;
    s8 shift = 0;
    for (; hz > 2 * kNsPerSecond; hz >>= 1)
        shift--;
    for (; hz <= kNsPerSecond; hz <<= 1)
        shift++;
    page.tsc_shift = shift;
    page.tsc_to_system_mul = static_cast<u32>((kNsPerSecond << 32) / hz);
}

// Whether one pair of time and TSC is good for all vCPUs.
bool all_count_alike(const kvm_vm &kvm)
{
    const RcuReader reader;
    const vcpu_vmx *first = nullptr;
    for (u32 i = 0; i < vcpu_count(kvm); i++) {
        const vcpu_vmx *vmx = vcpu_at(kvm, i);
        if (!vmx)
            continue;
        if (!first)
            first = vmx;
        if (__atomic_load_n(&vmx->msrs.tsc_offset, __ATOMIC_RELAXED) !=
                __atomic_load_n(&first->msrs.tsc_offset, __ATOMIC_RELAXED) ||
            vmx->time.multiplier != first->time.multiplier)
            return false;
    }
    return true;
}

// What a guest would compute from the master clock's pair at this TSC.
u64 master_time_at(const VmTime &time, u64 tsc)
{
    SystemTimePage rate{};
    set_rate(rate, hardware.info.tsc_khz);
    u64 ticks = tsc > time.master_tsc ? tsc - time.master_tsc : 0;
    ticks = rate.tsc_shift < 0 ? ticks >> -rate.tsc_shift : ticks << rate.tsc_shift;
    return time.master_ns + multiply_shift(ticks, rate.tsc_to_system_mul, 32);
}

// The moment that the next pages tell of. The lock is held.
void validate(kvm_vm &kvm, const host_clock &now)
{
    VmTime &time = kvm.time;
    if (time.valid)
        return;
    // The TSC's rate is known in kHz only, so guests may be a little ahead of the clock: they don't
    // go back.
    const u64 shown = time.master && now.counts_tsc ? master_time_at(time, now.tsc) : 0;
    time.valid = true;
    time.master = now.counts_tsc && all_count_alike(kvm);
    time.master_ns = shown > now.ns ? shown : now.ns;
    time.master_tsc = now.tsc;
}

struct ClockReading {
    u64 ns;  // kvmclock
    u64 tsc; // the host's
    bool master;
};

// For a page: the master clock's pair, or one of this moment.
ClockReading clock_for_page(kvm_vm &kvm)
{
    host_clock now;
    host_clock_read(&now);
    const HostLockGuard guard(kvm.time.lock);
    validate(kvm, now);
    const VmTime &time = kvm.time;
    if (time.master && now.counts_tsc)
        return {time.master_ns + time.clock_offset, time.master_tsc, true};
    return {now.ns + time.clock_offset, now.tsc, false};
}

u64 clock_now(kvm_vm &kvm, host_clock &now, bool &master)
{
    host_clock_read(&now);
    const HostLockGuard guard(kvm.time.lock);
    validate(kvm, now);
    master = kvm.time.master && now.counts_tsc;
    return (master ? master_time_at(kvm.time, now.tsc) : now.ns) + kvm.time.clock_offset;
}

// The guest may look at any time from another vCPU: an odd version first, an even one last.
void publish_page(vcpu_vmx &vmx, u64 gpa, SystemTimePage &page)
{
    u32 version = 0;
    SystemTimePage old{};
    if (read_guest_phys(vmx, gpa, &old, sizeof(old)) != MemoryResult::kOk)
        return;
    page.flags |= old.flags & kGuestStopped; // until the guest has seen it
    version = (old.version + 1) | 1;
    page.version = version + 1;
    constexpr u64 kBehindVersion = sizeof(page.version);
    if (write_guest_phys(vmx, gpa, &version, sizeof(version)) != MemoryResult::kOk ||
        write_guest_phys(vmx, gpa + kBehindVersion, &page.pad, sizeof(page) - kBehindVersion) !=
            MemoryResult::kOk)
        return;
    (void)write_guest_phys(vmx, gpa, &page.version, sizeof(page.version));
}

} // namespace

int time_create(kvm_vm &kvm)
{
    kvm.time.lock = host_lock_create();
    if (!kvm.time.lock)
        return -ENOMEM;
    host_clock now;
    host_clock_read(&now);
    kvm.time.clock_offset = 0 - now.ns; // the guest's clock starts at 0
    return 0;
}

void time_destroy(kvm_vm &kvm)
{
    host_lock_destroy(kvm.time.lock);
}

void clock_changed(kvm_vm &kvm)
{
    {
        const HostLockGuard guard(kvm.time.lock);
        kvm.time.valid = false;
    }
    host_request_all(kvm.host, VCPU_REQUEST_CLOCK);
}

void update_guest_clock(vcpu_vmx &vmx)
{
    VcpuTime &time = vmx.time;
    if (!time.update_due) [[likely]]
        return;
    time.update_due = false;
    if (!(time.system_time_msr & kClockEnabled))
        return;
    const ClockReading reading = clock_for_page(*vmx.kvm);
    SystemTimePage page{};
    page.tsc_timestamp = guest_tsc_at(vmx, reading.tsc);
    page.system_time = reading.ns;
    set_rate(page, running_tsc_khz(vmx));
    page.flags = static_cast<u8>((reading.master ? kTscStable : 0) |
                                 (time.guest_stopped ? kGuestStopped : 0));
    time.guest_stopped = false;
    publish_page(vmx, time.system_time_msr & ~kClockEnabled, page);
}

bool tell_guest_it_stopped(vcpu_vmx &vmx)
{
    if (!(vmx.time.system_time_msr & kClockEnabled))
        return false;
    vmx.time.guest_stopped = true;
    vmx.time.update_due = true;
    return true;
}

void write_system_time(vcpu_vmx &vmx, u64 value)
{
    vmx.time.system_time_msr = value;
    vmx.time.update_due = true;
}

void write_wall_clock(vcpu_vmx &vmx, u64 value)
{
    kvm_vm &kvm = *vmx.kvm;
    {
        const HostLockGuard guard(kvm.time.lock);
        kvm.time.wall_clock_msr = value;
    }
    if (!value)
        return;
    u32 version;
    if (read_guest_phys(vmx, value, &version, sizeof(version)) != MemoryResult::kOk)
        return;
    version += version & 1 ? 2 : 1; // odd: being written
    if (write_guest_phys(vmx, value, &version, sizeof(version)) != MemoryResult::kOk)
        return;
    host_clock now;
    bool master;
    const u64 clock = clock_now(kvm, now, master);
    const u64 start = now.realtime_ns - clock;
    const WallClockPage page = {version, static_cast<u32>(start / kNsPerSecond),
                                static_cast<u32>(start % kNsPerSecond)};
    version++;
    if (write_guest_phys(vmx, value, &page, sizeof(page)) == MemoryResult::kOk)
        (void)write_guest_phys(vmx, value, &version, sizeof(version));
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_get_clock(core_vm *vm, kvm_clock_data *data)
{
    host_clock now;
    bool master;
    *data = {};
    data->clock = clock_now(to_kvm(vm), now, master);
    data->host_tsc = now.tsc;
    if (master) {
        data->realtime = now.realtime_ns;
        data->flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
    }
    return 0;
}

int core_set_clock(core_vm *vm, const kvm_clock_data *data)
{
    constexpr u32 kFlags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
    kvm_vm &kvm = to_kvm(vm);
    if (data->flags & ~kFlags)
        return -EINVAL;
    host_clock now;
    host_clock_read(&now);
    u64 clock = data->clock;
    // As much later as the real time since the clock was read.
    if (data->flags & KVM_CLOCK_REALTIME && now.realtime_ns > data->realtime)
        clock += now.realtime_ns - data->realtime;
    {
        const HostLockGuard guard(kvm.time.lock);
        kvm.time.clock_offset = clock - now.ns;
        kvm.time.master = false; // what guests have seen so far doesn't count
    }
    clock_changed(kvm);
    return 0;
}

int core_kvmclock_ctrl(core_vcpu *vcpu)
{
    return tell_guest_it_stopped(to_vmx(vcpu)) ? 0 : -EINVAL;
}

} // extern "C"
