// SPDX-License-Identifier: GPL-2.0-only
//
// A guest with descriptor tables of every kind, for instructions that load segments or go to other
// ones.
#pragma once

#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>

#include "guest.hpp"

namespace minivmx::test {

class SegmentationTest : public testing::Test {
  protected:
    static constexpr u64 kGdt = 0x1000, kLdt = 0x2000, kTss = 0x3000, kIdt = 0x5000,
                         kStackTop = 0x7000, kInnerTop = 0x8000, kCode = 0x9000, kTarget = 0xa000,
                         kData = 0xb000, kTables = 0x10000;
    static constexpr u16 kCode0 = 0x08, kData0 = 0x10, kCode3 = 0x1b, kData3 = 0x23, kTask = 0x28,
                         kOtherTask = 0x30, kConforming = 0x38, kAbsentCode = 0x40,
                         kAbsentData = 0x48, kReadOnly = 0x50, kExecuteOnly = 0x58, kCode16 = 0x60,
                         kGate = 0x68, kGate16 = 0x70, kTaskGate = 0x78, kCode64 = 0x80,
                         kLocalTable = 0x88, kData1 = 0x90, kCode1 = 0x98, kAbsentGate = 0xa0,
                         kLast = 0xa8;
    static constexpr u64 kCodeRights = 0x00cf9a000000ffff, kDataRights = 0x00cf92000000ffff;

    Guest guest;
    u64 length = 0;

    SegmentationTest() : SegmentationTest("corei7_haswell_4770") {}
    explicit SegmentationTest(const std::string &cpu) : guest{cpu}
    {
        guest.add_ram(0, 0, 0x40000);
        fill_gdt();
        guest.poke<u64>(kLdt, kDataRights);
        guest.poke<u64>(kLdt + 8, kCodeRights);
        guest.poke<u32>(kTss + 4, kInnerTop);
        guest.poke<u16>(kTss + 8, kData0);
        guest.poke<u32>(kTss + 12, kInnerTop - 0x100);
        guest.poke<u16>(kTss + 16, kData1 | 1);
        for (u64 i = 0; i < 4; i++)
            guest.poke<u64>(kTables + 0x3000 + 8 * i, i << 21 | 0x87);
        protected_mode();
    }

    static constexpr u64 gate(u16 selector, u64 offset, u8 access, u8 parameters = 0)
    {
        return (offset & 0xffff) | u64{selector} << 16 | u64{parameters} << 32 | u64{access} << 40 |
               (offset & 0xffff0000) << 32;
    }
    static constexpr u64 system(u64 base, u32 limit, u8 access)
    {
        return limit | base << 16 | u64{access} << 40;
    }
    void describe(u16 selector, u64 raw) { guest.poke<u64>(kGdt + (selector & ~7u), raw); }
    u64 descriptor(u16 selector) { return guest.peek<u64>(kGdt + (selector & ~7u)); }
    bool accessed(u16 selector) { return (descriptor(selector) >> 40 & 1) != 0; }

    void fill_gdt()
    {
        describe(0, 0);
        describe(kCode0, kCodeRights);
        describe(kData0, kDataRights);
        describe(kCode3, kCodeRights | 3ull << 45);
        describe(kData3, kDataRights | 3ull << 45);
        describe(kTask, system(kTss, 0x67, 0x8b));
        describe(kOtherTask, system(0x4000, 0x67, 0x89));
        describe(kConforming, kCodeRights | bit64(42));
        describe(kAbsentCode, kCodeRights & ~bit64(47));
        describe(kAbsentData, kDataRights & ~bit64(47));
        describe(kReadOnly, kDataRights & ~bit64(41));
        describe(kExecuteOnly, kCodeRights & ~bit64(41));
        describe(kCode16, 0x00009a000000ffff);
        describe(kGate, gate(kCode0, kTarget, 0xec, 2));
        describe(kGate16, gate(kCode0, kTarget, 0xe4, 2));
        describe(kTaskGate, u64{kOtherTask} << 16 | u64{0xe5} << 40);
        describe(kCode64, 0x00af9a000000ffff);
        describe(kLocalTable, system(kLdt, 0x0f, 0x82));
        describe(kData1, kDataRights | 1ull << 45);
        describe(kCode1, kCodeRights | 1ull << 45);
        describe(kAbsentGate, gate(kCode0, kTarget, 0x6c));
    }

    // ---- Modes ----

