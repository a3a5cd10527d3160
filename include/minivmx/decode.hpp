// SPDX-License-Identifier: GPL-2.0-only
// Instruction bytes to a description of the instruction: SDM Vol. 2A, chapter 2 "Instruction
// Format". Pure: no guest state but the mode goes in. Which opcodes exist is one table a map
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
    // Arithmetic, by the three bits that choose it: bits 5:3 of the opcode or of ModRM (SDM Vol.
    // 2D, table A-6, group 1).
    kAdd,
    kOr,
    kAdc,
    kSbb,
    kAnd,
    kSub,
    kXor,
    kCmp,
    // Group 2. Number 6 is SHL once more.
    kRol,
    kRor,
    kRcl,
    kRcr,
    kShl,
    kShr,
    kSal,
    kSar,
    // Groups 3, 4, 5.
    kTest,
    kNot,
    kNeg,
    kMul, // of the accumulator
    kImul,
    kDiv,
    kIdiv,
    kInc,
    kDec,
    // The rest of integer arithmetic.
    kImulTo, // two or three operands
    kShld,
    kShrd,
    kXadd,
    kCmpxchg,
    kCmpxchgPair, // CMPXCHG8B, CMPXCHG16B
    kBt,
    kBts,
    kBtr,
    kBtc,
    kBsf,
    kBsr,
    kTzcnt, // on a CPU without it: BSF, which the same bytes are
    kLzcnt,
    // Moves.
    kMov,   // source to destination, the same size
    kMovzx, // source zero-extended to the destination's size
    kMovsx,
    kMovbe, // bytes reversed
    kXchg,
    kSetcc,
    kCmovcc,
    kPush,
    kPop,
    kStoreSegment,
    kLoadSegment,
    kPopSegment,
    kNop,       // hints, fences
    kFlushLine, // of the cache
    kLea,
    kBswap,
    kXlat,
    kSalc,
    kConvert,       // CBW, CWDE, CDQE
    kConvertDouble, // CWD, CDQ, CQO
    // Near control transfers.
    kJmp,
    kJcc,
    kCall,
    kRet,
    kLoop, // LOOP, LOOPE, LOOPNE
    kJcxz,
    // The stack.
    kPushAll,
    kPopAll,
    kPushFlags,
    kPopFlags,
    kEnter,
    kLeave,
    // Flags.
    kClc,
    kStc,
    kCmc,
    kCld,
    kStd,
    kCli,
    kSti,
    kLahf,
    kSahf,
    // Decimal and ASCII digits.
    kDaa,
    kDas,
    kAaa,
    kAas,
    kAam,
    kAad,
    // What doesn't fit elsewhere.
    kBound,
    kPause,
    kCpuid,
    kRdtsc,
    kRdtscp,
    kRdpmc,
    kIn,
    kOut,
    // The x87 FPU's control.
    kWait,
    kFninit,
    kFnclex,
    kFnstcw,
    kFnstsw,
    kFldcw,
    // Far control transfers.
    kJmpFar,
    kCallFar,
    kRetFar,
    kInt,
    kInt3,
    kInto,
    kIcebp,
    kIret,
    kSyscall,
    kSysret,
    kSysenter,
    kSysexit,
    // Segments.
    kLoadFarPointer, // LES, LDS, LSS, LFS, LGS
    kArpl,
    kLar,
    kLsl,
    kVerr,
    kVerw,
    kSwapgs,
    kReadSegmentBase, // RDFSBASE, RDGSBASE
    kWriteSegmentBase,
    // System registers and caches.
    kMovFromControl,
    kMovToControl,
    kMovFromDebug,
    kMovToDebug,
    kClts,
    kLmsw,
    kSmsw,
    kRdmsr,
    kWrmsr,
    kXgetbv,
    kXsetbv,
    kInvd,
    kWbinvd,
    kInvlpg,
    kHlt,
    kMonitor,
    kMwait,
    kClac,
    kStac,
    kVmcall,
    kRsm,
    // Extended state.
    kFxsave,
    kFxrstor,
    kLdmxcsr,
    kStmxcsr,
    // Vector registers.
    kMovVector, // whole or low parts of XMM, YMM and MMX registers
    kMovLow,    // bits 63:0 of an XMM register
    kMovHigh,   // bits 127:64
    kMovPart,   // from register to register; what isn't moved stays
    kMovHighToLow,
    kMovLowToHigh,
    // Registers of descriptor tables, in the order of the ABI's MINIVMX_SGDT and its siblings.
    kSgdt,
    kSidt,
    kLgdt,
    kLidt,
    kSldt,
    kStr,
    kLldt,
    kLtr,
    kInvpcid,
    // Known by their bytes; only the CPU can carry them out.
    kXsaves,
    kXrstors,
    // String operations: one iteration each.
    kMovs,
    kCmps,
    kStos,
    kLods,
    kScas,
    kIns,
    kOuts,
    // The architecture says #UD.
    kInvalid,
};
inline constexpr u32 kOperationCount = static_cast<u32>(Operation::kInvalid) + 1;

// SDM Vol. 2A, 2.1.2 and 2.3.6.1: which table the opcode is looked up in.
enum class OpcodeMap : u8 { kOneByte, k0F, k0F38, kVex0F, kVex0F38 };

inline constexpr u8 kNoRegister = 0xff;

enum class OperandKind : u8 {
    kNone,
    kRegister,
    kMemory,
    kImmediate,
    kSegment,
    kVector,
    kMmx,
    kRelative,   // a branch's target, relative to the next instruction: `immediate`
    kFarPointer, // a branch's target: second_immediate:immediate
    kControl,    // CR0 to CR8
    kDebug,      // DR0 to DR7
};

struct Operand {
    OperandKind kind;
    u8 size;        // bytes
    u8 reg;         // kRegister: a Gpr; kSegment: a Segment; others: the register's number
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
    OpcodeMap map;
    u8 opcode; // the last opcode byte
    bool lock;
    bool rep, repne; // F3, F2; whichever came last counts
    u8 rex;          // 0 or 40..4F; a VEX prefix's R, X, B and W are here, too
    u8 modrm;
    bool aligned;   // the memory operand must be aligned to its size: #GP
    u8 vector_size; // 16 or 32 bytes by VEX.L; 0: no VEX prefix
    Operand destination, source;
    Operand third;        // a second source
    MemoryOperand memory; // the explicit memory operand, or DS:rSI of a string operation with its
                          // segment override
    u64 immediate;        // sign-extended to 64 bits; the offset of a far pointer is not
    u16 second_immediate; // the selector of a far pointer; ENTER's nesting level
};

enum class DecodeStatus : u8 {
    kDecoded,
    kTruncated, // the bytes end before the instruction does
    kTooLong,   // more than 15 bytes: #GP
    kInvalid,   // the architecture says #UD: LOCK where it may not be, a bad VEX prefix or segment
    kUnknown,   // not in the table
};

// Decodes the instruction at the start of bytes; available bytes may be read. length counts the
// bytes looked at when the instruction is not decoded.
DecodeStatus decode_instruction(CodeMode mode, const u8 *bytes, u32 available,
                                Instruction &instruction);

} // namespace minivmx
