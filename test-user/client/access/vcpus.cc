// SPDX-License-Identifier: GPL-2.0-only
//
// Two vCPUs, one set of page tables.
#include <pthread.h>

#include "tables.hpp"

namespace {

void *run_in_thread(void *vcpu)
{
    auto *v = static_cast<Vcpu *>(vcpu);
    while (v->enter() == -1 && errno == EINTR)
        ;
    return nullptr;
}

} // namespace

// One vCPU reads through tables that another one changes all the time, without telling: each read
// gives one of two pages, or a page fault that one of the entries is good for.
TEST_LIMIT(hostile_tables_change_while_walked, 200)
{
    Device device;
    const Blob reader = CODE(64, "jmp 2f\n"
                                 "1: cmp dword ptr [0x10010], 14\n" // a fault: which?
                                 "jne 9f\n"
                                 "test dword ptr [0x10014], 0xfffffff6\n" // P and reserved only
                                 "jnz 9f\n"
                                 "mov dword ptr [0x10000], 0\n"
                                 "jmp 3f\n"
                                 "2: mov eax, [rbx]\n"
                                 "cmp eax, 0xaaaaaaaa\n"
                                 "je 3f\n"
                                 "cmp eax, 0xbbbbbbbb\n"
                                 "jne 9f\n"
                                 "3: invlpg [rbx]\n"
                                 "dec rcx\n"
                                 "jnz 2b\n"
                                 "mov eax, 1\n"
                                 "9: mov byte ptr [0x11000], 1\n"
                                 "out 0x10, eax\n"
                                 "hlt");
    const Blob changer = CODE(64, "1: mov [rbx], rsi\n" // page A, page B
                                  "mov [rbx], rdi\n"
                                  "mov qword ptr [rbx], 0\n"
                                  "mov [rbx], r8\n"  // a reserved bit
                                  "mov [rdx], rcx\n" // the table above: another one
                                  "mov [rbx], rsi\n"
                                  "mov [rdx], rax\n"
                                  "cmp byte ptr [0x11000], 0\n"
                                  "je 1b\n"
                                  "hlt");
    Guest g(device, Mode::kLong, reader);
    map_virtual(g);
    constexpr uint64_t kOtherPt = G_FREE + 0x5000;
    constexpr uint64_t kChanger = G_FREE + 0x6000;
    g.memory.at<uint64_t>(kOtherPt + 8) = kPageB | kPresentWrite;
    memcpy(g.memory.base + kChanger, changer.begin, changer.size());
    kvm_regs r = regs_with(0, kVirtual);
    r.rcx = 4000;
    start(g, reader, r);
    g.resume_at(G_CODE + 2);

    Vcpu second(device, g.vm, 1);
    g.set_cpuid(second);
    g.enter_mode(second, 0x202);
    kvm_regs c = fresh_regs(0x202);
    c.rip = kChanger;
    c.rbx = kPt + 8;
    c.rdx = kPd + 8;
    c.rsi = kPageA | kPresentWrite;
    c.rdi = kPageB | kPresentWrite;
    c.r8 = kPageA | kPresentWrite | 1ull << 51;
    c.rax = kPt | kPresentWrite;
    c.rcx = kOtherPt | kPresentWrite;
    second.set(c);
    pthread_t thread;
    REQUIRE_EQ(pthread_create(&thread, nullptr, run_in_thread, &second), 0);
    EXPECT_REPORT(g.vcpu, 1);
    pthread_join(thread, nullptr);
    EXPECT_EQ(second.run->exit_reason, uint32_t{KVM_EXIT_HLT});
}

