// SPDX-License-Identifier: GPL-2.0-only
//
// Moves to and from devices that are known from before: what they do without a walk and a decoder
// is what they do with, and whatever changes in between is noticed.
#include "guest.hpp"

#include <minivmx.h>
#include <minivmx/known_move.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/state.hpp>

namespace minivmx::test {
namespace {

constexpr u64 kTables = 0x10000, kCode = 0x1000, kOtherCode = 0x3000, kRamEnd = 0x40000;
constexpr u64 kLinear = 0x7f0000200000, kCodeLinear = 0x400000, kDevice = 0xd0000000;
constexpr u64 kPresentWritable = 3;
const std::vector<u8> kStore = {0x89, 0x43, 0x08}; // mov [rbx+8], eax
const std::vector<u8> kLoad = {0x48, 0x8b, 0x03};  // mov rax, [rbx]

class KnownMoveTest : public testing::Test {
  protected:
    explicit KnownMoveTest(const Guest::Tweak &tweak = {}) : guest{"corei7_skylake_x", tweak} {}

    Guest guest;
    u64 next_table = kTables + 0x1000;

    void SetUp() override
    {
        guest.add_ram(0, 0, kRamEnd);
        enter_long_mode();
        map(kCodeLinear, kCode);
        map(kLinear, kDevice);
        guest.reg(kRbx) = kLinear;
        guest.reg(kRax) = 0x1122334455667788;
    }

    virtual void enter_long_mode() { guest.long_mode(kCodeLinear, kTables); }

    u64 entry_of(u64 linear, unsigned level)
    {
        u64 table = kTables;
        for (unsigned at = 4;; at--) {
            const u64 gpa = table + (linear >> (12 + 9 * (at - 1)) & 511) * 8;
            if (at == level)
                return gpa;
            if (guest.peek<u64>(gpa) == 0) {
                guest.poke<u64>(gpa, next_table | kPresentWritable);
                next_table += 0x1000;
            }
            table = guest.peek<u64>(gpa) & ~u64{0xfff};
        }
    }
    void map(u64 linear, u64 gpa) { guest.poke<u64>(entry_of(linear, 1), gpa | kPresentWritable); }

    /// The exit of the instruction at CS:RIP that touched gpa. quickly: without anything that may
    /// sleep, which a known move needs not.
    int touch(u64 gpa, bool quickly = false)
    {
        guest.set_rip(kCodeLinear);
        guest.set(GUEST_PHYSICAL_ADDRESS, gpa);
        vcpu_vmx &vmx = guest.vmx();
        vmx.pending.kind = PendingIo::kNone;
        vmx.exit_reason = EXIT_REASON_EPT_MISCONFIG;
        vmx.idt_vectoring_info = 0;
        guest.run().exit_reason = KVM_EXIT_UNKNOWN;
        if (!quickly)
            return handle_ept_misconfig(vmx, gpa).ioctl_result();
        Outcome outcome = Outcome::error(-1);
        host_preempt_disable();
        known = repeat_known_move(vmx, gpa, outcome);
        host_preempt_enable();
        return outcome.ioctl_result();
    }
    void learn(const std::vector<u8> &code, u64 gpa)
    {
        guest.poke_bytes(kCode, code);
        for (int i = 0; i < 2; i++)
            EXPECT_EQ(touch(gpa), 0);
        EXPECT_EQ(touch(gpa, true), 0);
        EXPECT_TRUE(known);
    }
    bool is_known(u64 gpa)
    {
        (void)touch(gpa, true);
        return known;
    }
    Outcome answer(u64 value)
    {
        std::memcpy(guest.run().mmio.data, &value, 8);
        return complete_pending(guest.vmx());
    }
    void expect_exit(u64 gpa, u32 size, bool write, u64 value)
    {
        const kvm_run &run = guest.run();
        u64 data;
        std::memcpy(&data, run.mmio.data, 8);
        EXPECT_EQ(run.exit_reason, KVM_EXIT_MMIO);
        EXPECT_EQ(run.mmio.phys_addr, gpa);
        EXPECT_EQ(run.mmio.len, size);
        EXPECT_EQ(run.mmio.is_write, write);
        EXPECT_EQ(data, value);
    }

