// SPDX-License-Identifier: GPL-2.0-only
// Kernel side of arch.hpp: inline assembly. A fault at an instruction marked in the exception table
// continues at its fixup label instead of killing the kernel; type 1 (EX_TYPE_DEFAULT of
// asm/extable_fixup_types.h) only moves RIP there.
#pragma once

#include <minivmx/arch.hpp>

#define MINIVMX_EXTABLE(from, to)                                                                  \
    ".pushsection \"__ex_table\", \"a\"\n\t"                                                       \
    ".balign 4\n\t"                                                                                \
    ".long (" from ") - .\n\t"                                                                     \
    ".long (" to ") - .\n\t"                                                                       \
    ".long 1\n\t"                                                                                  \
    ".popsection\n\t"

// On both ways out of an asm goto with outputs. GCC 12.2 (bug 113921) loses what is assigned to an
// output's variable at the label, and the caller gets whatever the register held, unless something
// stands there that can't be moved.
#define MINIVMX_AFTER_ASM_GOTO asm volatile("")

namespace minivmx::arch {

// One VMX instruction: the outcome is read from CF and ZF, or is kFaulted by way of the exception
// table.
#define MINIVMX_VMX_INSTRUCTION(instruction, ...)                                                  \
    bool failed_invalid, failed_valid;                                                             \
    asm goto("1: " instruction "\n\t" MINIVMX_EXTABLE("1b", "%l[faulted]")                         \
             : "=@ccc"(failed_invalid), "=@ccz"(failed_valid)                                      \
             : __VA_ARGS__                                                                         \
             : "memory"                                                                            \
             : faulted);                                                                           \
    MINIVMX_AFTER_ASM_GOTO;                                                                        \
    return failed_invalid ? Vmx::kFailInvalid : failed_valid ? Vmx::kFailValid : Vmx::kOk;         \
    faulted:                                                                                       \
    MINIVMX_AFTER_ASM_GOTO;                                                                        \
    return Vmx::kFaulted

inline Vmx vmread(u32 field, u64 &value)
{
    bool failed_invalid, failed_valid;
    u64 result;
    asm goto("1: vmread %[field], %[value]\n\t" MINIVMX_EXTABLE("1b", "%l[faulted]")
             : "=@ccc"(failed_invalid), "=@ccz"(failed_valid), [value] "=r"(result)
             : [field] "r"(u64{field})
             :
             : faulted);
    MINIVMX_AFTER_ASM_GOTO;
    value = result;
    return failed_invalid ? Vmx::kFailInvalid : failed_valid ? Vmx::kFailValid : Vmx::kOk;
faulted:
    MINIVMX_AFTER_ASM_GOTO;
    value = 0;
    return Vmx::kFaulted;
}

inline Vmx vmwrite(u32 field, u64 value)
{
    MINIVMX_VMX_INSTRUCTION(
        "vmwrite %[value], %[field]", [field] "r"(u64{field}), [value] "rm"(value));
}

// The same where success is all that is asked for: one branch, on CF or ZF (SDM Vol. 3C, 31.2).
inline bool vmread_succeeds(u32 field, u64 &value)
{
    u64 result;
    asm goto("1: vmread %[field], %[value]\n\t"
             "jbe %l[failed]\n\t" MINIVMX_EXTABLE("1b", "%l[failed]")
             : [value] "=r"(result)
             : [field] "r"(u64{field})
             : "cc"
             : failed);
    MINIVMX_AFTER_ASM_GOTO;
    value = result;
    return true;
failed:
    MINIVMX_AFTER_ASM_GOTO;
    value = 0;
    return false;
}

inline bool vmwrite_succeeds(u32 field, u64 value)
{
    asm goto("1: vmwrite %[value], %[field]\n\t"
             "jbe %l[failed]\n\t" MINIVMX_EXTABLE("1b", "%l[failed]")
             :
             : [field] "r"(u64{field}), [value] "rm"(value)
             : "cc", "memory"
             : failed);
    return true;
failed:
    return false;
}

inline Vmx vmclear(u64 vmcs_phys)
{
    MINIVMX_VMX_INSTRUCTION("vmclear %[phys]", [phys] "m"(vmcs_phys));
}
inline Vmx vmptrld(u64 vmcs_phys)
{
    MINIVMX_VMX_INSTRUCTION("vmptrld %[phys]", [phys] "m"(vmcs_phys));
}
inline Vmx vmxon(u64 region_phys)
{
    MINIVMX_VMX_INSTRUCTION("vmxon %[phys]", [phys] "m"(region_phys));
}

inline Vmx vmxoff()
{
    asm goto("1: vmxoff\n\t" MINIVMX_EXTABLE("1b", "%l[faulted]") : : : "cc", "memory" : faulted);
    return Vmx::kOk;
faulted:
    return Vmx::kFaulted;
}

inline Vmx invept(u64 type, const InveptDescriptor &descriptor)
{
    MINIVMX_VMX_INSTRUCTION(
        "invept %[descriptor], %[type]", [type] "r"(type), [descriptor] "m"(descriptor));
}

inline Vmx invvpid(u64 type, const InvvpidDescriptor &descriptor)
{
    MINIVMX_VMX_INSTRUCTION(
        "invvpid %[descriptor], %[type]", [type] "r"(type), [descriptor] "m"(descriptor));
}

#undef MINIVMX_VMX_INSTRUCTION

inline bool rdmsr_safe(u32 msr, u64 &value)
{
    u32 low, high;
    asm goto("1: rdmsr\n\t" MINIVMX_EXTABLE("1b", "%l[faulted]")
             : "=a"(low), "=d"(high)
             : "c"(msr)
             :
             : faulted);
    MINIVMX_AFTER_ASM_GOTO;
    value = u64{high} << 32 | low;
    return true;
faulted:
    MINIVMX_AFTER_ASM_GOTO;
    value = 0;
    return false;
}

inline bool wrmsr_safe(u32 msr, u64 value)
{
    asm goto("1: wrmsr\n\t" MINIVMX_EXTABLE("1b", "%l[faulted]")
             :
             : "c"(msr), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32))
             : "memory"
             : faulted);
    return true;
