// SPDX-License-Identifier: GPL-2.0-only
//
// Page tables that no honest guest would make. What they must not do: hurt the host, hang it, take
// its memory, or give the guest what is not its own.
#include "tables.hpp"

namespace {

// Where a guest may end that lost its tables: the CPU reads what is no memory, and so it is told.
bool is_an_end(uint32_t reason)
{
    return reason == KVM_EXIT_SHUTDOWN || reason == KVM_EXIT_INTERNAL_ERROR ||
           reason == KVM_EXIT_MMIO;
}

} // namespace

// MOV to CR3 with each bit that no address has: #GP(0), and CR3 stays (SDM Vol. 3A, 4.5.2).
TEST(hostile_root_beyond_the_address_width)
{
    Device device;
    Cpuid list;
    Cpuid::supported(device, list);
    const kvm_cpuid_entry2 *sizes = list.find(0x80000008);
    REQUIRE(sizes);
    const Blob code = CODE(64, "mov cr3, rax\n hlt");
    Guest g(device, Mode::kLong, code);
    for (unsigned bit = sizes->eax & 0xff; bit < 64; bit++) {
        start(g, code, regs_with(G_TABLES | 1ull << bit));
        g.resume_at(G_CODE + 3);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        REQUIRE_EQ(g.log_count(), 1u);
        EXPECT_EQ(g.log(0).vector, 13u);
        EXPECT_EQ(g.vcpu.sregs().cr3, uint64_t{G_TABLES});
    }
}

// A root where no memory is: by the guest, by the client.
TEST(hostile_root_outside_memory)
{
    Device device;
    const Blob code = CODE(64, "mov cr3, rax\n mov eax, [rbx]\n hlt");
    for (uint64_t root : {kOutside, uint64_t{G_MMIO}}) {
        Guest g(device, Mode::kLong, code);
        start(g, code, regs_with(root, kVirtual));
        REQUIRE_EQ(g.vcpu.enter(), 0);
        EXPECT(is_an_end(g.vcpu.run->exit_reason));
        Guest by_client(device, Mode::kLong, code);
        kvm_sregs s = by_client.vcpu.sregs();
        s.cr3 = root;
        by_client.vcpu.set(s);
        REQUIRE_EQ(by_client.vcpu.enter(), 0);
        EXPECT(is_an_end(by_client.vcpu.run->exit_reason));
    }
}

// Entries of each level that lead out of memory; afterwards the same guest with good tables.
TEST(hostile_tables_outside_memory)
{
    Device device;
    const Blob code = CODE(64, "mov eax, [rbx]\n out 0x10, eax\n hlt");
    for (uint64_t where : {kOutside, uint64_t{G_MMIO}})
        for (uint64_t entry : {G_TABLES + uint64_t{8}, kPdpt + 8, kPd + 8}) {
            Guest g(device, Mode::kLong, code);
            map_virtual(g);
            const uint64_t good = g.memory.at<uint64_t>(entry);
            g.memory.at<uint64_t>(entry) = where | kPresentWrite;
            start(g, code, regs_with(0, kVirtual));
            g.resume_at(G_CODE + 4); // HLT
            REQUIRE_EQ(g.vcpu.enter(), 0);
            if (g.log_count()) {
                EXPECT_EQ(g.log(0).vector, 14u);
                EXPECT_EQ(g.log(0).cr2, kVirtual);
            } else
                EXPECT(is_an_end(g.vcpu.run->exit_reason));
            g.memory.at<uint64_t>(entry) = good;
            Vcpu second(device, g.vm, 1);
            g.set_cpuid(second);
            g.enter_mode(second, 0x202);
            second.set(regs_with(0, kVirtual));
            EXPECT_REPORT(second, 0xaaaaaaaa);
        }
}

// A page that is root and every table below it at once: 512 entries that lead to itself.
TEST(hostile_one_page_is_all_tables)
{
    Device device;
    // The root's entry 0 has to be the guest's own; the others are the page itself.
    const Blob code = CODE(64, "1: mov rax, [rbx]\n"
                               "add rdx, rax\n"
                               "add rbx, rsi\n"
                               "dec rcx\n"
                               "jnz 1b\n"
                               "mov eax, edx\n"
                               "out 0x10, eax\n"
                               "hlt");
    Guest g(device, Mode::kLong, code);
    constexpr uint64_t kItself = G_TABLES | kPresentWrite | 0x60; // accessed and dirty
    for (unsigned i = 1; i < 512; i++)
        g.memory.at<uint64_t>(G_TABLES + 8 * i) = kItself;
    // All indices odd, so that none is 0, and the last word of the page.
    kvm_regs r = regs_with(0, 0x8040201ff8);
    r.rcx = 2000;
    r.rsi = 0x2000; // the level-1 index: 1, 3, ...
    start(g, code, r);
    uint64_t sum = 0, steps = 0;
    for (uint64_t at = r.rbx; steps < r.rcx; at += r.rsi, steps++) {
        // Entry 0 at a level leads elsewhere: what is read there is the guest's own table.
        uint64_t table = G_TABLES;
        for (unsigned shift : {39, 30, 21, 12})
            table = g.memory.at<uint64_t>(table + 8 * (at >> shift & 511)) & 0xffffffffff000;
        sum += g.memory.at<uint64_t>(table + 0xff8);
    }
    EXPECT_REPORT(g.vcpu, static_cast<uint32_t>(sum));
}

