// SPDX-License-Identifier: GPL-2.0-only
//
// Emulated instructions against the CPU this runs on: the same instruction, registers, flags and
// memory, once by the CPU and twice by the emulator: with its operand in memory, and in a device
// that user space plays. Everything must come out equal, flags that the manual leaves undefined
// included.
#include "emulate_templates.hpp"
#include "guest.hpp"
#include "host_cpu.hpp"

#include <sys/mman.h>

#include <array>
#include <iostream>
#include <random>
#include <sstream>

namespace minivmx::test {
namespace {

// The same linear addresses in this process and in the guest.
constexpr u64 kData = 0x10000000, kDataSize = 0x4000, kCode = 0x20000000;
// Guest-physical ones.
constexpr u64 kTables = 0x10000, kDataGpa = 0x400000, kCodeGpa = 0x600000, kDevice = 0xd0000000;
constexpr u64 kStatusFlags = 0x8d5;

using Ymm = std::array<u8, 32>;

struct State {
    u64 reg[16];
    u64 rflags;
    u64 host_rsp;
    Ymm ymm[16];
};

// ---- The CPU ----------------------------------------------------------------

/// Pages at the addresses above, and code around an instruction that loads and saves a State.
class Cpu {
  public:
    /// Without AVX the vector registers are their lower halves.
    explicit Cpu(bool avx) : avx_{avx}
    {
        map(kData, kDataSize, PROT_READ | PROT_WRITE);
        map(kCode, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC);
        build_prologue();
    }
    ~Cpu()
    {
        munmap(reinterpret_cast<void *>(kData), kDataSize);
        munmap(reinterpret_cast<void *>(kCode), 0x1000);
    }
    Cpu(const Cpu &) = delete;
    Cpu &operator=(const Cpu &) = delete;

    static u8 *data() { return reinterpret_cast<u8 *>(kData); }
    /// Where the instruction will be.
    u64 instruction_at() const { return kCode + prologue_.size(); }
    State state{};

    void run(const std::vector<u8> &instruction)
    {
        code_ = prologue_;
        code_.insert(code_.end(), instruction.begin(), instruction.end());
        build_epilogue();
        std::memcpy(reinterpret_cast<void *>(kCode), code_.data(), code_.size());
        reinterpret_cast<void (*)()>(kCode)();
    }

