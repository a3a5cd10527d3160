// SPDX-License-Identifier: GPL-2.0-only
//
// Instructions with an operand in a device: each runs twice, once with its operand in memory, by
// the CPU, and once in MMIO, by the hypervisor's emulator, while this program plays a device that
// holds the same bytes. Registers, flags, vectors and the operand must come out equal.
#include "guest_test.hpp"

#include <cpuid.h>

namespace {

constexpr uint64_t kOperand = G_DATA + 0x800, kOther = G_DATA + 0x1000, kVectors = G_DATA + 0x2000,
                   kOut = G_DATA + 0x3000, kDeviceAt = G_MMIO + 0x800;
constexpr size_t kSpan = 256; // bytes of the operand's surroundings; it is in the middle
constexpr uint64_t kFlags = 0xcd5;

struct Row {
    const char *name;
    Blob code;
    bool only_here = false; // 6.1's emulator doesn't know it
};
#define ROW(text)                                                                                  \
    {                                                                                              \
        text, CODE(64, text "; hlt")                                                               \
    }
#define ROW_HERE(text)                                                                             \
    {                                                                                              \
        text, CODE(64, text "; hlt"), true                                                         \
    }

struct Result {
    kvm_regs regs;
    uint8_t operand[kSpan];
    uint8_t vectors[4][32];
};

void fill(uint8_t *bytes, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = static_cast<uint8_t>(seed >> 24);
    }
}

class Comparison {
  public:
    explicit Comparison(bool avx) : guest_(device_, Mode::kLong, CODE(64, "hlt")), avx_(avx)
    {
        kvm_sregs s = guest_.vcpu.sregs();
        s.cr4 |= guest::kCr4Osfxsr | (avx ? guest::kCr4Osxsave : 0);
        guest_.vcpu.set(s);
        if (avx)
            run_plain(CODE(64, "xor ecx, ecx; xor edx, edx; mov eax, 7; xsetbv; hlt"));
    }

    void compare(const Row &row, uint64_t offset, uint64_t flags)
    {
        if (row.only_here && test::options.reference())
            return;
        Result native = run(row, false, offset, flags), emulated = run(row, true, offset, flags);
        // What points to the operand differs by where it is.
        constexpr uint64_t kApart = kDeviceAt - kOperand;
        auto *a = reinterpret_cast<uint64_t *>(&native.regs);
        auto *b = reinterpret_cast<uint64_t *>(&emulated.regs);
        native.regs.rflags &= kFlags;
        emulated.regs.rflags &= kFlags;
        for (size_t i = 0; i < sizeof(kvm_regs) / 8; i++)
            if (b[i] - a[i] != kApart)
                EXPECT_EQ(b[i], a[i]);
        EXPECT(memcmp(native.operand, emulated.operand, kSpan) == 0);
        EXPECT(memcmp(native.vectors, emulated.vectors, sizeof(native.vectors)) == 0);
        fails_in(row.name);
    }

  private:
    void run_plain(Blob code, const kvm_regs &regs = fresh_regs())
    {
        start(guest_, code, regs);
        ENTER(guest_.vcpu, KVM_EXIT_HLT);
    }
    void load_vectors()
    {
        fill(guest_.memory.base + kVectors, 4 * 32, 7);
        kvm_regs r = fresh_regs();
        r.rsi = kVectors;
        run_plain(avx_ ? CODE(64, "vmovdqu ymm0, [rsi]; vmovdqu ymm1, [rsi + 32];"
                                  "vmovdqu ymm2, [rsi + 64]; vmovdqu ymm3, [rsi + 96]; hlt")
                       : CODE(64, "movdqu xmm0, [rsi]; movdqu xmm1, [rsi + 32];"
                                  "movdqu xmm2, [rsi + 64]; movdqu xmm3, [rsi + 96]; hlt"),
                  r);
    }
    void save_vectors(uint8_t (&to)[4][32])
    {
        memset(guest_.memory.base + kOut, 0, sizeof(to));
        kvm_regs r = fresh_regs();
        r.rdi = kOut;
        run_plain(avx_ ? CODE(64, "vmovdqu [rdi], ymm0; vmovdqu [rdi + 32], ymm1;"
                                  "vmovdqu [rdi + 64], ymm2; vmovdqu [rdi + 96], ymm3; hlt")
                       : CODE(64, "movdqu [rdi], xmm0; movdqu [rdi + 32], xmm1;"
                                  "movdqu [rdi + 64], xmm2; movdqu [rdi + 96], xmm3; hlt"),
                  r);
        memcpy(to, guest_.memory.base + kOut, sizeof(to));
    }

