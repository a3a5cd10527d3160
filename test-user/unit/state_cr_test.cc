// SPDX-License-Identifier: GPL-2.0-only
#include "state_support.hpp"

#include <minivmx/control_shadow.hpp>

namespace minivmx::test {
namespace {

constexpr u64 kBase = X86_CR0_PE | X86_CR0_ET;

class ControlRegisters : public ::testing::Test {
  protected:
    ControlRegisters()
    {
        guest.set_supported_cpuid();
        guest.add_ram(0, 0, 0x10000);
    }
    StateGuest guest;
    vcpu_vmx &vmx = guest.vmx();

    /// A table of page-directory-pointer entries that is all right.
    void good_pdptrs(u64 gpa)
    {
        for (u32 i = 0; i < 4; i++)
            guest.poke<u64>(gpa + 8 * i, 0x2000 + i * 0x1000 + 1);
    }
    /// The exit of an instruction on a control register.
    Outcome access(u8 cr, u8 type, u8 gpr = 0, u16 lmsw = 0)
    {
        guest.set(EXIT_QUALIFICATION, cr | u64{type} << 4 | u64{gpr} << 8 | u64{lmsw} << 16);
        guest.instruction(0x1000, 3);
        return handle_cr_access(vmx);
    }
    bool done() { return guest.exception() < 0 && guest.rip() == 0x1003; }
    bool faulted() { return guest.take_exception().vector == GP_VECTOR && guest.rip() == 0x1000; }
};

// ---- CR0 ----

TEST_F(ControlRegisters, Cr0AfterReset)
{
    EXPECT_EQ(guest_cr0(vmx), 0x60000010u);
    EXPECT_EQ(guest.get(CR0_READ_SHADOW), 0x60000010u);
    EXPECT_EQ(guest.get(GUEST_CR0), X86_CR0_ET | X86_CR0_NE);
    EXPECT_EQ(guest.get(CR0_GUEST_HOST_MASK), ~(X86_CR0_TS | X86_CR0_WP));
}

TEST_F(ControlRegisters, Cr0Refusals)
{
    EXPECT_FALSE(set_cr0(vmx, bit64(32)));
    EXPECT_FALSE(set_cr0(vmx, bit64(63) | kBase));
    EXPECT_FALSE(set_cr0(vmx, kBase | X86_CR0_NW));
    EXPECT_FALSE(set_cr0(vmx, X86_CR0_PG));
    EXPECT_EQ(guest_cr0(vmx), 0x60000010u);
    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_NW | X86_CR0_CD));
    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_CD));
}

TEST_F(ControlRegisters, Cr0IgnoresReservedBitsAndEtReadsAsOne)
{
    EXPECT_TRUE(set_cr0(vmx, X86_CR0_PE | 0x1ffa0000 | 0x0000ffc0));
    EXPECT_EQ(guest_cr0(vmx), kBase);
}

TEST_F(ControlRegisters, CachesAreNeverOff)
{
    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_CD | X86_CR0_NW));
    EXPECT_EQ(guest.get(GUEST_CR0) & (X86_CR0_CD | X86_CR0_NW), 0u);
    EXPECT_EQ(guest.get(CR0_READ_SHADOW) & (X86_CR0_CD | X86_CR0_NW), X86_CR0_CD | X86_CR0_NW);
}

TEST_F(ControlRegisters, GuestOwnedBitsAreReadFromTheCpu)
{
    EXPECT_TRUE(set_cr0(vmx, kBase));
    // While it ran, the guest set TS and WP; the CPU's NE is not its own.
    guest.set(GUEST_CR0, kBase | X86_CR0_NE | X86_CR0_TS | X86_CR0_WP);
    EXPECT_EQ(guest_cr0(vmx), kBase | X86_CR0_TS | X86_CR0_WP);
    guest.set(GUEST_CR4, X86_CR4_VMXE | X86_CR4_PGE | X86_CR4_TSD | X86_CR4_PSE);
    EXPECT_EQ(guest_cr4(vmx), X86_CR4_PGE | X86_CR4_TSD);
}

