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

    u64 next_signed(u32 size) { return sign_extend(next_unsigned(size), size); }
};

// What the legacy prefixes say: SDM Vol. 2A, 2.1.1. Of a group the last one counts.
struct Prefixes {
    bool operand_size = false;
    bool address_size = false;
    u8 segment = kNoRegister;
    u8 mandatory = 0; // as VEX.pp: 0 none, 1 66, 2 F3, 3 F2
    u8 vex_register = 0;
    bool vex_allowed = true; // no prefix that VEX must not follow
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

// ---- The opcode -------------------------------------------------------------

// SDM Vol. 2A, 2.3.5: C5 and C4 are prefixes in 64-bit code, and elsewhere where LDS and LES would
// have a register operand.
bool is_vex(const ByteReader &reader, const Instruction &insn, u8 byte)
{
    if ((byte & 0xfe) != 0xc4)
        return false;
    return insn.mode == CodeMode::k64 ||
           (reader.at < reader.available && reader.bytes[reader.at] >> 6 == 3);
}

// The rest of a VEX prefix and the opcode. False: there is no such map. R, X, B and vvvv are
// stored inverted.
bool read_vex(ByteReader &reader, Instruction &insn, Prefixes &prefixes, u8 first)
{
    prefixes.vex_allowed = insn.rex == 0 && prefixes.mandatory == 0 && !insn.lock;
    const u8 byte1 = reader.next();
    u8 map = 1;
    u8 last = byte1;
    insn.rex = 0x40 | ((byte1 & 0x80) != 0 ? 0 : 4);
    if (first == 0xc4) {
        last = reader.next();
        map = byte1 & 0x1f;
        insn.rex |= ~byte1 >> 5 & 3;
        insn.rex |= last >> 4 & 8;
    }
    if (insn.mode != CodeMode::k64)
        insn.rex = 0x40; // eight registers only
    prefixes.vex_register = ~last >> 3 & 15;
    prefixes.mandatory = last & 3;
    insn.vector_size = (last & 4) != 0 ? 32 : 16;
    insn.map = map == 1 ? OpcodeMap::kVex0F : OpcodeMap::kVex0F38;
    insn.opcode = reader.next();
    return map == 1 || map == 2;
}

// False: the bytes lead to a map we don't have.
bool read_opcode(ByteReader &reader, Instruction &insn, Prefixes &prefixes, u8 first)
{
    prefixes.mandatory = insn.repne ? 3 : insn.rep ? 2 : prefixes.operand_size ? 1 : 0;
    insn.opcode = first;
    if (is_vex(reader, insn, first))
        return read_vex(reader, insn, prefixes, first);
    if (first != 0x0f)
        return true;
    insn.map = OpcodeMap::k0F;
    insn.opcode = reader.next();
    if (insn.opcode == 0x38) {
        insn.map = OpcodeMap::k0F38;
        insn.opcode = reader.next();
    }
    return true;
}

bool row_fits(const OpcodeRow &row, const Instruction &insn, const Prefixes &prefixes)
{
    if (row.has(insn.mode == CodeMode::k64 ? kNot64 : kOnly64))
        return false;
    if (row.has(kNoRexB) && rex_b(insn))
        return false;
    if (row.has(kAnyOfPrefixes) && !row.has(kNoPrefix << prefixes.mandatory))
        return false;
    if (row.has(modrm_mod(insn) == 3 ? kMemoryOnly : kRegisterOnly))
        return false;
    if (row.has(kVector128) && insn.vector_size != 16)
        return false;
    return row.has_extension(insn.modrm);
}

const OpcodeRow *choose_row(Span<const OpcodeRow> rows, const Instruction &insn,
                            const Prefixes &prefixes)
{
    for (const OpcodeRow &row : rows)
        if (row_fits(row, insn, prefixes))
            return &row;
    return nullptr;
}

Operation operation_of(const OpcodeRow &row, const Instruction &insn)
{
    u8 offset = 0;
    if (row.has(kByOpcode))
        offset = insn.opcode >> 3 & 7;
    else if (row.has(kByModrm))
        offset = modrm_reg(insn);
    return static_cast<Operation>(static_cast<u8>(row.operation) + offset);
}

// SDM Vol. 1, 3.6, tables 3-3 and 3-4.
void set_sizes(Instruction &insn, const Prefixes &prefixes, const OpcodeRow &row)
{
    const u8 default_64 = row.has(kDefault64) ? 8 : 4;
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
        insn.operand_size = rex_w(insn) || row.has(kForce64) ? 8
                            : prefixes.operand_size          ? 2
                                                             : default_64;
        insn.address_size = prefixes.address_size ? 4 : 8;
        break;
    }
}

