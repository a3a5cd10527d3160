// SPDX-License-Identifier: GPL-2.0-only
//
// The guest runs, without exits, while its memory moves underneath: split, collapsed, merged,
// copied, unmapped; while slots come and go. It counts in its pages; no count may be lost.
#include <pthread.h>
#include <sys/syscall.h>

#include "guest_test.hpp"

namespace {

constexpr uint64_t kArea = 0x40000000, kPages = 512, kAreaSize = kPages * kPage;
constexpr int kMadvCollapse = 25, kMadvMergeable = 12;

Blob halt()
{
    return CODE(64, "hlt");
}

// Increments a word of page after page, and a count of all increments, until told to stop.
Blob counting()
{
    return CODE(64, "1: inc dword ptr [rdi + rdx]; inc dword ptr [rbx + 8]; add edx, 0x1000; "
                    "and edx, 0x1fffff; cmp dword ptr [rbx], 0; je 1b; hlt");
}

struct World {
    Device device;
    Guest g{device, Mode::kLong, halt()};
    Memory memory{3 * kAreaSize};
    uint8_t *area = reinterpret_cast<uint8_t *>(
        (reinterpret_cast<uintptr_t>(memory.base) + kAreaSize - 1) & ~(kAreaSize - 1));
    pthread_t thread{};
    uint64_t mmio = 0; // exits to memory that wasn't there
    bool failed = false;

    World()
    {
        g.memory.at<uint64_t>(G_TABLES + kPage + 8) = 0x1f0000 | 3;
        g.memory.at<uint64_t>(0x1f0000) = kArea | guest::kLarge | 3;
        REQUIRE_OK(g.vm.set_slot(1, kArea, kAreaSize, area));
    }
    volatile uint32_t &word(uint64_t page)
    {
        return *reinterpret_cast<uint32_t *>(area + page * kPage);
    }
    void start_counting()
    {
        kvm_regs r = fresh_regs(0x202);
        r.rdi = kArea;
        r.rbx = G_DATA;
        start(g, counting(), r);
        REQUIRE_EQ(pthread_create(
                       &thread, nullptr,
                       [](void *arg) -> void * {
                           static_cast<World *>(arg)->run();
                           return nullptr;
                       },
                       this),
                   0);
    }
    void run()
    {
        for (;;) {
            if (g.vcpu.enter() != 0) {
                failed = true;
                test::fail(__FILE__, __LINE__, "KVM_RUN: %s", test::errno_name(errno));
                return;
            }
            if (g.vcpu.run->exit_reason == KVM_EXIT_HLT)
                return;
            if (g.vcpu.run->exit_reason != KVM_EXIT_MMIO) {
                failed = true;
                test::fail(__FILE__, __LINE__, "exit %u", g.vcpu.run->exit_reason);
                return;
            }
            __atomic_fetch_add(&mmio, 1, __ATOMIC_RELAXED);
        }
    }
    volatile uint32_t &counted() { return g.memory.at<uint32_t>(G_DATA + 8); }
    // Until the guest has been everywhere.
    void let_it_run(uint32_t increments = 600)
    {
        uint32_t before = counted();
        EXPECT(test::soon([&] { return counted() - before >= increments || failed; }));
    }
    void stop()
    {
        g.memory.at<uint32_t>(G_DATA) = 1;
        pthread_join(thread, nullptr);
        REQUIRE(!failed);
    }
    uint64_t sum()
    {
        uint64_t total = 0;
        for (uint64_t page = 0; page < kPages; page++)
            total += word(page);
        return total;
    }
};

bool write_file(const char *path, const char *text)
{
    Fd file(open(path, O_WRONLY));
    return file.get() >= 0 && write(file.get(), text, strlen(text)) > 0;
}

long read_number(const char *path)
{
    char text[32] = "";
    Fd file(open(path, O_RDONLY));
    return file.get() >= 0 && read(file.get(), text, sizeof(text) - 1) > 0 ? atol(text) : -1;
}

} // namespace