TEST_F(ControlRegisters, ReadingCostsOneVmreadAnExit)
{
    guest.machine.vmreads = 0;
    vmx.state_available = 0;
    (void)guest_cr0(vmx);
    (void)guest_cr0(vmx);
    EXPECT_EQ(guest.machine.vmreads, 1u);
}

// ---- Long mode ----

TEST_F(ControlRegisters, LongModeIsEnteredWithPagingAndLeftWithIt)
{
    EXPECT_TRUE(set_cr0(vmx, kBase));
    EXPECT_TRUE(set_efer(vmx, EFER_LME));
    EXPECT_FALSE(set_cr0(vmx, kBase | X86_CR0_PG)) << "without PAE";
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE));
    guest.set(GUEST_TR_AR_BYTES, 0x83); // a 16-bit TSS
    vmx.stale_translations = StaleTranslations::kNone;
    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_PG));
    EXPECT_EQ(vmx.efer, EFER_LME | EFER_LMA);
    EXPECT_TRUE(vm_entry_controls_get(vmx.vmcs01) & VM_ENTRY_IA32E_MODE);
    EXPECT_EQ(guest.get(GUEST_TR_AR_BYTES), 0x8bu);
    EXPECT_EQ(vmx.stale_translations, StaleTranslations::kLinear);

    EXPECT_FALSE(set_efer(vmx, 0));
    EXPECT_FALSE(set_cr4(vmx, 0)) << "PAE stays in IA-32e mode";
    guest.set(GUEST_CS_AR_BYTES, 0xa09b);
    EXPECT_FALSE(set_cr0(vmx, kBase)) << "not out of 64-bit code";
    guest.set(GUEST_CS_AR_BYTES, 0xc09b);
    EXPECT_TRUE(set_cr0(vmx, kBase));
    EXPECT_EQ(vmx.efer, EFER_LME);
    EXPECT_FALSE(vm_entry_controls_get(vmx.vmcs01) & VM_ENTRY_IA32E_MODE);
    EXPECT_TRUE(set_efer(vmx, 0));
}

TEST_F(ControlRegisters, NotIntoLongModeFromACodeSegmentWithL)
{
    EXPECT_TRUE(set_cr0(vmx, kBase));
    EXPECT_TRUE(set_efer(vmx, EFER_LME));
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE));
    guest.set(GUEST_CS_AR_BYTES, 0xa09b);
    EXPECT_FALSE(set_cr0(vmx, kBase | X86_CR0_PG));
}

// ---- PAE ----

TEST_F(ControlRegisters, PaeLoadsTheDirectoryPointers)
{
    good_pdptrs(0x1020);
    EXPECT_TRUE(set_cr3(vmx, 0x1038)); // bits 4:0 don't count
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE));
    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_PG));
    EXPECT_EQ(guest.get(GUEST_PDPTR0), 0x2001u);
    EXPECT_EQ(guest.get(GUEST_PDPTR3), 0x5001u);
    EXPECT_FALSE(vm_entry_controls_get(vmx.vmcs01) & VM_ENTRY_IA32E_MODE);
    // Changes of other bits don't load them again.
    guest.poke<u64>(0x1020, 0x9001);
    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_PG | X86_CR0_NE));
    EXPECT_EQ(guest.get(GUEST_PDPTR0), 0x2001u);
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE | X86_CR4_PSE));
    EXPECT_EQ(guest.get(GUEST_PDPTR0), 0x9001u);
}

