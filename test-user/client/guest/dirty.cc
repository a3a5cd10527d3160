// SPDX-License-Identifier: GPL-2.0-only
//
// Dirty logging: the bitmap must be the pattern that the guest wrote, however it was found out. All
// of it holds on kvm_intel, too.
#include <pthread.h>

#include "guest_test.hpp"

namespace {

constexpr uint64_t kArea = 0x40000000, kAreaPages = 1100, kAreaSize = kAreaPages * kPage;
constexpr size_t kHuge = 2 << 20;
constexpr uint64_t kList = 0x100000; // the pages that the guest shall touch, 4 bytes each

// A set of pages by number, small enough to be a value. No exceptions here, so no std::set.
struct Pages {
    uint64_t words[(kAreaPages + 63) / 64 + 1] = {};
    void add(uint64_t page) { words[page / 64] |= 1ULL << page % 64; }
    bool has(uint64_t page) const { return words[page / 64] >> page % 64 & 1; }
    bool operator==(const Pages &other) const { return !memcmp(words, other.words, sizeof(words)); }
    unsigned count() const
    {
        unsigned n = 0;
        for (uint64_t word : words)
            n += static_cast<unsigned>(__builtin_popcountll(word));
        return n;
    }
};

template <class Wanted>
Pages pages_if(Wanted wanted)
{
    Pages pages;
    for (uint64_t page = 0; page < kAreaPages; page++)
        if (wanted(page))
            pages.add(page);
    return pages;
}

void expect_pages(int line, const Pages &got, const Pages &expected)
{
    for (uint64_t page = 0; page < kAreaPages + 64; page++)
        if (got.has(page) != expected.has(page)) {
            test::fail(__FILE__, line, "page %u is %s (%u pages expected, got %u)",
                       static_cast<unsigned>(page), got.has(page) ? "dirty" : "not dirty",
                       expected.count(), got.count());
            test::leave();
        }
}
#define EXPECT_PAGES(got, expected) expect_pages(__LINE__, got, expected)

Blob halt()
{
    return CODE(64, "hlt");
}

struct World {
    Device device;
    Guest g{device, Mode::kLong, halt()};
    Memory memory{kAreaSize + 2 * kHuge};
    uint8_t *area = reinterpret_cast<uint8_t *>(
        (reinterpret_cast<uintptr_t>(memory.base) + kHuge - 1) & ~(kHuge - 1));

    explicit World(uint32_t flags = 0)
    {
        // 8 MiB at kArea, mapped to itself in the guest's tables.
        g.memory.at<uint64_t>(G_TABLES + kPage + 8) = 0x1f0000 | 3;
        for (uint64_t i = 0; i < 4; i++)
            g.memory.at<uint64_t>(0x1f0000 + 8 * i) = (kArea + i * kHuge) | guest::kLarge | 3;
        set_flags(flags);
    }
    void set_flags(uint32_t flags) { REQUIRE_OK(g.vm.set_slot(1, kArea, kAreaSize, area, flags)); }
    void log() { set_flags(KVM_MEM_LOG_DIRTY_PAGES); }