    bool known = false;
};

TEST_F(KnownMoveTest, TheSecondTimeItIsRemembered)
{
    guest.poke_bytes(kCode, kStore);
    EXPECT_EQ(touch(kDevice + 8), 0);
    EXPECT_FALSE(is_known(kDevice + 8));
    EXPECT_EQ(touch(kDevice + 8), 0);
    EXPECT_TRUE(is_known(kDevice + 8));
}

TEST_F(KnownMoveTest, Store)
{
    learn(kStore, kDevice + 8);
    expect_exit(kDevice + 8, 4, true, 0x55667788);
    EXPECT_EQ(guest.rip(), kCodeLinear + 3);
    EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kMmioWrite);
    EXPECT_TRUE(answer(0).resumes());
    EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
    EXPECT_EQ(guest.rip(), kCodeLinear + 3);
}

TEST_F(KnownMoveTest, RegistersCount)
{
    learn(kStore, kDevice + 8);
    guest.reg(kRax) = 0xabcdef;
    guest.reg(kRbx) = kLinear + 0x100;
    EXPECT_EQ(touch(kDevice + 0x108, true), 0);
    expect_exit(kDevice + 0x108, 4, true, 0xabcdef);
}

TEST_F(KnownMoveTest, StoreOfAnImmediateAndOfAHighByte)
{
    learn({0x66, 0xc7, 0x03, 0x34, 0x12}, kDevice); // mov word [rbx], 0x1234
    expect_exit(kDevice, 2, true, 0x1234);
    learn({0x88, 0x23}, kDevice); // mov [rbx], ah
    expect_exit(kDevice, 1, true, 0x77);
}

TEST_F(KnownMoveTest, Load)
{
    learn(kLoad, kDevice);
    expect_exit(kDevice, 8, false, 0);
    EXPECT_EQ(guest.rip(), kCodeLinear);
    EXPECT_TRUE(answer(0xfedcba9876543210).resumes());
    EXPECT_EQ(guest.reg(kRax), 0xfedcba9876543210u);
    EXPECT_EQ(guest.rip(), kCodeLinear + 3);
    EXPECT_EQ(guest.vmx().pending.kind, PendingIo::kNone);
}

TEST_F(KnownMoveTest, NarrowLoadsKeepWhatTheyMust)
{
    learn({0x8a, 0x23}, kDevice); // mov ah, [rbx]
    guest.reg(kRax) = 0x1111111111111111;
    EXPECT_TRUE(answer(0xaabb).resumes());
    EXPECT_EQ(guest.reg(kRax), 0x111111111111bb11u);
    learn({0x8b, 0x03}, kDevice); // mov eax, [rbx]
    EXPECT_TRUE(answer(0xffffffffffffffff).resumes());
    EXPECT_EQ(guest.reg(kRax), 0xffffffffu);
}

TEST_F(KnownMoveTest, OtherCode)
{
    learn(kStore, kDevice + 8);
    guest.poke_bytes(kCode, {0x89, 0x4b, 0x08}); // mov [rbx+8], ecx
    guest.reg(kRcx) = 0x99;
    EXPECT_FALSE(is_known(kDevice + 8));
    EXPECT_EQ(touch(kDevice + 8), 0);
    expect_exit(kDevice + 8, 4, true, 0x99);
    // What follows the instruction doesn't matter.
    learn(kStore, kDevice + 8);
    guest.poke_bytes(kCode + 3, {0xcc, 0xcc});
    EXPECT_TRUE(is_known(kDevice + 8));
}

TEST_F(KnownMoveTest, CodeAcrossWords)
{
    for (const u64 at : {u64{5}, u64{7}, u64{0xffd}}) {
        map(kCodeLinear, kOtherCode);
        guest.poke_bytes(kOtherCode + at, kStore);
        for (int i = 0; i < 3; i++) {
            guest.set_rip(kCodeLinear + at);
            guest.set(GUEST_PHYSICAL_ADDRESS, kDevice + 8);
            guest.vmx().exit_reason = EXIT_REASON_EPT_MISCONFIG;
            guest.vmx().pending.kind = PendingIo::kNone;
            Outcome outcome = Outcome::resume();
            EXPECT_EQ(repeat_known_move(guest.vmx(), kDevice + 8, outcome), i == 2) << at;
            if (i < 2)
                outcome = handle_ept_misconfig(guest.vmx(), kDevice + 8);
            EXPECT_EQ(outcome.ioctl_result(), 0);
        }
        EXPECT_EQ(guest.rip(), kCodeLinear + at + 3);
    }
}

TEST_F(KnownMoveTest, OtherTables)
{
    for (unsigned level = 1; level <= 4; level++) {
        for (const u64 linear : {kLinear, kCodeLinear}) {
            learn(kStore, kDevice + 8);
            const u64 at = entry_of(linear, level);
            const u64 value = guest.peek<u64>(at);
            guest.poke<u64>(at, value & ~u64{1});
            EXPECT_FALSE(is_known(kDevice + 8)) << level;
            guest.poke<u64>(at, value);
            EXPECT_TRUE(is_known(kDevice + 8)) << level;
        }
    }
}

TEST_F(KnownMoveTest, OtherAddressSpaceModeOrDevice)
{
    learn(kStore, kDevice + 8);
    EXPECT_FALSE(is_known(kDevice + 0x1008));
    EXPECT_FALSE(is_known(kDevice + 0x10));
    guest.set(GUEST_CR3, kTables | 8);
    EXPECT_FALSE(is_known(kDevice + 8));
    guest.set(GUEST_CR3, kTables);
    guest.set(GUEST_CS_AR_BYTES, 0xc09b); // compatibility mode
    EXPECT_FALSE(is_known(kDevice + 8));
    guest.set(GUEST_CS_AR_BYTES, 0xa09b);
    EXPECT_TRUE(is_known(kDevice + 8));
}

TEST_F(KnownMoveTest, OtherSlots)
{
    learn(kStore, kDevice + 8);
    guest.add_ram(1, 0x100000, 0x1000);
    EXPECT_FALSE(is_known(kDevice + 8));
    EXPECT_EQ(touch(kDevice + 8), 0);
    EXPECT_TRUE(is_known(kDevice + 8));
}

TEST_F(KnownMoveTest, MemoryThatIsNotResident)
{
    learn(kStore, kDevice + 8);
    guest.machine.on_read_atomic = [](u64) { return false; };
    EXPECT_FALSE(is_known(kDevice + 8));
}

TEST_F(KnownMoveTest, WhatIsNoPlainMoveIsNotRemembered)
{
    const std::vector<u8> others[] = {
        {0x01, 0x03},       // add [rbx], eax
        {0x64, 0x89, 0x03}, // mov fs:[rbx], eax
        {0x0f, 0xb6, 0x03}, // movzx eax, byte [rbx]
        {0x87, 0x03},       // xchg [rbx], eax
        {0x8e, 0x1b},       // mov ds, [rbx]
    };
    for (const std::vector<u8> &code : others) {
        guest.poke_bytes(kCode, code);
        for (int i = 0; i < 3; i++)
            (void)touch(kDevice);
        EXPECT_FALSE(is_known(kDevice));
    }
    // Nor what lies in two pages.
    guest.poke_bytes(kCode, kLoad);
    map(kLinear + 0x1000, kDevice + 0x1000);
    guest.reg(kRbx) = kLinear + 0xffc;
    for (int i = 0; i < 3; i++)
        (void)touch(kDevice + 0xffc);
    EXPECT_FALSE(is_known(kDevice + 0xffc));
    guest.reg(kRbx) = kLinear;
    learn(kLoad, kDevice);
    guest.reg(kRbx) = kLinear + 0xffc;
    EXPECT_FALSE(is_known(kDevice + 0xffc));
}

TEST_F(KnownMoveTest, AStoreNeedsItsDirtyFlag)
{
    constexpr u64 kAccessed = bit64(5), kDirty = bit64(6);
    learn(kStore, kDevice + 8);
    const u64 at = entry_of(kLinear, 1);
    EXPECT_EQ(guest.peek<u64>(at) & (kAccessed | kDirty), kAccessed | kDirty);
    guest.poke<u64>(at, guest.peek<u64>(at) & ~(kAccessed | kDirty));
    EXPECT_FALSE(is_known(kDevice + 8));
    EXPECT_EQ(touch(kDevice + 8), 0);
    EXPECT_EQ(guest.peek<u64>(at) & (kAccessed | kDirty), kAccessed | kDirty);
}

// ---- Without EPT, where the exit is a page fault
// --------------------------------------------------

constexpr u64 kUser = 4;

class KnownAccessTest : public KnownMoveTest {
  protected:
    KnownAccessTest() : KnownMoveTest{[](sim::Machine &, Parameters &p) { p.ept = false; }} {}

