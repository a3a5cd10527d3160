// SPDX-License-Identifier: GPL-2.0-only
//
// Task switches: by JMP, CALL and IRET, through task gates, for events. The main task runs at
// G_CODE and has the TSS at G_TSS.
#include "guest_test.hpp"

namespace {

constexpr uint16_t kUserCode = 0x43, kUserData = 0x4b, kTask = 0x50, kTask16 = 0x58, kGate = 0x60,
                   kHandler = 0x68;
constexpr uint64_t kTaskTss = G_DATA, kTask16Tss = G_DATA + 0x400, kHandlerTss = G_DATA + 0x800;
constexpr uint64_t kTaskCode = 0xd000, kHandlerCode = 0xe000; // 16-bit code reaches them, too
constexpr uint64_t kTaskStack = 0xdf00, kHandlerStack = 0xef00;
constexpr uint64_t kTables = G_FREE; // the task's own
constexpr uint64_t kBusyBit = 1ULL << 41;

// Selectors as text, for the guests.
#define TASK    "0x50"
#define TASK16  "0x58"
#define GATE    "0x60"
#define HANDLER "0x68"
// A far JMP or CALL; the offset doesn't matter.
#define FAR_JMP(selector)  ".byte 0xea; .long 0; .word " selector ";"
#define FAR_CALL(selector) ".byte 0x9a; .long 0; .word " selector ";"
#define OUT_EAX            "out 0x10, eax;"
#define OUT_FLAGS          "pushfd; pop eax;" OUT_EAX
#define OUT_TASK           "str eax;" OUT_EAX

constexpr uint64_t tss(uint64_t base, uint64_t limit, uint64_t access)
{
    return limit | base << 16 | access << 40;
}

class Tasks : public Guest {
  public:
    Tasks(Device &d, Mode m, Blob main) : Guest(d, m, main)
    {
        const uint64_t descriptors[] = {
            0x00cffb000000ffff,                         // user code
            0x00cff3000000ffff,                         // user data
            tss(kTaskTss, 0x3ff, 0x89),                 // kTask, with room for an I/O bitmap
            tss(kTask16Tss, 0x2b, 0x81),                // kTask16
            0x0000e50000000000 | uint64_t{kTask} << 16, // kGate, for everybody
            tss(kHandlerTss, 0x67, 0x89),               // kHandler
        };
        memcpy(memory.base + G_GDT + 0x40, descriptors, sizeof(descriptors));
        kvm_sregs s = vcpu.sregs();
        s.gdt.limit = 0x6f;
        vcpu.set(s);
        // Tables that begin elsewhere and lead to the same places.
        memcpy(memory.base + kTables, memory.base + G_TABLES, kPage);
        set_task(kTaskTss, kTaskCode, kTaskStack);
        set_task(kHandlerTss, kHandlerCode, kHandlerStack);
        at(kTaskTss + 0x1c) = mode == Mode::kProtected ? 0 : kTables;
        // Never saved, but loaded on the way back.
        at(G_TSS + 0x1c) = at(kHandlerTss + 0x1c) = mode == Mode::kProtected ? 0 : G_TABLES;
        start(*this, main);
    }
    uint32_t &at(uint64_t address) { return memory.at<uint32_t>(address); }
    uint16_t &word(uint64_t address) { return memory.at<uint16_t>(address); }
    uint64_t &descriptor(uint16_t selector)
    {
        return memory.at<uint64_t>(G_GDT + (selector & ~7u));
    }
    bool busy(uint16_t selector) { return descriptor(selector) & kBusyBit; }
    void set_task(uint64_t at_tss, uint64_t code, uint64_t stack)
    {
        at(at_tss + 0x20) = static_cast<uint32_t>(code);
        at(at_tss + 0x24) = 2;
        at(at_tss + 0x38) = static_cast<uint32_t>(stack);
        for (uint32_t i = 0; i < 6; i++)
            at(at_tss + 0x48 + 4 * i) = i == 1 ? SEL_CODE32 : SEL_DATA;
    }
    void set_task16(uint64_t code, uint64_t stack)
    {
        word(kTask16Tss + 0x0e) = static_cast<uint16_t>(code);
        word(kTask16Tss + 0x10) = 2;
        word(kTask16Tss + 0x1a) = static_cast<uint16_t>(stack);
        for (uint32_t i = 0; i < 4; i++)
            word(kTask16Tss + 0x22 + 2 * i) = i == 1 ? SEL_CODE16 : SEL_DATA16;
    }
    // Events of this vector switch to the task.
    void set_task_gate(uint32_t vector, uint16_t selector, uint64_t dpl = 0)
    {
        memory.at<uint64_t>(G_IDT + 8 * vector) =
            0x850000000000 | dpl << 45 | uint64_t{selector} << 16;
    }
};

constexpr Mode kTaskModes[] = {Mode::kProtected, Mode::kPaged, Mode::kPae};

} // namespace

