// SPDX-License-Identifier: GPL-2.0-only
//
// Every instruction that can be intercepted, in a guest of each kind that executes it: no question
// without the intercept, the right one with it, and the same result when it proceeds.
#include "intercept_test.hpp"

namespace {

struct Fact {
    uint64_t control;
    uint32_t reason, length, number;
    uint64_t value, address;
    bool is_write;
    uint8_t size, reg;
};
constexpr uint8_t kNone = MINIVMX_NO_REGISTER;

void expect_facts(int line, const Guest &g, const Fact &e)
{
    const minivmx_exit_intercept &f = facts(g.vcpu);
    if (f.length != e.length || f.number != e.number || f.value != e.value ||
        f.address != e.address || f.is_write != e.is_write || f.size != e.size || f.reg != e.reg)
        test::fail(__FILE__, line,
                   "facts (expected length %u number %u value 0x%llx address 0x%llx write %d size "
                   "%u reg %u, got %u %u 0x%llx 0x%llx %u %u %u)",
                   e.length, e.number, static_cast<unsigned long long>(e.value),
                   static_cast<unsigned long long>(e.address), e.is_write, e.size, e.reg, f.length,
                   f.number, f.value, f.address, f.is_write, f.size, f.reg);
}

bool same_registers(const kvm_regs &a, const kvm_regs &b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

// Runs the code, whose first instruction is the one and whose last one is HLT, without and with the
// intercept. What it leaves in registers and at G_DATA must be the same.
void expect_intercepted(int line, Guest &g, Blob code, const kvm_regs &from, const Fact &fact)
{
    // What the guest changes beside its registers: the last test's values must not help this one.
    const kvm_sregs sregs = g.vcpu.sregs();
    auto run = [&](uint64_t intercepts) {
        g.vcpu.set(sregs);
        memset(g.memory.base + G_DATA, 0x5a, 64);
        start(g, code, from);
        REQUIRE_OK(set_intercepts(g.vcpu, intercepts));
    };
    run(0);
    if (!enter_until(line, g.vcpu, KVM_EXIT_HLT))
        test::leave();
    const kvm_regs plain = g.vcpu.regs();
    const kvm_sregs plain_sregs = g.vcpu.sregs();
    uint8_t data[64];
    memcpy(data, g.memory.base + G_DATA, sizeof(data));

    run(fact.control);
    expect_question(line, g, fact.control, fact.reason, G_CODE);
    expect_facts(line, g, fact);
    if (!same_registers(g.vcpu.regs(), from))
        test::fail(__FILE__, line, "registers have changed before the answer");
    if (!enter_until(line, g.vcpu, KVM_EXIT_HLT))
        test::leave();
    const kvm_sregs after = g.vcpu.sregs();
    if (!same_registers(g.vcpu.regs(), plain))
        test::fail(__FILE__, line, "other registers than without the intercept");
    if (memcmp(&after, &plain_sregs, sizeof(after)))
        test::fail(__FILE__, line, "other system registers than without the intercept");
    if (memcmp(data, g.memory.base + G_DATA, sizeof(data)))
        test::fail(__FILE__, line, "other memory than without the intercept");
    if (g.log_count())
        test::fail(__FILE__, line, "exception %u", g.log(0).vector);

    // Skipped it leaves everything as it was.
    run(fact.control);
    expect_question(line, g, fact.control, fact.reason, G_CODE);
    answer_skip(g);
    if (!enter_until(line, g.vcpu, KVM_EXIT_HLT))
        test::leave();
    g.vcpu.set(sregs);
    REQUIRE_OK(set_intercepts(g.vcpu, 0));
}
#define EXPECT_INTERCEPTED(g, code, from, ...)                                                     \
    expect_intercepted(__LINE__, g, code, from, Fact{__VA_ARGS__})

bool guest_has(Guest &g, uint32_t leaf, uint32_t kvm_cpuid_entry2::*word, unsigned bit)
{
    Cpuid list;
    Cpuid::supported(g.device, list);
    const kvm_cpuid_entry2 *entry = list.find(leaf);
    return entry && entry->*word >> bit & 1;
}

} // namespace

TEST(hints_and_caches)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rax = G_DATA;
    EXPECT_INTERCEPTED(g, CODE(64, "pause; hlt"), r, MINIVMX_INTERCEPT_PAUSE, kPause, 2, 0, 0, 0,
                       false, 0, kNone);
    EXPECT_INTERCEPTED(g, CODE(64, "monitor; hlt"), r, MINIVMX_INTERCEPT_MONITOR, kMonitor, 3, 0,
                       G_DATA, 0, false, 0, kNone);
    EXPECT_INTERCEPTED(g, CODE(64, "mwait; hlt"), r, MINIVMX_INTERCEPT_MWAIT, kMwait, 3, 0, G_DATA,
                       0, false, 0, kNone);
    if (can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_WBINVD))
        EXPECT_INTERCEPTED(g, CODE(64, "wbinvd; hlt"), r, MINIVMX_INTERCEPT_WBINVD, kWbinvd, 2, 0,
                           0, 0, false, 0, kNone);
    EXPECT_INTERCEPTED(g, CODE(64, "invlpg [rax + 8]; hlt"), r, MINIVMX_INTERCEPT_INVLPG, kInvlpg,
                       4, 0, 0, G_DATA + 8, false, 0, kNone);
}

