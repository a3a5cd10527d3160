// SPDX-License-Identifier: GPL-2.0-only
//
// Emulated instructions of 16-, 32- and 64-bit code against the CPU this runs on. The kernel lets a
// process have 16- and 32-bit code segments (modify_ldt); a signal handler enters them, or 64-bit
// code, with RFLAGS.TF set, and the next signal tells what one instruction did: registers, flags,
// where it went, memory, or which exception it raised. The emulator starts from the same state in a
// guest at CPL 3, with the same segments and the same pages. Everything must come out equal.
#include "guest.hpp"
#include "host_cpu.hpp"

#include "src/core/emulate/opcodes.hpp"

#include <asm/ldt.h>
#include <csignal>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <iostream>
#include <map>
#include <random>
#include <sstream>

namespace minivmx::test {
namespace {

// One megabyte, at the same linear addresses in this process and in the guest: data and code of 64
// KiB each, and pages that aren't there.
constexpr u64 kArena = 0x10000000, kArenaSize = 0x100000;
constexpr u64 kDataAt = 0x20000, kCodeAt = 0x40000, kRegion = 0x10000;
// Guest-physical.
constexpr u64 kTables = 0x10000, kMemory = 0x200000;

constexpr u64 kStatusFlags = 0x8d5;
constexpr u64 kComparedFlags = kStatusFlags | X86_EFLAGS_DF | X86_EFLAGS_NT | X86_EFLAGS_ID;

// ---- Segments ---------------------------------------------------------------

struct SegmentKind {
    const char *name;
    u64 base;
    u32 limit;
    bool code, expand_down, restricted; // restricted: code not readable, data not writable
    bool big;
    bool code_64 = false;

    u32 rights() const
    {
        if (code_64)
            return 0xa0fb;
        const u32 type = 1u | (restricted ? 0 : 2) | (expand_down ? 4 : 0) | (code ? 8 : 0);
        return type | 0xf0 | (big ? 0x4000 : 0);
    }
};

enum SegmentIndex : unsigned {
    kCode16,
    kCode32,
    kCode16Unreadable,
    kCode32Short,
    kData16,
    kData32,
    kDataReadOnly,
    kDataExpandDown,
    kSegmentCount, // of these; the kernel has the others
    kCode64 = kSegmentCount,
    kFlat,
    kNull,
};

constexpr SegmentKind kSegments[] = {
    {"code16", kArena + kCodeAt, 0xffff, true, false, false, false},
    {"code32", kArena, kArenaSize - 1, true, false, false, true},
    {"code16 unreadable", kArena + kCodeAt, 0xffff, true, false, true, false},
    {"code32 short", kArena + kCodeAt, 0x7fff, true, false, false, true},
    {"data16", kArena + kDataAt, 0xffff, false, false, false, false},
    {"data32", kArena, kArenaSize - 1, false, false, false, true},
    {"read-only", kArena + kDataAt, 0xffff, false, false, true, false},
    {"expand-down", kArena + kDataAt, 0x7fff, false, true, false, false},
    {"code64", 0, 0xffffffff, true, false, false, true, true},
    {"flat", 0, 0xffffffff, false, false, false, true},
    {"null", 0, 0xffffffff, false, false, false, true},
};

constexpr u16 selector_of(unsigned index)
{
    constexpr u16 kOfKernel[] = {0x33, 0x2b, 0}; // Linux' user code and data
    return index < kSegmentCount ? static_cast<u16>(index << 3 | 7)
                                 : kOfKernel[index - kSegmentCount];
}

/// Makes the segments this process's. False: the kernel doesn't.
bool install_segments()
{
    for (unsigned i = 0; i < kSegmentCount; i++) {
        const SegmentKind &kind = kSegments[i];
        user_desc entry = {};
        entry.entry_number = i;
        entry.base_addr = static_cast<u32>(kind.base);
        entry.limit = kind.limit;
        entry.seg_32bit = kind.big;
        entry.contents = kind.code ? 2 : kind.expand_down ? 1 : 0;
        entry.read_exec_only = kind.restricted;
        entry.useable = 1;
        constexpr int kWriteEntry = 0x11;
        if (syscall(SYS_modify_ldt, kWriteEntry, &entry, sizeof(entry)) != 0)
            return false;
    }
    return true;
}

// ---- One step of the CPU ----------------------------------------------------

struct State {
    u64 reg[16];
    u64 rip;
    u64 flags;
    unsigned code, stack, ds, es; // SegmentIndex
};

/// What became of it.
struct Result {
    int vector; // of an exception; 1: none, the single-step trap
    u32 error_code;
    u64 address; // of a page fault
    u64 reg[16];
    u64 rip;
    u64 flags;
    u64 kept_flags; // that a signal handler's return doesn't change: what they were before
};

class Stepper {
  public:
    Stepper()
    {
        current_ = this;
        stack_t stack = {};
        stack.ss_sp = handler_stack_.data();
        stack.ss_size = handler_stack_.size();
        sigaltstack(&stack, nullptr);
        struct sigaction action = {};
        action.sa_sigaction = handler;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (usize i = 0; i < std::size(kSignals); i++)
            sigaction(kSignals[i], &action, &previous_[i]);
    }
    ~Stepper()
    {
        for (usize i = 0; i < std::size(kSignals); i++)
            sigaction(kSignals[i], &previous_[i], nullptr);
        stack_t none = {};
        none.ss_flags = SS_DISABLE;
        sigaltstack(&none, nullptr);
        current_ = nullptr;
    }
    Stepper(const Stepper &) = delete;
    Stepper &operator=(const Stepper &) = delete;

