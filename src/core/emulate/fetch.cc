// SPDX-License-Identifier: GPL-2.0-only
// From CS:RIP to a decoded instruction.
#include <minivmx/segment.hpp>

#include "emulator.hpp"

namespace minivmx {

namespace {

constexpr Access kFetch{.fetch = true};

CodeMode code_mode(const AddressState &state)
{
    if (state.code_64)
        return CodeMode::k64;
    return (state.cs_rights & AR_DB) != 0 ? CodeMode::k32 : CodeMode::k16;
}

// How many bytes, up to `wanted`, the code segment holds from this offset on.
u32 code_bytes_left(const AddressState &state, u64 offset, u32 wanted)
{
    if (state.code_64)
        return wanted;
    const u64 limit = vmcs_read(GUEST_CS_LIMIT);
    if (offset > limit)
        return 0;
    return limit - offset + 1 < wanted ? static_cast<u32>(limit - offset + 1) : wanted;
}

// Up to 15 bytes of code, in at most two reads, the second only if the first page ends inside the
// instruction.
struct CodeBytes {
    u8 bytes[kMaxInstructionLength] = {};
    u32 count = 0;
};

bool read_code(Emulation &e, CodeBytes &code, u32 n)
{
    const u64 offset = read_rip(e.vmx) + code.count;
    n = code_bytes_left(e.state, offset, n);
    u64 linear;
    GuestFault fault;
    MemoryResult result =
        segment_to_linear(e.state, kCs, e.state.code_64 ? offset : static_cast<u32>(offset),
                          n ? n : 1, kFetch, linear, fault);
    if (result == MemoryResult::kOk)
        result = read_guest_virt(e.vmx, e.state, linear, code.bytes + code.count, n, kFetch, fault);
    if (result == MemoryResult::kFault) {
        inject_fault(e.vmx, fault);
        return false;
    }
    if (result == MemoryResult::kMmio) {
        e.outcome = fail_emulation(e.vmx, code.bytes, code.count);
        return false;
    }
    code.count += n;
    return true;
}

} // namespace

bool fetch_and_decode(Emulation &e)
{
    CodeBytes code;
    Instruction &insn = e.pending.instruction;
    e.pending.linear_rip = linear_rip(e.vmx);
    const u32 page_room = static_cast<u32>(kPageSize - (e.pending.linear_rip & (kPageSize - 1)));
    if (!read_code(e, code, page_room < kMaxInstructionLength ? page_room : kMaxInstructionLength))
        return false;

    const CodeMode mode = code_mode(e.state);
    DecodeStatus status = decode_instruction(mode, code.bytes, code.count, insn);
    if (status == DecodeStatus::kTruncated) {
        if (!read_code(e, code, kMaxInstructionLength - code.count))
            return false;
        status = decode_instruction(mode, code.bytes, code.count, insn);
    }
    e.pending.code_size = static_cast<u8>(code.count);
    for (u32 i = 0; i < code.count; i++)
        e.pending.code[i] = code.bytes[i];
    switch (status) {
    case DecodeStatus::kDecoded:
        return true;
    case DecodeStatus::kInvalid:
        inject_ud(e.vmx);
        return false;
    case DecodeStatus::kTooLong:
    case DecodeStatus::kTruncated: // by the segment's limit
        inject_gp(e.vmx);
        return false;
    case DecodeStatus::kUnknown:
        break;
    }
    e.outcome = fail_emulation(e.vmx, code.bytes, code.count);
    return false;
}

} // namespace minivmx