// One vCPU moves a page and asks the other one to forget it, which then must find it where it is
// now: as operating systems do, with a word of memory in place of the interrupt.
TEST_LIMIT(tables_change_and_the_other_is_told, 200)
{
    constexpr uint32_t kRounds = 200;
    Device device;
    // 0x11000: the round; 0x11008: the last one that the other has seen; 0x11010: the end.
    const Blob mover = CODE(64, "1: inc ecx\n"
                                "test cl, 1\n"
                                "mov rax, rsi\n"
                                "cmovz rax, rdi\n"
                                "mov [rbx], rax\n"
                                "mov [0x11000], ecx\n"
                                "2: pause\n"
                                "cmp byte ptr [0x11010], 0\n"
                                "jne 3f\n"
                                "cmp [0x11008], ecx\n"
                                "jne 2b\n"
                                "cmp ecx, edx\n"
                                "jb 1b\n"
                                "3: hlt");
    const Blob follower = CODE(64, "1: pause\n"
                                   "mov ecx, [0x11000]\n"
                                   "cmp [0x11008], ecx\n"
                                   "je 1b\n"
                                   "invlpg [rbx]\n"
                                   "mov eax, [rbx]\n"
                                   "test cl, 1\n"
                                   "mov esi, 0xbbbbbbbb\n"
                                   "mov edi, 0xaaaaaaaa\n"
                                   "cmovnz esi, edi\n"
                                   "cmp eax, esi\n"
                                   "jne 9f\n"
                                   "mov [0x11008], ecx\n"
                                   "cmp ecx, edx\n"
                                   "jb 1b\n"
                                   "mov eax, 1\n"
                                   "9: mov byte ptr [0x11010], 1\n"
                                   "out 0x10, eax\n"
                                   "hlt");
    Guest g(device, Mode::kLong, follower);
    map_virtual(g);
    constexpr uint64_t kMover = G_FREE + 0x6000;
    memcpy(g.memory.base + kMover, mover.begin, mover.size());
    kvm_regs r = regs_with(0, kVirtual);
    r.rdx = kRounds;
    start(g, follower, r);

    Vcpu second(device, g.vm, 1);
    g.set_cpuid(second);
    g.enter_mode(second, 0x202);
    kvm_regs c = fresh_regs(0x202);
    c.rip = kMover;
    c.rbx = kPt + 8;
    c.rsi = kPageA | kPresentWrite; // in odd rounds
    c.rdi = kPageB | kPresentWrite;
    c.rdx = kRounds;
    second.set(c);
    pthread_t thread;
    REQUIRE_EQ(pthread_create(&thread, nullptr, run_in_thread, &second), 0);
    EXPECT_REPORT(g.vcpu, 1);
    pthread_join(thread, nullptr);
    EXPECT_EQ(second.run->exit_reason, uint32_t{KVM_EXIT_HLT});
    EXPECT_EQ(g.memory.at<uint32_t>(G_DATA), kRounds);
}

// A vCPU in 64-bit mode and one with PAE paging use the same tables at the lower levels.
TEST(tables_of_two_modes)
{
    constexpr uint64_t kPaeRoot = G_FREE + 0x8000;
    Device device;
    // Writes the entry that rbx (ebx) names, makes its mode forget all, and reads through rsi
    // (esi).
    const Blob code64 = CODE(64, "mov [rbx], rcx\n mov rax, cr3\n mov cr3, rax\n mov eax, [rsi]\n"
                                 "out 0x10, eax\n hlt");
    const Blob code32 = CODE(32, "mov [ebx], ecx\n mov eax, cr3\n mov cr3, eax\n mov eax, [esi]\n"
                                 "out 0x10, eax\n hlt");
    Guest g(device, Mode::kLong, code64);
    map_virtual(g);
    constexpr uint64_t kCode32 = G_FREE + 0x6000;
    memcpy(g.memory.base + kCode32, code32.begin, code32.size());
    // Its memory below 2 MiB by the tables of the other, and the page under test.
    g.memory.at<uint64_t>(kPaeRoot) = (G_TABLES + 0x2000) | guest::kPresent;
    g.memory.at<uint64_t>(kPaeRoot + 8) = kPd | guest::kPresent;
    Vcpu second(device, g.vm, 1);
    g.set_cpuid(second);
    kvm_sregs s = second.sregs();
    guest::make_sregs_for(Mode::kPae, s);
    s.cr3 = kPaeRoot;
    second.set(s);
    for (unsigned round = 0; round < 40; round++) {
        const bool page_a = round / 2 % 2;
        kvm_regs r = regs_with(0, kPt + 8);
        r.rcx = (page_a ? kPageA : kPageB) | kPresentWrite;
        r.rsi = kVirtual;
        kvm_regs other = r;
        other.rip = kCode32;
        other.rsi = 0x40201000;
        if (round % 2) {
            start(g, code64, r);
            EXPECT_REPORT(g.vcpu, page_a ? 0xaaaaaaaa : 0xbbbbbbbb);
            other.rbx = G_DATA; // the other one only reads
            second.set(other);
            EXPECT_REPORT(second, page_a ? 0xaaaaaaaa : 0xbbbbbbbb);
        } else {
            second.set(other);
            EXPECT_REPORT(second, page_a ? 0xaaaaaaaa : 0xbbbbbbbb);
            r.rbx = G_DATA;
            start(g, code64, r);
            EXPECT_REPORT(g.vcpu, page_a ? 0xaaaaaaaa : 0xbbbbbbbb);
        }
    }
}
