// SPDX-License-Identifier: GPL-2.0-only
//
// Shadow paging under a hostile guest and a busy host: the bytes are the guest's page tables, its
// program, and what the host does to its memory meanwhile. The simulated CPU (sim/guest_cpu.hpp)
// keeps every translation that it may keep. Whenever the guest has flushed since it last wrote,
// each access and each page fault must be what the reference walker finds in the guest's tables;
// and no translation leads to a page that its owner has taken away.
//
//     make fuzz FUZZ_SECONDS=60
#include <minivmx/guest_memory.hpp>
#include <minivmx/shadow.hpp>
#include <minivmx/state.hpp>

#include "fuzz/input.hpp"
#include "sim/guest_cpu.hpp"
#include "unit/reference_walk.hpp"
#include "unit/support.hpp"
#include "unit/vcpu_fixture.hpp"

#include <cstdio>
#include <cstdlib>

namespace minivmx::fuzz {
namespace {

// The guest's memory: code in page 0, tables, then data. A second slot comes and goes behind it.
constexpr u64 kRam = 64 * 1024, kPages = kRam / 4096, kTables = 0x1000, kTablePages = 8;
constexpr u64 kMore = 0x100000, kMorePages = 4;
constexpr u64 kCpuBits = 36;
constexpr u32 kTurns = 40;
constexpr u64 kLinear[] = {0, 0x1000, 0x5000, 0x9000, 0xf000, 0x100000, 0x200000, u64{1} << 39};

[[noreturn]] void broken(const std::string &what)
{
    std::fprintf(stderr, "shadow_fuzz: %s\n", what.c_str());
    std::abort();
}

class Session {
  public:
    explicit Session(Input &input)
        : input_{input}, guest_{sim::cpu("core2_penryn_t9600"), quiet()},
          ram_{guest_.machine.add_user_memory(kRam)}, more_{guest_.machine.add_user_memory(
                                                          kMorePages * 4096)},
          vcpu_{guest_.create_vcpu()}, cpu_{guest_.machine}
    {
        set_slot(0, 0, kRam, ram_, 0);
        make_tables();
        write_program();
        load([&] { set_state(); });
        cpu_.may_get_lost = true;
        guest_.machine.before_entry = [&](host_vcpu &) { check_progress(); };
        cpu_.on_access = [&](u64 linear, u64 pfn, bool write, bool fetch) {
            check_access(linear, pfn, write, fetch);
            in_step_ &= !write;
        };
    }

    void run()
    {
        for (u32 i = 0; i < kTurns && turn(); i++)
            disturb();
        if (!guest_.machine.violations.empty())
            broken(guest_.machine.violations.front());
        if (shadow_page_count(kvm()) > std::max<u64>(kvm().mmu_pages.limit, 64))
            broken("more shadow pages than are allowed");
    }

  private:
    static Parameters quiet()
    {
        Parameters params = default_parameters();
        params.report = 0;
        return params;
    }
    kvm_vm &kvm() { return to_kvm(guest_.vm.core); }
    vcpu_vmx &vmx() { return to_vmx(vcpu_.core); }
    u8 *memory(u64 gpa) const { return reinterpret_cast<u8 *>(ram_ + gpa); }
    template <class Function>
    void load(Function function)
    {
        core_vcpu_load(vcpu_.core, 0);
        function();
        core_vcpu_put(vcpu_.core);
    }

    // ---- The guest --------------------------------------------------------------------------

    void set_slot(u32 slot, u64 gpa, u64 size, u64 hva, u32 flags)
    {
        const kvm_userspace_memory_region region = {slot, flags, gpa, size, hva};
        core_set_memory_region(guest_.vm.core, &region);
    }
    // Mostly a frame of memory and rights; sometimes anything.
    u64 entry()
    {
        const u8 kind = input_.take<u8>();
        if (kind < 16)
            return input_.value();
        const u64 frame = kind & 1   ? kTables / 4096 + input_.below(kTablePages)
                          : kind & 2 ? kMore / 4096 + input_.below(kMorePages + 1)
                                     : input_.below(kPages + 1);
        u64 flags = kind & 4 ? 3 : input_.take<u8>();
        if (kind & 8)
            flags |= u64{input_.flag()} << 63;
        return frame << 12 | flags;
    }
    void make_tables()
    {
        // Everything to itself, so that the program runs and reaches its own tables; then changes.
        for (u64 level = 0; level < 3; level++)
            put(kTables + level * 4096, (kTables + (level + 1) * 4096) | 3);
        for (u64 page = 0; page < kPages; page++)
            put(kTables + 3 * 4096 + 8 * page, page << 12 | 3);
        for (u64 i = 0; i < kMorePages; i++)
            put(kTables + 3 * 4096 + 8 * (kMore / 4096 + i), (kMore + (i << 12)) | 3);
        for (u8 changes = input_.below(32); changes != 0; changes--)
            put(entry_place(), entry());
    }
    // Where an entry would be that something uses.
    u64 entry_place()
    {
        return kTables + 4096 * u64{input_.below(kTablePages)} + 8 * u64{input_.below(24)};
    }
    void put(u64 gpa, u64 value) { std::memcpy(memory(gpa), &value, sizeof(value)); }