TEST_F(ControlRegisters, PaeRefusesReservedBits)
{
    EXPECT_TRUE(set_cr3(vmx, 0x1000));
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE));
    for (const unsigned bit : {1u, 2u, 5u, 6u, 7u, 8u, 46u, 63u}) {
        good_pdptrs(0x1000);
        guest.poke<u64>(0x1018, 0x5001 | bit64(bit));
        EXPECT_FALSE(set_cr0(vmx, kBase | X86_CR0_PG)) << bit;
        EXPECT_EQ(guest_cr0(vmx) & X86_CR0_PG, 0u);
    }
    guest.poke<u64>(0x1018, ~u64{1}); // not present: anything goes
    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_PG));
    // CR3 is checked each time.
    EXPECT_FALSE(set_cr3(vmx, 0x100000)) << "no memory there";
    EXPECT_EQ(guest_cr3(vmx), 0x1000u);
    guest.poke<u64>(0x3000, 2);
    EXPECT_TRUE(set_cr3(vmx, 0x3000));
    guest.poke<u64>(0x3000, 3);
    EXPECT_FALSE(set_cr3(vmx, 0x3000));
}

// ---- CR3 ----

TEST_F(ControlRegisters, Cr3HasNoBitsBeyondThePhysicalAddress)
{
    EXPECT_TRUE(set_cr3(vmx, bit64(45) | 0x18));
    EXPECT_EQ(guest.get(GUEST_CR3), bit64(45) | 0x18);
    EXPECT_FALSE(set_cr3(vmx, bit64(46)));
    EXPECT_FALSE(set_cr3(vmx, bit64(63)));
}

TEST_F(ControlRegisters, Cr3Bit63KeepsTranslationsOnlyWithPcids)
{
    guest.enter_long_mode();
    EXPECT_FALSE(set_cr3(vmx, bit64(63) | 0x1000));
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE | X86_CR4_PCIDE));
    vmx.stale_translations = StaleTranslations::kNone;
    EXPECT_TRUE(set_cr3(vmx, bit64(63) | 0x1005));
    EXPECT_EQ(guest_cr3(vmx), 0x1005u);
    EXPECT_EQ(vmx.stale_translations, StaleTranslations::kNone);
    EXPECT_TRUE(set_cr3(vmx, 0x1005));
    EXPECT_EQ(vmx.stale_translations, StaleTranslations::kLinear);
}

// ---- CR4 ----

TEST_F(ControlRegisters, Cr4NeedsTheFeature)
{
    struct {
        u64 bit;
        u32 leaf;
        u32 kvm_cpuid_entry2::*word;
        unsigned feature;
    } const rows[] = {
        {X86_CR4_SMEP, 7, &kvm_cpuid_entry2::ebx, 7},
        {X86_CR4_SMAP, 7, &kvm_cpuid_entry2::ebx, 20},
        {X86_CR4_FSGSBASE, 7, &kvm_cpuid_entry2::ebx, 0},
        {X86_CR4_UMIP, 7, &kvm_cpuid_entry2::ecx, 2},
        {X86_CR4_OSXSAVE, 1, &kvm_cpuid_entry2::ecx, 26},
    };
    for (const auto &row : rows) {
        guest.set_supported_cpuid();
        EXPECT_TRUE(set_cr4(vmx, row.bit)) << std::hex << row.bit;
        EXPECT_TRUE(set_cr4(vmx, 0));
        auto entries = guest.supported();
        find(entries, row.leaf)->*row.word &= ~bit32(row.feature);
        ASSERT_EQ(guest.set_cpuid(entries), 0);
        EXPECT_FALSE(set_cr4(vmx, row.bit)) << std::hex << row.bit;
    }
    guest.set_supported_cpuid();
    for (const u64 bit : {X86_CR4_VMXE, X86_CR4_SMXE, X86_CR4_PKE, X86_CR4_LA57, X86_CR4_CET,
                          bit64(15), bit64(19), bit64(32), bit64(63)})
        EXPECT_FALSE(set_cr4(vmx, bit)) << std::hex << bit;
}

TEST_F(ControlRegisters, Cr4GuestMayNotBeToldOfWhatIsNotThere)
{
    auto entries = guest.supported();
    find(entries, 7)->ecx |= bit32(3) | bit32(16); // PKU, LA57
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    EXPECT_FALSE(set_cr4(vmx, X86_CR4_PKE));
    EXPECT_FALSE(set_cr4(vmx, X86_CR4_LA57));
}