  private:
    static void map(u64 address, u64 size, int protection)
    {
        void *got = mmap(reinterpret_cast<void *>(address), size, protection,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (reinterpret_cast<u64>(got) != address)
            throw std::runtime_error("no memory at a fixed address");
    }
    void emit(std::initializer_list<u8> bytes) { code_.insert(code_.end(), bytes); }
    void emit_address(const void *address)
    {
        const u64 value = reinterpret_cast<u64>(address);
        for (unsigned i = 0; i < 8; i++)
            code_.push_back(static_cast<u8>(value >> (8 * i)));
    }
    /// A ModRM byte and displacement for a member of the State that RAX points to.
    void emit_member(unsigned reg, const void *member)
    {
        const u64 offset = reinterpret_cast<u64>(member) - reinterpret_cast<u64>(&state);
        code_.push_back(static_cast<u8>(0x80 | (reg & 7) << 3));
        for (unsigned i = 0; i < 4; i++)
            code_.push_back(static_cast<u8>(offset >> (8 * i)));
    }
    void emit_gpr(u8 opcode, unsigned reg)
    {
        emit({static_cast<u8>(reg >= 8 ? 0x4c : 0x48), opcode});
        emit_member(reg, &state.reg[reg]);
    }
    /// VMOVDQU, or MOVDQU.
    void emit_vector(u8 opcode, unsigned reg)
    {
        if (avx_)
            emit({0xc5, static_cast<u8>(reg >= 8 ? 0x7e : 0xfe), opcode});
        else
            emit({0xf3, static_cast<u8>(reg >= 8 ? 0x44 : 0x40), 0x0f, opcode});
        emit_member(reg, &state.ymm[reg]);
    }
    void build_prologue()
    {
        code_.clear();
        emit({0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57}); // push rbx rbp r12..r15
        emit({0x48, 0xb8});                                                 // mov rax, state
        emit_address(&state);
        emit({0x48, 0x89}); // mov [host_rsp], rsp
        emit_member(kRsp, &state.host_rsp);
        emit({0xff}); // push [rflags]; popf
        emit_member(6, &state.rflags);
        emit({0x9d});
        for (unsigned i = 0; i < 16; i++)
            emit_vector(0x6f, i);
        for (unsigned i = 1; i < 16; i++)
            emit_gpr(0x8b, i);
        emit({0x48, 0x8b, 0x00}); // mov rax, [rax]
        prologue_ = code_;
    }
    void build_epilogue()
    {
        emit({0x48, 0xa3}); // mov [state], rax
        emit_address(&state);
        emit({0x48, 0xb8});
        emit_address(&state);
        for (unsigned i = 1; i < 16; i++)
            emit_gpr(0x89, i);
        for (unsigned i = 0; i < 16; i++)
            emit_vector(0x7f, i);
        emit({0x48, 0x8b});
        emit_member(kRsp, &state.host_rsp);
        emit({0x9c, 0x8f}); // pushf; pop [rflags]
        emit_member(0, &state.rflags);
        emit({0xfc}); // cld
        if (avx_)
            emit({0xc5, 0xf8, 0x77}); // vzeroupper
        emit({0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3});
    }

    bool avx_;
    std::vector<u8> prologue_, code_;
};

/// Whether this CPU has the instruction at all; where it lacks LZCNT or TZCNT it executes BSR or
/// BSF.
bool cpu_has(const Template &t, bool avx)
{
    const std::string_view name = t.name;
    if ((t.want & kVex) != 0)
        return avx;
    if (name == "tzcnt")
        return __builtin_cpu_supports("bmi");
    if (name == "lzcnt")
        return host_has_lzcnt();
    if (name == "movbe")
        return host_has_movbe();
    if (name == "lddqu")
        return __builtin_cpu_supports("sse3");
    if (name == "movntdqa")
        return __builtin_cpu_supports("sse4.1");
    return true;
}

// ---- One instruction --------------------------------------------------------

/// The bytes, and what must be in registers for them.
struct Trial {
    std::vector<u8> code;
    State state;
    u32 operand_size;
    u64 target;            // where the operand is
    bool uses_accumulator; // RAX or RDX is in its address
};

class Generator {
  public:
    Generator(u64 seed, u64 instruction_at) : random{seed}, at_{instruction_at} {}
    std::mt19937_64 random;
    u64 below(u64 n) { return random() % n; }

    Trial make(const Template &t)
    {
        t_ = &t;
        trial_ = {};
        for (u64 &reg : trial_.state.reg)
            reg = interesting();
        for (Ymm &ymm : trial_.state.ymm)
            for (u8 &byte : ymm)
                byte = static_cast<u8>(random());
        trial_.state.rflags = X86_EFLAGS_FIXED | (random() & kStatusFlags);
        trial_.state.reg[kRsp] = kData + 0x3800 + 8 * below(16);
        choose_prefixes();
        if (t.want & kString)
            make_string();
        else if (t.want & kRegisters)
            make_registers();
        else
            make_modrm();
        return trial_;
    }

