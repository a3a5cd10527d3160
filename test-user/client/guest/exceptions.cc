// SPDX-License-Identifier: GPL-2.0-only
//
// Exceptions that the guest causes and handles itself.
#include "guest_test.hpp"

namespace {

constexpr uint64_t kAbsent = 0x140000, kReadOnly = 0x141000, kUserPage = 0x142000;

struct Row {
    const char *name;
    Codes codes;
    uint32_t vector, error;
    uint64_t offset; // of the RIP that was saved, from the start of the code
    bool trap;       // returns by itself; otherwise the stub goes on at the last HLT
};

} // namespace

TEST(exceptions)
{
    // Faults save the RIP of the instruction, traps that of the next (SDM Vol. 3A, 6.15).
    const Row rows[] = {
        {"#DE", CODES("xor ecx, ecx; div ecx; hlt; hlt"), 0, 0, 0, false},
        {"#BP", CODES("int3; nop; hlt; hlt"), 3, 0, 1, true},
        {"#UD", CODES("ud2; hlt; hlt"), 6, 0, 0, false},
        {"int 0x28", CODES("int 0x28; hlt; hlt"), 0x28, 0, 2, true},
    };
    Device device;
    for (Mode mode : kAllModes)
        for (const Row &row : rows) {
            Blob code = row.codes.in(mode);
            Guest g(device, mode, code);
            kvm_regs r = fresh_regs();
            start(g, code, r);
            g.resume_at(row.trap ? 0 : G_CODE + code.size() - 1);
            ENTER(g.vcpu, KVM_EXIT_HLT);
            // XOR ECX, ECX is one byte longer with its 32-bit prefix in 16-bit code.
            uint64_t rip =
                G_CODE + row.offset + (row.vector == 0 ? (mode == Mode::kReal ? 3 : 2) : 0);
            EXPECT_EXCEPTION(g, 0, row.vector, row.error, rip);
            EXPECT_EQ(g.log_count(), 1);
            EXPECT_EQ(g.vcpu.regs().rip, G_CODE + code.size() - (row.trap ? 1 : 0));
            fails_in(row.name);
        }
}

TEST(exception_gp_and_ss)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    struct {
        Blob code;
        uint32_t vector, error;
    } rows[] = {
        {CODE(64, "mov [rsi], eax; hlt; hlt"), 13, 0},              // a non-canonical address
        {CODE(64, "push rsi; pop rsp; pop rax; hlt; hlt"), 12, 0},  // the same through the stack
        {CODE(64, "mov ds, di; hlt; hlt"), 13, 0x1230},             // a selector beyond the GDT
        {CODE(64, "mov ax, 0x18; mov ss, ax; hlt; hlt"), 13, 0x18}, // a code segment as SS
        {CODE(64, "int 0xff; hlt; hlt"), 13, 0xff * 8 + 2},         // a gate beyond the IDT
    };
    kvm_sregs s = g.vcpu.sregs();
    s.idt.limit = 64 * 16 - 1;
    g.vcpu.set(s);
    for (auto &row : rows) {
        kvm_regs r = fresh_regs();
        r.rsi = 1ULL << 62;
        r.rdi = 0x1230;
        start(g, row.code, r);
        g.resume_at(G_CODE + row.code.size() - 1);
        // #SS: the handler needs a stack; the TSS's first interrupt stack gives one.
        g.memory.at<uint64_t>(G_TSS + 0x24) = G_STACK;
        g.memory.at<uint8_t>(G_IDT + 16 * 12 + 4) = 1;
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.log_count(), 1);
        EXPECT_EQ(g.log(0).vector, row.vector);
        EXPECT_EQ(g.log(0).error, row.error);
        if (test::verdict->state == test::Verdict::kFailed)
            return;
    }
}

TEST(exception_page_faults)
{
    // CR2 and the error code: P (1), W (2), U (4), I (16).
    Device device;
    for (Mode mode : {Mode::kPaged, Mode::kPae, Mode::kLong}) {
        Guest g(device, mode, CODE(32, "hlt"));
        struct {
            Codes codes;
            uint64_t address;
            uint32_t error;
        } rows[] = {
            {CODES("mov eax, [esi]; hlt; hlt"), kAbsent + 0x123, 0},
            {CODES("mov [esi], eax; hlt; hlt"), kAbsent + 0xfff, 2},
            {CODES("mov [esi], eax; hlt; hlt"), kReadOnly + 0x10, 3},
            {CODES("inc dword ptr [esi]; hlt; hlt"), kReadOnly + 0x20, 3},
            {CODES("mov eax, [esi]; hlt; hlt"), kAbsent - 2,
             0}, // straddling: CR2 is the page that is not there
        };
        for (auto &row : rows) {
            Blob code = row.codes.in(mode);
            kvm_regs r = fresh_regs();
            r.rsi = row.address;
            start(g, code, r);
            g.resume_at(G_CODE + code.size() - 1);
            g.set_entry(kAbsent, 0);
            g.set_entry(kReadOnly, kReadOnly | guest::kPresent);
            ENTER(g.vcpu, KVM_EXIT_HLT);
            EXPECT_EXCEPTION(g, 0, 14, row.error, G_CODE);
            EXPECT_EQ(g.log(0).cr2, row.address == kAbsent - 2 ? kAbsent : row.address);
            EXPECT_EQ(g.vcpu.sregs().cr2, g.log(0).cr2);
            fails_in(guest::name(mode));
        }
    }
}