TEST_F(ControlRegisters, PcidsNeedLongModeAndPcid0)
{
    EXPECT_FALSE(set_cr4(vmx, X86_CR4_PCIDE));
    guest.enter_long_mode();
    EXPECT_TRUE(set_cr3(vmx, 0x1001));
    EXPECT_FALSE(set_cr4(vmx, X86_CR4_PAE | X86_CR4_PCIDE));
    EXPECT_TRUE(set_cr3(vmx, 0x1000));
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE | X86_CR4_PCIDE));
    EXPECT_TRUE(set_cr3(vmx, 0x1001));
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE | X86_CR4_PCIDE | X86_CR4_PGE))
        << "it only has to be 0 when PCIDE goes on";
    guest.set(GUEST_CS_AR_BYTES, 0xc09b);
    EXPECT_FALSE(set_cr0(vmx, kBase)) << "paging can't go off with PCIDs on";
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE));
    EXPECT_TRUE(set_cr0(vmx, kBase));
}

TEST_F(ControlRegisters, MachineCheckEnableIsTheHosts)
{
    EXPECT_EQ(guest.get(GUEST_CR4) & X86_CR4_MCE, hardware.info.cr4 & X86_CR4_MCE);
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_MCE));
    EXPECT_EQ(guest.get(CR4_READ_SHADOW), X86_CR4_MCE);
    hardware.info.cr4 &= ~X86_CR4_MCE;
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_MCE));
    EXPECT_EQ(guest.get(GUEST_CR4) & X86_CR4_MCE, 0u);
}

TEST_F(ControlRegisters, WhatInvalidatesTranslations)
{
    guest.enter_long_mode();
    for (const u64 bit : {X86_CR4_PGE, X86_CR4_SMEP}) {
        vmx.stale_translations = StaleTranslations::kNone;
        EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE | bit));
        EXPECT_EQ(vmx.stale_translations, StaleTranslations::kLinear) << std::hex << bit;
        EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE));
    }
    vmx.stale_translations = StaleTranslations::kNone;
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE | X86_CR4_TSD | X86_CR4_OSFXSR));
    EXPECT_EQ(vmx.stale_translations, StaleTranslations::kNone);
}

TEST_F(ControlRegisters, MasksFollowTheGuestsCpuid)
{
    const u64 all = X86_CR4_PVI | X86_CR4_DE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
                    X86_CR4_PGE | X86_CR4_TSD;
    EXPECT_EQ(guest.get(CR4_GUEST_HOST_MASK), ~(all | X86_CR4_FSGSBASE));
    auto entries = guest.supported();
    find(entries, 7)->ebx &= ~bit32(0);
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    EXPECT_EQ(guest.get(CR4_GUEST_HOST_MASK), ~all);
}

TEST(ControlRegisterMasks, BeforeCpuidIsSet)
{
    StateGuest guest;
    EXPECT_EQ(~guest.get(CR4_GUEST_HOST_MASK) & X86_CR4_FSGSBASE, X86_CR4_FSGSBASE);
    EXPECT_EQ(guest.get(CR0_GUEST_HOST_MASK), ~(X86_CR0_TS | X86_CR0_WP));
}

TEST(ControlRegisterMasks, WithoutEptTheHypervisorSeesWhatPagingDependsOn)
{
    StateGuest guest("corei7_haswell_4770", [](sim::Machine &, Parameters &p) { p.ept = false; });
    EXPECT_EQ(guest.get(CR0_GUEST_HOST_MASK), ~X86_CR0_TS);
    EXPECT_EQ(guest.get(CR4_GUEST_HOST_MASK),
              ~(X86_CR4_PVI | X86_CR4_DE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
                X86_CR4_TSD | X86_CR4_FSGSBASE));
    EXPECT_TRUE(guest.get(GUEST_CR0) & X86_CR0_WP);
}

// ---- Without "unrestricted guest" ----