    uint64_t fill_list(const Pages &pages)
    {
        uint64_t count = 0;
        for (uint32_t page = 0; page < kAreaPages; page++)
            if (pages.has(page))
                g.memory.at<uint32_t>(kList + 4 * count++) = page;
        return count;
    }
    void run_over(const Pages &pages, Blob code)
    {
        kvm_regs r = fresh_regs();
        r.rcx = fill_list(pages);
        r.rsi = kList;
        r.rdi = kArea;
        start(g, code, r);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.vcpu.regs().rcx, 0);
    }
    // The guest writes, or reads, a word of each page.
    void write(const Pages &pages)
    {
        run_over(pages, CODE(64, "1: mov edx, [rsi]; shl rdx, 12; inc dword ptr [rdi + rdx + 64]; "
                                 "add rsi, 4; dec rcx; jnz 1b; hlt"));
    }
    void read(const Pages &pages)
    {
        run_over(pages, CODE(64, "1: mov edx, [rsi]; shl rdx, 12; mov eax, [rdi + rdx + 64]; "
                                 "add rsi, 4; dec rcx; jnz 1b; hlt"));
    }
    Pages dirty(uint32_t slot = 1)
    {
        Pages pages;
        kvm_dirty_log log = {};
        log.slot = slot;
        log.dirty_bitmap = pages.words;
        REQUIRE_OK(call(g.vm, KVM_GET_DIRTY_LOG, &log));
        return pages;
    }
    void clear(uint64_t first, uint32_t count, const Pages &pages)
    {
        kvm_clear_dirty_log clear = {};
        clear.slot = 1;
        clear.first_page = first;
        clear.num_pages = count;
        clear.dirty_bitmap = const_cast<uint64_t *>(pages.words) + first / 64;
        REQUIRE_OK(call(g.vm, KVM_CLEAR_DIRTY_LOG, &clear));
    }
};

const Pages kNone = {};
Pages everything()
{
    return pages_if([](uint64_t) { return true; });
}
Pages pattern()
{
    return pages_if([](uint64_t page) { return page % 3 == 0 || (page >= 500 && page < 700); });
}

} // namespace

TEST(dirty_pattern)
{
    World w(KVM_MEM_LOG_DIRTY_PAGES);
    EXPECT_PAGES(w.dirty(), kNone);
    w.write(pattern());
    EXPECT_PAGES(w.dirty(), pattern());
    EXPECT_PAGES(w.dirty(), kNone);
    w.write(pattern()); // the same pages once more
    EXPECT_PAGES(w.dirty(), pattern());
    w.write(everything()); // more than a PML buffer holds, without another exit
    EXPECT_PAGES(w.dirty(), everything());
    EXPECT_EQ(*reinterpret_cast<uint32_t *>(w.area + 3 * kPage + 64), 3);
}

TEST(dirty_logging_begins_and_ends)
{
    World w;
    w.write(everything());
    kvm_dirty_log log = {};
    Pages pages;
    log.slot = 1;
    log.dirty_bitmap = pages.words;
    EXPECT_ERRNO(call(w.g.vm, KVM_GET_DIRTY_LOG, &log), ENOENT);
    for (int i = 0; i < 3; i++) {
        w.log();
        EXPECT_PAGES(w.dirty(), kNone);
        w.write(pattern());
        EXPECT_PAGES(w.dirty(), pattern());
        w.write(pattern());
        w.set_flags(0); // what was not read is forgotten
        EXPECT_ERRNO(call(w.g.vm, KVM_GET_DIRTY_LOG, &log), ENOENT);
        w.write(everything());
    }
}

TEST(dirty_reads_do_not_count)
{
    World w;
    w.write(everything());
    w.log();
    w.read(everything());
    EXPECT_PAGES(w.dirty(), kNone);
    w.write(pattern());
    EXPECT_PAGES(w.dirty(), pattern());
    w.read(everything());
    EXPECT_PAGES(w.dirty(), kNone);
}

TEST(dirty_huge_pages)
{
    World w;
    if (!want_huge_pages(w.area, 2 * kHuge))
        test::skip("no transparent huge pages: %s", test::errno_name(errno));
    memset(w.area, 0, kAreaSize);
    w.write(everything());
    for (int i = 0; i < 2; i++) {
        w.log();
        w.write(pattern());
        EXPECT_PAGES(w.dirty(), pattern());
        w.write(pattern());
        EXPECT_PAGES(w.dirty(), pattern());
        w.set_flags(0);
        w.write(everything());
    }
    EXPECT_EQ(*reinterpret_cast<uint32_t *>(w.area + 3 * kPage + 64), 1 + 2 * 3);
    EXPECT_EQ(*reinterpret_cast<uint32_t *>(w.area + 4 * kPage + 64), 1 + 2);
}