    Result run(const Row &row, bool in_device, uint64_t offset, uint64_t flags)
    {
        Result result;
        load_vectors();
        uint8_t *memory = guest_.memory.base + kOperand - kSpan / 2;
        fill(memory, kSpan, 42);
        memcpy(bytes_, memory, kSpan);
        fill(guest_.memory.base + kOther, 64, 5);

        kvm_regs r = fresh_regs(2 | flags);
        r.rax = 0x0102030405060708;
        r.rcx = 0x1d;
        r.rdx = 3;
        r.rbx = (in_device ? kDeviceAt : kOperand) + offset;
        r.rsi = kOther;
        r.rdi = 0x5a5a5a5a00000007;
        r.r8 = 0x8877665544332211;
        start(guest_, row.code, r);
        play();
        result.regs = guest_.vcpu.regs();
        memcpy(result.operand, in_device ? bytes_ : memory, kSpan);
        save_vectors(result.vectors);
        return result;
    }
    void play()
    {
        for (;;) {
            REQUIRE_OK(guest_.vcpu.enter());
            kvm_run &run = *guest_.vcpu.run;
            if (run.exit_reason == KVM_EXIT_HLT)
                return;
            REQUIRE_EQ(run.exit_reason, uint32_t{KVM_EXIT_MMIO});
            uint64_t at = run.mmio.phys_addr - (kDeviceAt - kSpan / 2);
            REQUIRE(at + run.mmio.len <= kSpan);
            if (run.mmio.is_write)
                memcpy(bytes_ + at, run.mmio.data, run.mmio.len);
            else
                memcpy(run.mmio.data, bytes_ + at, run.mmio.len);
        }
    }

    Device device_;
    Guest guest_;
    bool avx_;
    uint8_t bytes_[kSpan];
};

template <size_t N>
void compare_all(const Row (&rows)[N], bool avx = false, uint64_t offset = 0)
{
    Comparison comparison(avx);
    for (const Row &row : rows)
        for (uint64_t flags : {0u, 0x8d5u})
            comparison.compare(row, offset, flags);
}

} // namespace

TEST(mmio_arithmetic)
{
    const Row rows[] = {
        ROW("add [rbx], eax"),
        ROW("add byte ptr [rbx], 0x7f"),
        ROW("or [rbx], r8"),
        ROW("adc word ptr [rbx], 0x1234"),
        ROW("sbb r8, [rbx]"),
        ROW("and [rbx], ax"),
        ROW("sub rax, [rbx]"),
        ROW("xor qword ptr [rbx], -2"),
        ROW("cmp [rbx], al"),
        ROW("cmp ah, [rbx]"),
        ROW("test [rbx], edx"),
        ROW("test dword ptr [rbx], 0x10"),
        ROW("inc byte ptr [rbx]"),
        ROW("dec qword ptr [rbx]"),
        ROW("neg dword ptr [rbx]"),
        ROW("not word ptr [rbx]"),
        ROW("lock add [rbx], r8"),
        ROW("lock inc dword ptr [rbx]"),
        ROW("rol dword ptr [rbx], 1"),
        ROW("ror byte ptr [rbx], 3"),
        ROW("rcl qword ptr [rbx], cl"),
        ROW("rcr word ptr [rbx], cl"),
        ROW("shl dword ptr [rbx], 31"),
        ROW("shr byte ptr [rbx], cl"),
        ROW("sar qword ptr [rbx], 5"),
        ROW("shld [rbx], r8d, 9"),
        ROW("shrd [rbx], r8, cl"),
        ROW("imul eax, [rbx]"),
        ROW("imul r8, [rbx], 100"),
        ROW("mul byte ptr [rbx]"),
        ROW("mul qword ptr [rbx]"),
        ROW("imul dword ptr [rbx]"),
        ROW("div dword ptr [rbx]"),
        ROW("xor edx, edx; idiv qword ptr [rbx]"),
    };
    compare_all(rows);
    compare_all(rows, false, 3); // not aligned
}

