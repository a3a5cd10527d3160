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
u32 code_bytes_left(const vcpu_vmx &vmx, const AddressState &state, u64 offset, u32 wanted)
{
    if (state.code_64)
        return wanted;
    const u64 limit = segment_limit(vmx, kCs);
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

// What came of fetching and decoding.
struct Fetched {
    CodeBytes code;
    MemoryResult result = MemoryResult::kOk; // of the fetch; only then counts:
    DecodeStatus status = DecodeStatus::kUnknown;
    GuestFault fault{};
};

bool read_code(vcpu_vmx &vmx, const AddressState &state, Fetched &fetched, u32 n)
{
    CodeBytes &code = fetched.code;
    const u64 offset = read_rip(vmx) + code.count;
    n = code_bytes_left(vmx, state, offset, n);
    u64 linear;
    fetched.result =
        segment_to_linear(vmx, state, kCs, state.code_64 ? offset : static_cast<u32>(offset),
                          n ? n : 1, kFetch, linear, fetched.fault);
    if (fetched.result == MemoryResult::kOk)
        fetched.result =
            read_guest_virt(vmx, state, linear, code.bytes + code.count, n, kFetch, fetched.fault);
    if (fetched.result != MemoryResult::kOk)
        return false;
    code.count += n;
    return true;
}

void fetch(vcpu_vmx &vmx, const AddressState &state, Instruction &insn, Fetched &fetched)
{
    const u32 page_room = static_cast<u32>(kPageSize - (linear_rip(vmx) & (kPageSize - 1)));
    CodeBytes &code = fetched.code;
    if (!read_code(vmx, state, fetched,
                   page_room < kMaxInstructionLength ? page_room : kMaxInstructionLength))
        return;
    const CodeMode mode = code_mode(state);
    fetched.status = decode_instruction(mode, code.bytes, code.count, insn);
    if (fetched.status != DecodeStatus::kTruncated)
        return;
    if (read_code(vmx, state, fetched, kMaxInstructionLength - code.count))
        fetched.status = decode_instruction(mode, code.bytes, code.count, insn);
}

} // namespace

bool peek_instruction(vcpu_vmx &vmx, const AddressState &state, Instruction &insn)
{
    Fetched fetched;
    fetch(vmx, state, insn, fetched);
    return fetched.result == MemoryResult::kOk && fetched.status == DecodeStatus::kDecoded;
}

bool fetch_and_decode(Emulation &e)
{
    Fetched fetched;
    const CodeBytes &code = fetched.code;
    fetch(e.vmx, e.state, e.pending.instruction, fetched);
    if (fetched.result == MemoryResult::kFault) {
        inject_fault(e.vmx, fetched.fault);
        return false;
    }
    if (fetched.result == MemoryResult::kMmio) {
        e.outcome = fail_emulation(e.vmx, code.bytes, code.count);
        return false;
    }
    e.pending.code_size = static_cast<u8>(code.count);
    for (u32 i = 0; i < code.count; i++)
        e.pending.code[i] = code.bytes[i];
    switch (fetched.status) {
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