    u64 address()
    {
        return input_.one_of(kLinear) + 4096 * u64{input_.below(20)} + 8 * u64{input_.below(32)};
    }
    void write_program()
    {
        sim::Program program;
        for (u8 i = 0; i < 60 && !input_.empty() && program.bytes().size() < 3900; i++) {
            switch (input_.below(8)) {
            case 0:
            case 1:
                program.mov(kRdi, address()).load();
                break;
            case 2:
                program.mov(kRdi, address()).mov(kRax, input_.value()).store();
                break;
            case 3: // an entry of a table, through its identical address
                program.mov(kRdi, entry_place()).mov(kRax, entry()).store();
                break;
            case 4:
                program.mov(kRdi, address()).invlpg();
                break;
            case 5:
                program.mov(kRax, kTables).set_cr3();
                break;
            case 6:
                program.mov(kRax, kTables + 4096 * u64{input_.below(kTablePages)}).set_cr3();
                break;
            default:
                program.out(input_.take<u8>());
            }
        }
        program.hlt();
        std::memcpy(memory(0), program.bytes().data(), program.bytes().size());
    }
    void set_state()
    {
        kvm_cpuid_entry2 entries[3] = {};
        entries[0].function = 7;
        entries[0].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        entries[0].ebx = 1u << 7 | 1u << 20; // SMEP, SMAP
        entries[1].function = 0x80000001;    // NX, long mode
        entries[1].edx = 1u << 20 | 1u << 29;
        entries[2].function = 0x80000008;
        entries[2].eax = 48u << 8 | kCpuBits;
        core_set_cpuid2(vcpu_.core, entries, 3);
        kvm_sregs s;
        core_get_sregs(vcpu_.core, &s);
        const u8 choice = input_.take<u8>();
        s.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_ET | X86_CR0_PG | (choice & 1 ? X86_CR0_WP : 0);
        s.cr3 = kTables;
        s.cr4 = X86_CR4_PAE;
        s.efer = EFER_LME | EFER_LMA | (choice & 2 ? EFER_NX : 0);
        test::flat_64bit_segments(s);
        if (core_set_sregs(vcpu_.core, &s))
            broken("KVM_SET_SREGS");
        kvm_regs regs = {};
        regs.rflags = X86_EFLAGS_FIXED;
        core_set_regs(vcpu_.core, &regs);
        if (choice & 4)
            core_set_nr_mmu_pages(guest_.vm.core, 64);
    }

    // ---- The judge --------------------------------------------------------------------------

