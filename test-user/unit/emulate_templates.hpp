// SPDX-License-Identifier: GPL-2.0-only
//
// The instructions that emulate_native_test.cc tries, as templates: opcodes, and what the rest of
// the encoding has to be.
#pragma once

#include <minivmx/types.hpp>

#include <utility>
#include <vector>

namespace minivmx::test {

enum Want : u32 {
    kByte = 1,        // the operand is a byte
    kImm8 = 2,        // with an immediate of a byte
    kImmZ = 4,        // as wide as the operand, at most 4 bytes
    kLock = 8,        // LOCK may stand before it
    kFixedSize = 16,  // neither 66 nor REX.W
    kNo66 = 32,       // REX.W, but not 66
    kAligned = 64,    // the operand must be
    kBitString = 128, // ModRM.reg is a bit offset
    kDivision = 256,
    kStack = 512,   // RSP is used
    kString = 1024, // no ModRM
    kVex = 2048,    // VEX; opcode[0] is vvvv:L:pp, opcode[1] the opcode
    kNoRexW = 4096,
    kRegisters = 8192, // both operands are
};

struct Template {
    const char *name;
    std::vector<u8> opcode; // mandatory prefix first
    int extension = -1;     // ModRM.reg
    u32 want = 0;
};

inline std::vector<Template> make_templates()
{
    std::vector<Template> all;
    auto add = [&](const char *name, std::vector<u8> opcode, int extension, u32 want) {
        all.push_back({name, std::move(opcode), extension, want});
    };
    static constexpr const char *kAlu[] = {"add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"};
    static constexpr const char *kShifts[] = {"rol", "ror", "rcl", "rcr",
                                              "shl", "shr", "sal", "sar"};
    for (u8 i = 0; i < 8; i++) {
        const u32 lock = i < 7 ? u32{kLock} : 0;
        const u8 base = static_cast<u8>(i * 8);
        add(kAlu[i], {base}, -1, kByte | lock);
        add(kAlu[i], {static_cast<u8>(base + 1)}, -1, lock);
        add(kAlu[i], {static_cast<u8>(base + 2)}, -1, kByte);
        add(kAlu[i], {static_cast<u8>(base + 3)}, -1, 0);
        add(kAlu[i], {0x80}, i, kByte | kImm8 | lock);
        add(kAlu[i], {0x81}, i, kImmZ | lock);
        add(kAlu[i], {0x83}, i, kImm8 | lock);
        add(kShifts[i], {0xc0}, i, kByte | kImm8);
        add(kShifts[i], {0xc1}, i, kImm8);
        add(kShifts[i], {0xd0}, i, kByte);
        add(kShifts[i], {0xd1}, i, 0);
        add(kShifts[i], {0xd2}, i, kByte);
        add(kShifts[i], {0xd3}, i, 0);
    }
    add("test", {0x84}, -1, kByte);
    add("test", {0x85}, -1, 0);
    add("test", {0xf6}, 0, kByte | kImm8);
    add("test", {0xf7}, 0, kImmZ);
    for (u8 byte = 0; byte < 2; byte++) {
        const u32 size = byte ? 0 : u32{kByte};
        const u8 f6 = static_cast<u8>(0xf6 + byte);
        const u8 fe = static_cast<u8>(0xfe + byte);
        add("not", {f6}, 2, size | kLock);
        add("neg", {f6}, 3, size | kLock);
        add("mul", {f6}, 4, size);
        add("imul", {f6}, 5, size);
        add("div", {f6}, 6, size | kDivision);
        add("idiv", {f6}, 7, size | kDivision);
        add("inc", {fe}, 0, size | kLock);
        add("dec", {fe}, 1, size | kLock);
        add("xchg", {static_cast<u8>(0x86 + byte)}, -1, size | kLock);
        add("mov", {static_cast<u8>(0x88 + byte)}, -1, size);
        add("mov", {static_cast<u8>(0x8a + byte)}, -1, size);
        add("cmpxchg", {0x0f, static_cast<u8>(0xb0 + byte)}, -1, size | kLock);
        add("xadd", {0x0f, static_cast<u8>(0xc0 + byte)}, -1, size | kLock);
        add("movs", {static_cast<u8>(0xa4 + byte)}, -1, size | kString);
        add("cmps", {static_cast<u8>(0xa6 + byte)}, -1, size | kString);
        add("stos", {static_cast<u8>(0xaa + byte)}, -1, size | kString);
        add("lods", {static_cast<u8>(0xac + byte)}, -1, size | kString);
        add("scas", {static_cast<u8>(0xae + byte)}, -1, size | kString);
    }
    add("mov", {0xc6}, 0, kByte | kImm8);
    add("mov", {0xc7}, 0, kImmZ);
    add("mov from segment", {0x8c}, 0, kFixedSize); // ES: 0 in 64-bit user code, as in our guest
    add("movsxd", {0x63}, -1, 0);
    for (const u8 opcode : {0xb6, 0xb7, 0xbe, 0xbf})
        add("movx", {0x0f, static_cast<u8>(opcode)}, -1, 0);
    add("imul", {0x69}, -1, kImmZ);
    add("imul", {0x6b}, -1, kImm8);
    add("imul", {0x0f, 0xaf}, -1, 0);
    for (u8 i = 0; i < 4; i++) {
        const u32 lock = i ? u32{kLock} : 0;
        add("bt", {0x0f, static_cast<u8>(0xa3 + 8 * i)}, -1, kBitString | lock);
        add("bt", {0x0f, 0xba}, 4 + i, kImm8 | lock);
    }
    add("shld", {0x0f, 0xa4}, -1, kImm8);
    add("shld", {0x0f, 0xa5}, -1, 0);
    add("shrd", {0x0f, 0xac}, -1, kImm8);
    add("shrd", {0x0f, 0xad}, -1, 0);
    add("bsf", {0x0f, 0xbc}, -1, 0);
    add("bsr", {0x0f, 0xbd}, -1, 0);
    add("tzcnt", {0xf3, 0x0f, 0xbc}, -1, 0);
    add("lzcnt", {0xf3, 0x0f, 0xbd}, -1, 0);
    add("cmpxchg8b", {0x0f, 0xc7}, 1, kNo66 | kLock | kAligned);
    for (u8 i = 0; i < 16; i++) {
        add("cmov", {0x0f, static_cast<u8>(0x40 + i)}, -1, 0);
        add("set", {0x0f, static_cast<u8>(0x90 + i)}, -1, kByte);
    }
    add("movbe", {0x0f, 0x38, 0xf0}, -1, 0);
    add("movbe", {0x0f, 0x38, 0xf1}, -1, 0);
    add("movnti", {0x0f, 0xc3}, -1, kNo66);
    add("push", {0xff}, 6, kStack);
    add("pop", {0x8f}, 0, kStack);
    add("prefetch", {0x0f, 0x18}, 1, 0);
    add("clflush", {0x0f, 0xae}, 7, kFixedSize);

    for (const u8 opcode : {0x10, 0x11, 0x12, 0x13, 0x16, 0x17, 0x28, 0x29, 0x2b}) {
        const u32 aligned = opcode >= 0x28 ? u32{kAligned} : 0;
        const u8 low = static_cast<u8>(opcode);
        add("movps", {0x0f, low}, -1, kFixedSize | aligned);
        add("movpd", {0x66, 0x0f, low}, -1, kFixedSize | aligned);
        if (opcode < 0x12) {
            add("movss", {0xf3, 0x0f, low}, -1, kFixedSize);
            add("movsd", {0xf2, 0x0f, low}, -1, kFixedSize);
        }
    }
    add("movd", {0x66, 0x0f, 0x6e}, -1, kNo66);
    add("movd", {0x66, 0x0f, 0x7e}, -1, kNo66);
    add("movdqa", {0x66, 0x0f, 0x6f}, -1, kFixedSize | kAligned);
    add("movdqa", {0x66, 0x0f, 0x7f}, -1, kFixedSize | kAligned);
    add("movdqu", {0xf3, 0x0f, 0x6f}, -1, kFixedSize);
    add("movdqu", {0xf3, 0x0f, 0x7f}, -1, kFixedSize);
    add("movq", {0xf3, 0x0f, 0x7e}, -1, kFixedSize);
    add("movq", {0x66, 0x0f, 0xd6}, -1, kFixedSize);
    add("movntdq", {0x66, 0x0f, 0xe7}, -1, kFixedSize | kAligned);
    add("lddqu", {0xf2, 0x0f, 0xf0}, -1, kFixedSize);
    add("movntdqa", {0x66, 0x0f, 0x38, 0x2a}, -1, kFixedSize | kAligned);

    // From register to register.
    for (const u8 opcode : {0x10, 0x11, 0x28, 0x29}) {
        const u8 low = static_cast<u8>(opcode);
        add("movps", {0x0f, low}, -1, kFixedSize | kRegisters);
        add("movpd", {0x66, 0x0f, low}, -1, kFixedSize | kRegisters);
    }
    for (const u8 opcode : {0x10, 0x11}) {
        add("movss", {0xf3, 0x0f, opcode}, -1, kFixedSize | kRegisters);
        add("movsd", {0xf2, 0x0f, opcode}, -1, kFixedSize | kRegisters);
    }
    add("movhlps", {0x0f, 0x12}, -1, kFixedSize | kRegisters);
    add("movlhps", {0x0f, 0x16}, -1, kFixedSize | kRegisters);
    for (const u8 opcode : {0x6f, 0x7f}) {
        add("movdqa", {0x66, 0x0f, opcode}, -1, kFixedSize | kRegisters);
        add("movdqu", {0xf3, 0x0f, opcode}, -1, kFixedSize | kRegisters);
    }
    add("movq", {0xf3, 0x0f, 0x7e}, -1, kFixedSize | kRegisters);
    add("movq", {0x66, 0x0f, 0xd6}, -1, kFixedSize | kRegisters);
    add("movd", {0x66, 0x0f, 0x6e}, -1, kNo66 | kRegisters);
    add("movd", {0x66, 0x0f, 0x7e}, -1, kNo66 | kRegisters);

    // VEX.vvvv is 1111, or a register where one half comes from there.
    for (u8 l = 0; l < 2; l++) {
        auto vex = [&](const char *name, u8 pp, u8 opcode, u32 want) {
            add(name, {static_cast<u8>(0x78 | l << 2 | pp), opcode}, -1, kVex | kFixedSize | want);
        };
        for (const u8 opcode : {0x10, 0x11, 0x28, 0x29, 0x2b}) {
            vex("vmovps", 0, opcode, opcode >= 0x28 ? u32{kAligned} : 0);
            vex("vmovpd", 1, opcode, opcode >= 0x28 ? u32{kAligned} : 0);
        }
        for (const u8 opcode : {0x10, 0x11}) {
            vex("vmovss", 2, opcode, 0);
            vex("vmovsd", 3, opcode, 0);
        }
        vex("vmovdqa", 1, 0x6f, kAligned);
        vex("vmovdqa", 1, 0x7f, kAligned);
        vex("vmovdqu", 2, 0x6f, 0);
        vex("vmovdqu", 2, 0x7f, 0);
        vex("vmovntdq", 1, 0xe7, kAligned);
        vex("vlddqu", 3, 0xf0, 0);
        if (l == 1)
            continue;
        for (const u8 opcode : {0x13, 0x17})
            vex("vmovlps", opcode & 1, opcode, 0);
        vex("vmovd", 1, 0x6e, 0);
        vex("vmovd", 1, 0x7e, 0);
        vex("vmovq", 2, 0x7e, 0);
        vex("vmovq", 1, 0xd6, 0);
        for (u8 v = 0; v < 16; v++) {
            add("vmovlps", {static_cast<u8>(v << 3), 0x12}, -1, kVex | kFixedSize);
            add("vmovhpd", {static_cast<u8>(v << 3 | 1), 0x16}, -1, kVex | kFixedSize);
        }
    }
    return all;
}

} // namespace minivmx::test
