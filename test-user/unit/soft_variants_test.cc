// SPDX-License-Identifier: GPL-2.0-only
//
// A guest sees the same on every CPU: one program, run by a simulated CPU (sim/guest_cpu.hpp) whose
// VMX lacks more and more. What is missing the core does by itself: shadow tables for EPT, flushes
// for VPIDs, its own account of blocked NMIs, exits of CR8 and a decoder for the APIC's page, exits
// of every MSR.
#include <minivmx/lapic.hpp>
#include <minivmx/state.hpp>

#include "guest.hpp"
#include "sim/guest_cpu.hpp"
#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <minivmx.h>

namespace minivmx::test {
namespace {

struct Variant {
    const char *name;
    const char *cpu;
    bool vpid, vnmi, flexpriority;

    void apply(Parameters &params) const
    {
        params.report = 0;
        params.ept = false;
        params.vpid = vpid;
        params.vnmi = vnmi;
        params.flexpriority = flexpriority;
    }
};

void PrintTo(const Variant &variant, std::ostream *out)
{
    *out << variant.name;
}

const Variant kVariants[] = {
    {"Haswell", "corei7_haswell_4770", true, true, true},
    {"HaswellWithoutVpid", "corei7_haswell_4770", false, true, true},
    {"HaswellWithoutVnmi", "corei7_haswell_4770", true, false, true},
    {"HaswellWithoutFlexpriority", "corei7_haswell_4770", true, true, false},
    {"HaswellWithoutAny", "corei7_haswell_4770", false, false, false},
    {"Lynnfield", "corei5_lynnfield_750", true, true, true},
    {"Penryn", "core2_penryn_t9600", true, true, true},
    {"Yorkfield", "Yorkfield", true, true, true}, // secondary controls, but neither EPT nor VPID
    {"Conroe", "Conroe", true, true, true}, // no secondary controls, no virtual NMIs, no TRUE MSRs
};

// The guest's memory.
constexpr u64 kMemory = u64{4} << 20, kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kPt = 0x4000,
              kOtherPml4 = 0x5000, kOtherPdpt = 0x6000, kOtherPd = 0x7000, kOtherPt = 0x8000,
              kCode = 0x10000, kData = 0x20000, kFirstPage = 0x30000, kSecondPage = 0x31000;
constexpr u64 kWindow = 0x100000; // linear; leads to one page or the other
constexpr u64 kApicPage = 0x180000;
constexpr u64 kNothing = 0x190000;
constexpr u64 kPresent = 1, kEntry = 3; // SDM Vol. 3A, table 4-20: present; and writable

class SoftVariant : public testing::TestWithParam<Variant> {
  protected:
    explicit SoftVariant(bool irqchip = false)
        : guest(
              GetParam().cpu, [](sim::Machine &, Parameters &params) { GetParam().apply(params); },
              irqchip),
          cpu(guest.machine)
    {
        guest.add_ram(0, 0, kMemory);
        make_tables(kPml4, kPdpt, kPd, kPt, kFirstPage);
        make_tables(kOtherPml4, kOtherPdpt, kOtherPd, kOtherPt, kSecondPage);
        guest.poke<u64>(kFirstPage, 0x1111);
        guest.poke<u64>(kSecondPage, 0x2222);
    }

    // 2 MiB of small pages, one to one but for what the tests look at.
    void make_tables(u64 pml4, u64 pdpt, u64 pd, u64 pt, u64 window)
    {
        guest.poke<u64>(pml4, pdpt | kEntry);
        guest.poke<u64>(pdpt, pd | kEntry);
        guest.poke<u64>(pd, pt | kEntry);
        for (u64 i = 0; i < 512; i++)
            guest.poke<u64>(pt + 8 * i, i << 12 | kEntry);
        guest.poke<u64>(pt + 8 * (kWindow >> 12), window | kEntry);
        guest.poke<u64>(pt + 8 * (kApicPage >> 12), 0xfee00000 | kEntry);
        guest.poke<u64>(pt + 8 * (kNothing >> 12), 0);
    }
    u64 entry_of(u64 linear) const { return kPt + 8 * (linear >> 12); }