class RestrictedGuest : public ::testing::Test {
  protected:
    StateGuest guest{"corei7_haswell_4770",
                     [](sim::Machine &, Parameters &p) { p.unrestricted_guest = false; }};
    vcpu_vmx &vmx = guest.vmx();
    static constexpr u32 kCr3Exiting = CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING;
};

TEST_F(RestrictedGuest, RealModeRunsWithTheCpusPagingOn)
{
    EXPECT_TRUE(vmx.vm86_active);
    EXPECT_EQ(guest.get(GUEST_CR0), X86_CR0_PE | X86_CR0_NE | X86_CR0_ET | X86_CR0_PG);
    EXPECT_EQ(guest.get(GUEST_CR4) & ~X86_CR4_MCE, X86_CR4_VMXE | X86_CR4_VME | X86_CR4_PSE);
    EXPECT_EQ(guest.get(CR0_READ_SHADOW), 0x60000010u);
    EXPECT_EQ(guest.get(GUEST_CR3), 0xfffbc000u);
    EXPECT_EQ(exec_controls_get(vmx.vmcs01) & kCr3Exiting, kCr3Exiting);
    EXPECT_EQ(guest.get(EXCEPTION_BITMAP), 0xffffffffu & ~bit32(PF_VECTOR));
    EXPECT_EQ(guest_cpl(vmx), 0u);
}

TEST_F(RestrictedGuest, ProtectedModeWithoutAndWithPaging)
{
    guest.set_supported_cpuid();
    guest.add_ram(0, 0, 0x10000);
    EXPECT_TRUE(set_cr0(vmx, kBase));
    EXPECT_FALSE(vmx.vm86_active);
    EXPECT_NE(guest.get(EXCEPTION_BITMAP), 0xffffffffu & ~bit32(PF_VECTOR));
    EXPECT_TRUE(set_cr3(vmx, 0x3000));
    EXPECT_EQ(guest.get(GUEST_CR3), 0xfffbc000u) << "still the identity map";
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_PAE | X86_CR4_SMEP));
    EXPECT_EQ(guest.get(GUEST_CR4) & (X86_CR4_PAE | X86_CR4_SMEP | X86_CR4_PSE), X86_CR4_PSE);
    EXPECT_EQ(guest_cr4(vmx), X86_CR4_PAE | X86_CR4_SMEP);

    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_PG));
    EXPECT_EQ(exec_controls_get(vmx.vmcs01) & kCr3Exiting, 0u);
    EXPECT_EQ(guest.get(GUEST_CR3), 0x3000u);
    EXPECT_EQ(guest.get(GUEST_CR4) & (X86_CR4_PAE | X86_CR4_SMEP | X86_CR4_PSE),
              X86_CR4_PAE | X86_CR4_SMEP);

    // The guest loads CR3 without an exit, then turns paging off: its CR3 is not lost.
    guest.set(GUEST_CR3, 0x5000);
    EXPECT_TRUE(set_cr0(vmx, kBase));
    EXPECT_EQ(guest_cr3(vmx), 0x5000u);
    EXPECT_EQ(guest.get(GUEST_CR3), 0xfffbc000u);
    vmx.state_available = 0;
    EXPECT_EQ(guest_cr3(vmx), 0x5000u);
}

TEST_F(RestrictedGuest, IdentityMapIsWhereUserSpacePutIt)
{
    guest.kvm().identity_map_addr = 0xfeffc000;
    EXPECT_TRUE(set_cr0(vmx, kBase));
    EXPECT_EQ(guest.get(GUEST_CR3), 0xfeffc000u);
}

TEST(NoEpt, NeitherPageTablesNorPagingModeAreTheGuests)
{
    StateGuest guest("core2_penryn_t9600");
    EXPECT_EQ(guest.machine.count_writes(GUEST_CR3.encoding), 0u);
    EXPECT_TRUE(guest.get(GUEST_CR4) & X86_CR4_PAE);
    EXPECT_TRUE(guest.get(GUEST_CR0) & X86_CR0_WP);
    guest.set_supported_cpuid();
    EXPECT_TRUE(set_cr3(guest.vmx(), 0x3000));
    guest.vmx().state_available = 0;
    EXPECT_EQ(guest_cr3(guest.vmx()), 0x3000u);
    EXPECT_EQ(guest.machine.count_writes(GUEST_CR3.encoding), 0u);
}