    Result step(const State &state)
    {
        state_ = state;
        inside_ = false;
        const u16 ds = selector_of(state.ds);
        const u16 es = selector_of(state.es);
        asm volatile("mov %0, %%ds\n\tmov %1, %%es" : : "r"(u32{ds}), "r"(u32{es}));
        raise(SIGUSR1);
        asm volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(0));
        return result_;
    }

  private:
    static constexpr u64 kKeptFlags = X86_EFLAGS_ID | X86_EFLAGS_NT;
    static constexpr int kSignals[] = {SIGUSR1, SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    static constexpr int kRegisters[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                         REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                         REG_R12, REG_R13, REG_R14, REG_R15};

    static void handler(int, siginfo_t *info, void *context)
    {
        greg_t *regs = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
        if (current_->inside_)
            current_->leave(regs, info);
        else
            current_->enter(regs);
    }
    void enter(greg_t *regs)
    {
        std::memcpy(saved_, regs, sizeof(saved_));
        inside_ = true;
        for (unsigned i = 0; i < 16; i++)
            regs[kRegisters[i]] = static_cast<greg_t>(state_.reg[i]);
        regs[REG_RIP] = static_cast<greg_t>(state_.rip);
        regs[REG_EFL] = static_cast<greg_t>(state_.flags);
        regs[REG_CSGSFS] =
            static_cast<greg_t>(selector_of(state_.code) | u64{selector_of(state_.stack)} << 48);
    }
    void leave(greg_t *regs, const siginfo_t *info)
    {
        result_.vector = static_cast<int>(regs[REG_TRAPNO]);
        result_.error_code = static_cast<u32>(regs[REG_ERR]);
        result_.address = reinterpret_cast<u64>(info->si_addr);
        for (unsigned i = 0; i < 16; i++)
            result_.reg[i] = static_cast<u64>(regs[kRegisters[i]]);
        result_.rip = static_cast<u64>(regs[REG_RIP]);
        result_.flags = static_cast<u64>(regs[REG_EFL]);
        result_.kept_flags = static_cast<u64>(saved_[REG_EFL]) & kKeptFlags;
        std::memcpy(regs, saved_, sizeof(saved_));
    }

    static inline Stepper *current_;
    std::vector<u8> handler_stack_ = std::vector<u8>(256 * 1024);
    struct sigaction previous_[std::size(kSignals)] = {};
    greg_t saved_[NGREG];
    State state_{};
    Result result_{};
    volatile bool inside_ = false;
};

// ---- What to try ------------------------------------------------------------

/// Instructions whose effect is the kernel's or the hypervisor's, or that depend on what this test
/// doesn't set up.
bool left_out(const Instruction &insn)
{
    using enum Operation;
    switch (insn.operation) {
    case kCpuid:
    case kRdtsc:
    case kRdtscp:
    case kRdpmc:
    case kJmpFar:
    case kCallFar:
    case kRetFar:
    case kInt:
    case kInt3:
    case kInto:
    case kIcebp:
    case kIret:
    case kSyscall:
    case kSysret:
    case kSysenter:
    case kSysexit:
    case kLoadFarPointer:
    case kLoadSegment:
    case kPopSegment:
    case kLar:
    case kLsl:
    case kVerr:
    case kVerw:
    case kSmsw:
    case kXgetbv:
    case kMonitor:
    case kMwait:
    case kVmcall:
    case kFxsave:
    case kFxrstor:
    case kLdmxcsr:
    case kStmxcsr:
    case kReadSegmentBase:
    case kWriteSegmentBase:
    case kXsaves:
    case kXrstors:
    case kMovVector:
    case kMovLow:
    case kMovHigh:
    case kMovPart:
    case kMovHighToLow:
    case kMovLowToHigh:
        return true;
    default:
        break;
    }
    if (insn.operation >= kWait && insn.operation <= kFldcw)
        return true;
    if (insn.operation >= kSgdt && insn.operation <= kStr)
        return true;
    if (insn.operation == kPush && insn.source.kind == OperandKind::kSegment)
        return insn.source.reg >= kFs;
    if (insn.operation == kStoreSegment)
        return insn.source.reg >= kFs;
    return insn.operation == kMovbe && !host_has_movbe();
}

/// Flags that the manual leaves undefined, of what the emulator doesn't let the CPU compute in the
/// same way: shifts and rotates by a constant have the count in CL there.
u64 undefined_flags(Operation operation)
{
    using enum Operation;
    if (operation >= kRol && operation <= kSar)
        return X86_EFLAGS_OF;
    switch (operation) {
    case kDaa:
    case kDas:
        return X86_EFLAGS_OF;
    case kAaa:
    case kAas:
        return X86_EFLAGS_OF | X86_EFLAGS_SF | X86_EFLAGS_ZF | X86_EFLAGS_PF;
    case kAam:
    case kAad:
        return X86_EFLAGS_OF | X86_EFLAGS_AF | X86_EFLAGS_CF;
    default:
        return 0;
    }
}

struct Trial {
    State state;
    std::vector<u8> code;
    Instruction insn;
    DecodeStatus status;
};

class Generator {
  public:
    Generator(u64 seed, bool code_64) : random{seed}, code_64_{code_64}
    {
        for (const OpcodeMap map : {OpcodeMap::kOneByte, OpcodeMap::k0F, OpcodeMap::k0F38})
            for (unsigned opcode = 0; opcode < 256; opcode++)
                if (!find_opcode(map, static_cast<u8>(opcode)).empty())
                    opcodes_.push_back({map, static_cast<u8>(opcode)});
    }
    std::mt19937_64 random;
    u64 below(u64 n) { return random() % n; }