TEST(hlt)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_HLT));
    start(g, CODE(64, "hlt; hlt; nop"));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_HLT, kHlt, G_CODE);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 1);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_HLT, kHlt, G_CODE + 1);
}

TEST(rdpmc_faults_after_the_question)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDPMC));
    kvm_regs r = fresh_regs();
    r.rcx = 7;
    start(g, CODE(64, "rdpmc; hlt; nop"), r);
    g.resume_at(G_CODE + 2);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDPMC, kRdpmc, G_CODE);
    EXPECT_EQ(facts(g.vcpu).number, 7);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE); // no guest has counters
}

TEST(rdtscp)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!guest_has(g, 0x80000001, &kvm_cpuid_entry2::edx, 27))
        test::skip("no RDTSCP");
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));
    start(g, CODE(64, "mov ecx, 0xc0000103; mov eax, 0x77; xor edx, edx; wrmsr; rdtscp; hlt; nop"));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtscp, G_CODE + 14);
    EXPECT_EQ(facts(g.vcpu).length, 3);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rcx, 0x77);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(random_numbers)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!guest_has(g, 1, &kvm_cpuid_entry2::ecx, 30) ||
        !can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDRAND))
        test::skip("no RDRAND exiting");
    kvm_regs r = fresh_regs(2 | 0x8d5);
    r.rbx = r.r9 = ~0ULL;
    // No 16-bit register: of its size Bochs tells wrongly.
    start(g, CODE(64, "rdrand ebx; rdrand r9; hlt; nop"), r);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDRAND, kRdrand, G_CODE);
    EXPECT_EQ(facts(g.vcpu).reg, 3);
    EXPECT_EQ(facts(g.vcpu).size, 4);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDRAND, kRdrand, G_CODE + 3);
    EXPECT_EQ(facts(g.vcpu).reg, 9);
    EXPECT_EQ(facts(g.vcpu).size, 8);
    kvm_regs after = g.vcpu.regs();
    EXPECT_EQ(after.rbx >> 32, 0);
    EXPECT_EQ(after.rflags & 0x8d5, 1); // CF: there was a number
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().r9 != ~0ULL, true);

    if (!guest_has(g, 7, &kvm_cpuid_entry2::ebx, 18) ||
        !can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDSEED))
        return;
    start(g, CODE(64, "rdseed ecx; hlt; nop"), r);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDSEED, kRdseed, G_CODE);
    EXPECT_EQ(facts(g.vcpu).reg, 1);
    EXPECT_EQ(facts(g.vcpu).size, 4);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(invpcid)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!guest_has(g, 7, &kvm_cpuid_entry2::ebx, 10))
        test::skip("no INVPCID");
    kvm_regs r = fresh_regs();
    r.rcx = 2;
    r.rbx = G_DATA + 0x80; // a descriptor of zeros lies behind
    EXPECT_INTERCEPTED(g, CODE(64, "invpcid rcx, [rbx + 16]; hlt"), r, MINIVMX_INTERCEPT_INVLPG,
                       kInvpcid, 6, 2, 0, G_DATA + 0x90, false, 16, 1);
    start(g, CODE(64, "invpcid rcx, [rbx]; hlt; nop"), r);
    g.resume_at(G_CODE + 5);
    r.rcx = 4;
    g.vcpu.set(r);
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_INVLPG));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_INVLPG, kInvpcid, G_CODE);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
}

