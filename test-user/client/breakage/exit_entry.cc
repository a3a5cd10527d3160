// SPDX-License-Identifier: GPL-2.0-only
//
// VM-exit and VM-entry control fields and what they point to: SDM Vol.
// 3C, 27.2.1.2, 27.2.1.3, 27.4.
#include "breakage.hpp"

namespace breakage {

namespace {

// The MSRs of the areas that are valid: each gets what the host has in it anyway.
constexpr uint64_t kMsrTscAux = 0xc0000103;
// One that no list may hold, and values that WRMSR refuses.
constexpr uint64_t kMsrFsBase = 0xc0000100, kMsrGsBase = 0xc0000101, kMsrPat = 0x277,
                   kMsrX2apicId = 0x802;

// The last place for an entry of 16 bytes: a second one is beyond what the CPU has.
uint64_t last_entry()
{
    return (1ULL << physical_bits()) - 16;
}

Group exit_controls()
{
    return {{"long, nothing prepared", Shape::kLong},
            {{"exit-reserved-off", off(VM_EXIT_CONTROLS, 1u << 0)},
             {"exit-reserved-off-2", off(VM_EXIT_CONTROLS, 1u << 17)},
             {"exit-reserved-on", on(VM_EXIT_CONTROLS, 1u << 31)},
             {"host-not-64-bit", off(VM_EXIT_CONTROLS, VM_EXIT_HOST_ADDR_SPACE_SIZE)},
             {"entry-reserved-off", off(VM_ENTRY_CONTROLS, 1u << 0)},
             {"entry-reserved-off-2", off(VM_ENTRY_CONTROLS, 1u << 12)},
             {"entry-reserved-on", on(VM_ENTRY_CONTROLS, 1u << 31)},
             {"entry-dual-monitor-outside-smm",
              on(VM_ENTRY_CONTROLS, VM_ENTRY_DEACT_DUAL_MONITOR),
              {},
              0,
              {MINIVMX_WORD_ENTRY, VM_ENTRY_DEACT_DUAL_MONITOR}},
             {"entry-to-smm",
              on(VM_ENTRY_CONTROLS, VM_ENTRY_SMM),
              {},
              0,
              {MINIVMX_WORD_ENTRY, VM_ENTRY_SMM}}}};
}

Group preemption_timer()
{
    return {{"long, without the preemption timer",
             Shape::kLong,
             {off(PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VMX_PREEMPTION_TIMER),
              off(VM_EXIT_CONTROLS, VM_EXIT_SAVE_VMX_PREEMPTION_TIMER)},
             {MINIVMX_WORD_EXIT, VM_EXIT_SAVE_VMX_PREEMPTION_TIMER}},
            {{"exit-save-timer-without-timer",
              on(VM_EXIT_CONTROLS, VM_EXIT_SAVE_VMX_PREEMPTION_TIMER)}}};
}

Group exit_msr_store()
{
    return {{"long, storing an MSR at exits",
             Shape::kLong,
             {page(VM_EXIT_MSR_STORE_ADDR), set(VM_EXIT_MSR_STORE_COUNT, 1)},
             {},
             {kMsrTscAux}},
            {{"exit-store-not-aligned", page(VM_EXIT_MSR_STORE_ADDR, 8)},
             {"exit-store-beyond", set(VM_EXIT_MSR_STORE_ADDR, 1ULL << 51)}}};
}

Group exit_msr_store_two()
{
    return {{"long, storing two MSRs at exits",
             Shape::kLong,
             {page(VM_EXIT_MSR_STORE_ADDR), set(VM_EXIT_MSR_STORE_COUNT, 2)},
             {},
             {kMsrTscAux, 0, kMsrTscAux, 0}},
            {{"exit-store-end-beyond", set(VM_EXIT_MSR_STORE_ADDR, last_entry())}}};
}

Group exit_msr_load()
{
    return {{"long, loading an MSR at exits",
             Shape::kLong,
             {page(VM_EXIT_MSR_LOAD_ADDR), set(VM_EXIT_MSR_LOAD_COUNT, 1)},
             {},
             {kMsrTscAux}},
            {{"exit-load-not-aligned", page(VM_EXIT_MSR_LOAD_ADDR, 4)},
             {"exit-load-beyond", set(VM_EXIT_MSR_LOAD_ADDR, 1ULL << 51)}}};
}

Group exit_msr_load_two()
{
    return {{"long, loading two MSRs at exits",
             Shape::kLong,
             {page(VM_EXIT_MSR_LOAD_ADDR), set(VM_EXIT_MSR_LOAD_COUNT, 2)},
             {},
             {kMsrTscAux, 0, kMsrTscAux, 0}},
            {{"exit-load-end-beyond", set(VM_EXIT_MSR_LOAD_ADDR, last_entry())}}};
}

// Breaking the list is writing its count again, with another list.
Write same_list()
{
    return set(VM_ENTRY_MSR_LOAD_COUNT, 1);
}

Group entry_msr_load()
{
    constexpr uint32_t kArea = VM_ENTRY_MSR_LOAD_ADDR.encoding;
    return {{"long, loading an MSR at entries",
             Shape::kLong,
             {page(VM_ENTRY_MSR_LOAD_ADDR), set(VM_ENTRY_MSR_LOAD_COUNT, 1)},
             {},
             {kMsrTscAux}},
            {{"entry-load-not-aligned", page(VM_ENTRY_MSR_LOAD_ADDR, 2)},
             {"entry-load-beyond", set(VM_ENTRY_MSR_LOAD_ADDR, 1ULL << 51)},
             {"entry-load-reserved", same_list(), {kMsrTscAux | 1ULL << 32, 1}, kArea},
             {"entry-load-fs-base", same_list(), {kMsrFsBase, 1}, kArea},
             {"entry-load-gs-base", same_list(), {kMsrGsBase, 1}, kArea},
             {"entry-load-x2apic", same_list(), {kMsrX2apicId, 1}, kArea},
             {"entry-load-bad-pat", same_list(), {kMsrPat, 0x0202020202020202}, kArea}}};
}

Group entry_msr_load_two()
{
    return {{"long, loading two MSRs at entries",
             Shape::kLong,
             {page(VM_ENTRY_MSR_LOAD_ADDR), set(VM_ENTRY_MSR_LOAD_COUNT, 2)},
             {},
             {kMsrTscAux, 0, kMsrTscAux, 0}},
            {{"entry-load-end-beyond", set(VM_ENTRY_MSR_LOAD_ADDR, last_entry())}}};
}

// ----- Event injection: SDM Vol. 3C, 25.8.3 ------------------------------------------------------

constexpr uint32_t kValid = 1u << 31, kErrorCode = 1u << 11;
enum Type : uint32_t { kNmi = 2, kException = 3, kSoftInterrupt = 4, kPrivileged = 5, kOther = 7 };

Write event(Type type, uint32_t vector, uint32_t more = 0)
{
    return set(VM_ENTRY_INTR_INFO_FIELD, kValid | type << 8 | vector | more);
}

Group events()
{
    return {{"long, about to inject", Shape::kLong, {set(VM_ENTRY_INSTRUCTION_LEN, 2)}},
            {{"event-reserved-bit", event(kException, 6, 1u << 12)},
             {"event-reserved-bits", event(kException, 6, 1u << 30)},
             {"event-reserved-type", set(VM_ENTRY_INTR_INFO_FIELD, kValid | 1u << 8)},
             {"event-nmi-vector", event(kNmi, 3)},
             {"event-exception-vector", event(kException, 32)},
             {"event-mtf-vector",
              event(kOther, 1),
              {},
              0,
              {MINIVMX_WORD_PRIMARY, CPU_BASED_MONITOR_TRAP_FLAG}}}};
}

// CPUs with CET take an exception with or without an error code: SDM Vol. 3D, A.1, bit 56 of
// IA32_VMX_BASIC. The emulator's make no check at all then.
Group error_codes_by_vector()
{
    return {{"long, about to inject, without CET",
             Shape::kLong,
             {set(VM_ENTRY_INSTRUCTION_LEN, 2)},
             {MINIVMX_WORD_ENTRY, VM_ENTRY_LOAD_CET_STATE, true}},
            {{"event-ud-with-error-code", event(kException, 6, kErrorCode)},
             {"event-gp-without-error-code", event(kException, 13)},
             {"event-pf-without-error-code", event(kException, 14)},
             {"event-soft-interrupt-with-error-code", event(kSoftInterrupt, 0x20, kErrorCode)}}};
}

Group error_codes()
{
    return {{"long, an error code at hand",
             Shape::kLong,
             {set(VM_ENTRY_EXCEPTION_ERROR_CODE, 0x10000)}},
            {{"event-error-code-high",
              event(kException, 13, kErrorCode),
              {},
              VM_ENTRY_EXCEPTION_ERROR_CODE.encoding}}};
}

Group instruction_lengths()
{
    return {{"long, instruction length 16", Shape::kLong, {set(VM_ENTRY_INSTRUCTION_LEN, 16)}},
            {{"event-instruction-length-16",
              event(kSoftInterrupt, 0x20),
              {},
              VM_ENTRY_INSTRUCTION_LEN.encoding},
             {"event-privileged-length-16",
              event(kPrivileged, 1),
              {},
              VM_ENTRY_INSTRUCTION_LEN.encoding}}};
}

// ----- VMLAUNCH and VMRESUME ---------------------------------------------------------------------

Group launch_state()
{
    return {{"long, launched", Shape::kLong},
            {{"vmlaunch-of-launched", {MINIVMX_BREAK_LAUNCHED, MINIVMX_BREAK_SET, 0}}}};
}

Group first_entry()
{
    Base base = {"long, not launched yet", Shape::kLong};
    base.fresh = true;
    base.not_entered = "then it would be launched";
    return {base, {{"vmresume-of-fresh", {MINIVMX_BREAK_LAUNCHED, MINIVMX_BREAK_SET, 1}}}};
}

} // namespace

std::vector<Group> exit_and_entry_groups()
{
    return {exit_controls(),         preemption_timer(),   exit_msr_store(),
            exit_msr_store_two(),    exit_msr_load(),      exit_msr_load_two(),
            entry_msr_load(),        entry_msr_load_two(), events(),
            error_codes_by_vector(), error_codes(),        instruction_lengths(),
            launch_state(),          first_entry()};
}

} // namespace breakage
