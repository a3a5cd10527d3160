// SPDX-License-Identifier: GPL-2.0-only
// The opcodes we know, in the notation of SDM Vol. 2D, Appendix A "Opcode Map".
#pragma once

#include <minivmx/decode.hpp>

namespace minivmx {

// Where an operand is: SDM Vol. 2D, A.2.1 "Codes for Addressing Method".
enum class OperandCode : u8 {
    kNone,
    kE, // ModRM.rm: register or memory
    kG, // ModRM.reg
    kI, // immediate
    kO, // memory at an offset in the instruction
    kX, // DS:rSI
    kY, // ES:rDI
    kAccumulator,
    kDx, // the port in DX
};

// How large it is: A.2.2 "Codes for Operand Type".
enum class SizeCode : u8 {
    kNone,
    kB, // byte
    kW, // word
    kV, // 2, 4 or 8 bytes: the operand size
    kZ, // 2 or 4 bytes: 4 when the operand size is 8
};

struct OperandSpec {
    OperandCode code;
    SizeCode size;
};

// Which values of ModRM.reg select the row; any, or one.
inline constexpr u8 kAnyExtension = 0xff;

struct OpcodeRow {
    u8 opcode;
    Operation operation; // kUnknown: no such row
    OperandSpec destination, source;
    u8 extension = kAnyExtension;
    bool only_64 = false; // another instruction outside 64-bit mode
};

// The row of an opcode, or one whose operation is kUnknown.
const OpcodeRow &find_opcode(bool two_byte, u8 opcode);

} // namespace minivmx