TEST_LIMIT(moving_fork, 120)
{
    // Every page is copied, again and again, by whoever writes first.
    World w;
    w.start_counting();
    for (int i = 0; i < 8; i++) {
        w.let_it_run();
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        w.let_it_run();
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
    }
    w.stop();
    EXPECT_EQ(w.sum(), w.counted());
}

TEST_LIMIT(moving_collapse_and_split, 120)
{
    World w;
    w.start_counting();
    w.let_it_run();
    int collapsed = 0;
    for (int i = 0; i < 8; i++) {
        if (madvise(w.area, kAreaSize, kMadvCollapse) == 0)
            collapsed++;
        else if (errno == EINVAL)
            break; // a kernel without
        w.let_it_run();
        // A protection in the middle splits the mapping.
        REQUIRE_OK(mprotect(w.area + 100 * kPage, kPage, PROT_READ | PROT_WRITE | PROT_EXEC));
        w.let_it_run();
        REQUIRE_OK(mprotect(w.area + 100 * kPage, kPage, PROT_READ | PROT_WRITE));
    }
    w.stop();
    EXPECT_EQ(w.sum(), w.counted());
    if (!collapsed)
        test::skip("this kernel does not collapse on demand");
}

TEST_LIMIT(moving_huge_page_loses_a_part, 120)
{
    World w;
    if (!want_huge_pages(w.area, kAreaSize))
        test::skip("no transparent huge pages: %s", test::errno_name(errno));
    memset(w.area, 0, kAreaSize);
    w.start_counting();
    w.let_it_run();
    for (uint64_t page = 0; page < kPages; page += 61) {
        REQUIRE_OK(madvise(w.area + page * kPage, kPage, MADV_DONTNEED));
        // The old count is gone, whatever the guest does meanwhile.
        EXPECT(w.word(page) <= 1 + w.counted() / kPages);
        w.let_it_run();
        EXPECT(w.word(page) > 0);
    }
    w.stop();
    for (uint64_t page = 0; page < kPages; page++)
        EXPECT(w.word(page) <= 1 + w.counted() / kPages);
}