// Tables in a slot that goes away under the guest, and comes back.
TEST(hostile_tables_in_a_slot_that_goes)
{
    Device device;
    const Blob code = CODE(64, "mov eax, [rbx]\n out 0x10, eax\n hlt");
    constexpr uint64_t kSlot = 0x40000000;
    Guest g(device, Mode::kLong, code);
    Memory tables(4 * kPage);
    g.memory.at<uint64_t>(G_TABLES + 8) = kSlot | kPresentWrite;
    tables.at<uint64_t>(8) = (kSlot + 0x1000) | kPresentWrite;
    tables.at<uint64_t>(0x1008) = (kSlot + 0x2000) | kPresentWrite;
    tables.at<uint64_t>(0x2008) = kPageA | kPresentWrite;
    g.memory.at<uint32_t>(kPageA) = 0xaaaaaaaa;
    for (unsigned round = 0; round < 20; round++) {
        REQUIRE_OK(g.vm.set_slot(1, kSlot, tables.size, tables.base));
        start(g, code, regs_with(0, kVirtual));
        EXPECT_REPORT(g.vcpu, 0xaaaaaaaa);
        REQUIRE_OK(g.vm.set_slot(1, kSlot, 0, tables.base));
        start(g, code, regs_with(0, kVirtual));
        g.resume_at(G_CODE + 4);
        REQUIRE_EQ(g.vcpu.enter(), 0);
        if (g.vcpu.run->exit_reason == KVM_EXIT_SHUTDOWN || g.log_count() == 0)
            break; // this guest is lost
    }
    EXPECT(g.log_count() || is_an_end(g.vcpu.run->exit_reason));
}

namespace {

// What the kernel has left, in KiB.
long free_memory()
{
    FILE *file = fopen("/proc/meminfo", "re");
    REQUIRE(file);
    char line[128];
    long value = -1;
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "MemFree: %ld", &value) == 1)
            break;
    fclose(file);
    return value;
}

} // namespace

// A guest that makes address spaces as fast as it can: 16 K of tables. They stay right, old ones
// too, and the host's memory for them is bounded.
TEST_LIMIT(hostile_flood_of_tables, 300)
{
    constexpr uint64_t kBase = 0x1000000, kSize = 64 << 20, kSpaces = kSize / 0x4000;
    constexpr unsigned kPages = 200;
    Device device;
    // A round over all spaces: makes them if rsi is 1; reads through each of them.
    const Blob code = CODE(64, "1: test esi, esi\n"
                               "jz 2f\n"
                               "mov rax, [0x3000]\n"
                               "mov [rdi], rax\n"
                               "lea rax, [rdi + 0x1003]\n"
                               "mov [rdi + 8], rax\n"
                               "lea rax, [rdi + 0x2003]\n"
                               "mov [rdi + 0x1008], rax\n"
                               "lea rax, [rdi + 0x3003]\n"
                               "mov [rdi + 0x2008], rax\n"
                               "lea rax, [rdi + 3]\n" // the page is the space's own root
                               "mov [rdi + 0x3008], rax\n"
                               "mov [rdi + 0xff8], rdi\n"
                               "2: mov cr3, rdi\n"
                               "cmp [rbx + 0xff8], rdi\n"
                               "jne 9f\n"
                               "add rdi, 0x4000\n"
                               "dec rcx\n"
                               "jnz 1b\n"
                               "mov eax, 1\n"
                               "9: out 0x10, eax\n"
                               "hlt");
    Guest g(device, Mode::kLong, code);
    Memory spaces(kSize);
    memset(spaces.base, 0, kSize);
    REQUIRE_OK(g.vm.set_slot(1, kBase, kSize, spaces.base));
    REQUIRE_OK(call(g.vm, KVM_SET_NR_MMU_PAGES, kPages));
    EXPECT_EQ(call(g.vm, KVM_GET_NR_MMU_PAGES), int{kPages});
    for (uint64_t at = 0; at < kSize; at += 0x200000)
        g.memory.at<uint64_t>(G_TABLES + 0x2000 + 8 * ((kBase + at) >> 21)) =
            (kBase + at) | kPresentWrite | guest::kLarge;
    for (bool make : {true, false}) {
        const long before = free_memory();
        kvm_regs r = regs_with(0, kVirtual);
        r.rdi = kBase;
        r.rcx = kSpaces;
        r.rsi = make;
        start(g, code, r);
        EXPECT_REPORT(g.vcpu, 1);
        // Each shadow page with what belongs to it, and what else the kernel may have taken.
        const long taken = before - free_memory();
        if (taken > long{kPages} * 16 + 6 * 1024)
            test::fail(__FILE__, __LINE__, "%ld KiB for %u shadow pages", taken, kPages);
    }
}