TEST(exception_page_fault_of_user_code)
{
    // At CPL 3: a page of the supervisor's (error P + U), and the handler on the stack of the TSS.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    Blob code = CODE(64, "mov eax, [rsi]; hlt; hlt");
    // User segments beside the kernel's, and the pages the user code needs.
    g.memory.at<uint64_t>(G_GDT + 0x40) = 0x00affb000000ffff;
    g.memory.at<uint64_t>(G_GDT + 0x48) = 0x00cff3000000ffff;
    kvm_sregs s = g.vcpu.sregs();
    s.gdt.limit = 0x4f;
    s.cs.selector = 0x43;
    s.cs.dpl = 3;
    s.ss.selector = s.ds.selector = s.es.selector = 0x4b;
    s.ss.dpl = s.ds.dpl = s.es.dpl = 3;
    g.vcpu.set(s);
    g.memory.at<uint64_t>(G_TSS + 4) = G_STACK;
    for (uint64_t level = 0; level < 3; level++)
        g.memory.at<uint64_t>(G_TABLES + level * kPage) |= 4;
    g.set_entry(G_CODE, G_CODE | 7);
    g.set_entry(kUserPage, kUserPage | 7);
    kvm_regs r = fresh_regs();
    r.rsi = kReadOnly;
    start(g, code, r);
    g.set_gate(14, G_STUBS + 16 * 14);
    // The stub returns to user code, at a HLT, which raises #GP there; its handler then halts in
    // the kernel.
    g.resume_at(G_CODE + code.size() - 1);
    Blob halt = CODE(64, "hlt");
    g.copy(0x150000, halt);
    g.set_gate(13, 0x150000);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 14, 5, G_CODE);
    EXPECT_EQ(g.log(0).cr2, kReadOnly);
    EXPECT_EQ(g.vcpu.regs().rip, 0x150001);
    EXPECT_EQ(g.vcpu.sregs().cs.dpl, 0);
}