// ---- EFER's controls ----

TEST(EferSwitch, ByEntryAndExitOnlyWhileItDiffers)
{
    StateGuest guest;
    guest.set_supported_cpuid();
    vcpu_vmx &vmx = guest.vmx();
    auto loads = [&] {
        const bool entry = vm_entry_controls_get(vmx.vmcs01) & VM_ENTRY_LOAD_IA32_EFER;
        const bool exit = vm_exit_controls_get(vmx.vmcs01) & VM_EXIT_LOAD_IA32_EFER;
        EXPECT_EQ(entry, exit);
        return entry;
    };
    EXPECT_TRUE(loads()) << "the host has NX, LME, LMA and SCE";
    EXPECT_EQ(guest.get(GUEST_IA32_EFER), 0u);
    guest.enter_long_mode();
    EXPECT_TRUE(loads());
    EXPECT_EQ(guest.get(GUEST_IA32_EFER), EFER_LME | EFER_LMA);
    EXPECT_TRUE(set_efer(vmx, EFER_LME | EFER_NX | EFER_SCE));
    EXPECT_FALSE(loads()) << "as the host's: nothing to load";
    EXPECT_TRUE(set_efer(vmx, EFER_LME | EFER_NX));
    EXPECT_TRUE(loads());
    // LME alone means nothing to VM entry.
    write_efer(vmx, EFER_LME | EFER_NX);
    EXPECT_EQ(guest.get(GUEST_IA32_EFER), EFER_NX);
}

TEST(EferSwitch, InSoftwareWhereEntryCannot)
{
    StateGuest guest("core2_penryn_t9600");
    guest.set_supported_cpuid();
    ASSERT_FALSE(hardware.config.vmentry_ctrl & VM_ENTRY_LOAD_IA32_EFER);
    write_efer(guest.vmx(), EFER_SCE);
    EXPECT_EQ(guest.area().uret_mask[URET_EFER], 0u);
    write_efer(guest.vmx(), EFER_LME | EFER_LMA | EFER_SCE);
    EXPECT_EQ(guest.area().uret_mask[URET_EFER], EFER_SCE) << "never NX: the host's tables need it";
    EXPECT_EQ(guest.area().uret[URET_EFER] & EFER_SCE, EFER_SCE);
}

// ---- The exits ----

TEST_F(ControlRegisters, ExitMovToCr0)
{
    guest.reg(kRbx) = kBase | X86_CR0_NE;
    EXPECT_TRUE(access(0, 0, kRbx).resumes());
    EXPECT_TRUE(done());
    EXPECT_EQ(guest_cr0(vmx), kBase | X86_CR0_NE);
    guest.reg(kRbx) = X86_CR0_PG;
    EXPECT_TRUE(access(0, 0, kRbx).resumes());
    EXPECT_TRUE(faulted());
}

TEST_F(ControlRegisters, ExitOperandsAre32BitsOutside64BitCode)
{
    guest.reg(kRcx) = 0xdeadbeef00000000 | kBase;
    EXPECT_TRUE(access(0, 0, kRcx).resumes());
    EXPECT_TRUE(done());
    guest.enter_long_mode();
    guest.reg(kRcx) = 0xdeadbeef00000000 | kBase | X86_CR0_PG;
    EXPECT_TRUE(access(0, 0, kRcx).resumes());
    EXPECT_TRUE(faulted());
}

TEST_F(ControlRegisters, ExitMovToAndFromCr3)
{
    guest.reg(kR9) = 0x7000;
    EXPECT_TRUE(access(3, 0, kR9).resumes());
    EXPECT_TRUE(done());
    EXPECT_TRUE(access(3, 1, kR10).resumes());
    EXPECT_TRUE(done());
    EXPECT_EQ(guest.reg(kR10), 0x7000u);
    guest.enter_long_mode();
    guest.reg(kR9) = bit64(50);
    EXPECT_TRUE(access(3, 0, kR9).resumes());
    EXPECT_TRUE(faulted());
}