TEST(mmio_exchanges_and_bits)
{
    const Row rows[] = {
        ROW("xchg [rbx], eax"),
        ROW("xchg [rbx], r8b"),
        ROW("lock xadd [rbx], rax"),
        ROW("xadd [rbx], al"),
        ROW("cmpxchg [rbx], r8d"),
        ROW("lock cmpxchg [rbx], r8"),
        ROW("mov eax, 0; cmpxchg byte ptr [rbx], dl"),
        ROW("lock cmpxchg8b [rbx]"),
        ROW("bt [rbx], edx"),
        ROW("bts dword ptr [rbx], 17"),
        ROW("btr [rbx], dx"),
        ROW("mov eax, 300; btc [rbx], eax"),
        ROW("mov rax, -300; bts [rbx], rax"),
        ROW("bsf eax, [rbx]"),
        ROW("bsr r8, [rbx]"),
        ROW("setc [rbx]"),
        ROW("setnle [rbx]"),
        ROW("cmovz eax, [rbx]"),
        ROW("cmovnz r8, [rbx]"),
        ROW("movnti [rbx], rax"),
        ROW("push qword ptr [rbx]; pop r8"),
        ROW("push rax; pop qword ptr [rbx]"),
        ROW("movzx r8, word ptr [rbx]"),
        ROW("movsxd r8, dword ptr [rbx]"),
        ROW("mov [rbx], ds"),
    };
    compare_all(rows);
}

TEST(mmio_movbe)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_MOVBE))
        test::skip("this CPU has no MOVBE");
    const Row rows[] = {
        ROW("movbe eax, [rbx]"),
        ROW("movbe [rbx], r8"),
    };
    compare_all(rows);
}

TEST(mmio_strings)
{
    const Row rows[] = {
        ROW("mov rdi, rbx; movsq"),
        ROW("mov rdi, rbx; mov ecx, 5; rep movsb"),
        ROW("mov rdi, rsi; mov rsi, rbx; mov ecx, 5; rep movsd"),
        ROW("mov rdi, rbx; mov ecx, 3; rep stosw"),
        ROW("std; mov rdi, rbx; mov ecx, 4; rep stosd"),
        ROW("mov rdi, rsi; mov rsi, rbx; lodsq"),
        ROW("mov rsi, rbx; mov ecx, 4; rep lodsb"),
        ROW("mov rdi, rbx; cmpsb"),
        ROW("mov rdi, rbx; mov ecx, 9; repne cmpsw"),
        ROW("mov rdi, rbx; mov rsi, rbx; mov ecx, 6; repe cmpsd"),
        ROW("mov rdi, rbx; mov ecx, 40; repne scasb"),
        ROW("mov rdi, rbx; scasd"),
        ROW("lea rdi, [rbx + 4]; mov rsi, rbx; mov ecx, 6; rep movsb"),
    };
    compare_all(rows);
}

