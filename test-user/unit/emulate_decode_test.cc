// SPDX-License-Identifier: GPL-2.0-only
//
// The decoder against Zydis: random encodings of the opcodes we know (and of some we don't), with
// every prefix, in 16-, 32- and 64-bit code.
#include <minivmx/decode.hpp>
#include <minivmx/vcpu.hpp>

#include <Zydis/Zydis.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
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
    EXPECT_EQ(decode(CodeMode::k64, {0x0f, 0x0b}).status, DecodeStatus::kUnknown);
    EXPECT_EQ(decode(CodeMode::k64, {0xc7, 0xf8, 0, 0, 0, 0}).status, DecodeStatus::kUnknown);
    EXPECT_EQ(decode(CodeMode::k32, {0x63, 0x00}).status, DecodeStatus::kUnknown); // ARPL
    std::vector<u8> bytes(16, 0x66);
    bytes[14] = 0x89;
    bytes[15] = 0x03;
    EXPECT_EQ(decode(CodeMode::k64, bytes).status, DecodeStatus::kTooLong);
    bytes.erase(bytes.begin());
    EXPECT_EQ(decode(CodeMode::k64, bytes).status, DecodeStatus::kDecoded);
    EXPECT_EQ(decode(CodeMode::k64, std::vector<u8>(32, 0x66)).status, DecodeStatus::kTooLong);
}

// ---- Against Zydis ----------------------------------------------------------

/// An opcode of the table, with the operation Zydis has for it.
struct Known {
    bool two_byte;
    u8 opcode;
};
constexpr Known kKnown[] = {
    {false, 0x63}, {false, 0x6c}, {false, 0x6d}, {false, 0x6e}, {false, 0x6f},
    {false, 0x88}, {false, 0x89}, {false, 0x8a}, {false, 0x8b}, {false, 0xa0},
    {false, 0xa1}, {false, 0xa2}, {false, 0xa3}, {false, 0xa4}, {false, 0xa5},
    {false, 0xaa}, {false, 0xab}, {false, 0xac}, {false, 0xad}, {false, 0xc6},
    {false, 0xc7}, {true, 0xb6},  {true, 0xb7},  {true, 0xbe},  {true, 0xbf},
};

bool in_table(const ZydisDecodedInstruction &z)
{
    if (z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    if (z.mnemonic == ZYDIS_MNEMONIC_ARPL || z.mnemonic == ZYDIS_MNEMONIC_XABORT ||
        z.mnemonic == ZYDIS_MNEMONIC_XBEGIN)
        return false;
    return std::ranges::any_of(kKnown, [&](const Known &known) {
        const auto map = known.two_byte ? ZYDIS_OPCODE_MAP_0F : ZYDIS_OPCODE_MAP_DEFAULT;
        return z.opcode_map == map && z.opcode == known.opcode;
    });
}

Operation operation_of(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return Operation::kMov;
    case ZYDIS_MNEMONIC_MOVZX:
        return Operation::kMovzx;
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
        return Operation::kMovsx;
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
        return Operation::kMovs;
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
        return Operation::kStos;
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
        return Operation::kLods;
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
        return Operation::kIns;
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
        return Operation::kOuts;
    default:
        return Operation::kUnknown;
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
            return {in_table(z_) ? DecodeStatus::kDecoded : DecodeStatus::kUnknown, true};
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
        if (i.operation != operation_of(z_.mnemonic))
            return fail("operation");
        if (i.address_size * 8 != z_.address_width)
            return fail("address size");
        const bool rep = z_.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE);
        const bool string = i.operation >= Operation::kMovs;
        if (string && (i.rep || i.repne) != (rep || (z_.attributes & ZYDIS_ATTRIB_HAS_REPNE)))
            return fail("repeat prefix");
        return same_operand(i.destination, operands_[0]) && same_operand(i.source, operands_[1]);
    }

    bool same_operand(const Operand &ours, const ZydisDecodedOperand &theirs)
    {
        // MOVSXD with a 16-bit operand size reads 16 bits (SDM Vol. 2B, MOVSXD); Zydis says 32.
        const bool movsxd_16 = d_.insn.opcode == 0x63 && d_.insn.operand_size == 2;
        if (ours.size * 8 != theirs.size && !movsxd_16)
            return fail("operand size");
        switch (theirs.type) {
        case ZYDIS_OPERAND_TYPE_REGISTER: {
            bool high = false;
            const u8 reg = gpr_of(theirs.reg.value, &high);
            if (ours.kind != OperandKind::kRegister || ours.reg != reg || ours.high_byte != high)
                return fail("register operand");
            return true;
        }
        case ZYDIS_OPERAND_TYPE_IMMEDIATE: {
            const u64 mask = ours.size == 8 ? ~u64{0} : (u64{1} << (8 * ours.size)) - 1;
            if (ours.kind != OperandKind::kImmediate ||
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

    bool has_sib() const { return (z_.attributes & ZYDIS_ATTRIB_HAS_SIB) != 0; }

    bool same_memory(const ZydisDecodedOperand &theirs)
    {
        const MemoryOperand &m = d_.insn.memory;
        const ZydisDecodedOperandMem &t = theirs.mem;
        const u8 base = gpr_of(t.base);
        if (base == kRdi && t.segment == ZYDIS_REGISTER_ES && d_.insn.modrm == 0 &&
            d_.insn.operation >= Operation::kMovs)
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
        if (m.segment != segment_of(t.segment))
            return fail("segment");
        return true;
    }

    CodeMode mode_;
    const std::vector<u8> &bytes_;
    ZydisDecodedInstruction z_;
    ZydisDecodedOperand operands_[ZYDIS_MAX_OPERAND_COUNT];
    Decoded d_;
};

class AgainstZydis : public testing::TestWithParam<CodeMode> {
  protected:
    std::mt19937_64 random{static_cast<u64>(GetParam()) + 100};
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
    std::vector<u8> known_instruction()
    {
        std::vector<u8> bytes;
        add_prefixes(bytes);
        const Known &known = kKnown[below(std::size(kKnown))];
        if (known.two_byte)
            bytes.push_back(0x0f);
        bytes.push_back(known.opcode);
        // ModRM, SIB, displacement, immediate, as far as there are such.
        for (unsigned i = 0; i < 15; i++)
            bytes.push_back(static_cast<u8>(random()));
        if ((known.opcode & 0xfe) == 0xc6 && below(8))
            bytes[bytes.size() - 15] &= 0xc7;
        if (below(8) == 0)
            bytes.resize(1 + below(bytes.size()));
        return bytes;
    }
};

TEST_P(AgainstZydis, KnownOpcodes)
{
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{6};
    u64 count = 0, decoded = 0;
    while (count < 1500000 && std::chrono::steady_clock::now() < end) {
        for (unsigned i = 0; i < 1000; i++, count++) {
            const std::vector<u8> bytes = known_instruction();
            Comparison comparison{GetParam(), bytes};
            ASSERT_TRUE(comparison.run(decoder));
            decoded += comparison.decoded();
        }
    }
    EXPECT_GT(decoded, count / 2);
    RecordProperty("encodings", std::to_string(count));
}

TEST_P(AgainstZydis, RandomBytes)
{
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{2};
    u64 count = 0;
    while (count < 500000 && std::chrono::steady_clock::now() < end) {
        for (unsigned i = 0; i < 1000; i++, count++) {
            std::vector<u8> bytes(1 + below(20));
            for (u8 &byte : bytes)
                byte = static_cast<u8>(random());
            Comparison comparison{GetParam(), bytes};
            ASSERT_TRUE(comparison.run(decoder));
        }
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
