// SPDX-License-Identifier: GPL-2.0-only
// Which control bits make the CPU exit for what a client asks to see (MINIVMX_SET_INTERCEPTS).
// Pure, like the functions that build the control words from it.
#pragma once

#include <minivmx.h>

#include <minivmx/control_types.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vmcs_config.hpp>

namespace minivmx {

// What an intercept does with a control bit.
enum class InterceptEffect : u8 {
    kSets,
    kClears, // the instruction raises #UD then, and that exits
    kNeeds,  // it is used for a moment, when the client lets the instruction happen
};

struct InterceptControl {
    u64 intercept; // one MINIVMX_INTERCEPT_*
    ControlField field;
    u32 bits;
    InterceptEffect effect;
};

// Writes to CR0 and CR4 aren't here: they exit by the guest/host masks, which every CPU has.
inline constexpr InterceptControl kInterceptControls[] = {
    // clang-format off
    {MINIVMX_INTERCEPT_HLT,              ControlField::kPrimary, CPU_BASED_HLT_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_INVLPG,           ControlField::kPrimary, CPU_BASED_INVLPG_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_MWAIT,            ControlField::kPrimary, CPU_BASED_MWAIT_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_MONITOR,          ControlField::kPrimary, CPU_BASED_MONITOR_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_PAUSE,            ControlField::kPrimary, CPU_BASED_PAUSE_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_RDPMC,            ControlField::kPrimary, CPU_BASED_RDPMC_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_RDTSC,            ControlField::kPrimary, CPU_BASED_RDTSC_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_CR3_LOAD,         ControlField::kPrimary, CPU_BASED_CR3_LOAD_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_CR3_STORE,        ControlField::kPrimary, CPU_BASED_CR3_STORE_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_CR8_LOAD,         ControlField::kPrimary, CPU_BASED_CR8_LOAD_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_CR8_STORE,        ControlField::kPrimary, CPU_BASED_CR8_STORE_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_MOV_DR,           ControlField::kPrimary, CPU_BASED_MOV_DR_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_DESCRIPTOR_TABLE, ControlField::kSecondary, SECONDARY_EXEC_DESC, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_WBINVD,           ControlField::kSecondary, SECONDARY_EXEC_WBINVD_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_RDRAND,           ControlField::kSecondary, SECONDARY_EXEC_RDRAND_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_RDSEED,           ControlField::kSecondary, SECONDARY_EXEC_RDSEED_EXITING, InterceptEffect::kSets},
    // XSAVES exits by itself only for state components of IA32_XSS (SDM Vol. 3C, 26.1.3), of which
    // no guest has any.
    {MINIVMX_INTERCEPT_XSAVES,           ControlField::kSecondary, SECONDARY_EXEC_XSAVES, InterceptEffect::kClears},
    {MINIVMX_INTERCEPT_XSAVES,           ControlField::kPrimary, CPU_BASED_MONITOR_TRAP_FLAG, InterceptEffect::kNeeds},
    // They exit by the control of RDTSC: SDM Vol. 3C, 26.1.3.
    {MINIVMX_INTERCEPT_USER_WAIT,        ControlField::kPrimary, CPU_BASED_RDTSC_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_USER_WAIT,        ControlField::kSecondary, SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE, InterceptEffect::kNeeds},
    {MINIVMX_INTERCEPT_SINGLE_STEP,      ControlField::kPrimary, CPU_BASED_MONITOR_TRAP_FLAG, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_INTERRUPT_WINDOW, ControlField::kPrimary, CPU_BASED_INTR_WINDOW_EXITING, InterceptEffect::kSets},
    {MINIVMX_INTERCEPT_NMI_WINDOW,       ControlField::kPrimary, CPU_BASED_NMI_WINDOW_EXITING, InterceptEffect::kSets},
    // clang-format on
};

// The bits of a word on which these intercepts have this effect.
constexpr u32 intercept_bits(u64 intercepts, ControlField field, InterceptEffect effect)
{
    u32 bits = 0;
    for (const InterceptControl &row : kInterceptControls)
        if (row.intercept & intercepts && row.field == field && row.effect == effect)
            bits |= row.bits;
    return bits;
}

// Whether this CPU, with these parameters, has the controls behind all of the intercepts.
bool can_intercept(const Hardware &hw, u64 intercepts);

} // namespace minivmx
