// SPDX-License-Identifier: GPL-2.0-only
//
// CPUID, MSRs, control and debug registers as the guest sees them.
#include "guest_test.hpp"

namespace {

struct Values {
    uint32_t a, b, c, d;
};

Values guest_cpuid(Guest &g, uint32_t leaf, uint32_t subleaf)
{
    kvm_regs r = fresh_regs();
    r.rax = 0xffffffff00000000 | leaf; // the upper halves play no part, and are cleared
    r.rcx = 0xffffffff00000000 | subleaf;
    r.rbx = r.rdx = ~0ULL;
    start(g, CODE(64, "cpuid; hlt"), r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs after = g.vcpu.regs();
    EXPECT_EQ((after.rax | after.rbx | after.rcx | after.rdx) >> 32, 0);
    return {static_cast<uint32_t>(after.rax), static_cast<uint32_t>(after.rbx),
            static_cast<uint32_t>(after.rcx), static_cast<uint32_t>(after.rdx)};
}

void expect_cpuid(int line, Guest &g, uint32_t leaf, uint32_t subleaf, Values expected)
{
    Values got = guest_cpuid(g, leaf, subleaf);
    if (got.a != expected.a || got.b != expected.b || got.c != expected.c || got.d != expected.d)
        test::fail(__FILE__, line, "cpuid 0x%x.%u (expected %x %x %x %x, got %x %x %x %x)", leaf,
                   subleaf, expected.a, expected.b, expected.c, expected.d, got.a, got.b, got.c,
                   got.d);
}
#define EXPECT_CPUID(g, leaf, subleaf, ...)                                                        \
    expect_cpuid(__LINE__, g, leaf, subleaf, Values{__VA_ARGS__})

// RDMSR; returns false if it raised #GP.
bool read_msr(Guest &g, uint32_t msr, uint64_t &value)
{
    Blob code = CODE(64, "rdmsr; hlt; hlt");
    kvm_regs r = fresh_regs();
    r.rcx = 0xabcd'0000'0000ULL << 16 | msr;
    r.rax = r.rdx = ~0ULL;
    start(g, code, r);
    g.resume_at(G_CODE + code.size() - 1);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs after = g.vcpu.regs();
    if (g.log_count()) {
        EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
        EXPECT_EQ(after.rax & after.rdx, ~0ULL);
        return false;
    }
    EXPECT_EQ((after.rax | after.rdx) >> 32, 0);
    value = after.rdx << 32 | after.rax;
    return true;
}

bool write_msr(Guest &g, uint32_t msr, uint64_t value)
{
    Blob code = CODE(64, "wrmsr; hlt; hlt");
    kvm_regs r = fresh_regs();
    r.rcx = msr;
    r.rax = 0xffffffff00000000 | value;
    r.rdx = 0xffffffff00000000 | value >> 32;
    start(g, code, r);
    g.resume_at(G_CODE + code.size() - 1);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    if (g.log_count())
        EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
    return g.log_count() == 0;
}

} // namespace

TEST(cpuid_given_list)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    Vcpu second(device, g.vm, 1);
    Cpuid list;
    auto *entry = list.list->entries;
    *entry++ = {0, 0, 0, 4, 0x756e6547, 0x6c65746e, 0x49656e69, {}};
    *entry++ = {1, 0, 0, 0x111, 0x222, 0, 1u << 6 | 1u << 5, {}};
    *entry++ = {4, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, 0x401, 0x402, 0x403, 0x404, {}};
    *entry++ = {4, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, 0x411, 0x412, 0x413, 0x414, {}};
    *entry++ = {0x80000000, 0, 0, 0x80000008, 1, 2, 3, {}};
    *entry++ = {0x80000001, 0, 0, 0x81, 0x82, 0x83, 1u << 29 | 1u << 20 | 1u << 11, {}};
    *entry++ = {0x80000008, 0, 0, 0x3024, 0, 0, 0, {}};
    *entry++ = {0x40000000, 0, 0, 0x40000001, 0x41, 0x42, 0x43, {}};
    list.list->nent = static_cast<uint32_t>(entry - list.list->entries);
    REQUIRE_OK(call(second, KVM_SET_CPUID2, list.list));
    g.enter_mode(second);
    std::swap(g.vcpu, second);
    EXPECT_CPUID(g, 0, 0, 4, 0x756e6547, 0x6c65746e, 0x49656e69);
    EXPECT_CPUID(g, 0, 55, 4, 0x756e6547, 0x6c65746e, 0x49656e69); // the index does not matter here
    EXPECT_CPUID(g, 4, 0, 0x401, 0x402, 0x403, 0x404);
    EXPECT_CPUID(g, 4, 1, 0x411, 0x412, 0x413, 0x414);
    EXPECT_CPUID(g, 4, 2, 0, 0, 0, 0); // an index that is not in the list
    EXPECT_CPUID(g, 2, 0, 0, 0, 0, 0); // a leaf within the range that is not in the list
    // Out of range: an Intel CPU answers with its highest basic leaf (SDM Vol. 2A, CPUID).
    EXPECT_CPUID(g, 7, 0, 0x401, 0x402, 0x403, 0x404);
    EXPECT_CPUID(g, 0x20000000, 1, 0x411, 0x412, 0x413, 0x414);
    EXPECT_CPUID(g, 0x80000000, 0, 0x80000008, 1, 2, 3);
    EXPECT_CPUID(g, 0x80000001, 0, 0x81, 0x82, 0x83, 1u << 29 | 1u << 20 | 1u << 11);
    EXPECT_CPUID(g, 0x80000005, 0, 0, 0, 0, 0);
    EXPECT_CPUID(g, 0x80000009, 0, 0x401, 0x402, 0x403, 0x404);
    EXPECT_CPUID(g, 0x40000000, 0, 0x40000001, 0x41, 0x42, 0x43);
    EXPECT_CPUID(g, 0x40000001, 0, 0, 0, 0, 0);
}