TEST(mmio_sse_moves)
{
    const Row rows[] = {
        ROW("movups xmm1, [rbx]"),
        ROW("movups [rbx], xmm1"),
        ROW("movaps xmm2, [rbx]"),
        ROW("movapd [rbx], xmm3"),
        ROW("movdqu xmm0, [rbx + 5]"),
        ROW("movdqa [rbx], xmm0"),
        ROW("movntdq [rbx], xmm1"),
        ROW("movntps [rbx], xmm1"),
        ROW_HERE("movss xmm1, [rbx]"),
        ROW_HERE("movsd [rbx], xmm2"),
        ROW_HERE("movlps xmm1, [rbx]"),
        ROW_HERE("movhpd xmm1, [rbx]"),
        ROW_HERE("movhps [rbx], xmm1"),
        ROW_HERE("movlpd [rbx], xmm1"),
        ROW_HERE("movd xmm1, [rbx]"),
        ROW_HERE("movd [rbx], xmm1"),
        ROW_HERE("movq xmm1, [rbx]"),
        ROW_HERE("movq [rbx], xmm1"),
        ROW_HERE("lddqu xmm1, [rbx + 1]"),
        ROW_HERE("movq mm1, [rbx]; movq rax, mm1; emms"),
        ROW_HERE("movq mm1, rax; movq [rbx], mm1; emms"),
    };
    compare_all(rows);
}

TEST(mmio_avx_moves)
{
    // AVX, and OSXSAVE: a CPU may have the one while the kernel does without the other.
    if (!host_has(1, 0, 'c', 28) || !host_has(1, 0, 'c', 27))
        test::skip("the host does not use AVX on this CPU");
    const Row rows[] = {
        ROW_HERE("vmovups ymm1, [rbx]"),       ROW_HERE("vmovups [rbx], ymm1"),
        ROW_HERE("vmovdqu xmm1, [rbx + 3]"),   ROW_HERE("vmovdqa [rbx], ymm2"),
        ROW_HERE("vmovaps ymm3, [rbx]"),       ROW_HERE("vmovss xmm1, [rbx]"),
        ROW_HERE("vmovsd [rbx], xmm1"),        ROW_HERE("vmovlps xmm1, xmm2, [rbx]"),
        ROW_HERE("vmovhps xmm1, xmm2, [rbx]"), ROW_HERE("vmovntdq [rbx], ymm0"),
        ROW_HERE("vmovq xmm1, [rbx]"),         ROW_HERE("vmovd [rbx], xmm3"),
        ROW_HERE("movups xmm1, [rbx]"), // leaves the upper half
    };
    compare_all(rows, true);
}

TEST(mmio_unknown_instruction)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "fld dword ptr [rbx]; hlt"));
    kvm_regs r = fresh_regs();
    r.rbx = G_MMIO;
    g.vcpu.set(r);
    ENTER(g.vcpu, KVM_EXIT_INTERNAL_ERROR);
    const kvm_run &run = *g.vcpu.run;
    EXPECT_EQ(run.internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
    EXPECT_EQ(run.emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, 1);
    EXPECT_EQ(run.emulation_failure.insn_bytes[0], 0xd9);
    EXPECT_EQ(run.emulation_failure.insn_bytes[1], 0x03);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE);
}

// ---- 16- and 32-bit code ----------------------------------------------------

namespace {

struct NarrowRow {
    const char *name;
    Blob code16, code32;
};
#define NARROW(text)                                                                               \
    {                                                                                              \
        text, CODE(16, text "; hlt"), CODE(32, text "; hlt")                                       \
    }

// The operand is at the same offset both times; the base of DS and ES says where that is.
class NarrowComparison {
  public:
    explicit NarrowComparison(Mode mode)
        : mode_(mode),
          guest_(device_, mode, mode == Mode::kReal ? CODE(16, "hlt") : CODE(32, "hlt")),
          device_base_(mode == Mode::kReal ? 0xb8000 : G_MMIO)
    {
        if (mode != Mode::kReal)
            return;
        // Memory ends at 640 KiB, as on a PC.
        REQUIRE_OK(guest_.vm.set_slot(0, 0, 0, nullptr));
        REQUIRE_OK(guest_.vm.set_slot(0, 0, 0xa0000, guest_.memory.base));
    }

    void compare(const NarrowRow &row, uint64_t flags)
    {
        uint8_t *memory = guest_.memory.base + G_FREE;
        kvm_regs native = run(row, G_FREE, flags);
        kvm_regs emulated = run(row, device_base_, flags);
        native.rflags &= kFlags;
        emulated.rflags &= kFlags;
        EXPECT(memcmp(&native, &emulated, sizeof(native)) == 0);
        EXPECT(memcmp(memory, bytes_, sizeof(bytes_)) == 0);
        fails_in(row.name);
    }

