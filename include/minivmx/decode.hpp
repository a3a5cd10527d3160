// SPDX-License-Identifier: GPL-2.0-only
// Instruction bytes to a description of the instruction: SDM Vol. 2A, chapter 2 "Instruction
// Format". Pure: no guest state but the mode goes in. Which opcodes exist is one table
// (src/core/emulate/opcodes.cc).
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

// SDM Vol. 1, 3.6: what the code segment and EFER.LMA make the default. Real and virtual-8086 mode
// are k16.
enum class CodeMode : u8 { k16, k32, k64 };

inline constexpr u32 kMaxInstructionLength = 15; // SDM Vol. 2A, 2.3.11

enum class Operation : u8 {
    kUnknown,
    kMov,   // source to destination, the same size
    kMovzx, // source zero-extended to the destination's size
    kMovsx,
    kMovs, // string operations: one iteration each
    kStos,
    kLods,
    kIns,
    kOuts,
};

inline constexpr u8 kNoRegister = 0xff;

enum class OperandKind : u8 { kNone, kRegister, kMemory, kImmediate };

struct Operand {
    OperandKind kind;
    u8 size;        // bytes
    u8 reg;         // kRegister: a Gpr
    bool high_byte; // kRegister: AH, CH, DH, BH, which are bits 15:8 of Gpr `reg`
};

// A memory operand's address: segment:(base + index * scale + displacement), as wide as the address
// size.
struct MemoryOperand {
    u8 segment; // Segment
    u8 base;    // Gpr or kNoRegister
    u8 index;
    u8 scale;          // 1, 2, 4, 8
    bool rip_relative; // relative to the next instruction
    u64 displacement;  // sign-extended
};

struct Instruction {
    Operation operation;
    CodeMode mode;
    u8 length;       // bytes, prefixes included
    u8 operand_size; // 2, 4 or 8 bytes
    u8 address_size; // 2, 4 or 8 bytes
    u8 opcode;       // the last opcode byte
    bool two_byte;   // after 0F
    bool lock;
    bool rep, repne; // F3, F2; whichever came last counts
    u8 rex;          // 0 or 40..4F
    u8 modrm;
    Operand destination, source;
    MemoryOperand memory; // the explicit memory operand, or DS:rSI of a string operation with its
                          // segment override
    u64 immediate;        // sign-extended to 64 bits
};

enum class DecodeStatus : u8 {
    kDecoded,
    kTruncated, // the bytes end before the instruction does
    kTooLong,   // more than 15 bytes: #GP
    kInvalid,   // the architecture says #UD: LOCK where it may not be
    kUnknown,   // not in the table
};

// Decodes the instruction at the start of bytes; available bytes may be read. length counts the
// bytes looked at when the instruction is not decoded.
DecodeStatus decode_instruction(CodeMode mode, const u8 *bytes, u32 available,
                                Instruction &instruction);

} // namespace minivmx
