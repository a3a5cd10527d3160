// SPDX-License-Identifier: GPL-2.0-only
//
// Instructions of operating systems, firmware and boot loaders.
#include "compare.hpp"

namespace {

using namespace emulation;

struct Row {
    const char *name;
    Blob code;
};
#define ROW(bits, text)                                                                            \
    {                                                                                              \
        text, CODE(bits, text)                                                                     \
    }

template <size_t N>
void compare_rows(Mode mode, const Row (&rows)[N], std::initializer_list<Cpl> levels,
                  uint64_t flags = 2)
{
    Comparison c(mode);
    for (const Cpl cpl : levels)
        for (const Row &row : rows)
            c.compare(row.name, row.code, cpl, flags);
}

// What means the same in 32- and 64-bit code; the registers as wide as the mode.
#define SYSTEM_ROWS(bits, BX, SP)                                                                  \
    ROW(bits, "smsw eax"), ROW(bits, "smsw [" BX "]"),                                             \
        ROW(bits, "mov ecx, 10; lmsw cx; smsw edx"), ROW(bits, "xor eax, eax; lmsw ax; smsw edx"), \
        ROW(bits, "clts"), ROW(bits, "wbinvd"), ROW(bits, "invlpg [" BX "]"),                      \
        ROW(bits, "cli; pushf; sti; nop; pushf"), ROW(bits, "cld; std"),                           \
        ROW(bits, "sgdt [" BX "]; sidt [" BX " + 16]; sldt [" BX " + 32]; str [" BX " + 48]"),     \
        ROW(bits, "sldt eax; str ecx"), ROW(bits, "lgdt [" BX "]; lidt [" BX " + 16]"),            \
        ROW(bits, "mov ecx, 0x174; mov eax, 0x58; xor edx, edx; wrmsr; xor eax, eax; rdmsr"),      \
        ROW(bits, "mov ecx, 0x277; rdmsr"), ROW(bits, "mov ecx, 0x12345; rdmsr"),                  \
        ROW(bits, "mov ecx, 0xc0000080; rdmsr"), ROW(bits, "ud2"), ROW(bits, "hlt; nop"),          \
        ROW(bits, "pushf; or dword ptr [" SP "], 0x4000; popf; pushf"),                            \
        ROW(bits, "pushf; or dword ptr [" SP "], 0x3200; popf; pushf"), ROW(bits, "rsm"),          \
        ROW(bits, "xor eax, eax; cpuid"), ROW(bits, "xor edx, edx; xor ecx, ecx; div ecx"),        \
        ROW(bits, "mov ax, ds; mov cx, ss; mov dx, cs"),                                           \
        ROW(bits, "push 0x10; pop fs; push 0x10; pop gs"), ROW(bits, "lss esp, [" BX "]"),         \
        ROW(bits, "mov word ptr [" BX " + 4], 0x10; lss ecx, [" BX "]"),                           \
        ROW(bits, "mov word ptr [" BX " + 4], 0x43; lgs ecx, [" BX "]"),                           \
        ROW(bits, "mov word ptr [" BX " + 2], 0x43; lgs cx, [" BX "]"), ROW(bits, "vmcall"),       \
        ROW(bits, "sysenter"), ROW(bits, "mov edx, 0x35000; mov ecx, 0x3d000; .byte 0x0f, 0x35"),  \
        ROW(bits, "mov ecx, 0xf; xor eax, eax; xor edx, edx; mwait"), ROW(bits, "xgetbv")

TEST_LIMIT(system_in_protected_mode, 60)
{
    const Row rows[] = {
        SYSTEM_ROWS(32, "ebx", "esp"),
        ROW(32, "mov eax, cr0; mov ecx, cr2; mov edx, cr3; mov esi, cr4"),
        ROW(32, "mov eax, 0x12345678; mov cr2, eax"),
        ROW(32, "mov eax, 0x3018; mov cr3, eax; mov ecx, cr3"),
        ROW(32, "mov eax, 0x80; mov cr4, eax"),
        ROW(32, "mov eax, 0x80000000; mov cr4, eax"),
        ROW(32, "mov eax, cr0; or eax, 0x10002; mov cr0, eax"),
        ROW(32, "mov eax, 0x20000031; mov cr0, eax"), // NW without CD
        ROW(32, "mov eax, 0x123; mov dr0, eax; mov ecx, dr0"),
        ROW(32, "mov eax, 0xffffffff; mov dr6, eax; mov ecx, dr6"),
        ROW(32, "mov eax, 0x700; mov dr7, eax; mov ecx, dr7; mov edx, dr5"),
        ROW(32, "mov eax, 8; mov cr4, eax; mov edx, dr5"),
        ROW(32, "mov eax, 3; arpl [ebx], ax; pushf; mov ecx, 0x10; arpl cx, ax; pushf"),
        ROW(32, "les ecx, [ebx]"),
        ROW(32, "mov word ptr [ebx + 4], 0x10; lds ecx, [ebx]"),
        ROW(32, "push es; push cs; push ss; push ds; pop es; pop ss; pop ecx; pop ds"),
        ROW(32, ".byte 0x66; push ds; .byte 0x66; pop es"),
        ROW(32, "syscall"),
        ROW(32, "mov eax, 0x80; int3"),
    };
    compare_rows(Mode::kProtected, rows, {Cpl::k0, Cpl::k3});
    compare_rows(Mode::kPaged, rows, {Cpl::k0, Cpl::k3}, 0x3202);
}

TEST_LIMIT(system_in_long_mode, 60)
{
    const Row rows[] = {
        SYSTEM_ROWS(64, "rbx", "rsp"),
        ROW(64, "mov rax, cr0; mov rcx, cr2; mov rdx, cr3; mov rsi, cr4; mov rdi, cr8"),
        ROW(64, "mov rax, 0x123456789abcdef; mov cr2, rax"),
        ROW(64, "mov eax, 5; mov cr8, rax; xor eax, eax; mov rcx, cr8; mov cr8, rax"),
        ROW(64, "mov eax, 16; mov cr8, rax"),
        ROW(64, "mov rax, cr3; mov cr3, rax"),
        ROW(64, "mov rax, cr4; or eax, 0x80; mov cr4, rax"),
        ROW(64, "mov rax, cr4; and eax, 0xffffffdf; mov cr4, rax"), // PAE
        ROW(64, "mov rax, 0x123456789; mov dr1, rax; mov rcx, dr1"),
        ROW(64, "mov rax, 0x100000000; mov dr7, rax"),
        ROW(64, "swapgs; swapgs"),
        ROW(64, "syscall"),
        ROW(64, "mov ecx, 0x35000; mov r11d, 0x3ffffd; sysretq"),
        ROW(64, "mov ecx, 0x35000; mov r11d, 0x246; .byte 0x0f, 0x07"),
        ROW(64, "mov rcx, 0x800000000000; sysretq"),
        ROW(64, "mov edx, 0x35000; mov ecx, 0x3d000; .byte 0x48, 0x0f, 0x35"),
        ROW(64, "push fs; pop fs; push 0; pop gs"),
        ROW(64, ".byte 0x48, 0x0f, 0xb2, 0x23"),
    };
    compare_rows(Mode::kLong, rows, {Cpl::k0, Cpl::k3});
}

// In real mode the CPU's side is virtual-8086 mode's, with what the module does where that is not
// the same.
TEST_LIMIT(real_mode, 60)
{
    const Row rows[] = {
        ROW(16, "mov ax, 0x1234; mov es, ax; mov gs, ax"),
        ROW(16, "mov ax, 0x900; mov ss, ax; mov sp, 0x100; push ax"),
        ROW(16, "push ds; pop es; push es; pop ss; push fs; pop gs"),
        ROW(16, "les cx, [bx]; lgs edx, [bx]"),
        ROW(16, "lss sp, [bx]"),
        ROW(16, ".byte 0xea, 0, 0, 0, 0x35"),
        ROW(16, ".byte 0x66, 0xea, 0, 0, 0, 0, 0, 0x35"),
        ROW(16, ".byte 0x66, 0xea, 0, 0, 1, 0, 0, 0x35"), // beyond the limit
        ROW(16, ".byte 0x9a, 0, 0, 0, 0x35"),
        ROW(16, ".byte 0x66, 0x9a, 0, 0, 0, 0, 0, 0x35"),
        ROW(16, "push 0x3500; push 0; .byte 0xcb"),
        ROW(16, "push 0x3500; push 0; .byte 0xca, 6, 0"),
        ROW(16, "push 0x7ed7; push 0x3500; push 0; .byte 0xcf"),
        ROW(16, "push 0x0002; push 0x3500; push 0; .byte 0xcf"),
        ROW(16, "pushd 0x247cd7; pushd 0x3500; pushd 0; .byte 0x66, 0xcf"),
        ROW(16, "pushd 0x247ed7; pushd 0x3500; pushd 0; .byte 0x66, 0xcf"),
        ROW(16, "int 0x21"),
        ROW(16, "sti; int 0xff"),
        ROW(16, "int3"),
        ROW(16, "into"),
        ROW(16, "mov al, 127; add al, 1; into"),
        ROW(16, ".byte 0xf1"),
        ROW(16, "ud2"),
        ROW(16, "xor cx, cx; div cx"),
        ROW(16, "pushf; pop ax; or ax, 0x7000; push ax; popf; pushf"),
        ROW(16, "pushfd; pop eax; or eax, 0x247000; push eax; popfd; pushfd"),
        ROW(16, "cli; pushf; sti; pushf; cld; std"),
        ROW(16, "mov eax, cr0; mov ecx, cr3; mov edx, cr4; smsw si"),
        ROW(16, "mov eax, 0x10; mov cr0, eax; smsw ax"),
        ROW(16, "mov eax, 0x12345; mov cr2, eax; clts"),
        ROW(16, "mov ax, 2; lmsw ax; smsw cx"),
        ROW(16, "mov eax, 0x55; mov dr2, eax; mov ecx, dr2; mov edx, dr7"),
        ROW(16, "sgdt [bx]; sidt [bx + 8]"),
        ROW(16, "lgdt [bx]"),
        ROW(16, ".byte 0x66; lgdt [bx]"),
        ROW(16, "sldt ax"),
        ROW(16, "str ax"),
        ROW(16, "lldt ax"),
        ROW(16, "lar ax, cx"),
        ROW(16, "verr ax"),
        ROW(16, ".byte 0x63, 0xc8"), // ARPL
        ROW(16, "mov ecx, 0x277; rdmsr"),
        ROW(16, "mov ecx, 0x12345; rdmsr"),
        ROW(16, "mov ecx, 0x174; mov eax, 8; xor edx, edx; wrmsr"),
        ROW(16, "sysenter"),
        ROW(16, "syscall"),
        ROW(16, "xor eax, eax; cpuid"),
        ROW(16, "wbinvd; invd; invlpg [bx]"),
        ROW(16, "vmcall"),
        ROW(16, "mov bx, 0xffff; mov ax, [bx]"), // crosses the limit
        ROW(16, "mov ebx, 0x10000; mov al, [ebx]"),
        ROW(16, "mov sp, 1; push ax"),
        ROW(16, "mov bp, 0xffff; mov ax, [bp]"),
        ROW(16, "mov sp, 0; push ax; pop cx"),
    };
    compare_rows(Mode::kReal, rows, {Cpl::k0});
}

// Into protected mode and back, as boot loaders do: the segments are stale on the way.
TEST_LIMIT(between_the_modes, 30)
{
    const Row rows[] = {
        ROW(16, "mov dword ptr [bx], 0x000000ef; mov word ptr [bx], 0xef;"
                "mov dword ptr [bx + 2], 0x30000; lgdt [bx]; mov eax, cr0; or al, 1; mov cr0, eax;"
                "mov cx, 0x10; mov ds, cx; mov es, cx; mov ss, cx; mov gs, cx;"
                ".byte 0x66, 0xea, 0, 0x50, 3, 0, 8, 0"),
        ROW(16, "mov word ptr [bx], 0xef; mov dword ptr [bx + 2], 0x30000; lgdt [bx];"
                "mov eax, cr0; inc eax; mov cr0, eax; mov cx, 0x10; mov ds, cx; dec eax;"
                "mov cr0, eax; mov esi, 0x3e000; mov edx, [esi]; mov [esi + 0x800], edx"),
        ROW(16, "mov word ptr [bx], 0xef; mov dword ptr [bx + 2], 0x30000; lgdt [bx];"
                "mov eax, cr0; inc eax; mov cr0, eax; mov cx, 0x78; mov ds, cx; mov es, cx;"
                "mov ss, cx; mov gs, cx; dec eax; mov cr0, eax; xor cx, cx; mov ds, cx; mov es, cx;"
                "mov ss, cx; mov gs, cx; .byte 0xea, 0, 0, 0, 0x35"),
    };
    compare_rows(Mode::kReal, rows, {Cpl::k0});
}

// The state that an image in memory holds, and what a following image has of it. EBX points to 4
// KiB, in which the tests compare every byte.
#define FX_ROWS(bits, BX, CR4)                                                                     \
    ROW(bits, "fninit; fxsave [" BX "]"),                                                          \
        ROW(bits, CR4 "fninit; fxsave [" BX "]; fxsave [" BX " + 8]"),                             \
        ROW(bits, CR4 "fninit; fxsave [" BX "]; mov dword ptr [" BX "], 0x27f;"                    \
                      "mov dword ptr [" BX " + 24], 0x9fc0; mov dword ptr [" BX " + 40], 0x4000;"  \
                      "mov dword ptr [" BX " + 164], 0x12345678; mov byte ptr [" BX " + 4], 0x81;" \
                      "fxrstor [" BX "]; fxsave [" BX " + 512]; movups [" BX " + 1040], xmm0;"     \
                      "stmxcsr [" BX " + 1025]; fnstcw [" BX " + 1030]"),                          \
        ROW(bits, CR4 "fninit; fxsave [" BX "]; mov dword ptr [" BX " + 24], 0x10000;"             \
                      "fxrstor [" BX "]"),                                                         \
        ROW(bits, CR4 "mov dword ptr [" BX "], 0xffff; ldmxcsr [" BX "]; stmxcsr [" BX " + 4];"    \
                      "mov dword ptr [" BX "], 0x80000000; ldmxcsr [" BX "]"),                     \
        ROW(bits, "fninit; fxsave [" BX "]; mov dword ptr [" BX " + 24], 0x9fc0; fxrstor [" BX     \
                  "];" CR4 "stmxcsr [" BX " + 512]"),                                              \
        ROW(bits, "stmxcsr [" BX "]"), ROW(bits, "fxrstor [" BX " + 4]")

TEST_LIMIT(fx_state, 60)
{
    const Row rows16[] = {
        FX_ROWS(16, "bx", "mov eax, cr4; or ax, 0x200; mov cr4, eax;"),
        ROW(16, "mov eax, 8; mov cr0, eax; fxsave [bx]"),
    };
    compare_rows(Mode::kReal, rows16, {Cpl::k0});
    const Row rows32[] = {
        FX_ROWS(32, "ebx", "mov eax, cr4; or ax, 0x200; mov cr4, eax;"),
        ROW(32, "mov eax, cr0; or al, 8; mov cr0, eax; fxsave [ebx]"),
        ROW(32, "mov eax, cr0; or al, 4; mov cr0, eax; fxrstor [ebx]"),
    };
    compare_rows(Mode::kProtected, rows32, {Cpl::k0, Cpl::k3});
    const Row rows64[] = {
        FX_ROWS(64, "rbx", "mov rax, cr4; or ax, 0x200; mov cr4, rax;"),
        ROW(64, "mov rax, cr4; or ax, 0x200; mov cr4, rax; fninit; movd xmm15, ebx;"
                "fxsave64 [rbx]; mov qword ptr [rbx + 8], 0x12345678; fxrstor64 [rbx];"
                "fxsave64 [rbx + 512]"),
    };
    compare_rows(Mode::kLong, rows64, {Cpl::k0, Cpl::k3});
}

TEST_LIMIT(what_it_cannot_do_is_told, 20)
{
    World world(Mode::kProtected);
    const Code sine = CODE(32, "fninit; fldz; fsin");
    const State native = world.run(sine, Cpl::k0, false);
    EXPECT_EQ(native[0].second, uint64_t{KVM_EXIT_HLT});
    const State emulated = world.run(sine, Cpl::k0, true);
    EXPECT_EQ(emulated[0].second, uint64_t{KVM_EXIT_INTERNAL_ERROR});
}

} // namespace
