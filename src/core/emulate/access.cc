// SPDX-License-Identifier: GPL-2.0-only
// Memory operands that are partly or wholly a device's: the module's own, or user space's.
#include <minivmx/irqchip.hpp>

#include "emulator.hpp"

namespace minivmx {

namespace {

// An operand in at most two guest pages.
struct Pieces {
    MmioFragment piece[2];
    u32 count;
};

// False: a page fault is queued.
bool translate_operand(Emulation &e, u64 linear, u32 size, bool write, Pieces &pieces)
{
    const u32 room = static_cast<u32>(kPageSize - (linear & (kPageSize - 1)));
    const u32 first = size < room ? size : room;
    pieces.count = first < size ? 2 : 1;
    pieces.piece[0] = {0, 0, static_cast<u8>(first)};
    pieces.piece[1] = {0, static_cast<u8>(first), static_cast<u8>(size - first)};

    if (e.known.valid && e.known.write == write && e.known.linear == linear && pieces.count == 1) {
        pieces.piece[0].gpa = e.known.gpa;
        return true;
    }
    for (u32 i = 0; i < pieces.count; i++) {
        GuestFault fault;
        const u64 address = advance_linear(e.state, linear, pieces.piece[i].offset);
        if (translate(e.vmx, e.state, address, Access{.write = write}, pieces.piece[i].gpa,
                      fault) != MemoryResult::kOk) {
            inject_fault(e.vmx, fault);
            return false;
        }
    }
    return true;
}

// ---- Devices ----------------------------------------------------------------

void begin_access(PendingInstruction &pending, u32 size)
{
    pending.access_size = static_cast<u8>(size);
    pending.fragment_count = pending.fragment_next = 0;
    pending.in_place = true;
}

void add_fragment(PendingInstruction &pending, const MmioFragment &piece)
{
    pending.fragments[pending.fragment_count++] = piece;
}

// One access of a device has at most 8 bytes, as in KVM.
u8 device_bytes(const MmioFragment &fragment)
{
    return fragment.size < 8 ? fragment.size : u8{8};
}

void fragment_done(PendingInstruction &pending)
{
    MmioFragment &fragment = pending.fragments[pending.fragment_next];
    const u8 size = device_bytes(fragment);
    fragment.gpa += size;
    fragment.offset += size;
    fragment.size -= size;
    if (fragment.size == 0)
        pending.fragment_next++;
}

void ask_for_fragment(vcpu_vmx &vmx)
{
    const PendingInstruction &pending = vmx.pending;
    const MmioFragment &fragment = pending.fragments[pending.fragment_next];
    const bool write = pending.kind == PendingIo::kMmioWrite;
    const u32 size = device_bytes(fragment);
    kvm_run *run = vmx.area->run;
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = fragment.gpa;
    run->mmio.len = size;
    run->mmio.is_write = write;
    u64 value = 0;
    if (write) {
        __builtin_memcpy(&value, pending.data + fragment.offset, sizeof(value));
        value &= size_mask(size);
    }
    __builtin_memcpy(run->mmio.data, &value, sizeof(value));
}

// The devices of the module answer what is theirs. False: the next fragment is user space's, and
// kvm_run asks for it. pending.kind says whether this is a read or a write.
bool serve_fragments(vcpu_vmx &vmx)
{
    PendingInstruction &pending = vmx.pending;
    while (pending.fragment_next < pending.fragment_count) {
        const MmioFragment &fragment = pending.fragments[pending.fragment_next];
        if (!has_mmio_devices(*vmx.kvm) ||
            !kernel_mmio(vmx, fragment.gpa, pending.kind == PendingIo::kMmioWrite,
                         pending.data + fragment.offset, device_bytes(fragment))) {
            ask_for_fragment(vmx);
            return false;
        }
        fragment_done(pending);
    }
    pending.kind = PendingIo::kNone;
    return true;
}

} // namespace

bool access_device(vcpu_vmx &vmx, PendingIo kind, u64 gpa, u32 size)
{
    begin_access(vmx.pending, size);
    add_fragment(vmx.pending, {gpa, 0, static_cast<u8>(size)});
    vmx.pending.kind = kind;
    return serve_fragments(vmx);
}

bool next_fragment(vcpu_vmx &vmx)
{
    PendingInstruction &pending = vmx.pending;
    const MmioFragment &fragment = pending.fragments[pending.fragment_next];
    const volatile u8 *data = vmx.area->run->mmio.data;
    for (u32 i = 0; pending.kind == PendingIo::kMmioRead && i < device_bytes(fragment); i++)
        pending.data[fragment.offset + i] = data[i];
    fragment_done(pending);
    return serve_fragments(vmx);
}

// ---- Reads ------------------------------------------------------------------

void keep_read(PendingInstruction &pending)
{
    for (u32 i = 0; i < pending.access_size && pending.read_end < kMaxOperandSize; i++)
        pending.read[pending.read_end++] = pending.data[i];
    pending.reads_done++;
}

bool read_source(Emulation &e, u64 linear, u32 size, bool for_write)
{
    PendingInstruction &pending = e.pending;
    if (e.reads_used++ < pending.reads_done) {
        for (u32 i = 0; i < size && e.read_at < kMaxOperandSize; i++)
            pending.data[i] = pending.read[e.read_at++];
        return true;
    }
    Pieces pieces;
    if (!translate_operand(e, linear, size, for_write, pieces))
        return false;
    begin_access(pending, size);
    for (u32 i = 0; i < pieces.count; i++) {
        const MmioFragment &piece = pieces.piece[i];
        if (read_guest_phys(e.vmx, piece.gpa, pending.data + piece.offset, piece.size) !=
            MemoryResult::kOk)
            add_fragment(pending, piece);
    }
    pending.kind = PendingIo::kMmioRead;
    if (!serve_fragments(e.vmx)) {
        e.outcome = Outcome::to_user();
        return false;
    }
    keep_read(pending);
    e.read_at = pending.read_end;
    return true;
}

bool probe_read(Emulation &e, u64 linear, u32 size)
{
    Pieces pieces;
    return translate_operand(e, linear, size, false, pieces);
}

// ---- Writes -----------------------------------------------------------------

bool probe_write(Emulation &e, u64 linear, u32 size)
{
    Pieces pieces;
    return translate_operand(e, linear, size, true, pieces);
}

namespace {

void write_pieces(Emulation &e, const Pieces &pieces, u32 size)
{
    PendingInstruction &pending = e.pending;
    begin_access(pending, size);
    for (u32 i = 0; i < pieces.count; i++) {
        const MmioFragment &piece = pieces.piece[i];
        if (write_guest_phys(e.vmx, piece.gpa, pending.data + piece.offset, piece.size) !=
            MemoryResult::kOk)
            add_fragment(pending, piece);
    }
    pending.kind = PendingIo::kMmioWrite;
    if (!serve_fragments(e.vmx))
        e.outcome = Outcome::to_user();
}

} // namespace

bool write_destination(Emulation &e, u64 linear, u32 size)
{
    Pieces pieces;
    if (!translate_operand(e, linear, size, true, pieces))
        return false;
    write_pieces(e, pieces, size);
    return true;
}

// What isn't aligned, or is larger than 8 bytes, is written plainly: as in KVM a locked access of
// such kind, to memory that had none when the guest tried, is atomic to this vCPU only.
bool exchange_destination(Emulation &e, u64 linear, u32 size, u64 old)
{
    Pieces pieces;
    if (!translate_operand(e, linear, size, true, pieces))
        return false;
    if (size <= 8 && (linear & (size - 1)) == 0) {
        const u64 desired = load_little_endian(e.pending.data, size);
        bool swapped;
        if (cmpxchg_guest_phys(e.vmx, pieces.piece[0].gpa, old, desired, size, swapped) ==
            MemoryResult::kOk)
            return swapped;
    }
    write_pieces(e, pieces, size);
    return true;
}

} // namespace minivmx