TEST(control_registers)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    const uint64_t cr0 = g.vcpu.sregs().cr0, cr4 = g.vcpu.sregs().cr4;
    kvm_regs r = fresh_regs();
    r.rax = G_TABLES;
    r.rbx = cr0 | 8; // TS
    r.r11 = cr4 | 8; // DE
    r.rcx = 5;
    EXPECT_INTERCEPTED(g, CODE(64, "mov cr3, rax; hlt"), r, MINIVMX_INTERCEPT_CR3_LOAD, kCrAccess,
                       3, 3, G_TABLES, 0, true, 8, 0);
    EXPECT_INTERCEPTED(g, CODE(64, "mov r12, cr3; hlt"), r, MINIVMX_INTERCEPT_CR3_STORE, kCrAccess,
                       4, 3, 0, 0, false, 8, 12);
    EXPECT_INTERCEPTED(g, CODE(64, "mov cr0, rbx; hlt"), r, MINIVMX_INTERCEPT_CR0_WRITE, kCrAccess,
                       3, 0, cr0 | 8, 0, true, 8, 3);
    EXPECT_INTERCEPTED(g, CODE(64, "mov cr4, r11; hlt"), r, MINIVMX_INTERCEPT_CR4_WRITE, kCrAccess,
                       4, 4, cr4 | 8, 0, true, 8, 11);
    EXPECT_INTERCEPTED(g, CODE(64, "mov cr8, rcx; hlt"), r, MINIVMX_INTERCEPT_CR8_LOAD, kCrAccess,
                       4, 8, 5, 0, true, 8, 1);
    EXPECT_INTERCEPTED(g, CODE(64, "mov rdx, cr8; hlt"), r, MINIVMX_INTERCEPT_CR8_STORE, kCrAccess,
                       4, 8, 0, 0, false, 8, 2);
    // LMSW takes the low four bits of its operand, which lies in memory here.
    r.rdi = G_DATA;
    EXPECT_INTERCEPTED(g, CODE(64, "lmsw [rdi]; hlt"), r, MINIVMX_INTERCEPT_CR0_WRITE, kCrAccess, 3,
                       0, (cr0 & ~0xeULL) | 0xa, G_DATA, true, 2, kNone);
    kvm_sregs s = g.vcpu.sregs();
    s.cr0 |= 8;
    g.vcpu.set(s);
    EXPECT_INTERCEPTED(g, CODE(64, "clts; hlt"), r, MINIVMX_INTERCEPT_CR0_WRITE, kCrAccess, 2, 0,
                       cr0, 0, true, 0, kNone);
}

