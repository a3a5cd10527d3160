// SPDX-License-Identifier: GPL-2.0-only
// Arithmetic is done by the CPU itself, with the guest's flags: so results and flags are those of
// the CPU the guest runs on, the ones that the manual leaves undefined (AF after a logical
// operation, OF after a shift by more than one, all but ZF after BSF ...) included.
//
// Flags travel in AX as LAHF and SAHF have them: SF, ZF, AF, PF and CF in AH; OF is in AL. Adding
// 7F to AL, which is 0 or 1, gives OF back. Every CPU with EPT has LAHF in 64-bit mode.
#pragma once

#include <minivmx/types.hpp>
#include <minivmx/x86.hpp>

namespace minivmx::native {

inline constexpr u64 kLowFlags = 0xd5; // SF, ZF, AF, PF, CF
inline constexpr unsigned kOverflowBit = 11;
inline constexpr u64 kOverflow = bit64(kOverflowBit);
inline constexpr u64 kZero = bit64(6), kSign = bit64(7), kParity = bit64(2);

inline u64 flags_to_ax(u64 flags)
{
    return (flags & kLowFlags) << 8 | (flags >> kOverflowBit & 1);
}

inline u64 flags_from_ax(u64 ax, u64 flags)
{
    flags &= ~(kLowFlags | kOverflow);
    return flags | (ax >> 8 & kLowFlags) | ((ax & 1) << kOverflowBit);
}

#define MINIVMX_LOAD_FLAGS "addb $0x7f, %%al\n\tsahf\n\t"
#define MINIVMX_SAVE_FLAGS "\n\tseto %%al\n\tlahf"

// Each function takes the destination's old value, gives the new one, and changes flags. Sizes are
// in bytes; what is above the operand's size in the value is the CPU's to keep or clear.

#define MINIVMX_UNARY_CASE(bytes, operation, modifier)                                             \
    case bytes:                                                                                    \
        asm volatile(MINIVMX_LOAD_FLAGS operation " %" modifier "[value]" MINIVMX_SAVE_FLAGS       \
                     : "+&a"(ax), [value] "+q"(value)                                              \
                     :                                                                             \
                     : "cc");                                                                      \
        break;
#define MINIVMX_UNARY(name, mnemonic)                                                              \
    inline u64 name(u32 size, u64 value, u64 &flags)                                               \
    {                                                                                              \
        u64 ax = flags_to_ax(flags);                                                               \
        switch (size) {                                                                            \
            MINIVMX_UNARY_CASE(1, mnemonic "b", "b")                                               \
            MINIVMX_UNARY_CASE(2, mnemonic "w", "w")                                               \
            MINIVMX_UNARY_CASE(4, mnemonic "l", "k")                                               \
            MINIVMX_UNARY_CASE(8, mnemonic "q", "q")                                               \
        }                                                                                          \
        flags = flags_from_ax(ax, flags);                                                          \
        return value;                                                                              \
    }

#define MINIVMX_BINARY_CASE(bytes, operation, modifier)                                            \
    case bytes:                                                                                    \
        asm volatile(MINIVMX_LOAD_FLAGS operation " %" modifier "[source], %" modifier             \
                                                  "[value]" MINIVMX_SAVE_FLAGS                     \
                     : "+&a"(ax), [value] "+q"(value)                                              \
                     : [source] "q"(source)                                                        \
                     : "cc");                                                                      \
        break;
#define MINIVMX_BINARY_WIDE_CASES(mnemonic)                                                        \
    MINIVMX_BINARY_CASE(2, mnemonic "w", "w")                                                      \
    MINIVMX_BINARY_CASE(4, mnemonic "l", "k")                                                      \
    MINIVMX_BINARY_CASE(8, mnemonic "q", "q")
#define MINIVMX_BINARY(name, cases)                                                                \
    inline u64 name(u32 size, u64 value, u64 source, u64 &flags)                                   \
    {                                                                                              \
        u64 ax = flags_to_ax(flags);                                                               \
        switch (size) {                                                                            \
            cases                                                                                  \
        }                                                                                          \
        flags = flags_from_ax(ax, flags);                                                          \
        return value;                                                                              \
    }
#define MINIVMX_BINARY_ANY(name, mnemonic)                                                         \
    MINIVMX_BINARY(name,                                                                           \
                   MINIVMX_BINARY_CASE(1, mnemonic "b", "b") MINIVMX_BINARY_WIDE_CASES(mnemonic))
#define MINIVMX_BINARY_WIDE(name, mnemonic)                                                        \
    MINIVMX_BINARY(name, MINIVMX_BINARY_WIDE_CASES(mnemonic))

#define MINIVMX_SHIFT_CASE(bytes, operation, modifier)                                             \
    case bytes:                                                                                    \
        asm volatile(MINIVMX_LOAD_FLAGS operation " %%cl, %" modifier "[value]" MINIVMX_SAVE_FLAGS \
                     : "+&a"(ax), [value] "+q"(value)                                              \
                     : "c"(count)                                                                  \
                     : "cc");                                                                      \
        break;
#define MINIVMX_SHIFT(name, mnemonic)                                                              \
    inline u64 name(u32 size, u64 value, u8 count, u64 &flags)                                     \
    {                                                                                              \
        u64 ax = flags_to_ax(flags);                                                               \
        switch (size) {                                                                            \
            MINIVMX_SHIFT_CASE(1, mnemonic "b", "b")                                               \
            MINIVMX_SHIFT_CASE(2, mnemonic "w", "w")                                               \
            MINIVMX_SHIFT_CASE(4, mnemonic "l", "k")                                               \
            MINIVMX_SHIFT_CASE(8, mnemonic "q", "q")                                               \
        }                                                                                          \
        flags = flags_from_ax(ax, flags);                                                          \
        return value;                                                                              \
    }

#define MINIVMX_DOUBLE_SHIFT_CASE(bytes, operation, modifier)                                      \
    case bytes:                                                                                    \
        asm volatile(MINIVMX_LOAD_FLAGS operation " %%cl, %" modifier "[source], %" modifier       \
                                                  "[value]" MINIVMX_SAVE_FLAGS                     \
                     : "+&a"(ax), [value] "+q"(value)                                              \
                     : [source] "q"(source), "c"(count)                                            \
                     : "cc");                                                                      \
        break;
#define MINIVMX_DOUBLE_SHIFT(name, mnemonic)                                                       \
    inline u64 name(u32 size, u64 value, u64 source, u8 count, u64 &flags)                         \
    {                                                                                              \
        u64 ax = flags_to_ax(flags);                                                               \
        switch (size) {                                                                            \
            MINIVMX_DOUBLE_SHIFT_CASE(2, mnemonic "w", "w")                                        \
            MINIVMX_DOUBLE_SHIFT_CASE(4, mnemonic "l", "k")                                        \
            MINIVMX_DOUBLE_SHIFT_CASE(8, mnemonic "q", "q")                                        \
        }                                                                                          \
        flags = flags_from_ax(ax, flags);                                                          \
        return value;                                                                              \
    }

// MUL and DIV work on the accumulator and RDX: both are given and taken whole.
#define MINIVMX_ACCUMULATOR_CASE(bytes, operation, modifier)                                       \
    case bytes:                                                                                    \
        asm volatile(MINIVMX_LOAD_FLAGS "movq %[low], %%rax\n\t" operation " %" modifier           \
                                        "[source]\n\t"                                             \
                                        "movq %%rax, %[low]" MINIVMX_SAVE_FLAGS                    \
                     : "+&a"(ax), [low] "+&r"(rax), "+&d"(rdx)                                     \
                     : [source] "q"(source)                                                        \
                     : "cc");                                                                      \
        break;
#define MINIVMX_ACCUMULATOR(name, mnemonic)                                                        \
    inline void name(u32 size, u64 &rax, u64 &rdx, u64 source, u64 &flags)                         \
    {                                                                                              \
        u64 ax = flags_to_ax(flags);                                                               \
        switch (size) {                                                                            \
            MINIVMX_ACCUMULATOR_CASE(1, mnemonic "b", "b")                                         \
            MINIVMX_ACCUMULATOR_CASE(2, mnemonic "w", "w")                                         \
            MINIVMX_ACCUMULATOR_CASE(4, mnemonic "l", "k")                                         \
            MINIVMX_ACCUMULATOR_CASE(8, mnemonic "q", "q")                                         \
        }                                                                                          \
        flags = flags_from_ax(ax, flags);                                                          \
    }

MINIVMX_UNARY(inc, "inc")
MINIVMX_UNARY(dec, "dec")
MINIVMX_UNARY(neg, "neg")

MINIVMX_BINARY_ANY(add, "add")
MINIVMX_BINARY_ANY(bit_or, "or")
MINIVMX_BINARY_ANY(adc, "adc")
MINIVMX_BINARY_ANY(sbb, "sbb")
MINIVMX_BINARY_ANY(bit_and, "and")
MINIVMX_BINARY_ANY(sub, "sub")
MINIVMX_BINARY_ANY(bit_xor, "xor")
MINIVMX_BINARY_ANY(cmp, "cmp")
MINIVMX_BINARY_ANY(test, "test")
MINIVMX_BINARY_WIDE(imul_to, "imul")
MINIVMX_BINARY_WIDE(bt, "bt")
MINIVMX_BINARY_WIDE(bts, "bts")
MINIVMX_BINARY_WIDE(btr, "btr")
MINIVMX_BINARY_WIDE(btc, "btc")
MINIVMX_BINARY_WIDE(bsf, "bsf")
MINIVMX_BINARY_WIDE(bsr, "bsr")
// TZCNT and LZCNT, or BSF and BSR on a CPU that ignores the prefix.
MINIVMX_BINARY_WIDE(tzcnt, "rep\n\tbsf")
MINIVMX_BINARY_WIDE(lzcnt, "rep\n\tbsr")

MINIVMX_SHIFT(rol, "rol")
MINIVMX_SHIFT(ror, "ror")
MINIVMX_SHIFT(rcl, "rcl")
MINIVMX_SHIFT(rcr, "rcr")
MINIVMX_SHIFT(shl, "shl")
MINIVMX_SHIFT(shr, "shr")
MINIVMX_SHIFT(sar, "sar")
MINIVMX_DOUBLE_SHIFT(shld, "shld")
MINIVMX_DOUBLE_SHIFT(shrd, "shrd")

MINIVMX_ACCUMULATOR(mul, "mul")
MINIVMX_ACCUMULATOR(imul, "imul")
// The caller has made sure that the quotient fits: #DE here would be the host's.
MINIVMX_ACCUMULATOR(div, "div")
MINIVMX_ACCUMULATOR(idiv, "idiv")

} // namespace minivmx::native