    void enter_long_mode() override
    {
        set_paging(X86_CR0_WP, 0); // out of virtual-8086 mode, where segments are hidden
        guest.set_segments(0, 0xffffffff, 0xa09b, 0xc093);
    }
    void set_paging(u64 cr0, u64 cr4)
    {
        constexpr u64 kEfer = EFER_LME | EFER_LMA | EFER_NX;
        cr0 |= X86_CR0_PE | X86_CR0_PG | X86_CR0_ET | X86_CR0_NE;
        write_efer(guest.vmx(), kEfer);
        write_paging_state(guest.vmx(), {cr0, kTables, cr4 | X86_CR4_PAE, kEfer});
        guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED);
    }
    /// In the entries of all levels.
    void allow(u64 linear, u64 bits)
    {
        for (unsigned level = 1; level <= 4; level++)
            guest.poke<u64>(entry_of(linear, level),
                            guest.peek<u64>(entry_of(linear, level)) | bits);
    }
    void at_exit()
    {
        guest.set_rip(kCodeLinear);
        guest.vmx().pending.kind = PendingIo::kNone;
        guest.vmx().exit_reason = EXIT_REASON_EXCEPTION_NMI;
        guest.vmx().idt_vectoring_info = 0;
        guest.run().exit_reason = KVM_EXIT_UNKNOWN;
    }
    /// The vector that the guest gets; 0: user space is asked.
    u8 touch(u64 linear, u32 error)
    {
        at_exit();
        const Outcome outcome = handle_shadow_fault(guest.vmx(), linear, error);
        const ExceptionQueue exception = guest.take_exception();
        EXPECT_NE(outcome.resumes(), guest.run().exit_reason == KVM_EXIT_MMIO);
        return exception.pending ? exception.vector : 0;
    }
    bool is_known(u64 linear, u32 error)
    {
        at_exit();
        Outcome outcome = Outcome::error(-1);
        return repeat_known_access(guest.vmx(), address_state(guest.vmx()), linear, error, outcome);
    }
    void learn(const std::vector<u8> &code, u64 linear, u32 error)
    {
        guest.poke_bytes(kCode, code);
        for (int i = 0; i < 2; i++)
            EXPECT_EQ(touch(linear, error), 0);
        EXPECT_TRUE(is_known(linear, error));
        // The fault's handler finds it: it compares words, and walks no tables.
        bool compares = false;
        guest.machine.on_read_atomic = [&](u64) { return compares = true; };
        EXPECT_EQ(touch(linear, error), 0);
        guest.machine.on_read_atomic = {};
        EXPECT_TRUE(compares);
    }
};

