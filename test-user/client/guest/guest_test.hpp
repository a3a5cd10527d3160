// SPDX-License-Identifier: GPL-2.0-only
//
// What the files of guest_test share: guest code written where it is used, and checks of one exit
// each.
//
// A note on loops: a guest that must be interruptible runs with interrupts enabled (RFLAGS.IF = 1).
// Bochs up to 3.0 takes a guest's IF = 0 for the host's at VM entry, so there a loop without exits
// would stop the machine.
#pragma once

#include "../common/guest.hpp"

// Guest code in Intel syntax, assembled with the test; `bits` is 16, 32 or 64. Numeric labels work
// as usual.
#define CODE(bits, text)                                                                           \
    ({                                                                                             \
        const uint8_t *code_begin, *code_end;                                                      \
        asm(".pushsection .rodata.guests, \"a\"\n"                                                 \
            ".code" #bits "\n"                                                                     \
            ".intel_syntax noprefix\n"                                                             \
            "771:\n" text "\n"                                                                     \
            "772: nop\n"                                                                           \
            ".att_syntax prefix\n"                                                                 \
            ".code64\n"                                                                            \
            ".popsection\n"                                                                        \
            "lea 771b(%%rip), %0\n"                                                                \
            "lea 772b(%%rip), %1\n"                                                                \
            : "=r"(code_begin), "=r"(code_end));                                                   \
        guest::Blob{code_begin, code_end};                                                         \
    })
// The same text for each width.
#define CODES(text)                                                                                \
    Codes                                                                                          \
    {                                                                                              \
        CODE(16, text), CODE(32, text), CODE(64, text)                                             \
    }

using namespace kvm;
using guest::Blob;
using guest::Guest;
using guest::kAllModes;
using guest::Mode;

struct Codes {
    Blob code16, code32, code64;
    Blob in(Mode mode) const
    {
        return mode == Mode::kReal ? code16 : mode == Mode::kLong ? code64 : code32;
    }
};

// Adds which mode (or case) a test failed in.
inline void fails_in(const char *where)
{
    if (test::verdict->state == test::Verdict::kFailed) {
        size_t room = sizeof(test::verdict->why) - strlen(test::verdict->why) - 1;
        strncat(test::verdict->why, " in: ", room);
        strncat(test::verdict->why, where, room > 6 ? room - 6 : 0);
        test::leave();
    }
}

