// SPDX-License-Identifier: GPL-2.0-only
//
// Guests with more page tables than a hypervisor without EPT may keep copies of: what was made of
// them goes and comes again, and nothing that the guest sees depends on it. With EPT the same
// guests run on their tables directly.
#include "guest_test.hpp"

#include <string>

namespace {

// A second slot is full of page tables: each maps one page, the same page for all of them, every 2
// MiB from kWindow on.
constexpr uint64_t kTables = 16 << 20, kWindow = uint64_t{1} << 39, kStep = 2 << 20;
constexpr unsigned kCount = 1024;
constexpr uint64_t kEntry = guest::kPresent | guest::kWrite;

class ManyTables {
  public:
    ManyTables() : g(device, Mode::kLong, CODE(64, "hlt")), tables_((kCount + 3) * kPage)
    {
        REQUIRE_OK(g.vm.set_slot(1, kTables, tables_.size, tables_.base));
        // kCount tables, two page directories, and the directory-pointer table above them.
        const uint64_t directories = kTables + kCount * kPage, pdpt = directories + 2 * kPage;
        for (unsigned i = 0; i < kCount; i++) {
            entry(kTables + i * kPage) = G_DATA | kEntry;
            entry(directories + 8 * i) = (kTables + i * kPage) | kEntry;
        }
        entry(pdpt) = directories | kEntry;
        entry(pdpt + 8) = (directories + kPage) | kEntry;
        g.memory.at<uint64_t>(G_TABLES + 8) = pdpt | kEntry;
        g.memory.at<uint64_t>(G_DATA) = 3;
        g.memory.at<uint64_t>(G_FREE) = 4;
    }
    static constexpr uint64_t kPage = kvm::kPage;

    // The entry at a guest-physical address in the second slot.
    uint64_t &entry(uint64_t gpa)
    {
        return *reinterpret_cast<uint64_t *>(tables_.base + (gpa - kTables));
    }
    // The guest reads through every table, and adds up.
    uint64_t sum()
    {
        kvm_regs r = fresh_regs();
        r.rbx = kWindow;
        r.rcx = kCount;
        r.rdx = kStep;
        start(g,
              CODE(64, "mov rax, cr3; mov cr3, rax; xor eax, eax\n"
                       "1: add rax, [rbx]; add rbx, rdx; dec ecx; jnz 1b; hlt"),
              r);
        if (!enter_until(__LINE__, g.vcpu, KVM_EXIT_HLT))
            test::leave();
        return g.vcpu.regs().rax;
    }

    Device device;
    Guest g;

  private:
    kvm::Memory tables_;
};

// A number of the VM's `memory` file in debugfs; -1: kvm_intel has none, or debugfs isn't there.
long debugfs_number(const char *name)
{
    const std::string path = "/sys/kernel/debug/minivmx/" + std::to_string(getpid()) + "/0/memory";
    FILE *file = fopen(path.c_str(), "r");
    if (!file)
        return -1;
    char word[64];
    long value = -1, found = -1;
    while (fscanf(file, "%63s %ld", word, &value) == 2) {
        if (strcmp(word, name) == 0)
            found = value;
    }
    fclose(file);
    return found;
}

// Writes to a file of the kernel; false: it isn't there, or not for us.
bool tell_kernel(const char *path, const char *text)
{
    Fd file(open(path, O_WRONLY));
    return file.get() >= 0 &&
           write(file.get(), text, strlen(text)) == static_cast<ssize_t>(strlen(text));
}

} // namespace

TEST(shadow_more_tables_than_allowed)
{
    ManyTables m;
    REQUIRE_OK(kvm::call(m.g.vm, KVM_SET_NR_MMU_PAGES, 64UL));
    for (unsigned round = 0; round < 3; round++) {
        EXPECT_EQ(m.sum(), 3 * kCount);
        EXPECT(debugfs_number("shadow_pages") <= 64);
    }
    // Fewer are allowed while there are more.
    REQUIRE_OK(kvm::call(m.g.vm, KVM_SET_NR_MMU_PAGES, 2000UL));
    EXPECT_EQ(m.sum(), 3 * kCount);
    REQUIRE_OK(kvm::call(m.g.vm, KVM_SET_NR_MMU_PAGES, 100UL));
    EXPECT(debugfs_number("shadow_pages") <= 100);
    EXPECT_EQ(m.sum(), 3 * kCount);
}

TEST(shadow_tables_change_behind_copies_that_went)
{
    // A table whose copy went and one whose copy stayed: the guest's changes count in both.
    ManyTables m;
    REQUIRE_OK(kvm::call(m.g.vm, KVM_SET_NR_MMU_PAGES, 64UL));
    EXPECT_EQ(m.sum(), 3 * kCount);
    for (unsigned i = 0; i < kCount; i += 2)
        m.entry(kTables + i * m.kPage) = G_FREE | kEntry;
    EXPECT_EQ(m.sum(), 3 * kCount + kCount / 2);
    for (unsigned i = 0; i < kCount; i += 2)
        EXPECT_EQ(m.entry(kTables + i * m.kPage) & 0x20, 0x20); // accessed
}

TEST(shadow_given_back_to_the_kernel)
{
    // The kernel asks every cache for its memory: shadow tables go, and the guest goes on.
    ManyTables m;
    REQUIRE_OK(kvm::call(m.g.vm, KVM_SET_NR_MMU_PAGES, 2000UL));
    EXPECT_EQ(m.sum(), 3 * kCount);
    const long before = debugfs_number("shadow_pages");
    for (unsigned i = 0; i < 8; i++) {
        if (!tell_kernel("/proc/sys/vm/drop_caches", "2"))
            test::skip("no right to write /proc/sys/vm/drop_caches");
    }
    if (before > 0) {
        EXPECT(before >= static_cast<long>(kCount));
        EXPECT(debugfs_number("shadow_pages") < before / 2);
    }
    EXPECT_EQ(m.sum(), 3 * kCount);
}