    test::Result reference(u64 linear, bool write, bool fetch)
    {
        const AddressState state = address_state(vmx());
        std::vector<u8> copy(memory(0), memory(kRam));
        const test::Machinery machinery = {.mode = test::Mode::k64,
                                           .cr3 = state.cr3,
                                           .pdpte = {},
                                           .maxphyaddr = state.physical_bits,
                                           .pse = true,
                                           .g1 = state.pages_1g,
                                           .wp = state.write_protect,
                                           .smep = state.smep,
                                           .smap = state.smap,
                                           .nxe = state.nxe,
                                           .ac = state.ac};
        const test::Request request = {linear, write, fetch, false, false};
        return test::Reference(copy, machinery, request).run();
    }
    // Since the guest loaded CR3 it has written nothing, so what it sees is in its tables.
    void note_flushes()
    {
        const u64 loads = cpu_.exits_of(EXIT_REASON_CR_ACCESS);
        in_step_ |= loads != loads_;
        loads_ = loads;
    }
    void check_access(u64 linear, u64 pfn, bool write, bool fetch)
    {
        note_flushes();
        if (!in_step_)
            return;
        const test::Result expected = reference(linear, write, fetch);
        if (!expected.ok)
            broken("an access of " + std::to_string(linear) + " goes through that should fault");
        u32 hint = 0;
        const u64 gfn = expected.gpa >> 12;
        const MemSlot *slot = kvm().slots.current->find(gfn, hint);
        if (!slot)
            broken("an access of unbacked memory goes through");
        if (guest_.machine.pfn_of(slot->hva_of_gfn(gfn)) != pfn)
            broken("an access of " + std::to_string(linear) + " reaches another page than " +
                   std::to_string(expected.gpa));
    }
    void check_faults()
    {
        for (; checked_ < cpu_.events.size(); checked_++) {
            const sim::GuestCpu::Event &event = cpu_.events[checked_];
            if (event.vector != PF_VECTOR || !in_step_ || checked_ + 1 != cpu_.events.size())
                continue;
            const test::Result expected =
                reference(event.cr2, event.error_code & 2, event.error_code & 16);
            if (expected.ok || expected.error != event.error_code)
                broken("a page fault at " + std::to_string(event.cr2) + " with error code " +
                       std::to_string(event.error_code) + " that the tables don't give");
        }
    }

    // Each fault is worked off by a few entries at most.
    void check_progress()
    {
        constexpr u64 kPatience = 200;
        const u64 done = cpu_.instructions + cpu_.events.size() + loads_now();
        stuck_ = done == done_ ? stuck_ + 1 : 0;
        done_ = done;
        if (stuck_ > kPatience)
            broken("the guest comes no further: exit reason " +
                   std::to_string(guest_.field(vcpu_, VM_EXIT_REASON.encoding)) + ", address " +
                   std::to_string(guest_.field(vcpu_, EXIT_QUALIFICATION.encoding)) +
                   ", error code " +
                   std::to_string(guest_.field(vcpu_, VM_EXIT_INTR_ERROR_CODE.encoding)));
    }
    u64 loads_now() const
    {
        return cpu_.exits_of(EXIT_REASON_CR_ACCESS) + cpu_.exits_of(EXIT_REASON_INVLPG);
    }

    // ---- The host ---------------------------------------------------------------------------

    bool turn()
    {
        int result = 0;
        load([&] { result = core_vcpu_run(vcpu_.core); });
        if (result == -EFAULT)
            return false; // the owner's memory isn't there
        if (result != 0)
            broken("KVM_RUN fails: " + std::to_string(result));
        kvm_run &run = *vcpu_.area.run;
        switch (run.exit_reason) {
        case KVM_EXIT_MMIO:
            in_step_ = false; // what the emulator did isn't seen here
            input_.fill(run.mmio.data, sizeof(run.mmio.data));
            return true;
        case KVM_EXIT_IO:
            check_faults();
            return true;
        case KVM_EXIT_HLT:
        case KVM_EXIT_SHUTDOWN:
        case KVM_EXIT_INTERNAL_ERROR:
            return false;
        default:
            broken("exit reason " + std::to_string(run.exit_reason));
        }
    }
    void disturb()
    {
        const u64 page = ram_ + 4096 * u64{input_.below(kPages)};
        switch (input_.below(8)) {
        case 0: // another host page, with what this one had
            guest_.machine.pfns.erase(page >> 12);
            guest_.machine.unmap_user(guest_.vm, page, page + 4096);
            break;
        case 1:
            set_slot(1, kMore, kMorePages * 4096, more_,
                     input_.flag() ? KVM_MEM_LOG_DIRTY_PAGES : 0);
            break;
        case 2:
            set_slot(1, kMore, 0, 0, 0);
            break;
        case 3:
            set_slot(0, 0, kRam, ram_, input_.flag() ? KVM_MEM_LOG_DIRTY_PAGES : 0);
            break;
        case 4:
            core_mmu_shrink(guest_.vm.core, input_.below(40));
            break;
        case 5:
            host_mmu_lock(&guest_.vm);
            core_mmu_age_hva_range(guest_.vm.core, page, page + 4096, true);
            host_mmu_unlock(&guest_.vm);
            break;
        default:
            break;
        }
    }

    Input &input_;
    test::GuestMachine guest_;
    u64 ram_, more_;
    host_vcpu &vcpu_;
    sim::GuestCpu cpu_;
    bool in_step_ = true;
    u64 loads_ = 0, done_ = 0, stuck_ = 0;
    usize checked_ = 0;
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
