// SPDX-License-Identifier: GPL-2.0-only
//
// A CPU in VMX non-root operation that executes a guest's program: a few instructions, each as the
// architecture has it, with what the current VMCS says about exits, events and paging. So a test
// sees what a guest would see on a CPU that lacks this or that, whatever the core did to get there.
//
// It is for guests without EPT: linear addresses go through the tables that CR3 of the VMCS names,
// and through a TLB that forgets only what the architecture makes it forget (SDM Vol. 3C, 29.4): a
// translation that the core should have flushed goes on being used.
#pragma once

#include "machine.hpp"

#include <minivmx/exit.hpp>
#include <minivmx/vmcs_field.hpp>

#include <array>
#include <optional>

namespace minivmx::sim {

/// Machine code of the instructions that GuestCpu knows, one after the other.
class Program {
  public:
    Program &mov(unsigned gpr, u64 value);               ///< MOV r64, imm64, RAX to RDI
    Program &load() { return add({0x48, 0x8b, 0x07}); }  ///< MOV RAX, [RDI]
    Program &store() { return add({0x48, 0x89, 0x07}); } ///< MOV [RDI], RAX
    Program &load32() { return add({0x8b, 0x07}); }      ///< MOV EAX, [RDI]
    Program &store32() { return add({0x89, 0x07}); }     ///< MOV [RDI], EAX
    Program &rdmsr() { return add({0x0f, 0x32}); }
    Program &wrmsr() { return add({0x0f, 0x30}); }
    Program &cpuid() { return add({0x0f, 0xa2}); }
    Program &set_cr3() { return add({0x0f, 0x22, 0xd8}); }       ///< MOV CR3, RAX
    Program &get_cr3() { return add({0x0f, 0x20, 0xd8}); }       ///< MOV RAX, CR3
    Program &set_cr8() { return add({0x44, 0x0f, 0x22, 0xc0}); } ///< MOV CR8, RAX
    Program &get_cr8() { return add({0x44, 0x0f, 0x20, 0xc0}); } ///< MOV RAX, CR8
    Program &invlpg() { return add({0x0f, 0x01, 0x3f}); }        ///< INVLPG [RDI]
    Program &sti() { return add({0xfb}); }
    Program &cli() { return add({0xfa}); }
    Program &nop() { return add({0x90}); }
    /// The end of an NMI's handler. Where it returns to is the next instruction: there is no stack.
    Program &iret() { return add({0x48, 0xcf}); }
    Program &out(u8 port) { return add({0xe6, port}); } ///< OUT port, AL
    Program &hlt() { return add({0xf4}); }

    const std::vector<u8> &bytes() const { return bytes_; }

  private:
    Program &add(std::initializer_list<u8> bytes)
    {
        bytes_.insert(bytes_.end(), bytes);
        return *this;
    }
    std::vector<u8> bytes_;
};

class GuestCpu {
  public:
    /// From here on the machine's VM entries run this.
    explicit GuestCpu(Machine &machine);
    ~GuestCpu();
    GuestCpu(const GuestCpu &) = delete;
    GuestCpu &operator=(const GuestCpu &) = delete;

    /// An event that reached the guest: delivered by VM entry, or a fault of its own that did not
    /// exit. There is no IDT: its handler returns at once, behind the instruction of a fault.
    struct Event {
        u32 type; ///< INTR_TYPE_*
        u8 vector;
        u32 error_code;
        u64 cr2;
        u64 rip;
    };
    std::vector<Event> events;
    std::map<u32, u64> exits; ///< how many, by reason
    u64 exits_of(u32 reason) const
    {
        const auto found = exits.find(reason);
        return found == exits.end() ? 0 : found->second;
    }
    u64 instructions = 0; ///< completed in the guest
    /// Called before each instruction.
    std::function<void()> before_instruction;
    /// Called before each access of data that goes through, and each fetch of an instruction.
    std::function<void(u64 linear, u64 pfn, bool write, bool fetch)> on_access;
    /// The program may lose its way, which shuts it down; else that is a violation.
    bool may_get_lost = false;

  private:
    enum class Access : u8 { kRead, kWrite, kFetch };
    struct Translation {
        u64 pfn;
        bool writable, user, executable, dirty;
    };
    struct Fault {
        u64 address;
        u32 error_code;
    };
    struct Instruction;
    static const Instruction kInstructions[];

    u32 enter(host_vcpu &vcpu);
    void check_state();
    void deliver(u32 information);
    bool exits_for_window();
    /// One instruction; false: an exit.
    bool step();
    const Instruction *fetch(u8 *code, std::optional<Fault> &fault);
    bool raise(const Fault &fault, u32 length);

    std::optional<Translation> translate(u64 linear, Access access, Fault &fault);
    std::optional<Translation> walk(u64 linear, Access access, Fault &fault);
    bool copy(u64 linear, void *data, u32 size, Access access, u32 length);
    bool permits(const Translation &page, Access access);
    u8 *memory_at(const Translation &page, u64 linear);
    void lost(const char *how);

    bool exit(u32 reason, u64 qualification, u32 length);
    u64 &field(u32 encoding) { return machine_.current_vmcs().fields[encoding]; }
    template <class Field>
    u64 get(Field which)
    {
        return field(which.encoding);
    }
    bool primary(u32 bit) { return (get(CPU_BASED_VM_EXEC_CONTROL) & bit) != 0; }
    bool secondary(u32 bit);
    bool pin(u32 bit) { return (get(PIN_BASED_VM_EXEC_CONTROL) & bit) != 0; }
    u64 &rax() { return vcpu_->area.regs[0]; }
    u32 msr_number() { return static_cast<u32>(vcpu_->area.regs[1]); }
    bool msr_exits(bool write);
    u64 *native_msr();
    u64 vpid();
    void drop_translations(u64 vpid);

    // The instructions: true when they completed, false when they exit or fault.
    bool run_mov(const u8 *code, u32 length);
    bool run_load(const u8 *code, u32 length);
    bool run_store(const u8 *code, u32 length);
    bool run_rdmsr(const u8 *code, u32 length);
    bool run_wrmsr(const u8 *code, u32 length);
    bool run_cpuid(const u8 *code, u32 length);
    bool run_cr3(const u8 *code, u32 length);
    bool run_set_cr8(const u8 *code, u32 length);
    bool run_get_cr8(const u8 *code, u32 length);
    bool run_invlpg(const u8 *code, u32 length);
    bool run_sti(const u8 *code, u32 length);
    bool run_cli(const u8 *code, u32 length);
    bool run_nop(const u8 *code, u32 length);
    bool run_iret(const u8 *code, u32 length);
    bool run_out(const u8 *code, u32 length);
    bool run_hlt(const u8 *code, u32 length);
    u64 *virtual_tpr();

    Machine &machine_;
    host_vcpu *vcpu_ = nullptr;
    std::map<std::pair<u64, u64>, Translation> tlb_; ///< by VPID and page number
    bool is_lost_ = false;
    bool trap_like_exit_ = false; ///< the instruction has completed, and then exits
};

} // namespace minivmx::sim