    Trial make()
    {
        for (;;) {
            Trial trial;
            make_state(trial.state);
            trial.code = make_code();
            const SegmentKind &code = kSegments[trial.state.code];
            const CodeMode mode = code.code_64 ? CodeMode::k64
                                  : code.big   ? CodeMode::k32
                                               : CodeMode::k16;
            trial.status = decode_instruction(mode, trial.code.data(),
                                              static_cast<u32>(trial.code.size()), trial.insn);
            if (trial.status == DecodeStatus::kUnknown ||
                trial.status == DecodeStatus::kTruncated || left_out(trial.insn) ||
                (code_64_ && !is_safe(trial)))
                continue;
            // Bytes behind the instruction stay: its length is for the CPU to find out.
            return trial;
        }
    }

  private:
    struct Opcode {
        OpcodeMap map;
        u8 opcode;
    };
    std::vector<Opcode> opcodes_;
    bool code_64_;

    u64 any_value()
    {
        u64 value;
        switch (below(4)) {
        case 0:
            value = below(4) - 2;
            break;
        case 1:
            value = u64{1} << below(code_64_ ? 64 : 32);
            break;
        default:
            value = random();
            break;
        }
        return code_64_ ? value : static_cast<u32>(value);
    }

    /// 64-bit code has the whole process to write to: only the arena, and addresses that no page
    /// table has.
    static bool is_safe_address(u64 address)
    {
        constexpr u64 kRoom = 64;
        const bool canonical = static_cast<u64>(static_cast<s64>(address << 7) >> 7) == address;
        return address - kArena < kArenaSize - kRoom || !canonical;
    }
    static bool is_safe(const Trial &trial)
    {
        const Instruction &insn = trial.insn;
        const u64 *reg = trial.state.reg;
        const u64 mask = insn.address_size == 8 ? ~u64{0} : 0xffffffff;
        if (trial.status != DecodeStatus::kDecoded)
            return true; // #UD, or #GP
        // With 32-bit addresses and a count of 0, upper halves differ from CPU to CPU.
        if (insn.operation >= Operation::kMovs && insn.address_size == 4 &&
            static_cast<u32>(reg[kRcx]) == 0)
            return false;
        if (insn.operation >= Operation::kMovs)
            return insn.memory.segment < kFs && is_safe_address(reg[kRsi] & mask) &&
                   is_safe_address(reg[kRdi] & mask);
        const bool in_memory = insn.destination.kind == OperandKind::kMemory ||
                               insn.source.kind == OperandKind::kMemory ||
                               insn.third.kind == OperandKind::kMemory;
        if (!in_memory || insn.operation == Operation::kLea)
            return true;
        const bool bit_string =
            insn.operation >= Operation::kBt && insn.operation <= Operation::kBtc;
        if (bit_string && insn.source.kind == OperandKind::kRegister)
            return false; // far away
        const MemoryOperand &m = insn.memory;
        if (m.segment >= kFs)
            return false; // where this thread's data is
        u64 address = m.displacement + (m.rip_relative ? trial.state.rip + insn.length : 0);
        if (m.base != kNoRegister)
            address += reg[m.base];
        if (m.index != kNoRegister)
            address += reg[m.index] * m.scale;
        // POP's address counts from the stack pointer behind it, XLAT's has AL added.
        return is_safe_address(address & mask) && is_safe_address((address + 0xff) & mask);
    }
    /// Mostly an offset in the data.
    u64 pointer(bool wide)
    {
        if (below(8) == 0)
            return any_value();
        const u64 offset = below(6) ? below(kRegion) : below(2) ? below(32) : kRegion - below(32);
        return (wide ? kDataAt : 0) + (code_64_ ? kArena : 0) + offset;
    }
    void make_state_64(State &s)
    {
        s.code = kCode64;
        s.stack = kFlat;
        s.ds = s.es = kNull;
        for (u64 &reg : s.reg)
            reg = below(3) ? pointer(true) : any_value();
        for (const Gpr gpr : {kRsp, kRbp})
            s.reg[gpr] = kArena + kDataAt + below(kRegion);
        if (below(2))
            s.reg[kRcx] = below(4);
        s.rip = kArena + kCodeAt + below(0x1000);
    }
    void make_state(State &s)
    {
        s = {};
        s.flags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_TF |
                  (random() & (kStatusFlags | X86_EFLAGS_DF));
        if (code_64_)
            make_state_64(s);
        else
            make_state_legacy(s);
    }
    void make_state_legacy(State &s)
    {
        constexpr unsigned kCodes[] = {kCode16, kCode16,           kCode32,
                                       kCode32, kCode16Unreadable, kCode32Short};
        constexpr unsigned kDatas[] = {kData16, kData32,       kData16,
                                       kData32, kDataReadOnly, kDataExpandDown};
        s.code = kCodes[below(std::size(kCodes))];
        s.stack = below(2) ? kData16 : kData32;
        s.ds = kDatas[below(std::size(kDatas))];
        s.es = kDatas[below(std::size(kDatas))];
        const bool wide = kSegments[s.ds].big;
        for (unsigned i = 0; i < 8; i++)
            s.reg[i] = below(3) ? pointer(wide) : any_value();
        s.reg[kRsp] = pointer(kSegments[s.stack].big);
        if (below(2))
            s.reg[kRcx] = below(4);
        s.rip = below(16) ? 0x100 + below(0x100) : kSegments[s.code].limit - below(8);
        if (s.code == kCode32)
            s.rip = kCodeAt + below(0x1000);
    }
    std::vector<u8> make_code()
    {
        constexpr u8 kPrefixes[] = {0x66, 0x67, 0x66, 0x67, 0xf0, 0xf2,
                                    0xf3, 0x26, 0x2e, 0x36, 0x3e};
        std::vector<u8> code;
        for (u64 i = below(3); i > 0; i--)
            code.push_back(kPrefixes[below(std::size(kPrefixes))]);
        if (code_64_ && below(2))
            code.push_back(static_cast<u8>(0x40 | below(16)));
        const Opcode &opcode = opcodes_[below(opcodes_.size())];
        if (opcode.map != OpcodeMap::kOneByte)
            code.push_back(0x0f);
        if (opcode.map == OpcodeMap::k0F38)
            code.push_back(0x38);
        code.push_back(opcode.opcode);
        code.push_back(static_cast<u8>(random()));
        // Displacements and immediates, half of them small.
        const bool small = below(2);
        for (unsigned i = 0; i < 11; i++)
            code.push_back(small && i % 4 >= 1 ? u8{0} : static_cast<u8>(random()));
        return code;
    }
};

// ---- The emulator -----------------------------------------------------------

class Steps : public testing::Test {
  protected:
    Guest guest;
    std::vector<u8> data = std::vector<u8>(kRegion);