TEST(task_call_and_iret)
{
    Device device;
    Blob main = CODE(32, "mov ebx, 0x1234; 1:" FAR_CALL(TASK) OUT_FLAGS OUT_TASK
                     "mov eax, ebx;" OUT_EAX "jmp 1b");
    Blob task = CODE(32, "1:" OUT_FLAGS OUT_TASK "inc ebx; mov eax, ebx;" OUT_EAX "iretd; jmp 1b");
    for (Mode mode : kTaskModes) {
        Tasks g(device, mode, main);
        g.copy(kTaskCode, task);
        for (uint32_t turn = 1; turn <= 3; turn++) {
            EXPECT_REPORT(g.vcpu, 0x4002); // NT
            EXPECT(g.busy(SEL_TSS));
            EXPECT(g.busy(kTask));
            EXPECT_EQ(g.word(kTaskTss), SEL_TSS);
            EXPECT_EQ(g.at(G_TSS + 0x20), G_CODE + 5 + 7);
            EXPECT_EQ(g.at(G_TSS + 0x34), 0x1234);
            EXPECT_EQ(g.at(G_TSS + 0x38), 0x9f00);
            EXPECT_EQ(g.word(G_TSS + 0x4c), SEL_CODE32);
            kvm_sregs s = g.vcpu.sregs();
            EXPECT_EQ(s.tr.selector, kTask);
            EXPECT_EQ(s.tr.base, kTaskTss);
            EXPECT_EQ(s.tr.type, 11);
            EXPECT(s.cr0 & 8); // TS
            EXPECT_EQ(s.cr3, mode == Mode::kProtected ? 0 : kTables);
            EXPECT_REPORT(g.vcpu, kTask);
            EXPECT_REPORT(g.vcpu, turn);
            EXPECT_REPORT(g.vcpu, 2);
            EXPECT(g.busy(SEL_TSS));
            EXPECT(!g.busy(kTask));
            EXPECT_EQ(g.at(kTaskTss + 0x24) & 0x4000, 0);
            EXPECT_REPORT(g.vcpu, SEL_TSS);
            EXPECT_REPORT(g.vcpu, 0x1234);
            fails_in(guest::name(mode));
        }
    }
}

TEST(task_jmp)
{
    Device device;
    Blob main = CODE(32, FAR_JMP(TASK) OUT_FLAGS "hlt");
    Blob task = CODE(32, OUT_FLAGS FAR_JMP("0x20") "hlt");
    for (Mode mode : kTaskModes) {
        Tasks g(device, mode, main);
        g.copy(kTaskCode, task);
        g.word(kTaskTss) = 0xdead;
        EXPECT_REPORT(g.vcpu, 2);
        EXPECT(!g.busy(SEL_TSS));
        EXPECT(g.busy(kTask));
        EXPECT_EQ(g.word(kTaskTss), 0xdead);
        EXPECT_REPORT(g.vcpu, 2);
        EXPECT(g.busy(SEL_TSS));
        EXPECT(!g.busy(kTask));
        ENTER(g.vcpu, KVM_EXIT_HLT);
        fails_in(guest::name(mode));
    }
}

TEST(task_gates)
{
    // CALL through a gate of the GDT, INT n through one of the IDT; both come back behind
    // themselves.
    Device device;
    Blob main = CODE(32, FAR_CALL(GATE) OUT_TASK "int 0x30;" OUT_TASK "hlt");
    Blob task = CODE(32, "1:" OUT_TASK "iretd; jmp 1b");
    for (Mode mode : kTaskModes) {
        Tasks g(device, mode, main);
        g.copy(kTaskCode, task);
        g.set_task_gate(0x30, kTask);
        for (int turn = 0; turn < 2; turn++) {
            EXPECT_REPORT(g.vcpu, kTask);
            EXPECT_EQ(g.word(kTaskTss), SEL_TSS);
            EXPECT_REPORT(g.vcpu, SEL_TSS);
        }
        ENTER(g.vcpu, KVM_EXIT_HLT);
        fails_in(guest::name(mode));
    }
}

