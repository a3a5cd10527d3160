// SPDX-License-Identifier: GPL-2.0-only
//
// The decoder against Zydis: random encodings of the opcodes we know (and of some we don't), with
// every prefix, and mutations of them, in 16-, 32- and 64-bit code.
#include <minivmx/decode.hpp>
#include <minivmx/vcpu.hpp>

#include "src/core/emulate/opcodes.hpp"

#include <Zydis/Zydis.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace minivmx::test {
namespace {

struct Decoded {
    DecodeStatus status;
    Instruction insn;
};

Decoded decode(CodeMode mode, const std::vector<u8> &bytes)
{
    Decoded d;
    d.status = decode_instruction(mode, bytes.data(), static_cast<u32>(bytes.size()), d.insn);
    return d;
}

std::string hex_of(const std::vector<u8> &bytes)
{
    std::string text;
    for (const u8 byte : bytes) {
        constexpr const char *digits = "0123456789abcdef";
        text += {digits[byte >> 4], digits[byte & 15], ' '};
    }
    return text;
}

// ---- Single encodings -------------------------------------------------------

TEST(Decode, MovStore)
{
    const auto [status, insn] =
        decode(CodeMode::k64, {0x48, 0x89, 0x44, 0xb3, 0xf8}); // [rbx+rsi*4-8]
    ASSERT_EQ(status, DecodeStatus::kDecoded);
    EXPECT_EQ(insn.operation, Operation::kMov);
    EXPECT_EQ(insn.length, 5);
    EXPECT_EQ(insn.operand_size, 8);
    EXPECT_EQ(insn.address_size, 8);
    EXPECT_EQ(insn.destination.kind, OperandKind::kMemory);
    EXPECT_EQ(insn.source.kind, OperandKind::kRegister);
    EXPECT_EQ(insn.source.reg, kRax);
    EXPECT_EQ(insn.memory.base, kRbx);
    EXPECT_EQ(insn.memory.index, kRsi);
    EXPECT_EQ(insn.memory.scale, 4);
    EXPECT_EQ(insn.memory.displacement, ~u64{0} - 7);
    EXPECT_EQ(insn.memory.segment, kDs);
}

TEST(Decode, HighByteRegistersExistWithoutRexOnly)
{
    Decoded d = decode(CodeMode::k64, {0x88, 0x23}); // mov [rbx], ah
    ASSERT_EQ(d.status, DecodeStatus::kDecoded);
    EXPECT_TRUE(d.insn.source.high_byte);
    EXPECT_EQ(d.insn.source.reg, kRax);
    d = decode(CodeMode::k64, {0x40, 0x88, 0x23}); // mov [rbx], spl
    ASSERT_EQ(d.status, DecodeStatus::kDecoded);
    EXPECT_FALSE(d.insn.source.high_byte);
    EXPECT_EQ(d.insn.source.reg, kRsp);
}

TEST(Decode, RexCountsOnlyRightBeforeTheOpcode)
{
    const Decoded d = decode(CodeMode::k64, {0x48, 0x66, 0x89, 0x03});
    ASSERT_EQ(d.status, DecodeStatus::kDecoded);
    EXPECT_EQ(d.insn.operand_size, 2);
}

TEST(Decode, RipRelativeIn64BitCodeOnly)
{
    const std::vector<u8> bytes = {0x8b, 0x05, 0x10, 0, 0, 0};
    EXPECT_TRUE(decode(CodeMode::k64, bytes).insn.memory.rip_relative);
    EXPECT_FALSE(decode(CodeMode::k32, bytes).insn.memory.rip_relative);
    EXPECT_EQ(decode(CodeMode::k32, bytes).insn.memory.displacement, 0x10u);
}

TEST(Decode, SegmentOverridesIn64BitCode)
{
    EXPECT_EQ(decode(CodeMode::k64, {0x2e, 0x8b, 0x00}).insn.memory.segment, kDs);
    EXPECT_EQ(decode(CodeMode::k64, {0x64, 0x8b, 0x00}).insn.memory.segment, kFs);
    EXPECT_EQ(decode(CodeMode::k64, {0x64, 0x2e, 0x8b, 0x00}).insn.memory.segment, kFs);
    EXPECT_EQ(decode(CodeMode::k32, {0x64, 0x2e, 0x8b, 0x00}).insn.memory.segment, kCs);
    EXPECT_EQ(decode(CodeMode::k32, {0x8b, 0x45, 0x00}).insn.memory.segment, kSs);
}

TEST(Decode, WhatIsNotDecoded)
{
    EXPECT_EQ(decode(CodeMode::k64, {}).status, DecodeStatus::kTruncated);
    EXPECT_EQ(decode(CodeMode::k64, {0x48, 0x89}).status, DecodeStatus::kTruncated);
    EXPECT_EQ(decode(CodeMode::k64, {0x8b, 0x05, 0, 0, 0}).status, DecodeStatus::kTruncated);
    EXPECT_EQ(decode(CodeMode::k64, {0xf0, 0x89, 0x03}).status, DecodeStatus::kInvalid);
    EXPECT_EQ(decode(CodeMode::k64, {0x0f, 0x0e}).status, DecodeStatus::kUnknown); // FEMMS
    EXPECT_EQ(decode(CodeMode::k64, {0xc7, 0xf8, 0, 0, 0, 0}).status, DecodeStatus::kUnknown);
    std::vector<u8> bytes(16, 0x66);
    bytes[14] = 0x89;
    bytes[15] = 0x03;
    EXPECT_EQ(decode(CodeMode::k64, bytes).status, DecodeStatus::kTooLong);
    bytes.erase(bytes.begin());
    EXPECT_EQ(decode(CodeMode::k64, bytes).status, DecodeStatus::kDecoded);
    EXPECT_EQ(decode(CodeMode::k64, std::vector<u8>(32, 0x66)).status, DecodeStatus::kTooLong);
}

TEST(Decode, WhatTheArchitectureRefuses)
{
    const auto invalid = [](CodeMode mode, const std::vector<u8> &bytes) {
        return decode(mode, bytes).status == DecodeStatus::kInvalid;
    };
    EXPECT_TRUE(invalid(CodeMode::k32, {0x0f, 0x0b}));       // UD2
    EXPECT_TRUE(invalid(CodeMode::k32, {0x0f, 0xb9, 0xc0})); // UD1
    EXPECT_TRUE(invalid(CodeMode::k32, {0x8d, 0xc0}));       // LEA of a register
    EXPECT_TRUE(invalid(CodeMode::k32, {0xff, 0xf8}));
    EXPECT_TRUE(invalid(CodeMode::k32, {0xf0, 0x90})); // LOCK NOP
    EXPECT_TRUE(invalid(CodeMode::k32, {0xf0, 0xff, 0x20}));
    EXPECT_TRUE(invalid(CodeMode::k32, {0x0f, 0x22, 0xc8}));       // MOV to CR1
    EXPECT_TRUE(invalid(CodeMode::k32, {0x8e, 0xc8}));             // MOV to CS
    EXPECT_TRUE(invalid(CodeMode::k64, {0x44, 0x0f, 0x21, 0xc0})); // DR8
    // What 64-bit code hasn't got.
    for (const u8 opcode :
         {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0xce, 0xd6})
        EXPECT_TRUE(invalid(CodeMode::k64, {static_cast<u8>(opcode)})) << int{opcode};
    for (const u8 opcode : {0xd4, 0xd5})
        EXPECT_TRUE(invalid(CodeMode::k64, {static_cast<u8>(opcode), 10})) << int{opcode};
    for (const u8 opcode : {0x9a, 0xea})
        EXPECT_TRUE(invalid(CodeMode::k64, {static_cast<u8>(opcode), 0, 0, 0, 0, 0, 0}));
}

TEST(Decode, FarPointers)
{
    const std::vector<u8> bytes = {0xea, 0x78, 0x56, 0x34, 0x12, 0xcd, 0xab};
    Decoded d = decode(CodeMode::k16, bytes);
    ASSERT_EQ(d.status, DecodeStatus::kDecoded);
    EXPECT_EQ(d.insn.length, 5);
    EXPECT_EQ(d.insn.immediate, 0x5678u);
    EXPECT_EQ(d.insn.second_immediate, 0x1234);
    d = decode(CodeMode::k32, bytes);
    EXPECT_EQ(d.insn.length, 7);
    EXPECT_EQ(d.insn.immediate, 0x12345678u);
    EXPECT_EQ(d.insn.second_immediate, 0xabcd);
    d = decode(CodeMode::k32, {0xff, 0x28}); // jmp far [eax]
    EXPECT_EQ(d.insn.operation, Operation::kJmpFar);
    EXPECT_EQ(d.insn.source.size, 6);
}

// 64-bit code has branches of 64 bits, whatever the prefix (SDM Vol. 2D, A.2.5, superscript f64).
TEST(Decode, OperandSizeOfBranches)
{
    EXPECT_EQ(decode(CodeMode::k16, {0xe8, 0, 0}).insn.operand_size, 2);
    EXPECT_EQ(decode(CodeMode::k16, {0x66, 0xe8, 0, 0, 0, 0}).insn.operand_size, 4);
    EXPECT_EQ(decode(CodeMode::k32, {0x66, 0xe8, 0, 0}).insn.length, 4);
    const Decoded d = decode(CodeMode::k64, {0x66, 0xe8, 0, 0, 0, 0});
    EXPECT_EQ(d.insn.operand_size, 8);
    EXPECT_EQ(d.insn.length, 6);
}

// ---- Against Zydis ----------------------------------------------------------

/// Zydis' mnemonics of what we know. MOVSD, CMPSD and IMUL are two operations each, and MOV has
/// segment registers.
struct Mnemonic {
    const char *name;
    Operation operation;
};
// clang-format off
constexpr Mnemonic kMnemonics[] = {
    {"add", Operation::kAdd}, {"or", Operation::kOr}, {"adc", Operation::kAdc},
    {"sbb", Operation::kSbb}, {"and", Operation::kAnd}, {"sub", Operation::kSub},
    {"xor", Operation::kXor}, {"cmp", Operation::kCmp}, {"rol", Operation::kRol},
    {"ror", Operation::kRor}, {"rcl", Operation::kRcl}, {"rcr", Operation::kRcr},
    {"shl", Operation::kShl}, {"shr", Operation::kShr}, {"sar", Operation::kSar},
    {"test", Operation::kTest}, {"not", Operation::kNot}, {"neg", Operation::kNeg},
    {"mul", Operation::kMul}, {"div", Operation::kDiv}, {"idiv", Operation::kIdiv},
    {"inc", Operation::kInc}, {"dec", Operation::kDec}, {"shld", Operation::kShld},
    {"shrd", Operation::kShrd}, {"xadd", Operation::kXadd}, {"cmpxchg", Operation::kCmpxchg},
    {"cmpxchg8b", Operation::kCmpxchgPair}, {"cmpxchg16b", Operation::kCmpxchgPair},
    {"bt", Operation::kBt}, {"bts", Operation::kBts}, {"btr", Operation::kBtr},
    {"btc", Operation::kBtc}, {"bsf", Operation::kBsf}, {"bsr", Operation::kBsr},
    {"tzcnt", Operation::kTzcnt}, {"lzcnt", Operation::kLzcnt}, {"mov", Operation::kMov},
    {"movnti", Operation::kMov}, {"movzx", Operation::kMovzx}, {"movsx", Operation::kMovsx},
    {"movsxd", Operation::kMovsx}, {"movbe", Operation::kMovbe}, {"xchg", Operation::kXchg},
    {"setb", Operation::kSetcc}, {"setbe", Operation::kSetcc}, {"setl", Operation::kSetcc},
    {"setle", Operation::kSetcc}, {"setnb", Operation::kSetcc}, {"setnbe", Operation::kSetcc},
    {"setnl", Operation::kSetcc}, {"setnle", Operation::kSetcc}, {"setno", Operation::kSetcc},
    {"setnp", Operation::kSetcc}, {"setns", Operation::kSetcc}, {"setnz", Operation::kSetcc},
    {"seto", Operation::kSetcc}, {"setp", Operation::kSetcc}, {"sets", Operation::kSetcc},
    {"setz", Operation::kSetcc}, {"cmovb", Operation::kCmovcc}, {"cmovbe", Operation::kCmovcc},
    {"cmovl", Operation::kCmovcc}, {"cmovle", Operation::kCmovcc}, {"cmovnb", Operation::kCmovcc},
    {"cmovnbe", Operation::kCmovcc}, {"cmovnl", Operation::kCmovcc},
    {"cmovnle", Operation::kCmovcc}, {"cmovno", Operation::kCmovcc}, {"cmovnp", Operation::kCmovcc},
    {"cmovns", Operation::kCmovcc}, {"cmovnz", Operation::kCmovcc}, {"cmovo", Operation::kCmovcc},
    {"cmovp", Operation::kCmovcc}, {"cmovs", Operation::kCmovcc}, {"cmovz", Operation::kCmovcc},
    {"push", Operation::kPush}, {"pop", Operation::kPop}, {"nop", Operation::kNop},
    {"bndcl", Operation::kNop}, {"bndcn", Operation::kNop}, {"bndcu", Operation::kNop},
    {"bndldx", Operation::kNop}, {"bndmk", Operation::kNop}, {"bndmov", Operation::kNop},
    {"bndstx", Operation::kNop}, {"cldemote", Operation::kNop}, {"endbr32", Operation::kNop},
    {"endbr64", Operation::kNop}, {"rdsspd", Operation::kNop}, {"rdsspq", Operation::kNop},
    {"prefetch", Operation::kNop}, {"prefetchw", Operation::kNop}, {"prefetchwt1", Operation::kNop},
    {"prefetchnta", Operation::kNop}, {"prefetcht0", Operation::kNop},
    {"prefetcht1", Operation::kNop}, {"prefetcht2", Operation::kNop}, {"clflush", Operation::kFlushLine},
    {"clflushopt", Operation::kFlushLine}, {"clwb", Operation::kFlushLine}, {"movups", Operation::kMovVector},
    {"movupd", Operation::kMovVector}, {"movhlps", Operation::kMovHighToLow},
    {"movlhps", Operation::kMovLowToHigh},
    {"movaps", Operation::kMovVector}, {"movapd", Operation::kMovVector},
    {"movntps", Operation::kMovVector}, {"movntpd", Operation::kMovVector},
    {"movd", Operation::kMovVector}, {"movq", Operation::kMovVector},
    {"movdqa", Operation::kMovVector}, {"movdqu", Operation::kMovVector},
    {"movntq", Operation::kMovVector}, {"movntdq", Operation::kMovVector},
    {"movntdqa", Operation::kMovVector}, {"lddqu", Operation::kMovVector},
    {"vmovups", Operation::kMovVector}, {"vmovupd", Operation::kMovVector},
    {"vmovss", Operation::kMovVector}, {"vmovsd", Operation::kMovVector},
    {"vmovaps", Operation::kMovVector}, {"vmovapd", Operation::kMovVector},
    {"vmovntps", Operation::kMovVector}, {"vmovntpd", Operation::kMovVector},
    {"vmovd", Operation::kMovVector}, {"vmovq", Operation::kMovVector},
    {"vmovdqa", Operation::kMovVector}, {"vmovdqu", Operation::kMovVector},
    {"vmovntdq", Operation::kMovVector}, {"vmovntdqa", Operation::kMovVector},
    {"vlddqu", Operation::kMovVector}, {"movlps", Operation::kMovLow},
    {"movlpd", Operation::kMovLow}, {"vmovlps", Operation::kMovLow},
    {"vmovlpd", Operation::kMovLow}, {"movhps", Operation::kMovHigh},
    {"movhpd", Operation::kMovHigh}, {"vmovhps", Operation::kMovHigh},
    {"vmovhpd", Operation::kMovHigh}, {"movsb", Operation::kMovs}, {"movsw", Operation::kMovs},
    {"movsq", Operation::kMovs}, {"cmpsb", Operation::kCmps}, {"cmpsw", Operation::kCmps},
    {"cmpsq", Operation::kCmps}, {"stosb", Operation::kStos}, {"stosw", Operation::kStos},
    {"stosd", Operation::kStos}, {"stosq", Operation::kStos}, {"lodsb", Operation::kLods},
    {"lodsw", Operation::kLods}, {"lodsd", Operation::kLods}, {"lodsq", Operation::kLods},
    {"scasb", Operation::kScas}, {"scasw", Operation::kScas}, {"scasd", Operation::kScas},
    {"scasq", Operation::kScas}, {"insb", Operation::kIns}, {"insw", Operation::kIns},
    {"insd", Operation::kIns}, {"outsb", Operation::kOuts}, {"outsw", Operation::kOuts},
    {"outsd", Operation::kOuts}, {"sgdt", Operation::kSgdt}, {"sidt", Operation::kSidt},
    {"lgdt", Operation::kLgdt}, {"lidt", Operation::kLidt}, {"sldt", Operation::kSldt},
    {"str", Operation::kStr}, {"lldt", Operation::kLldt}, {"ltr", Operation::kLtr},
    {"invpcid", Operation::kInvpcid}, {"xsaves", Operation::kXsaves},
    {"xsaves64", Operation::kXsaves}, {"xrstors", Operation::kXrstors},
    {"xrstors64", Operation::kXrstors},
    {"jb", Operation::kJcc}, {"jbe", Operation::kJcc}, {"jl", Operation::kJcc},
    {"jle", Operation::kJcc}, {"jnb", Operation::kJcc}, {"jnbe", Operation::kJcc},
    {"jnl", Operation::kJcc}, {"jnle", Operation::kJcc}, {"jno", Operation::kJcc},
    {"jnp", Operation::kJcc}, {"jns", Operation::kJcc}, {"jnz", Operation::kJcc},
    {"jo", Operation::kJcc}, {"jp", Operation::kJcc}, {"js", Operation::kJcc},
    {"jz", Operation::kJcc}, {"loop", Operation::kLoop}, {"loope", Operation::kLoop},
    {"loopne", Operation::kLoop}, {"jcxz", Operation::kJcxz}, {"jecxz", Operation::kJcxz},
    {"jrcxz", Operation::kJcxz}, {"pusha", Operation::kPushAll}, {"pushad", Operation::kPushAll},
    {"popa", Operation::kPopAll}, {"popad", Operation::kPopAll}, {"pushf", Operation::kPushFlags},
    {"pushfd", Operation::kPushFlags}, {"pushfq", Operation::kPushFlags},
    {"popf", Operation::kPopFlags}, {"popfd", Operation::kPopFlags},
    {"popfq", Operation::kPopFlags}, {"enter", Operation::kEnter}, {"leave", Operation::kLeave},
    {"clc", Operation::kClc}, {"stc", Operation::kStc}, {"cmc", Operation::kCmc},
    {"cld", Operation::kCld}, {"std", Operation::kStd}, {"cli", Operation::kCli},
    {"sti", Operation::kSti}, {"lahf", Operation::kLahf}, {"sahf", Operation::kSahf},
    {"daa", Operation::kDaa}, {"das", Operation::kDas}, {"aaa", Operation::kAaa},
    {"aas", Operation::kAas}, {"aam", Operation::kAam}, {"aad", Operation::kAad},
    {"bound", Operation::kBound}, {"pause", Operation::kPause}, {"cpuid", Operation::kCpuid},
    {"rdtsc", Operation::kRdtsc}, {"rdtscp", Operation::kRdtscp}, {"rdpmc", Operation::kRdpmc},
    {"in", Operation::kIn}, {"out", Operation::kOut}, {"fwait", Operation::kWait},
    {"fninit", Operation::kFninit}, {"fnclex", Operation::kFnclex}, {"fnstcw", Operation::kFnstcw},
    {"fnstsw", Operation::kFnstsw}, {"fldcw", Operation::kFldcw}, {"int", Operation::kInt},
    {"int3", Operation::kInt3}, {"into", Operation::kInto}, {"int1", Operation::kIcebp},
    {"iret", Operation::kIret}, {"iretd", Operation::kIret}, {"iretq", Operation::kIret},
    {"syscall", Operation::kSyscall}, {"sysret", Operation::kSysret},
    {"sysenter", Operation::kSysenter}, {"sysexit", Operation::kSysexit},
    {"les", Operation::kLoadFarPointer}, {"lds", Operation::kLoadFarPointer},
    {"lss", Operation::kLoadFarPointer}, {"lfs", Operation::kLoadFarPointer},
    {"lgs", Operation::kLoadFarPointer}, {"arpl", Operation::kArpl}, {"lar", Operation::kLar},
    {"lsl", Operation::kLsl}, {"verr", Operation::kVerr}, {"verw", Operation::kVerw},
    {"swapgs", Operation::kSwapgs}, {"rdfsbase", Operation::kReadSegmentBase},
    {"rdgsbase", Operation::kReadSegmentBase}, {"wrfsbase", Operation::kWriteSegmentBase},
    {"wrgsbase", Operation::kWriteSegmentBase}, {"clts", Operation::kClts},
    {"lmsw", Operation::kLmsw}, {"smsw", Operation::kSmsw}, {"rdmsr", Operation::kRdmsr},
    {"wrmsr", Operation::kWrmsr}, {"xgetbv", Operation::kXgetbv}, {"xsetbv", Operation::kXsetbv},
    {"invd", Operation::kInvd}, {"wbinvd", Operation::kWbinvd}, {"invlpg", Operation::kInvlpg},
    {"hlt", Operation::kHlt}, {"monitor", Operation::kMonitor}, {"mwait", Operation::kMwait},
    {"clac", Operation::kClac}, {"stac", Operation::kStac}, {"vmcall", Operation::kVmcall},
    {"rsm", Operation::kRsm}, {"fxsave", Operation::kFxsave}, {"fxsave64", Operation::kFxsave},
    {"fxrstor", Operation::kFxrstor}, {"fxrstor64", Operation::kFxrstor},
    {"ldmxcsr", Operation::kLdmxcsr}, {"stmxcsr", Operation::kStmxcsr}, {"lea", Operation::kLea},
    {"bswap", Operation::kBswap}, {"xlat", Operation::kXlat}, {"salc", Operation::kSalc},
    {"cbw", Operation::kConvert}, {"cwde", Operation::kConvert}, {"cdqe", Operation::kConvert},
    {"cwd", Operation::kConvertDouble}, {"cdq", Operation::kConvertDouble},
    {"cqo", Operation::kConvertDouble}, {"lfence", Operation::kNop}, {"mfence", Operation::kNop},
    {"sfence", Operation::kNop}, {"ud0", Operation::kInvalid}, {"ud1", Operation::kInvalid},
    {"ud2", Operation::kInvalid},
};
// clang-format on

bool is_far(const ZydisDecodedInstruction &z)
{
    return z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

/// Between registers the rest of the destination stays, from memory it becomes 0.
Operation move_of_scalar(const ZydisDecodedInstruction &z)
{
    return z.raw.modrm.mod == 3 ? Operation::kMovPart : Operation::kMovVector;
}

Operation operation_of(const ZydisDecodedInstruction &z)
{
    const bool one_byte = z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT;
    const bool legacy = z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    switch (z.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSD:
        return one_byte ? Operation::kMovs : move_of_scalar(z);
    case ZYDIS_MNEMONIC_MOVSS:
        return move_of_scalar(z);
    case ZYDIS_MNEMONIC_CMPSD:
        return one_byte ? Operation::kCmps : Operation::kUnknown;
    case ZYDIS_MNEMONIC_IMUL:
        return one_byte && (z.opcode & 0xfe) == 0xf6 ? Operation::kImul : Operation::kImulTo;
    case ZYDIS_MNEMONIC_SHL:
        return z.raw.modrm.reg == 6 ? Operation::kSal : Operation::kShl;
    case ZYDIS_MNEMONIC_MOV:
        if (!one_byte && z.opcode >= 0x20 && z.opcode <= 0x23) {
            constexpr Operation kMoves[] = {Operation::kMovFromControl, Operation::kMovFromDebug,
                                            Operation::kMovToControl, Operation::kMovToDebug};
            return kMoves[z.opcode & 3];
        }
        if (!one_byte && z.opcode != 0xc3)
            return Operation::kUnknown;
        return z.opcode == 0x8c   ? Operation::kStoreSegment
               : z.opcode == 0x8e ? Operation::kLoadSegment
                                  : Operation::kMov;
    case ZYDIS_MNEMONIC_JMP:
        return is_far(z) ? Operation::kJmpFar : Operation::kJmp;
    case ZYDIS_MNEMONIC_CALL:
        return is_far(z) ? Operation::kCallFar : Operation::kCall;
    case ZYDIS_MNEMONIC_RET:
        return is_far(z) ? Operation::kRetFar : Operation::kRet;
    case ZYDIS_MNEMONIC_POP:
        return z.opcode_map == ZYDIS_OPCODE_MAP_0F || ((z.opcode & 7) == 7 && z.opcode < 0x40)
                   ? Operation::kPopSegment
                   : Operation::kPop;
    default:
        break;
    }
    if (!legacy && z.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return Operation::kUnknown;
    static const std::map<std::string, Operation> mnemonics = [] {
        std::map<std::string, Operation> map;
        for (const Mnemonic &m : kMnemonics)
            map[m.name] = m.operation;
        return map;
    }();
    const std::string name = ZydisMnemonicGetString(z.mnemonic);
    if (!legacy && name[0] != 'v')
        return Operation::kUnknown; // Knights Corner has TZCNT and such with a VEX prefix
    const auto found = mnemonics.find(name);
    return found == mnemonics.end() ? Operation::kUnknown : found->second;
}

/// Forms of known instructions that never touch memory, or that nobody needs: not in our tables.
bool left_out(const ZydisDecodedInstruction &z, Operation operation)
{
    switch (operation) {
    case Operation::kMovVector:
    case Operation::kMovLow:
    case Operation::kMovHigh:
        return z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
               (z.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX || z.raw.modrm.mod == 3);
    default:
        return false;
    }
}

/// Zydis' register as our number; kNoRegister for none, 16 for RIP and EIP.
u8 gpr_of(ZydisRegister reg, bool *high_byte = nullptr)
{
    if (reg == ZYDIS_REGISTER_NONE)
        return kNoRegister;
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return 16;
    const bool high = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
    if (high_byte != nullptr)
        *high_byte = high;
    if (high)
        return static_cast<u8>(reg - ZYDIS_REGISTER_AH);
    if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
        return static_cast<u8>(reg - ZYDIS_REGISTER_SPL + kRsp);
    return static_cast<u8>(ZydisRegisterGetId(reg));
}

u8 segment_of(ZydisRegister reg)
{
    switch (reg) {
    case ZYDIS_REGISTER_ES:
        return kEs;
    case ZYDIS_REGISTER_CS:
        return kCs;
    case ZYDIS_REGISTER_SS:
        return kSs;
    case ZYDIS_REGISTER_DS:
        return kDs;
    case ZYDIS_REGISTER_FS:
        return kFs;
    case ZYDIS_REGISTER_GS:
        return kGs;
    default:
        return 0xff;
    }
}

class Comparison {
  public:
    Comparison(CodeMode mode, const std::vector<u8> &bytes) : mode_{mode}, bytes_{bytes} {}

    /// What the two make of the bytes; false when a check failed.
    bool run(ZydisDecoder &decoder)
    {
        const ZyanStatus status =
            ZydisDecoderDecodeFull(&decoder, bytes_.data(), bytes_.size(), &z_, operands_);
        d_ = decode(mode_, bytes_);
        // What MPX lacks is a hint like the rest of 0F 18 to 1F.
        if (!ZYAN_SUCCESS(status) && d_.insn.operation == Operation::kNop)
            return true;
        const auto [expected, exact] = expected_status(status);
        if (d_.status != expected && exact)
            return fail("status " + std::to_string(static_cast<int>(d_.status)) + ", not " +
                        std::to_string(static_cast<int>(expected)));
        if (d_.status == DecodeStatus::kDecoded)
            return expected == DecodeStatus::kDecoded ? same() : fail("decoded, but wrongly");
        return true;
    }
    bool decoded() const { return d_.status == DecodeStatus::kDecoded; }

  private:
    bool fail(const std::string &what)
    {
        ADD_FAILURE() << what << ": mode " << static_cast<int>(mode_) << ": " << hex_of(bytes_);
        return false;
    }

    /// The status we should have, and whether it must be that one: Zydis looks at operands and
    /// prefixes of instructions that are none of ours.
    std::pair<DecodeStatus, bool> expected_status(ZyanStatus status)
    {
        switch (status) {
        case ZYAN_STATUS_SUCCESS:
            if (z_.encoding == ZYDIS_INSTRUCTION_ENCODING_XOP)
                return {DecodeStatus::kInvalid, false}; // AMD's
            operation_ = operation_of(z_);
            if (operation_ == Operation::kUnknown || left_out(z_, operation_))
                return {DecodeStatus::kUnknown, true};
            if (operation_ == Operation::kInvalid)
                return {DecodeStatus::kInvalid, true};
            return {DecodeStatus::kDecoded, true};
        case ZYDIS_STATUS_INSTRUCTION_TOO_LONG:
            return {DecodeStatus::kTooLong, false};
        case ZYDIS_STATUS_NO_MORE_DATA:
            return {DecodeStatus::kTruncated, false};
        case ZYDIS_STATUS_ILLEGAL_LOCK:
            return {DecodeStatus::kInvalid, false};
        default:
            return {DecodeStatus::kUnknown, false};
        }
    }

    bool same()
    {
        const Instruction &i = d_.insn;
        if (i.length != z_.length)
            return fail("length");
        if (i.operation != operation_)
            return fail("operation");
        if (i.address_size * 8 != z_.address_width && i.operation != Operation::kNop)
            return fail("address size");
        const bool rep = z_.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE);
        if (is_string() && (i.rep || i.repne) != (rep || (z_.attributes & ZYDIS_ATTRIB_HAS_REPNE)))
            return fail("repeat prefix");
        if (i.lock != ((z_.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0))
            return fail("lock prefix");
        if (has_implicit_operands())
            return true;
        if (i.operation == Operation::kEnter)
            return same_operand(i.source, operands_[0]) &&
                   (i.second_immediate == operands_[1].imm.value.u || fail("nesting level"));
        // Ours in Zydis' order.
        std::vector<const Operand *> ours = {&i.destination, &i.source, &i.third};
        if (i.third.kind == OperandKind::kVector)
            std::swap(ours[1], ours[2]);
        std::erase_if(ours, [](const Operand *o) { return o->kind == OperandKind::kNone; });
        if (ours.size() > z_.operand_count || (!is_string() && ours.size() < visible()))
            return fail("number of operands");
        for (usize n = 0; n < ours.size(); n++)
            if (!same_operand(*ours[n], operands_[n]))
                return false;
        return true;
    }

    /// Those of hints nobody looks at; XLAT's are given by its opcode.
    bool has_implicit_operands() const
    {
        return d_.insn.operation == Operation::kNop || d_.insn.operation == Operation::kXlat;
    }
    bool is_string() const { return d_.insn.operation >= Operation::kMovs; }
    usize visible() const { return z_.operand_count_visible; }

    bool same_operand(const Operand &ours, const ZydisDecodedOperand &theirs)
    {
        // MOVSXD with a 16-bit operand size reads 16 bits (SDM Vol. 2B, MOVSXD); Zydis says 32. An
        // immediate is as wide as the instruction has it; a vector register whole.
        const bool movsxd_16 = d_.insn.opcode == 0x63 && d_.insn.operand_size == 2;
        // How large the area of XSAVES is, the components say.
        const bool xsaves =
            d_.insn.operation == Operation::kXsaves || d_.insn.operation == Operation::kXrstors;
        // LEA's has no size, that of FXSAVE is known to its function; of a selector 16 bits count.
        const bool unsized =
            xsaves || d_.insn.operation == Operation::kLea ||
            d_.insn.operation == Operation::kFxsave || d_.insn.operation == Operation::kFxrstor ||
            d_.insn.operation == Operation::kInvlpg || d_.insn.operation == Operation::kFlushLine ||
            d_.insn.operation == Operation::kLsl || d_.insn.operation == Operation::kBound;
        const bool sized = ours.kind == OperandKind::kMemory || ours.kind == OperandKind::kRegister;
        if (sized && !unsized && ours.size * 8 != theirs.size && !movsxd_16)
            return fail("operand size");
        switch (theirs.type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            return same_register(ours, theirs.reg.value);
        case ZYDIS_OPERAND_TYPE_POINTER:
            if (ours.kind != OperandKind::kFarPointer ||
                d_.insn.second_immediate != theirs.ptr.segment ||
                d_.insn.immediate != theirs.ptr.offset)
                return fail("far pointer");
            return true;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE: {
            const u64 mask = ours.size == 8 ? ~u64{0} : (u64{1} << (8 * ours.size)) - 1;
            if (ours.kind !=
                    (theirs.imm.is_relative ? OperandKind::kRelative : OperandKind::kImmediate) ||
                ((d_.insn.immediate ^ theirs.imm.value.u) & mask) != 0)
                return fail("immediate operand");
            return true;
        }
        case ZYDIS_OPERAND_TYPE_MEMORY:
            return ours.kind == OperandKind::kMemory ? same_memory(theirs)
                                                     : fail("no memory operand");
        default:
            return fail("operand type");
        }
    }

    bool same_register(const Operand &ours, ZydisRegister theirs)
    {
        bool high = false;
        const int number = static_cast<u8>(ZydisRegisterGetId(theirs));
        switch (ZydisRegisterGetClass(theirs)) {
        case ZYDIS_REGCLASS_XMM:
        case ZYDIS_REGCLASS_YMM:
            if (ours.kind == OperandKind::kVector && int{ours.reg} == number)
                return true;
            return fail("vector register");
        case ZYDIS_REGCLASS_MMX:
            if (ours.kind == OperandKind::kMmx && int{ours.reg} == number)
                return true;
            return fail("MMX register");
        case ZYDIS_REGCLASS_CONTROL:
            if (ours.kind == OperandKind::kControl && int{ours.reg} == number)
                return true;
            return fail("control register");
        case ZYDIS_REGCLASS_DEBUG:
            if (ours.kind == OperandKind::kDebug && int{ours.reg} == number)
                return true;
            return fail("debug register");
        case ZYDIS_REGCLASS_SEGMENT:
            if (ours.kind == OperandKind::kSegment && ours.reg == segment_of(theirs))
                return true;
            return fail("segment register");
        default:
            if (ours.kind == OperandKind::kRegister && ours.reg == gpr_of(theirs, &high) &&
                ours.high_byte == high)
                return true;
            return fail("register operand");
        }
    }

    bool has_sib() const { return (z_.attributes & ZYDIS_ATTRIB_HAS_SIB) != 0; }

    bool same_memory(const ZydisDecodedOperand &theirs)
    {
        const MemoryOperand &m = d_.insn.memory;
        const ZydisDecodedOperandMem &t = theirs.mem;
        const u8 base = gpr_of(t.base);
        if (base == kRdi && t.segment == ZYDIS_REGISTER_ES && d_.insn.modrm == 0 && is_string())
            return true; // ES:rDI of a string instruction, which we take for granted
        // Without a base a SIB byte has none, whatever REX.B says (SDM Vol. 2A, table 2-5); Zydis
        // 4.0 then has R13 and no displacement.
        const bool no_base = z_.raw.modrm.mod == 0 && z_.raw.modrm.rm == 4 &&
                             z_.raw.sib.base == 5 && d_.insn.address_size > 2 && has_sib();
        if (no_base ? m.base != kNoRegister
                    : m.rip_relative != (base == 16) || (!m.rip_relative && m.base != base))
            return fail("base");
        if (m.index != gpr_of(t.index))
            return fail("index");
        if (m.index != kNoRegister && d_.insn.address_size > 2 && m.scale != t.scale)
            return fail("scale");
        const u64 mask = ~u64{0} >> (64 - 8 * d_.insn.address_size);
        const u64 displacement = static_cast<u64>(no_base ? z_.raw.disp.value : t.disp.value);
        if (((m.displacement ^ displacement) & mask) != 0)
            return fail("displacement");
        // LEA uses none. Before an indirect branch 3E is a hint, too, to Zydis only that (SDM Vol.
        // 1, 17.3.1).
        const bool hinted = (z_.attributes & ZYDIS_ATTRIB_HAS_NOTRACK) != 0;
        if (m.segment != segment_of(t.segment) && d_.insn.operation != Operation::kLea && !hinted)
            return fail("segment");
        return true;
    }

    CodeMode mode_;
    const std::vector<u8> &bytes_;
    ZydisDecodedInstruction z_;
    ZydisDecodedOperand operands_[ZYDIS_MAX_OPERAND_COUNT];
    Decoded d_;
    Operation operation_ = Operation::kUnknown;
};

/// How many encodings to try, and where the random numbers start: a long run is asked for by
/// MINIVMX_ENCODINGS, and repeated with MINIVMX_SEED.
u64 from_environment(const char *name, u64 otherwise)
{
    const char *text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

class AgainstZydis : public testing::TestWithParam<CodeMode> {
  protected:
    const u64 seed = from_environment("MINIVMX_SEED", 100);
    const u64 encodings = from_environment("MINIVMX_ENCODINGS", 60000);
    std::mt19937_64 random{seed + static_cast<u64>(GetParam())};
    u64 below(u64 n) { return random() % n; }
    ZydisDecoder decoder{};

    void SetUp() override
    {
        switch (GetParam()) {
        case CodeMode::k16:
            ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
            break;
        case CodeMode::k32:
            ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
            break;
        case CodeMode::k64:
            ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
            break;
        }
    }

    void add_prefixes(std::vector<u8> &bytes)
    {
        constexpr u8 prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26,
                                   0x2e, 0x36, 0x3e, 0x64, 0x65};
        const u64 count = below(3) ? below(3) : below(14);
        for (u64 i = 0; i < count; i++) {
            const u8 prefix = prefixes[below(std::size(prefixes))];
            if (prefix != 0xf0 || below(8) == 0)
                bytes.push_back(prefix);
        }
        if (GetParam() == CodeMode::k64 && below(2)) {
            bytes.push_back(static_cast<u8>(0x40 | below(16)));
            if (below(16) == 0)
                bytes.push_back(prefixes[below(std::size(prefixes))]);
        }
    }
    /// Every opcode of the tables is as likely as any other.
    struct Known {
        OpcodeMap map;
        u8 opcode;
    };
    static const std::vector<Known> &known_opcodes()
    {
        static const std::vector<Known> known = [] {
            std::vector<Known> all;
            for (const OpcodeMap map : {OpcodeMap::kOneByte, OpcodeMap::k0F, OpcodeMap::k0F38,
                                        OpcodeMap::kVex0F, OpcodeMap::kVex0F38})
                for (unsigned opcode = 0; opcode < 256; opcode++)
                    if (!find_opcode(map, static_cast<u8>(opcode)).empty())
                        all.push_back({map, static_cast<u8>(opcode)});
            return all;
        }();
        return known;
    }
    void add_vex(std::vector<u8> &bytes, OpcodeMap map)
    {
        const bool long_form = map == OpcodeMap::kVex0F38 || below(2);
        const bool code_64 = GetParam() == CodeMode::k64;
        const u8 high = code_64 ? static_cast<u8>(random()) : 0xff;
        const u8 vvvv = below(4) ? 0x78 : static_cast<u8>(random() & 0x78);
        const u8 rest = vvvv | static_cast<u8>(random() & 7);
        if (long_form) {
            const u8 selector = map == OpcodeMap::kVex0F ? 1 : 2;
            bytes.insert(bytes.end(), {0xc4, static_cast<u8>((high & 0xe0) | selector),
                                       static_cast<u8>(rest | (random() & 0x80))});
        } else {
            bytes.insert(bytes.end(), {0xc5, static_cast<u8>((high & 0x80) | rest)});
        }
    }
    std::vector<u8> known_instruction()
    {
        std::vector<u8> bytes;
        const Known known = known_opcodes()[below(known_opcodes().size())];
        const bool vex = known.map >= OpcodeMap::kVex0F;
        if (!vex || below(8) == 0)
            add_prefixes(bytes);
        if (vex)
            add_vex(bytes, known.map);
        else if (known.map != OpcodeMap::kOneByte)
            bytes.push_back(0x0f);
        if (known.map == OpcodeMap::k0F38)
            bytes.push_back(0x38);
        bytes.push_back(known.opcode);
        // ModRM, SIB, displacement, immediate, as far as there are such.
        for (unsigned i = 0; i < 15; i++)
            bytes.push_back(static_cast<u8>(random()));
        if (below(8) == 0)
            bytes.resize(1 + below(bytes.size()));
        return bytes;
    }
    bool compare(const std::vector<u8> &bytes, u64 &decoded)
    {
        Comparison comparison{GetParam(), bytes};
        const bool same = comparison.run(decoder);
        decoded += comparison.decoded();
        return same;
    }
};

TEST_P(AgainstZydis, KnownOpcodes)
{
    SCOPED_TRACE("MINIVMX_SEED=" + std::to_string(seed));
    u64 decoded = 0;
    for (u64 i = 0; i < encodings; i++)
        ASSERT_TRUE(compare(known_instruction(), decoded));
    EXPECT_GT(decoded, encodings / 3);
    std::cout << "  " << encodings << " encodings, " << decoded
              << " valid ones; MINIVMX_SEED=" << seed << "\n";
}

TEST_P(AgainstZydis, MutatedEncodings)
{
    SCOPED_TRACE("MINIVMX_SEED=" + std::to_string(seed));
    u64 decoded = 0;
    std::vector<u8> bytes;
    for (u64 i = 0; i < encodings / 2; i++) {
        if (i % 8 == 0)
            bytes = known_instruction();
        u8 &byte = bytes[below(bytes.size() < 6 ? bytes.size() : 6)];
        byte = below(2) ? static_cast<u8>(random()) : byte ^ static_cast<u8>(1 << below(8));
        ASSERT_TRUE(compare(bytes, decoded));
    }
    EXPECT_GT(decoded, encodings / 10);
}

TEST_P(AgainstZydis, RandomBytes)
{
    SCOPED_TRACE("MINIVMX_SEED=" + std::to_string(seed));
    u64 decoded = 0;
    for (u64 i = 0; i < encodings / 4; i++) {
        std::vector<u8> bytes(1 + below(20));
        for (u8 &byte : bytes)
            byte = static_cast<u8>(random());
        ASSERT_TRUE(compare(bytes, decoded));
    }
}

std::string mode_name(const testing::TestParamInfo<CodeMode> &info)
{
    constexpr const char *kNames[] = {"code16", "code32", "code64"};
    return kNames[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Modes, AgainstZydis,
                         testing::Values(CodeMode::k16, CodeMode::k32, CodeMode::k64), mode_name);

} // namespace
} // namespace minivmx::test