TEST_F(KnownAccessTest, Store)
{
    learn(kStore, kLinear + 8, PFERR_WRITE);
    expect_exit(kDevice + 8, 4, true, 0x55667788);
    EXPECT_EQ(guest.rip(), kCodeLinear + 3);
    guest.reg(kRax) = 0xabcdef;
    guest.reg(kRbx) = kLinear + 0x100;
    EXPECT_TRUE(is_known(kLinear + 0x108, PFERR_WRITE));
    expect_exit(kDevice + 0x108, 4, true, 0xabcdef);
    EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE)); // it isn't the operand that faulted
    EXPECT_FALSE(is_known(kLinear + 0x108, 0));
}

TEST_F(KnownAccessTest, Load)
{
    learn(kLoad, kLinear, 0);
    expect_exit(kDevice, 8, false, 0);
    EXPECT_TRUE(answer(0xfedcba9876543210).resumes());
    EXPECT_EQ(guest.reg(kRax), 0xfedcba9876543210u);
    EXPECT_FALSE(is_known(kLinear, PFERR_WRITE));
}

TEST_F(KnownAccessTest, AnotherPrivilege)
{
    learn(kStore, kLinear + 8, PFERR_WRITE);
    guest.set_cpl(3);
    EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE | PFERR_USER));
    EXPECT_EQ(touch(kLinear + 8, PFERR_WRITE | PFERR_USER), PF_VECTOR);
    allow(kLinear, kUser);
    allow(kCodeLinear, kUser);
    learn(kStore, kLinear + 8, PFERR_WRITE | PFERR_USER);
    guest.set_cpl(0);
    EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE));
}