TEST(task_for_an_exception)
{
    // #GP with its error code on the new stack; the handler lets the instruction be skipped.
    Device device;
    Blob main = CODE(32, "mov edx, 0x1230; mov ds, dx; int3; hlt");
    Blob handler = CODE(32, "1: pop eax;" OUT_EAX "mov eax, [0x1420];" OUT_EAX
                            "add eax, 2; mov [0x1420], eax; iretd; jmp 1b");
    Blob breakpoint = CODE(32, "mov eax, [0x1420];" OUT_EAX "iretd");
    static_assert(G_TSS + 0x20 == 0x1420);
    for (Mode mode : kTaskModes) {
        Tasks g(device, mode, main);
        g.copy(kHandlerCode, handler);
        g.copy(kTaskCode, breakpoint);
        g.set_task_gate(13, kHandler);
        g.set_task_gate(3, kTask);
        EXPECT_REPORT(g.vcpu, 0x1230);
        EXPECT_REPORT(g.vcpu, G_CODE + 5);
        EXPECT_REPORT(g.vcpu, G_CODE + 8); // INT3 is a trap
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT(!g.busy(kHandler));
        fails_in(guest::name(mode));
    }
}

TEST(task_for_an_interrupt)
{
    Device device;
    Blob main = CODE(32, "out 0x10, al; nop; hlt; hlt");
    Blob handler = CODE(32, "1: mov eax, [0x1420];" OUT_EAX OUT_FLAGS "iretd; jmp 1b");
    Tasks g(device, Mode::kProtected, main);
    g.copy(kHandlerCode, handler);
    g.set_task_gate(0x31, kHandler);
    start(g, main, fresh_regs(0x202));
    ENTER(g.vcpu, KVM_EXIT_IO);
    kvm_interrupt i = {0x31};
    REQUIRE_OK(call(g.vcpu, KVM_INTERRUPT, &i));
    EXPECT_REPORT(g.vcpu, G_CODE + 2);
    EXPECT_REPORT(g.vcpu, 0x4002); // IF is the TSS's
    EXPECT(g.at(G_TSS + 0x24) & 0x200);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 4);
    EXPECT_EQ(g.vcpu.run->if_flag, 1);
}

TEST(task_for_an_nmi)
{
    // The handler's IRET lets the next one in.
    Device device;
    Blob main = CODE(32, "hlt; hlt");
    Blob handler = CODE(32, "1: out 0x20, al; out 0x20, al; iretd; jmp 1b");
    Tasks g(device, Mode::kProtected, main);
    g.copy(kHandlerCode, handler);
    g.set_task_gate(2, kHandler);
    // IF = 1: without virtual NMIs the hypervisor tells the handler's end by it.
    kvm_regs regs = g.vcpu.regs();
    regs.rflags |= 0x200;
    g.vcpu.set(regs);
    REQUIRE_OK(call(g.vcpu, KVM_NMI));
    for (int turn = 0; turn < 2; turn++) {
        ENTER(g.vcpu, KVM_EXIT_IO);
        EXPECT_EQ(g.vcpu.run->io.port, PORT_NMI);
        kvm_vcpu_events events = {};
        REQUIRE_OK(call(g.vcpu, KVM_GET_VCPU_EVENTS, &events));
        EXPECT_EQ(events.nmi.masked, 1);
        if (turn == 0)
            REQUIRE_OK(call(g.vcpu, KVM_NMI)); // waits
        ENTER(g.vcpu, KVM_EXIT_IO);
        EXPECT_EQ(g.at(G_TSS + 0x20), G_CODE);
    }
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 1);
}

