// SPDX-License-Identifier: GPL-2.0-only
//
// Port I/O: every size, both directions, immediate and DX, the string forms with and without REP.
#include "guest_test.hpp"

namespace {

// A buffer every mode reaches with DS and ES at 0: below 64 KiB in real mode, behind the tables
// elsewhere.
uint64_t buffer(Mode mode)
{
    return mode == Mode::kReal ? 0x3000 : G_DATA;
}

struct StringCase {
    bool out;
    unsigned size;
    bool rep;
    bool down;
    uint64_t count;
    uint64_t offset; // of the first element in the buffer
};

// What the guest sends (or is sent), element by element in the order of the stream.
struct Stream {
    std::vector<uint8_t> bytes;
};

// Runs until HLT, feeding or gathering the stream. KVM splits a REP OUTS into exits of one element
// and a REP INS into exits of what fits in a page; any split is good, as long as the elements come
// in order.
bool pump(Guest &g, const StringCase &c, uint16_t port, Stream &stream)
{
    size_t done = 0;
    for (;;) {
        REQUIRE_OK(g.vcpu.enter());
        const kvm_run &run = *g.vcpu.run;
        if (run.exit_reason == KVM_EXIT_HLT)
            return EXPECT_EQ(done, stream.bytes.size());
        REQUIRE_EQ(run.exit_reason, KVM_EXIT_IO);
        REQUIRE_EQ(run.io.direction, c.out ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN);
        REQUIRE_EQ(run.io.size, c.size);
        REQUIRE_EQ(run.io.port, port);
        REQUIRE_EQ(run.io.data_offset, kPage);
        size_t amount = size_t{run.io.count} * run.io.size;
        REQUIRE(run.io.count >= 1 && amount <= kPage && done + amount <= stream.bytes.size());
        if (c.out)
            REQUIRE(memcmp(g.vcpu.io_data(), &stream.bytes[done], amount) == 0);
        else
            memcpy(g.vcpu.io_data(), &stream.bytes[done], amount);
        done += amount;
    }
}

void run_string(Guest &g, Blob code, const StringCase &c)
{
    constexpr uint16_t kPort = 0x1f0;
    uint64_t base = buffer(g.mode), count = c.rep ? c.count : 1;
    constexpr size_t kArea = 0x2000;
    std::vector<uint8_t> expected(kArea);
    for (size_t i = 0; i < kArea; i++)
        expected[i] = g.memory.at<uint8_t>(base + i) = static_cast<uint8_t>(i * 7 + (i >> 8));
    Stream stream;
    int64_t step = c.down ? -static_cast<int64_t>(c.size) : c.size;
    for (uint64_t i = 0; i < count; i++) {
        size_t place = c.offset + static_cast<uint64_t>(step) * i;
        for (unsigned b = 0; b < c.size; b++) {
            if (!c.out)
                expected[place + b] = static_cast<uint8_t>(i * 13 + b + 1);
            stream.bytes.push_back(expected[place + b]);
        }
    }
    kvm_regs r = fresh_regs(2 | (c.down ? 0x400 : 0));
    r.rax = 0x1234567890abcdef;
    r.rcx = c.count;
    r.rdx = kPort;
    (c.out ? r.rsi : r.rdi) = base + c.offset;
    start(g, code, r);
    if (!pump(g, c, kPort, stream))
        return;
    EXPECT(memcmp(g.memory.base + base, expected.data(), kArea) == 0);
    kvm_regs after = g.vcpu.regs();
    EXPECT_EQ(after.rcx, c.rep ? 0 : c.count);
    EXPECT_EQ(c.out ? after.rsi : after.rdi, base + c.offset + static_cast<uint64_t>(step) * count);
    EXPECT_EQ(after.rax, r.rax);
    EXPECT_EQ(after.rflags, r.rflags);
    EXPECT_EQ(after.rip, G_CODE + code.size());
}

Codes string_code(bool out, unsigned size, bool rep)
{
    switch (size * 4 + out * 2 + rep) {
    case 1 * 4 + 2 + 0:
        return CODES("outsb; hlt");
    case 1 * 4 + 2 + 1:
        return CODES("rep outsb; hlt");
    case 2 * 4 + 2 + 0:
        return CODES("outsw; hlt");
    case 2 * 4 + 2 + 1:
        return CODES("rep outsw; hlt");
    case 4 * 4 + 2 + 0:
        return CODES("outsd; hlt");
    case 4 * 4 + 2 + 1:
        return CODES("rep outsd; hlt");
    case 1 * 4 + 0 + 0:
        return CODES("insb; hlt");
    case 1 * 4 + 0 + 1:
        return CODES("rep insb; hlt");
    case 2 * 4 + 0 + 0:
        return CODES("insw; hlt");
    case 2 * 4 + 0 + 1:
        return CODES("rep insw; hlt");
    case 4 * 4 + 0 + 0:
        return CODES("insd; hlt");
    default:
        return CODES("rep insd; hlt");
    }
}

} // namespace