TEST_F(KnownAccessTest, WriteProtection)
{
    guest.poke<u64>(entry_of(kLinear, 1), kDevice | 1);
    set_paging(0, 0);
    learn(kStore, kLinear + 8, PFERR_WRITE);
    set_paging(X86_CR0_WP, 0);
    EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE));
    EXPECT_EQ(touch(kLinear + 8, PFERR_WRITE), PF_VECTOR);
}

TEST_F(KnownAccessTest, Smap)
{
    allow(kLinear, kUser);
    set_paging(X86_CR0_WP, X86_CR4_SMAP);
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_AC);
    learn(kStore, kLinear + 8, PFERR_WRITE);
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED);
    EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE));
    EXPECT_EQ(touch(kLinear + 8, PFERR_WRITE), PF_VECTOR);
}

TEST_F(KnownAccessTest, OtherTables)
{
    learn(kStore, kLinear + 8, PFERR_WRITE);
    for (unsigned level = 1; level <= 4; level++) {
        for (const u64 linear : {kLinear, kCodeLinear}) {
            const u64 at = entry_of(linear, level);
            const u64 value = guest.peek<u64>(at);
            guest.poke<u64>(at, value & ~u64{1});
            EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE)) << level;
            guest.poke<u64>(at, value);
            EXPECT_TRUE(is_known(kLinear + 8, PFERR_WRITE)) << level;
        }
    }
}

TEST_F(KnownAccessTest, MemoryInTheDevicesPlace)
{
    learn(kStore, kLinear + 8, PFERR_WRITE);
    EXPECT_EQ(core_set_tss_addr(guest.host().core, kDevice), 0);
    EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE));
    map(kLinear, kDevice + 0x10000);
    learn(kStore, kLinear + 8, PFERR_WRITE);
    guest.add_ram(1, kDevice + 0x10000, 0x1000);
    EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE));
}

// A write to a read-only slot is emulated, too, but by way of memory.
TEST_F(KnownAccessTest, ReadOnlyMemoryIsNoDevice)
{
    guest.add_ram(1, kDevice, 0x1000, KVM_MEM_READONLY);
    guest.poke_bytes(kCode, kStore);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(touch(kLinear + 8, PFERR_WRITE), 0);
    EXPECT_FALSE(is_known(kLinear + 8, PFERR_WRITE));
}

} // namespace
} // namespace minivmx::test
