// SPDX-License-Identifier: GPL-2.0-only
//
// A debugger outside: single steps, breakpoints, and MSRs that user space answers.
#include "guest_test.hpp"

namespace {

constexpr uint64_t kBs = 1 << 14; // DR6: single step

void debug(Guest &g, uint32_t control, const std::array<uint64_t, 8> &regs = {})
{
    kvm_guest_debug d = {};
    d.control = control;
    for (size_t i = 0; i < 8; i++)
        d.arch.debugreg[i] = regs[i];
    REQUIRE_OK(call(g.vcpu, KVM_SET_GUEST_DEBUG, &d));
}

void expect_debug(int line, Guest &g, uint32_t vector, uint64_t pc, uint64_t dr6)
{
    if (!enter_until(line, g.vcpu, KVM_EXIT_DEBUG))
        test::leave();
    const kvm_debug_exit_arch &arch = g.vcpu.run->debug.arch;
    if (arch.exception != vector || arch.pc != pc || (arch.dr6 & 0x600f) != dr6)
        test::fail(__FILE__, line,
                   "debug exit (expected exception %u pc 0x%llx dr6 0x%llx, got %u 0x%llx 0x%llx)",
                   vector, static_cast<unsigned long long>(pc),
                   static_cast<unsigned long long>(dr6), arch.exception, arch.pc, arch.dr6);
}
#define EXPECT_DEBUG(g, vector, pc, dr6) expect_debug(__LINE__, g, vector, pc, dr6)

// A step from one instruction to the next. Bochs raises the trap also for a fetch that faults in
// EPT, where no instruction has ended.
void expect_step(int line, Guest &g, uint64_t pc)
{
    const uint64_t before = g.vcpu.regs().rip;
    do {
        if (!enter_until(line, g.vcpu, KVM_EXIT_DEBUG))
            test::leave();
    } while (g.vcpu.run->debug.arch.pc == before);
    const kvm_debug_exit_arch &arch = g.vcpu.run->debug.arch;
    if (arch.exception != 1 || arch.pc != pc || (arch.dr6 & 0x600f) != kBs)
        test::fail(__FILE__, line,
                   "step (expected pc 0x%llx, got exception %u pc 0x%llx dr6 0x%llx)",
                   static_cast<unsigned long long>(pc), arch.exception, arch.pc, arch.dr6);
}
#define EXPECT_STEP(g, pc) expect_step(__LINE__, g, pc)

constexpr uint32_t kStep = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
constexpr uint32_t kHardware = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
constexpr uint32_t kSoftware = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;

} // namespace