    /// Random instructions, each by both.
    void compare(bool code_64);

    static u64 number_from(const char *variable, u64 otherwise)
    {
        const char *text = std::getenv(variable);
        return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
    }
    static u8 *arena(u64 offset) { return reinterpret_cast<u8 *>(kArena + offset); }

    void SetUp() override
    {
        map_arena();
        map_guest();
    }
    void TearDown() override { munmap(arena(0), kArenaSize); }

    static void map_arena()
    {
        void *got = mmap(arena(0), kArenaSize, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        ASSERT_EQ(got, static_cast<void *>(arena(0)));
        mprotect(arena(kDataAt), kRegion, PROT_READ | PROT_WRITE);
        mprotect(arena(kCodeAt), kRegion, PROT_READ | PROT_WRITE | PROT_EXEC);
        std::memset(arena(kDataAt), 1, kRegion);
        std::memset(arena(kCodeAt), 0x90, kRegion);
    }
    void map_guest()
    {
        guest.add_ram(0, 0, 0x800000);
        guest.long_mode(0, kTables);
        guest.vmx().cr4 |= X86_CR4_OSXSAVE;
        guest.set(GUEST_CR4, guest.vmx().cr4);
        guest.poke<u64>(kTables, (kTables + 0x1000) | 7);
        guest.poke<u64>(kTables + 0x1000, (kTables + 0x2000) | 7);
        guest.poke<u64>(kTables + 0x2000 + 8 * (kArena >> 21), (kTables + 0x3000) | 7);
        for (const u64 region : {kDataAt, kCodeAt})
            for (u64 page = 0; page < kRegion; page += 0x1000)
                guest.poke<u64>(kTables + 0x3000 + 8 * ((region + page) >> 12),
                                (kMemory + region + page) | 7);
        std::memset(guest.at(kMemory + kCodeAt), 0x90, kRegion);
        guest.set(GUEST_TR_LIMIT, 0); // no ports
    }
    void set_segment(Segment which, unsigned index)
    {
        const SegmentKind &kind = kSegments[index];
        guest.set_segment(which, kind.base, kind.limit, kind.rights());
        guest.set(GUEST_ES_SELECTOR + which, selector_of(index));
    }

    Result emulate(const State &s)
    {
        set_segment(kCs, s.code);
        set_segment(kSs, s.stack);
        set_segment(kDs, s.ds);
        set_segment(kEs, s.es);
        guest.set(GUEST_RFLAGS, s.flags);
        guest.set(GUEST_PENDING_DBG_EXCEPTIONS, 0);
        for (u8 i = 0; i < 16; i++)
            write_gpr(guest.vmx(), i, s.reg[i]);
        write_rip(guest.vmx(), s.rip);
        EXPECT_TRUE(emulate_instruction(guest.vmx()).resumes());
        Result result = {};
        result.vector = DB_VECTOR;
        if (guest.vmx().exception.pending) {
            result.address = guest.area().cr2;
            const ExceptionQueue exception = guest.take_exception();
            result.vector = exception.vector;
            result.error_code = exception.has_error_code ? exception.error_code : 0;
        } else {
            EXPECT_NE(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), 0u);
        }
        for (u8 i = 0; i < 16; i++)
            result.reg[i] = read_gpr(guest.vmx(), i);
        result.rip = guest.rip();
        result.flags = guest.rflags();
        return result;
    }

