// SPDX-License-Identifier: GPL-2.0-only
// The control words of a loaded VMCS: read from their shadow, written through it only when they
// change. The setters of single bits refuse at compile time a bit that negotiation can never have
// left set.
#pragma once

#include <minivmx/controls.hpp>
#include <minivmx/trace.hpp>
#include <minivmx/vmcs.hpp>

namespace minivmx {

#define MINIVMX_BUILD_CONTROLS_SHADOW(lname, uname, word, type)                                    \
    inline type lname##_controls_get(const loaded_vmcs &v)                                         \
    {                                                                                              \
        return v.shadow.lname;                                                                     \
    }                                                                                              \
    inline void lname##_controls_set(loaded_vmcs &v, type value)                                   \
    {                                                                                              \
        if (v.shadow.lname == value)                                                               \
            return;                                                                                \
        vmcs_write(uname, value);                                                                  \
        trace_control_change(*v.owner, word, v.shadow.lname, value);                               \
        v.shadow.lname = value;                                                                    \
    }                                                                                              \
    template <type bits>                                                                           \
    inline void lname##_controls_setbit(loaded_vmcs &v)                                            \
    {                                                                                              \
        static_assert((bits & ~(negotiable_mask(word) | kEntryMode<word>)) == 0,                   \
                      "a bit that is never negotiated");                                           \
        lname##_controls_set(v, v.shadow.lname | bits);                                            \
    }                                                                                              \
    template <type bits>                                                                           \
    inline void lname##_controls_clearbit(loaded_vmcs &v)                                          \
    {                                                                                              \
        static_assert((bits & ~(negotiable_mask(word) | kEntryMode<word>)) == 0,                   \
                      "a bit that is never negotiated");                                           \
        lname##_controls_set(v, v.shadow.lname & ~bits);                                           \
    }

// "IA-32e mode guest" is not negotiated but mirrors the guest's EFER.LMA at each change: every
// 64-bit CPU has it.
template <ControlField word>
inline constexpr u64 kEntryMode = word == ControlField::kEntry ? VM_ENTRY_IA32E_MODE : 0;

MINIVMX_BUILD_CONTROLS_SHADOW(vm_entry, VM_ENTRY_CONTROLS, ControlField::kEntry, u32)
MINIVMX_BUILD_CONTROLS_SHADOW(vm_exit, VM_EXIT_CONTROLS, ControlField::kExit, u32)
MINIVMX_BUILD_CONTROLS_SHADOW(pin, PIN_BASED_VM_EXEC_CONTROL, ControlField::kPin, u32)
MINIVMX_BUILD_CONTROLS_SHADOW(exec, CPU_BASED_VM_EXEC_CONTROL, ControlField::kPrimary, u32)
MINIVMX_BUILD_CONTROLS_SHADOW(secondary_exec, SECONDARY_VM_EXEC_CONTROL, ControlField::kSecondary,
                              u32)
MINIVMX_BUILD_CONTROLS_SHADOW(tertiary_exec, TERTIARY_VM_EXEC_CONTROL, ControlField::kTertiary, u64)

#undef MINIVMX_BUILD_CONTROLS_SHADOW

} // namespace minivmx