TEST(debug_single_step)
{
    // One exit an instruction, over those that exit themselves, too.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; xor eax, eax; cpuid; mov rax, cr0; add rax, 1; nop; hlt"));
    const uint64_t boundaries[] = {1, 3, 5, 8, 12, 13};
    for (uint64_t offset : boundaries) {
        debug(g, kStep);
        EXPECT_STEP(g, G_CODE + offset);
        EXPECT_EQ(g.vcpu.regs().rflags & 0x100, 0); // TF is ours
    }
    debug(g, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(debug_single_step_goes_on_by_itself)
{
    Device device;
    Guest g(device, Mode::kProtected, CODE(32, "hlt"));
    start(g, CODE(32, "nop; nop; nop; nop; nop; hlt"));
    debug(g, kStep);
    for (uint64_t offset = 1; offset <= 5; offset++)
        EXPECT_STEP(g, G_CODE + offset);
    debug(g, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(debug_hardware_breakpoint)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; nop; inc ebx; nop; hlt"));
    debug(g, kHardware, {0, G_CODE + 4, 0, 0, 0, 0, 0, 0x400 | 4}); // DR1, execution
    EXPECT_DEBUG(g, 1, G_CODE + 4, 2);
    EXPECT_EQ(g.vcpu.regs().rbx, 1);
    debug(g, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(debug_hardware_watchpoint)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rdi = G_DATA;
    start(g, CODE(64, "mov [rdi], eax; nop; mov [rdi + 8], eax; nop; hlt"), r);
    // DR0: 4 bytes at G_DATA + 8, writes
    debug(g, kHardware, {G_DATA + 8, 0, 0, 0, 0, 0, 0, 0x400 | 1 | 0xd0000});
    EXPECT_DEBUG(g, 1, G_CODE + 6, 1); // a trap: behind the instruction
    debug(g, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(debug_guest_cannot_take_the_breakpoints)
{
    // The guest reads back what it writes; the debugger's registers are the ones that count.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rax = 0x12345;
    start(g, CODE(64, "mov dr0, rax; xor ebx, ebx; mov rbx, dr0; nop; hlt"), r);
    debug(g, kHardware, {G_CODE + 8, 0, 0, 0, 0, 0, 0, 0x400 | 1});
    EXPECT_DEBUG(g, 1, G_CODE + 8, 1);
    EXPECT_EQ(g.vcpu.regs().rbx, 0x12345);
    debug(g, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_debugregs regs = {};
    REQUIRE_OK(call(g.vcpu, KVM_GET_DEBUGREGS, &regs));
    EXPECT_EQ(regs.db[0], 0x12345);
}

TEST(debug_software_breakpoint)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; int3; nop; hlt"));
    debug(g, kSoftware);
    EXPECT_DEBUG(g, 3, G_CODE + 1, 0);
    g.memory.at<uint8_t>(G_CODE + 1) = 0x90; // the debugger puts the instruction back
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 0);
    // It is the guest's own: it gets it.
    start(g, CODE(64, "nop; int3; nop; hlt"));
    EXPECT_DEBUG(g, 3, G_CODE + 1, 0);
    debug(g, kSoftware | KVM_GUESTDBG_INJECT_BP);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 3, 0, G_CODE + 2);
    // Nobody debugs: the guest's as ever.
    debug(g, 0);
    start(g, CODE(64, "nop; int3; nop; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 3, 0, G_CODE + 2);
}

TEST(debug_inject)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; hlt"));
    debug(g, KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_ENABLE);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 1, 0, G_CODE);
}

TEST(msr_exits_to_user_space)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"),
            [](Vm &vm) { REQUIRE_OK(vm.enable_cap(KVM_CAP_X86_USER_SPACE_MSR, 7)); });
    kvm_regs r = fresh_regs();
    r.rcx = 0xdead;
    start(g, CODE(64, "rdmsr; mov ebx, eax; mov esi, edx; mov eax, 5; mov edx, 6; wrmsr; nop; hlt"),
          r);
    kvm_run &run = *g.vcpu.run;
    ENTER(g.vcpu, KVM_EXIT_X86_RDMSR);
    EXPECT_EQ(run.msr.index, 0xdead);
    EXPECT_EQ(run.msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
    EXPECT_EQ(run.msr.error, 0);
    run.msr.data = 0x1122334455667788;
    ENTER(g.vcpu, KVM_EXIT_X86_WRMSR);
    EXPECT_EQ(g.vcpu.regs().rbx, 0x55667788);
    EXPECT_EQ(g.vcpu.regs().rsi, 0x11223344);
    EXPECT_EQ(run.msr.data, 0x600000005);
    run.msr.error = 1;
    g.resume_at(G_CODE + 19);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 13);
}

TEST(msr_filter)
{
    // SYSENTER_CS, which is read and written without exits, is taken away, then given back.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"),
            [](Vm &vm) { REQUIRE_OK(vm.enable_cap(KVM_CAP_X86_USER_SPACE_MSR, 4)); });
    Blob code = CODE(64, "rdmsr; nop; hlt");
    kvm_regs r = fresh_regs();
    r.rcx = 0x174;
    start(g, code, r);
    ENTER(g.vcpu, KVM_EXIT_HLT);

    uint8_t none = 0;
    kvm_msr_filter filter = {};
    filter.ranges[0].flags = KVM_MSR_FILTER_READ;
    filter.ranges[0].base = 0x174;
    filter.ranges[0].nmsrs = 1;
    filter.ranges[0].bitmap = &none;
    REQUIRE_OK(call(g.vm, KVM_X86_SET_MSR_FILTER, &filter));
    start(g, code, r);
    ENTER(g.vcpu, KVM_EXIT_X86_RDMSR);
    EXPECT_EQ(g.vcpu.run->msr.reason, KVM_MSR_EXIT_REASON_FILTER);
    g.vcpu.run->msr.data = 0x77;
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rax, 0x77);

    filter.ranges[0].nmsrs = 0;
    REQUIRE_OK(call(g.vm, KVM_X86_SET_MSR_FILTER, &filter));
    start(g, code, r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rax, 0);
}

