// SPDX-License-Identifier: GPL-2.0-only
// One counter of the 8254. Section names are those of Intel's datasheet 231164-005; "Mode n" are
// those of its "Mode Definitions".
#include <minivmx/pit.hpp>

namespace minivmx {

namespace {

// Which byte of a count is next, in the order of the control word's RW bits.
enum PitByte : u8 { kPitNone, kPitLow, kPitHigh, kPitLowThenHigh, kPitHighAfterLow };

constexpr u32 kPitLargest = 0x10000; // what a count of 0 stands for; 10^4 in BCD

bool pit_is_periodic(const PitCounter &counter)
{
    return counter.mode == 2 || counter.mode == 3;
}

bool pit_waits_for_trigger(const PitCounter &counter)
{
    return counter.mode == 1 || counter.mode == 5;
}

u32 pit_from_bcd(u32 value)
{
    return (value >> 12 & 15) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 +
           (value & 15);
}

u32 pit_to_bcd(u32 value)
{
    return value / 1000 % 10 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 | value % 10;
}

// Ticks counted of the present count.
u64 pit_elapsed(const PitCounter &counter, u64 now)
{
    if (!counter.loaded || (pit_waits_for_trigger(counter) && !counter.triggered))
        return 0;
    if (!counter.gate && !pit_waits_for_trigger(counter))
        return counter.held;
    return counter.held + (now - counter.start);
}

// "Mode 2", "Mode 3": a new count counts from the end of the cycle on. (Mode 3 in hardware: of the
// half cycle.)
void pit_settle(PitCounter &counter, u64 now)
{
    if (counter.next_count == 0 || !pit_is_periodic(counter))
        return;
    const u32 cycle = pit_cycle(counter);
    if (pit_elapsed(counter, now) < cycle)
        return;
    counter.start = counter.start + cycle - counter.held;
    counter.held = 0;
    counter.count = counter.next_count;
    counter.next_count = 0;
}

void pit_restart(PitCounter &counter, u64 now)
{
    counter.start = now;
    counter.held = 0;
    if (counter.next_count != 0)
        counter.count = counter.next_count;
    counter.next_count = 0;
}

// "Mode 3": counts down by two, twice a cycle; an odd count's first half is one tick longer.
u32 pit_square_wave_value(u32 cycle, u32 phase)
{
    const u32 first_half = (cycle + 1) / 2;
    const u32 from = cycle & ~u32{1};
    return from - 2 * (phase < first_half ? phase : phase - first_half);
}

} // namespace

u32 pit_cycle(const PitCounter &counter)
{
    if (!counter.bcd)
        return counter.count;
    const u32 cycle = counter.count < kPitLargest ? pit_from_bcd(counter.count) : 0;
    return cycle ? cycle : 10000;
}

bool pit_out(PitCounter &counter, u64 now)
{
    pit_settle(counter, now);
    const u64 elapsed = pit_elapsed(counter, now);
    const u32 cycle = pit_cycle(counter);
    const bool counts = counter.loaded && counter.gate;
    switch (counter.mode) {
    case 1:
        return !counter.triggered || elapsed >= cycle;
    case 2:
        return !counts || elapsed % cycle != cycle - 1;
    case 3:
        return !counts || elapsed % cycle < (cycle + 1) / 2;
    case 4:
        return !counter.loaded || elapsed != cycle;
    case 5:
        return !counter.triggered || elapsed != cycle;
    default:
        return counter.loaded && elapsed >= cycle;
    }
}

u32 pit_value(PitCounter &counter, u64 now)
{
    pit_settle(counter, now);
    const u64 elapsed = pit_elapsed(counter, now);
    const u32 cycle = pit_cycle(counter);
    const u32 modulus = counter.bcd ? 10000 : kPitLargest;
    u32 value;
    if (counter.mode == 3)
        value = pit_square_wave_value(cycle, static_cast<u32>(elapsed % cycle));
    else if (counter.mode == 2)
        value = cycle - static_cast<u32>(elapsed % cycle);
    else // goes on below 0 from the largest count
        value = (cycle % modulus + modulus - static_cast<u32>(elapsed % modulus)) % modulus;
    return counter.bcd ? pit_to_bcd(value % modulus) : value & 0xffff;
}

void pit_load_count(PitCounter &counter, u32 count, u64 now)
{
    count = count ? count : kPitLargest;
    pit_settle(counter, now);
    if (counter.loaded && pit_is_periodic(counter) && counter.gate) {
        const u64 elapsed = pit_elapsed(counter, now);
        counter.start = now - elapsed % pit_cycle(counter);
        counter.held = 0;
        counter.next_count = count;
        return;
    }
    if (counter.triggered) { // "Mode 1": the pulse under way keeps its length
        counter.next_count = count;
        return;
    }
    counter.count = count;
    counter.next_count = 0;
    counter.loaded = true;
    counter.start = now;
    counter.held = 0;
}

// "Mode 1" and "Mode 5" are triggered by the gate's rising edge, "Mode 2" and "Mode 3" start anew
// with it; in the others it stops the count and lets it go on.
void pit_set_gate(PitCounter &counter, bool gate, u64 now)
{
    if (gate == (counter.gate != 0))
        return;
    pit_settle(counter, now);
    const u64 elapsed = pit_elapsed(counter, now);
    counter.gate = gate;
    if (!counter.loaded)
        return;
    if (pit_waits_for_trigger(counter)) {
        if (!gate)
            return;
        pit_restart(counter, now);
        counter.triggered = true;
    } else if (pit_is_periodic(counter) && gate) {
        pit_restart(counter, now);
    } else {
        counter.held = elapsed;
        counter.start = now;
    }
}

// ---- Registers --------------------------------------------------------------

// "Control Word Format". Not the latch command. The count stays readable until another is written.
void pit_write_control(PitCounter &counter, u8 value)
{
    const u8 rw = value >> 4 & 3;
    counter.rw_mode = rw;
    counter.read_state = rw;
    counter.write_state = rw;
    counter.mode = value >> 1 & 7;
    if (counter.mode > 5) // M2 doesn't count in modes 2 and 3
        counter.mode = static_cast<u8>(counter.mode - 4);
    counter.bcd = value & 1;
    counter.loaded = false;
    counter.triggered = false;
    counter.next_count = 0;
}

void pit_write_count(PitCounter &counter, u8 byte, u64 now)
{
    switch (counter.write_state) {
    case kPitLowThenHigh:
        counter.write_latch = byte;
        counter.write_state = kPitHighAfterLow;
        if (counter.mode == 0) // "Mode 0": the first byte of two stops the count
            counter.loaded = false;
        break;
    case kPitHighAfterLow:
        counter.write_state = kPitLowThenHigh;
        pit_load_count(counter, u32{byte} << 8 | counter.write_latch, now);
        break;
    case kPitHigh:
        pit_load_count(counter, u32{byte} << 8, now);
        break;
    default:
        pit_load_count(counter, byte, now);
        break;
    }
}

// "Counter Latch Command": a second one before the first was read is ignored.
void pit_latch_count(PitCounter &counter, u64 now)
{
    if (counter.count_latched)
        return;
    counter.latched_count = static_cast<u16>(pit_value(counter, now));
    counter.count_latched = counter.rw_mode;
}

// "Read-Back Command": OUT, null count, and the control word.
void pit_latch_status(PitCounter &counter, u64 now)
{
    if (counter.status_latched)
        return;
    const bool out = pit_out(counter, now);
    const bool null_count = !counter.loaded || counter.next_count != 0;
    counter.status = static_cast<u8>(out << 7 | null_count << 6 | (counter.rw_mode & 3) << 4 |
                                     (counter.mode & 7) << 1 | (counter.bcd & 1));
    counter.status_latched = 1;
}

u8 pit_read(PitCounter &counter, u64 now)
{
    if (counter.status_latched) {
        counter.status_latched = 0;
        return counter.status;
    }
    if (counter.count_latched) {
        const u16 count = counter.latched_count;
        const u8 which = counter.count_latched;
        counter.count_latched = which == kPitLowThenHigh ? kPitHigh : kPitNone;
        return static_cast<u8>(which == kPitHigh ? count >> 8 : count);
    }
    const u32 value = pit_value(counter, now);
    switch (counter.read_state) {
    case kPitLowThenHigh:
        counter.read_state = kPitHighAfterLow;
        return static_cast<u8>(value);
    case kPitHighAfterLow:
        counter.read_state = kPitLowThenHigh;
        return static_cast<u8>(value >> 8);
    case kPitHigh:
        return static_cast<u8>(value >> 8);
    default:
        return static_cast<u8>(value);
    }
}

} // namespace minivmx