  private:
    u64 interesting()
    {
        switch (below(5)) {
        case 0:
            return below(4) - 2;
        case 1:
            return u64{1} << below(64);
        case 2:
            return static_cast<u64>(static_cast<s64>(random()) >> below(64));
        default:
            return random();
        }
    }
    void choose_prefixes()
    {
        const u32 want = t_->want;
        const bool fixed = want & kFixedSize;
        use_66_ = !fixed && !(want & (kByte | kNo66)) && below(3) == 0;
        rex_ = 0x40 | (below(2) ? static_cast<u8>(random() & 7) : 0);
        if (!fixed && !(want & kNoRexW) && below(3) == 0)
            rex_ |= 8;
        use_67_ = below(8) == 0;
        lock_ = (want & kLock) && below(3) == 0;
        trial_.operand_size = (want & kByte) ? 1 : (rex_ & 8) ? 8 : use_66_ ? 2 : 4;
        if ((want & kStack) && trial_.operand_size == 4)
            trial_.operand_size = 8;
    }
    void emit(u8 byte) { trial_.code.push_back(byte); }
    void emit_value(u64 value, u32 size)
    {
        for (u32 i = 0; i < size; i++)
            emit(static_cast<u8>(value >> (8 * i)));
    }
    void emit_opcode(bool needs_rex)
    {
        if (lock_)
            emit(0xf0);
        if (use_67_)
            emit(0x67);
        if (use_66_)
            emit(0x66);
        if (t_->want & kVex) {
            // R, X, B inverted; vvvv of the template is how it stands in the prefix.
            emit(0xc4);
            emit(static_cast<u8>((~rex_ & 7) << 5 | 1));
            emit(t_->opcode[0]);
            emit(t_->opcode[1]);
            return;
        }
        usize i = 0;
        const u8 first = t_->opcode[0];
        if (first == 0x66 || first == 0xf2 || first == 0xf3)
            emit(t_->opcode[i++]);
        if (needs_rex || rex_ != 0x40)
            emit(rex_);
        for (; i < t_->opcode.size(); i++)
            emit(t_->opcode[i]);
    }
    u32 immediate_size() const
    {
        if (t_->want & kImm8)
            return 1;
        if (t_->want & kImmZ)
            return trial_.operand_size == 2 ? 2 : 4;
        return 0;
    }

    void make_modrm()
    {
        const u64 room = (t_->want & kBitString) ? 0 : 0x100;
        u64 target = kData + 0x2000 - room / 2 + below(room + 1);
        if (below(2) && !(t_->want & kBitString))
            target = kData + 0x1000 + below(0x1f00);
        if (t_->want & kAligned)
            target &= ~u64{31};

        // Registers of the operands: R, X and B of REX or VEX have been chosen.
        const u8 field =
            t_->extension >= 0 ? static_cast<u8>(t_->extension) : static_cast<u8>(below(8));
        const u8 reg = field | (t_->extension < 0 ? rex_ << 1 & 8 : 0);
        if (t_->want & kBitString)
            trial_.state.reg[reg] = bit_offset();

        emit_opcode(false);
        u8 base = static_cast<u8>(below(8));
        const u8 full_base = base | (rex_ << 3 & 8);
        const bool reserved = (t_->want & kBitString) && full_base == reg;
        const u32 shape = below(8);
        if (shape == 0 || reserved) {
            emit(static_cast<u8>(field << 3 | 5)); // RIP-relative
            emit_value(target - (at_ + trial_.code.size() + 4 + immediate_size()), 4);
        } else if (shape == 1) {
            emit(static_cast<u8>(field << 3 | 4)); // SIB without base and index
            emit(0x25);
            if (rex_ & 2) // R12 as an index
                trial_.state.reg[kR12] = 0;
            emit_value(target, 4);
        } else {
            emit_based(target, field, base, full_base, reg);
        }
        if (immediate_size())
            emit_value(interesting(), immediate_size());
        trial_.target = target;
    }
    u64 bit_offset()
    {
        if (trial_.operand_size == 2)
            return random() & ~u64{0x4000}; // of 16 bits: as far as 4 KiB
        return static_cast<u64>(static_cast<s64>(below(0x8000)) - 0x4000);
    }

