// SPDX-License-Identifier: GPL-2.0-only
//
// GET/SET_REGS and GET/SET_SREGS: the reset state, round trips, what is refused.
#include "ioctl_test.hpp"

using namespace kvm;
using namespace guest;

namespace {

void expect_segment(const char *which, const kvm_segment &got, uint64_t base, uint32_t limit,
                    uint16_t selector, uint8_t type, uint8_t s)
{
    kvm_segment expected = {};
    expected.base = base;
    expected.limit = limit;
    expected.selector = selector;
    expected.type = type;
    expected.present = 1;
    expected.s = s;
    if (memcmp(&got, &expected, sizeof(got)) != 0)
        test::fail(__FILE__, __LINE__,
                   "%s: base 0x%llx limit 0x%x selector 0x%x type %u present %u dpl %u db %u s %u "
                   "l %u g %u avl %u "
                   "unusable %u",
                   which, got.base, got.limit, got.selector, got.type, got.present, got.dpl, got.db,
                   got.s, got.l, got.g, got.avl, got.unusable);
}

struct One {
    Device device;
    Vm vm{device};
    Vcpu vcpu{device, vm};
    kvm_sregs good = vcpu.sregs();

    void refuse(int line, const char *what, const kvm_sregs &sregs)
    {
        kvm_sregs copy = sregs;
        int result = call(vcpu, KVM_SET_SREGS, &copy);
        int error = result == -1 ? errno : 0;
        if (error != EINVAL)
            test::fail(__FILE__, line, "%s (expected EINVAL, got %s)", what,
                       test::errno_name(error));
        kvm_sregs after = vcpu.sregs();
        if (memcmp(&after, &good, sizeof(after)) != 0)
            test::fail(__FILE__, line, "%s: refused, but the state changed", what);
    }
};

#define REFUSE(o, s) (o).refuse(__LINE__, #s, s)

} // namespace

TEST(reset_state)
{
    // Intel SDM Vol. 3A, table 10-1 (power up, reset); the APIC is disabled by KVM without its
    // irqchip... enabled in IA32_APIC_BASE, and vCPU 0 is the boot processor.
    One o;
    const kvm_sregs &s = o.good;
    expect_segment("cs", s.cs, 0xffff0000, 0xffff, 0xf000, 11, 1);
    expect_segment("ds", s.ds, 0, 0xffff, 0, 3, 1);
    expect_segment("es", s.es, 0, 0xffff, 0, 3, 1);
    expect_segment("fs", s.fs, 0, 0xffff, 0, 3, 1);
    expect_segment("gs", s.gs, 0, 0xffff, 0, 3, 1);
    expect_segment("ss", s.ss, 0, 0xffff, 0, 3, 1);
    expect_segment("tr", s.tr, 0, 0xffff, 0, 11, 0);
    expect_segment("ldt", s.ldt, 0, 0xffff, 0, 2, 0);
    EXPECT_EQ(s.gdt.base, 0);
    EXPECT_EQ(s.gdt.limit, 0xffff);
    EXPECT_EQ(s.idt.base, 0);
    EXPECT_EQ(s.idt.limit, 0xffff);
    EXPECT_EQ(s.cr0, 0x60000010);
    EXPECT_EQ(s.cr2, 0);
    EXPECT_EQ(s.cr3, 0);
    EXPECT_EQ(s.cr4, 0);
    EXPECT_EQ(s.cr8, 0);
    EXPECT_EQ(s.efer, 0);
    EXPECT_EQ(s.apic_base, 0xfee00900);
    for (uint64_t word : s.interrupt_bitmap)
        EXPECT_EQ(word, 0);
    kvm_regs r = o.vcpu.regs();
    EXPECT_EQ(r.rip, 0xfff0);
    EXPECT_EQ(r.rflags, 2);
    for (uint64_t value : {r.rax, r.rbx, r.rcx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10,
                           r.r11, r.r12, r.r13, r.r14, r.r15})
        EXPECT_EQ(value, 0);
    // Family, model and stepping as KVM gives them to a vCPU without CPUID.
    EXPECT_EQ(r.rdx, 0x600);
}

