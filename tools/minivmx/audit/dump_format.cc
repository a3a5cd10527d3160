// SPDX-License-Identifier: GPL-2.0-only
#include "dump_format.hpp"

#include <charconv>

namespace minivmx::tool {
namespace {

constexpr auto kGuest = DumpSection::kGuest;
constexpr auto kHost = DumpSection::kHost;
constexpr auto kControl = DumpSection::kControl;

template <class... Fields>
constexpr std::array<u32, 7> fields(Fields... field)
{
    std::array<u32, 7> all{};
    all.fill(kNoField);
    u32 encodings[] = {field.encoding...};
    for (std::size_t i = 0; i < sizeof...(field); i++)
        all[i] = encodings[i];
    return all;
}

template <class... Fields>
constexpr DumpPattern always(DumpSection section, std::string_view text, Fields... field)
{
    return {section, text, fields(field...), true};
}

template <class... Fields>
constexpr DumpPattern sometimes(DumpSection section, std::string_view text, Fields... field)
{
    return {section, text, fields(field...), false};
}

constexpr VmcsField64 kIgnored{kNoField};

#define SEGMENT(text, REG)                                                                         \
    always(kGuest, text ": sel=# attr=# limit=# base=#", GUEST_##REG##_SELECTOR,                   \
           GUEST_##REG##_AR_BYTES, GUEST_##REG##_LIMIT, GUEST_##REG##_BASE)

// clang-format off
constexpr DumpPattern kPatterns[] = {
    always(kGuest, "CR0: actual=# shadow=# gh_mask=#", GUEST_CR0, CR0_READ_SHADOW, CR0_GUEST_HOST_MASK),
    always(kGuest, "CR4: actual=# shadow=# gh_mask=#", GUEST_CR4, CR4_READ_SHADOW, CR4_GUEST_HOST_MASK),
    always(kGuest, "CR3 = #", GUEST_CR3),
    sometimes(kGuest, "PDPTR0 = # PDPTR1 = #", GUEST_PDPTR0, GUEST_PDPTR1),
    sometimes(kGuest, "PDPTR2 = # PDPTR3 = #", GUEST_PDPTR2, GUEST_PDPTR3),
    always(kGuest, "RSP = # RIP = #", GUEST_RSP, GUEST_RIP),
    always(kGuest, "RFLAGS=# DR7 = #", GUEST_RFLAGS, GUEST_DR7),
    always(kGuest, "Sysenter RSP=# CS:RIP=#:#", GUEST_SYSENTER_ESP, GUEST_SYSENTER_CS, GUEST_SYSENTER_EIP),
    SEGMENT("CS", CS), SEGMENT("DS", DS), SEGMENT("SS", SS), SEGMENT("ES", ES), SEGMENT("FS", FS), SEGMENT("GS", GS),
    SEGMENT("LDTR", LDTR), SEGMENT("TR", TR),
    always(kGuest, "GDTR: limit=# base=#", GUEST_GDTR_LIMIT, GUEST_GDTR_BASE),
    always(kGuest, "IDTR: limit=# base=#", GUEST_IDTR_LIMIT, GUEST_IDTR_BASE),
    // What the guest's IA32_EFER is without VM entry loading it from the field.
    sometimes(kGuest, "EFER= # (effective)", kIgnored),
    sometimes(kGuest, "EFER= # (autoload)", kIgnored),
    sometimes(kGuest, "EFER= #", GUEST_IA32_EFER),
    sometimes(kGuest, "PAT = #", GUEST_IA32_PAT),
    always(kGuest, "DebugCtl = # DebugExceptions = #", GUEST_IA32_DEBUGCTL, GUEST_PENDING_DBG_EXCEPTIONS),
    sometimes(kGuest, "PerfGlobCtl = #", GUEST_IA32_PERF_GLOBAL_CTRL),
    sometimes(kGuest, "BndCfgS = #", GUEST_BNDCFGS),
    always(kGuest, "Interruptibility = # ActivityState = #", GUEST_INTERRUPTIBILITY_INFO, GUEST_ACTIVITY_STATE),
    sometimes(kGuest, "InterruptStatus = #", GUEST_INTR_STATUS),
    sometimes(kGuest, "S_CET = # SSP = # SSP TABLE = #", GUEST_S_CET, GUEST_SSP, GUEST_INTR_SSP_TABLE),

    always(kHost, "RIP = # RSP = #", HOST_RIP, HOST_RSP),
    always(kHost, "CS=# SS=# DS=# ES=# FS=# GS=# TR=#", HOST_CS_SELECTOR, HOST_SS_SELECTOR, HOST_DS_SELECTOR, HOST_ES_SELECTOR,
           HOST_FS_SELECTOR, HOST_GS_SELECTOR, HOST_TR_SELECTOR),
    always(kHost, "FSBase=# GSBase=# TRBase=#", HOST_FS_BASE, HOST_GS_BASE, HOST_TR_BASE),
    always(kHost, "GDTBase=# IDTBase=#", HOST_GDTR_BASE, HOST_IDTR_BASE),
    always(kHost, "CR0=# CR3=# CR4=#", HOST_CR0, HOST_CR3, HOST_CR4),
    always(kHost, "Sysenter RSP=# CS:RIP=#:#", HOST_IA32_SYSENTER_ESP, HOST_IA32_SYSENTER_CS, HOST_IA32_SYSENTER_EIP),
    sometimes(kHost, "EFER= #", HOST_IA32_EFER),
    sometimes(kHost, "PAT = #", HOST_IA32_PAT),
    sometimes(kHost, "PerfGlobCtl = #", HOST_IA32_PERF_GLOBAL_CTRL),
    sometimes(kHost, "S_CET = # SSP = # SSP TABLE = #", HOST_S_CET, HOST_SSP, HOST_INTR_SSP_TABLE),

    always(kControl, "CPUBased=# SecondaryExec=# TertiaryExec=#", CPU_BASED_VM_EXEC_CONTROL, SECONDARY_VM_EXEC_CONTROL, TERTIARY_VM_EXEC_CONTROL),
    always(kControl, "PinBased=# EntryControls=# ExitControls=#", PIN_BASED_VM_EXEC_CONTROL, VM_ENTRY_CONTROLS, VM_EXIT_CONTROLS),
    // Kernels before 5.18.
    sometimes(kControl, "PinBased=# CPUBased=# SecondaryExec=#", PIN_BASED_VM_EXEC_CONTROL, CPU_BASED_VM_EXEC_CONTROL, SECONDARY_VM_EXEC_CONTROL),
    sometimes(kControl, "EntryControls=# ExitControls=#", VM_ENTRY_CONTROLS, VM_EXIT_CONTROLS),
    always(kControl, "ExceptionBitmap=# PFECmask=# PFECmatch=#", EXCEPTION_BITMAP, PAGE_FAULT_ERROR_CODE_MASK, PAGE_FAULT_ERROR_CODE_MATCH),
    always(kControl, "VMEntry: intr_info=# errcode=# ilen=#", VM_ENTRY_INTR_INFO_FIELD, VM_ENTRY_EXCEPTION_ERROR_CODE, VM_ENTRY_INSTRUCTION_LEN),
    always(kControl, "VMExit: intr_info=# errcode=# ilen=#", VM_EXIT_INTR_INFO, VM_EXIT_INTR_ERROR_CODE, VM_EXIT_INSTRUCTION_LEN),
    always(kControl, "reason=# qualification=#", VM_EXIT_REASON, EXIT_QUALIFICATION),
    always(kControl, "IDTVectoring: info=# errcode=#", IDT_VECTORING_INFO_FIELD, IDT_VECTORING_ERROR_CODE),
    always(kControl, "TSC Offset = #", TSC_OFFSET),
    sometimes(kControl, "TSC Multiplier = #", TSC_MULTIPLIER),
    sometimes(kControl, "SVI|RVI = #|#", kIgnored, kIgnored),
    sometimes(kControl, "TPR Threshold = #", TPR_THRESHOLD),
    sometimes(kControl, "APIC-access addr = #", APIC_ACCESS_ADDR),
    sometimes(kControl, "virt-APIC addr = #", VIRTUAL_APIC_PAGE_ADDR),
    sometimes(kControl, "PostedIntrVec = #", POSTED_INTR_NV),
    sometimes(kControl, "EPT pointer = #", EPT_POINTER),
    sometimes(kControl, "PLE Gap=# Window=#", PLE_GAP, PLE_WINDOW),
    sometimes(kControl, "Virtual processor ID = #", VIRTUAL_PROCESSOR_ID),
};
#undef SEGMENT

constexpr DumpHeading kHeadings[] = {
    {"*** Guest State ***", DumpSection::kGuest},
    {"*** Host State ***", DumpSection::kHost},
    {"*** Control State ***", DumpSection::kControl},
    {"*** Other State ***", DumpSection::kOther},
};
// clang-format on

bool is_gap(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

std::size_t gap_length(std::string_view text)
{
    std::size_t n = 0;
    while (n < text.size() && is_gap(text[n]))
        n++;
    return n;
}

bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/// Takes a number from the front of `text`.
std::optional<u64> take_number(std::string_view &text)
{
    std::string_view digits = text;
    if (digits.starts_with("0x"))
        digits.remove_prefix(2);
    u64 value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (error != std::errc())
        return std::nullopt;
    digits.remove_prefix(static_cast<std::size_t>(end - digits.data()));
    if (!digits.empty() && is_word(digits.front()))
        return std::nullopt;
    text = digits;
    return value;
}

} // namespace

std::span<const DumpPattern> dump_patterns()
{
    return kPatterns;
}

std::span<const DumpHeading> dump_headings()
{
    return kHeadings;
}

std::optional<DumpMatch> match_pattern(std::string_view pattern, std::string_view text)
{
    DumpMatch match{};
    std::size_t count = 0;
    std::string_view rest = text;
    for (const char c : pattern) {
        if (is_gap(c)) {
            rest.remove_prefix(gap_length(rest));
        } else if (c == '#') {
            rest.remove_prefix(gap_length(rest));
            const std::optional<u64> value = take_number(rest);
            if (!value)
                return std::nullopt;
            match.values[count++] = *value;
        } else if (!rest.empty() && rest.front() == c) {
            rest.remove_prefix(1);
        } else {
            return std::nullopt;
        }
    }
    match.length = text.size() - rest.size();
    return match;
}

bool begins_like(std::string_view pattern, std::string_view text)
{
    return match_pattern(pattern.substr(0, pattern.find('#')), text).has_value();
}

} // namespace minivmx::tool