TEST(cpuid_without_list)
{
    Device device;
    Guest g(device, Mode::kProtected, CODE(32, "hlt"));
    Vcpu second(device, g.vm, 1);
    g.enter_mode(second);
    std::swap(g.vcpu, second);
    Blob code = CODE(32, "mov eax, 0; cpuid; hlt");
    kvm_regs r = fresh_regs();
    r.rbx = r.rcx = r.rdx = 0xffffffff;
    start(g, code, r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs after = g.vcpu.regs();
    EXPECT_EQ(after.rax | after.rbx | after.rcx | after.rdx, 0);
}

TEST(cpuid_runtime_bits)
{
    // OSXSAVE (1:ECX[27]) follows CR4.OSXSAVE, the APIC bit (1:EDX[9]) IA32_APIC_BASE, MONITOR's
    // (1:ECX[3]) IA32_MISC_ENABLE.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    EXPECT_EQ(guest_cpuid(g, 1, 0).c >> 27 & 1, 0);
    kvm_sregs s = g.vcpu.sregs();
    if (host_has(1, 0, 'c', 26) && guest_cpuid(g, 1, 0).c >> 26 & 1) {
        s.cr4 |= guest::kCr4Osxsave;
        g.vcpu.set(s);
        EXPECT_EQ(guest_cpuid(g, 1, 0).c >> 27 & 1, 1);
        s.cr4 &= ~guest::kCr4Osxsave;
        g.vcpu.set(s);
        EXPECT_EQ(guest_cpuid(g, 1, 0).c >> 27 & 1, 0);
    }
}

TEST(msr_state_of_a_64_bit_guest)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    constexpr uint32_t kStar = 0xc0000081, kLstar = 0xc0000082, kCstar = 0xc0000083,
                       kSfmask = 0xc0000084;
    constexpr uint32_t kFsBase = 0xc0000100, kGsBase = 0xc0000101, kKernelGsBase = 0xc0000102;
    struct {
        uint32_t msr;
        uint64_t reset;
    } msrs[] = {{kStar, 0},
                {kLstar, 0},
                {kCstar, 0},
                {kSfmask, 0},
                {kFsBase, 0},
                {kGsBase, 0},
                {kKernelGsBase, 0},
                {0x174 /* SYSENTER_CS */, 0},
                {0x175, 0},
                {0x176, 0},
                {0x277 /* PAT */, 0x0007040600070406}};
    uint64_t i = 1, value;
    for (const auto &m : msrs) {
        value = ~0ULL;
        EXPECT(read_msr(g, m.msr, value));
        EXPECT_EQ(value, m.reset);
        char where[32];
        snprintf(where, sizeof(where), "msr 0x%x", m.msr);
        fails_in(where);
    }
    auto given = [](uint32_t msr, uint64_t n) {
        return msr == 0x277                     ? 0x0006060606060606ULL
               : msr == kSfmask || msr == 0x174 ? 0x1000 + n
                                                : 0x7fff00000000ULL + n;
    };
    for (const auto &m : msrs)
        EXPECT(write_msr(g, m.msr, given(m.msr, i++)));
    i = 1;
    for (const auto &m : msrs) {
        EXPECT(read_msr(g, m.msr, value));
        EXPECT_EQ(value, given(m.msr, i++));
        char where[32];
        snprintf(where, sizeof(where), "msr 0x%x", m.msr);
        fails_in(where);
    }
    kvm_sregs s = g.vcpu.sregs();
    EXPECT_EQ(s.fs.base, given(kFsBase, 5));
    EXPECT_EQ(s.gs.base, given(kGsBase, 6));
    // SWAPGS exchanges two of them.
    start(g, CODE(64, "swapgs; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT(read_msr(g, kGsBase, value));
    EXPECT_EQ(value, given(kKernelGsBase, 7));
}

TEST(msr_unknown)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    uint64_t value;
    for (uint32_t msr : {0x12345u, 0x40000200u, 0xc0001234u, 0xdeadbeefu, 0xffffffffu}) {
        EXPECT(!read_msr(g, msr, value));
        EXPECT(!write_msr(g, msr, 0));
        char where[32];
        snprintf(where, sizeof(where), "msr 0x%x", msr);
        fails_in(where);
    }
}

TEST(msr_bad_values)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    constexpr uint64_t kNonCanonical = 1ULL << 63;
    for (uint32_t msr : {0xc0000082u, 0xc0000083u, 0xc0000100u, 0xc0000101u, 0xc0000102u}) {
        EXPECT(!write_msr(g, msr, kNonCanonical));
        char where[32];
        snprintf(where, sizeof(where), "msr 0x%x", msr);
        fails_in(where);
    }
    // KVM takes a non-canonical SYSENTER_ESP and EIP and makes it canonical, as AMD's 32 bits ask
    // for.
    EXPECT(!write_msr(g, 0xc0000080, 1ULL << 1));     // EFER: a reserved bit
    EXPECT(!write_msr(g, 0xc0000080, 1ULL << 10));    // EFER.LME can't change under paging
    EXPECT(!write_msr(g, 0x277, 0x0007040600070402)); // PAT: type 2 is reserved
    EXPECT(!write_msr(g, 0x277, 0x0807040600070406));
    EXPECT(!write_msr(g, 0xfe, 0)); // MTRRcap is read-only
    uint64_t value = 0;
    EXPECT(read_msr(g, 0xc0000080, value));
    EXPECT_EQ(value, 0x500);
    EXPECT(read_msr(g, 0xc0000082, value));
    EXPECT_EQ(value, 0);
}