TEST_LIMIT(moving_mremap, 120)
{
    // The pages go elsewhere and come back; in between the guest finds nothing there.
    World w;
    Memory elsewhere(kAreaSize);
    w.start_counting();
    w.let_it_run();
    w.stop();
    for (int i = 0; i < 4; i++) {
        uint64_t before = w.sum();
        EXPECT_EQ(before, w.counted());
        void *moved =
            mremap(w.area, kAreaSize, kAreaSize, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere.base);
        REQUIRE(moved == elsewhere.base);
        kvm_regs r = fresh_regs();
        r.rdi = kArea + 5 * kPage;
        start(w.g, CODE(64, "mov eax, [rdi]; hlt"), r);
        EXPECT_ERRNO(w.g.vcpu.enter(), EFAULT);
        moved = mremap(elsewhere.base, kAreaSize, kAreaSize, MREMAP_MAYMOVE | MREMAP_FIXED, w.area);
        REQUIRE(moved == w.area);
        EXPECT_EQ(w.sum(), before);
        ENTER(w.g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(w.g.vcpu.regs().rax, w.word(5));
        w.g.memory.at<uint32_t>(G_DATA) = 0;
        w.start_counting();
        w.let_it_run();
        w.stop();
    }
    EXPECT_EQ(w.sum(), w.counted());
}

TEST_LIMIT(moving_merged, 120)
{
    // KSM gives two equal pages one frame; the guest that writes one of them gets its own again.
    World w;
    if (!write_file("/sys/kernel/mm/ksm/run", "0"))
        test::skip("no KSM");
    for (uint64_t page = 0; page < kPages; page++)
        memset(w.area + page * kPage, static_cast<int>(page % 8 + 1), kPage);
    REQUIRE_OK(madvise(w.area, kAreaSize, kMadvMergeable));
    write_file("/sys/kernel/mm/ksm/pages_to_scan", "2000");
    write_file("/sys/kernel/mm/ksm/sleep_millisecs", "10");
    REQUIRE(write_file("/sys/kernel/mm/ksm/run", "1"));
    EXPECT(test::soon([] { return read_number("/sys/kernel/mm/ksm/pages_sharing") >= 400; }));
    kvm_regs r = fresh_regs();
    r.rdi = kArea;
    for (uint64_t page = 0; page < 16; page++) {
        r.rdx = page * kPage;
        start(w.g, CODE(64, "mov eax, [rdi + rdx]; hlt"), r);
        ENTER(w.g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(w.g.vcpu.regs().rax, 0x01010101 * (page % 8 + 1));
    }
    // Counting, with the merger at work.
    uint64_t before = w.sum();
    w.start_counting();
    for (int i = 0; i < 5; i++) {
        w.let_it_run();
        usleep(50000);
    }
    w.stop();
    EXPECT_EQ(static_cast<uint32_t>(w.sum()), static_cast<uint32_t>(before + w.counted()));
    write_file("/sys/kernel/mm/ksm/run", "2"); // all apart again
    EXPECT_EQ(static_cast<uint32_t>(w.sum()), static_cast<uint32_t>(before + w.counted()));
    write_file("/sys/kernel/mm/ksm/run", "0");
}

TEST_LIMIT(moving_swapped, 120)
{
    World w;
    w.start_counting();
    for (int i = 0; i < 10; i++) {
        w.let_it_run();
        madvise(w.area, kAreaSize, MADV_COLD);
        madvise(w.area, kAreaSize, MADV_PAGEOUT);
    }
    w.stop();
    EXPECT_EQ(w.sum(), w.counted());
}

TEST_LIMIT(moving_slot_deleted_while_running, 120)
{
    World w;
    w.start_counting();
    for (int i = 0; i < 6; i++) {
        w.let_it_run();
        REQUIRE_OK(w.g.vm.set_slot(1, 0, 0, nullptr));
        // From here on nothing of the guest's reaches this memory.
        uint64_t frozen = w.sum();
        uint64_t exits = __atomic_load_n(&w.mmio, __ATOMIC_RELAXED);
        EXPECT(
            test::soon([&] { return __atomic_load_n(&w.mmio, __ATOMIC_RELAXED) >= exits + 100; }));
        EXPECT_EQ(w.sum(), frozen);
        REQUIRE_OK(w.g.vm.set_slot(1, kArea, kAreaSize, w.area));
    }
    w.let_it_run(2000);
    w.stop();
}

TEST_LIMIT(moving_slot_moved_while_running, 120)
{
    World w;
    w.start_counting();
    for (int i = 0; i < 6; i++) {
        w.let_it_run();
        REQUIRE_OK(w.g.vm.set_slot(1, kArea + 16 * kAreaSize, kAreaSize, w.area));
        uint64_t frozen = w.sum();
        usleep(5000);
        EXPECT_EQ(w.sum(), frozen);
        REQUIRE_OK(w.g.vm.set_slot(1, kArea, kAreaSize, w.area));
    }
    w.let_it_run(2000);
    w.stop();
}

TEST_LIMIT(moving_logging_toggled_while_running, 120)
{
    World w;
    want_huge_pages(w.area, kAreaSize);
    w.start_counting();
    for (int i = 0; i < 10; i++) {
        REQUIRE_OK(w.g.vm.set_slot(1, kArea, kAreaSize, w.area, KVM_MEM_LOG_DIRTY_PAGES));
        w.let_it_run();
        REQUIRE_OK(w.g.vm.set_slot(1, kArea, kAreaSize, w.area));
        w.let_it_run();
    }
    w.stop();
    EXPECT_EQ(w.sum(), w.counted());
}