// ---- Memory operands --------------------------------------------------------

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

u8 operand_bytes(SizeCode size, const Instruction &insn)
{
    switch (size) {
    case SizeCode::kB:
        return 1;
    case SizeCode::kW:
        return 2;
    case SizeCode::kD:
        return 4;
    case SizeCode::kQ:
        return 8;
    case SizeCode::kV:
        return insn.operand_size;
    case SizeCode::kZ:
        return insn.operand_size == 2 ? 2 : 4;
    case SizeCode::kY:
        return rex_w(insn) ? 8 : 4;
    case SizeCode::kX:
        return insn.vector_size != 0 ? insn.vector_size : 16;
    case SizeCode::kPair:
        return rex_w(insn) ? 16 : 8;
    case SizeCode::kWv:
        return modrm_mod(insn) == 3 ? insn.operand_size : 2;
    case SizeCode::kFull:
        return insn.mode == CodeMode::k64 ? 8 : 4;
    case SizeCode::kTable:
        return insn.mode == CodeMode::k64 ? 10 : 6;
    case SizeCode::kFar:
        return insn.operand_size + 2;
    case SizeCode::kNone:
        break;
    }
    return 0;
}

void read_memory_operand(ByteReader &reader, Instruction &insn)
{
    if (modrm_mod(insn) == 3)
        return;
    if (insn.address_size == 2)
        read_memory_16(reader, insn);
    else
        read_memory_32(reader, insn);
    insn.memory.segment = default_segment(insn.memory);
}

Operand make_operand(ByteReader &reader, Instruction &insn, const Prefixes &prefixes,
                     OperandSpec spec)
{
    const u8 size = operand_bytes(spec.size, insn);
    const u8 reg = modrm_reg(insn) | rex_r(insn);
    const Operand memory = {OperandKind::kMemory, size, kNoRegister, false};
    switch (spec.code) {
    case OperandCode::kE:
        return modrm_mod(insn) == 3 ? register_operand(insn, modrm_rm(insn) | rex_b(insn), size)
                                    : memory;
    case OperandCode::kG:
        return register_operand(insn, reg, size);
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
    case OperandCode::kZ:
        return register_operand(insn, (insn.opcode & 7) | rex_b(insn), size);
    case OperandCode::kS:
        return {OperandKind::kSegment, size, modrm_reg(insn), false};
    case OperandCode::kV:
        return {OperandKind::kVector, size, reg, false};
    case OperandCode::kH:
        return {OperandKind::kVector, size,
                static_cast<u8>(prefixes.vex_register & (insn.mode == CodeMode::k64 ? 15 : 7)),
                false};
    case OperandCode::kP:
        return {OperandKind::kMmx, size, modrm_reg(insn), false};
    case OperandCode::kW:
        return {OperandKind::kVector, size, static_cast<u8>(modrm_rm(insn) | rex_b(insn)), false};
    case OperandCode::kN:
        return {OperandKind::kMmx, size, modrm_rm(insn), false};
    case OperandCode::kR:
        return register_operand(insn, modrm_rm(insn) | rex_b(insn), size);
    case OperandCode::kC:
        return {OperandKind::kControl, size, reg, false};
    case OperandCode::kD:
        return {OperandKind::kDebug, size, reg, false};
    case OperandCode::kJ:
        insn.immediate = reader.next_signed(size);
        return {OperandKind::kRelative, size, kNoRegister, false};
    case OperandCode::kA:
        insn.immediate = reader.next_unsigned(insn.operand_size);
        insn.second_immediate = static_cast<u16>(reader.next_unsigned(2));
        return {OperandKind::kFarPointer, size, kNoRegister, false};
    case OperandCode::kSegmentOfOpcode:
        return {OperandKind::kSegment, size, static_cast<u8>(insn.opcode >> 3 & 7), false};
    case OperandCode::kSecondImmediate:
        insn.second_immediate = static_cast<u16>(reader.next_unsigned(size));
        return {OperandKind::kNone, size, kNoRegister, false};
    case OperandCode::kTranslated:
        insn.memory.segment = kDs;
        insn.memory.base = kRbx;
        return memory;
    case OperandCode::kAccumulator:
        return {OperandKind::kRegister, size, kRax, false};
    case OperandCode::kDx:
        return {OperandKind::kRegister, 2, kRdx, false};
    case OperandCode::kCl:
        return {OperandKind::kRegister, 1, kRcx, false};
    case OperandCode::kOne:
        insn.immediate = 1;
        return {OperandKind::kImmediate, 1, kNoRegister, false};
    case OperandCode::kNone:
        break;
    }
    return {OperandKind::kNone, 0, kNoRegister, false};
}

