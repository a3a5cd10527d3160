// SPDX-License-Identifier: GPL-2.0-only
// The control words of a loaded VMCS: read from their shadow, written through it only when they
// change. The setters of single bits refuse at compile time a bit that negotiation can never have
// left set.
#pragma once

#include <minivmx/controls.hpp>
#include <minivmx/vmcs.hpp>

namespace minivmx {

#define MINIVMX_BUILD_CONTROLS_SHADOW(lname, uname, word)                                          \
    inline u32 lname##_controls_get(const loaded_vmcs &v)                                          \
    {                                                                                              \
        return v.shadow.lname;                                                                     \
    }                                                                                              \
    inline void lname##_controls_set(loaded_vmcs &v, u32 value)                                    \
    {                                                                                              \
        if (v.shadow.lname == value)                                                               \
            return;                                                                                \
        vmcs_write(uname, value);                                                                  \
        v.shadow.lname = value;                                                                    \
    }                                                                                              \
    template <u32 bits>                                                                            \
    inline void lname##_controls_setbit(loaded_vmcs &v)                                            \
    {                                                                                              \
        static_assert((bits & ~(negotiable_mask(word) | kEntryMode<word>)) == 0,                   \
                      "a bit that is never negotiated");                                           \
        lname##_controls_set(v, v.shadow.lname | bits);                                            \
    }                                                                                              \
    template <u32 bits>                                                                            \
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

MINIVMX_BUILD_CONTROLS_SHADOW(vm_entry, VM_ENTRY_CONTROLS, ControlField::kEntry)
MINIVMX_BUILD_CONTROLS_SHADOW(vm_exit, VM_EXIT_CONTROLS, ControlField::kExit)
MINIVMX_BUILD_CONTROLS_SHADOW(pin, PIN_BASED_VM_EXEC_CONTROL, ControlField::kPin)
MINIVMX_BUILD_CONTROLS_SHADOW(exec, CPU_BASED_VM_EXEC_CONTROL, ControlField::kPrimary)
MINIVMX_BUILD_CONTROLS_SHADOW(secondary_exec, SECONDARY_VM_EXEC_CONTROL, ControlField::kSecondary)

#undef MINIVMX_BUILD_CONTROLS_SHADOW

} // namespace minivmx
