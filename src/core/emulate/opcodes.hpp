// SPDX-License-Identifier: GPL-2.0-only
// The opcodes we know, in the notation of SDM Vol. 2D, Appendix A "Opcode Map".
#pragma once

#include <minivmx/decode.hpp>

namespace minivmx {

// Where an operand is: SDM Vol. 2D, A.2.1 "Codes for Addressing Method".
enum class OperandCode : u8 {
    kNone,
    kE,               // ModRM.rm: register or memory
    kG,               // ModRM.reg
    kI,               // immediate
    kO,               // memory at an offset in the instruction
    kX,               // DS:rSI
    kY,               // ES:rDI
    kZ,               // the register in the opcode's low three bits
    kS,               // ModRM.reg: a segment register
    kV,               // ModRM.reg: an XMM or YMM register
    kH,               // VEX.vvvv: an XMM register
    kP,               // ModRM.reg: an MMX register
    kW,               // ModRM.rm: an XMM or YMM register; ModRM.mod is 3
    kN,               // ModRM.rm: an MMX register; ModRM.mod is 3
    kR,               // ModRM.rm: a register, whatever ModRM.mod
    kC,               // ModRM.reg: a control register
    kD,               // ModRM.reg: a debug register
    kJ,               // a branch's target, relative to the next instruction
    kA,               // a far pointer in the instruction
    kSegmentOfOpcode, // a segment register by bits 5:3 of the opcode
    kSecondImmediate,
    kAccumulator,
    kTranslated, // XLAT's: DS:rBX + AL
    kDx,         // the port in DX
    kCl,
    kOne, // the number 1
};

// How large it is: A.2.2 "Codes for Operand Type".
enum class SizeCode : u8 {
    kNone,
    kB,     // byte
    kW,     // word
    kD,     // doubleword
    kQ,     // quadword
    kV,     // 2, 4 or 8 bytes: the operand size
    kZ,     // 2 or 4 bytes: 4 when the operand size is 8
    kY,     // 4 bytes, 8 with REX.W
    kX,     // 16 bytes, or 32 by VEX.L
    kPair,  // 8 bytes, 16 with REX.W
    kWv,    // a word in memory, the operand size in a register
    kFull,  // 4 bytes, 8 in 64-bit code
    kTable, // 6 bytes, 10 in 64-bit code: a limit and a base
    kFar,   // the operand size and 2 more: an offset and a selector
};

struct OperandSpec {
    OperandCode code = OperandCode::kNone;
    SizeCode size = SizeCode::kNone;

    constexpr bool in_modrm() const
    {
        return code == OperandCode::kE || code == OperandCode::kG || code == OperandCode::kR ||
               code == OperandCode::kW || code == OperandCode::kN;
    }
};

enum OpcodeFlag : u32 {
    kMayLock = 1 << 0,    // LOCK is allowed if the destination is in memory
    kByOpcode = 1 << 1,   // bits 5:3 of the opcode count the operation on
    kByModrm = 1 << 2,    // ModRM.reg counts the operation on
    kDefault64 = 1 << 3,  // the operand size in 64-bit code is 8: SDM Vol. 2A, 2.2.1.7
    kOnly64 = 1 << 4,     // another instruction outside 64-bit code
    kNot64 = 1 << 5,      // another instruction in 64-bit code
    kMemoryOnly = 1 << 6, // ModRM.rm must be memory; the register form is another instruction, or
                          // one that never touches memory
    kMustAlign = 1 << 7,  // #GP if the memory operand isn't aligned
    kVector128 = 1 << 8,  // VEX.L must be 0
    // The mandatory prefixes that select the row (SDM Vol. 2D, A.2.4.2); none of these: any prefix.
    kNoPrefix = 1 << 9,
    kPrefix66 = 1 << 10,
    kPrefixF3 = 1 << 11,
    kPrefixF2 = 1 << 12,
    kAnyOfPrefixes = kNoPrefix | kPrefix66 | kPrefixF3 | kPrefixF2,
    kForce64 = 1 << 13,      // the operand size in 64-bit code is 8, whatever the prefixes
    kInvalid64 = 1 << 14,    // #UD in 64-bit code
    kRegisterOnly = 1 << 15, // ModRM.rm must be a register
    kModrm = 1 << 16,        // a ModRM byte without operands in it
    kNoRexB = 1 << 17,       // another instruction with REX.B
};

// Which values of ModRM.reg select the row: any, or one. From C0 on it is the whole ModRM byte.
inline constexpr u8 kAnyExtension = 0xff, kWholeModrm = 0xc0;

struct OpcodeRow {
    u8 opcode;
    Operation operation;
    OperandSpec destination{}, source{}, third{};
    u32 flags = 0; // OpcodeFlag
    u8 extension = kAnyExtension;
    u8 mask = 0xff; // which bits of the opcode byte must be those of `opcode`

    constexpr bool has(u32 flag) const { return (flags & flag) != 0; }
    constexpr bool has_opcode(u8 byte) const { return (byte & mask) == opcode; }
    constexpr bool has_modrm() const
    {
        return has(kModrm) || destination.in_modrm() || source.in_modrm() || third.in_modrm();
    }
    constexpr bool may_have_memory() const
    {
        return has_modrm() && destination.code != OperandCode::kR && source.code != OperandCode::kR;
    }
    constexpr bool has_extension(u8 modrm) const
    {
        if (extension == kAnyExtension)
            return true;
        return extension == (extension >= kWholeModrm ? modrm : modrm >> 3 & 7);
    }
};

// The rows of an opcode: the first that fits is the instruction. All of them have a ModRM byte, or
// none.
Span<const OpcodeRow> find_opcode(OpcodeMap map, u8 opcode);

} // namespace minivmx