    /// The same data and code on both sides.
    void prepare(const Trial &trial)
    {
        const u64 code = kSegments[trial.state.code].base + trial.state.rip - kArena;
        for (usize i = 0; i < trial.code.size() && code + i < kCodeAt + kRegion; i++)
            *arena(code + i) = *guest.at(kMemory + code + i) = trial.code[i];
        // POPF must not switch alignment checks on.
        if (trial.insn.operation == Operation::kPopFlags) {
            const u64 top = kSegments[trial.state.stack].base +
                            (kSegments[trial.state.stack].big ? trial.state.reg[kRsp]
                                                              : trial.state.reg[kRsp] & 0xffff) -
                            kArena - kDataAt;
            if (top + 4 <= kRegion)
                data[top + 2] &= static_cast<u8>(~(X86_EFLAGS_AC >> 16));
        }
        std::memcpy(arena(kDataAt), data.data(), kRegion);
        std::memcpy(guest.at(kMemory + kDataAt), data.data(), kRegion);
    }
    void clean(const Trial &trial)
    {
        const u64 code = kSegments[trial.state.code].base + trial.state.rip - kArena;
        for (usize i = 0; i < trial.code.size() && code + i < kCodeAt + kRegion; i++)
            *arena(code + i) = *guest.at(kMemory + code + i) = 0x90;
    }

