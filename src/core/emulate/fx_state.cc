// SPDX-License-Identifier: GPL-2.0-only
// FXSAVE and FXRSTOR, which move the state of x87, MMX and SSE to and from memory, and the two that
// move MXCSR alone. SDM Vol. 1, 10.5; Vol. 2A, "FXSAVE" with tables 3-43 to 3-46. Only memory is
// read and written in one piece: with a device the emulation fails, as in KVM.
#include "emulator.hpp"

namespace minivmx {

namespace {

// The part of the 512 bytes that the CPU itself writes.
struct FxImage {
    u16 control, status, tag, opcode;
    u64 instruction, operand;
    u32 mxcsr, mxcsr_mask;
    u8 x87[8][16];
    u8 xmm[16][16];
};
static_assert(sizeof(FxImage) == HOST_FX_IMAGE_SIZE);

constexpr u32 kFxAreaSize = 512, kFxAlignment = 16;

bool is_wide(const Emulation &e)
{
    constexpr u8 kRexW = 8;
    return (e.insn().rex & kRexW) != 0;
}

bool has_sse(Emulation &e)
{
    return (guest_cr4(e.vmx) & X86_CR4_OSFXSR) != 0;
}

// Without CR4.OSFXSR the image has MXCSR, but no XMM register; outside 64-bit mode it has eight.
u32 image_size(Emulation &e)
{
    const u32 registers = !has_sse(e) ? 0 : e.state.code_64 ? 16 : 8;
    return static_cast<u32>(sizeof(FxImage) - (16 - registers) * sizeof(FxImage::xmm[0]));
}

// SDM Vol. 2A, "FXSAVE", and 2.4.5 (exception class 5) for MXCSR. False: an exception is queued.
bool fx_allowed(Emulation &e)
{
    const Operation operation = e.insn().operation;
    const bool of_sse = operation == Operation::kLdmxcsr || operation == Operation::kStmxcsr;
    const u64 cr0 = guest_cr0(e.vmx);
    if (of_sse && (!has_sse(e) || (cr0 & X86_CR0_EM) != 0)) {
        inject_ud(e.vmx);
        return false;
    }
    if ((cr0 & (X86_CR0_EM | X86_CR0_TS)) != 0) {
        queue_exception(e.vmx, NM_VECTOR);
        return false;
    }
    return true;
}

// False: an exception is queued.
bool fx_area(Emulation &e, bool write, u64 &linear)
{
    if (!operand_linear(e, kFxAreaSize, write, linear))
        return false;
    if (linear % kFxAlignment == 0)
        return true;
    inject_gp(e.vmx);
    return false;
}

bool accessed(Emulation &e, MemoryResult result, const GuestFault &fault)
{
    if (result == MemoryResult::kFault)
        inject_fault(e.vmx, fault);
    if (result == MemoryResult::kMmio)
        e.outcome = fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
    return result == MemoryResult::kOk;
}

// SDM Vol. 1, 11.6.6: no bit that the CPU does not have. False: an exception is queued.
bool mxcsr_valid(Emulation &e, const FxImage &now, u32 mxcsr)
{
    constexpr u32 kDefaultMask = 0xffbf;
    const u32 mask = now.mxcsr_mask ? now.mxcsr_mask : kDefaultMask;
    if ((mxcsr & ~mask) == 0)
        return true;
    inject_gp(e.vmx);
    return false;
}

bool save_fx(Emulation &e)
{
    FxImage image;
    GuestFault fault;
    u64 linear;
    if (!fx_area(e, true, linear))
        return false;
    host_save_fx(&image, is_wide(e));
    return accessed(e, write_guest_virt(e.vmx, e.state, linear, &image, image_size(e), fault),
                    fault);
}

bool restore_fx(Emulation &e)
{
    FxImage now, image;
    GuestFault fault;
    u64 linear;
    if (!fx_area(e, false, linear))
        return false;
    host_save_fx(&now, is_wide(e));
    image = now;
    if (!accessed(e, read_guest_virt(e.vmx, e.state, linear, &image, image_size(e), {}, fault),
                  fault))
        return false;
    if (!mxcsr_valid(e, now, image.mxcsr))
        return false;
    host_restore_fx(&image, is_wide(e));
    return true;
}

bool load_mxcsr(Emulation &e)
{
    FxImage image;
    u64 mxcsr;
    if (!load_operand(e, e.insn().source, mxcsr))
        return false;
    host_save_fx(&image, true);
    if (!mxcsr_valid(e, image, static_cast<u32>(mxcsr)))
        return false;
    image.mxcsr = static_cast<u32>(mxcsr);
    host_restore_fx(&image, true);
    return true;
}

bool store_mxcsr(Emulation &e)
{
    FxImage image;
    host_save_fx(&image, true);
    return store_operand(e, e.insn().destination, image.mxcsr);
}

// False: an exception is queued, or `outcome` says what comes instead.
bool execute_allowed_fx(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kFxsave:
        return save_fx(e);
    case Operation::kFxrstor:
        return restore_fx(e);
    case Operation::kLdmxcsr:
        return load_mxcsr(e);
    default: // kStmxcsr
        return store_mxcsr(e);
    }
}

} // namespace

void execute_fx_state(Emulation &e)
{
    if (fx_allowed(e) && execute_allowed_fx(e))
        finish_instruction(e.vmx, e.insn().length);
}

} // namespace minivmx