// CR8 is in the kernel's APIC, and usually served from its page.
TEST(cr8_with_the_apic_in_the_kernel)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"),
            [](Vm &vm) { REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP)); });
    kvm_regs r = fresh_regs();
    r.rcx = 9;
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_CR8_LOAD | MINIVMX_INTERCEPT_CR8_STORE));
    start(g, CODE(64, "mov cr8, rcx; mov rax, cr8; out 0x10, eax; hlt"), r);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_CR8_LOAD, kCrAccess, G_CODE);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_CR8_STORE, kCrAccess, G_CODE + 4);
    EXPECT_EQ(g.vcpu.sregs().cr8, 9);
    EXPECT_REPORT(g.vcpu, 9);
    REQUIRE_OK(set_intercepts(g.vcpu, 0));
    start(g, CODE(64, "mov rax, cr8; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 9);
}

TEST(debug_registers)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rax = 0x1234;
    EXPECT_INTERCEPTED(g, CODE(64, "mov dr1, rax; hlt"), r, MINIVMX_INTERCEPT_MOV_DR, kDrAccess, 3,
                       1, 0x1234, 0, true, 8, 0);
    // Each one exits, although the first brings all of them into the CPU without intercepts.
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_MOV_DR));
    start(g, CODE(64, "mov dr2, rax; mov rbx, dr2; mov r13, dr6; hlt; nop"), r);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_MOV_DR, kDrAccess, G_CODE);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_MOV_DR, kDrAccess, G_CODE + 3);
    EXPECT_EQ(facts(g.vcpu).is_write, 0);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_MOV_DR, kDrAccess, G_CODE + 6);
    EXPECT_EQ(facts(g.vcpu).reg, 13);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rbx, 0x1234);
    EXPECT_EQ(g.vcpu.regs().r13, 0xffff0ff0);
}

// ---- Descriptor tables --------------------------------------------------------------------------

TEST(descriptor_tables_in_long_mode)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_DESCRIPTOR_TABLE))
        test::skip("no descriptor-table exiting");
    constexpr uint64_t kControl = MINIVMX_INTERCEPT_DESCRIPTOR_TABLE;
    const kvm_sregs s = g.vcpu.sregs();
    kvm_regs r = fresh_regs();
    r.rbx = G_DATA;
    r.rsi = 2;
    r.rdi = ~0ULL;
    EXPECT_INTERCEPTED(g, CODE(64, "sgdt [rbx]; hlt"), r, kControl, kGdtrIdtr, 3, MINIVMX_SGDT,
                       s.gdt.base, G_DATA, false, 10, kNone);
    EXPECT_INTERCEPTED(g, CODE(64, "sidt [rbx + 8*rsi - 8]; hlt"), r, kControl, kGdtrIdtr, 5,
                       MINIVMX_SIDT, s.idt.base, G_DATA + 8, false, 10, kNone);
    EXPECT_INTERCEPTED(g, CODE(64, "str edi; hlt"), r, kControl, kLdtrTr, 3, MINIVMX_STR, SEL_TSS,
                       0, false, 4, 7);
    EXPECT_INTERCEPTED(g, CODE(64, "str di; hlt"), r, kControl, kLdtrTr, 4, MINIVMX_STR, SEL_TSS, 0,
                       false, 2, 7);
    EXPECT_INTERCEPTED(g, CODE(64, "sldt [rbx + 4]; hlt"), r, kControl, kLdtrTr, 4, MINIVMX_SLDT, 0,
                       G_DATA + 4, false, 2, kNone);

    // The tables as they are, in the guest's memory beyond what the test compares.
    auto put_table = [&](uint16_t limit, uint64_t base) {
        memcpy(g.memory.base + G_DATA + 0x100, &limit, sizeof(limit));
        memcpy(g.memory.base + G_DATA + 0x102, &base, sizeof(base));
    };
    put_table(static_cast<uint16_t>(s.gdt.limit - 8), s.gdt.base);
    r.rbx = G_DATA + 0x100;
    EXPECT_INTERCEPTED(g, CODE(64, "lgdt [rbx]; hlt"), r, kControl, kGdtrIdtr, 3, MINIVMX_LGDT, 0,
                       r.rbx, true, 10, kNone);
    put_table(0x7ff, s.idt.base);
    EXPECT_INTERCEPTED(g, CODE(64, "lidt [rbx]; hlt"), r, kControl, kGdtrIdtr, 3, MINIVMX_LIDT, 0,
                       r.rbx, true, 10, kNone);

    g.memory.at<uint64_t>(G_GDT + 0x28) = 0x0000'8212'3456'0fff;
    g.memory.at<uint64_t>(G_GDT + 0x30) = 0xffff8000;
    r.rax = 0x28;
    EXPECT_INTERCEPTED(g, CODE(64, "lldt ax; hlt"), r, kControl, kLdtrTr, 3, MINIVMX_LLDT, 0x28, 0,
                       true, 2, 0);
    r.rax = 0;
    EXPECT_INTERCEPTED(g, CODE(64, "lldt ax; hlt"), r, kControl, kLdtrTr, 3, MINIVMX_LLDT, 0, 0,
                       true, 2, 0);
}