    void emit_based(u64 target, u8 field, u8 base, u8 full_base, u8 reg)
    {
        u64 displacement = below(2) ? below(0x80) : static_cast<u64>(static_cast<s32>(random()));
        const bool wide = displacement >= 0x80;
        const u8 mod = wide ? 0x80 : 0x40;
        u64 value = target - displacement;
        const u8 index = static_cast<u8>(below(8)) | (rex_ << 2 & 8);
        const bool indexed = base != 4 && index != kRsp && index != full_base &&
                             !((t_->want & kBitString) && index == reg) && below(2);
        if (full_base == kRsp && (t_->want & kStack)) {
            // The stack pointer is given: the displacement follows. POP's address is that after it.
            displacement = target - trial_.state.reg[kRsp];
            emit(static_cast<u8>(0x80 | field << 3 | 4));
            emit(0x24);
            if ((rex_ & 2) != 0)
                trial_.state.reg[kR12] = 0;
            emit_value(displacement, 4);
            return;
        }
        if (indexed) {
            const u8 scale = static_cast<u8>(below(4));
            emit(static_cast<u8>(mod | field << 3 | 4));
            emit(static_cast<u8>(scale << 6 | (index & 7) << 3 | base));
            value -= trial_.state.reg[index] << scale;
        } else if (base == 4) {
            emit(static_cast<u8>(mod | field << 3 | 4));
            emit(0x24);
            if ((rex_ & 2) != 0) { // the index is R12 then
                trial_.state.reg[kR12] = full_base == kR12 ? value / 2 : 0;
                if (full_base == kR12)
                    displacement += value - 2 * (value / 2);
            }
        } else {
            emit(static_cast<u8>(mod | field << 3 | base));
        }
        emit_value(displacement, wide ? 4 : 1);
        if (base == 4 && (rex_ & 2) != 0 && full_base == kR12)
            return;
        // With 32-bit addresses the upper half doesn't count.
        auto is_accumulator = [](u8 gpr) { return gpr == kRax || gpr == kRdx; };
        trial_.uses_accumulator = is_accumulator(full_base) || (indexed && is_accumulator(index));
        trial_.state.reg[full_base] = use_67_ ? (value & 0xffffffff) | (random() << 32) : value;
    }

    void make_registers()
    {
        emit_opcode(false);
        emit(static_cast<u8>(0xc0 | below(64)));
        trial_.target = kData;
    }

    void make_string()
    {
        State &s = trial_.state;
        const u64 repeat = below(3);
        if (repeat)
            emit(repeat == 1 ? 0xf3 : 0xf2);
        emit_opcode(false);
        s.reg[kRcx] = below(24);
        for (const Gpr reg : {kRsi, kRdi})
            s.reg[reg] = kData + 0x1800 + below(0x1000);
        if (below(4) == 0)
            s.reg[kRdi] = s.reg[kRsi];
        if (below(2))
            s.rflags |= X86_EFLAGS_DF;
        if (use_67_) {
            for (const Gpr reg : {kRsi, kRdi, kRcx})
                s.reg[reg] |= random() << 32;
            if ((s.reg[kRcx] & 0xffffffff) == 0)
                s.reg[kRcx]++; // what becomes of the upper halves then differs from CPU to CPU
        }
    }

    const Template *t_ = nullptr;
    Trial trial_;
    u64 at_;
    u8 rex_ = 0x40;
    bool use_66_ = false, use_67_ = false, lock_ = false;
};

// ---- The emulator -----------------------------------------------------------

class Native : public testing::Test {
  protected:
    explicit Native(bool with_avx = __builtin_cpu_supports("avx")) : avx{with_avx}, cpu{with_avx} {}

    Guest guest;
    bool avx;
    Cpu cpu;
    std::vector<u8> device = std::vector<u8>(kDataSize);
    u64 exits = 0;

    void SetUp() override
    {
        guest.add_ram(0, 0, 0x800000);
        // Two megabytes of code, two of data.
        guest.poke<u64>(kTables, (kTables + 0x1000) | 7);
        guest.poke<u64>(kTables + 0x1000, (kTables + 0x2000) | 7);
        guest.poke<u64>(kTables + 0x2000 + 8 * (kCode >> 21), kCodeGpa | 0x87);
        guest.long_mode(cpu.instruction_at(), kTables);
        guest.vmx().cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
        guest.set(GUEST_CR4, guest.vmx().cr4);
        guest.vmx().msrs.xcr0 = 7;
    }
    void map_data(bool in_device)
    {
        guest.poke<u64>(kTables + 0x2000 + 8 * (kData >> 21),
                        (in_device ? kDevice : kDataGpa) | 0x87);
    }