TEST(port_plain)
{
    Codes codes = CODES("mov eax, 0x11223344\n"
                        "out 0x40, al; out 0x41, ax; out 0x42, eax\n"
                        "mov dx, 0x1234\n"
                        "out dx, al; out dx, ax; out dx, eax\n"
                        "in al, 0x43; out 0x10, eax\n"
                        "in ax, 0x44; out 0x10, eax\n"
                        "in eax, 0x45; out 0x10, eax\n"
                        "mov dx, 0xffff\n"
                        "in al, dx; out 0x10, eax\n"
                        "in ax, dx; out 0x10, eax\n"
                        "in eax, dx; out 0x10, eax\n"
                        "hlt\n");
    Device device;
    for (Mode mode : kAllModes) {
        Guest g(device, mode, codes.in(mode));
        EXPECT_OUT(g.vcpu, 0x40, 1, 0x44);
        EXPECT_OUT(g.vcpu, 0x41, 2, 0x3344);
        EXPECT_OUT(g.vcpu, 0x42, 4, 0x11223344);
        EXPECT_OUT(g.vcpu, 0x1234, 1, 0x44);
        EXPECT_OUT(g.vcpu, 0x1234, 2, 0x3344);
        EXPECT_OUT(g.vcpu, 0x1234, 4, 0x11223344);
        EXPECT_IN(g.vcpu, 0x43, 1, 0xa1);
        EXPECT_REPORT(g.vcpu, 0x112233a1);
        EXPECT_IN(g.vcpu, 0x44, 2, 0xb2b1);
        EXPECT_REPORT(g.vcpu, 0x1122b2b1);
        EXPECT_IN(g.vcpu, 0x45, 4, 0xc4c3c2c1);
        EXPECT_REPORT(g.vcpu, 0xc4c3c2c1);
        EXPECT_IN(g.vcpu, 0xffff, 1, 0xd1);
        EXPECT_REPORT(g.vcpu, 0xc4c3c2d1);
        EXPECT_IN(g.vcpu, 0xffff, 2, 0xe2e1);
        EXPECT_REPORT(g.vcpu, 0xc4c3e2e1);
        EXPECT_IN(g.vcpu, 0xffff, 4, 0);
        EXPECT_REPORT(g.vcpu, 0);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.vcpu.regs().rip, G_CODE + codes.in(mode).size());
        fails_in(guest::name(mode));
    }
}

TEST(port_in_upper_half)
{
    // In 64-bit mode IN to EAX clears the upper half of RAX; to AL and AX it does not.
    Device device;
    Guest g(device, Mode::kLong,
            CODE(64, "mov rax, -1; in al, 0x43; mov rbx, rax\n"
                     "in ax, 0x43; mov rcx, rax; in eax, 0x43; hlt"));
    EXPECT_IN(g.vcpu, 0x43, 1, 0x11);
    EXPECT_IN(g.vcpu, 0x43, 2, 0x2222);
    EXPECT_IN(g.vcpu, 0x43, 4, 0x33333333);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs r = g.vcpu.regs();
    EXPECT_EQ(r.rbx, 0xffffffffffffff11);
    EXPECT_EQ(r.rcx, 0xffffffffffff2222);
    EXPECT_EQ(r.rax, 0x33333333);
}

TEST(port_regs_between)
{
    // While an IN waits for its answer, RIP is still the instruction's or already the next one's;
    // what counts is that new registers may be set while an OUT is being served.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "1: out 0x10, eax; inc eax; jmp 1b"));
    for (uint32_t i = 0; i < 5; i++) {
        EXPECT_REPORT(g.vcpu, i == 0 ? 0 : 100 * i + 1);
        kvm_regs r = g.vcpu.regs();
        r.rax = 100 * (i + 1);
        g.vcpu.set(r);
    }
}

TEST_LIMIT(port_strings, 60)
{
    Device device;
    for (Mode mode : kAllModes) {
        Guest g(device, mode, CODE(16, "hlt"));
        for (bool out : {true, false})
            for (unsigned size : {1u, 2u, 4u})
                for (bool down : {false, true}) {
                    run_string(g, string_code(out, size, false).in(mode),
                               {out, size, false, down, 5, 0x100});
                    run_string(g, string_code(out, size, true).in(mode),
                               {out, size, true, down, 5, 0x100});
                    run_string(g, string_code(out, size, true).in(mode),
                               {out, size, true, down, 0, 0x100});
                    char where[80];
                    snprintf(where, sizeof(where), "%s %s size %u %s", guest::name(mode),
                             out ? "outs" : "ins", size, down ? "down" : "up");
                    fails_in(where);
                }
    }
}

TEST_LIMIT(port_strings_across_pages, 60)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    for (bool out : {true, false})
        for (bool down : {false, true}) {
            // 300 elements of 4 bytes around a page boundary that one element straddles.
            run_string(g, string_code(out, 4, true).in(Mode::kLong),
                       {out, 4, true, down, 300, down ? 0x1202u : 0xe02u});
            fails_in(out ? "outs" : "ins");
        }
    run_string(g, string_code(false, 1, true).in(Mode::kLong), {false, 1, true, false, 5000, 0x10});
}