TEST(ltr)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_DESCRIPTOR_TABLE))
        test::skip("no descriptor-table exiting");
    kvm_regs r = fresh_regs();
    r.rax = 0x28;
    constexpr uint64_t kAvailable = 0x0000'8912'3456'0067, kBusy = 0x0000'8b12'3456'0067;
    g.memory.at<uint64_t>(G_GDT + 0x28) = kAvailable;
    g.memory.at<uint64_t>(G_GDT + 0x30) = 0x12;
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_DESCRIPTOR_TABLE));
    start(g, CODE(64, "ltr ax; ltr ax; hlt; nop"), r);
    g.resume_at(G_CODE + 6);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_DESCRIPTOR_TABLE, kLdtrTr, G_CODE);
    EXPECT_EQ(g.memory.at<uint64_t>(G_GDT + 0x28), kAvailable);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_DESCRIPTOR_TABLE, kLdtrTr, G_CODE + 3);
    EXPECT_EQ(g.memory.at<uint64_t>(G_GDT + 0x28), kBusy);
    const kvm_sregs s = g.vcpu.sregs();
    EXPECT_EQ(s.tr.base, 0x12'0012'3456);
    EXPECT_EQ(s.tr.type, 11);
    EXPECT_EQ(s.tr.selector, 0x28);
    ENTER(g.vcpu, KVM_EXIT_HLT); // the second one finds it busy
    EXPECT_EXCEPTION(g, 0, 13, 0x28, G_CODE + 3);
}

TEST(descriptor_tables_in_protected_mode)
{
    Device device;
    Guest g(device, Mode::kPaged, CODE(32, "hlt"));
    if (!can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_DESCRIPTOR_TABLE))
        test::skip("no descriptor-table exiting");
    constexpr uint64_t kControl = MINIVMX_INTERCEPT_DESCRIPTOR_TABLE;
    const kvm_sregs s = g.vcpu.sregs();
    kvm_regs r = fresh_regs();
    r.rbx = G_DATA;
    EXPECT_INTERCEPTED(g, CODE(32, "sgdt [ebx]; hlt"), r, kControl, kGdtrIdtr, 3, MINIVMX_SGDT,
                       s.gdt.base, G_DATA, false, 6, kNone);
    EXPECT_INTERCEPTED(g, CODE(32, "sidt [0x11010]; hlt"), r, kControl, kGdtrIdtr, 7, MINIVMX_SIDT,
                       s.idt.base, 0x11010, false, 6, kNone);
    EXPECT_INTERCEPTED(g, CODE(32, "str ecx; hlt"), r, kControl, kLdtrTr, 3, MINIVMX_STR, SEL_TSS,
                       0, false, 4, 1);
    g.memory.at<uint64_t>(G_DATA + 0x100) = 0xff'ffff'0012'3456 & 0xffffffffffff;
    r.rbx = G_DATA + 0x100;
    EXPECT_INTERCEPTED(g, CODE(32, "lidt [ebx]; hlt"), r, kControl, kGdtrIdtr, 3, MINIVMX_LIDT, 0,
                       r.rbx, true, 6, kNone);
    EXPECT_INTERCEPTED(g, CODE(32, ".byte 0x66; lidt [ebx]; hlt"), r, kControl, kGdtrIdtr, 4,
                       MINIVMX_LIDT, 0, r.rbx, true, 6, kNone);
}