    void set_tables(u32 task_rights)
    {
        guest.vmx().exit_reason = EXIT_REASON_EPT_VIOLATION;
        guest.vmx().idt_vectoring_info = 0;
        guest.set(GUEST_INTERRUPTIBILITY_INFO, 0);
        guest.set(GUEST_PENDING_DBG_EXCEPTIONS, 0);
        guest.set(GUEST_GDTR_BASE, kGdt);
        guest.set(GUEST_GDTR_LIMIT, kLast - 1);
        guest.set(GUEST_IDTR_BASE, kIdt);
        guest.set(GUEST_IDTR_LIMIT, 0x7ff);
        guest.set(GUEST_LDTR_BASE, kLdt);
        guest.set(GUEST_LDTR_LIMIT, 0x0f);
        guest.set(GUEST_LDTR_AR_BYTES, 0x82);
        guest.set(GUEST_LDTR_SELECTOR, kLocalTable);
        guest.set(GUEST_TR_SELECTOR, kTask);
        guest.set(GUEST_TR_BASE, kTss);
        guest.set(GUEST_TR_LIMIT, 0x67);
        guest.set(GUEST_TR_AR_BYTES, task_rights);
        set_rsp(kStackTop);
    }
    void select(u16 code, u16 data)
    {
        for (u32 i = 0; i < 6; i++)
            guest.set(GUEST_ES_SELECTOR + i, i == kCs ? code : data);
    }
    void protected_mode()
    {
        guest.protected_mode(kCode);
        select(kCode0, kData0);
        set_tables(0x8b);
    }
    // CPL 3 in protected mode.
    void user_mode()
    {
        protected_mode();
        guest.set_segments(0, 0xffffffff, 0xc0fb, 0xc0f3);
        select(kCode3, kData3);
    }
    void real_mode()
    {
        guest.real_mode(kCode);
        select(0, 0);
        set_tables(0x8b);
        guest.set(GUEST_IDTR_BASE, 0);
        guest.set(GUEST_IDTR_LIMIT, 0x3ff);
    }
    void vm86(u64 flags)
    {
        user_mode();
        guest.set_segments(0, 0xffff, 0xf3, 0xf3);
        select(0, 0);
        guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_VM | flags);
    }
    void long_mode()
    {
        guest.poke<u64>(kTables, (kTables + 0x1000) | 7);
        guest.poke<u64>(kTables + 0x1000, (kTables + 0x3000) | 7);
        guest.long_mode(kCode, kTables);
        select(kCode64, kData0);
        set_tables(0x8b);
        guest.poke<u64>(kTss + 4, kInnerTop);
        guest.poke<u64>(kTss + 0x24, kInnerTop - 0x800); // IST1
    }

    // ---- Execution ----

    Outcome run(const std::vector<u8> &code)
    {
        length = code.size();
        guest.set_rip(kCode);
        guest.poke_bytes(kCode, code);
        const Outcome outcome = emulate_instruction(guest.vmx());
        write_registers();
        return outcome;
    }
    // What the next entry would write.
    void write_registers()
    {
        const u64 rip = guest.rip(), rsp = read_rsp(guest.vmx());
        guest.set(GUEST_RIP, rip);
        set_rsp(rsp);
    }
    void set_rsp(u64 value)
    {
        guest.set(GUEST_RSP, value);
        guest.vmx().state_dirty = 0;
    }
    void expect_at(Outcome outcome, u16 selector, u64 rip)
    {
        const ExceptionQueue &queued = guest.vmx().exception;
        EXPECT_TRUE(outcome.resumes());
        EXPECT_FALSE(queued.pending) << int{queued.vector} << ' ' << std::hex << queued.error_code;
        EXPECT_EQ(guest.get(GUEST_CS_SELECTOR), selector);
        EXPECT_EQ(guest.rip(), rip);
        guest.vmx().exception = {};
    }
    void expect_next(Outcome outcome)
    {
        expect_at(outcome, static_cast<u16>(guest.get(GUEST_CS_SELECTOR)), kCode + length);
    }
    // Nothing but the exception has happened.
    void expect_fault(Outcome outcome, u8 vector, u32 error_code = 0)
    {
        EXPECT_TRUE(outcome.resumes());
        const ExceptionQueue queued = guest.take_exception();
        EXPECT_TRUE(queued.pending);
        EXPECT_EQ(int{queued.vector}, int{vector});
        EXPECT_EQ(queued.error_code, error_code);
        EXPECT_EQ(guest.rip(), kCode);
    }
    u64 rsp() { return read_rsp(guest.vmx()); }
    template <class T>
    void push(T value)
    {
        set_rsp(rsp() - sizeof(T));
        guest.poke<T>(rsp(), value);
    }
    template <class T>
    T stacked(u32 index)
    {
        return guest.peek<T>(rsp() + index * sizeof(T));
    }
    u32 rights(Segment segment) { return static_cast<u32>(guest.get(GUEST_ES_AR_BYTES + segment)); }
    u64 selector(Segment segment) { return guest.get(GUEST_ES_SELECTOR + segment); }
};

} // namespace minivmx::test