TEST(exception_single_step)
{
    // RFLAGS.TF: #DB after each instruction, over those that exit too (CPUID, OUT, MOV CR), with
    // DR6.BS.
    if (test::options.reference() && !kvm::module_parameter("ept"))
        test::skip("kvm_intel loses a trap where it shadows page tables");
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    Blob code = CODE(
        64, "nop; xor eax, eax; cpuid; out 0x10, al; mov rax, cr4; mov [rdi], al; nop; popfq; hlt");
    // TF is cleared by the POPFQ of a flags word that the client leaves on the stack.
    kvm_regs r = fresh_regs(0x102);
    r.rsp = G_STACK - 8;
    r.rdi = G_MMIO;
    g.memory.at<uint64_t>(G_STACK - 8) = 2;
    start(g, code, r);
    g.resume_at(0);
    EXPECT_EQ(g.log_count(), 0);
    ENTER(g.vcpu, KVM_EXIT_IO);
    ENTER(g.vcpu, KVM_EXIT_MMIO);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    // Bochs raises the trap also for an access that faults in EPT, where no instruction has ended:
    // its RIP is that of the record before it, or the very first one.
    std::vector<uint64_t> seen;
    for (uint32_t i = 0; i < g.log_count(); i++) {
        EXPECT_EQ(g.log(i).vector, 1);
        uint64_t offset = g.log(i).rip - G_CODE;
        if (offset != 0 && (seen.empty() || seen.back() != offset))
            seen.push_back(offset);
    }
    const uint64_t boundaries[] = {1, 3, 5, 7, 10, 12, 13, 14};
    REQUIRE_EQ(seen.size(), 8);
    for (size_t i = 0; i < 8; i++)
        EXPECT_EQ(seen[i], boundaries[i]);
    start(g, CODE(64, "mov rbx, dr6; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rbx & 0x400f, 0x4000);
}

TEST(exception_device_not_available)
{
    // CR0.TS and CR0.EM belong to the guest.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_sregs s = g.vcpu.sregs();
    s.cr0 |= 8;
    g.vcpu.set(s);
    Blob code = CODE(64, "fldz; hlt; hlt");
    start(g, code);
    g.resume_at(G_CODE + code.size() - 1);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 7, 0, G_CODE);
    start(g, CODE(64, "clts; fldz; fstp st(0); hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(exception_double_fault)
{
    // A fault while a fault is delivered (the #PF gate is not present): #DF with error code 0.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    Blob code = CODE(64, "mov eax, [rsi]; hlt; hlt");
    kvm_regs r = fresh_regs();
    r.rsi = kAbsent;
    start(g, code, r);
    g.set_entry(kAbsent, 0);
    g.memory.at<uint64_t>(G_IDT + 16 * 14) &= ~(1ULL << 47);
    g.resume_at(G_CODE + code.size() - 1);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 8);
    EXPECT_EQ(g.log(0).error, 0);
}

TEST(exception_vmx_instructions)
{
    // Without nested VMX in its CPUID a guest gets #UD for VMX instructions; KVM offers nesting, so
    // there the guest only gets #UD because CR4.VMXE is 0.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    struct {
        const char *name;
        Blob code;
    } rows[] = {
        {"vmcall", CODE(64, "nop; hlt; hlt")}, // VMCALL is a hypercall in KVM: see below
        {"vmxon", CODE(64, "vmxon [rsi]; hlt; hlt")},
        {"vmxoff", CODE(64, "vmxoff; hlt; hlt")},
        {"vmread", CODE(64, "vmread rax, rbx; hlt; hlt")},
        {"vmlaunch", CODE(64, "vmlaunch; hlt; hlt")},
        {"vmptrld", CODE(64, "vmptrld [rsi]; hlt; hlt")},
        {"vmclear", CODE(64, "vmclear [rsi]; hlt; hlt")},
        {"invept", CODE(64, "invept rax, [rsi]; hlt; hlt")},
        {"vmfunc", CODE(64, ".byte 0x0f, 0x01, 0xd4; hlt; hlt")},
    };
    for (size_t i = 1; i < sizeof(rows) / sizeof(rows[0]); i++) {
        kvm_regs r = fresh_regs();
        r.rsi = G_DATA;
        start(g, rows[i].code, r);
        g.resume_at(G_CODE + rows[i].code.size() - 1);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EXCEPTION(g, 0, 6, 0, G_CODE);
        fails_in(rows[i].name);
    }
}

TEST(pause_and_friends)
{
    // Instructions that may exit and must look as if nothing happened.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g,
          CODE(64, "pause; wbinvd; invd; rdtsc; sgdt [rsi]; sidt [rsi + 16]; sldt ax; str bx\n"
                   "lgdt [rsi]; lidt [rsi + 16]; mov ecx, 0x3c; hlt"),
          [] {
              kvm_regs r = fresh_regs();
              r.rsi = G_DATA;
              return r;
          }());
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rcx, 0x3c);
    EXPECT_EQ(g.vcpu.regs().rbx & 0xffff, SEL_TSS);
    EXPECT_EQ(g.memory.at<uint16_t>(G_DATA), 0x3f);
    EXPECT_EQ(g.memory.at<uint64_t>(G_DATA + 2), G_GDT);
    EXPECT_EQ(g.memory.at<uint16_t>(G_DATA + 16), 0xfff);
    EXPECT_EQ(g.memory.at<uint64_t>(G_DATA + 18), G_IDT);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(xsetbv)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!host_has(1, 0, 'c', 27))
        test::skip("the host does not use XSAVE on this CPU");
    kvm_sregs s = g.vcpu.sregs();
    s.cr4 |= guest::kCr4Osxsave;
    g.vcpu.set(s);
    kvm_regs r = fresh_regs();
    r.rax = 3;
    start(g, CODE(64, "xor ecx, ecx; xor edx, edx; xsetbv; xor eax, eax; xgetbv; hlt"), r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rax, 3);
    EXPECT_EQ(g.log_count(), 0);
    struct {
        uint64_t xcr, value;
    } bad[] = {{0, 2},
               {0, 0},
               {0, 1ULL << 62 | 3},
               {1, 3},
               {0, 5}}; // x87 is mandatory; AVX needs SSE; XCR1 is not there
    for (auto &b : bad) {
        Blob code = CODE(64, "xsetbv; hlt; hlt");
        r.rcx = b.xcr;
        r.rax = b.value & 0xffffffff;
        r.rdx = b.value >> 32;
        start(g, code, r);
        g.resume_at(G_CODE + code.size() - 1);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
    }
}
