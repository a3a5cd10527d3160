// SPDX-License-Identifier: GPL-2.0-only
//
// The emulator on any code, in any mode, with any descriptors and page tables: the bytes choose the
// state, what memory holds and what user space answers. Besides what the sanitizers and the
// simulated machine notice, an instruction must leave a state that a CPU could be in, and one that
// faults must leave the registers alone, for it will be executed again.
//
//     make fuzz FUZZ_SECONDS=60
#include <minivmx/emulate.hpp>
#include <minivmx/event_delivery.hpp>
#include <minivmx/segment.hpp>

#include "fuzz/input.hpp"
#include "unit/support.hpp"
#include "unit/vcpu_fixture.hpp"

#include <cstdio>
#include <cstdlib>

namespace minivmx::fuzz {
namespace {

constexpr u64 kRam = 64 * 1024;
constexpr u32 kInstructions = 24;
constexpr u32 kAnswers = 4096 + 64; // a page of INSB, into a device
// Of guest memory.
constexpr u64 kGdt = 0x7000, kIdt = 0x7400, kTss = 0x7c00, kTables = 0x8000;

[[noreturn]] void broken(const std::string &what)
{
    std::fprintf(stderr, "emulate_fuzz: %s\n", what.c_str());
    std::abort();
}

/// One machine for all inputs, since it takes far longer to make than to use; each has a vCPU of
/// its own. Without "unrestricted guest", so that real mode is virtual-8086 mode.
class Machine {
  public:
    static Machine &get()
    {
        static Machine machine;
        return machine;
    }
    test::GuestMachine guest{sim::cpu("corei5_lynnfield_750"), quiet()};
    u64 ram = guest.machine.add_user_memory(kRam);

  private:
    Machine()
    {
        const kvm_userspace_memory_region region = {.slot = 0,
                                                    .flags = 0,
                                                    .guest_phys_addr = 0,
                                                    .memory_size = kRam,
                                                    .userspace_addr = ram};
        core_set_memory_region(guest.vm.core, &region);
    }
    static Parameters quiet()
    {
        Parameters params = default_parameters();
        params.report = 0;
        return params;
    }
};

class Session {
  public:
    explicit Session(Input &input)
        : input_{input}, guest_{Machine::get().guest}, ram_{Machine::get().ram},
          vcpu_{guest_.create_vcpu()}
    {
        guest_.machine.preempt_count++;
        core_vcpu_load(vcpu_.core, 0);
        guest_.machine.preempt_count--;
        fill_memory();
        choose_state();
        place_code();
    }
    ~Session()
    {
        guest_.machine.preempt_count++;
        core_vcpu_put(vcpu_.core);
        guest_.machine.preempt_count--;
        guest_.destroy_vcpu(vcpu_);
        sim::Machine &machine = guest_.machine;
        // What the machine keeps of its past.
        machine.vmwrites.clear();
        machine.wrmsr_log.clear();
        machine.log.clear();
        machine.frame_puts.clear();
        if (!machine.violations.empty())
            broken(machine.violations.front());
        if (machine.preempt_count != 0 || machine.irqs_off)
            broken("preemption or interrupts stay off");
    }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    void run()
    {
        for (u32 i = 0; i < kInstructions; i++) {
            step();
            check_state();
            if (vmx().mp_state != KVM_MP_STATE_RUNNABLE || vmx().triple_fault)
                return;
            if (vmx().exception.pending && !deliver())
                return;
        }
    }

  private:
    vcpu_vmx &vmx() { return to_vmx(vcpu_.core); }
    u8 *memory(u64 gpa) { return reinterpret_cast<u8 *>(ram_ + gpa); }
    template <class T>
    void put(u64 gpa, T value)
    {
        std::memcpy(memory(gpa), &value, sizeof(value));
    }

    // ---- What there is ----