// SDM Vol. 2B, "MOV - Move to/from Control Registers", "MOV - Move to/from Debug Registers".
bool has_system_register(const Operand &operand)
{
    constexpr u32 kControlRegisters = bit32(0) | bit32(2) | bit32(3) | bit32(4) | bit32(8);
    if (operand.kind == OperandKind::kControl)
        return (kControlRegisters >> operand.reg & 1) != 0;
    return operand.kind != OperandKind::kDebug || operand.reg < 8;
}

// What makes a known instruction invalid: #UD.
bool is_valid(const OpcodeRow &row, const Instruction &insn, const Prefixes &prefixes)
{
    // SDM Vol. 2A, "LOCK": read-modify-write of memory only.
    const bool may_lock = row.has(kMayLock) && insn.operation != Operation::kCmp &&
                          insn.destination.kind == OperandKind::kMemory;
    if (insn.lock && !may_lock)
        return false;
    if (insn.operation == Operation::kInvalid ||
        (row.has(kInvalid64) && insn.mode == CodeMode::k64))
        return false;
    // There are six segment registers, and MOV does not load CS: SDM Vol. 2B, "MOV".
    if (insn.operation == Operation::kStoreSegment && insn.source.reg > kGs)
        return false;
    if (insn.operation == Operation::kLoadSegment &&
        (insn.destination.reg > kGs || insn.destination.reg == kCs))
        return false;
    if (!has_system_register(insn.destination) || !has_system_register(insn.source))
        return false;
    if (insn.vector_size == 0)
        return true;
    // SDM Vol. 2A, 2.3.2, 2.3.3 and 2.3.8: vvvv must be 1111 where it names no operand.
    return prefixes.vex_allowed &&
           (row.third.code == OperandCode::kH || prefixes.vex_register == 0);
}

DecodeStatus decode(ByteReader &reader, Instruction &insn)
{
    Prefixes prefixes;
    const u8 first = read_prefixes(reader, insn, prefixes);
    const bool known_map = read_opcode(reader, insn, prefixes, first);
    if (reader.failed())
        return reader.failure;
    const Span<const OpcodeRow> rows = find_opcode(insn.map, insn.opcode);
    if (!known_map || rows.empty())
        return DecodeStatus::kUnknown;

    if (rows[0].has_modrm())
        insn.modrm = reader.next();
    if (reader.failed())
        return reader.failure;
    const OpcodeRow *row = choose_row(rows, insn, prefixes);
    if (!row)
        return DecodeStatus::kUnknown;

    insn.operation = operation_of(*row, insn);
    insn.aligned = row->has(kMustAlign);
    set_sizes(insn, prefixes, *row);
    if (row->may_have_memory())
        read_memory_operand(reader, insn);
    insn.destination = make_operand(reader, insn, prefixes, row->destination);
    insn.source = make_operand(reader, insn, prefixes, row->source);
    insn.third = make_operand(reader, insn, prefixes, row->third);
    if (prefixes.segment != kNoRegister)
        insn.memory.segment = prefixes.segment;
    if (reader.failed())
        return reader.failure;
    return is_valid(*row, insn, prefixes) ? DecodeStatus::kDecoded : DecodeStatus::kInvalid;
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
