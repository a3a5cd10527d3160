// SPDX-License-Identifier: GPL-2.0-only
//
// Guest memory that changes under the guest: the guest must see what its process sees, always.
#include <sys/syscall.h>

#include "guest_test.hpp"

namespace {

constexpr uint64_t kArea =
    0x40000000; // mapped by the tests below, in the first GiB's neighbour: see map_area()
constexpr size_t kAreaSize = 64 * kPage;

// Maps 2 MiB at kArea to itself in the guest's page tables.
void map_area(Guest &g)
{
    g.memory.at<uint64_t>(G_TABLES + kPage + 8) = (0x1f0000) | 3;
    g.memory.at<uint64_t>(0x1f0000) = kArea | guest::kLarge | 3;
}

// Reads, or writes, one word of the guest's memory by the guest itself.
uint32_t guest_read(Guest &g, uint64_t address)
{
    kvm_regs r = fresh_regs();
    r.rsi = address;
    start(g, CODE(64, "mov eax, [rsi]; hlt"), r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    return static_cast<uint32_t>(g.vcpu.regs().rax);
}

void guest_write(Guest &g, uint64_t address, uint32_t value)
{
    kvm_regs r = fresh_regs();
    r.rsi = address;
    r.rax = value;
    start(g, CODE(64, "mov [rsi], eax; hlt"), r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

Blob halt()
{
    return CODE(64, "hlt");
}

struct World {
    Device device;
    Guest g{device, Mode::kLong, halt()};
    Memory area{kAreaSize};
    World()
    {
        map_area(g);
        REQUIRE_OK(g.vm.set_slot(1, kArea, kAreaSize, area.base));
    }
    uint32_t &word(uint64_t page) { return area.at<uint32_t>(page * kPage); }
    uint32_t read(uint64_t page) { return guest_read(g, kArea + page * kPage); }
    void write(uint64_t page, uint32_t value) { guest_write(g, kArea + page * kPage, value); }
};

} // namespace

TEST(memory_both_see_the_same)
{
    World w;
    for (uint32_t page = 0; page < 8; page++) {
        w.word(page) = 100 + page;
        EXPECT_EQ(w.read(page), 100 + page);
        w.write(page, 200 + page);
        EXPECT_EQ(w.word(page), 200 + page);
    }
    // Pages the host has never touched read as zero, and can be written first by the guest.
    EXPECT_EQ(w.read(20), 0);
    w.write(21, 5);
    EXPECT_EQ(w.word(21), 5);
}

TEST(memory_dontneed)
{
    World w;
    w.write(3, 77);
    REQUIRE_OK(madvise(w.area.base, kAreaSize, MADV_DONTNEED));
    EXPECT_EQ(w.read(3), 0);
    w.write(3, 78);
    EXPECT_EQ(w.word(3), 78);
}

TEST(memory_mapped_anew)
{
    World w;
    w.write(0, 1);
    REQUIRE_OK(munmap(w.area.base, kAreaSize));
    // Gone: the access fails with -EFAULT, and nothing of the old page is seen.
    kvm_regs r = fresh_regs();
    r.rsi = kArea;
    start(w.g, CODE(64, "mov eax, [rsi]; hlt"), r);
    EXPECT_ERRNO(w.g.vcpu.enter(), EFAULT);
    void *again = mmap(w.area.base, kAreaSize, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    REQUIRE(again == w.area.base);
    w.word(0) = 2;
    ENTER(w.g.vcpu, KVM_EXIT_HLT); // the same instruction once more
    EXPECT_EQ(w.g.vcpu.regs().rax, 2);
}

TEST(memory_remapped)
{
    // mremap moves the page away; another one comes to its place.
    World w;
    w.word(0) = 0xaaaa;
    w.word(1) = 0xbbbb;
    EXPECT_EQ(w.read(0), 0xaaaa);
    EXPECT_EQ(w.read(1), 0xbbbb);
    Memory elsewhere(2 * kPage);
    void *moved = mremap(w.area.base, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere.base);
    REQUIRE(moved == elsewhere.base);
    moved = mremap(w.area.base + kPage, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, w.area.base);
    REQUIRE(moved == w.area.base);
    EXPECT_EQ(w.read(0), 0xbbbb);
    w.write(0, 0xcccc);
    EXPECT_EQ(w.word(0), 0xcccc);
    EXPECT_EQ(elsewhere.at<uint32_t>(0), 0xaaaa);
}

TEST(memory_copy_on_write)
{
    // After fork the pages are shared: the first writer gets a copy. The guest must end up with its
    // process's.
    World w;
    w.word(0) = 1;
    w.word(1) = 1;
    EXPECT_EQ(w.read(0), 1);
    w.write(1, 1);
    int go[2], done[2];
    REQUIRE_OK(pipe(go));
    REQUIRE_OK(pipe(done));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        (void)!read(go[0], &byte, 1);
        // What the guest wrote after the fork is not seen here.
        bool fine = w.word(0) == 1 && w.word(1) == 1 && w.word(2) == 0;
        w.word(0) = 99;
        (void)!write(done[1], "x", 1);
        _exit(fine ? 0 : 1);
    }
    w.write(0, 2); // by the guest
    w.word(1) = 2; // by the process
    w.write(2, 2);
    EXPECT_EQ(w.word(0), 2);
    EXPECT_EQ(w.read(1), 2);
    (void)!write(go[1], "x", 1);
    char byte;
    (void)!read(done[0], &byte, 1);
    EXPECT_EQ(w.read(0), 2);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(w.read(0), 2);
    w.write(0, 3);
    EXPECT_EQ(w.word(0), 3);
}

TEST(memory_zero_page)
{
    // A private page that was only read is the kernel's zero page; writing gets a page of its own.
    World w;
    EXPECT_EQ(w.read(5), 0);
    EXPECT_EQ(*const_cast<volatile uint32_t *>(&w.word(5)), 0);
    w.write(5, 9);
    EXPECT_EQ(w.word(5), 9);
    w.word(6) = 8;
    EXPECT_EQ(w.read(6), 8);
    EXPECT_EQ(w.read(7), 0);
    w.word(7) = 7; // by the process, after the guest has mapped the zero page
    EXPECT_EQ(w.read(7), 7);
}

TEST(memory_read_only_mapping)
{
    // The host's mapping is read-only: the guest may read; its write answers -EFAULT, and works
    // once it is allowed.
    World w;
    w.word(0) = 5;
    REQUIRE_OK(mprotect(w.area.base, kAreaSize, PROT_READ));
    EXPECT_EQ(w.read(0), 5);
    kvm_regs r = fresh_regs();
    r.rsi = kArea;
    r.rax = 6;
    start(w.g, CODE(64, "mov [rsi], eax; hlt"), r);
    EXPECT_ERRNO(w.g.vcpu.enter(), EFAULT);
    EXPECT_EQ(w.word(0), 5);
    REQUIRE_OK(mprotect(w.area.base, kAreaSize, PROT_READ | PROT_WRITE));
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(w.word(0), 6);
}

TEST(memory_protected_while_mapped)
{
    // The guest has the page writable; then the host takes the right away.
    World w;
    w.write(0, 5);
    REQUIRE_OK(mprotect(w.area.base, kAreaSize, PROT_READ));
    kvm_regs r = fresh_regs();
    r.rsi = kArea;
    r.rax = 6;
    start(w.g, CODE(64, "mov [rsi], eax; hlt"), r);
    EXPECT_ERRNO(w.g.vcpu.enter(), EFAULT);
    EXPECT_EQ(w.word(0), 5);
    EXPECT_EQ(w.read(0), 5);
    REQUIRE_OK(mprotect(w.area.base, kAreaSize, PROT_NONE));
    start(w.g, CODE(64, "mov eax, [rsi]; hlt"), r);
    EXPECT_ERRNO(w.g.vcpu.enter(), EFAULT);
}

TEST(memory_shared_file)
{
    // Memory of a memfd, mapped twice; a hole punched into it; the file made shorter.
    World w;
    Fd file(memfd_create("guest", 0));
    REQUIRE_OK(ftruncate(file.get(), 4 * kPage));
    auto *shared = static_cast<uint32_t *>(mmap(w.area.base, 4 * kPage, PROT_READ | PROT_WRITE,
                                                MAP_SHARED | MAP_FIXED, file.get(), 0));
    REQUIRE(shared != MAP_FAILED);
    auto *second =
        static_cast<uint32_t *>(mmap(nullptr, 4 * kPage, PROT_READ, MAP_SHARED, file.get(), 0));
    REQUIRE(second != MAP_FAILED);
    w.write(1, 11);
    EXPECT_EQ(second[1024], 11);
    REQUIRE_OK(fallocate(file.get(), 3 /* KEEP_SIZE | PUNCH_HOLE */, kPage, kPage));
    EXPECT_EQ(w.read(1), 0);
    w.write(1, 12);
    EXPECT_EQ(second[1024], 12);
    REQUIRE_OK(ftruncate(file.get(), kPage));
    kvm_regs r = fresh_regs();
    r.rsi = kArea + kPage;
    start(w.g, CODE(64, "mov eax, [rsi]; hlt"), r);
    EXPECT_ERRNO(w.g.vcpu.enter(), EFAULT);
    REQUIRE_OK(ftruncate(file.get(), 4 * kPage));
    EXPECT_EQ(w.read(1), 0);
}

TEST(memory_slot_deleted)
{
    World w;
    w.write(0, 1);
    REQUIRE_OK(w.g.vm.set_slot(1, 0, 0, nullptr));
    kvm_regs r = fresh_regs();
    r.rsi = kArea;
    start(w.g, CODE(64, "mov eax, [rsi]; mov [rsi + 4], eax; hlt"), r);
    EXPECT_MMIO_READ(w.g.vcpu, kArea, 4, 0x55);
    EXPECT_MMIO_WRITE(w.g.vcpu, kArea + 4, 4, 0x55);
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(w.word(0), 1);
    // And back, with other memory.
    Memory other(kPage);
    other.at<uint32_t>(0) = 42;
    REQUIRE_OK(w.g.vm.set_slot(1, kArea, kPage, other.base));
    EXPECT_EQ(w.read(0), 42);
    start(w.g, CODE(64, "mov eax, [rsi]; hlt"), [] {
        kvm_regs q = fresh_regs();
        q.rsi = kArea + kPage;
        return q;
    }());
    EXPECT_MMIO_READ(w.g.vcpu, kArea + kPage, 4, 1);
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    REQUIRE_OK(w.g.vm.set_slot(1, 0, 0, nullptr)); // before `other` goes
}

TEST(memory_slot_moved)
{
    World w;
    w.word(0) = 7;
    EXPECT_EQ(w.read(0), 7);
    REQUIRE_OK(w.g.vm.set_slot(1, kArea + 0x100000, kAreaSize, w.area.base));
    EXPECT_EQ(guest_read(w.g, kArea + 0x100000), 7);
    kvm_regs r = fresh_regs();
    r.rsi = kArea;
    start(w.g, CODE(64, "mov eax, [rsi]; hlt"), r);
    EXPECT_MMIO_READ(w.g.vcpu, kArea, 4, 8);
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(w.g.vcpu.regs().rax, 8);
}

TEST(memory_slots_side_by_side)
{
    // An access that straddles two slots with unrelated host memory; and host memory used by two
    // slots.
    World w;
    REQUIRE_OK(w.g.vm.set_slot(1, 0, 0, nullptr));
    REQUIRE_OK(w.g.vm.set_slot(1, kArea, kPage, w.area.base + 8 * kPage));
    REQUIRE_OK(w.g.vm.set_slot(2, kArea + kPage, kPage, w.area.base));
    REQUIRE_OK(w.g.vm.set_slot(3, kArea + 2 * kPage, kPage, w.area.base));
    guest_write(w.g, kArea + kPage - 2, 0x44332211);
    EXPECT_EQ(w.area.at<uint16_t>(9 * kPage - 2), 0x2211);
    EXPECT_EQ(w.area.at<uint16_t>(0), 0x4433);
    EXPECT_EQ(guest_read(w.g, kArea + 2 * kPage) & 0xffff, 0x4433);
}

TEST(memory_page_tables_in_slots)
{
    // The guest's own page tables move with their memory.
    World w;
    REQUIRE_OK(madvise(w.g.memory.base + G_FREE, kPage, MADV_DONTNEED));
    Memory copy(kPage);
    memcpy(copy.base, w.g.memory.base + G_TABLES, kPage);
    REQUIRE_OK(madvise(w.g.memory.base + G_TABLES, kPage, MADV_DONTNEED));
    memcpy(w.g.memory.base + G_TABLES, copy.base, kPage);
    w.word(0) = 3;
    EXPECT_EQ(w.read(0), 3);
}

TEST(memory_huge_pages)
{
    // Transparent huge pages below the guest: made, used, split.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    map_area(g);
    constexpr size_t kHuge = 2 << 20;
    Memory area(3 * kHuge);
    auto *aligned = reinterpret_cast<uint8_t *>((reinterpret_cast<uintptr_t>(area.base) + kHuge) &
                                                ~(kHuge - 1));
    if (!want_huge_pages(aligned, kHuge))
        test::skip("no transparent huge pages: %s", test::errno_name(errno));
    aligned[0] = 1;
    REQUIRE_OK(g.vm.set_slot(1, kArea, kHuge, aligned));
    for (uint64_t offset = 0; offset < kHuge; offset += kHuge / 8)
        guest_write(g, kArea + offset, static_cast<uint32_t>(offset + 1));
    for (uint64_t offset = 0; offset < kHuge; offset += kHuge / 8)
        EXPECT_EQ(*reinterpret_cast<uint32_t *>(aligned + offset), offset + 1);
    // One small page in the middle goes: it reads as zero, its neighbours stay.
    REQUIRE_OK(madvise(aligned + kHuge / 2, kPage, MADV_DONTNEED));
    EXPECT_EQ(guest_read(g, kArea + kHuge / 2), 0);
    EXPECT_EQ(guest_read(g, kArea + kHuge / 8), kHuge / 8 + 1);
    guest_write(g, kArea + kHuge / 2, 5);
    EXPECT_EQ(*reinterpret_cast<uint32_t *>(aligned + kHuge / 2), 5);
    // Code in such memory runs as well.
    memcpy(aligned + 0x3000, "\x0f\xa2\xf4", 3); // CPUID, HLT
    kvm_regs r = fresh_regs();
    r.rip = kArea + 0x3000;
    g.vcpu.set(r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rip, kArea + 0x3003);
}

TEST(memory_far_up)
{
    // Guest-physical addresses beyond 4 GiB and up to what 4-level paging and the CPU allow.
    World w;
    Memory page(kPage);
    for (uint64_t gpa : {1ULL << 32, 1ULL << 35}) {
        REQUIRE_OK(w.g.vm.set_slot(4, gpa, kPage, page.base));
        w.g.memory.at<uint64_t>(G_TABLES + 4 * kPage) = 0; // unused entry of the directory at 3 GiB
        w.g.memory.at<uint64_t>(0x1f0000 + 8) = (gpa & ~0x1fffffULL) | guest::kLarge | 3;
        guest_write(w.g, kArea + 0x200000 + (gpa & 0x1fffff), 0x1234);
        EXPECT_EQ(page.at<uint32_t>(0), 0x1234);
        page.at<uint32_t>(0) = 0;
        REQUIRE_OK(w.g.vm.set_slot(4, 0, 0, nullptr));
        // No TLB entry of the guest's may survive for the next turn.
        kvm_sregs s = w.g.vcpu.sregs();
        s.cr0 &= ~(1ULL << 31);
        s.efer = 0;
        s.cs.l = 0;
        w.g.vcpu.set(s);
        w.g.make_sregs(s);
        w.g.vcpu.set(s);
    }
}

TEST(memory_without_pages)
{
    // A mapping of physical addresses, which has no pages that could be held: the kernel's own
    // [vvar], which every process has. It may be read, not written.
    World w;
    unsigned long start_of_vvar = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[256];
    while (maps && fgets(line, sizeof(line), maps))
        if (strstr(line, "[vvar]"))
            start_of_vvar = strtoul(line, nullptr, 16);
    if (maps)
        fclose(maps);
    if (!start_of_vvar)
        test::skip("no [vvar]");
    auto *words = reinterpret_cast<volatile uint32_t *>(start_of_vvar);
    (void)words[0];
    REQUIRE_OK(w.g.vm.set_slot(1, 0, 0, nullptr));
    REQUIRE_OK(w.g.vm.set_slot(1, kArea, kPage, reinterpret_cast<void *>(start_of_vvar)));
    unsigned equal = 0, nonzero = 0;
    for (uint32_t word = 0; word < 128; word++) {
        uint32_t value = guest_read(w.g, kArea + 4 * word);
        equal += value == words[word]; // the clock's fields may move on in between
        nonzero += value != 0;
    }
    EXPECT(equal > 96);
    EXPECT(nonzero > 0);
    // As with a read-only slot.
    kvm_regs r = fresh_regs();
    r.rsi = kArea + 0xff0;
    r.rax = 0x1234;
    start(w.g, CODE(64, "mov [rsi], eax; mov eax, [rsi]; hlt"), r);
    EXPECT_MMIO_WRITE(w.g.vcpu, kArea + 0xff0, 4, 0x1234);
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(w.g.vcpu.regs().rax, words[0xff0 / 4]);
}

TEST(memory_swapped_out)
{
    // MADV_PAGEOUT, where there is swap, or MADV_COLD: the kernel ages the guest's pages without
    // harm.
    World w;
    for (uint32_t page = 0; page < 16; page++)
        w.write(page, page + 1);
    madvise(w.area.base, kAreaSize, MADV_COLD);
    madvise(w.area.base, kAreaSize, MADV_PAGEOUT);
    for (uint32_t page = 0; page < 16; page++)
        EXPECT_EQ(w.read(page), page + 1);
}