TEST(dirty_pages_that_move)
{
    // The kernel takes pages away while they are logged: what was written stays noted.
    World w(KVM_MEM_LOG_DIRTY_PAGES);
    w.write(pattern());
    REQUIRE_OK(madvise(w.area, kAreaSize, MADV_DONTNEED));
    EXPECT_PAGES(w.dirty(), pattern());
    w.write(pattern());
    EXPECT_PAGES(w.dirty(), pattern());
    pid_t child = fork(); // write protects all of them
    if (child == 0) {
        pause();
        _exit(0);
    }
    w.write(pattern());
    EXPECT_PAGES(w.dirty(), pattern());
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
}

TEST(dirty_emulated_writes)
{
    // What the hypervisor writes on the guest's behalf: INS, and MOVS from a device.
    World w(KVM_MEM_LOG_DIRTY_PAGES);
    kvm_regs r = fresh_regs();
    r.rdx = PORT_OUT;
    r.rdi = kArea + 5 * kPage - 2; // four bytes in two pages
    r.rcx = 4;
    start(w.g, CODE(64, "rep insb; hlt"), r);
    for (int exits = 0; exits < 5; exits++) {
        REQUIRE_OK(w.g.vcpu.enter());
        if (w.g.vcpu.run->exit_reason == KVM_EXIT_HLT)
            break;
        REQUIRE_EQ(w.g.vcpu.run->exit_reason, KVM_EXIT_IO);
        memset(w.g.vcpu.io_data(), 0x55, w.g.vcpu.run->io.count);
    }
    EXPECT_EQ(w.g.vcpu.run->exit_reason, KVM_EXIT_HLT);
    EXPECT_EQ(*reinterpret_cast<uint32_t *>(w.area + 5 * kPage - 2), 0x55555555);
    EXPECT_PAGES(w.dirty(), pages_if([](uint64_t page) { return page == 4 || page == 5; }));

    r = fresh_regs();
    r.rsi = G_MMIO;
    r.rdi = kArea + 9 * kPage;
    start(w.g, CODE(64, "movsd; hlt"), r);
    EXPECT_MMIO_READ(w.g.vcpu, G_MMIO, 4, 0x12345678);
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(*reinterpret_cast<uint32_t *>(w.area + 9 * kPage), 0x12345678);
    EXPECT_PAGES(w.dirty(), pages_if([](uint64_t page) { return page == 9; }));
}

TEST(dirty_manual_protection)
{
    World w;
    if (!(w.device.extension(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
          KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE))
        test::skip("no manual protection");
    w.write(everything());
    REQUIRE_OK(
        w.g.vm.enable_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE));
    w.log();
    EXPECT_PAGES(w.dirty(), kNone);
    w.write(pattern());
    EXPECT_PAGES(w.dirty(), pattern());
    EXPECT_PAGES(w.dirty(), pattern());
    w.clear(128, 64, everything());
    Pages left =
        pages_if([](uint64_t page) { return pattern().has(page) && (page < 128 || page >= 192); });
    EXPECT_PAGES(w.dirty(), left);
    Pages again = pages_if([](uint64_t page) { return page == 130 || page == 191; });
    w.write(again);
    left.add(130);
    left.add(191);
    EXPECT_PAGES(w.dirty(), left);
    w.clear(0, kAreaPages, everything());
    EXPECT_PAGES(w.dirty(), kNone);
    w.write(pattern());
    EXPECT_PAGES(w.dirty(), pattern());
}

TEST(dirty_initially_set)
{
    World w;
    constexpr int kBoth = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
    if (w.device.extension(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) != kBoth)
        test::skip("no such option");
    want_huge_pages(w.area, 2 * kHuge);
    w.write(everything());
    REQUIRE_OK(w.g.vm.enable_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, kBoth));
    w.log();
    EXPECT_PAGES(w.dirty(), everything());
    w.clear(0, 512, everything());
    Pages expected = pages_if([](uint64_t page) { return page >= 512; });
    EXPECT_PAGES(w.dirty(), expected);
    w.write(pages_if([](uint64_t page) { return page % 100 == 0; }));
    for (uint64_t page = 0; page < 512; page += 100)
        expected.add(page);
    EXPECT_PAGES(w.dirty(), expected);
    w.clear(0, kAreaPages, everything());
    w.write(pattern());
    EXPECT_PAGES(w.dirty(), pattern());
}