    void enter_long_mode()
    {
        kvm_sregs s;
        ASSERT_EQ(core_get_sregs(&guest.vmx(), &s), 0);
        s.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_ET | X86_CR0_WP | X86_CR0_PG;
        s.cr3 = kPml4;
        s.cr4 = X86_CR4_PAE;
        s.efer = EFER_LME | EFER_LMA;
        flat_64bit_segments(s);
        ASSERT_EQ(core_set_sregs(&guest.vmx(), &s), 0);
    }

    // Runs the program from its first instruction.
    void start(const sim::Program &program)
    {
        enter_long_mode();
        guest.poke_bytes(kCode, program.bytes());
        kvm_regs regs{};
        regs.rip = kCode;
        regs.rflags = X86_EFLAGS_FIXED;
        ASSERT_EQ(core_set_regs(&guest.vmx(), &regs), 0);
    }
    // KVM_RUN; the exit to user space.
    u32 run()
    {
        EXPECT_EQ(core_vcpu_run(&guest.vmx()), 0);
        return guest.run().exit_reason;
    }
    u64 rax() { return guest.reg(kRax); }

    Guest guest;
    sim::GuestCpu cpu;
};

INSTANTIATE_TEST_SUITE_P(Cpus, SoftVariant, testing::ValuesIn(kVariants),
                         [](const auto &info) { return std::string(info.param.name); });

// ---- Paging -------------------------------------------------------------------------------------

TEST_P(SoftVariant, MemoryThroughTablesAndTheirFlags)
{
    start(sim::Program()
              .mov(kRdi, kWindow)
              .load()
              .mov(kRdi, kData)
              .store()
              .mov(kRdi, kWindow + 8)
              .mov(kRax, 0x77)
              .store()
              .hlt());
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    EXPECT_EQ(guest.peek<u64>(kData), 0x1111u);
    EXPECT_EQ(guest.peek<u64>(kFirstPage + 8), 0x77u);
    // SDM Vol. 3A, 4.8.
    constexpr u64 kAccessed = 0x20, kDirty = 0x40;
    EXPECT_EQ(guest.peek<u64>(entry_of(kWindow)), kFirstPage | kEntry | kAccessed | kDirty);
    EXPECT_EQ(guest.peek<u64>(entry_of(kCode)), kCode | kEntry | kAccessed);
    EXPECT_EQ(guest.peek<u64>(kPd), kPt | kEntry | kAccessed);
    EXPECT_TRUE(cpu.events.empty());
}

TEST_P(SoftVariant, AFaultOfTheGuestsOwnIsTheGuests)
{
    guest.poke<u64>(entry_of(kWindow), kFirstPage | kPresent);
    start(sim::Program().mov(kRdi, kNothing + 0x18).load().mov(kRdi, kWindow).store().hlt());
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    ASSERT_EQ(cpu.events.size(), 2u);
    EXPECT_EQ(cpu.events[0].vector, PF_VECTOR);
    EXPECT_EQ(cpu.events[0].error_code, 0u);
    EXPECT_EQ(cpu.events[0].cr2, kNothing + 0x18);
    EXPECT_EQ(cpu.events[1].error_code, 3u); // a write to what is present
    EXPECT_EQ(cpu.events[1].cr2, kWindow);
}

// The guest changes an entry: what it reads then is the new page at the latest after INVLPG.
TEST_P(SoftVariant, InvlpgFollowsAChangedEntry)
{
    sim::Program program;
    for (unsigned i = 0; i < 3; i++) {
        for (const u64 page : {kSecondPage, kFirstPage})
            program.mov(kRdi, entry_of(kWindow))
                .mov(kRax, page | kEntry)
                .store()
                .mov(kRdi, kWindow)
                .invlpg()
                .load()
                .out(0x80);
    }
    start(program.mov(kRdi, kWindow).hlt());
    for (unsigned i = 0; i < 3; i++) {
        for (const u64 value : {0x2222u, 0x1111u}) {
            ASSERT_EQ(run(), u32{KVM_EXIT_IO});
            EXPECT_EQ(rax(), value) << "round " << i;
        }
    }
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
}

// The same by MOV CR3, which flushes everything that isn't global.
TEST_P(SoftVariant, Cr3FollowsChangedEntriesAndOtherTables)
{
    sim::Program program;
    for (const u64 tables : {kOtherPml4, kPml4, kOtherPml4, kPml4})
        program.mov(kRax, tables).set_cr3().mov(kRdi, kWindow).load().out(0x80);
    // Within the same tables.
    program.mov(kRdi, entry_of(kWindow))
        .mov(kRax, kSecondPage | kEntry)
        .store()
        .mov(kRax, kPml4)
        .set_cr3()
        .mov(kRdi, kWindow)
        .load()
        .out(0x80)
        .get_cr3()
        .hlt();
    start(program);
    for (const u64 value : {0x2222u, 0x1111u, 0x2222u, 0x1111u, 0x2222u}) {
        ASSERT_EQ(run(), u32{KVM_EXIT_IO});
        EXPECT_EQ(rax(), value);
    }
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    EXPECT_EQ(rax(), kPml4);
}

// The owner's page goes: no translation of it outlasts the notifier, in tables or in a TLB.
TEST_P(SoftVariant, AnUnmappedPageIsFoundAnew)
{
    start(sim::Program().mov(kRdi, kWindow).load().out(0x80).load().hlt());
    ASSERT_EQ(run(), u32{KVM_EXIT_IO});
    EXPECT_EQ(rax(), 0x1111u);
    const u64 hva = reinterpret_cast<u64>(guest.at(kFirstPage));
    // The process gets another page there.
    guest.machine.pfns.erase(hva >> 12);
    guest.machine.unmap_user(guest.host(), hva, hva + 4096);
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    EXPECT_EQ(rax(), 0x1111u) << "copied to the new page";
}

TEST_P(SoftVariant, UnbackedMemoryGoesToUserSpace)
{
    guest.poke<u64>(entry_of(kWindow), 0xd0000000 | kEntry);
    start(sim::Program().mov(kRdi, kWindow + 0x10).mov(kRax, 0xabcd).store32().load32().hlt());
    ASSERT_EQ(run(), u32{KVM_EXIT_MMIO});
    EXPECT_EQ(guest.run().mmio.phys_addr, 0xd0000010u);
    EXPECT_TRUE(guest.run().mmio.is_write);
    EXPECT_EQ(guest.run().mmio.data[0], 0xcd);
    ASSERT_EQ(run(), u32{KVM_EXIT_MMIO});
    EXPECT_FALSE(guest.run().mmio.is_write);
    std::memcpy(guest.run().mmio.data, "\x34\x12\0\0", 4);
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    EXPECT_EQ(rax(), 0x1234u);
}

// ---- MSRs ---------------------------------------------------------------------------------------

TEST_P(SoftVariant, MsrsAreTheGuestsWithOrWithoutABitmap)
{
    constexpr u32 kMsrs[] = {0x174, 0x175, 0x176, 0xc0000100, 0xc0000101, 0xc0000102};
    sim::Program program;
    for (const u32 msr : kMsrs)
        program.mov(kRcx, msr).mov(kRdx, 0).mov(kRax, msr & 0xfff).wrmsr();
    for (const u32 msr : kMsrs)
        program.mov(kRcx, msr).rdmsr().out(0x80);
    start(program.hlt());
    for (const u32 msr : kMsrs) {
        ASSERT_EQ(run(), u32{KVM_EXIT_IO});
        EXPECT_EQ(rax(), msr & 0xfff) << "MSR 0x" << std::hex << msr;
    }
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    // What user space reads is the same.
    kvm_msr_entry entry{};
    entry.index = 0xc0000102;
    EXPECT_EQ(core_get_msrs(&guest.vmx(), &entry, 1), 1);
    EXPECT_EQ(entry.data, 0x102u);
    const bool bitmap = cpu_has_vmx_msr_bitmap(hardware.config);
    EXPECT_EQ(cpu.exits_of(EXIT_REASON_MSR_READ) == 0, bitmap);
}

TEST_P(SoftVariant, AnMsrThatIsNotThereFaults)
{
    start(sim::Program().mov(kRcx, 0x12345).rdmsr().hlt());
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    ASSERT_EQ(cpu.events.size(), 1u);
    EXPECT_EQ(cpu.events[0].vector, GP_VECTOR);
}

// ---- NMIs ---------------------------------------------------------------------------------------

// A second NMI comes after the first one's handler: SDM Vol. 3A, 6.7.1. Without virtual NMIs its
// end shows only in the interrupts that are open again.
TEST_P(SoftVariant, AnNmiThatComesInAHandlerWaits)
{
    start(sim::Program().cli().nop().cpuid().cpuid().nop().iret().sti().nop().nop().cpuid().hlt());
    bool sent = false;
    cpu.before_instruction = [&] {
        if (!sent && guest.get(GUEST_RIP) == kCode + 2)
            core_nmi(&guest.vmx());
        sent |= guest.get(GUEST_RIP) == kCode + 2;
    };
    core_nmi(&guest.vmx());
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    ASSERT_EQ(cpu.events.size(), 2u);
    EXPECT_GT(cpu.events[1].rip, kCode + 1 + 1 + 2 + 2 + 1);
}

// An NMI handler is not interrupted by another NMI: both arrive, one after the other's IRET.
TEST_P(SoftVariant, NmisDontNest)
{
    // CLI: the handler, as far as this guest has one, runs with interrupts off.
    start(sim::Program().cli().nop().cpuid().nop().iret().sti().nop().nop().cpuid().nop().hlt());
    core_nmi(&guest.vmx());
    core_nmi(&guest.vmx());
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    ASSERT_EQ(cpu.events.size(), 2u);
    EXPECT_EQ(cpu.events[0].rip, kCode);
    const u64 iret = kCode + 1 + 1 + 2 + 1;
    EXPECT_GT(cpu.events[1].rip, iret) << "the second one came inside the first one's handler";
}

TEST_P(SoftVariant, ThreeNmisAreTwo)
{
    start(sim::Program().iret().sti().nop().nop().iret().nop().nop().cpuid().nop().hlt());
    for (unsigned i = 0; i < 3; i++)
        core_nmi(&guest.vmx());
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    EXPECT_EQ(cpu.events.size(), 2u);
}

// ---- Interrupts and their priority --------------------------------------------------------------

TEST_P(SoftVariant, AnInterruptWaitsForOpenDoors)
{
    start(sim::Program().nop().cpuid().nop().sti().nop().nop().hlt());
    ASSERT_EQ(core_interrupt(&guest.vmx(), 0x41), 0);
    // KVM_INTERRUPT is for a guest that is ready; this one isn't, so the client asks for a window.
    guest.vmx().interrupt.pending = false;
    guest.run().request_interrupt_window = 1;
    ASSERT_EQ(run(), u32{KVM_EXIT_IRQ_WINDOW_OPEN});
    guest.run().request_interrupt_window = 0;
    ASSERT_EQ(core_interrupt(&guest.vmx(), 0x41), 0);
    EXPECT_EQ(run(), u32{KVM_EXIT_HLT});
    ASSERT_EQ(cpu.events.size(), 1u);
    EXPECT_EQ(cpu.events[0].vector, 0x41);
    // Behind the instruction after STI: SDM Vol. 2B, STI.
    EXPECT_EQ(cpu.events[0].rip, kCode + 1 + 2 + 1 + 1 + 1);
}

TEST_P(SoftVariant, Cr8ReachesUserSpace)
{
    start(sim::Program().mov(kRax, 9).set_cr8().mov(kRax, 0).get_cr8().hlt());
    u32 reason = run();
    // Without the APIC in the module a change of CR8 goes to the client, whose APIC has it.
    for (unsigned i = 0; reason == KVM_EXIT_SET_TPR && i < 2; i++)
        reason = run();
    EXPECT_EQ(reason, u32{KVM_EXIT_HLT});
    EXPECT_EQ(guest.run().cr8, 9u);
    EXPECT_EQ(rax(), 9u);
}

// ---- The local APIC in the module ---------------------------------------------------------------

// Where the guest finds it, at kApicPage.
constexpr u64 kTpr = 0x80, kEoi = 0xb0, kSpurious = 0xf0, kIcr = 0x300;
constexpr u32 kApicOn = 0x1ff, kToSelf = 1u << 18;

class SoftVariantApic : public SoftVariant {
  protected:
    SoftVariantApic() : SoftVariant(true) {}
    // An access of the APIC's registers, as every guest does it.
    static sim::Program &write(sim::Program &program, u64 offset, u32 value)
    {
        return program.mov(kRdi, kApicPage + offset).mov(kRax, value).store32();
    }
};

INSTANTIATE_TEST_SUITE_P(Cpus, SoftVariantApic, testing::ValuesIn(kVariants),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_P(SoftVariantApic, RegistersReadWhatWasWritten)
{
    sim::Program program;
    write(write(program, kSpurious, kApicOn), kTpr, 0x50);
    program.load32().out(0x80).get_cr8().out(0x80).mov(kRdi, kApicPage + kSpurious).load32();
    start(program.out(0x80));
    for (const u64 value : {0x50u, 5u, kApicOn}) {
        ASSERT_EQ(run(), u32{KVM_EXIT_IO});
        EXPECT_EQ(rax(), value);
    }
    EXPECT_TRUE(cpu.events.empty());
}

// SDM Vol. 3A, 11.8.3.1: an interrupt of a class not above the task priority waits; lowering CR8
// lets it in at once, before the next instruction that looks.
TEST_P(SoftVariantApic, Cr8HoldsAnInterruptBack)
{
    sim::Program program;
    write(program, kSpurious, kApicOn);
    program.sti().mov(kRax, 9).set_cr8();
    write(program, kIcr, kToSelf | 0x41).nop().cpuid().nop().out(0x80);
    program.mov(kRax, 3).set_cr8().nop().out(0x80);
    start(program);
    ASSERT_EQ(run(), u32{KVM_EXIT_IO});
    EXPECT_TRUE(cpu.events.empty()) << "priority class 4 against CR8 = 9";
    ASSERT_EQ(run(), u32{KVM_EXIT_IO});
    ASSERT_EQ(cpu.events.size(), 1u);
    EXPECT_EQ(cpu.events[0].vector, 0x41);
}

// The next of the same class waits for EOI.
TEST_P(SoftVariantApic, EoiLetsTheNextOneIn)
{
    sim::Program program;
    write(program, kSpurious, kApicOn);
    program.sti();
    for (const u32 vector : {0x45u, 0x41u})
        write(program, kIcr, kToSelf | vector).nop().out(0x80);
    write(program, kEoi, 0).nop().out(0x80);
    write(program, kEoi, 0).nop().out(0x80);
    start(program);
    for (const usize delivered : {1u, 1u, 2u, 2u}) {
        ASSERT_EQ(run(), u32{KVM_EXIT_IO});
        EXPECT_EQ(cpu.events.size(), delivered);
    }
    EXPECT_EQ(cpu.events[0].vector, 0x45);
    EXPECT_EQ(cpu.events[1].vector, 0x41);
}

} // namespace
} // namespace minivmx::test
