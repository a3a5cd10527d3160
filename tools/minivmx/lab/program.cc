// SPDX-License-Identifier: GPL-2.0-only
#include "program.hpp"

#include "code.hpp"
#include "layout.hpp"

namespace minivmx::tool {

// R14 counts the rounds down, R13 keeps the least cost, R10 RAX of the last round; R8, R9 and R12
// are the frame's, too.
LAB_CODE(kFrameStart, "mov r8, rax; mov r9, rdx; rdtsc; shl rdx, 32; or rax, rdx; mov r12, rax; "
                      "mov rax, r8; mov rdx, r9");
LAB_CODE(kFrameEnd, "mov r10, rax; rdtsc; shl rdx, 32; or rax, rdx; sub rax, r12; cmp rax, r13; "
                    "cmovb r13, rax; dec r14");
LAB_CODE(kFrameLeave, "out 0xf4, al");

// Exceptions: says which, and goes on behind the measured code. On the stack: RAX, the vector, the
// error code, RIP.
LAB_CODE(kFaultStub,
         "push rax; mov eax, [rsp + 8]; mov ds:[0x112000], eax; mov rax, ds:[0x112008]; "
         "mov [rsp + 24], rax; pop rax; add rsp, 16; iretq");
LAB_CODE(kReturnStub, "iretq");
// The end of an interrupt is told to the APIC.
LAB_CODE(kInterruptStub, "push rax; mov eax, 0xfee000b0; mov dword ptr [rax], 0; pop rax; iretq");
static_assert(kLabState == 0x112000, "the stub's addresses");

namespace {

using Bytes = std::vector<std::uint8_t>;

void append(Bytes &bytes, std::span<const std::uint8_t> more)
{
    bytes.insert(bytes.end(), more.begin(), more.end());
}

void append_u32(Bytes &bytes, std::uint32_t value)
{
    for (unsigned shift = 0; shift < 32; shift += 8)
        bytes.push_back(static_cast<std::uint8_t>(value >> shift));
}

/// A near jump at `bytes`' end to offset `target` in them; `opcode` is what stands before the
/// distance.
void append_jump(Bytes &bytes, std::initializer_list<std::uint8_t> opcode, std::size_t target)
{
    append(bytes, opcode);
    append_u32(bytes, static_cast<std::uint32_t>(target - (bytes.size() + 4)));
}

bool has_error_code(unsigned vector)
{
    // SDM Vol. 3A, table 6-1.
    constexpr std::uint32_t kWithCode = 1u << 8 | 0x1fu << 10 | 1u << 17 | 1u << 21;
    return vector < 32 && (kWithCode >> vector & 1) != 0;
}

/// NMIs, and #DB, which is a trap: the guest goes on where it was.
bool just_returns(unsigned vector)
{
    return vector == 1 || vector == 2;
}

} // namespace

LabProgram lab_program(const LabCode &before, const LabCode &code)
{
    LabProgram program;
    Bytes &bytes = program.bytes;
    append(bytes, before.bytes());
    append(bytes, kFrameStart.bytes());
    append(bytes, code.bytes());
    program.resume = bytes.size();
    append(bytes, kFrameEnd.bytes());
    append_jump(bytes, {0x0f, 0x85}, 0); // JNZ to the start
    append(bytes, kFrameLeave.bytes());
    return program;
}

LabStubs lab_stubs()
{
    LabStubs stubs;
    Bytes &bytes = stubs.bytes;
    const std::size_t just_return = bytes.size();
    append(bytes, kReturnStub.bytes());
    const std::size_t interrupt = bytes.size();
    append(bytes, kInterruptStub.bytes());
    const std::size_t fault = bytes.size();
    append(bytes, kFaultStub.bytes());
    for (unsigned vector = 0; vector < stubs.offsets.size(); vector++) {
        if (just_returns(vector) || vector >= 32) {
            stubs.offsets.at(vector) = vector >= 32 ? interrupt : just_return;
            continue;
        }
        stubs.offsets.at(vector) = bytes.size();
        if (!has_error_code(vector))
            append(bytes, std::initializer_list<std::uint8_t>{0x6a, 0}); // PUSH 0
        append(bytes, std::initializer_list<std::uint8_t>{0x6a, static_cast<std::uint8_t>(vector)});
        append_jump(bytes, {0xe9}, fault);
    }
    return stubs;
}

} // namespace minivmx::tool