    /// User space's device is an array of bytes.
    void play_device()
    {
        kvm_run &run = guest.run();
        ASSERT_EQ(run.exit_reason, u32{KVM_EXIT_MMIO});
        const u64 at = run.mmio.phys_addr - kDevice;
        ASSERT_LE(at + run.mmio.len, kDataSize);
        if (run.mmio.is_write)
            std::memcpy(device.data() + at, run.mmio.data, run.mmio.len);
        else
            std::memcpy(run.mmio.data, device.data() + at, run.mmio.len);
        exits++;
    }

    /// Leaves registers in the guest; returns the vector of the exception, or -1.
    int emulate(const Trial &trial)
    {
        guest.set(GUEST_RFLAGS, trial.state.rflags);
        for (unsigned i = 0; i < 16; i++)
            write_gpr(guest.vmx(), static_cast<u8>(i), trial.state.reg[i]);
        for (unsigned i = 0; i < 16; i++)
            std::memcpy(guest.machine.ymm[i], trial.state.ymm[i].data(), 32);
        write_rip(guest.vmx(), cpu.instruction_at());
        guest.vmx().exit_reason = EXIT_REASON_EPT_MISCONFIG;
        do {
            Outcome outcome = emulate_mmio(guest.vmx(), 0);
            while (!outcome.resumes()) {
                play_device();
                if (HasFatalFailure())
                    return -2;
                outcome = complete_pending(guest.vmx());
            }
            if (guest.vmx().exception.pending)
                return guest.take_exception().vector;
        } while (guest.rip() == cpu.instruction_at());
        return -1;
    }

    /// Every form in turn, rounds times, with random operands.
    void compare(u64 rounds);