faulted:
    return false;
}

inline u64 rdtsc()
{
    u32 low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return u64{high} << 32 | low;
}

inline CpuidResult cpuid(u32 leaf, u32 subleaf)
{
    CpuidResult r;
    asm volatile("cpuid"
                 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                 : "a"(leaf), "c"(subleaf));
    return r;
}

inline bool rdrand(u64 &value)
{
    bool ready;
    asm volatile("rdrand %0" : "=r"(value), "=@ccc"(ready));
    return ready;
}

inline bool rdseed(u64 &value)
{
    bool ready;
    asm volatile("rdseed %0" : "=r"(value), "=@ccc"(ready));
    return ready;
}

inline void xsetbv(u32 index, u64 value)
{
    asm volatile("xsetbv"
                 :
                 : "c"(index), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32))
                 : "memory");
}

// Whether a tracepoint's static key is on. With jump labels that costs a NOP, which the kernel
// turns into a jump while the key is on: the table's entry is a struct jump_entry of
// linux/jump_label.h, the five-byte NOP that of asm/nops.h. Without, the key has to be looked at.
template <const host_trace_key &key>
[[gnu::always_inline]] inline bool static_key_enabled()
{
#ifdef MINIVMX_JUMP_LABEL
    asm goto("1: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n\t"
             ".pushsection __jump_table, \"aw\"\n\t"
             ".balign 8\n\t"
             ".long 1b - .\n\t"
             ".long %l[enabled] - .\n\t"
             ".quad %c[key] - .\n\t"
             ".popsection\n\t"
             :
             : [key] "i"(&key)
             :
             : enabled);
    return false;
enabled:
    return true;
#else
    return __atomic_load_n(&key.enabled, __ATOMIC_RELAXED) > 0;
#endif
}

} // namespace minivmx::arch

#undef MINIVMX_AFTER_ASM_GOTO
#undef MINIVMX_EXTABLE