// Transparent huge pages for this memory, if the kernel has them; it may have them switched off.
inline bool want_huge_pages(void *start, size_t size)
{
    Fd mode(open("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY));
    if (mode.get() >= 0)
        (void)!write(mode.get(), "madvise", 7);
    return madvise(start, size, MADV_HUGEPAGE) == 0;
}

inline kvm_regs fresh_regs(uint64_t flags = 2)
{
    kvm_regs r = {};
    r.rip = G_CODE;
    r.rflags = flags;
    r.rsp = 0x9f00; // below the code: the last stub is well below that
    return r;
}

// Puts new code in place and starts it with these registers.
inline void start(Guest &g, Blob code, const kvm_regs &regs = fresh_regs())
{
    REQUIRE(G_CODE + code.size() + 16 <= G_LOG);
    g.copy(G_CODE, code);
    g.memory.at<uint32_t>(LOG_COUNT) = 0;
    g.resume_at(0);
    g.vcpu.set(regs);
}

// Goes on until the next exit to userspace, which must have this reason.
inline bool enter_until(int line, Vcpu &vcpu, uint32_t reason)
{
    if (vcpu.enter() == -1) {
        test::fail(__FILE__, line, "KVM_RUN: %s", test::errno_name(errno));
        return false;
    }
    const kvm_run &run = *vcpu.run;
    if (run.exit_reason == reason)
        return true;
    char more[96] = "";
    if (run.exit_reason == KVM_EXIT_IO)
        snprintf(more, sizeof(more), " port 0x%x size %u direction %u", run.io.port, run.io.size,
                 run.io.direction);
    else if (run.exit_reason == KVM_EXIT_MMIO)
        snprintf(more, sizeof(more), " address 0x%llx length %u write %u", run.mmio.phys_addr,
                 run.mmio.len, run.mmio.is_write);
    else if (run.exit_reason == KVM_EXIT_INTERNAL_ERROR)
        snprintf(more, sizeof(more), " suberror %u data 0x%llx", run.internal.suberror,
                 run.internal.data[0]);
    else if (run.exit_reason == KVM_EXIT_FAIL_ENTRY)
        snprintf(more, sizeof(more), " 0x%llx", run.fail_entry.hardware_entry_failure_reason);
    test::fail(__FILE__, line, "exit (expected %s, got %u %s%s) at rip 0x%llx", exit_name(reason),
               run.exit_reason, exit_name(run.exit_reason), more, vcpu.regs().rip);
    return false;
}

inline uint64_t masked(uint64_t value, unsigned bytes)
{
    return bytes >= 8 ? value : value & ((1ULL << 8 * bytes) - 1);
}

inline bool check_out(int line, Vcpu &vcpu, uint16_t port, uint8_t size, uint64_t value)
{
    if (!enter_until(line, vcpu, KVM_EXIT_IO))
        return false;
    const kvm_run &run = *vcpu.run;
    uint64_t got = 0;
    memcpy(&got, vcpu.io_data(), size);
    if (run.io.direction == KVM_EXIT_IO_OUT && run.io.port == port && run.io.size == size &&
        run.io.count == 1 && run.io.data_offset == kPage && got == value)
        return true;
    test::fail(__FILE__, line,
               "out (expected port 0x%x size %u value 0x%llx, got direction %u port 0x%x size %u "
               "count %u offset "
               "0x%llx value 0x%llx)",
               port, size, static_cast<unsigned long long>(value), run.io.direction, run.io.port,
               run.io.size, run.io.count, run.io.data_offset, static_cast<unsigned long long>(got));
    return false;
}

// An IN; `value` is what the port gives. The bytes behind it are dirtied: they must not get
// anywhere.
inline bool check_in(int line, Vcpu &vcpu, uint16_t port, uint8_t size, uint64_t value)
{
    if (!enter_until(line, vcpu, KVM_EXIT_IO))
        return false;
    const kvm_run &run = *vcpu.run;
    if (run.io.direction == KVM_EXIT_IO_IN && run.io.port == port && run.io.size == size &&
        run.io.count == 1 && run.io.data_offset == kPage) {
        memset(vcpu.io_data(), 0xcc, 16);
        memcpy(vcpu.io_data(), &value, size);
        return true;
    }
    test::fail(__FILE__, line,
               "in (expected port 0x%x size %u, got direction %u port 0x%x size %u count %u)", port,
               size, run.io.direction, run.io.port, run.io.size, run.io.count);
    return false;
}

inline bool check_mmio(int line, Vcpu &vcpu, bool write, uint64_t address, unsigned length,
                       uint64_t value)
{
    if (!enter_until(line, vcpu, KVM_EXIT_MMIO))
        return false;
    kvm_run &run = *vcpu.run;
    uint64_t got = 0;
    memcpy(&got, run.mmio.data, 8);
    bool same =
        run.mmio.phys_addr == address && run.mmio.len == length && run.mmio.is_write == write;
    if (!same || (write && masked(got, length) != masked(value, length))) {
        test::fail(__FILE__, line,
                   "mmio (expected %s 0x%llx length %u value 0x%llx, got %s 0x%llx length %u value "
                   "0x%llx)",
                   write ? "write" : "read", static_cast<unsigned long long>(address), length,
                   static_cast<unsigned long long>(masked(value, length)),
                   run.mmio.is_write ? "write" : "read", run.mmio.phys_addr, run.mmio.len,
                   static_cast<unsigned long long>(masked(got, length)));
        return false;
    }
    if (!write) {
        memset(run.mmio.data, 0xcc, sizeof(run.mmio.data));
        memcpy(run.mmio.data, &value, length);
    }
    return true;
}

// Each enters the guest once. EXPECT_OUT and the MMIO ones end the test when the exit is another
// one.
#define ENTER(vcpu, reason)                                                                        \
    do {                                                                                           \
        if (!enter_until(__LINE__, vcpu, reason))                                                  \
            test::leave();                                                                         \
    } while (0)
#define EXPECT_OUT(vcpu, port, size, value)                                                        \
    do {                                                                                           \
        if (!check_out(__LINE__, vcpu, port, size, value))                                         \
            test::leave();                                                                         \
    } while (0)
#define EXPECT_IN(vcpu, port, size, value)                                                         \
    do {                                                                                           \
        if (!check_in(__LINE__, vcpu, port, size, value))                                          \
            test::leave();                                                                         \
    } while (0)
#define EXPECT_REPORT(vcpu, value) EXPECT_OUT(vcpu, PORT_OUT, 4, value)
#define EXPECT_MMIO_WRITE(vcpu, address, length, value)                                            \
    do {                                                                                           \
        if (!check_mmio(__LINE__, vcpu, true, address, length, value))                             \
            test::leave();                                                                         \
    } while (0)
#define EXPECT_MMIO_READ(vcpu, address, length, value)                                             \
    do {                                                                                           \
        if (!check_mmio(__LINE__, vcpu, false, address, length, value))                            \
            test::leave();                                                                         \
    } while (0)

// An exception as the guest's handler saw it.
inline void check_record(int line, Guest &g, uint32_t index, uint32_t vector, uint32_t error,
                         uint64_t rip)
{
    if (g.log_count() <= index) {
        test::fail(__FILE__, line, "exception %u was not delivered (%u were)", vector,
                   g.log_count());
        return;
    }
    guest::Record r = g.log(index);
    if (r.vector != vector || r.error != error || r.rip != rip)
        test::fail(__FILE__, line,
                   "exception (expected vector %u error 0x%x rip 0x%llx, got vector %u error 0x%x "
                   "rip 0x%llx)",
                   vector, error, static_cast<unsigned long long>(rip), r.vector, r.error,
                   static_cast<unsigned long long>(r.rip));
}
#define EXPECT_EXCEPTION(g, index, vector, error, rip)                                             \
    check_record(__LINE__, g, index, vector, error, rip)

// CPUID as the guests of a mode need it is set by Guest; this is for the tests that need to know.
inline bool host_has(unsigned leaf, unsigned subleaf, char reg, unsigned bit)
{
    uint32_t a, b, c, d;
    asm("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(subleaf));
    uint32_t word = reg == 'a' ? a : reg == 'b' ? b : reg == 'c' ? c : d;
    return word >> bit & 1;
}