TEST(msr_efer)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    uint64_t value = 0;
    EXPECT(write_msr(g, 0xc0000080, 0x501)); // SCE
    EXPECT(read_msr(g, 0xc0000080, value));
    EXPECT_EQ(value, 0x501);
    EXPECT_EQ(g.vcpu.sregs().efer, 0x501);
    if (host_has(0x80000001, 0, 'd', 20)) {
        EXPECT(write_msr(g, 0xc0000080, 0xd01)); // NXE
        EXPECT(read_msr(g, 0xc0000080, value));
        EXPECT_EQ(value, 0xd01);
        // A page without execute permission: #PF, error code present + instruction fetch.
        constexpr uint64_t kTarget = G_DATA;
        g.memory.at<uint8_t>(kTarget) = 0xf4;
        g.set_entry(kTarget, kTarget | 3 | 1ULL << 63);
        kvm_regs r = fresh_regs();
        r.rbx = kTarget;
        Blob code = CODE(64, "jmp rbx; hlt");
        start(g, code, r);
        g.resume_at(G_CODE + code.size() - 1);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EXCEPTION(g, 0, 14, 0x11, kTarget);
        EXPECT_EQ(g.log(0).cr2, kTarget);
    }
}

TEST(msr_apic_base)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    uint64_t value = 0;
    EXPECT(read_msr(g, 0x1b, value));
    EXPECT_EQ(value, 0xfee00900);
}