TEST_F(ControlRegisters, ExitMovToCr4FromTheStackPointer)
{
    guest.set(GUEST_RSP, X86_CR4_PAE | X86_CR4_SMEP);
    EXPECT_TRUE(access(4, 0, kRsp).resumes());
    EXPECT_TRUE(done());
    EXPECT_EQ(guest_cr4(vmx), X86_CR4_PAE | X86_CR4_SMEP);
    guest.set(GUEST_RSP, X86_CR4_VMXE);
    EXPECT_TRUE(access(4, 0, kRsp).resumes());
    EXPECT_TRUE(faulted());
}

TEST_F(ControlRegisters, ExitClts)
{
    EXPECT_TRUE(set_cr0(vmx, kBase | X86_CR0_TS));
    EXPECT_TRUE(access(0, 2).resumes());
    EXPECT_TRUE(done());
    EXPECT_EQ(guest_cr0(vmx), kBase);
}

TEST_F(ControlRegisters, ExitLmswCanSetPeButNotClearIt)
{
    EXPECT_TRUE(access(0, 3, 0, 0xffff).resumes());
    EXPECT_TRUE(done());
    EXPECT_EQ(guest_cr0(vmx), 0x60000010u | 0xf);
    EXPECT_TRUE(access(0, 3, 0, 0).resumes());
    EXPECT_TRUE(done());
    EXPECT_EQ(guest_cr0(vmx), 0x60000010u | X86_CR0_PE);
}

TEST_F(ControlRegisters, ExitCr8)
{
    guest.reg(kRax) = 9;
    EXPECT_TRUE(access(8, 0).resumes());
    EXPECT_TRUE(done());
    EXPECT_EQ(vmx.cr8, 9u);
    EXPECT_TRUE(access(8, 1, kRdx).resumes());
    EXPECT_EQ(guest.reg(kRdx), 9u);
    // The same value needs no exit to user space, a lower one does.
    EXPECT_TRUE(access(8, 0).resumes());
    guest.reg(kRax) = 8;
    const Outcome lowered = access(8, 0);
    EXPECT_FALSE(lowered.resumes());
    EXPECT_EQ(lowered.ioctl_result(), 0);
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_SET_TPR});
    EXPECT_TRUE(done()) << "the instruction is finished before user space hears of it";
    for (const u64 bad : {u64{16}, u64{0x100}, bit64(31)}) {
        guest.reg(kRax) = bad;
        EXPECT_TRUE(access(8, 0).resumes());
        EXPECT_TRUE(faulted());
        EXPECT_EQ(vmx.cr8, 8u);
    }
}

TEST_F(ControlRegisters, ExitThatCannotHappenGoesToUserSpace)
{
    for (const u8 cr : {1, 5, 7, 9, 15}) {
        guest.run().exit_reason = 99;
        EXPECT_FALSE(access(cr, 0).resumes());
        EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_UNKNOWN});
    }
}

TEST_F(ControlRegisters, TheEmulatorMovesWhatNeverExits)
{
    guest.reg(kRax) = 0x1234567;
    EXPECT_TRUE(access(2, 0).resumes());
    EXPECT_EQ(guest.area().cr2, 0x1234567u);
    guest.reg(kRax) = 0;
    EXPECT_TRUE(access(2, 1).resumes());
    EXPECT_EQ(guest.reg(kRax), 0x1234567u);
    EXPECT_TRUE(access(0, 1).resumes());
    EXPECT_EQ(guest.reg(kRax), guest_cr0(vmx));
    EXPECT_TRUE(access(4, 1).resumes());
    EXPECT_EQ(guest.reg(kRax), guest_cr4(vmx));
}

// ---- XSETBV ----