TEST(reset_state_of_second_vcpu)
{
    One o;
    Vcpu second(o.device, o.vm, 1);
    kvm_sregs s = second.sregs();
    EXPECT_EQ(s.apic_base, 0xfee00800); // not the boot processor
    s.apic_base = o.good.apic_base;
    EXPECT(memcmp(&s, &o.good, sizeof(s)) == 0);
}

TEST(regs_round_trip)
{
    One o;
    kvm_regs r = {};
    auto *words = reinterpret_cast<uint64_t *>(&r);
    for (size_t i = 0; i < 16; i++)
        words[i] = 0x1111111111111111 * (i + 1) + i;
    r.rip = 0x1234567;
    r.rflags = 2 | 0x8d5;
    o.vcpu.set(r);
    kvm_regs back = o.vcpu.regs();
    EXPECT(memcmp(&r, &back, sizeof(r)) == 0);
    // Bit 1 of RFLAGS is always set.
    r.rflags = 0;
    o.vcpu.set(r);
    EXPECT_EQ(o.vcpu.regs().rflags, 2);
}

TEST(sregs_round_trip)
{
    Device device;
    for (Mode mode : kAllModes) {
        guest::Guest g(device, mode, BLOB(hlt_forever));
        kvm_sregs s = g.vcpu.sregs();
        s.cr2 = 0x123456789abc;
        s.cr8 = 5;
        s.ds.base = mode == Mode::kReal ? 0x12340 : 0;
        s.ds.selector = mode == Mode::kReal ? 0x1234 : s.ds.selector;
        s.gdt.base = 0x5000;
        s.gdt.limit = 0x77;
        g.vcpu.set(s);
        kvm_sregs back = g.vcpu.sregs();
        EXPECT_EQ(back.cr0, s.cr0);
        EXPECT_EQ(back.cr2, s.cr2);
        EXPECT_EQ(back.cr3, s.cr3);
        EXPECT_EQ(back.cr4, s.cr4);
        EXPECT_EQ(back.cr8, s.cr8);
        EXPECT_EQ(back.efer, s.efer);
        EXPECT_EQ(back.apic_base, s.apic_base);
        EXPECT(memcmp(&back.cs, &s.cs, sizeof(s.cs)) == 0);
        EXPECT(memcmp(&back.ds, &s.ds, sizeof(s.ds)) == 0);
        EXPECT(memcmp(&back.ss, &s.ss, sizeof(s.ss)) == 0);
        EXPECT(memcmp(&back.tr, &s.tr, sizeof(s.tr)) == 0);
        EXPECT(memcmp(&back.gdt, &s.gdt, sizeof(s.gdt)) == 0);
        if (test::verdict->state == test::Verdict::kFailed) {
            strncat(test::verdict->why, " in mode ", 32);
            strncat(test::verdict->why, guest::name(mode), 32);
            return;
        }
    }
}

TEST(sregs_bad_cr0)
{
    One o;
    kvm_sregs s = o.good;
    s.cr0 = 0x60000010 | 1ULL << 32;
    REFUSE(o, s);
    s.cr0 = 0x60000010 | 1ULL << 63;
    REFUSE(o, s);
    s.cr0 = 0x20000010; // NW without CD
    REFUSE(o, s);
    s.cr0 = 0xe0000010; // PG without PE
    REFUSE(o, s);
}

TEST(sregs_bad_cr4)
{
    One o;
    kvm_sregs s = o.good;
    for (int bit : {15, 19, 26, 31, 32, 63}) {
        if (bit == 19)
            continue; // KL: defined, refused only without the feature
        s.cr4 = 1ULL << bit;
        REFUSE(o, s);
    }
}

