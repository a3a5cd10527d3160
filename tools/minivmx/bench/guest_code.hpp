// SPDX-License-Identifier: GPL-2.0-only
//
// The benchmark's guests: 64-bit code, assembled together with the tool.
#pragma once

#include <cstdint>
#include <span>

namespace minivmx::tool {

/// The guest is done, or has done what the VMM waits for: an exit to it.
constexpr std::uint16_t kBenchEndPort = 0xf4;
/// A port with nothing behind it.
constexpr std::uint16_t kBenchPort = 0x80;
/// How often a window repeats what it measures.
constexpr unsigned kBenchWindow = 8;

} // namespace minivmx::tool

/// Defines the function `name`, which returns the code's bytes. At file scope.
#define BENCH_CODE(name, text)                                                                     \
    asm(".pushsection .rodata.bench, \"a\"\n"                                                      \
        ".intel_syntax noprefix\n"                                                                 \
        "bench_code_" #name ": " text "\n"                                                         \
        "bench_code_" #name "_end: nop\n"                                                          \
        ".att_syntax prefix\n"                                                                     \
        ".popsection\n");                                                                          \
    extern "C" const std::uint8_t bench_code_##name[], bench_code_##name##_end[];                  \
    static std::span<const std::uint8_t> name()                                                    \
    {                                                                                              \
        return {bench_code_##name, bench_code_##name##_end};                                       \
    }

/// The same for a guest that measures itself: R13 becomes the least number of ticks that
/// kBenchWindow times `operation` took, in as many tries as R15 says (BenchVm::run_rounds()). It
/// may use RAX, RBX, RCX, RDX, RSI and RDI.
#define BENCH_WINDOW(name, operation)                                                              \
    BENCH_CODE(name, "mov r13, -1\n"                                                               \
                     "1: rdtsc; shl rdx, 32; lea r12, [rax + rdx]\n"                               \
                     ".rept 8\n" operation "\n.endr\n"                                             \
                     "rdtsc; shl rdx, 32; add rax, rdx; sub rax, r12\n"                            \
                     "cmp rax, r13; cmovb r13, rax\n"                                              \
                     "dec r15d; jnz 1b; out 0xf4, al")