TEST_F(ControlRegisters, Xsetbv)
{
    auto xsetbv = [&](u64 value, u64 index = 0) {
        guest.instruction(0x1000, 3);
        guest.reg(kRcx) = index;
        guest.reg(kRax) = static_cast<u32>(value) | 0xffffffff00000000;
        guest.reg(kRdx) = value >> 32;
        EXPECT_TRUE(handle_xsetbv(vmx).resumes());
        const bool ok = guest.exception() < 0;
        EXPECT_EQ(guest.rip(), ok ? 0x1003u : 0x1000u);
        guest.take_exception();
        return ok;
    };
    for (const u64 good : {1u, 3u, 7u, 0xe7u})
        EXPECT_TRUE(xsetbv(good)) << good;
    EXPECT_EQ(vmx.msrs.xcr0, 0xe7u);
    for (const u64 bad :
         {u64{0}, u64{2}, u64{6}, u64{5}, u64{0x27}, u64{0x67}, u64{0xe3}, u64{0xe1}, u64{0x1f},
          u64{0xb}, u64{0x207}, bit64(17) | 7, bit64(62) | 7, bit64(63) | 7})
        EXPECT_FALSE(xsetbv(bad)) << std::hex << bad;
    EXPECT_EQ(vmx.msrs.xcr0, 0xe7u);
    EXPECT_FALSE(xsetbv(7, 1));
    EXPECT_TRUE(xsetbv(7, 0xffffffff00000000));
    guest.set_cpl(1);
    EXPECT_FALSE(xsetbv(3));
}

TEST_F(ControlRegisters, XsetbvKnowsOnlyWhatCpuidTells)
{
    auto entries = guest.supported();
    find(entries, 0xd)->eax = 3;
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    guest.reg(kRcx) = guest.reg(kRdx) = 0;
    guest.reg(kRax) = 7;
    EXPECT_TRUE(handle_xsetbv(vmx).resumes());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
}

TEST(XsetbvMpx, BothHalvesOrNone)
{
    StateGuest guest("CannonLake");
    guest.set_supported_cpuid();
    guest.reg(kRcx) = guest.reg(kRdx) = 0;
    for (const auto &[value, good] :
         {std::pair{0x1fu, true}, {0xfu, false}, {0x17u, false}, {0x1bu, true}}) {
        guest.reg(kRax) = value;
        EXPECT_TRUE(handle_xsetbv(guest.vmx()).resumes());
        EXPECT_EQ(guest.exception() < 0, good) << value;
        guest.take_exception();
    }
}

TEST_F(ControlRegisters, Xcr0IsSwitchedOnlyWhereItDiffersAndTheGuestUsesIt)
{
    auto log = [&] {
        std::vector<u64> values;
        for (const auto &[msr, value] : guest.machine.wrmsr_log)
            if (msr == MSR_IA32_XSS)
                values.push_back(value);
        return values.size();
    };
    vmx.msrs.xcr0 = 7;
    guest.machine.xcr0 = hardware.info.xcr0;
    load_guest_xcr0(vmx);
    EXPECT_EQ(guest.machine.xcr0, hardware.info.xcr0);
    EXPECT_TRUE(set_cr4(vmx, X86_CR4_OSXSAVE));
    load_guest_xcr0(vmx);
    EXPECT_EQ(guest.machine.xcr0, 7u);
    load_host_xcr0(vmx);
    EXPECT_EQ(guest.machine.xcr0, hardware.info.xcr0);
    EXPECT_EQ(log(), 0u);
    if (vmx.xsaves_enabled) {
        hardware.info.xss = 0x100;
        guest.machine.msr[MSR_IA32_XSS] = 0x100;
        load_guest_xcr0(vmx);
        EXPECT_EQ(guest.machine.msr[MSR_IA32_XSS], 0u);
        load_host_xcr0(vmx);
        EXPECT_EQ(guest.machine.msr[MSR_IA32_XSS], 0x100u);
    }
}

} // namespace
} // namespace minivmx::test