TEST(kvmclock)
{
    // The guest asks for its clock and reads it: the page's time at its TSC, plus the TSC since.
    struct Page {
        uint32_t version, pad;
        uint64_t tsc, time;
        uint32_t mul;
        int8_t shift;
        uint8_t flags, pad2[2];
    };
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rcx = 0x4b564d01;
    r.rax = G_DATA | 1;
    start(g, CODE(64, "wrmsr; rdtsc; hlt"), r);
    kvm_clock_data before = {}, after = {};
    REQUIRE_OK(call(g.vm, KVM_GET_CLOCK, &before));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    REQUIRE_OK(call(g.vm, KVM_GET_CLOCK, &after));
    const Page page = g.memory.at<Page>(G_DATA);
    const uint64_t tsc = g.vcpu.regs().rax | g.vcpu.regs().rdx << 32;
    EXPECT_EQ(page.version & 1, 0);
    EXPECT(page.version != 0);
    EXPECT(page.mul != 0);
    EXPECT(tsc >= page.tsc);
    uint64_t delta = tsc - page.tsc;
    delta = page.shift < 0 ? delta >> -page.shift : delta << page.shift;
    const uint64_t now =
        page.time + static_cast<uint64_t>(static_cast<unsigned __int128>(delta) * page.mul >> 32);
    if (now + 1000 < before.clock || now > after.clock + 1000)
        test::fail(__FILE__, __LINE__, "the guest's time %llu is not in [%llu, %llu]",
                   static_cast<unsigned long long>(now), before.clock, after.clock);

    REQUIRE_OK(call(g.vcpu, KVM_KVMCLOCK_CTRL));
    start(g, CODE(64, "hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT(g.memory.at<Page>(G_DATA).flags & 2); // the guest was stopped
    EXPECT(g.memory.at<Page>(G_DATA).version > page.version);
    // When the clock was at 0.
    r.rcx = 0x4b564d00;
    r.rax = G_DATA + 0x100;
    start(g, CODE(64, "wrmsr; hlt"), r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    const time_t wall = g.memory.at<uint32_t>(G_DATA + 0x104);
    EXPECT_EQ(g.memory.at<uint32_t>(G_DATA + 0x100) & 1, 0);
    EXPECT(wall <= time(nullptr) && wall + 600 > time(nullptr));
}

TEST(registers_with_kvm_run)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    const int offered = g.vm.extension(KVM_CAP_SYNC_REGS);
    if (!(offered & KVM_SYNC_X86_REGS))
        test::skip("KVM_CAP_SYNC_REGS is not offered");
    start(g, CODE(64, "add rax, 1; hlt; add rax, 1; hlt"));
    kvm_run &run = *g.vcpu.run;
    run.kvm_valid_regs = static_cast<uint64_t>(offered);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(run.s.regs.regs.rax, 1);
    EXPECT_EQ(run.s.regs.sregs.cr3, G_TABLES);
    run.s.regs.regs.rax = 100;
    run.kvm_dirty_regs = KVM_SYNC_X86_REGS;
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(run.s.regs.regs.rax, 101);
    EXPECT_EQ(run.kvm_dirty_regs, 0);
}

TEST(state_transfer)
{
    // All of a vCPU's state goes to a fresh VM in the middle of a computation, again and again: the
    // sum comes out right. It has parts in general registers, SSE registers, the x87 stack, MSRs,
    // debug registers and memory.
    Device device;
    Blob code = CODE(64, "mov ecx, 0xc0000102\n"
                         "1: add rbx, rsi; inc rsi\n"
                         "movq xmm1, rsi; paddq xmm0, xmm1\n"
                         "fld1; faddp st(1), st\n"
                         "rdmsr; add eax, 3; wrmsr\n"
                         "mov rax, dr1; add rax, 5; mov dr1, rax\n"
                         "add qword ptr [rdi], 7\n"
                         "mov eax, esi; out 0x10, eax\n"
                         "cmp esi, 40; jb 1b\n"
                         "movq r8, xmm0; fistp qword ptr [rdi + 8]\n"
                         "rdmsr; mov r9d, eax; mov r10, dr1; hlt");
    auto make = [&] { return new Guest(device, Mode::kLong, CODE(64, "hlt")); };
    Guest *g = make();
    kvm_sregs s = g->vcpu.sregs();
    s.cr4 |= guest::kCr4Osfxsr;
    g->vcpu.set(s);
    kvm_regs r = fresh_regs();
    r.rdi = G_DATA;
    start(*g, CODE(64, "fninit; fldz; hlt"), r);
    ENTER(g->vcpu, KVM_EXIT_HLT);
    start(*g, code, r);
    for (uint32_t turn = 1; turn <= 40; turn++) {
        EXPECT_REPORT(g->vcpu, turn);
        if (turn % 8 != 0)
            continue;
        // The OUT is finished first, without going on: as clients must before they save.
        g->vcpu.run->immediate_exit = 1;
        EXPECT_ERRNO(g->vcpu.enter(), EINTR);
        g->vcpu.run->immediate_exit = 0;

        Guest *next = make();
        memcpy(next->memory.base, g->memory.base, g->memory.size);
        kvm_sregs2 sregs;
        kvm_xsave xsave;
        kvm_xcrs xcrs;
        kvm_debugregs debugregs;
        kvm_vcpu_events events;
        kvm_regs regs = g->vcpu.regs();
        struct {
            uint32_t nmsrs, pad;
            kvm_msr_entry entries[8];
        } msrs = {8, 0, {}};
        const uint32_t indices[] = {0x10,       0x174,      0x175,      0xc0000081,
                                    0xc0000082, 0xc0000102, 0xc0000080, 0x277};
        for (size_t i = 0; i < 8; i++)
            msrs.entries[i].index = indices[i];
        const bool xsave_there = device.extension(KVM_CAP_XCRS) != 0;
        REQUIRE_OK(call(g->vcpu, KVM_GET_SREGS2, &sregs));
        REQUIRE_OK(call(g->vcpu, KVM_GET_XSAVE, &xsave));
        REQUIRE_OK(call(g->vcpu, KVM_GET_XCRS, &xcrs));
        REQUIRE_OK(call(g->vcpu, KVM_GET_DEBUGREGS, &debugregs));
        REQUIRE_OK(call(g->vcpu, KVM_GET_VCPU_EVENTS, &events));
        REQUIRE_EQ(call(g->vcpu, KVM_GET_MSRS, &msrs), 8);

        REQUIRE_OK(call(next->vcpu, KVM_SET_SREGS2, &sregs));
        if (xsave_there)
            REQUIRE_OK(call(next->vcpu, KVM_SET_XCRS, &xcrs));
        REQUIRE_OK(call(next->vcpu, KVM_SET_XSAVE, &xsave));
        REQUIRE_EQ(call(next->vcpu, KVM_SET_MSRS, &msrs), 8);
        REQUIRE_OK(call(next->vcpu, KVM_SET_DEBUGREGS, &debugregs));
        next->vcpu.set(regs);
        REQUIRE_OK(call(next->vcpu, KVM_SET_VCPU_EVENTS, &events));
        delete g;
        g = next;
    }
    ENTER(g->vcpu, KVM_EXIT_HLT);
    r = g->vcpu.regs();
    EXPECT_EQ(r.rbx, 39 * 40 / 2);
    EXPECT_EQ(r.r8, 40 * 41 / 2);
    EXPECT_EQ(r.r9, 40 * 3);
    EXPECT_EQ(r.r10, 40 * 5);
    EXPECT_EQ(g->memory.at<uint64_t>(G_DATA), 40 * 7);
    EXPECT_EQ(g->memory.at<uint64_t>(G_DATA + 8), 40);
    delete g;
}