TEST(dirty_read_only_slot)
{
    World w;
    REQUIRE_OK(w.g.vm.set_slot(1, 0, 0, nullptr));
    w.set_flags(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY);
    w.read(pattern());
    EXPECT_PAGES(w.dirty(), kNone);
    kvm_regs r = fresh_regs();
    r.rdi = kArea + 7 * kPage;
    r.rax = 0x77;
    start(w.g, CODE(64, "mov [rdi], eax; hlt"), r);
    EXPECT_MMIO_WRITE(w.g.vcpu, kArea + 7 * kPage, 4, 0x77);
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    EXPECT_PAGES(w.dirty(), kNone);
    EXPECT_EQ(w.area[7 * kPage], 0);
}

TEST(dirty_slot_moves)
{
    World w(KVM_MEM_LOG_DIRTY_PAGES);
    w.write(pattern());
    // The bitmap goes with the slot, to 2 MiB further up.
    REQUIRE_OK(w.g.vm.set_slot(1, kArea + kHuge, kAreaSize, w.area, KVM_MEM_LOG_DIRTY_PAGES));
    kvm_regs r = fresh_regs();
    r.rdi = kArea + kHuge + kPage;
    start(w.g, CODE(64, "mov [rdi], eax; hlt"), r);
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    Pages expected = pattern();
    expected.add(1);
    EXPECT_PAGES(w.dirty(), expected);
}

TEST_LIMIT(dirty_while_the_guest_runs, 60)
{
    // As in a migration: copy what is dirty, again and again, while the guest writes. In the end
    // the copy must be equal. The guest goes through its pages by a generator of its own, with
    // interrupts enabled and without exits.
    World w;
    kvm_regs r = fresh_regs(0x202);
    r.rdi = kArea;
    r.rbx = G_DATA;
    r.rax = 1;
    start(w.g,
          CODE(64, "1: imul rax, rax, 1103515245; add rax, 12345; mov rdx, rax; shr rdx, 20; "
                   "and edx, 1023; shl edx, 12; inc dword ptr [rdi + rdx + 64]; "
                   "inc dword ptr [rbx + 8]; cmp dword ptr [rbx], 0; je 1b; hlt"),
          r);
    pthread_t thread;
    static bool failed;
    failed = false;
    REQUIRE_EQ(pthread_create(
                   &thread, nullptr,
                   [](void *arg) -> void * {
                       Vcpu &vcpu = static_cast<World *>(arg)->g.vcpu;
                       failed = vcpu.enter() != 0 || vcpu.run->exit_reason != KVM_EXIT_HLT;
                       return nullptr;
                   },
                   &w),
               0);
    volatile uint32_t *counter = &w.g.memory.at<uint32_t>(G_DATA + 8);
    auto let_it_run = [&] {
        uint32_t before = *counter;
        EXPECT(test::soon([&] { return *counter - before >= 200 || failed; }));
    };
    let_it_run();
    w.log();
    Memory copy(kAreaSize);
    memcpy(copy.base, w.area, kAreaSize);
    auto copy_dirty = [&] {
        Pages pages = w.dirty();
        for (uint64_t page = 0; page < kAreaPages; page++)
            if (pages.has(page))
                memcpy(copy.base + page * kPage, w.area + page * kPage, kPage);
        return pages.count();
    };
    unsigned copied = 0;
    for (int round = 0; round < 20; round++) {
        let_it_run();
        copied += copy_dirty();
    }
    EXPECT(copied > 0);
    w.g.memory.at<uint32_t>(G_DATA) = 1;
    pthread_join(thread, nullptr);
    EXPECT(!failed);
    copy_dirty();
    EXPECT_EQ(memcmp(copy.base, w.area, kAreaSize), 0);
}