    std::string differences(const Trial &trial, const Result &ours, const Result &theirs)
    {
        std::ostringstream text;
        text << std::hex;
        auto differ = [&](const std::string &what, u64 a, u64 b) {
            if (a != b)
                text << "  " << what << ": emulated " << a << ", CPU " << b << "\n";
        };
        const Operation operation = trial.insn.operation;
        const bool faulted = theirs.vector != DB_VECTOR;
        // Which of the two operands of CMPS is looked at first is the CPU's own affair.
        if (operation == Operation::kCmps && faulted && ours.vector != DB_VECTOR)
            return "";
        differ("exception", static_cast<u64>(ours.vector), static_cast<u64>(theirs.vector));
        if (ours.vector == theirs.vector && ours.vector != DB_VECTOR)
            differ("error code", ours.error_code, theirs.error_code);
        if (ours.vector == theirs.vector && ours.vector == PF_VECTOR)
            differ("address", ours.address, theirs.address);
        // Upper halves that 32-bit addresses don't use may be gone after a fault.
        const bool halves =
            faulted && operation >= Operation::kMovs && trial.insn.address_size == 4;
        const u64 counted = halves ? 0xffffffff : ~u64{0};
        // POPA that faults in the middle may have loaded some registers: it starts anew.
        if (!faulted || operation != Operation::kPopAll)
            for (unsigned i = 0; i < (kSegments[trial.state.code].code_64 ? 16 : 8); i++)
                differ("register " + std::to_string(i), ours.reg[i] & counted,
                       theirs.reg[i] & counted);
        differ("RIP", ours.rip, theirs.rip);
        // The flags of REP SCAS and REP CMPS are there at the end: SDM Vol. 2B, "REP".
        const bool iterates =
            theirs.rip == trial.state.rip && trial.insn.operation >= Operation::kMovs;
        const u64 mask = iterates ? 0 : kComparedFlags & ~undefined_flags(operation);
        differ("flags", ours.flags & mask, theirs.flags & mask);
        // What several pushes have written below the stack pointer doesn't count if one faulted.
        if (faulted && (operation == Operation::kPushAll || operation == Operation::kEnter))
            return text.str();
        const u8 *guest_data = guest.at(kMemory + kDataAt);
        if (std::memcmp(guest_data, arena(kDataAt), kRegion) != 0)
            for (u64 i = 0; i < kRegion; i++)
                differ("data at " + std::to_string(i), guest_data[i], *arena(kDataAt + i));
        return text.str();
    }
    std::string describe(const Trial &trial)
    {
        std::ostringstream text;
        text << std::hex << "operation " << std::dec << static_cast<int>(trial.insn.operation)
             << std::hex << ": ";
        for (const u8 byte : trial.code)
            text << (byte < 16 ? "0" : "") << int{byte} << " ";
        const State &s = trial.state;
        text << "\n  CS " << kSegments[s.code].name << ", SS " << kSegments[s.stack].name << ", DS "
             << kSegments[s.ds].name << ", ES " << kSegments[s.es].name << ", RIP " << s.rip
             << ", flags " << s.flags << "\n  registers";
        for (const u64 reg : s.reg)
            text << " " << reg;
        return text.str() + "\n";
    }
};

void Steps::compare(bool code_64)
{
    Generator generator{number_from("MINIVMX_SEED", 1), code_64};
    Stepper stepper;
    const u64 trials = number_from("MINIVMX_EFFECTS", 25) * 1000;
    std::map<int, u64> exceptions;
    std::map<Operation, u64> completed;
    u64 differing = 0;
    for (u64 i = 0; i < trials && differing < 20; i++) {
        if (i % 256 == 0)
            for (u8 &byte : data)
                byte = generator.below(4) ? static_cast<u8>(generator.random()) : u8{0};
        Trial trial = generator.make();
        prepare(trial);
        const Result theirs = stepper.step(trial.state);
        trial.state.flags |= theirs.kept_flags;
        const Result ours = emulate(trial.state);
        const std::string text = differences(trial, ours, theirs);
        clean(trial);
        exceptions[theirs.vector]++;
        if (theirs.vector == DB_VECTOR)
            completed[trial.insn.operation]++;
        if (!text.empty()) {
            ADD_FAILURE() << describe(trial) << text;
            differing++;
        }
    }
    std::cout << "  " << trials << " instructions of " << completed.size()
              << " operations; exceptions:";
    for (const auto &[vector, count] : exceptions)
        std::cout << " " << vector << ": " << count;
    std::cout << "\n";
    EXPECT_GT(completed.size(), code_64 ? 70u : 85u);
}

/// What the manual leaves to the CPU (which fault of two comes, what a fault in the middle leaves)
/// is compared with CPUs of Intel.
bool is_intel()
{
    return __builtin_cpu_is("intel") != 0;
}

/// The kernel uses 5-level paging: more addresses are canonical than in our guest.
bool has_57_bit_addresses()
{
    constexpr u64 kBeyond = u64{1} << 48, kSize = 0x1000;
    void *got = mmap(reinterpret_cast<void *>(kBeyond), kSize, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got == MAP_FAILED)
        return false;
    munmap(got, kSize);
    return reinterpret_cast<u64>(got) >= kBeyond;
}

TEST_F(Steps, Of16And32BitCode)
{
    if (!is_intel())
        GTEST_SKIP() << "this is no CPU of Intel";
    if (!install_segments())
        GTEST_SKIP() << "this kernel has no modify_ldt: no 16- and 32-bit code of our own";
    compare(false);
}

TEST_F(Steps, Of64BitCode)
{
    if (!is_intel() || has_57_bit_addresses())
        GTEST_SKIP() << "this is no CPU of Intel, or its addresses have 57 bits";
    compare(true);
}

} // namespace
} // namespace minivmx::test
