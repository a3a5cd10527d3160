// SPDX-License-Identifier: GPL-2.0-only
//
// A page of 1 GiB under the guest, seen by what it saves: all of it is there after one EPT
// violation, unless code runs in it where no large page may hold code.
#include "trace_test.hpp"

#include <sys/mman.h>

#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB (30 << 26)
#endif

namespace {

constexpr uint64_t kGiB = 1 << 30, kArea = kGiB;

struct HugePage {
    void *mapped = mmap(nullptr, kGiB, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB, -1, 0);
    HugePage()
    {
        if (mapped == MAP_FAILED)
            test::skip("no page of 1 GiB is to be had (hugepagesz=1G hugepages=1)");
    }
    ~HugePage() { munmap(mapped, kGiB); }
    HugePage(const HugePage &) = delete;
    HugePage &operator=(const HugePage &) = delete;
    uint32_t &word(uint64_t offset)
    {
        return *reinterpret_cast<uint32_t *>(static_cast<uint8_t *>(mapped) + offset);
    }
};

Blob halt()
{
    return CODE(64, "hlt");
}

// A guest with the page at kArea, which its own page tables map in one piece, too.
struct World {
    Device device;
    HugePage page;
    Guest g{device, Mode::kLong, halt()};

    World()
    {
        page.word(0) = 1;
        g.memory.at<uint64_t>(G_TABLES + kPage + 8) = kArea | guest::kLarge | 3;
        REQUIRE_OK(g.vm.set_slot(1, kArea, kGiB, page.mapped));
        // What the guest needs of its other memory is there.
        ENTER(g.vcpu, KVM_EXIT_HLT);
    }
    uint64_t violations() const
    {
        const Counters exits = counters("0/0/exits");
        const auto found = exits.find("EPT_VIOLATION");
        return found == exits.end() ? 0 : found->second;
    }
};

bool large_pages_may_not_hold_code()
{
    const bool has_bug = read_file("/proc/cpuinfo").find("itlb_multihit") != std::string::npos;
    const std::string other = read_file("/sys/devices/system/cpu/vulnerabilities/spectre_v1");
    return has_bug && other.compare(0, 10, "Mitigation") == 0;
}

} // namespace

// The host clears the page first, which takes its time.
TEST_LIMIT(large_pages_one_violation_for_1g, 300)
{
    World w;
    kvm_regs r = fresh_regs();
    r.rdi = kArea;
    r.rcx = 512;
    start(w.g, CODE(64, "1: mov [rdi], ecx; add rdi, 0x200000; dec ecx; jnz 1b; hlt"), r);
    const uint64_t before = w.violations();
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(w.violations() - before, 1);
    for (uint32_t i = 0; i < 512; i++)
        EXPECT_EQ(w.page.word(uint64_t{i} << 21), 512 - i);
}

TEST_LIMIT(large_pages_and_code, 300)
{
    World w;
    kvm_regs r = fresh_regs();
    r.rdi = kArea;
    start(w.g, CODE(64, "mov [rdi], ecx; hlt"), r);
    ENTER(w.g.vcpu, KVM_EXIT_HLT);
    const uint64_t before = w.violations();
    for (uint64_t offset : {0x3000ULL, 0x20003000ULL, 0x3fe03000ULL}) {
        memcpy(&w.page.word(offset), "\x0f\xa2\xf4", 3); // CPUID, HLT
        kvm_regs there = fresh_regs();
        there.rip = kArea + offset;
        w.g.vcpu.set(there);
        ENTER(w.g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(w.g.vcpu.regs().rip, kArea + offset + 3);
    }
    const uint64_t more = w.violations() - before;
    if (large_pages_may_not_hold_code())
        EXPECT(more >= 3); // each place became small pages
    else
        EXPECT_EQ(more, 0);
}
