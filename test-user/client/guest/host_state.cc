// SPDX-License-Identifier: GPL-2.0-only
//
// The host's state survives the guest, and the guest's survives the host: FPU, SSE and AVX, debug
// registers, FS and GS bases, the MSRs of system calls.
#include <asm/prctl.h>
#include <cstddef>
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "guest_test.hpp"

namespace {

struct alignas(64) Vectors {
    uint8_t bytes[16][32];
};

bool have_avx()
{
    return host_has(1, 0, 'c', 27) && host_has(1, 0, 'c', 28);
}

// Loads all XMM (or YMM) registers, does the ioctl without any library code in between, and stores
// them again.
long enter_with_vectors(int fd, const Vectors &in, Vectors &out, bool avx)
{
    long result;
#define EACH(f)                                                                                    \
    f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define LOAD_YMM(n) "vmovdqu " #n "*32(%[in]), %%ymm" #n "\n"
#define SAVE_YMM(n) "vmovdqu %%ymm" #n ", " #n "*32(%[out])\n"
#define LOAD_XMM(n) "movdqu " #n "*32(%[in]), %%xmm" #n "\n"
#define SAVE_XMM(n) "movdqu %%xmm" #n ", " #n "*32(%[out])\n"
#define CLOBBERS                                                                                   \
    "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",        \
        "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
    if (avx)
        asm volatile(EACH(LOAD_YMM) "syscall\n" EACH(SAVE_YMM) "vzeroupper\n"
                     : "=a"(result)
                     : "a"(SYS_ioctl), "D"(fd), "S"(KVM_RUN), "d"(0), [in] "r"(&in), [out] "r"(&out)
                     : CLOBBERS);
    else
        asm volatile(EACH(LOAD_XMM) "syscall\n" EACH(SAVE_XMM)
                     : "=a"(result)
                     : "a"(SYS_ioctl), "D"(fd), "S"(KVM_RUN), "d"(0), [in] "r"(&in), [out] "r"(&out)
                     : CLOBBERS);
    return result;
}

void fill(Vectors &v, uint8_t seed, bool avx)
{
    for (unsigned r = 0; r < 16; r++)
        for (unsigned b = 0; b < 32; b++)
            v.bytes[r][b] = b < 16 || avx ? static_cast<uint8_t>(seed + r * 32 + b) : 0;
}

#define GUEST_EACH(f)                                                                              \
    f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define GUEST_LOAD_XMM(n) "movdqu xmm" #n ", [rsi + " #n " * 32]\n"
#define GUEST_SAVE_XMM(n) "movdqu [rdi + " #n " * 32], xmm" #n "\n"
#define GUEST_LOAD_YMM(n) "vmovdqu ymm" #n ", [rsi + " #n " * 32]\n"
#define GUEST_SAVE_YMM(n) "vmovdqu [rdi + " #n " * 32], ymm" #n "\n"

void enable_sse(Guest &g, bool avx)
{
    kvm_sregs s = g.vcpu.sregs();
    s.cr4 |= guest::kCr4Osfxsr | (avx ? guest::kCr4Osxsave : 0);
    g.vcpu.set(s);
}

Blob vector_code(bool avx)
{
    if (avx)
        return CODE(64, "xor ecx, ecx; xor edx, edx; mov eax, 7; xsetbv\n" GUEST_EACH(
                            GUEST_LOAD_YMM) "out 0x10, al; cpuid; mov [rbp], eax; out 0x10, "
                                            "al\n" GUEST_EACH(GUEST_SAVE_YMM) "hlt");
    return CODE(
        64,
        GUEST_EACH(GUEST_LOAD_XMM) "out 0x10, al; cpuid; mov [rbp], eax; out 0x10, al\n" GUEST_EACH(
            GUEST_SAVE_XMM) "hlt");
}

void run_vectors(Guest &g, bool avx, uint8_t seed)
{
    Vectors guest_in, host_in, host_out;
    fill(guest_in, static_cast<uint8_t>(seed + 0x11), avx);
    memcpy(g.memory.base + G_DATA, &guest_in, sizeof(guest_in));
    memset(g.memory.base + G_DATA + 0x1000, 0, sizeof(guest_in));
    kvm_regs r = fresh_regs();
    r.rsi = G_DATA;
    r.rdi = G_DATA + 0x1000;
    r.rbp = G_MMIO;
    start(g, vector_code(avx), r);
    for (uint32_t reason : {KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_IO, KVM_EXIT_HLT}) {
        fill(host_in, static_cast<uint8_t>(seed + reason * 3), avx);
        memset(&host_out, 0, sizeof(host_out));
        REQUIRE_EQ(enter_with_vectors(g.vcpu.get(), host_in, host_out, avx), 0);
        REQUIRE_EQ(g.vcpu.run->exit_reason, reason);
        EXPECT(memcmp(&host_in, &host_out, sizeof(host_in)) == 0);
    }
    EXPECT(memcmp(g.memory.base + G_DATA + 0x1000, &guest_in, sizeof(guest_in)) == 0);
}

} // namespace

