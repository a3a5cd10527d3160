// SPDX-License-Identifier: GPL-2.0-only
//
// A guest of one mode, ready to run: memory, one vCPU, descriptor tables, page tables, exception
// stubs.
#pragma once

#include <array>
#include <cstddef>

#include "kvm.hpp"
#include "layout.h"

// The bytes between two labels of an assembly file.
#define DECLARE_GUEST(name) extern "C" const uint8_t guest_##name[], guest_##name##_end[]
#define BLOB(name)                                                                                 \
    guest::Blob                                                                                    \
    {                                                                                              \
        guest_##name, guest_##name##_end                                                           \
    }
// The guest's address of a label inside the guest `name`.
#define GUEST_ADDRESS(name, label) (G_CODE + static_cast<uint64_t>((label)-guest_##name))

DECLARE_GUEST(stubs16);
DECLARE_GUEST(stubs32);
DECLARE_GUEST(stubs64);

namespace guest {

struct Blob {
    const uint8_t *begin;
    const uint8_t *end;
    size_t size() const { return static_cast<size_t>(end - begin); }
};

enum class Mode { kReal, kProtected, kPaged, kPae, kLong };
constexpr Mode kAllModes[] = {Mode::kReal, Mode::kProtected, Mode::kPaged, Mode::kPae, Mode::kLong};

inline const char *name(Mode mode)
{
    constexpr const char *kNames[] = {"real", "protected", "paged", "pae", "long"};
    return kNames[static_cast<int>(mode)];
}

constexpr uint64_t kPe = 1, kEt = 1 << 4, kNe = 1 << 5, kWp = 1 << 16, kPg = 1u << 31;
constexpr uint64_t kCr4Pse = 1 << 4, kCr4Pae = 1 << 5, kCr4Osfxsr = 1 << 9, kCr4Osxsave = 1 << 18;
constexpr uint64_t kLme = 1 << 8, kLma = 1 << 10, kNxe = 1 << 11;
constexpr uint64_t kPresent = 1, kWrite = 2, kUser = 4, kLarge = 0x80;

// One record of the exception stubs.
struct Record {
    uint32_t vector, error;
    uint64_t cr2, rip, flags;
};
static_assert(sizeof(Record) == LOG_RECORD_SIZE);

// Puts `s` (as reset left it) into a mode, with the tables of layout.h.
inline void make_sregs_for(Mode mode, kvm_sregs &s);
// Writes that mode's page tables: below G_SIZE everything is mapped to itself, and so is G_MMIO.
inline void write_tables_for(Mode mode, kvm::Memory &memory);
// Where the entry for the 4 KiB page at `address` is.
inline uint64_t entry_address(Mode mode, uint64_t address);

class Guest {
  public:
    kvm::Device &device;
    kvm::Vm vm;
    kvm::Memory memory;
    kvm::Vcpu vcpu;
    Mode mode;

    // `prepare` may change the VM before its vCPU exists (capabilities, more slots).
    Guest(kvm::Device &d, Mode m, Blob code, void (*prepare)(kvm::Vm &) = nullptr)
        : device(d), vm(d), memory(G_SIZE), mode(m)
    {
        if (prepare)
            prepare(vm);
        REQUIRE_OK(vm.set_slot(0, 0, G_SIZE, memory.base));
        vcpu = kvm::Vcpu(d, vm);
        load(code);
        set_cpuid();
        enter_mode(vcpu);
    }

    void load(Blob code)
    {
        REQUIRE(G_CODE + code.size() <= G_LOG);
        copy(G_CODE, code);
        write_gdt();
        switch (mode) {
        case Mode::kReal:
            copy(G_STUBS, {guest_stubs16, guest_stubs16_end});
            for (uint32_t v = 0; v < 64; v++)
                memory.at<uint32_t>(G_IVT + 4 * v) = G_STUBS + 16 * v;
            break;
        case Mode::kLong:
            copy(G_STUBS, {guest_stubs64, guest_stubs64_end});
            break;
        default:
            copy(G_STUBS, {guest_stubs32, guest_stubs32_end});
        }
        if (mode != Mode::kReal)
            for (uint32_t v = 0; v < 64; v++)
                set_gate(v, G_STUBS + 16 * v);
        write_tables_for(mode, memory);
    }

    void copy(uint64_t gpa, Blob blob) { memcpy(memory.base + gpa, blob.begin, blob.size()); }

    // An interrupt gate (IF is cleared in the handler).
    void set_gate(uint32_t vector, uint64_t handler)
    {
        uint64_t low = (handler & 0xffff) | 0x8e00'0000'0000 | (handler & 0xffff0000) << 32;
        if (mode == Mode::kLong) {
            memory.at<uint64_t>(G_IDT + 16 * vector) = low | uint64_t{SEL_CODE64} << 16;
            memory.at<uint64_t>(G_IDT + 16 * vector + 8) = handler >> 32;
        } else
            memory.at<uint64_t>(G_IDT + 8 * vector) = low | uint64_t{SEL_CODE32} << 16;
    }

    // The page-table entry that maps the 4 KiB page at `address` (below 2 MiB).
    uint64_t entry(uint64_t address)
    {
        uint64_t at = entry_address(mode, address);
        return mode == Mode::kPaged ? memory.at<uint32_t>(at) : memory.at<uint64_t>(at);
    }
    void set_entry(uint64_t address, uint64_t value)
    {
        if (mode == Mode::kPaged)
            memory.at<uint32_t>(entry_address(mode, address)) = static_cast<uint32_t>(value);
        else
            memory.at<uint64_t>(entry_address(mode, address)) = value;
    }