  private:
    kvm_regs run(const NarrowRow &row, uint64_t base, uint64_t flags)
    {
        kvm_sregs s = guest_.vcpu.sregs();
        for (kvm_segment *segment : {&s.ds, &s.es}) {
            segment->base = base;
            if (mode_ == Mode::kReal)
                segment->selector = static_cast<uint16_t>(base >> 4);
        }
        guest_.vcpu.set(s);
        uint8_t *there = base == G_FREE ? guest_.memory.base + G_FREE : bytes_;
        fill(there, sizeof(bytes_), 11);

        kvm_regs r = fresh_regs(2 | flags);
        r.rax = 0x05060718;
        r.rcx = 5;
        r.rdx = 0x1d;
        r.rbx = 0x80;
        r.rbp = 0x90;
        r.rsi = 0x20;
        r.rdi = 0x31;
        start(guest_, mode_ == Mode::kReal ? row.code16 : row.code32, r);
        for (;;) {
            REQUIRE_OK(guest_.vcpu.enter());
            kvm_run &run = *guest_.vcpu.run;
            if (run.exit_reason == KVM_EXIT_HLT)
                return guest_.vcpu.regs();
            REQUIRE_EQ(run.exit_reason, uint32_t{KVM_EXIT_MMIO});
            uint64_t at = run.mmio.phys_addr - device_base_;
            REQUIRE(at + run.mmio.len <= sizeof(bytes_));
            if (run.mmio.is_write)
                memcpy(bytes_ + at, run.mmio.data, run.mmio.len);
            else
                memcpy(run.mmio.data, bytes_ + at, run.mmio.len);
        }
    }

    Device device_;
    Mode mode_;
    Guest guest_;
    uint64_t device_base_;
    uint8_t bytes_[512];
};

} // namespace

TEST(mmio_narrow_code)
{
    const NarrowRow rows[] = {
        NARROW("add [bx + si], ax"),
        NARROW("xor byte ptr ds:[bp + di + 3], 0x55"),
        NARROW("adc dword ptr [bx], 0x12345678"),
        NARROW("inc dword ptr [ebx + ecx * 2]"),
        NARROW("sub eax, [edi + 0x40]"),
        NARROW("cmp ds:[0x44], eax"),
        NARROW("neg word ptr [si]"),
        NARROW("shl dword ptr [bx + di], cl"),
        NARROW("rcr word ptr [bx], cl"),
        NARROW("shld [bx], ax, cl"),
        NARROW("imul ax, [bx], 7"),
        NARROW("mul byte ptr [di]"),
        NARROW("lock cmpxchg [bx], cx"),
        NARROW("lock cmpxchg8b [bx]"),
        NARROW("xadd [ebx], eax"),
        NARROW("xchg ds:[bp + 0x10], ah"),
        NARROW("bts [bx], dx"),
        NARROW("btc ds:[ebp], edx"),
        NARROW("bsf eax, [bx]"),
        NARROW("setb [bx]"),
        NARROW("cmovnz ax, [bx]"),
        NARROW("push word ptr [bx]; pop dx"),
        NARROW("push eax; pop dword ptr [bx]"),
        NARROW("movzx eax, byte ptr [bx]"),
        NARROW("mov [bx], cs"),
        NARROW("movsw"),
        NARROW("rep movsb"),
        NARROW("std; rep stosd"),
        NARROW("lodsd"),
        NARROW("repe cmpsb"),
        NARROW("repne scasw"),
        NARROW(".byte 0x67; rep stosb"),
    };
    for (Mode mode : {Mode::kReal, Mode::kProtected, Mode::kPaged, Mode::kPae}) {
        // Without paging there is nothing at the device's address but the device.
        NarrowComparison comparison(mode);
        for (const NarrowRow &row : rows)
            for (uint64_t flags : {0u, 0x8d5u})
                comparison.compare(row, flags);
        fails_in(guest::name(mode));
    }
}