TEST(fpu_sse_registers)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    enable_sse(g, false);
    run_vectors(g, false, 1);
    run_vectors(g, false, 99);
}

TEST(fpu_avx_registers)
{
    if (!have_avx())
        test::skip("the host does not use AVX on this CPU");
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    enable_sse(g, true);
    run_vectors(g, true, 1);
    run_vectors(g, true, 99);
}

TEST(fpu_control_words)
{
    // The x87 control word and MXCSR are each side's own; a guest starts with the values of FNINIT.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    enable_sse(g, false);
    kvm_regs r = fresh_regs();
    r.rsi = G_DATA;
    g.memory.at<uint16_t>(G_DATA + 16) = 0x0f7f;
    g.memory.at<uint32_t>(G_DATA + 20) = 0x1f80 | 0x6000;
    start(g,
          CODE(64, "fnstcw [rsi]; stmxcsr [rsi + 4]; fldcw [rsi + 16]; ldmxcsr [rsi + 20]; fldpi; "
                   "out 0x10, al\n"
                   "fnstcw [rsi + 32]; stmxcsr [rsi + 36]; fstp qword ptr [rsi + 40]; hlt"),
          r);
    uint16_t host_cw = 0x027f, cw = 0;
    uint32_t host_mxcsr = 0x1f80 | 0x8000, mxcsr = 0;
    asm volatile("fldcw %0; ldmxcsr %1" ::"m"(host_cw), "m"(host_mxcsr));
    long first = ioctl(g.vcpu.get(), KVM_RUN, 0), second = ioctl(g.vcpu.get(), KVM_RUN, 0);
    asm volatile("fnstcw %0; stmxcsr %1" : "=m"(cw), "=m"(mxcsr));
    EXPECT_EQ(first | second, 0);
    EXPECT_EQ(cw, host_cw);
    EXPECT_EQ(mxcsr, host_mxcsr);
    EXPECT_EQ(g.memory.at<uint16_t>(G_DATA), 0x37f);
    EXPECT_EQ(g.memory.at<uint32_t>(G_DATA + 4), 0x1f80);
    EXPECT_EQ(g.memory.at<uint16_t>(G_DATA + 32), 0x0f7f);
    EXPECT_EQ(g.memory.at<uint32_t>(G_DATA + 36), 0x7f80);
    EXPECT_EQ(g.memory.at<uint64_t>(G_DATA + 40), 0x400921fb54442d18); // pi
}

TEST(fpu_two_guests)
{
    // Two vCPUs of two VMs, by turns in one thread: neither sees the other's registers.
    Device device;
    Guest one(device, Mode::kLong, CODE(64, "hlt")), two(device, Mode::kLong, CODE(64, "hlt"));
    Blob code = CODE(64, "movq xmm5, rax; 1: out 0x10, al; movq rbx, xmm5; jmp 1b");
    kvm_regs r = fresh_regs();
    for (Guest *g : {&one, &two}) {
        enable_sse(*g, false);
        r.rax = g == &one ? 0x1111 : 0x2222;
        start(*g, code, r);
        ENTER(g->vcpu, KVM_EXIT_IO);
    }
    for (int i = 0; i < 10; i++)
        for (Guest *g : {&one, &two}) {
            ENTER(g->vcpu, KVM_EXIT_IO);
            EXPECT_EQ(g->vcpu.regs().rbx, g == &one ? 0x1111 : 0x2222);
        }
}

