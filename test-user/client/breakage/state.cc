// SPDX-License-Identifier: GPL-2.0-only
//
// The guest's non-register state: SDM Vol. 3C, 27.3.1.5.
#include "breakage.hpp"

namespace breakage {

namespace {

constexpr uint32_t kHlt = 1, kShutdown = 2, kWaitForSipi = 3;
constexpr uint32_t kSti = 1 << 0, kMovSs = 1 << 1, kSmi = 1 << 2;
constexpr uint64_t kIf = 1 << 9;
constexpr uint32_t kInterrupt20 = 1u << 31 | 0x20, kNmi = 1u << 31 | 2 << 8 | 2,
                   kInvalidOpcode = 1u << 31 | 3 << 8 | 6;

Group plain()
{
    return {{"long, its other state", Shape::kLong},
            {{"link-pointer-not-aligned", set(VMCS_LINK_POINTER, 0x123)},
             {"link-pointer-too-high", set(VMCS_LINK_POINTER, 1ULL << 51)},
             {"link-pointer-no-vmcs", page(VMCS_LINK_POINTER)},
             {"link-pointer-itself", vmcs(VMCS_LINK_POINTER)},
             {"pending-debug-bit-5", on(GUEST_PENDING_DBG_EXCEPTIONS, 1 << 5)},
             {"pending-debug-bit-13", on(GUEST_PENDING_DBG_EXCEPTIONS, 1 << 13)},
             {"activity-4", set(GUEST_ACTIVITY_STATE, 4)},
             {"activity-large", set(GUEST_ACTIVITY_STATE, 1u << 31)},
             {"interruptibility-reserved", on(GUEST_INTERRUPTIBILITY_INFO, 1 << 5)},
             {"interruptibility-reserved-high", on(GUEST_INTERRUPTIBILITY_INFO, 1u << 31)},
             {"interruptibility-sti-and-mov-ss", on(GUEST_INTERRUPTIBILITY_INFO, kSti | kMovSs)},
             {"interruptibility-smi", on(GUEST_INTERRUPTIBILITY_INFO, kSmi)}}};
}

Group user_mode()
{
    return {{"long, at privilege level 3", Shape::kUser},
            {{"hlt-at-level-3", set(GUEST_ACTIVITY_STATE, kHlt)}}};
}

Group halted()
{
    return {
        {"long, halted", Shape::kLong, {set(GUEST_ACTIVITY_STATE, kHlt)}},
        {{"hlt-and-sti", set(GUEST_INTERRUPTIBILITY_INFO, kSti), {}, GUEST_ACTIVITY_STATE.encoding},
         {"hlt-and-mov-ss",
          set(GUEST_INTERRUPTIBILITY_INFO, kMovSs),
          {},
          GUEST_ACTIVITY_STATE.encoding}}};
}

Group after_sti()
{
    return {{"long, after STI", Shape::kLong, {set(GUEST_INTERRUPTIBILITY_INFO, kSti)}},
            {{"sti-without-if", off(GUEST_RFLAGS, kIf), {}, GUEST_INTERRUPTIBILITY_INFO.encoding},
             {"interrupt-after-sti",
              set(VM_ENTRY_INTR_INFO_FIELD, kInterrupt20),
              {},
              GUEST_INTERRUPTIBILITY_INFO.encoding}}};
}

Group after_mov_ss()
{
    return {{"long, after MOV SS", Shape::kLong, {set(GUEST_INTERRUPTIBILITY_INFO, kMovSs)}},
            {{"nmi-after-mov-ss",
              set(VM_ENTRY_INTR_INFO_FIELD, kNmi),
              {},
              GUEST_INTERRUPTIBILITY_INFO.encoding},
             {"interrupt-after-mov-ss",
              set(VM_ENTRY_INTR_INFO_FIELD, kInterrupt20),
              {},
              GUEST_INTERRUPTIBILITY_INFO.encoding}}};
}

Group interrupts_off()
{
    return {{"long, interrupts off", Shape::kLong, {off(GUEST_RFLAGS, kIf)}},
            {{"interrupt-without-if",
              set(VM_ENTRY_INTR_INFO_FIELD, kInterrupt20),
              {},
              GUEST_RFLAGS.encoding}}};
}

Group waiting_for_sipi()
{
    Base base = {
        "long, waiting for a SIPI", Shape::kLong, {set(GUEST_ACTIVITY_STATE, kWaitForSipi)}};
    base.not_entered = "no SIPI would ever come, and nothing else ends the wait";
    return {base, {{"event-waiting-for-sipi", set(VM_ENTRY_INTR_INFO_FIELD, kInvalidOpcode)}}};
}

Group shut_down()
{
    Base base = {"long, shut down", Shape::kLong, {set(GUEST_ACTIVITY_STATE, kShutdown)}};
    base.not_entered = "nothing but an NMI or INIT would end the shutdown";
    return {base, {{"event-in-shutdown", set(VM_ENTRY_INTR_INFO_FIELD, kInvalidOpcode)}}};
}

Group entry_to_smm()
{
    Base base = {"long, on the way to SMM",
                 Shape::kLong,
                 {set(GUEST_INTERRUPTIBILITY_INFO, kSmi), on(VM_ENTRY_CONTROLS, VM_ENTRY_SMM)},
                 {MINIVMX_WORD_ENTRY, VM_ENTRY_SMM}};
    base.not_entered = "only a monitor in SMM may enter SMM";
    return {base, {{"smm-waiting-for-sipi", set(GUEST_ACTIVITY_STATE, kWaitForSipi)}}};
}

// What the audit finds fault with and this emulator never looks at: here it is the audit that gives
// a false alarm, and who watches for those has something to find.
Group unseen_by_the_emulator()
{
    Breakage breakage = {"debugctl-reserved", on(GUEST_IA32_DEBUGCTL, 1 << 2)};
    breakage.unseen = true;
    return {{"long, to be entered in spite of the audit",
             Shape::kLong,
             {on(VM_ENTRY_CONTROLS, VM_ENTRY_LOAD_DEBUG_CONTROLS)}},
            {breakage}};
}

} // namespace

std::vector<Group> state_groups()
{
    return {plain(),
            user_mode(),
            halted(),
            after_sti(),
            after_mov_ss(),
            interrupts_off(),
            waiting_for_sipi(),
            shut_down(),
            entry_to_smm(),
            unseen_by_the_emulator()};
}

} // namespace breakage