TEST(task_of_16_bits)
{
    Device device;
    Blob main = CODE(32, FAR_CALL(TASK16) "hlt");
    Blob task = CODE(16, "mov ax, bx; out 0x10, ax; pushf; pop ax; out 0x10, ax; hlt");
    Tasks g(device, Mode::kProtected, main);
    g.set_task16(kTaskCode, kTaskStack);
    g.word(kTask16Tss + 0x18) = 0x4321; // BX
    g.copy(kTaskCode, task);
    EXPECT_OUT(g.vcpu, PORT_OUT, 2, 0x4321);
    EXPECT_EQ(g.word(kTask16Tss), SEL_TSS);
    EXPECT_EQ(g.vcpu.sregs().tr.type, 3);
    EXPECT_EQ(g.vcpu.regs().rsp, kTaskStack);
    EXPECT_OUT(g.vcpu, PORT_OUT, 2, 0x4002);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(task_of_16_bits_returns)
{
    // Each task is saved by the kind of its own TSS.
    Device device;
    Blob main = CODE(32, "mov ebx, 0x12345678;" FAR_CALL(TASK16) "mov eax, ebx;" OUT_EAX "hlt");
    Blob task = CODE(16, "mov bx, 7; iret");
    Tasks g(device, Mode::kProtected, main);
    if (test::options.reference())
        test::skip("kvm_intel saves the old task by the kind of the new one");
    g.set_task16(kTaskCode, kTaskStack);
    g.copy(kTaskCode, task);
    EXPECT_REPORT(g.vcpu, 0x12345678);
    EXPECT(!g.busy(kTask16));
    EXPECT_EQ(g.word(kTask16Tss + 0x18), 7);
    EXPECT_EQ(g.word(kTask16Tss + 0x24), SEL_CODE16);
    EXPECT_EQ(g.word(kTask16Tss + 0x0e), kTaskCode + task.size());
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(task_at_cpl_3)
{
    // A user's task; INT n takes it back through a gate that lets it, a HLT by way of #GP's task.
    Device device;
    Blob main = CODE(32, FAR_CALL(TASK) OUT_TASK FAR_CALL(TASK) "hlt");
    Blob task = CODE(32, OUT_TASK "int 0x30; hlt");
    Blob handler = CODE(32, "1:" OUT_TASK "iretd; pop eax;" OUT_EAX "jmp 1b");
    Tasks g(device, Mode::kPaged, main);
    for (uint64_t page = 0; page < G_SIZE; page += kPage)
        g.set_entry(page, page | 7);
    g.at(G_TABLES) |= 4;
    g.at(kTables) |= 4;
    for (uint32_t i = 0; i < 6; i++)
        g.at(kTaskTss + 0x48 + 4 * i) = i == 1 ? kUserCode : kUserData;
    g.at(kTaskTss + 0x24) = 0x3002; // IOPL 3: it may OUT
    g.copy(kTaskCode, task);
    g.copy(kHandlerCode, handler);
    g.set_task_gate(0x30, kHandler, 3);
    g.set_task_gate(13, kHandler);
    EXPECT_REPORT(g.vcpu, kTask);
    EXPECT_EQ(g.vcpu.sregs().ss.dpl, 3);
    EXPECT_EQ(g.vcpu.sregs().cs.selector, kUserCode);
    EXPECT_REPORT(g.vcpu, kHandler); // INT
    EXPECT_EQ(g.word(kHandlerTss), kTask);
    EXPECT_EQ(g.at(kTaskTss + 0x20), kTaskCode + task.size() - 1);
    EXPECT_REPORT(g.vcpu, 0); // #GP: HLT is the supervisor's
    EXPECT_EQ(g.at(kTaskTss + 0x20), kTaskCode + task.size() - 1);
    EXPECT_EQ(g.word(kTaskTss + 0x4c), kUserCode);
}

TEST(task_of_virtual_8086_mode)
{
    Device device;
    Blob main = CODE(32, FAR_JMP(TASK) OUT_FLAGS OUT_TASK "hlt");
    Blob task = CODE(16, "mov ax, ds; out 0x10, ax; int 0x32; hlt");
    Tasks g(device, Mode::kProtected, main);
    constexpr uint32_t kVm = 0x20000, kIopl3 = 0x3000;
    for (uint32_t i = 0; i < 6; i++)
        g.at(kTaskTss + 0x48 + 4 * i) = 0x40 + i;
    g.at(kTaskTss + 0x4c) = 0;
    g.at(kTaskTss + 0x24) = kVm | kIopl3 | 2;
    g.at(kTaskTss + 0x64) = 0x68 << 16; // an I/O bitmap that allows the ports
    memset(g.memory.base + kTaskTss + 0x68, 0, 0x100);
    g.copy(kTaskCode, task);
    g.set_task_gate(0x32, SEL_TSS, 3);
    EXPECT_OUT(g.vcpu, PORT_OUT, 2, 0x43);
    kvm_sregs s = g.vcpu.sregs();
    EXPECT_EQ(s.ds.base, 0x430);
    EXPECT_EQ(s.ds.limit, 0xffff);
    EXPECT_EQ(s.ss.dpl, 3);
    EXPECT(g.vcpu.regs().rflags & kVm);
    EXPECT_REPORT(g.vcpu, 0x4002);
    EXPECT_EQ(g.at(kTaskTss + 0x24) & kVm, kVm);
    EXPECT_EQ(g.at(kTaskTss + 0x20), kTaskCode + task.size() - 1);
    EXPECT_EQ(g.word(G_TSS), kTask);
    EXPECT_REPORT(g.vcpu, SEL_TSS);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(task_refused)
{
    // What the CPU finds wrong with the new TSS, it raises in the old task. SDM Vol. 3A, 8.3, table
    // 8-1.
    const struct {
        const char *name;
        uint64_t descriptor;
        uint32_t vector;
    } rows[] = {
        {"busy", tss(kTaskTss, 0x67, 0x8b), 13},
        {"absent", tss(kTaskTss, 0x67, 0x09), 11},
        {"short", tss(kTaskTss, 0x66, 0x89), 10},
        {"short, 16 bits", tss(kTaskTss, 0x2a, 0x81), 10},
        {"no TSS", tss(kTaskTss, 0x67, 0x82), 13},
    };
    Device device;
    Blob main = CODE(32, FAR_CALL(TASK) "hlt; hlt");
    for (auto &row : rows) {
        Tasks g(device, Mode::kProtected, main);
        g.resume_at(G_CODE + main.size() - 1);
        g.descriptor(kTask) = row.descriptor;
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EXCEPTION(g, 0, row.vector, kTask, G_CODE);
        EXPECT_EQ(g.at(G_TSS + 0x20), 0);
        fails_in(row.name);
    }
}

TEST(task_faults_in_the_new_task)
{
    // By then it is the new task that is interrupted: by its own handler's task, with the selector
    // as error code.
    const struct {
        const char *name;
        uint32_t segment;
        uint16_t selector;
        uint32_t vector;
    } rows[] = {
        {"CS null", 1, 0, 10},
        {"CS beyond the GDT", 1, 0x1230, 10},
        {"SS null", 2, 0, 10},
        {"SS of another privilege", 2, kUserData, 10},
        {"DS beyond the GDT", 3, 0x1230, 10},
        {"GS is a TSS", 5, kTask, 10},
        {"ES absent", 0, SEL_DATA16, 11},
    };
    Device device;
    Blob main = CODE(32, FAR_JMP(TASK) "hlt");
    Blob handler = CODE(32, "pop eax;" OUT_EAX OUT_TASK "hlt");
    for (auto &row : rows) {
        Tasks g(device, Mode::kProtected, main);
        if (test::options.reference())
            test::skip("kvm_intel forgets faults of the new task");
        g.copy(kHandlerCode, handler);
        g.set_task_gate(row.vector, kHandler);
        g.descriptor(SEL_DATA16) &= ~(1ULL << 47);
        g.word(kTaskTss + 0x48 + 4 * row.segment) = row.selector;
        EXPECT_REPORT(g.vcpu, row.selector & 0xfffcu);
        EXPECT_EQ(g.word(kHandlerTss), kTask);
        EXPECT_EQ(g.at(kTaskTss + 0x20), kTaskCode);
        EXPECT_EQ(g.word(kTaskTss + 0x48 + 4 * row.segment), row.selector);
        EXPECT_REPORT(g.vcpu, kHandler);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        fails_in(row.name);
    }
}

TEST(task_double_fault)
{
    // #GP's task can't be entered: one for #DF takes over.
    Device device;
    Blob main = CODE(32, "mov edx, 0x1230; mov ds, dx; hlt");
    Blob handler = CODE(32, "pop eax;" OUT_EAX OUT_TASK "hlt");
    Tasks g(device, Mode::kProtected, main);
    if (test::options.reference())
        test::skip("kvm_intel forgets faults of the new task");
    g.copy(kHandlerCode, handler);
    g.set_task_gate(13, kTask);
    g.set_task_gate(8, kHandler);
    g.word(kTaskTss + 0x54) = 0x1230;
    EXPECT_REPORT(g.vcpu, 0);
    EXPECT_EQ(g.word(kHandlerTss), kTask);
    EXPECT_REPORT(g.vcpu, kHandler);
}

TEST(task_trap_bit)
{
    // SDM Vol. 3B, 18.3.1.5: a debug exception before the first instruction.
    Device device;
    Blob main = CODE(32, FAR_JMP(TASK) "hlt");
    Blob task = CODE(32, "mov eax, dr6;" OUT_EAX "hlt");
    Tasks g(device, Mode::kProtected, main);
    if (test::options.reference())
        test::skip("kvm_intel doesn't look at a TSS's T bit");
    g.copy(kTaskCode, task);
    g.word(kTaskTss + 0x64) = 1;
    EXPECT_REPORT(g.vcpu, 0xffff8ff0);
    EXPECT_EXCEPTION(g, 0, 1, 0, kTaskCode);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}