    void fill_memory()
    {
        std::memset(memory(0), input_.take<u8>(), kRam);
        // Code and data of both widths and two privileges, a TSS, an LDT, gates; then anything.
        constexpr u64 kDescriptors[] = {0,
                                        0x00cf9b000000ffff,
                                        0x00cf93000000ffff,
                                        0x00009b000000ffff,
                                        0x000093000000ffff,
                                        0x00cffb000000ffff,
                                        0x00cff3000000ffff,
                                        0x00af9b000000ffff,
                                        0x0000890000000067 | kTss << 16,
                                        0,
                                        0x0000e20000000067 | kGdt << 16,
                                        0,
                                        0x0000ec0000080100,
                                        0};
        for (usize i = 0; i < std::size(kDescriptors); i++)
            put(kGdt + 8 * i, kDescriptors[i]);
        for (u64 i = 0; i < 64; i++)
            put<u64>(kIdt + 8 * i, 0x00008e0000080200);
        // The first 2 MiB, identically mapped in the formats of all modes: 4-level and PAE tables
        // share the page directory, 32-bit ones have 4-MiB pages.
        put<u64>(kTables, (kTables + 0x1000) | 7);
        put<u64>(kTables + 0x1000, (kTables + 0x2000) | 7);
        put<u64>(kTables + 0x2000, 0x87);
        put<u64>(kTables + 0x3000, (kTables + 0x2000) | 1);
        put<u32>(kTables + 0x4000, 0x87);
        for (u8 changes = input_.below(24); changes != 0; changes--) {
            const u64 at = input_.take<u16>();
            input_.fill(memory(at), std::min<u64>(input_.below(24), kRam - at));
        }
    }

    enum Mode : u8 { kReal, kBigReal, k16, k32, k32Paged, kPae, kVm86, kCompatible, k64, kModes };

    static kvm_segment flat(u16 selector, u8 type, bool big, u8 cpl)
    {
        kvm_segment s = {};
        s.selector = selector | cpl;
        s.limit = big ? 0xffffffff : 0xffff;
        s.type = type;
        s.s = s.present = 1;
        s.dpl = cpl;
        s.db = s.g = big;
        return s;
    }
    void set_paging(kvm_sregs &s, Mode mode)
    {
        s.cr0 = X86_CR0_ET | X86_CR0_NE;
        if (mode >= k16)
            s.cr0 |= X86_CR0_PE;
        if (mode == k32Paged || mode == kPae || mode >= kCompatible)
            s.cr0 |= X86_CR0_PG | (input_.flag() ? X86_CR0_WP : 0);
        s.cr3 = mode == k32Paged ? kTables + 0x4000 : mode == kPae ? kTables + 0x3000 : kTables;
        s.cr4 = input_.flag() ? X86_CR4_PSE | X86_CR4_OSFXSR : X86_CR4_PSE;
        if (input_.below(4) == 0)
            s.cr4 |= X86_CR4_VME | X86_CR4_PVI;
        s.efer = 0;
        if (mode == kPae || mode >= kCompatible)
            s.cr4 |= X86_CR4_PAE;
        if (mode >= kCompatible)
            s.efer = EFER_LME | EFER_LMA | EFER_NX;
    }
    void set_segments(kvm_sregs &s, Mode mode)
    {
        const bool big = mode == kBigReal || (mode >= k32 && mode != kVm86);
        const u8 cpl = mode == kVm86 ? 3 : mode >= k16 && input_.below(3) == 0 ? 3 : 0;
        const u16 code = mode == kReal || mode == kBigReal || mode == kVm86 ? 0 : cpl ? 0x28 : 0x08;
        const u16 data = code == 0 ? 0 : cpl ? 0x30 : 0x10;
        s.cs = flat(code, 11, big && mode != kBigReal, cpl);
        s.ss = s.ds = s.es = s.fs = s.gs = flat(data, 3, big, cpl);
        if (mode == kVm86)
            s.cs.type = 3, s.cs.selector = s.ss.selector = 0;
        if (mode == k64)
            s.cs.l = 1, s.cs.db = 0;
        s.gdt = {kGdt, 0x3ff, {}};
        s.idt = {mode < k16 ? 0 : kIdt, 0x3ff, {}};
        s.tr = flat(0x40, 11, false, 0);
        s.tr.s = 0;
        s.tr.base = kTss;
        s.tr.limit = 0x67;
    }
    void choose_state()
    {
        const Mode mode = static_cast<Mode>(input_.below(kModes));
        kvm_sregs sregs;
        core_get_sregs(vcpu_.core, &sregs);
        set_paging(sregs, mode);
        set_segments(sregs, mode);
        // Something that no guest would have.
        for (u8 changes = input_.below(4); changes != 0; changes--) {
            const u16 at = static_cast<u16>(input_.take<u16>() % offsetof(kvm_sregs, apic_base));
            input_.fill(reinterpret_cast<u8 *>(&sregs) + at, input_.below(9));
        }
        core_set_sregs(vcpu_.core, &sregs);

        kvm_regs regs = {};
        u64 *const gprs = reinterpret_cast<u64 *>(&regs);
        for (unsigned i = 0; i < 16; i++)
            gprs[i] = input_.flag() ? input_.take<u16>() : input_.value();
        regs.rip = input_.take<u16>() & 0x7fff;
        regs.rflags = X86_EFLAGS_FIXED | (input_.take<u32>() & 0x245fd5);
        if (mode == kVm86)
            regs.rflags |= X86_EFLAGS_VM;
        core_set_regs(vcpu_.core, &regs);
    }
    void place_code()
    {
        u64 at = linear_rip(vmx()) & 0x7fff;
        const std::vector<u8> code = input_.bytes(96);
        for (const u8 byte : code)
            *memory(at++) = byte;
    }

