// SPDX-License-Identifier: GPL-2.0-only
#include <minivmx/decode.hpp>

#include <minivmx/vcpu.hpp>

#include "opcodes.hpp"

namespace minivmx {

namespace {

// The instruction's bytes, one after the other. After the first failure all reads give 0.
struct ByteReader {
    const u8 *bytes;
    u32 available;
    u32 at = 0;
    DecodeStatus failure = DecodeStatus::kDecoded;

    bool failed() const { return failure != DecodeStatus::kDecoded; }

    u8 next()
    {
        if (failed())
            return 0;
        if (at == kMaxInstructionLength)
            failure = DecodeStatus::kTooLong;
        else if (at == available)
            failure = DecodeStatus::kTruncated;
        return failed() ? u8{0} : bytes[at++];
    }

    u64 next_unsigned(u32 size)
    {
        u64 value = 0;
        for (u32 i = 0; i < size; i++)
            value |= u64{next()} << (8 * i);
        return value;
    }

    // size: 1 to 8
    u64 next_signed(u32 size)
    {
        const u32 unused = (64 - 8 * size) & 63;
        return static_cast<u64>(static_cast<s64>(next_unsigned(size) << unused) >> unused);
    }
};

// What the legacy prefixes say: SDM Vol. 2A, 2.1.1. Of a group the last one counts.
struct Prefixes {
    bool operand_size = false;
    bool address_size = false;
    u8 segment = kNoRegister;
};

bool read_segment_prefix(u8 byte, CodeMode mode, Prefixes &prefixes)
{
    u8 segment;
    switch (byte) {
    case 0x26:
        segment = kEs;
        break;
    case 0x2e:
        segment = kCs;
        break;
    case 0x36:
        segment = kSs;
        break;
    case 0x3e:
        segment = kDs;
        break;
    case 0x64:
        segment = kFs;
        break;
    case 0x65:
        segment = kGs;
        break;
    default:
        return false;
    }
    // ES, CS, SS and DS overrides are ignored in 64-bit mode: SDM Vol. 1, 3.3.7.1; Vol. 2A, 2.2.1.
    if (mode != CodeMode::k64 || segment == kFs || segment == kGs)
        prefixes.segment = segment;
    return true;
}

// Reads prefixes; returns the first byte of the opcode.
u8 read_prefixes(ByteReader &reader, Instruction &insn, Prefixes &prefixes)
{
    for (;;) {
        const u8 byte = reader.next();
        if (reader.failed())
            return byte;
        if (byte == 0x66) {
            prefixes.operand_size = true;
        } else if (byte == 0x67) {
            prefixes.address_size = true;
        } else if (byte == 0xf0) {
            insn.lock = true;
        } else if (byte == 0xf2 || byte == 0xf3) {
            insn.repne = byte == 0xf2;
            insn.rep = byte == 0xf3;
        } else if (!read_segment_prefix(byte, insn.mode, prefixes)) {
            // REX counts only right before the opcode: SDM Vol. 2A, 2.2.1.
            if (insn.mode != CodeMode::k64 || (byte & 0xf0) != 0x40)
                return byte;
            insn.rex = byte;
            continue;
        }
        insn.rex = 0;
    }
}

bool rex_w(const Instruction &insn)
{
    return (insn.rex & 8) != 0;
}
u8 rex_r(const Instruction &insn)
{
    return insn.rex << 1 & 8;
}
u8 rex_x(const Instruction &insn)
{
    return insn.rex << 2 & 8;
}
u8 rex_b(const Instruction &insn)
{
    return insn.rex << 3 & 8;
}

// SDM Vol. 1, 3.6, tables 3-3 and 3-4.
void set_sizes(Instruction &insn, const Prefixes &prefixes)
{
    switch (insn.mode) {
    case CodeMode::k16:
        insn.operand_size = prefixes.operand_size ? 4 : 2;
        insn.address_size = prefixes.address_size ? 4 : 2;
        break;
    case CodeMode::k32:
        insn.operand_size = prefixes.operand_size ? 2 : 4;
        insn.address_size = prefixes.address_size ? 2 : 4;
        break;
    case CodeMode::k64:
        insn.operand_size = rex_w(insn) ? 8 : prefixes.operand_size ? 2 : 4;
        insn.address_size = prefixes.address_size ? 4 : 8;
        break;
    }
}

u8 operand_bytes(SizeCode size, const Instruction &insn)
{
    switch (size) {
    case SizeCode::kB:
        return 1;
    case SizeCode::kW:
        return 2;
    case SizeCode::kV:
        return insn.operand_size;
    case SizeCode::kZ:
        return insn.operand_size == 2 ? 2 : 4;
    case SizeCode::kNone:
        break;
    }
    return 0;
}

// ---- Memory operands --------------------------------------------------------

u8 modrm_mod(const Instruction &insn)
{
    return insn.modrm >> 6;
}
u8 modrm_reg(const Instruction &insn)
{
    return insn.modrm >> 3 & 7;
}
u8 modrm_rm(const Instruction &insn)
{
    return insn.modrm & 7;
}

// SDM Vol. 2A, table 2-1 "16-Bit Addressing Forms with the ModR/M Byte".
void read_memory_16(ByteReader &reader, Instruction &insn)
{
    static constexpr u8 kBase[] = {kRbx, kRbx, kRbp, kRbp, kRsi, kRdi, kRbp, kRbx};
    static constexpr u8 kIndex[] = {kRsi,        kRdi,        kRsi,        kRdi,
                                    kNoRegister, kNoRegister, kNoRegister, kNoRegister};
    const u8 mod = modrm_mod(insn);
    const u8 rm = modrm_rm(insn);
    MemoryOperand &memory = insn.memory;
    if (mod == 0 && rm == 6) {
        memory.displacement = reader.next_signed(2);
        return;
    }
    memory.base = kBase[rm];
    memory.index = kIndex[rm];
    if (mod != 0)
        memory.displacement = reader.next_signed(mod);
}

// Table 2-3 "32-Bit Addressing Forms with the SIB Byte".
void read_sib(ByteReader &reader, Instruction &insn, bool &base_is_displacement)
{
    const u8 sib = reader.next();
    const u8 index = (sib >> 3 & 7) | rex_x(insn);
    if (index != kRsp)
        insn.memory.index = index;
    insn.memory.scale = static_cast<u8>(1 << (sib >> 6));
    base_is_displacement = (sib & 7) == 5 && modrm_mod(insn) == 0;
    if (!base_is_displacement)
        insn.memory.base = (sib & 7) | rex_b(insn);
}

// Table 2-2 "32-Bit Addressing Forms with the ModR/M Byte"; 2.2.1.6 "RIP-Relative Addressing".
void read_memory_32(ByteReader &reader, Instruction &insn)
{
    const u8 mod = modrm_mod(insn);
    const u8 rm = modrm_rm(insn);
    bool displacement_32 = mod == 2;
    if (rm == 4) {
        bool base_is_displacement;
        read_sib(reader, insn, base_is_displacement);
        displacement_32 |= base_is_displacement;
    } else if (mod == 0 && rm == 5) {
        displacement_32 = true;
        insn.memory.rip_relative = insn.mode == CodeMode::k64;
    } else {
        insn.memory.base = rm | rex_b(insn);
    }
    if (mod == 1)
        insn.memory.displacement = reader.next_signed(1);
    else if (displacement_32)
        insn.memory.displacement = reader.next_signed(4);
}

// SDM Vol. 1, 3.7.4, table 3-5: the stack segment where RSP or RBP is the base.
u8 default_segment(const MemoryOperand &memory)
{
    return memory.base == kRsp || memory.base == kRbp ? kSs : kDs;
}

// ---- Operands ---------------------------------------------------------------

Operand register_operand(const Instruction &insn, u8 reg, u8 size)
{
    // Without REX, byte registers 4 to 7 are AH, CH, DH and BH.
    if (size == 1 && insn.rex == 0 && reg >= 4)
        return {OperandKind::kRegister, 1, static_cast<u8>(reg - 4), true};
    return {OperandKind::kRegister, size, reg, false};
}

bool has_modrm(const OpcodeRow &row)
{
    auto in_modrm = [](OperandCode code) {
        return code == OperandCode::kE || code == OperandCode::kG;
    };
    return in_modrm(row.destination.code) || in_modrm(row.source.code);
}

void read_modrm(ByteReader &reader, Instruction &insn)
{
    insn.modrm = reader.next();
    if (modrm_mod(insn) == 3)
        return;
    if (insn.address_size == 2)
        read_memory_16(reader, insn);
    else
        read_memory_32(reader, insn);
    insn.memory.segment = default_segment(insn.memory);
}

Operand make_operand(ByteReader &reader, Instruction &insn, OperandSpec spec)
{
    const u8 size = operand_bytes(spec.size, insn);
    const Operand memory = {OperandKind::kMemory, size, kNoRegister, false};
    switch (spec.code) {
    case OperandCode::kE:
        return modrm_mod(insn) == 3 ? register_operand(insn, modrm_rm(insn) | rex_b(insn), size)
                                    : memory;
    case OperandCode::kG:
        return register_operand(insn, modrm_reg(insn) | rex_r(insn), size);
    case OperandCode::kI:
        insn.immediate = reader.next_signed(size);
        return {OperandKind::kImmediate, size, kNoRegister, false};
    case OperandCode::kO:
        insn.memory.segment = kDs;
        insn.memory.displacement = reader.next_unsigned(insn.address_size);
        return memory;
    case OperandCode::kX:
        insn.memory.segment = kDs;
        insn.memory.base = kRsi;
        return memory;
    case OperandCode::kY:
        return memory; // ES:rDI, which no prefix changes
    case OperandCode::kAccumulator:
        return {OperandKind::kRegister, size, kRax, false};
    case OperandCode::kDx:
        return {OperandKind::kRegister, 2, kRdx, false};
    case OperandCode::kNone:
        break;
    }
    return {OperandKind::kNone, 0, kNoRegister, false};
}

const OpcodeRow &read_opcode(ByteReader &reader, Instruction &insn, u8 first)
{
    insn.opcode = first;
    insn.two_byte = first == 0x0f;
    if (insn.two_byte)
        insn.opcode = reader.next();
    return find_opcode(insn.two_byte, insn.opcode);
}

bool is_known(const OpcodeRow &row, const Instruction &insn)
{
    return row.operation != Operation::kUnknown && (!row.only_64 || insn.mode == CodeMode::k64);
}

DecodeStatus decode(ByteReader &reader, Instruction &insn)
{
    Prefixes prefixes;
    const u8 first = read_prefixes(reader, insn, prefixes);
    const OpcodeRow &row = read_opcode(reader, insn, first);
    if (reader.failed())
        return reader.failure;
    if (!is_known(row, insn))
        return DecodeStatus::kUnknown;

    set_sizes(insn, prefixes);
    if (has_modrm(row))
        read_modrm(reader, insn);
    if (!reader.failed() && row.extension != kAnyExtension && modrm_reg(insn) != row.extension)
        return DecodeStatus::kUnknown;
    insn.destination = make_operand(reader, insn, row.destination);
    insn.source = make_operand(reader, insn, row.source);
    if (prefixes.segment != kNoRegister)
        insn.memory.segment = prefixes.segment;
    if (reader.failed())
        return reader.failure;
    // LOCK goes with read-modify-write instructions only, of which the table has none: SDM Vol. 2A,
    // LOCK.
    if (insn.lock)
        return DecodeStatus::kInvalid;
    insn.operation = row.operation;
    return DecodeStatus::kDecoded;
}

} // namespace

DecodeStatus decode_instruction(CodeMode mode, const u8 *bytes, u32 available,
                                Instruction &instruction)
{
    instruction = Instruction{};
    instruction.mode = mode;
    instruction.memory.base = instruction.memory.index = kNoRegister;
    instruction.memory.scale = 1;
    ByteReader reader{bytes, available};
    const DecodeStatus status = decode(reader, instruction);
    instruction.length = static_cast<u8>(reader.at);
    return status;
}

} // namespace minivmx