TEST(sregs_cr4_follows_cpuid)
{
    // A CR4 bit whose feature the guest's CPUID lacks is refused, once there is a CPUID.
    One o;
    Cpuid list;
    Cpuid::supported(o.device, list);
    kvm_cpuid_entry2 *seven = list.find(7);
    if (seven)
        seven->ebx = seven->ecx = 0;
    list.find(1)->ecx &= ~(1u << 26 | 1u << 17); // XSAVE, PCID
    REQUIRE_OK(call(o.vcpu, KVM_SET_CPUID2, list.list));
    o.good = o.vcpu.sregs();
    for (int bit : {11 /* UMIP */, 16 /* FSGSBASE */, 18 /* OSXSAVE */, 20 /* SMEP */,
                    21 /* SMAP */, 22 /* PKE */, 17 /* PCIDE */}) {
        kvm_sregs s = o.good;
        s.cr4 = 1ULL << bit;
        REFUSE(o, s);
    }
}

TEST(sregs_bad_long_mode)
{
    One o;
    kvm_sregs s = o.good;
    s.cr0 = kPe | kEt | kNe | kPg;
    s.efer = kLme | kLma;
    s.cr4 = 0; // no PAE
    REFUSE(o, s);
    s.cr4 = kCr4Pae;
    s.efer = kLme; // no LMA
    REFUSE(o, s);
    s.efer = kLma; // no LME
    REFUSE(o, s);
    s.efer = kLme | kLma;
    s.cr0 = kPe | kEt | kNe; // no PG
    REFUSE(o, s);
    s.efer = 0;
    s.cr0 = o.good.cr0;
    s.cr4 = 0;
    s.cs.l = 1; // a 64-bit code segment outside long mode
    REFUSE(o, s);
}

TEST(sregs_bad_cr3)
{
    // In long mode, address bits of CR3 beyond the guest's physical width.
    Device device;
    guest::Guest g(device, Mode::kLong, BLOB(hlt_forever));
    kvm_sregs good = g.vcpu.sregs();
    kvm_sregs s = good;
    for (int bit : {52, 62, 63}) {
        s.cr3 = good.cr3 | 1ULL << bit;
        EXPECT_ERRNO(call(g.vcpu, KVM_SET_SREGS, &s), EINVAL);
    }
    EXPECT_EQ(g.vcpu.sregs().cr3, good.cr3);
    REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_HLT);
}

TEST(sregs_bad_apic_base)
{
    One o;
    kvm_sregs s = o.good;
    s.apic_base = 0xfee00901; // reserved low bits
    REFUSE(o, s);
    s.apic_base = 0xfee00500; // x2APIC mode without the APIC's enable bit
    REFUSE(o, s);
    s.apic_base = 0xfee00d00; // x2APIC mode without its CPUID bit
    REFUSE(o, s);
    s.apic_base = 0xfee00900 | 1ULL << 60;
    REFUSE(o, s);
}

TEST(sregs_pending_interrupt)
{
    // interrupt_bitmap carries an injected interrupt from one vCPU to another.
    Device device;
    guest::Guest g(device, Mode::kLong, BLOB(hlt_forever));
    g.enter_mode(g.vcpu, 0x202);
    kvm_interrupt interrupt = {0x31};
    REQUIRE_OK(call(g.vcpu, KVM_INTERRUPT, &interrupt));
    kvm_sregs s = g.vcpu.sregs();
    EXPECT_EQ(s.interrupt_bitmap[0], 1ULL << 0x31);
    EXPECT_EQ(s.interrupt_bitmap[1] | s.interrupt_bitmap[2] | s.interrupt_bitmap[3], 0);
    Vcpu second(device, g.vm, 1);
    g.set_cpuid(second);
    g.enter_mode(second, 0x202);
    second.set(s);
    EXPECT_EQ(second.sregs().interrupt_bitmap[0], 1ULL << 0x31);
    REQUIRE_OK(second.enter());
    EXPECT_EQ(second.run->exit_reason, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 0x31);
}