    // ---- What happens ----

    void answer()
    {
        kvm_run &run = *vcpu_.area.run;
        if (run.exit_reason == KVM_EXIT_MMIO)
            input_.fill(run.mmio.data, sizeof(run.mmio.data));
        else if (run.exit_reason == KVM_EXIT_IO)
            input_.fill(vcpu_.area.pio_data, 16);
    }
    void check_outcome(Outcome outcome)
    {
        if (outcome.resumes())
            return;
        if (outcome.ioctl_result() != 0)
            broken("KVM_RUN fails: " + std::to_string(outcome.ioctl_result()));
        switch (vcpu_.area.run->exit_reason) {
        case KVM_EXIT_MMIO:
        case KVM_EXIT_IO:
        case KVM_EXIT_HLT:
        case KVM_EXIT_DEBUG:
        case KVM_EXIT_INTERNAL_ERROR:
        case KVM_EXIT_SET_TPR:
        case KVM_EXIT_SHUTDOWN:
            return;
        default:
            broken("exit reason " + std::to_string(vcpu_.area.run->exit_reason));
        }
    }

    /// What changes registers and faults afterwards: in another task, or after some iterations.
    static bool may_fault_later(Operation operation)
    {
        return operation >= Operation::kMovs || operation == Operation::kJmpFar ||
               operation == Operation::kCallFar || operation == Operation::kRetFar ||
               (operation >= Operation::kInt && operation <= Operation::kIret);
    }
    void step()
    {
        kvm_regs before, after;
        core_get_regs(vcpu_.core, &before);
        vmx().exception = {};
        vmx().pending.instruction.operation = Operation::kUnknown;
        Outcome outcome = emulate_instruction(vmx());
        check_outcome(outcome);
        for (u32 i = 0; !outcome.resumes() && vmx().pending.kind != PendingIo::kNone; i++) {
            if (i == kAnswers)
                broken("user space is asked for ever");
            answer();
            outcome = complete_pending(vmx());
            check_outcome(outcome);
        }
        core_get_regs(vcpu_.core, &after);
        if (!vmx().exception.pending || vmx().exception.vector == DB_VECTOR ||
            may_fault_later(vmx().pending.instruction.operation))
            return;
        after.rflags = before.rflags; // RF
        if (std::memcmp(&before, &after, sizeof(before)) != 0)
            broken("operation " +
                   std::to_string(static_cast<int>(vmx().pending.instruction.operation)) +
                   " faults with other registers than before");
    }
    void check_state()
    {
        constexpr u64 kReserved = ~u64{0x3f7fd7};
        if (!is_64_bit_code(vmx()) && !(vmx().efer & EFER_LMA) && read_rip(vmx()) >> 32 != 0)
            broken("EIP has more than 32 bits");
        if ((read_rflags(vmx()) & (kReserved | X86_EFLAGS_FIXED)) != X86_EFLAGS_FIXED)
            broken("reserved flags");
    }
    bool deliver()
    {
        const ExceptionQueue &queued = vmx().exception;
        const GuestEvent event = {.type = queued.soft ? INTR_TYPE_SOFT_EXCEPTION
                                                      : INTR_TYPE_HARD_EXCEPTION,
                                  .vector = queued.vector,
                                  .has_error_code = queued.has_error_code && is_protmode(vmx()),
                                  .error_code = queued.error_code,
                                  .instruction_length = 1};
        const Delivered delivered = deliver_event(vmx(), event);
        if (delivered == Delivered::kYes)
            vmx().exception.pending = false;
        check_state();
        return delivered == Delivered::kYes;
    }

    Input &input_;
    test::GuestMachine &guest_;
    u64 ram_;
    host_vcpu &vcpu_;
};

} // namespace
} // namespace minivmx::fuzz

extern "C" int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size)
{
    minivmx::fuzz::Input input(bytes, size);
    minivmx::fuzz::Session session(input);
    session.run();
    return 0;
}
