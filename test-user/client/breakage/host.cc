// SPDX-License-Identifier: GPL-2.0-only
//
// Host state: SDM Vol. 3C, 27.2.2 to 27.2.4. A value that the CPU would take comes back with the
// next VM exit, so each of these is one that the audit, too, says will fail; the module looks.
#include "breakage.hpp"

namespace breakage {

namespace {

constexpr uint64_t kCr0Ne = 1 << 5, kCr0Wp = 1 << 16;
constexpr uint64_t kCr4Pae = 1 << 5, kCr4Vmxe = 1 << 13, kCr4Cet = 1 << 23;
constexpr uint64_t kEferLme = 1 << 8, kEferLma = 1 << 10;
constexpr uint64_t kBadPat = 0x0002;

Group host_state()
{
    return {{"long, the host as it is", Shape::kLong},
            {{"host-cr0-ne-off", off(HOST_CR0, kCr0Ne)},
             {"host-cr0-pe-off", off(HOST_CR0, 1)},
             {"host-cr0-high", on(HOST_CR0, kAbove4G)},
             {"host-cr3-too-high", on(HOST_CR3, 1ULL << 51)},
             {"host-cr4-vmxe-off", off(HOST_CR4, kCr4Vmxe)},
             {"host-cr4-reserved", on(HOST_CR4, 1 << 30)},
             {"host-cr4-pae-off", off(HOST_CR4, kCr4Pae)},
             {"host-es-rpl", on(HOST_ES_SELECTOR, 3)},
             {"host-cs-rpl", on(HOST_CS_SELECTOR, 1)},
             {"host-ss-ti", on(HOST_SS_SELECTOR, 4)},
             {"host-ds-ti", on(HOST_DS_SELECTOR, 4)},
             {"host-fs-rpl", on(HOST_FS_SELECTOR, 2)},
             {"host-gs-ti", on(HOST_GS_SELECTOR, 4)},
             {"host-cs-zero", set(HOST_CS_SELECTOR, 0)},
             {"host-tr-zero", set(HOST_TR_SELECTOR, 0)},
             {"host-tr-rpl", on(HOST_TR_SELECTOR, 3)},
             {"host-tr-base", set(HOST_TR_BASE, kNotCanonical)},
             {"host-fs-base", set(HOST_FS_BASE, kNotCanonical)},
             {"host-gs-base", set(HOST_GS_BASE, kNotCanonical)},
             {"host-gdtr-base", set(HOST_GDTR_BASE, kNotCanonical)},
             {"host-idtr-base", set(HOST_IDTR_BASE, kNotCanonical)},
             {"host-sysenter-esp", set(HOST_IA32_SYSENTER_ESP, kNotCanonical)},
             {"host-sysenter-eip", set(HOST_IA32_SYSENTER_EIP, kNotCanonical)},
             {"host-rip", set(HOST_RIP, kNotCanonical)}}};
}

Group host_pat()
{
    return {{"long, the host's PAT comes back",
             Shape::kLong,
             {on(VM_EXIT_CONTROLS, VM_EXIT_LOAD_IA32_PAT)},
             {MINIVMX_WORD_EXIT, VM_EXIT_LOAD_IA32_PAT}},
            {{"host-pat-memory-type", set(HOST_IA32_PAT, kBadPat)},
             {"host-pat-reserved", on(HOST_IA32_PAT, 0xf8ULL << 56)}}};
}

Group host_efer()
{
    return {{"long, the host's EFER comes back",
             Shape::kLong,
             {on(VM_EXIT_CONTROLS, VM_EXIT_LOAD_IA32_EFER)},
             {MINIVMX_WORD_EXIT, VM_EXIT_LOAD_IA32_EFER}},
            {{"host-efer-reserved", on(HOST_IA32_EFER, 1ULL << 32)},
             {"host-efer-reserved-low", on(HOST_IA32_EFER, 1 << 1)},
             {"host-efer-lma-off", off(HOST_IA32_EFER, kEferLma)},
             {"host-efer-lme-off", off(HOST_IA32_EFER, kEferLme)}}};
}

std::vector<Write> cet_writes()
{
    return {set(HOST_S_CET, 0), set(HOST_SSP, 0), set(HOST_INTR_SSP_TABLE, 0),
            on(VM_EXIT_CONTROLS, VM_EXIT_LOAD_CET_STATE)};
}

constexpr Needs kCet = {MINIVMX_WORD_EXIT, VM_EXIT_LOAD_CET_STATE};

Group host_cet()
{
    return {{"long, the host's CET state comes back", Shape::kLong, cet_writes(), kCet},
            {{"host-s-cet-not-canonical", set(HOST_S_CET, kNotCanonical)},
             {"host-s-cet-reserved", set(HOST_S_CET, 1 << 6)},
             {"host-s-cet-suppress-and-wait", set(HOST_S_CET, 3 << 10)},
             {"host-ssp-not-canonical", set(HOST_SSP, kNotCanonical)},
             {"host-ssp-not-aligned", set(HOST_SSP, 2)},
             {"host-ssp-table", set(HOST_INTR_SSP_TABLE, kNotCanonical)}}};
}

Group host_cet_without_wp()
{
    Base base = {"long, the host with CET", Shape::kLong, cet_writes(), kCet};
    base.writes.push_back(on(HOST_CR4, kCr4Cet));
    base.not_entered = "the kernel would go on with CR4.CET set";
    return {base, {{"host-cet-without-wp", off(HOST_CR0, kCr0Wp)}}};
}

} // namespace

std::vector<Group> host_groups()
{
    return {host_state(), host_pat(), host_efer(), host_cet(), host_cet_without_wp()};
}

} // namespace breakage
