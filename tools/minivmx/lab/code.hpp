// SPDX-License-Identifier: GPL-2.0-only
//
// Instructions of the lab's guests, assembled together with the tool, so that the text that it
// prints is what runs.
//
// A snippet may be put anywhere. It may use RAX, RBX, RCX, RDX and R11; RSI points to a page of
// data, RDI to an XSAVE area; it finds RAX and RDX as the snippet before it left them.
#pragma once

#include "lab.hpp"

/// Defines the LabCode `name`, in the namespace it stands in. At file scope.
#define LAB_CODE_OF_WIDTH(name, bits, text)                                                        \
    asm(".pushsection .rodata.lab, \"a\"\n"                                                        \
        ".code" #bits "\n"                                                                         \
        ".intel_syntax noprefix\n"                                                                 \
        "lab_code_" #name ": " text "\n"                                                           \
        "lab_code_" #name "_end: nop\n"                                                            \
        ".att_syntax prefix\n"                                                                     \
        ".code64\n"                                                                                \
        ".popsection\n");                                                                          \
    extern "C" const std::uint8_t lab_code_##name[], lab_code_##name##_end[];                      \
    constexpr LabCode name = {text, lab_code_##name, lab_code_##name##_end}
#define LAB_CODE(name, text) LAB_CODE_OF_WIDTH(name, 64, text)