// UMIP, which the CPU has or descriptor-table exiting emulates: outside of CPL 0 the guest gets
// #GP, and the client no question.
TEST(umip)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!guest_has(g, 7, &kvm_cpuid_entry2::ecx, 2))
        test::skip("no UMIP");
    for (uint64_t at = G_TABLES; at < G_TABLES + 4 * kPage; at += 8)
        if (g.memory.at<uint64_t>(at) & guest::kPresent)
            g.memory.at<uint64_t>(at) |= guest::kUser;
    g.memory.at<uint64_t>(G_TSS + 4) = G_STACK; // RSP0
    kvm_sregs s = g.vcpu.sregs();
    s.cr4 |= 1 << 11;
    g.vcpu.set(s);
    kvm_regs r = fresh_regs();
    r.rbx = G_DATA;
    start(g, CODE(64, "sgdt [rbx]; str eax; hlt; nop"), r);
    ENTER(g.vcpu, KVM_EXIT_HLT); // the supervisor may
    EXPECT_EQ(g.memory.at<uint64_t>(G_DATA + 2), s.gdt.base);
    EXPECT_EQ(g.vcpu.regs().rax, SEL_TSS);
    EXPECT_EQ(g.vcpu.sregs().cr4 >> 11 & 1, 1);

    s.cs.dpl = s.ss.dpl = 3;
    s.cs.selector = 0x2b;
    s.ss.selector = 0x33;
    g.memory.at<uint64_t>(G_GDT + 0x28) = 0x00affb000000ffff; // where IRET finds them
    g.memory.at<uint64_t>(G_GDT + 0x30) = 0x00cff3000000ffff;
    g.memory.at<uint64_t>(G_DATA) = 0;
    // The user can't halt: PAUSE says that the handler has returned.
    const uint64_t controls = MINIVMX_INTERCEPT_PAUSE | MINIVMX_INTERCEPT_DESCRIPTOR_TABLE;
    if (!can_set_intercepts(g.vcpu, controls))
        REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_PAUSE));
    for (Blob code : {CODE(64, "sgdt [rbx]; pause"), CODE(64, "sidt [rbx]; pause"),
                      CODE(64, "sldt eax; pause"), CODE(64, "str [rbx]; pause")}) {
        g.vcpu.set(s);
        start(g, code, r);
        g.resume_at(G_CODE + 3);
        EXPECT_QUESTION(g, MINIVMX_INTERCEPT_PAUSE, kPause, G_CODE + 3);
        EXPECT_EQ(g.log_count(), 1);
        EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
    }
    EXPECT_EQ(g.memory.at<uint64_t>(G_DATA), 0);
}

// ---- XSAVES -------------------------------------------------------------------------------------

TEST(xsaves)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    Cpuid list;
    Cpuid::supported(device, list);
    const kvm_cpuid_entry2 *entry = list.find(0xd, 1);
    if (!entry || !(entry->eax >> 3 & 1) || !can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_XSAVES))
        test::skip("no XSAVES, or no monitor trap flag");
    kvm_sregs s = g.vcpu.sregs();
    s.cr4 |= guest::kCr4Osxsave | guest::kCr4Osfxsr;
    g.vcpu.set(s);
    memset(g.memory.base + G_DATA, 0, 0x400);
    kvm_regs r = fresh_regs();
    r.rax = 3;
    r.rbx = G_DATA;
    start(g, CODE(64, "xsaves [rbx]; xrstors [rbx]; hlt; nop"), r);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_XSAVES, kExceptionOrNmi, G_CODE);
    EXPECT_EQ(facts(g.vcpu).number, MINIVMX_XSAVES);
    EXPECT_EQ(facts(g.vcpu).value, 3);
    EXPECT_EQ(facts(g.vcpu).address, G_DATA);
    EXPECT_EQ(g.memory.at<uint64_t>(G_DATA + 520), 0);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_XSAVES, kExceptionOrNmi, G_CODE + 3);
    EXPECT_EQ(facts(g.vcpu).number, MINIVMX_XRSTORS);
    EXPECT_EQ(g.memory.at<uint64_t>(G_DATA + 520) >> 63, 1); // XCOMP_BV: the compact form
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 0);
}
