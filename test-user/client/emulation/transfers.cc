// SPDX-License-Identifier: GPL-2.0-only
//
// Every way to load a segment register, with every selector there is.
#include "compare.hpp"

namespace {

using namespace emulation;

constexpr uint32_t kOffset = kTarget;

std::string described(const char *what, uint32_t selector)
{
    char text[64];
    snprintf(text, sizeof(text), "%s 0x%x", what, selector);
    return text;
}

// MOV EAX, value; PUSH RAX. In each mode one element of the stack.
Code &push(Code &code, uint32_t value)
{
    return code.byte(0xb8).number(value, 4).byte(0x50);
}

Code far_pointer(uint8_t opcode, uint32_t selector)
{
    return Code{opcode}.number(kOffset, 4).number(selector, 2);
}

// In 64-bit code far pointers are in memory: MOV dword [RBX], offset; MOV word [RBX + 4], selector;
// JMP or CALL [RBX].
Code far_memory(uint8_t extension, uint32_t selector)
{
    return Code{0xc7, 0x03}
        .number(kOffset, 4)
        .byte(0x66)
        .byte(0xc7)
        .byte(0x43)
        .byte(4)
        .number(selector, 2)
        .byte(0xff)
        .byte(static_cast<uint8_t>(extension << 3 | 3));
}

Code load(uint8_t segment, uint32_t selector)
{
    return Code{0xb8}
        .number(selector, 4)
        .byte(0x8e)
        .byte(static_cast<uint8_t>(0xc0 | segment << 3));
}

// As an outer level would have left it on the stack: SS, rSP, and for IRET the flags.
Code return_frame(uint32_t selector, bool interrupt, bool wide)
{
    Code code;
    push(code, (selector & 3) == 0 ? kData0 : (selector & 3) == 1 ? kData1 | 1u : kData3);
    push(code, kOuterTop - 0x40);
    if (interrupt)
        push(code, 0x3202);
    push(code, selector);
    push(code, kOffset);
    if (wide)
        code.byte(0x48);
    return code.byte(interrupt ? 0xcf : 0xcb);
}

void sweep(Comparison &c, Cpl cpl)
{
    const bool lm = c.world.mode() == Mode::kLong;
    for (uint32_t selector = 0; selector <= kLast; selector++) {
        if (selector & 4 && selector > 0x17)
            continue; // of the LDT its two segments, and what is behind them
        const uint32_t rpl = selector & 3;
        if ((rpl == 1 && (selector & ~3u) != kData1 && (selector & ~3u) != kCode1) || rpl == 2)
            continue;
        for (const uint8_t segment : {2, 3})
            c.compare(described("mov segment", selector | segment << 28), load(segment, selector),
                      cpl);
        c.compare(described("jmp", selector),
                  lm ? far_memory(5, selector) : far_pointer(0xea, selector), cpl);
        c.compare(described("call", selector),
                  lm ? far_memory(3, selector) : far_pointer(0x9a, selector), cpl);
        c.compare(described("retf", selector), return_frame(selector, false, lm), cpl);
        c.compare(described("iret", selector), return_frame(selector, true, lm), cpl);
    }
}

void sweep_levels(Mode mode)
{
    Comparison c(mode);
    sweep(c, Cpl::k0);
    sweep(c, Cpl::k3);
}

TEST_LIMIT(transfers_in_protected_mode, 60)
{
    sweep_levels(Mode::kProtected);
}

TEST_LIMIT(transfers_with_paging, 60)
{
    sweep_levels(Mode::kPaged);
}

TEST_LIMIT(transfers_in_long_mode, 60)
{
    sweep_levels(Mode::kLong);
}

// ---- Questions and system segments ------------------------------------------

void ask_all(Mode mode)
{
    Comparison c(mode);
    for (const Cpl cpl : {Cpl::k0, Cpl::k3})
        for (uint32_t selector = 0; selector <= kLast; selector += selector & 1 ? 7 : 1) {
            Code code = Code{0xb9}.number(selector, 4);
            for (const uint8_t byte : {0x0f, 0x02, 0xc1, 0x9c, 0x0f, 0x03, 0xd1, 0x9c, 0x0f, 0x00,
                                       0xe1, 0x9c, 0x0f, 0x00, 0xe9, 0x9c})
                code.byte(byte); // LAR EAX, ECX; PUSHF; LSL EDX, ECX; PUSHF; VERR; VERW
            c.compare(described("lar", selector), code, cpl);
            if (selector & 1)
                continue;
            c.compare(described("lldt", selector),
                      Code{0xb8}.number(selector, 4).byte(0x0f).byte(0x00).byte(0xd0), cpl);
            c.compare(described("ltr", selector),
                      Code{0xb8}.number(selector, 4).byte(0x0f).byte(0x00).byte(0xd8), cpl);
        }
}

TEST_LIMIT(selectors_in_protected_mode, 60)
{
    ask_all(Mode::kProtected);
}

TEST_LIMIT(selectors_in_long_mode, 60)
{
    ask_all(Mode::kLong);
}

// ---- Interrupts -------------------------------------------------------------

void interrupt_all(Mode mode)
{
    Comparison c(mode);
    for (const Cpl cpl : {Cpl::k0, Cpl::k3}) {
        for (uint32_t i = 0; i < gate_count() + 2; i++)
            c.compare(described("int", kFirstGate + i),
                      Code{0xcd, static_cast<uint8_t>(kFirstGate + i)}, cpl, 0x202);
        c.compare("int3", {0xcc}, cpl);
        c.compare("icebp", {0xf1}, cpl);
        if (mode != Mode::kLong)
            c.compare("into", {0xb0, 0x7f, 0x04, 0x01, 0xce}, cpl); // MOV AL, 127; ADD AL, 1
        for (const uint8_t vector : {0, 8, 10, 13, 14, 17, 255})
            c.compare(described("int", vector), Code{0xcd, vector}, cpl);
    }
}

TEST_LIMIT(interrupts_in_protected_mode, 60)
{
    interrupt_all(Mode::kProtected);
}

TEST_LIMIT(interrupts_with_paging, 60)
{
    interrupt_all(Mode::kPaged);
}

TEST_LIMIT(interrupts_in_long_mode, 60)
{
    interrupt_all(Mode::kLong);
}

} // namespace
