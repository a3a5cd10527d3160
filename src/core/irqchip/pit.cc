// SPDX-License-Identifier: GPL-2.0-only
// The PIT as a device: ports, counter 0's interrupt, and its state for user space.
#include <minivmx/host_guard.hpp>
#include <minivmx/irq_routing.hpp>
#include <minivmx/pit.hpp>
#include <minivmx/vm.hpp>

namespace minivmx {

namespace {

// A guest may not make the host's timer fire more often than this: KVM's limit, 200 us.
constexpr u64 kPitShortestPeriod = 239;

u64 pit_now()
{
    return pit_ticks(host_time_ns());
}

// ---- Counter 0's interrupt ----------------------------------------------------

void pit_reset_reinjection(Pit &pit)
{
    pit.pending = 0;
    pit.acked = true;
}

void pit_start_timer(Pit &pit)
{
    pit.armed = true;
    host_timer_start(pit.timer, pit_ns(pit.next_edge));
}

u64 pit_period(const Pit &pit)
{
    const u64 cycle = pit_cycle(pit.counter[0]);
    return cycle < kPitShortestPeriod ? kPitShortestPeriod : cycle;
}

// Counter 0 was written: its output's next rising edge interrupts. Its gate is always on, so modes
// 1 and 5 are never triggered. With the HPET in its place ("legacy replacement") it is not wired.
void pit_rearm(Pit &pit)
{
    const PitCounter &counter = pit.counter[0];
    pit.armed = false;
    if (!counter.loaded || irqchip_of(*pit.kvm) != Irqchip::kKernel ||
        (pit.flags & KVM_PIT_FLAGS_HPET_LEGACY))
        return;
    pit.periodic = counter.mode == 2 || counter.mode == 3;
    if (!pit.periodic && counter.mode != 0 && counter.mode != 4)
        return;
    pit_reset_reinjection(pit);
    pit.next_edge = counter.start + pit_cycle(counter) + (counter.mode == 4);
    pit_start_timer(pit);
}

// Whether an interrupt that is due may be raised now.
bool pit_take_pending(Pit &pit)
{
    if (!pit.reinject)
        return true;
    if (!pit.acked)
        return false;
    pit.acked = false;
    return true;
}

void pit_raise(Pit &pit)
{
    set_irq(*pit.kvm, IrqSource::kPit, kPitGsi, true, false);
    set_irq(*pit.kvm, IrqSource::kPit, kPitGsi, false, false);
    pit_ticks_as_nmi(*pit.kvm);
}

// The timer may be late by several periods; each is a tick for the guest.
void pit_timer_fired(void *arg)
{
    Pit &pit = *static_cast<Pit *>(arg);
    bool raise;
    {
        HostLockGuard guard{pit.lock};
        const u64 now = pit_now();
        u64 edges = 1;
        if (!pit.armed)
            return;
        if (now < pit.next_edge) { // written anew while this was on its way
            pit_start_timer(pit);
            return;
        }
        if (pit.periodic) {
            (void)pit_value(pit.counter[0], now); // a new count may begin with this edge
            const u64 period = pit_period(pit);
            edges += (now - pit.next_edge) / period;
            pit.next_edge += edges * period;
            pit_start_timer(pit);
        } else {
            pit.armed = false;
        }
        if (pit.reinject)
            pit.pending += edges;
        raise = pit_take_pending(pit);
    }
    if (raise)
        pit_raise(pit);
}

// ---- Ports --------------------------------------------------------------------

void pit_write_command(Pit &pit, u8 value, u64 now)
{
    const u32 which = value >> 6;
    if (which == 3) { // "Read-Back Command"
        for (u32 i = 0; i < 3; i++) {
            if (!(value & 2u << i))
                continue;
            if (!(value & 0x20))
                pit_latch_count(pit.counter[i], now);
            if (!(value & 0x10))
                pit_latch_status(pit.counter[i], now);
        }
        return;
    }
    if ((value & 0x30) == 0) {
        pit_latch_count(pit.counter[which], now);
        return;
    }
    pit_write_control(pit.counter[which], value);
    if (which == 0)
        pit.armed = false;
}

// A count that waits for the end of a periodic cycle changes nothing yet.
void pit_write_counter(Pit &pit, u32 which, u8 value, u64 now)
{
    PitCounter &counter = pit.counter[which];
    const bool was_loaded = counter.loaded;
    pit_write_count(counter, value, now);
    if (which != 0)
        return;
    if (!counter.loaded)
        pit.armed = false;
    else if (counter.next_count == 0 && (!was_loaded || counter.start == now))
        pit_rearm(pit);
}

// 82093AA's sibling, the chipset's "NMI Status and Control Register": gate and output of counter
// 2, the speaker's data, and a refresh signal that toggles about every 15 us.
u8 pit_read_speaker(Pit &pit, u64 now_ns)
{
    PitCounter &counter = pit.counter[2];
    const bool on = pit.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
    return static_cast<u8>(counter.gate | on << 1 | (now_ns >> 14 & 1) << 4 |
                           pit_out(counter, pit_ticks(now_ns)) << 5);
}

void pit_write_speaker(Pit &pit, u8 value, u64 now)
{
    if (value & 2)
        pit.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
    else
        pit.flags &= ~u32{KVM_PIT_FLAGS_SPEAKER_DATA_ON};
    pit_set_gate(pit.counter[2], value & 1, now);
}

} // namespace

Pit *pit_of(const kvm_vm &kvm)
{
    return __atomic_load_n(&kvm.pit, __ATOMIC_ACQUIRE);
}

bool pit_port(kvm_vm &kvm, u16 port, bool write, void *data, u32 size)
{
    Pit *pit = pit_of(kvm);
    if (!pit)
        return false;
    const bool counter_port = port >= 0x40 && port + size <= 0x44;
    const bool speaker_port = pit->speaker && port == 0x61;
    if (!counter_port && !speaker_port)
        return false;

    HostLockGuard guard{pit->lock};
    const u64 now_ns = host_time_ns();
    const u64 now = pit_ticks(now_ns);
    u8 &byte = *static_cast<u8 *>(data);
    if (!write) {
        __builtin_memset(data, 0, size);
        if (speaker_port)
            byte = pit_read_speaker(*pit, now_ns);
        else if (port != 0x43)
            byte = pit_read(pit->counter[port & 3], now);
    } else if (speaker_port) {
        pit_write_speaker(*pit, byte, now);
    } else if (port == 0x43) {
        pit_write_command(*pit, byte, now);
    } else {
        pit_write_counter(*pit, port & 3, byte, now);
    }
    return true;
}

void pit_irq_acked(kvm_vm &kvm)
{
    Pit *pit = pit_of(kvm);
    if (!pit)
        return;
    bool raise = false;
    {
        HostLockGuard guard{pit->lock};
        if (!pit->reinject)
            return;
        pit->acked = true;
        if (pit->pending > 0 && --pit->pending > 0)
            raise = pit_take_pending(*pit);
    }
    if (raise)
        pit_raise(*pit);
}

void pit_irq_unmasked(kvm_vm &kvm)
{
    Pit *pit = pit_of(kvm);
    if (!pit)
        return;
    HostLockGuard guard{pit->lock};
    pit_reset_reinjection(*pit);
}

// ---- State for user space -------------------------------------------------------

void pit_set_reinject(kvm_vm &kvm, bool reinject)
{
    Pit &pit = *kvm.pit;
    HostLockGuard guard{pit.lock};
    if (reinject && !pit.reinject)
        pit_reset_reinjection(pit);
    pit.reinject = reinject;
}

void pit_get_state(kvm_vm &kvm, kvm_pit_state2 &state)
{
    Pit &pit = *kvm.pit;
    HostLockGuard guard{pit.lock};
    state = {};
    state.flags = pit.flags;
    for (u32 i = 0; i < 3; i++) {
        const PitCounter &counter = pit.counter[i];
        kvm_pit_channel_state &channel = state.channels[i];
        channel.count = counter.next_count ? counter.next_count : counter.count;
        channel.latched_count = counter.latched_count;
        channel.count_latched = counter.count_latched;
        channel.status_latched = counter.status_latched;
        channel.status = counter.status;
        channel.read_state = counter.read_state;
        channel.write_state = counter.write_state;
        channel.write_latch = counter.write_latch;
        channel.rw_mode = counter.rw_mode;
        channel.mode = counter.mode;
        channel.bcd = counter.bcd;
        channel.gate = counter.gate;
        channel.count_load_time = static_cast<s64>(pit_ns(counter.start));
    }
}

// As in KVM the counters begin anew: the time they were loaded at is another machine's.
void pit_set_state(kvm_vm &kvm, const kvm_pit_state2 &state)
{
    Pit &pit = *kvm.pit;
    HostLockGuard guard{pit.lock};
    const u64 now = pit_now();
    pit.flags = state.flags;
    for (u32 i = 0; i < 3; i++) {
        const kvm_pit_channel_state &channel = state.channels[i];
        PitCounter &counter = pit.counter[i];
        counter = {};
        counter.latched_count = channel.latched_count;
        counter.count_latched = channel.count_latched;
        counter.status_latched = channel.status_latched;
        counter.status = channel.status;
        counter.read_state = channel.read_state;
        counter.write_state = channel.write_state;
        counter.write_latch = channel.write_latch;
        counter.rw_mode = channel.rw_mode;
        counter.mode = channel.mode;
        counter.bcd = channel.bcd & 1;
        counter.gate = i < 2 || channel.gate; // the first two are wired to be on
        pit_load_count(counter, channel.count, now);
        counter.triggered = i == 2 && counter.gate && (counter.mode == 1 || counter.mode == 5);
    }
    pit_rearm(pit);
}

int pit_create(kvm_vm &kvm, u32 flags)
{
    constexpr u8 kNotProgrammed = 0xff; // as KVM tells of a fresh counter
    if (kvm.pit)
        return -EEXIST;
    Pit *pit = static_cast<Pit *>(host_zalloc(sizeof(Pit)));
    if (!pit)
        return -ENOMEM;
    pit->kvm = &kvm;
    pit->lock = host_lock_create();
    pit->timer = host_timer_create(pit_timer_fired, pit);
    pit->speaker = flags & KVM_PIT_SPEAKER_DUMMY;
    pit->reinject = true;
    pit->acked = true;
    for (u32 i = 0; i < 3; i++) {
        pit->counter[i].mode = kNotProgrammed;
        pit->counter[i].gate = i != 2;
        pit_load_count(pit->counter[i], 0, pit_now());
    }
    if (!pit->lock || !pit->timer) {
        kvm.pit = pit;
        pit_destroy(kvm);
        return -ENOMEM;
    }
    __atomic_store_n(&kvm.pit, pit, __ATOMIC_RELEASE);
    return 0;
}

void pit_destroy(kvm_vm &kvm)
{
    Pit *pit = kvm.pit;
    if (!pit)
        return;
    if (pit->timer)
        host_timer_destroy(pit->timer);
    if (pit->lock)
        host_lock_destroy(pit->lock);
    host_free(pit);
    kvm.pit = nullptr;
}

} // namespace minivmx