TEST(host_fs_gs_bases)
{
    // FS is the thread's storage; GS is set to something of its own first. The guest changes all of
    // its own.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    static __thread int in_tls = 42;
    static int pointed = 4711;
    REQUIRE_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, &pointed));
    unsigned long fs_before = 0, fs = 0, gs = 0;
    REQUIRE_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_before));
    kvm_regs r = fresh_regs();
    r.rsi = 0x7ead00000000;
    start(g,
          CODE(64, "mov ecx, 0xc0000100\n"
                   "1: mov eax, esi; mov rdx, rsi; shr rdx, 32; wrmsr; inc ecx; cmp ecx, "
                   "0xc0000103; jne 1b\n"
                   "swapgs; out 0x10, al; mov ecx, 0xc0000102; rdmsr; hlt"),
          r);
    ENTER(g.vcpu, KVM_EXIT_IO);
    int through_gs = 0;
    asm volatile("movl %%gs:0, %0" : "=r"(through_gs));
    EXPECT_EQ(through_gs, 4711);
    EXPECT_EQ(in_tls, 42);
    REQUIRE_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    REQUIRE_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
    EXPECT_EQ(fs, fs_before);
    EXPECT_EQ(gs, reinterpret_cast<unsigned long>(&pointed));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rdx, 0x7ead);
}

TEST(host_segment_selectors)
{
    // DS, ES, FS and GS selectors that are not null, one of them in an LDT.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "out 0x10, al; hlt"));
    struct {
        unsigned entry, base, limit;
        unsigned flags;
    } descriptor = {0, 0x1000, 0xfffff, 0x51}; // 32-bit, limit in pages, usable
    bool ldt = syscall(SYS_modify_ldt, 1, &descriptor, sizeof(descriptor)) == 0;
    uint16_t want = ldt ? 0x7 : 0x2b, ds = 0, es = 0, gs = 0;
    asm volatile("mov %0, %%ds; mov %0, %%es; mov %1, %%gs" ::"r"(0x2b),
                 "r"(static_cast<int>(want)));
    long result = ioctl(g.vcpu.get(), KVM_RUN, 0);
    asm volatile("mov %%ds, %0; mov %%es, %1; mov %%gs, %2" : "=r"(ds), "=r"(es), "=r"(gs));
    EXPECT_EQ(result, 0);
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_IO);
    EXPECT_EQ(ds, 0x2b);
    EXPECT_EQ(es, 0x2b);
    EXPECT_EQ(gs, want);
}

TEST(host_system_call_msrs)
{
    // The guest loads its own STAR, LSTAR and SFMASK; the host's system calls (64 and 32 bit) go on
    // working, and the guest finds its own again.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rsi = 0x123400005678;
    start(g,
          CODE(64, "mov ecx, 0xc0000081\n"
                   "1: mov eax, esi; mov rdx, rsi; shr rdx, 32; wrmsr; inc ecx; cmp ecx, "
                   "0xc0000085; jne 1b\n"
                   "mov ecx, 0x175; wrmsr; inc ecx; wrmsr\n"
                   "2: out 0x10, al; mov ecx, 0xc0000082; rdmsr; mov rbx, rax; mov ecx, 0x176; "
                   "rdmsr; jmp 2b"),
          r);
    pid_t self = getpid();
    for (int i = 0; i < 5; i++) {
        ENTER(g.vcpu, KVM_EXIT_IO);
        EXPECT_EQ(syscall(SYS_getpid), self);
        int pid32;
        asm volatile("int $0x80" : "=a"(pid32) : "a"(20) : "r8", "r9", "r10", "r11", "memory");
        EXPECT_EQ(pid32, self);
        sched_yield();
        if (i > 0) {
            EXPECT_EQ(g.vcpu.regs().rbx, 0x5678);
            EXPECT_EQ(g.vcpu.regs().rdx, 0x1234);
        }
    }
}

