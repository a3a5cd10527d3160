// SPDX-License-Identifier: GPL-2.0-only
//
// A guest in protected mode with two tasks, and the exits of its task switches.
#pragma once

#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/task_switch.hpp>

#include "guest.hpp"

namespace minivmx::test {

inline constexpr u64 kGdt = 0x1000, kLdt = 0x2000, kTss = 0x3000, kTss2 = 0x4000, kTss286 = 0x5000,
                     kStackTop = 0x7000, kTables = 0x10000, kMemory = 0x40000;
inline constexpr u16 kCode0 = 0x08, kData0 = 0x10, kCode3 = 0x1b, kData3 = 0x23, kOld = 0x28,
                     kNew = 0x30, kNew286 = 0x38, kLdtSelector = 0x40, kConforming = 0x48,
                     kAbsentData = 0x50, kAbsentCode = 0x58, kReadOnlyData = 0x60,
                     kExecuteOnly = 0x68, kAbsentLdt = 0x70, kBeyond = 0x80;
inline constexpr u32 kGdtLimit = 0x7f;
inline constexpr u64 kCodeRights = 0x00cf9a000000ffff, kDataRights = 0x00cf92000000ffff;

// Qualification of the exit: SDM Vol. 3C, 28.2.1, table 28-2.
enum Source : u32 { kCall = 0, kIret = 1u << 30, kJmp = 2u << 30, kGate = 3u << 30 };
inline constexpr u8 kInstructionLength = 7;

constexpr u64 tss_descriptor(u64 base, u32 limit, u8 access)
{
    return limit | base << 16 | u64{access} << 40;
}

class TaskSwitchTest : public testing::Test {
  protected:
    TaskSwitchTest() : TaskSwitchTest(false) {}
    explicit TaskSwitchTest(bool paged, const Guest::Tweak &tweak = {})
        : guest{"corei7_haswell_4770", tweak}
    {
        guest.add_ram(0, 0, kMemory);
        const u64 gdt[] = {0,
                           kCodeRights,
                           kDataRights,
                           kCodeRights | 3ull << 45,
                           kDataRights | 3ull << 45,
                           tss_descriptor(kTss, 0x67, 0x8b),
                           tss_descriptor(kTss2, 0x67, 0x89),
                           tss_descriptor(kTss286, 0x2b, 0x81),
                           tss_descriptor(kLdt, 0x0f, 0x82),
                           0x00cf9e000000ffff,
                           kDataRights & ~bit64(47),
                           kCodeRights & ~bit64(47),
                           kDataRights & ~bit64(41),
                           kCodeRights & ~bit64(41),
                           tss_descriptor(kLdt, 0x0f, 0x02),
                           kDataRights};
        std::memcpy(guest.at(kGdt), gdt, sizeof(gdt));
        guest.poke<u64>(kLdt, kCodeRights);
        guest.poke<u64>(kLdt + 8, kDataRights);

        guest.protected_mode(0x9000, paged ? kTables : 0);
        const u16 selectors[] = {kData0, kCode0, kData0, kData0, 0, 0};
        for (u32 i = 0; i < 6; i++)
            guest.set(GUEST_ES_SELECTOR + i, selectors[i]);
        guest.set(GUEST_GDTR_BASE, kGdt);
        guest.set(GUEST_GDTR_LIMIT, kGdtLimit);
        guest.set(GUEST_LDTR_AR_BYTES, AR_UNUSABLE);
        set_task_register(kOld, kTss, 0x67, 0x8b);
        for (u8 i = 0; i < 8; i++)
            write_gpr(guest.vmx(), i, 0x11111111u * (i + 1));
        write_registers();
        guest.vmx().area->dr7 = 0x7ff;
        new_task(kCode0, kData0);
        new_task_286(kCode0, kData0);
    }
    void set_task_register(u16 selector, u64 base, u32 limit, u32 rights)
    {
        guest.set(GUEST_TR_SELECTOR, selector);
        guest.set(GUEST_TR_BASE, base);
        guest.set(GUEST_TR_LIMIT, limit);
        guest.set(GUEST_TR_AR_BYTES, rights);
    }
    // The 32-bit task: EIP 0x5000, EFLAGS 0x202, EAX... 0xa0 to 0xa7, ESP kStackTop.
    void new_task(u16 code, u16 data)
    {
        guest.poke<u32>(kTss2 + 0x20, 0x5000);
        guest.poke<u32>(kTss2 + 0x24, 0x202);
        for (u32 i = 0; i < 8; i++)
            guest.poke<u32>(kTss2 + 0x28 + 4 * i, i == kRsp ? kStackTop : 0xa0 + i);
        for (u32 i = 0; i < 6; i++)
            guest.poke<u32>(kTss2 + 0x48 + 4 * i, i == kCs ? code : data);
        guest.poke<u32>(kTss2 + 0x60, 0);
    }
    void new_task_286(u16 code, u16 data)
    {
        guest.poke<u16>(kTss286 + 0x0e, 0x6000);
        guest.poke<u16>(kTss286 + 0x10, 0x246);
        for (u32 i = 0; i < 8; i++)
            guest.poke<u16>(kTss286 + 0x12 + 2 * i, i == kRsp ? kStackTop : 0xb0 + i);
        for (u32 i = 0; i < 4; i++)
            guest.poke<u16>(kTss286 + 0x22 + 2 * i, i == kCs ? code : data);
        guest.poke<u16>(kTss286 + 0x2a, 0);
    }
    void set_selector(Segment segment, u16 value)
    {
        guest.poke<u16>(kTss2 + 0x48 + 4 * segment, value);
    }
    u8 access(u16 selector) { return guest.peek<u8>(kGdt + (selector & ~7) + 5); }
    void set_access(u16 selector, u8 value) { guest.poke<u8>(kGdt + (selector & ~7) + 5, value); }
    // What the next entry would write.
    void write_registers()
    {
        const u64 rip = guest.rip(), rsp = read_rsp(guest.vmx());
        guest.set(GUEST_RIP, rip);
        guest.set(GUEST_RSP, rsp);
        guest.vmx().state_dirty = 0;
    }
    // Plays the exit, up to where the guest would be entered again.
    Outcome switch_to(u32 source, u16 selector, u32 vectoring = 0, u32 error_code = 0)
    {
        write_registers();
        guest.set(EXIT_QUALIFICATION, source | selector);
        guest.set(VM_EXIT_INSTRUCTION_LEN, kInstructionLength);
        guest.set(IDT_VECTORING_ERROR_CODE, error_code);
        guest.vmx().exit_reason = EXIT_REASON_TASK_SWITCH;
        guest.vmx().idt_vectoring_info = vectoring;
        complete_interrupted_events(guest.vmx());
        return handle_task_switch(guest.vmx());
    }
    void expect_fault(u8 vector, u32 error_code)
    {
        const ExceptionQueue e = guest.take_exception();
        EXPECT_TRUE(e.pending);
        EXPECT_EQ(e.vector, vector);
        EXPECT_TRUE(e.has_error_code);
        EXPECT_EQ(e.error_code, error_code);
        EXPECT_FALSE(e.reinject);
    }
    void expect_no_fault()
    {
        const ExceptionQueue e = guest.take_exception();
        EXPECT_FALSE(e.pending) << "vector " << int{e.vector} << " error " << e.error_code;
    }
    bool in_new_task() { return guest.get(GUEST_TR_SELECTOR) != kOld; }
    u32 rights(Segment segment) { return static_cast<u32>(guest.get(GUEST_ES_AR_BYTES + segment)); }

    Guest guest;
};

constexpr u32 vectoring(u32 type, u8 vector)
{
    return INTR_INFO_VALID | type | vector;
}

// Everything but memory, as it would be entered with.
inline std::map<u32, u64> state_of(Guest &guest)
{
    (void)guest.rip();
    std::map<u32, u64> state = guest.machine.current_vmcs().fields;
    state.erase(EXIT_QUALIFICATION.encoding);
    state.erase(VM_EXIT_INSTRUCTION_LEN.encoding);
    state.erase(IDT_VECTORING_ERROR_CODE.encoding);
    state.erase(GUEST_RIP.encoding);
    state.erase(GUEST_RSP.encoding);
    for (u32 i = 0; i < 16; i++)
        state[0xffff0000 + i] = guest.vmx().area->regs[i];
    state[0xffff0010] = guest.rip();
    std::erase_if(state, [](const auto &field) { return field.second == 0; });
    return state;
}

} // namespace minivmx::test
