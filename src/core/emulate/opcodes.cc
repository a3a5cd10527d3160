// SPDX-License-Identifier: GPL-2.0-only
// One table a map. Rows of one opcode stand together; the first one that fits counts.
#include "opcodes.hpp"

namespace minivmx {

namespace {

namespace opcode_rows {

using enum Operation;
using C = OperandCode;
using S = SizeCode;

constexpr OperandSpec kNo{};
constexpr OperandSpec Eb{C::kE, S::kB}, Ew{C::kE, S::kW}, Ev{C::kE, S::kV}, Ez{C::kE, S::kZ},
    Ey{C::kE, S::kY}, Eq{C::kE, S::kQ}, Ed{C::kE, S::kD}, Ex{C::kE, S::kX}, Epair{C::kE, S::kPair},
    Ewv{C::kE, S::kWv}, Etable{C::kE, S::kTable}, Efar{C::kE, S::kFar};
constexpr OperandSpec Gb{C::kG, S::kB}, Gw{C::kG, S::kW}, Gv{C::kG, S::kV}, Gy{C::kG, S::kY},
    Gfull{C::kG, S::kFull};
constexpr OperandSpec Ib{C::kI, S::kB}, Iw{C::kI, S::kW}, Iz{C::kI, S::kZ}, Iv{C::kI, S::kV},
    Ib2{C::kSecondImmediate, S::kB};
constexpr OperandSpec Jb{C::kJ, S::kB}, Jz{C::kJ, S::kZ}, Ap{C::kA, S::kFar};
constexpr OperandSpec Rfull{C::kR, S::kFull}, Ry{C::kR, S::kY}, Cfull{C::kC, S::kFull},
    Dfull{C::kD, S::kFull}, Seg{C::kSegmentOfOpcode, S::kW};
constexpr OperandSpec Ob{C::kO, S::kB}, Ov{C::kO, S::kV};
constexpr OperandSpec Xb{C::kX, S::kB}, Xv{C::kX, S::kV}, Xz{C::kX, S::kZ};
constexpr OperandSpec Yb{C::kY, S::kB}, Yv{C::kY, S::kV}, Yz{C::kY, S::kZ};
constexpr OperandSpec Zb{C::kZ, S::kB}, Zv{C::kZ, S::kV};
constexpr OperandSpec AL{C::kAccumulator, S::kB}, AX{C::kAccumulator, S::kW},
    rAX{C::kAccumulator, S::kV}, eAX{C::kAccumulator, S::kZ};
constexpr OperandSpec BxAl{C::kTranslated, S::kB};
constexpr OperandSpec DX{C::kDx, S::kW}, CL{C::kCl, S::kB}, One{C::kOne, S::kB}, Sw{C::kS, S::kW};
constexpr OperandSpec Vd{C::kV, S::kD}, Vq{C::kV, S::kQ}, Vy{C::kV, S::kY}, Vx{C::kV, S::kX};
constexpr OperandSpec Hq{C::kH, S::kQ}, Py{C::kP, S::kY}, Pq{C::kP, S::kQ}, Nq{C::kN, S::kQ};
constexpr OperandSpec Wd{C::kW, S::kD}, Wq{C::kW, S::kQ}, Wx{C::kW, S::kX};

constexpr u8 kAny = kAnyExtension;
// The opcode's low three bits are a register; its low four bits a condition; bits 5:3 an operation.
constexpr u8 kRegisterMask = 0xf8, kConditionMask = 0xf0, kOperationMask = 0xc7,
             kSegmentMask = 0xe7;
constexpr u32 kMem = kMemoryOnly, kAlign = kMustAlign, kReg = kRegisterOnly;

// clang-format off
constexpr OpcodeRow kOneByte[] = {
    {0x00, kAdd,   Eb,  Gb,  kNo, kByOpcode | kMayLock, kAny, kOperationMask}, // and OR to CMP
    {0x01, kAdd,   Ev,  Gv,  kNo, kByOpcode | kMayLock, kAny, kOperationMask},
    {0x02, kAdd,   Gb,  Eb,  kNo, kByOpcode, kAny, kOperationMask},
    {0x03, kAdd,   Gv,  Ev,  kNo, kByOpcode, kAny, kOperationMask},
    {0x04, kAdd,   AL,  Ib,  kNo, kByOpcode, kAny, kOperationMask},
    {0x05, kAdd,   rAX, Iz,  kNo, kByOpcode, kAny, kOperationMask},
    {0x06, kPush,  kNo, Seg, kNo, kInvalid64, kAny, kSegmentMask}, // ES, CS, SS, DS
    {0x07, kPopSegment, Seg, kNo, kNo, kInvalid64}, // ES
    {0x17, kPopSegment, Seg, kNo, kNo, kInvalid64}, // SS
    {0x1f, kPopSegment, Seg, kNo, kNo, kInvalid64}, // DS
    {0x27, kDaa,   kNo, kNo, kNo, kInvalid64},
    {0x2f, kDas,   kNo, kNo, kNo, kInvalid64},
    {0x37, kAaa,   kNo, kNo, kNo, kInvalid64},
    {0x3f, kAas,   kNo, kNo, kNo, kInvalid64},
    {0x40, kInc,   Zv,  kNo, kNo, kNot64, kAny, kRegisterMask},
    {0x48, kDec,   Zv,  kNo, kNo, kNot64, kAny, kRegisterMask},
    {0x50, kPush,  kNo, Zv,  kNo, kDefault64, kAny, kRegisterMask},
    {0x58, kPop,   Zv,  kNo, kNo, kDefault64, kAny, kRegisterMask},
    {0x60, kPushAll, kNo, kNo, kNo, kInvalid64},
    {0x61, kPopAll,  kNo, kNo, kNo, kInvalid64},
    {0x62, kBound, kNo, Gv,  Ev, kNot64 | kMem}, // EVEX elsewhere
    {0x63, kMovsx, Gv,  Ez,  kNo, kOnly64}, // MOVSXD
    {0x63, kArpl,  Ew,  Gw,  kNo, kNot64},
    {0x68, kPush,  kNo, Iz,  kNo, kDefault64},
    {0x69, kImulTo, Gv, Ev,  Iz},
    {0x6a, kPush,  kNo, Ib,  kNo, kDefault64},
    {0x6b, kImulTo, Gv, Ev,  Ib},
    {0x6c, kIns,   Yb,  DX},
    {0x6d, kIns,   Yz,  DX},
    {0x6e, kOuts,  DX,  Xb},
    {0x6f, kOuts,  DX,  Xz},
    {0x70, kJcc,   kNo, Jb,  kNo, kForce64, kAny, kConditionMask},
    {0x80, kAdd,   Eb,  Ib,  kNo, kByModrm | kMayLock},
    {0x81, kAdd,   Ev,  Iz,  kNo, kByModrm | kMayLock},
    {0x82, kAdd,   Eb,  Ib,  kNo, kByModrm | kMayLock | kInvalid64},
    {0x83, kAdd,   Ev,  Ib,  kNo, kByModrm | kMayLock},
    {0x84, kTest,  Eb,  Gb},
    {0x85, kTest,  Ev,  Gv},
    {0x86, kXchg,  Eb,  Gb,  kNo, kMayLock},
    {0x87, kXchg,  Ev,  Gv,  kNo, kMayLock},
    {0x88, kMov,   Eb,  Gb},
    {0x89, kMov,   Ev,  Gv},
    {0x8a, kMov,   Gb,  Eb},
    {0x8b, kMov,   Gv,  Ev},
    {0x8c, kStoreSegment, Ewv, Sw},
    {0x8d, kLea,   Gv,  Ev,  kNo, kMem},
    {0x8d, kInvalid, Gv, Ev},
    {0x8e, kLoadSegment,  Sw,  Ew},
    {0x8f, kPop,   Ev,  kNo, kNo, kDefault64, 0},
    {0x8f, kInvalid, Ev},
    {0x90, kPause, kNo, kNo, kNo, kPrefixF3},
    {0x90, kNop,   kNo, kNo, kNo, kNoRexB},
    {0x90, kXchg,  Zv,  rAX, kNo, 0, kAny, kRegisterMask},
    {0x98, kConvert},
    {0x99, kConvertDouble},
    {0x9a, kCallFar, kNo, Ap, kNo, kInvalid64},
    {0x9b, kWait},
    {0x9c, kPushFlags, kNo, kNo, kNo, kDefault64},
    {0x9d, kPopFlags,  kNo, kNo, kNo, kDefault64},
    {0x9e, kSahf},
    {0x9f, kLahf},
    {0xa0, kMov,   AL,  Ob},
    {0xa1, kMov,   rAX, Ov},
    {0xa2, kMov,   Ob,  AL},
    {0xa3, kMov,   Ov,  rAX},
    {0xa4, kMovs,  Yb,  Xb},
    {0xa5, kMovs,  Yv,  Xv},
    {0xa6, kCmps,  Xb,  Yb},
    {0xa7, kCmps,  Xv,  Yv},
    {0xa8, kTest,  AL,  Ib},
    {0xa9, kTest,  rAX, Iz},
    {0xaa, kStos,  Yb,  AL},
    {0xab, kStos,  Yv,  rAX},
    {0xac, kLods,  AL,  Xb},
    {0xad, kLods,  rAX, Xv},
    {0xae, kScas,  AL,  Yb},
    {0xaf, kScas,  rAX, Yv},
    {0xb0, kMov,   Zb,  Ib,  kNo, 0, kAny, kRegisterMask},
    {0xb8, kMov,   Zv,  Iv,  kNo, 0, kAny, kRegisterMask},
    {0xc0, kRol,   Eb,  Ib,  kNo, kByModrm}, // and ROR to SAR
    {0xc1, kRol,   Ev,  Ib,  kNo, kByModrm},
    {0xc2, kRet,   kNo, Iw,  kNo, kForce64},
    {0xc3, kRet,   kNo, kNo, kNo, kForce64},
    {0xc4, kLoadFarPointer, Gv, Efar, kNo, kNot64 | kMem}, // LES
    {0xc5, kLoadFarPointer, Gv, Efar, kNo, kNot64 | kMem}, // LDS
    {0xc6, kMov,   Eb,  Ib,  kNo, 0, 0},
    {0xc7, kMov,   Ev,  Iz,  kNo, 0, 0},
    {0xc8, kEnter, kNo, Iw,  Ib2, kDefault64},
    {0xc9, kLeave, kNo, kNo, kNo, kDefault64},
    {0xca, kRetFar, kNo, Iw},
    {0xcb, kRetFar},
    {0xcc, kInt3},
    {0xcd, kInt,   kNo, Ib},
    {0xce, kInto,  kNo, kNo, kNo, kInvalid64},
    {0xcf, kIret},
    {0xd0, kRol,   Eb,  One, kNo, kByModrm},
    {0xd1, kRol,   Ev,  One, kNo, kByModrm},
    {0xd2, kRol,   Eb,  CL,  kNo, kByModrm},
    {0xd3, kRol,   Ev,  CL,  kNo, kByModrm},
    {0xd4, kAam,   kNo, Ib,  kNo, kInvalid64},
    {0xd5, kAad,   kNo, Ib,  kNo, kInvalid64},
    {0xd6, kSalc,  kNo, kNo, kNo, kInvalid64},
    {0xd7, kXlat,  AL,  BxAl},
    {0xd9, kFldcw,  kNo, Ew, kNo, kMem, 5},
    {0xd9, kFnstcw, Ew, kNo, kNo, kMem, 7},
    {0xdb, kFnclex, kNo, kNo, kNo, kModrm, 0xe2},
    {0xdb, kFninit, kNo, kNo, kNo, kModrm, 0xe3},
    {0xdd, kFnstsw, Ew, kNo, kNo, kMem, 7},
    {0xdf, kFnstsw, AX, kNo, kNo, kModrm, 0xe0},
    {0xe0, kLoop,  kNo, Jb,  kNo, kForce64}, // LOOPNE
    {0xe1, kLoop,  kNo, Jb,  kNo, kForce64}, // LOOPE
    {0xe2, kLoop,  kNo, Jb,  kNo, kForce64},
    {0xe3, kJcxz,  kNo, Jb,  kNo, kForce64},
    {0xe4, kIn,    AL,  Ib},
    {0xe5, kIn,    eAX, Ib},
    {0xe6, kOut,   Ib,  AL},
    {0xe7, kOut,   Ib,  eAX},
    {0xe8, kCall,  kNo, Jz,  kNo, kForce64},
    {0xe9, kJmp,   kNo, Jz,  kNo, kForce64},
    {0xea, kJmpFar, kNo, Ap, kNo, kInvalid64},
    {0xeb, kJmp,   kNo, Jb,  kNo, kForce64},
    {0xec, kIn,    AL,  DX},
    {0xed, kIn,    eAX, DX},
    {0xee, kOut,   DX,  AL},
    {0xef, kOut,   DX,  eAX},
    {0xf1, kIcebp},
    {0xf4, kHlt},
    {0xf5, kCmc},
    {0xf6, kTest,  Eb,  Ib,  kNo, 0, 0},
    {0xf6, kTest,  Eb,  Ib,  kNo, 0, 1}, // not in the manual's table, but in every CPU
    {0xf6, kNot,   Eb,  kNo, kNo, kMayLock, 2},
    {0xf6, kNeg,   Eb,  kNo, kNo, kMayLock, 3},
    {0xf6, kMul,   kNo, Eb,  kNo, 0, 4},
    {0xf6, kImul,  kNo, Eb,  kNo, 0, 5},
    {0xf6, kDiv,   kNo, Eb,  kNo, 0, 6},
    {0xf6, kIdiv,  kNo, Eb,  kNo, 0, 7},
    {0xf7, kTest,  Ev,  Iz,  kNo, 0, 0},
    {0xf7, kTest,  Ev,  Iz,  kNo, 0, 1},
    {0xf7, kNot,   Ev,  kNo, kNo, kMayLock, 2},
    {0xf7, kNeg,   Ev,  kNo, kNo, kMayLock, 3},
    {0xf7, kMul,   kNo, Ev,  kNo, 0, 4},
    {0xf7, kImul,  kNo, Ev,  kNo, 0, 5},
    {0xf7, kDiv,   kNo, Ev,  kNo, 0, 6},
    {0xf7, kIdiv,  kNo, Ev,  kNo, 0, 7},
    {0xf8, kClc},
    {0xf9, kStc},
    {0xfa, kCli},
    {0xfb, kSti},
    {0xfc, kCld},
    {0xfd, kStd},
    {0xfe, kInc,   Eb,  kNo, kNo, kMayLock, 0},
    {0xfe, kDec,   Eb,  kNo, kNo, kMayLock, 1},
    {0xfe, kInvalid, Eb},
    {0xff, kInc,   Ev,  kNo, kNo, kMayLock, 0},
    {0xff, kDec,   Ev,  kNo, kNo, kMayLock, 1},
    {0xff, kCall,  kNo, Ev,  kNo, kForce64, 2},
    {0xff, kCallFar, kNo, Efar, kNo, kMem, 3},
    {0xff, kJmp,   kNo, Ev,  kNo, kForce64, 4},
    {0xff, kJmpFar, kNo, Efar, kNo, kMem, 5},
    {0xff, kPush,  kNo, Ev,  kNo, kDefault64, 6},
    {0xff, kInvalid, Ev},
};

constexpr OpcodeRow k0F[] = {
    {0x00, kSldt,  Ewv, kNo, kNo, 0, 0},
    {0x00, kStr,   Ewv, kNo, kNo, 0, 1},
    {0x00, kLldt,  kNo, Ew,  kNo, 0, 2},
    {0x00, kLtr,   kNo, Ew,  kNo, 0, 3},
    {0x00, kVerr,  kNo, Ew,  kNo, 0, 4},
    {0x00, kVerw,  kNo, Ew,  kNo, 0, 5},
    {0x00, kInvalid, Ew},
    {0x01, kSgdt,  Etable, kNo, kNo, kMem, 0},
    {0x01, kSidt,  Etable, kNo, kNo, kMem, 1},
    {0x01, kLgdt,  kNo, Etable, kNo, kMem, 2},
    {0x01, kLidt,  kNo, Etable, kNo, kMem, 3},
    {0x01, kSmsw,  Ewv, kNo, kNo, 0, 4},
    {0x01, kLmsw,  kNo, Ew,  kNo, 0, 6},
    {0x01, kInvlpg, kNo, Eb, kNo, kMem, 7},
    {0x01, kVmcall,  kNo, kNo, kNo, kModrm | kNoPrefix, 0xc1},
    {0x01, kMonitor, kNo, kNo, kNo, kModrm | kNoPrefix, 0xc8},
    {0x01, kMwait,   kNo, kNo, kNo, kModrm | kNoPrefix, 0xc9},
    {0x01, kClac,    kNo, kNo, kNo, kModrm | kNoPrefix, 0xca},
    {0x01, kStac,    kNo, kNo, kNo, kModrm | kNoPrefix, 0xcb},
    {0x01, kXgetbv,  kNo, kNo, kNo, kModrm | kNoPrefix, 0xd0},
    {0x01, kXsetbv,  kNo, kNo, kNo, kModrm | kNoPrefix, 0xd1},
    {0x01, kSwapgs,  kNo, kNo, kNo, kModrm | kOnly64, 0xf8},
    {0x01, kRdtscp,  kNo, kNo, kNo, kModrm, 0xf9},
    {0x02, kLar,   Gv,  Ewv},
    {0x03, kLsl,   Gv,  Ewv},
    {0x05, kSyscall},
    {0x06, kClts},
    {0x07, kSysret},
    {0x08, kInvd},
    {0x09, kWbinvd},
    {0x0b, kInvalid}, // UD2
    {0x0d, kNop,   kNo, Ev}, // PREFETCHW and its relatives
    {0x10, kMovVector, Vx, Ex, kNo, kMem | kNoPrefix | kPrefix66}, // MOVUPS, MOVUPD
    {0x10, kMovVector, Vd, Ed, kNo, kMem | kPrefixF3},             // MOVSS
    {0x10, kMovVector, Vq, Eq, kNo, kMem | kPrefixF2},             // MOVSD
    {0x10, kMovVector, Vx, Wx, kNo, kReg | kNoPrefix | kPrefix66},
    {0x10, kMovPart,   Vd, Wd, kNo, kReg | kPrefixF3},
    {0x10, kMovPart,   Vq, Wq, kNo, kReg | kPrefixF2},
    {0x11, kMovVector, Ex, Vx, kNo, kMem | kNoPrefix | kPrefix66},
    {0x11, kMovVector, Ed, Vd, kNo, kMem | kPrefixF3},
    {0x11, kMovVector, Eq, Vq, kNo, kMem | kPrefixF2},
    {0x11, kMovVector, Wx, Vx, kNo, kReg | kNoPrefix | kPrefix66},
    {0x11, kMovPart,   Wd, Vd, kNo, kReg | kPrefixF3},
    {0x11, kMovPart,   Wq, Vq, kNo, kReg | kPrefixF2},
    {0x12, kMovLow,    Vq, Eq, kNo, kMem | kNoPrefix | kPrefix66}, // MOVLPS, MOVLPD
    {0x12, kMovHighToLow, Vq, Wq, kNo, kReg | kNoPrefix}, // MOVHLPS
    {0x13, kMovLow,    Eq, Vq, kNo, kMem | kNoPrefix | kPrefix66},
    {0x16, kMovHigh,   Vq, Eq, kNo, kMem | kNoPrefix | kPrefix66}, // MOVHPS, MOVHPD
    {0x16, kMovLowToHigh, Vq, Wq, kNo, kReg | kNoPrefix}, // MOVLHPS
    {0x17, kMovHigh,   Eq, Vq, kNo, kMem | kNoPrefix | kPrefix66},
    {0x18, kNop,   kNo, Ev,  kNo, 0, kAny, kRegisterMask}, // PREFETCHh, and hints yet to come
    {0x20, kMovFromControl, Rfull, Cfull},
    {0x21, kMovFromDebug,   Rfull, Dfull},
    {0x22, kMovToControl,   Cfull, Rfull},
    {0x23, kMovToDebug,     Dfull, Rfull},
    {0x28, kMovVector, Vx, Ex, kNo, kMem | kAlign | kNoPrefix | kPrefix66}, // MOVAPS, MOVAPD
    {0x28, kMovVector, Vx, Wx, kNo, kReg | kNoPrefix | kPrefix66},
    {0x29, kMovVector, Ex, Vx, kNo, kMem | kAlign | kNoPrefix | kPrefix66},
    {0x29, kMovVector, Wx, Vx, kNo, kReg | kNoPrefix | kPrefix66},
    {0x2b, kMovVector, Ex, Vx, kNo, kMem | kAlign | kNoPrefix | kPrefix66}, // MOVNTPS, MOVNTPD
    {0x30, kWrmsr},
    {0x31, kRdtsc},
    {0x32, kRdmsr},
    {0x33, kRdpmc},
    {0x34, kSysenter},
    {0x35, kSysexit},
    {0x40, kCmovcc, Gv, Ev,  kNo, 0, kAny, kConditionMask},
    {0x6e, kMovVector, Py, Ey, kNo, kNoPrefix}, // MOVD, MOVQ
    {0x6e, kMovVector, Vy, Ey, kNo, kPrefix66},
    {0x6f, kMovVector, Pq, Eq, kNo, kMem | kNoPrefix},
    {0x6f, kMovVector, Vx, Ex, kNo, kMem | kAlign | kPrefix66}, // MOVDQA
    {0x6f, kMovVector, Vx, Ex, kNo, kMem | kPrefixF3},          // MOVDQU
    {0x6f, kMovVector, Pq, Nq, kNo, kReg | kNoPrefix},
    {0x6f, kMovVector, Vx, Wx, kNo, kReg | kPrefix66 | kPrefixF3},
    {0x7e, kMovVector, Ey, Py, kNo, kNoPrefix},
    {0x7e, kMovVector, Ey, Vy, kNo, kPrefix66},
    {0x7e, kMovVector, Vq, Eq, kNo, kMem | kPrefixF3},
    {0x7e, kMovVector, Vq, Wq, kNo, kReg | kPrefixF3}, // MOVQ
    {0x7f, kMovVector, Eq, Pq, kNo, kMem | kNoPrefix},
    {0x7f, kMovVector, Ex, Vx, kNo, kMem | kAlign | kPrefix66},
    {0x7f, kMovVector, Ex, Vx, kNo, kMem | kPrefixF3},
    {0x7f, kMovVector, Nq, Pq, kNo, kReg | kNoPrefix},
    {0x7f, kMovVector, Wx, Vx, kNo, kReg | kPrefix66 | kPrefixF3},
    {0x80, kJcc,   kNo, Jz,  kNo, kForce64, kAny, kConditionMask},
    {0x90, kSetcc, Eb,  kNo, kNo, 0, kAny, kConditionMask},
    {0xa0, kPush,  kNo, Seg, kNo, kDefault64}, // FS
    {0xa1, kPopSegment, Seg, kNo, kNo, kDefault64},
    {0xa2, kCpuid},
    {0xa3, kBt,    Ev,  Gv},
    {0xa4, kShld,  Ev,  Gv,  Ib},
    {0xa5, kShld,  Ev,  Gv,  CL},
    {0xa8, kPush,  kNo, Seg, kNo, kDefault64}, // GS
    {0xa9, kPopSegment, Seg, kNo, kNo, kDefault64},
    {0xaa, kRsm},
    {0xab, kBts,   Ev,  Gv,  kNo, kMayLock},
    {0xac, kShrd,  Ev,  Gv,  Ib},
    {0xad, kShrd,  Ev,  Gv,  CL},
    {0xae, kFxsave,  Eb, kNo, kNo, kMem | kNoPrefix, 0},
    {0xae, kFxrstor, kNo, Eb, kNo, kMem | kNoPrefix, 1},
    {0xae, kLdmxcsr, kNo, Ed, kNo, kMem | kNoPrefix, 2},
    {0xae, kStmxcsr, Ed, kNo, kNo, kMem | kNoPrefix, 3},
    {0xae, kReadSegmentBase,  Ry, kNo, kNo, kReg | kOnly64 | kPrefixF3, 0}, // FS
    {0xae, kReadSegmentBase,  Ry, kNo, kNo, kReg | kOnly64 | kPrefixF3, 1}, // GS
    {0xae, kWriteSegmentBase, kNo, Ry, kNo, kReg | kOnly64 | kPrefixF3, 2},
    {0xae, kWriteSegmentBase, kNo, Ry, kNo, kReg | kOnly64 | kPrefixF3, 3},
    {0xae, kNop,   kNo, Eb,  kNo, kReg | kNoPrefix, 5}, // LFENCE, MFENCE, SFENCE
    {0xae, kNop,   kNo, Eb,  kNo, kReg | kNoPrefix, 6},
    {0xae, kNop,   kNo, Eb,  kNo, kReg | kNoPrefix, 7},
    {0xae, kFlushLine, kNo, Eb, kNo, kMem | kPrefix66, 6},             // CLWB
    {0xae, kFlushLine, kNo, Eb, kNo, kMem | kNoPrefix | kPrefix66, 7}, // CLFLUSH, CLFLUSHOPT
    {0xaf, kImulTo, Gv, Ev},
    {0xb0, kCmpxchg, Eb, Gb, kNo, kMayLock},
    {0xb1, kCmpxchg, Ev, Gv, kNo, kMayLock},
    {0xb2, kLoadFarPointer, Gv, Efar, kNo, kMem}, // LSS
    {0xb2, kInvalid, Gv, Ev},
    {0xb3, kBtr,   Ev,  Gv,  kNo, kMayLock},
    {0xb4, kLoadFarPointer, Gv, Efar, kNo, kMem}, // LFS
    {0xb4, kInvalid, Gv, Ev},
    {0xb5, kLoadFarPointer, Gv, Efar, kNo, kMem}, // LGS
    {0xb5, kInvalid, Gv, Ev},
    {0xb6, kMovzx, Gv,  Eb},
    {0xb7, kMovzx, Gv,  Ew},
    {0xb9, kInvalid, Gv, Ev}, // UD1
    {0xba, kBt,    Ev,  Ib,  kNo, 0, 4},
    {0xba, kBts,   Ev,  Ib,  kNo, kMayLock, 5},
    {0xba, kBtr,   Ev,  Ib,  kNo, kMayLock, 6},
    {0xba, kBtc,   Ev,  Ib,  kNo, kMayLock, 7},
    {0xbb, kBtc,   Ev,  Gv,  kNo, kMayLock},
    {0xbc, kTzcnt, Gv,  Ev,  kNo, kPrefixF3},
    {0xbc, kBsf,   Gv,  Ev},
    {0xbd, kLzcnt, Gv,  Ev,  kNo, kPrefixF3},
    {0xbd, kBsr,   Gv,  Ev},
    {0xbe, kMovsx, Gv,  Eb},
    {0xbf, kMovsx, Gv,  Ew},
    {0xc0, kXadd,  Eb,  Gb,  kNo, kMayLock},
    {0xc1, kXadd,  Ev,  Gv,  kNo, kMayLock},
    {0xc3, kMov,   Ey,  Gy,  kNo, kMem | kNoPrefix}, // MOVNTI
    {0xc7, kCmpxchgPair, Epair, kNo, kNo, kMem | kMayLock, 1},
    {0xc7, kXrstors, kNo, Eb, kNo, kMem | kNoPrefix, 3},
    {0xc7, kXsaves,  Eb, kNo, kNo, kMem | kNoPrefix, 5},
    {0xc8, kBswap, Zv,  kNo, kNo, 0, kAny, kRegisterMask},
    {0xd6, kMovVector, Eq, Vq, kNo, kMem | kPrefix66},
    {0xd6, kMovVector, Wq, Vq, kNo, kReg | kPrefix66},
    {0xe7, kMovVector, Eq, Pq, kNo, kMem | kNoPrefix},          // MOVNTQ
    {0xe7, kMovVector, Ex, Vx, kNo, kMem | kAlign | kPrefix66}, // MOVNTDQ
    {0xf0, kMovVector, Vx, Ex, kNo, kMem | kPrefixF2},          // LDDQU
    {0xff, kInvalid, Gv, Ev}, // UD0
};

constexpr OpcodeRow k0F38[] = {
    {0x2a, kMovVector, Vx, Ex, kNo, kMem | kAlign | kPrefix66}, // MOVNTDQA
    {0x82, kInvpcid, Gfull, Ex, kNo, kMem | kPrefix66},
    {0xf0, kMovbe, Gv,  Ev,  kNo, kMem | kNoPrefix | kPrefix66},
    {0xf1, kMovbe, Ev,  Gv,  kNo, kMem | kNoPrefix | kPrefix66},
};

constexpr OpcodeRow kVex0F[] = {
    {0x10, kMovVector, Vx, Ex, kNo, kMem | kNoPrefix | kPrefix66},
    {0x10, kMovVector, Vd, Ed, kNo, kMem | kPrefixF3},
    {0x10, kMovVector, Vq, Eq, kNo, kMem | kPrefixF2},
    {0x11, kMovVector, Ex, Vx, kNo, kMem | kNoPrefix | kPrefix66},
    {0x11, kMovVector, Ed, Vd, kNo, kMem | kPrefixF3},
    {0x11, kMovVector, Eq, Vq, kNo, kMem | kPrefixF2},
    {0x12, kMovLow,    Vq, Eq, Hq,  kMem | kVector128 | kNoPrefix | kPrefix66},
    {0x13, kMovLow,    Eq, Vq, kNo, kMem | kVector128 | kNoPrefix | kPrefix66},
    {0x16, kMovHigh,   Vq, Eq, Hq,  kMem | kVector128 | kNoPrefix | kPrefix66},
    {0x17, kMovHigh,   Eq, Vq, kNo, kMem | kVector128 | kNoPrefix | kPrefix66},
    {0x28, kMovVector, Vx, Ex, kNo, kMem | kAlign | kNoPrefix | kPrefix66},
    {0x29, kMovVector, Ex, Vx, kNo, kMem | kAlign | kNoPrefix | kPrefix66},
    {0x2b, kMovVector, Ex, Vx, kNo, kMem | kAlign | kNoPrefix | kPrefix66},
    {0x6e, kMovVector, Vy, Ey, kNo, kMem | kVector128 | kPrefix66},
    {0x6f, kMovVector, Vx, Ex, kNo, kMem | kAlign | kPrefix66},
    {0x6f, kMovVector, Vx, Ex, kNo, kMem | kPrefixF3},
    {0x7e, kMovVector, Ey, Vy, kNo, kMem | kVector128 | kPrefix66},
    {0x7e, kMovVector, Vq, Eq, kNo, kMem | kVector128 | kPrefixF3},
    {0x7f, kMovVector, Ex, Vx, kNo, kMem | kAlign | kPrefix66},
    {0x7f, kMovVector, Ex, Vx, kNo, kMem | kPrefixF3},
    {0xd6, kMovVector, Eq, Vq, kNo, kMem | kVector128 | kPrefix66},
    {0xe7, kMovVector, Ex, Vx, kNo, kMem | kAlign | kPrefix66},
    {0xf0, kMovVector, Vx, Ex, kNo, kMem | kPrefixF2},
};

constexpr OpcodeRow kVex0F38[] = {
    {0x2a, kMovVector, Vx, Ex, kNo, kMem | kAlign | kPrefix66},
};
// clang-format on

} // namespace opcode_rows

// Where the rows of each opcode begin, and how many there are.
struct OpcodeIndex {
    struct Range {
        u8 first, count;
    };
    Range ranges[256];
    bool sound = true; // rows of one opcode stand together and agree about ModRM
};

template <usize N>
consteval OpcodeIndex make_opcode_index(const OpcodeRow (&rows)[N])
{
    static_assert(N < 256);
    OpcodeIndex index{};
    for (u32 opcode = 0; opcode < 256; opcode++) {
        OpcodeIndex::Range &range = index.ranges[opcode];
        for (u32 i = 0; i < N; i++) {
            if (!rows[i].has_opcode(static_cast<u8>(opcode)))
                continue;
            if (range.count == 0)
                range.first = static_cast<u8>(i);
            const bool follows = i == range.first + range.count;
            index.sound &= follows && rows[i].has_modrm() == rows[range.first].has_modrm();
            range.count++;
        }
    }
    return index;
}

template <const auto &rows>
Span<const OpcodeRow> rows_of(u8 opcode)
{
    static constexpr OpcodeIndex kIndex = make_opcode_index(rows);
    static_assert(kIndex.sound);
    const OpcodeIndex::Range range = kIndex.ranges[opcode];
    return {rows + range.first, range.count};
}

} // namespace

Span<const OpcodeRow> find_opcode(OpcodeMap map, u8 opcode)
{
    switch (map) {
    case OpcodeMap::kOneByte:
        return rows_of<opcode_rows::kOneByte>(opcode);
    case OpcodeMap::k0F:
        return rows_of<opcode_rows::k0F>(opcode);
    case OpcodeMap::k0F38:
        return rows_of<opcode_rows::k0F38>(opcode);
    case OpcodeMap::kVex0F:
        return rows_of<opcode_rows::kVex0F>(opcode);
    case OpcodeMap::kVex0F38:
        return rows_of<opcode_rows::kVex0F38>(opcode);
    }
    return {};
}

} // namespace minivmx