TEST(host_debug_registers)
{
    // A watchpoint in this process, set by a tracer, fires after the guest has used all the debug
    // registers; and the guest, which has none enabled, is not disturbed by it.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    static volatile int watched;
    kvm_regs r = fresh_regs();
    r.rsi = 0x12345678;
    r.rax = 0x400;
    start(
        g,
        CODE(64,
             "mov dr7, rax; mov dr0, rsi; mov dr1, rsi; mov dr2, rsi; mov dr3, rsi; out 0x10, al\n"
             "mov rbx, dr0; mov rcx, dr3; hlt"),
        r);
    pid_t child = fork();
    if (child == 0) {
        // Owns the VM: it has to be created here.
        Guest own(device, Mode::kLong, CODE(64, "hlt"));
        start(own,
              CODE(64, "mov dr7, rax; mov dr0, rsi; mov dr1, rsi; mov dr2, rsi; mov dr3, rsi; out "
                       "0x10, al\n"
                       "mov rbx, dr0; mov rcx, dr3; hlt"),
              r);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP); // the tracer sets the watchpoint
        ENTER(own.vcpu, KVM_EXIT_IO);
        watched = 1; // must trap
        ENTER(own.vcpu, KVM_EXIT_HLT);
        watched = 2; // and again
        kvm_regs after = own.vcpu.regs();
        EXPECT_EQ(after.rbx, 0x12345678);
        EXPECT_EQ(after.rcx, 0x12345678);
        test::leave();
    }
    int status = 0, traps = 0;
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status))
        return;
    auto poke = [&](int index, uint64_t value) {
        return ptrace(PTRACE_POKEUSER, child,
                      offsetof(user, u_debugreg) + 8 * static_cast<size_t>(index), value);
    };
    EXPECT_ERRNO(poke(0, reinterpret_cast<uint64_t>(&watched)), 0);
    EXPECT_ERRNO(poke(7, 0xd0001), 0); // DR0, on writes, 4 bytes
    ptrace(PTRACE_CONT, child, 0, 0);
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        if (WSTOPSIG(status) == SIGTRAP)
            traps++;
        ptrace(PTRACE_CONT, child, 0, WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status));
    }
    EXPECT_EQ(traps, 2);
}

TEST(host_registers)
{
    // The callee-saved registers and RFLAGS (alignment check, direction) around the system call.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs(0x2);
    memset(&r, 0xee, offsetof(kvm_regs, rip));
    start(g, CODE(64, "std; hlt"), r);
    uint64_t rbx = 1, r12 = 2, r13 = 3, r14 = 4, r15 = 5, flags;
    long result;
    asm volatile(
        "mov %[v1], %%r12; lea 1(%%r12), %%r13; lea 2(%%r12), %%r14; lea 3(%%r12), %%r15; lea "
        "4(%%r12), %%rbx\n"
        "syscall\n"
        "pushfq; pop %[flags]\n"
        "mov %%r12, %[a]; mov %%r13, %[b]; mov %%r14, %[c]; mov %%r15, %[d]; mov %%rbx, %[e]\n"
        : "=a"(result), [flags] "=&r"(flags), [a] "=m"(r12), [b] "=m"(r13), [c] "=m"(r14),
          [d] "=m"(r15), [e] "=m"(rbx)
        : "a"(SYS_ioctl), "D"(g.vcpu.get()), "S"(KVM_RUN), "d"(0), [v1] "r"(0x1234500000000ULL)
        : "rcx", "r11", "r12", "r13", "r14", "r15", "rbx", "memory", "cc");
    EXPECT_EQ(result, 0);
    EXPECT_EQ(r12, 0x1234500000000);
    EXPECT_EQ(r13, 0x1234500000001);
    EXPECT_EQ(r14, 0x1234500000002);
    EXPECT_EQ(r15, 0x1234500000003);
    EXPECT_EQ(rbx, 0x1234500000004);
    EXPECT_EQ(flags & 0x400, 0);
    EXPECT(g.vcpu.regs().rflags & 0x400);
}