    uint32_t log_count() { return memory.at<uint32_t>(LOG_COUNT); }
    Record log(uint32_t i) { return memory.at<Record>(LOG_RECORDS + i * LOG_RECORD_SIZE); }
    void resume_at(uint64_t address) { memory.at<uint64_t>(LOG_RESUME) = address; }

    // A vCPU in this guest's mode, about to execute at G_CODE with interrupts as `flags` says.
    void enter_mode(kvm::Vcpu &v, uint64_t flags = 2, uint64_t stack = G_STACK)
    {
        kvm_sregs s = v.sregs();
        make_sregs(s);
        v.set(s);
        kvm_regs r = {};
        r.rip = G_CODE;
        r.rflags = flags;
        r.rsp = mode == Mode::kReal ? 0xa000 : stack;
        v.set(r);
    }

    void make_sregs(kvm_sregs &s) const { make_sregs_for(mode, s); }
    void set_cpuid() { set_cpuid(vcpu); }
    // Every feature the device offers: EFER and CR4 bits are refused to a guest without its CPUID.
    void set_cpuid(kvm::Vcpu &v)
    {
        kvm::Cpuid all;
        kvm::Cpuid::supported(device, all);
        REQUIRE_OK(kvm::call(v, KVM_SET_CPUID2, all.list));
    }

    bool long_mode() const { return mode == Mode::kLong; }

  private:
    void write_gdt()
    {
        const uint64_t gdt[] = {0,
                                0x00cf9b000000ffff,
                                0x00cf93000000ffff,
                                0x00af9b000000ffff,
                                0x00008b0000000067 | uint64_t{G_TSS} << 16,
                                0,
                                0x00009b000000ffff,
                                0x000093000000ffff};
        memcpy(memory.base + G_GDT, gdt, sizeof(gdt));
    }
};

inline uint64_t entry_address(Mode mode, uint64_t address)
{
    uint64_t index = address / kvm::kPage;
    switch (mode) {
    case Mode::kPaged:
        return G_TABLES + 0x1000 + 4 * index;
    case Mode::kPae:
        return G_TABLES + 0x2000 + 8 * index;
    default:
        return G_TABLES + 0x3000 + 8 * index;
    }
}

inline void write_tables_for(Mode mode, kvm::Memory &memory)
{
    constexpr uint64_t kFlags = kPresent | kWrite;
    memset(memory.base + G_TABLES, 0, 5 * kvm::kPage);
    uint64_t t = G_TABLES;
    if (mode == Mode::kPaged) {
        memory.at<uint32_t>(t) = static_cast<uint32_t>((t + 0x1000) | kFlags);
        memory.at<uint32_t>(t + 4 * (G_MMIO >> 22)) = G_MMIO | kFlags | kLarge;
    } else if (mode == Mode::kPae) {
        memory.at<uint64_t>(t) = (t + 0x1000) | kPresent;
        memory.at<uint64_t>(t + 24) = (t + 0x3000) | kPresent;
        memory.at<uint64_t>(t + 0x1000) = (t + 0x2000) | kFlags;
        memory.at<uint64_t>(t + 0x3000 + 8 * (G_MMIO >> 21 & 511)) = G_MMIO | kFlags | kLarge;
    } else if (mode == Mode::kLong) {
        memory.at<uint64_t>(t) = (t + 0x1000) | kFlags;
        memory.at<uint64_t>(t + 0x1000) = (t + 0x2000) | kFlags;
        memory.at<uint64_t>(t + 0x1000 + 24) = (t + 0x4000) | kFlags;
        memory.at<uint64_t>(t + 0x2000) = (t + 0x3000) | kFlags;
        memory.at<uint64_t>(t + 0x4000 + 8 * (G_MMIO >> 21 & 511)) = G_MMIO | kFlags | kLarge;
    } else
        return;
    for (uint64_t address = 0; address < G_SIZE; address += kvm::kPage) {
        uint64_t at = entry_address(mode, address);
        if (mode == Mode::kPaged)
            memory.at<uint32_t>(at) = static_cast<uint32_t>(address | kFlags);
        else
            memory.at<uint64_t>(at) = address | kFlags;
    }
}

inline void make_sregs_for(Mode mode, kvm_sregs &s)
{
    if (mode == Mode::kReal) {
        // As reset leaves it, except that CS is at 0 and so are the others.
        s.cs.base = 0;
        s.cs.selector = 0;
        return;
    }
    auto segment = [](uint16_t selector, uint8_t type, bool code64) {
        kvm_segment g = {};
        g.limit = 0xffffffff;
        g.selector = selector;
        g.type = type;
        g.present = 1;
        g.s = 1;
        g.g = 1;
        g.db = !code64;
        g.l = code64;
        return g;
    };
    bool lm = mode == Mode::kLong;
    s.cs = segment(lm ? SEL_CODE64 : SEL_CODE32, 11, lm);
    s.ds = s.es = s.fs = s.gs = s.ss = segment(SEL_DATA, 3, false);
    s.tr = {};
    s.tr.base = G_TSS;
    s.tr.limit = 0x67;
    s.tr.selector = SEL_TSS;
    s.tr.type = 11;
    s.tr.present = 1;
    s.ldt = {};
    s.ldt.unusable = 1;
    s.gdt.base = G_GDT;
    s.gdt.limit = 0x3f;
    s.idt.base = G_IDT;
    s.idt.limit = 0xfff;
    s.cr0 = kPe | kEt | kNe | (mode == Mode::kProtected ? 0 : kPg | kWp);
    s.cr3 = mode == Mode::kProtected ? 0 : G_TABLES;
    s.cr4 = mode == Mode::kPaged ? kCr4Pse : mode == Mode::kProtected ? 0 : kCr4Pae;
    s.efer = lm ? kLme | kLma : 0;
}

} // namespace guest
