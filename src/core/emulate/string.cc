// SPDX-License-Identifier: GPL-2.0-only
// MOVS, STOS, LODS, CMPS and SCAS.
#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

namespace {

// Iterations done without looking at the world outside: what the module's devices answer needs no
// exit, and the guest would come back for each of them. One that user space answered is the last:
// so an interrupt that came meanwhile need not wait.
constexpr u32 kBatch = 256;

u64 element_mask(const Instruction &insn)
{
    return size_mask(insn.destination.size);
}

bool read_element(Emulation &e, u8 segment, Gpr address, u64 &value)
{
    const u32 size = e.insn().destination.size;
    u64 linear;
    if (!to_linear(e, segment, read_address_register(e, address), size, false, linear) ||
        !read_source(e, linear, size))
        return false;
    value = load_little_endian(e.pending.data, size);
    return true;
}

bool read_at_rsi(Emulation &e, u64 &value)
{
    return read_element(e, e.insn().memory.segment, kRsi, value);
}

// ES, which no prefix changes.
bool read_at_rdi(Emulation &e, u64 &value)
{
    return read_element(e, kEs, kRdi, value);
}

bool write_at_rdi(Emulation &e, u64 value)
{
    const u32 size = e.insn().destination.size;
    u64 linear;
    if (!to_linear(e, kEs, read_address_register(e, kRdi), size, true, linear))
        return false;
    store_little_endian(e.pending.data, value, size);
    return write_destination(e, linear, size);
}

// Compares as CMP does; whether REPE or REPNE ends with it.
bool compare(Emulation &e, u64 left, u64 right)
{
    const Instruction &insn = e.insn();
    u64 flags = read_rflags(e.vmx);
    (void)native::cmp(insn.destination.size, left, right, flags);
    write_rflags(e.vmx, flags);
    const bool equal = (flags & native::kZero) != 0;
    return insn.rep ? !equal : insn.repne && equal;
}

// The accesses of one iteration; last: REPE or REPNE ends with it. False: it has not been done.
bool iterate(Emulation &e, bool &last)
{
    const Instruction &insn = e.insn();
    u64 value = read_gpr(e.vmx, kRax) & element_mask(insn);
    u64 other;
    last = false;
    switch (insn.operation) {
    case Operation::kMovs:
        return read_at_rsi(e, value) && write_at_rdi(e, value);
    case Operation::kStos:
        return write_at_rdi(e, value);
    case Operation::kLods:
        if (!read_at_rsi(e, value))
            return false;
        write_gpr_part(e.vmx, kRax, insn.destination.size, value);
        return true;
    case Operation::kScas:
        if (!read_at_rdi(e, other))
            return false;
        last = compare(e, value, other);
        return true;
    default: // kCmps
        if (!read_at_rsi(e, value) || !read_at_rdi(e, other))
            return false;
        last = compare(e, value, other);
        return true;
    }
}

// False: it has not been done, see iterate().
bool do_element(Emulation &e)
{
    const Instruction &insn = e.insn();
    const u32 size = insn.destination.size;
    bool last;
    if (!iterate(e, last))
        return false;
    if (insn.operation != Operation::kStos && insn.operation != Operation::kScas)
        advance_address_register(e, kRsi, 1, size);
    if (insn.operation != Operation::kLods)
        advance_address_register(e, kRdi, 1, size);
    finish_iterations(e, 1, last);
    return true;
}

// Whether another element may follow at once: nobody waits for this vCPU, and the guest neither
// steps through the iterations nor has reached the last one.
bool goes_on(Emulation &e, u64 rip)
{
    return e.outcome.resumes() && read_rip(e.vmx) == rip &&
           (read_rflags(e.vmx) & X86_EFLAGS_TF) == 0 &&
           __atomic_load_n(&e.vmx.area->requests, __ATOMIC_RELAXED) == 0;
}

} // namespace

void execute_string(Emulation &e)
{
    const u64 rip = read_rip(e.vmx);
    const bool answered = e.pending.reads_done != 0;
    if (iterations_left(e) == 0) {
        finish_instruction(e.vmx, e.insn().length);
        return;
    }
    for (u32 i = 0; i < kBatch; i++) {
        if (!do_element(e))
            return;
        e.forget_reads();
        e.known.valid = false;
        if (answered || !goes_on(e, rip))
            return;
    }
}

} // namespace minivmx