TEST(port_string_address_size)
{
    // 32-bit addresses in 64-bit mode: the upper halves of RSI and RCX play no part; in protected
    // mode with 16-bit addresses only SI and CX change.
    Device device;
    {
        Guest g(device, Mode::kLong, CODE(64, "addr32 rep outsb; hlt"));
        kvm_regs r = fresh_regs();
        r.rsi = 0x1'0000'0000 | G_DATA;
        r.rcx = 0x1'0000'0000 | 2;
        r.rdx = 0x77;
        g.memory.at<uint16_t>(G_DATA) = 0x2211;
        start(g, CODE(64, "addr32 rep outsb; hlt"), r);
        EXPECT_OUT(g.vcpu, 0x77, 1, 0x11);
        EXPECT_OUT(g.vcpu, 0x77, 1, 0x22);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.vcpu.regs().rcx, 0);
        EXPECT_EQ(g.vcpu.regs().rsi, G_DATA + 2);
    }
    {
        Guest g(device, Mode::kProtected, CODE(32, "hlt"));
        kvm_regs r = fresh_regs();
        r.rsi = 0xabcd0000 | 0x9100;
        r.rcx = 0x12340000 | 2;
        r.rdx = 0x77;
        g.memory.at<uint16_t>(0x9100) = 0x2211;
        start(g, CODE(32, "addr16 rep outsb; hlt"), r);
        EXPECT_OUT(g.vcpu, 0x77, 1, 0x11);
        EXPECT_OUT(g.vcpu, 0x77, 1, 0x22);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.vcpu.regs().rcx, 0x12340000);
        EXPECT_EQ(g.vcpu.regs().rsi, 0xabcd9102);
    }
}

TEST(port_string_segment)
{
    // OUTS reads through DS or the override; INS writes through ES whatever the prefix.
    Device device;
    Guest g(device, Mode::kProtected, CODE(32, "hlt"));
    kvm_sregs s = g.vcpu.sregs();
    s.fs.base = 0x1000;
    s.ds.base = 0x2000;
    s.es.base = 0x3000;
    g.vcpu.set(s);
    for (uint64_t base : {0x1000, 0x2000, 0x3000})
        g.memory.at<uint8_t>(G_DATA + base) = static_cast<uint8_t>(base >> 8);
    kvm_regs r = fresh_regs();
    r.rsi = r.rdi = G_DATA;
    r.rdx = 0x77;
    start(g, CODE(32, "outsb; dec esi; .byte 0x64; outsb; .byte 0x64; insb; hlt"), r);
    EXPECT_OUT(g.vcpu, 0x77, 1, 0x20);
    EXPECT_OUT(g.vcpu, 0x77, 1, 0x10);
    EXPECT_IN(g.vcpu, 0x77, 1, 0xee);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.memory.at<uint8_t>(G_DATA + 0x3000), 0xee);
    EXPECT_EQ(g.memory.at<uint8_t>(G_DATA + 0x1000), 0x10);
}

TEST(port_outs_page_fault)
{
    // The 8 bytes that can be read are sent; the ninth raises #PF in the guest, with RCX and RSI in
    // between.
    Device device;
    for (Mode mode : {Mode::kPaged, Mode::kPae, Mode::kLong}) {
        Codes codes = CODES("rep outsb; hlt; 1: hlt");
        Guest g(device, mode, codes.in(mode));
        uint64_t absent = G_DATA + kPage;
        kvm_regs r = fresh_regs();
        r.rsi = absent - 8;
        r.rcx = 16;
        r.rdx = 0x77;
        start(g, codes.in(mode), r);
        g.resume_at(G_CODE + codes.in(mode).size() - 1);
        g.set_entry(absent, 0);
        for (int i = 0; i < 8; i++)
            EXPECT_OUT(g.vcpu, 0x77, 1, 0);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EXCEPTION(g, 0, 14, 0, G_CODE);
        EXPECT_EQ(g.log(0).cr2, absent);
        EXPECT_EQ(g.vcpu.regs().rcx, 8);
        EXPECT_EQ(g.vcpu.regs().rsi, absent);
        EXPECT_EQ(g.vcpu.regs().rip, G_CODE + codes.in(mode).size());
        fails_in(guest::name(mode));
    }
}

TEST(port_ins_page_fault)
{
    // INS to a read-only page (CR0.WP = 1): #PF, error code present + write. Whether the port was
    // read before is left open by the architecture; KVM reads it.
    Device device;
    Blob code = CODE(64, "insd; hlt; hlt");
    Guest g(device, Mode::kLong, code);
    kvm_regs r = fresh_regs();
    r.rdi = G_DATA + 0x20;
    r.rdx = 0x77;
    start(g, code, r);
    g.resume_at(G_CODE + code.size() - 1);
    g.set_entry(G_DATA, G_DATA | guest::kPresent);
    REQUIRE_OK(g.vcpu.enter());
    if (g.vcpu.run->exit_reason == KVM_EXIT_IO)
        REQUIRE_OK(g.vcpu.enter());
    EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 14, 3, G_CODE);
    EXPECT_EQ(g.log(0).cr2, G_DATA + 0x20);
    EXPECT_EQ(g.memory.at<uint32_t>(G_DATA + 0x20), 0);
}