TEST(msr_tsc_moves_on)
{
    Device device;
    Guest g(device, Mode::kLong,
            CODE(64, "rdtsc; shl rdx, 32; or rax, rdx; mov rbx, rax; mov ecx, 0x10; rdmsr; shl "
                     "rdx, 32; or rax, rdx; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs r = g.vcpu.regs();
    EXPECT(r.rax > r.rbx);
    // A new vCPU's TSC starts near zero, whatever the machine's is: within a minute of 10 GHz.
    EXPECT(r.rbx < 600'000'000'000);
    uint64_t before = r.rax;
    usleep(1000);
    start(g, CODE(64, "rdtsc; shl rdx, 32; or rax, rdx; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT(g.vcpu.regs().rax > before);
}

namespace {

// Runs `code` (long mode, or `mode`), which may fault: the last HLT is where it goes on then.
kvm_regs run_code(Guest &g, Blob code, uint64_t rax)
{
    kvm_regs r = fresh_regs();
    r.rax = rax;
    start(g, code, r);
    g.resume_at(G_CODE + code.size() - 1);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    return g.vcpu.regs();
}

} // namespace

TEST(cr_reads_and_writes)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_sregs s = g.vcpu.sregs();
    EXPECT_EQ(run_code(g, CODE(64, "mov rbx, cr0; hlt; hlt"), 0).rbx, s.cr0);
    EXPECT_EQ(run_code(g, CODE(64, "mov rbx, cr3; hlt; hlt"), 0).rbx, s.cr3);
    EXPECT_EQ(run_code(g, CODE(64, "mov rbx, cr4; hlt; hlt"), 0).rbx, s.cr4);
    EXPECT_EQ(run_code(g, CODE(64, "mov cr2, rax; mov rbx, cr2; hlt; hlt"), 0x123456789).rbx,
              0x123456789);
    EXPECT_EQ(g.vcpu.sregs().cr2, 0x123456789);
    // Bits the host owns and bits the guest owns, both visible to both.
    uint64_t cr0 = s.cr0 | 1 << 3 | 1 << 1; // TS, MP
    EXPECT_EQ(run_code(g, CODE(64, "mov cr0, rax; mov rbx, cr0; hlt; hlt"), cr0).rbx, cr0);
    EXPECT_EQ(g.vcpu.sregs().cr0, cr0);
    EXPECT_EQ(run_code(g, CODE(64, "clts; mov rbx, cr0; hlt; hlt"), 0).rbx, cr0 & ~8ULL);
    EXPECT_EQ(run_code(g, CODE(64, "lmsw ax; mov rbx, cr0; hlt; hlt"), 0xb).rbx & 0xf, 0xb);
    EXPECT_EQ(run_code(g, CODE(64, "smsw rbx; hlt; hlt"), 0).rbx & 0xffff,
              g.vcpu.sregs().cr0 & 0xffff);
    // CR0.ET is fixed, WP and NE can go; CD too.
    for (uint64_t value : {s.cr0 & ~(1ULL << 16), s.cr0 & ~(1ULL << 5), s.cr0 | 1 << 30, s.cr0}) {
        EXPECT_EQ(run_code(g, CODE(64, "mov cr0, rax; mov rbx, cr0; hlt; hlt"), value).rbx, value);
        EXPECT_EQ(g.vcpu.sregs().cr0, value);
    }
    uint64_t cr4 =
        s.cr4 | 1 << 2 | 1 << 3 | 1 << 7 | 1 << 9 | 1 << 10; // TSD, DE, PGE, OSFXSR, OSXMMEXCPT
    EXPECT_EQ(run_code(g, CODE(64, "mov cr4, rax; mov rbx, cr4; hlt; hlt"), cr4).rbx, cr4);
    EXPECT_EQ(g.vcpu.sregs().cr4, cr4);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(cr_bad_values)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_sregs s = g.vcpu.sregs();
    struct {
        Blob code;
        uint64_t value;
    } rows[] = {
        {CODE(64, "mov cr0, rax; hlt; hlt"), s.cr0 | 1ULL << 32},
        {CODE(64, "mov cr0, rax; hlt; hlt"), s.cr0 & ~1ULL},                     // PG without PE
        {CODE(64, "mov cr0, rax; hlt; hlt"), (s.cr0 & ~(1ULL << 30)) | 1 << 29}, // NW without CD
        {CODE(64, "mov cr0, rax; hlt; hlt"), s.cr0 & ~(1ULL << 31)}, // paging off in 64-bit code
        {CODE(64, "mov cr4, rax; hlt; hlt"), s.cr4 | 1 << 15},       // reserved
        {CODE(64, "mov cr4, rax; hlt; hlt"), s.cr4 | 1ULL << 40},
        {CODE(64, "mov cr4, rax; hlt; hlt"), s.cr4 & ~0x20ULL},   // PAE off in long mode
        {CODE(64, "mov cr3, rax; hlt; hlt"), s.cr3 | 1ULL << 60}, // beyond the physical width
        {CODE(64, "mov cr8, rax; hlt; hlt"), 16}, // only 16 to 255: KVM looks at eight bits
    };
    int i = 0;
    for (const auto &row : rows) {
        run_code(g, row.code, row.value);
        EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
        kvm_sregs after = g.vcpu.sregs();
        EXPECT_EQ(after.cr0, s.cr0);
        EXPECT_EQ(after.cr3, s.cr3);
        EXPECT_EQ(after.cr4, s.cr4);
        EXPECT_EQ(after.cr8, s.cr8);
        char where[32];
        snprintf(where, sizeof(where), "row %d", i++);
        fails_in(where);
    }
    // CR1, CR5 do not exist.
    run_code(g, CODE(64, ".byte 0x0f, 0x22, 0xe8; hlt; hlt"), 0);
    EXPECT_EXCEPTION(g, 0, 6, 0, G_CODE);
}

TEST(cr3_switch)
{
    // Two address spaces; CR3 changes what an address means at once.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    constexpr uint64_t kOther = 0x100000;
    memcpy(g.memory.base + kOther, g.memory.base + G_TABLES, 5 * kPage);
    for (uint64_t level = 0; level < 3; level++)
        g.memory.at<uint64_t>(kOther + level * kPage) = (kOther + (level + 1) * kPage) | 3;
    // Page 0x140000 is 0x150000 there.
    g.memory.at<uint64_t>(kOther + 3 * kPage + 8 * 0x140) = 0x150000 | 3;
    g.memory.at<uint32_t>(0x140000) = 0x1111;
    g.memory.at<uint32_t>(0x150000) = 0x2222;
    kvm_regs r = fresh_regs();
    r.rax = kOther;
    r.rbx = G_TABLES;
    r.rsi = 0x140000;
    start(g,
          CODE(64, "mov ecx, [rsi]; mov cr3, rax; mov edx, [rsi]; mov cr3, rbx; mov edi, [rsi]\n"
                   "mov cr3, rax; mov ebp, [rsi]; hlt"),
          r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs after = g.vcpu.regs();
    EXPECT_EQ(after.rcx, 0x1111);
    EXPECT_EQ(after.rdx, 0x2222);
    EXPECT_EQ(after.rdi, 0x1111);
    EXPECT_EQ(after.rbp, 0x2222);
    EXPECT_EQ(g.vcpu.sregs().cr3, kOther);
}

TEST(invlpg)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    g.memory.at<uint32_t>(0x140000) = 0x1111;
    g.memory.at<uint32_t>(0x150000) = 0x2222;
    kvm_regs r = fresh_regs();
    r.rsi = 0x140000;
    r.rdi = G_TABLES + 3 * kPage + 8 * 0x140;
    start(g,
          CODE(64,
               "mov ecx, [rsi]; mov qword ptr [rdi], 0x150003; invlpg [rsi]; mov edx, [rsi]; hlt"),
          r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rcx, 0x1111);
    EXPECT_EQ(g.vcpu.regs().rdx, 0x2222);
}

TEST(pae_pdptes)
{
    // With PAE a CR3 write reads the four PDPTEs; reserved bits in one raise #GP, and later changes
    // in memory do not matter until CR3 is written again (SDM Vol. 3A, 4.4.1).
    Device device;
    Guest g(device, Mode::kPae, CODE(32, "hlt"));
    constexpr uint64_t kOther = 0x100000;
    memcpy(g.memory.base + kOther, g.memory.base + G_TABLES, 32);
    g.memory.at<uint64_t>(kOther + 8) = 1ULL << 1 | 1; // bit 1 is reserved
    run_code(g, CODE(32, "mov cr3, eax; hlt; hlt"), kOther);
    EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
    g.memory.at<uint64_t>(kOther + 8) = (G_TABLES + 0x1000) | 1; // the first GiB again, at 1 GiB
    g.memory.at<uint32_t>(0x140000) = 0x77;
    kvm_regs r = fresh_regs();
    r.rax = kOther;
    r.rsi = 0x40140000;
    r.rdi = kOther + 8;
    start(g,
          CODE(32,
               "mov cr3, eax; mov ecx, [esi]; mov dword ptr [edi], 0; mov edx, [esi + 4096]; hlt"),
          r);
    g.memory.at<uint32_t>(0x141000) = 0x78;
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rcx, 0x77);
    EXPECT_EQ(g.vcpu.regs().rdx, 0x78);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(dr7_twice)
{
    // The first write exits; from then on the guest owns the debug registers until it is scheduled
    // out.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rax = 0x401;
    r.rbx = 0x455;
    r.rsi = 0x123456;
    start(
        g,
        CODE(64,
             "mov dr7, rax; mov rcx, dr7; mov dr7, rbx; mov rdx, dr7; mov dr0, rsi; mov dr3, rsi\n"
             "mov rdi, dr0; mov rbp, dr6; out 0x10, eax; mov r8, dr7; mov r9, dr0; mov r10, dr3; "
             "hlt"),
        r);
    EXPECT_REPORT(g.vcpu, 0x401);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs after = g.vcpu.regs();
    EXPECT_EQ(after.rcx, 0x401);
    EXPECT_EQ(after.rdx, 0x455);
    EXPECT_EQ(after.rdi, 0x123456);
    EXPECT_EQ(after.rbp, 0xffff0ff0);
    EXPECT_EQ(after.r8, 0x455);
    EXPECT_EQ(after.r9, 0x123456);
    EXPECT_EQ(after.r10, 0x123456);
}

TEST(dr_bad_values)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    run_code(g, CODE(64, "mov dr7, rax; hlt; hlt"), 1ULL << 32 | 0x400);
    EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
    run_code(g, CODE(64, "mov dr6, rax; hlt; hlt"), 1ULL << 32 | 0xffff0ff0);
    EXPECT_EXCEPTION(g, 0, 13, 0, G_CODE);
    // DR4 and DR5 are DR6 and DR7, unless CR4.DE says they are not.
    EXPECT_EQ(run_code(g, CODE(64, "mov rbx, dr4; hlt; hlt"), 0).rbx, 0xffff0ff0);
    kvm_sregs s = g.vcpu.sregs();
    s.cr4 |= 8;
    g.vcpu.set(s);
    run_code(g, CODE(64, "mov rbx, dr4; hlt; hlt"), 0);
    EXPECT_EXCEPTION(g, 0, 6, 0, G_CODE);
}

TEST(dr_general_detect)
{
    // DR7.GD: the next access raises #DB before it happens, with DR6.BD.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    Blob code = CODE(64, "mov dr7, rax; mov rbx, dr0; nop; hlt");
    kvm_regs r = fresh_regs();
    r.rax = 0x2400;
    start(g, code, r);
    g.resume_at(G_CODE + code.size() - 1);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 1, 0, G_CODE + 3);
}

TEST(dr_hardware_breakpoint)
{
    // A write watchpoint of the guest's, reported as a trap after the write.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    Blob code = CODE(64, "mov dr0, rsi; mov dr7, rax; mov [rsi], eax; nop; mov rbx, dr6; hlt");
    kvm_regs r = fresh_regs();
    r.rsi = G_DATA;
    r.rax = 0xd0402; // DR0: global, write, 4 bytes
    start(g, code, r);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 1, 0, G_CODE + 8);
    EXPECT_EQ(g.vcpu.regs().rbx, 0xffff0ff1);
}