    std::string differences(const Trial &trial, const u8 *memory)
    {
        std::string text;
        auto differ = [&](const std::string &what, u64 ours, u64 theirs) {
            std::ostringstream line;
            line << what << ": emulated " << std::hex << ours << ", CPU " << theirs << "\n";
            text += line.str();
        };
        for (unsigned i = 0; i < 16; i++) {
            if (read_gpr(guest.vmx(), static_cast<u8>(i)) != cpu.state.reg[i])
                differ("register " + std::to_string(i), read_gpr(guest.vmx(), static_cast<u8>(i)),
                       cpu.state.reg[i]);
            if (std::memcmp(guest.machine.ymm[i], cpu.state.ymm[i].data(), 32) != 0)
                text += "ymm" + std::to_string(i) + "\n";
        }
        constexpr u64 kFlags = kStatusFlags | X86_EFLAGS_DF;
        if (((guest.rflags() ^ cpu.state.rflags) & kFlags) != 0)
            differ("flags", guest.rflags() & kFlags, cpu.state.rflags & kFlags);
        if (guest.rip() != cpu.instruction_at() + trial.code.size())
            differ("RIP", guest.rip(), cpu.instruction_at() + trial.code.size());
        for (u64 i = 0; i < kDataSize; i++)
            if (memory[i] != Cpu::data()[i])
                differ("memory at " + std::to_string(i), memory[i], Cpu::data()[i]);
        return text;
    }
};

bool quotient_fits(const Template &t, const Trial &trial, u64 divisor)
{
    const u32 bits = 8 * trial.operand_size;
    const u64 mask = bits == 64 ? ~u64{0} : (u64{1} << bits) - 1;
    const u64 *reg = trial.state.reg;
    unsigned __int128 dividend =
        bits == 8 ? reg[kRax] & 0xffff
                  : static_cast<unsigned __int128>(reg[kRdx] & mask) << bits | (reg[kRax] & mask);
    divisor &= mask;
    if (divisor == 0)
        return false;
    if (t.extension == 6)
        return dividend / divisor <= mask;
    const unsigned unused = 128 - 2 * bits;
    const __int128 n = static_cast<__int128>(dividend << unused) >> unused;
    const __int128 d = static_cast<s64>(divisor << (64 - bits)) >> (64 - bits);
    const __int128 limit = static_cast<__int128>(1) << (bits - 1);
    if (d == -1)
        return n > -limit && n <= limit;
    const __int128 q = n / d;
    return q < limit && q >= -limit;
}

/// Every other time CMPXCHG and CMPXCHG8B find what they look for, and dividends are small.
void make_equal(Generator &generator, const Template &t, Trial &trial, const u8 *memory)
{
    const bool compares = std::string(t.name).starts_with("cmpxchg");
    const bool small = (t.want & kDivision) != 0;
    if ((!compares && !small) || generator.below(2) || trial.uses_accumulator)
        return;
    const u8 *operand = memory + (trial.target - kData);
    u64 *reg = trial.state.reg;
    if (small) {
        reg[kRdx] = generator.below(4) - 2;
        reg[kRax] = trial.operand_size == 1 ? generator.below(300) : generator.random();
    } else if (t.extension == 1) {
        const u32 half = trial.operand_size == 8 ? 8 : 4;
        std::memcpy(&reg[kRax], operand, half);
        std::memcpy(&reg[kRdx], operand + half, half);
    } else {
        std::memcpy(&reg[kRax], operand, trial.operand_size);
    }
}

u64 number_from(const char *variable, u64 otherwise)
{
    const char *text = std::getenv(variable);
    return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

void Native::compare(u64 rounds)
{
    const u64 seed = number_from("MINIVMX_SEED", 1);
    std::vector<Template> templates = make_templates();
    const usize left_out =
        std::erase_if(templates, [this](const Template &t) { return !cpu_has(t, avx); });
    Generator generator{seed, cpu.instruction_at()};
    std::vector<u8> memory(kDataSize);
    u64 compared = 0;
    u64 faults = 0;

    for (u64 round = 0; round < rounds; round++) {
        for (u8 &byte : memory)
            byte = generator.below(4) ? static_cast<u8>(generator.random()) : u8{0};
        for (const Template &t : templates) {
            Trial trial = generator.make(t);
            make_equal(generator, t, trial, memory.data());
            SCOPED_TRACE(std::string(t.name) + ", MINIVMX_SEED=" + std::to_string(seed));
            std::string bytes;
            for (const u8 byte : trial.code)
                bytes += "0123456789abcdef"[byte >> 4], bytes += "0123456789abcdef"[byte & 15];
            guest.poke_bytes(kCodeGpa + cpu.instruction_at() - kCode, trial.code);

            map_data(false);
            std::memcpy(guest.at(kDataGpa), memory.data(), kDataSize);
            const int vector = emulate(trial);
            if (vector == DE_VECTOR && (t.want & kDivision)) {
                u64 divisor = 0;
                std::memcpy(&divisor, memory.data() + (trial.target - kData), trial.operand_size);
                EXPECT_FALSE(quotient_fits(t, trial, divisor)) << bytes;
                faults++;
                continue;
            }
            ASSERT_EQ(vector, -1) << bytes;
            std::memcpy(Cpu::data(), memory.data(), kDataSize);
            cpu.state = trial.state;
            cpu.run(trial.code);
            ASSERT_EQ(differences(trial, guest.at(kDataGpa)), "") << bytes;

            map_data(true);
            device = memory;
            ASSERT_EQ(emulate(trial), -1) << bytes;
            ASSERT_EQ(differences(trial, device.data()), "") << bytes << " on a device";
            compared++;
        }
    }
    EXPECT_GT(exits, compared);
    std::cout << "  " << compared << " instructions, " << faults << " division errors, " << exits
              << " exits; MINIVMX_SEED=" << seed << "\n";
    if (left_out != 0)
        std::cout << "  " << left_out << " forms are left out: "
                  << (avx ? "this CPU lacks them\n" : "they need AVX, or this CPU lacks them\n");
}

TEST_F(Native, EffectsAreTheCpus)
{
    compare(number_from("MINIVMX_EFFECTS", 25));
}

/// What a CPU without AVX can compare; on others, too, so that it doesn't rot.
class NativeWithoutAvx : public Native {
  protected:
    NativeWithoutAvx() : Native{false} {}
};

TEST_F(NativeWithoutAvx, EffectsAreTheCpus)
{
    compare(2);
}

} // namespace
} // namespace minivmx::test
