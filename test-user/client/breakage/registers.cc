// SPDX-License-Identifier: GPL-2.0-only
//
// The guest's control registers, MSRs, descriptor tables, RIP and RFLAGS: SDM Vol. 3C, 27.3.1.1,
// 27.3.1.3, 27.3.1.4, 27.3.1.6.
#include "breakage.hpp"

namespace breakage {

namespace {

constexpr uint64_t kPe = 1, kNe = 1 << 5, kWp = 1 << 16, kPg = 1u << 31;
constexpr uint64_t kCr4Pae = 1 << 5, kCr4Vmxe = 1 << 13, kCr4Pcide = 1 << 17, kCr4Cet = 1 << 23;
constexpr uint64_t kEferLme = 1 << 8, kEferLma = 1 << 10;
constexpr uint64_t kVm = 1 << 17;

Group long_mode()
{
    return {{"long, its registers", Shape::kLong},
            {{"rflags-bit-3", on(GUEST_RFLAGS, 1 << 3)},
             {"rflags-bit-15", on(GUEST_RFLAGS, 1 << 15)},
             {"rflags-bit-22", on(GUEST_RFLAGS, 1 << 22)},
             {"rflags-bit-63", on(GUEST_RFLAGS, 1ULL << 63)},
             {"rflags-bit-1-off", off(GUEST_RFLAGS, 1 << 1)},
             {"rflags-vm-in-long-mode", on(GUEST_RFLAGS, kVm)},
             {"cr0-ne-off", off(GUEST_CR0, kNe)},
             {"cr0-high", on(GUEST_CR0, kAbove4G)},
             {"cr0-paging-unprotected", off(GUEST_CR0, kPe)},
             {"cr3-too-high", on(GUEST_CR3, 1ULL << 51)},
             {"cr4-vmxe-off", off(GUEST_CR4, kCr4Vmxe)},
             {"cr4-reserved", on(GUEST_CR4, 1 << 30)},
             {"cr4-pae-off-in-long-mode", off(GUEST_CR4, kCr4Pae)},
             {"dr7-high", on(GUEST_DR7, kAbove4G)},
             {"sysenter-esp", set(GUEST_SYSENTER_ESP, kNotCanonical)},
             {"sysenter-eip", set(GUEST_SYSENTER_EIP, kNotCanonical)},
             {"gdtr-base", set(GUEST_GDTR_BASE, kNotCanonical)},
             {"idtr-base", set(GUEST_IDTR_BASE, kNotCanonical)},
             {"gdtr-limit", set(GUEST_GDTR_LIMIT, 0x10000)},
             {"idtr-limit", set(GUEST_IDTR_LIMIT, 0xfffff)}}};
}

Group restricted()
{
    return {{"long, not unrestricted",
             Shape::kLong,
             {off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_UNRESTRICTED_GUEST)}},
            {{"cr0-pe-off-restricted", off(GUEST_CR0, kPe)},
             {"cr0-pg-off-restricted", off(GUEST_CR0, kPg)}}};
}

Group pae()
{
    return {{"32-bit, its registers", Shape::kPae},
            {{"cr4-pcide-outside-long-mode", on(GUEST_CR4, kCr4Pcide)},
             {"rip-above-4g", set(GUEST_RIP, kAbove4G)},
             {"pdpte-reserved-bit-1", on(GUEST_PDPTR0, 1 << 1)},
             {"pdpte-reserved-bit-5", on(GUEST_PDPTR3, 1 << 5 | 1)},
             {"pdpte-too-high", on(GUEST_PDPTR0, 1ULL << 51)}}};
}

Group guest_pat()
{
    return {{"long, with its own PAT",
             Shape::kLong,
             {on(VM_ENTRY_CONTROLS, VM_ENTRY_LOAD_IA32_PAT)},
             {MINIVMX_WORD_ENTRY, VM_ENTRY_LOAD_IA32_PAT}},
            {{"pat-memory-type", set(GUEST_IA32_PAT, 0x03)},
             {"pat-reserved", set(GUEST_IA32_PAT, 0x08ULL << 56)}}};
}

Group guest_efer()
{
    return {{"long, with its own EFER",
             Shape::kLong,
             {set(GUEST_IA32_EFER, kEferLme | kEferLma),
              on(VM_ENTRY_CONTROLS, VM_ENTRY_LOAD_IA32_EFER)},
             {MINIVMX_WORD_ENTRY, VM_ENTRY_LOAD_IA32_EFER}},
            {{"efer-reserved", on(GUEST_IA32_EFER, 1 << 1)},
             {"efer-reserved-high", on(GUEST_IA32_EFER, 1ULL << 40)},
             {"efer-lma-off", off(GUEST_IA32_EFER, kEferLma)},
             {"efer-lme-off", off(GUEST_IA32_EFER, kEferLme)}}};
}

Group guest_efer_32()
{
    return {{"32-bit, with its own EFER",
             Shape::kPae,
             {set(GUEST_IA32_EFER, 0), on(VM_ENTRY_CONTROLS, VM_ENTRY_LOAD_IA32_EFER)},
             {MINIVMX_WORD_ENTRY, VM_ENTRY_LOAD_IA32_EFER}},
            {{"efer-lma-outside-long-mode", set(GUEST_IA32_EFER, kEferLme | kEferLma)},
             {"efer-lme-without-lma", set(GUEST_IA32_EFER, kEferLme)}}};
}

constexpr Needs kCet = {MINIVMX_WORD_ENTRY, VM_ENTRY_LOAD_CET_STATE};

Group cet_without_wp()
{
    return {{"long, with CR4.CET", Shape::kLong, {on(GUEST_CR4, kCr4Cet)}, kCet},
            {{"cet-without-wp", off(GUEST_CR0, kWp)}}};
}

Group cet_state()
{
    return {{"long, with CET state",
             Shape::kLong,
             {set(GUEST_S_CET, 0), set(GUEST_SSP, 0), set(GUEST_INTR_SSP_TABLE, 0),
              on(VM_ENTRY_CONTROLS, VM_ENTRY_LOAD_CET_STATE)},
             kCet},
            {{"s-cet-not-canonical", set(GUEST_S_CET, kNotCanonical)},
             {"s-cet-reserved", set(GUEST_S_CET, 1 << 7)},
             {"s-cet-suppress-and-wait", set(GUEST_S_CET, 3 << 10)},
             {"ssp-not-canonical", set(GUEST_SSP, kNotCanonical)},
             {"ssp-not-aligned", set(GUEST_SSP, 1)},
             {"ssp-table", set(GUEST_INTR_SSP_TABLE, kNotCanonical)}}};
}

} // namespace

std::vector<Group> register_groups()
{
    return {long_mode(),     restricted(),     pae(),      guest_pat(), guest_efer(),
            guest_efer_32(), cet_without_wp(), cet_state()};
}

} // namespace breakage
