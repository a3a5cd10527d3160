// SPDX-License-Identifier: GPL-2.0-only
//
// Drives the core over the simulated machine the way a hostile client and a hostile guest would:
// the bytes choose calls of host.h and their arguments, what user space writes into kvm_run
// meanwhile, and what the guest does, exit by exit. The simulated machine notes what the core must
// never do; any such note, and any leak, ends the fuzzer, as the sanitizers' findings do.
//
//     make fuzz FUZZ_SECONDS=60
#include <minivmx/exit.hpp>
#include <minivmx/vmcs_field.hpp>

#include "fuzz/input.hpp"
#include "unit/support.hpp"
#include "unit/vcpu_fixture.hpp"

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace minivmx::fuzz {
namespace {

constexpr u64 kRam = 64 * 1024;
constexpr u32 kEntriesPerRun = 12;
constexpr u32 kCallsPerInput = 48;

const char *const kModels[] = {"corei7_haswell_4770", "corei7_skylake_x", "core2_penryn_t9600",
                               "corei5_lynnfield_750", "tigerlake"};

[[noreturn]] void broken(const std::string &what)
{
    std::fprintf(stderr, "core_fuzz: %s\n", what.c_str());
    std::abort();
}

const HostDesc &model(u8 index)
{
    static const std::vector<HostDesc> models = [] {
        std::vector<HostDesc> all;
        for (const char *name : kModels)
            all.push_back(sim::cpu(name));
        return all;
    }();
    return models[index];
}

class Session {
  public:
    explicit Session(Input &input)
        : input_(input), guest_(model(input.below(std::size(kModels))), parameters(input)),
          vcpu_(first_vcpu())
    {
        if (input_.flag())
            guest_.create_vcpu();
        ram_ = guest_.machine.add_user_memory(kRam);
        set_region({.slot = 0,
                    .flags = 0,
                    .guest_phys_addr = 0,
                    .memory_size = kRam,
                    .userspace_addr = ram_});
        guest_.machine.on_vmenter = [this](host_vcpu &) { return play(); };
        guest_.machine.on_block = [this](host_vcpu &) { guest_.machine.signal_pending = true; };
    }

    ~Session()
    {
        sim::Machine &machine = guest_.machine;
        if (!machine.violations.empty())
            broken(machine.violations.front());
        if (machine.preempt_count != 0 || machine.irqs_off)
            broken("preemption or interrupts stay off");
    }

    void call()
    {
        static constexpr void (Session::*kCalls[])() = {
            &Session::run,
            &Session::run,
            &Session::run,
            &Session::run,
            &Session::set_regs,
            &Session::sregs,
            &Session::memory_region,
            &Session::set_cpuid,
            &Session::events,
            &Session::write_run_page,
            &Session::poke_memory,
            &Session::settings,
            &Session::unmap,
            &Session::read_all,
            &Session::msrs,
            &Session::vcpu_state,
            &Session::vcpu_state,
            &Session::lapic,
            &Session::debug,
            &Session::intercepts,
            &Session::answer,
            &Session::chips,
            &Session::pit,
            &Session::routing,
            &Session::interrupt_line,
            &Session::message,
            &Session::bus,
            &Session::dirty_log,
            &Session::clocks,
            &Session::time_passes,
        };
        (this->*input_.one_of(kCalls))();
    }

  private:
    // With the controllers in the kernel, half of them, or none of them.
    host_vcpu &first_vcpu()
    {
        kvm_enable_cap split{};
        split.cap = KVM_CAP_SPLIT_IRQCHIP;
        split.args[0] = 24;
        const u8 choice = input_.below(4);
        if (choice >= 2)
            core_create_irqchip(guest_.vm.core);
        else if (choice == 1)
            core_vm_enable_cap(guest_.vm.core, &split);
        return guest_.create_vcpu();
    }

    static Parameters parameters(Input &input)
    {
        Parameters params = default_parameters();
        params.report = 0;
        const u8 bits = input.take<u8>();
        params.vnmi = bits & 1;
        params.vpid = bits & 2;
        params.unrestricted_guest = bits & 4;
        params.flexpriority = bits & 8;
        params.preemption_timer = bits & 16;
        params.eptad = bits & 32;
        params.dump_invalid_vmcs = bits & 64;
        params.pml = bits & 128;
        return params;
    }

    // ---- What the guest does ----

    void write(u32 encoding, u64 value) { guest_.machine.current_vmcs().fields[encoding] = value; }

    u64 guest_address() { return input_.flag() ? input_.take<u16>() : input_.value(); }

    // Information no CPU gives is not tried: sizes of port accesses (SDM Vol. 3C, table 28-5).
    u64 qualification(u32 reason)
    {
        const u64 any = input_.value();
        static constexpr u64 kSizes[] = {0, 1, 3};
        return reason == EXIT_REASON_IO_INSTRUCTION ? (any & ~u64{7}) | input_.one_of(kSizes) : any;
    }

    // An exit with any information; what cannot come together must at least be survived.
    u32 play()
    {
        static constexpr u32 kCommon[] = {EXIT_REASON_EXCEPTION_NMI,
                                          EXIT_REASON_IO_INSTRUCTION,
                                          EXIT_REASON_CR_ACCESS,
                                          EXIT_REASON_MSR_READ,
                                          EXIT_REASON_MSR_WRITE,
                                          EXIT_REASON_EPT_VIOLATION,
                                          EXIT_REASON_DR_ACCESS,
                                          EXIT_REASON_CPUID,
                                          EXIT_REASON_HLT,
                                          EXIT_REASON_XSETBV,
                                          EXIT_REASON_VMCALL,
                                          EXIT_REASON_EPT_MISCONFIG,
                                          EXIT_REASON_INTERRUPT_WINDOW,
                                          EXIT_REASON_APIC_ACCESS,
                                          EXIT_REASON_TPR_BELOW_THRESHOLD,
                                          EXIT_REASON_PREEMPTION_TIMER,
                                          EXIT_REASON_TASK_SWITCH};
        static constexpr u64 kDevices[] = {0xfee00000, 0xfec00000};
        if (++entries_ >= kEntriesPerRun)
            guest_.machine.signal_pending = true;
        u32 reason = input_.flag() ? input_.one_of(kCommon) : input_.below(80);
        if (input_.below(64) == 0)
            reason |= kExitReasonFailedEntry;
        write(VM_EXIT_REASON.encoding, reason);
        write(EXIT_QUALIFICATION.encoding, qualification(reason));
        const u64 address = input_.below(4) == 0
                                ? input_.one_of(kDevices) + (input_.take<u16>() & 0xfff)
                                : guest_address() & 0xfffffffffffff;
        write(GUEST_PHYSICAL_ADDRESS.encoding, address);
        write(GUEST_LINEAR_ADDRESS.encoding, guest_address());
        write(VM_EXIT_INSTRUCTION_LEN.encoding, input_.below(16));
        write(VM_EXIT_INTR_INFO.encoding, input_.take<u32>());
        write(VM_EXIT_INTR_ERROR_CODE.encoding, input_.take<u16>());
        const bool vectoring = input_.below(8) == 0;
        write(IDT_VECTORING_INFO_FIELD.encoding, vectoring ? input_.take<u32>() : 0);
        write(IDT_VECTORING_ERROR_CODE.encoding, vectoring ? input_.take<u16>() : 0);
        write(VM_ENTRY_INTR_INFO_FIELD.encoding, 0);
        if (input_.flag())
            write(GUEST_RIP.encoding, guest_address());
        if (input_.flag())
            vcpu_.area.regs[input_.below(16)] = guest_address();
        return input_.below(64) == 0; // VMLAUNCH itself fails
    }

    // ---- What the client does ----

    void loaded(const std::function<void()> &what)
    {
        sim::Machine &machine = guest_.machine;
        machine.preempt_count++;
        core_vcpu_load(vcpu_.core, 0);
        machine.preempt_count--;
        what();
        machine.preempt_count++;
        core_vcpu_put(vcpu_.core);
        machine.preempt_count--;
    }

    void run()
    {
        entries_ = 0;
        guest_.machine.signal_pending = input_.below(16) == 0;
        loaded([this] {
            const int result = core_vcpu_run(vcpu_.core);
            if (result > 0)
                broken("KVM_RUN answers " + std::to_string(result));
            // KVM's answer to a control register that does not exist is a reason of 0.
            const u32 exit = to_vmx(vcpu_.core).exit_reason;
            if (result == 0 && vcpu_.area.run->exit_reason == KVM_EXIT_UNKNOWN &&
                exit != EXIT_REASON_CR_ACCESS)
                broken("KVM_RUN returns without a reason after VM exit " + std::to_string(exit));
        });
        guest_.machine.signal_pending = false;
    }

    void set_regs()
    {
        auto regs = input_.take<kvm_regs>();
        if (input_.flag())
            regs.rip = input_.take<u16>();
        loaded([&] { core_set_regs(vcpu_.core, &regs); });
    }

    // Mostly a state that could be, with something wrong in it.
    void sregs()
    {
        kvm_sregs sregs{};
        loaded([&] {
            core_get_sregs(vcpu_.core, &sregs);
            for (u8 changes = input_.below(6); changes != 0; changes--) {
                const u16 at = static_cast<u16>(input_.take<u16>() % sizeof(sregs));
                input_.fill(reinterpret_cast<u8 *>(&sregs) + at,
                            std::min<usize>(input_.below(9), sizeof(sregs) - at));
            }
            static constexpr u64 kCr0[] = {0x10, 0x11, 0x80000011, 0x80050033};
            if (input_.flag())
                sregs.cr0 = input_.one_of(kCr0);
            core_set_sregs(vcpu_.core, &sregs);
        });
    }

    void set_region(kvm_userspace_memory_region region)
    {
        core_set_memory_region(guest_.vm.core, &region);
    }

    void memory_region()
    {
        auto region = input_.take<kvm_userspace_memory_region>();
        if (input_.flag()) {
            region.slot %= 4;
            region.flags &= 3;
            region.guest_phys_addr = u64{input_.take<u8>()} << 12;
            region.memory_size = u64{input_.below(20)} << 12;
            region.userspace_addr = ram_ + (u64{input_.below(16)} << 12);
        }
        set_region(region);
    }

    void set_cpuid()
    {
        std::vector<kvm_cpuid_entry2> entries(256);
        u32 count = 256;
        core_get_supported_cpuid(entries.data(), &count);
        for (u8 changes = input_.below(8); changes != 0; changes--)
            input_.fill(&entries[input_.take<u8>() % count],
                        input_.below(sizeof(kvm_cpuid_entry2) + 1));
        count = input_.flag() ? count : std::min<u32>(count, input_.take<u8>());
        loaded([&] { core_set_cpuid2(vcpu_.core, entries.data(), count); });
    }

    void events()
    {
        loaded([this] {
            if (input_.flag())
                core_nmi(vcpu_.core);
            else
                core_interrupt(vcpu_.core, static_cast<u32>(input_.value()));
        });
    }

    // User space may write its page at any time.
    void write_run_page()
    {
        const usize at = input_.take<u16>() % sizeof(kvm_run);
        const std::vector<u8> bytes = input_.bytes(64);
        if (!bytes.empty())
            std::memcpy(reinterpret_cast<u8 *>(vcpu_.area.run) + at, bytes.data(),
                        std::min(bytes.size(), sizeof(kvm_run) - at));
        input_.fill(vcpu_.area.pio_data, input_.below(64));
    }

    void poke_memory()
    {
        const u16 at = input_.take<u16>();
        const std::vector<u8> bytes = input_.bytes(64);
        if (!bytes.empty())
            host_copy_to_user(ram_ + at, bytes.data(), std::min<usize>(bytes.size(), kRam - at));
    }

    void settings()
    {
        auto cap = input_.take<kvm_enable_cap>();
        if (input_.flag())
            cap.cap = input_.take<u8>();
        core_vm_enable_cap(guest_.vm.core, &cap);
        core_set_tss_addr(guest_.vm.core, input_.value());
        core_set_identity_map_addr(guest_.vm.core, input_.value());
        core_check_extension(guest_.vm.core, input_.value());
    }

    void unmap()
    {
        const u64 start = ram_ + (u64{input_.below(16)} << 12);
        guest_.machine.unmap_user(guest_.vm, start, start + (u64{input_.below(16)} << 12));
    }

    void read_all()
    {
        loaded([this] {
            kvm_regs regs{};
            core_get_regs(vcpu_.core, &regs);
            kvm_sregs sregs{};
            core_get_sregs(vcpu_.core, &sregs);
            kvm_cpuid_entry2 entries[256];
            u32 count = input_.take<u8>();
            core_get_cpuid2(vcpu_.core, entries, &count);
        });
    }

    // ---- Whole states, as they are or with something wrong in them ----

    template <class State>
    void change(State &state)
    {
        for (u8 changes = input_.below(6); changes != 0; changes--) {
            const usize at = input_.take<u16>() % sizeof(state);
            input_.fill(reinterpret_cast<u8 *>(&state) + at,
                        std::min<usize>(input_.below(9), sizeof(state) - at));
        }
    }
    template <class State, class Get, class Set>
    void get_and_set(Get get, Set set)
    {
        State state{};
        loaded([&] {
            get(vcpu_.core, &state);
            change(state);
            set(vcpu_.core, &state);
        });
    }

    void vcpu_state()
    {
        switch (input_.below(8)) {
        case 0:
            return get_and_set<kvm_sregs2>(core_get_sregs2, core_set_sregs2);
        case 1:
            return get_and_set<kvm_xcrs>(core_get_xcrs, core_set_xcrs);
        case 2:
            return get_and_set<kvm_debugregs>(core_get_debugregs, core_set_debugregs);
        case 3:
            return loaded([this] {
                u32 state = 0;
                core_get_mp_state(vcpu_.core, &state);
                core_set_mp_state(vcpu_.core, input_.below(8));
            });
        case 4:
            return loaded([this] {
                core_set_vapic_addr(vcpu_.core, input_.value());
                core_set_tpr_access_reporting(vcpu_.core, input_.below(3), input_.below(3));
            });
        case 5:
            return loaded([this] {
                const auto cap = input_.take<kvm_enable_cap>();
                core_vcpu_enable_cap(vcpu_.core, &cap);
                core_setup_mce(vcpu_.core, input_.value());
                const auto mce = input_.take<kvm_x86_mce>();
                core_set_mce(vcpu_.core, &mce);
            });
        default:
            return get_and_set<kvm_vcpu_events>(core_get_vcpu_events, core_set_vcpu_events);
        }
    }

    void lapic() { get_and_set<kvm_lapic_state>(core_get_lapic, core_set_lapic); }

    void debug()
    {
        loaded([this] {
            auto debug = input_.take<kvm_guest_debug>();
            debug.control &= 0x3f001f;
            core_set_guest_debug(vcpu_.core, &debug);
            kvm_translation translation{};
            translation.linear_address = guest_address();
            core_translate(vcpu_.core, &translation);
        });
    }

    void intercepts()
    {
        minivmx_intercepts asked{};
        asked.controls =
            input_.flag() ? input_.value() : input_.take<u32>() & MINIVMX_INTERCEPT_ALL;
        asked.exceptions = input_.take<u32>() & MINIVMX_INTERCEPT_EXCEPTIONS;
        std::vector<minivmx_port_range> ports(input_.below(3));
        std::vector<minivmx_msr_range> msrs(input_.below(3));
        for (minivmx_port_range &range : ports)
            range = {input_.take<u8>(), input_.take<u16>(), 0};
        for (minivmx_msr_range &range : msrs)
            range = {input_.take<u8>(), input_.take<u32>(), input_.below(4), 0};
        asked.port_count = static_cast<u32>(ports.size());
        asked.msr_count = static_cast<u32>(msrs.size());
        loaded([&] { core_set_intercepts(vcpu_.core, &asked, ports.data(), msrs.data()); });
    }

    void answer()
    {
        minivmx_exit_intercept &facts = *MINIVMX_INTERCEPT_FACTS(vcpu_.area.run);
        facts.answer = input_.below(4);
        facts.vector = input_.below(33);
        facts.error_code = input_.take<u16>();
        facts.payload = input_.value();
    }

    void msrs()
    {
        std::vector<u32> known(512);
        known.resize(std::min<usize>(core_msr_index_list(false, known.data(), 512), 512));
        loaded([&] {
            for (u8 count = input_.below(8); count != 0; count--) {
                kvm_msr_entry entry{};
                entry.index = known.empty() || input_.below(4) == 0
                                  ? input_.take<u32>()
                                  : known[input_.take<u16>() % known.size()];
                core_get_msrs(vcpu_.core, &entry, 1);
                entry.data ^= input_.value();
                core_set_msrs(vcpu_.core, &entry, 1);
            }
        });
    }

    // ---- The VM's devices; the ioctls that need the controllers ask for them first ----

    void chips()
    {
        if (!core_irqchip_in_kernel(guest_.vm.core))
            return;
        kvm_irqchip chip{};
        chip.chip_id = input_.below(4);
        core_get_irqchip(guest_.vm.core, &chip);
        change(chip);
        core_set_irqchip(guest_.vm.core, &chip);
    }

    void pit()
    {
        if (input_.below(4) == 0)
            core_create_pit(guest_.vm.core, input_.below(4));
        kvm_pit_state2 state{};
        core_get_pit(guest_.vm.core, &state);
        change(state);
        core_set_pit(guest_.vm.core, &state);
        core_reinject_control(guest_.vm.core, input_.flag());
    }

    void routing()
    {
        kvm_irq_routing_entry entries[8];
        const u8 count = input_.below(9);
        for (u8 i = 0; i < count; i++) {
            entries[i] = input_.take<kvm_irq_routing_entry>();
            if (input_.flag()) {
                entries[i].gsi %= 32;
                entries[i].type = 1 + entries[i].type % 3;
                entries[i].flags = 0;
                entries[i].u.irqchip.irqchip %= 4;
                entries[i].u.irqchip.pin %= 32;
            }
        }
        core_set_gsi_routing(guest_.vm.core, entries, count);
    }

    void interrupt_line()
    {
        kvm_irq_level line{};
        line.irq = input_.flag() ? input_.below(32) : input_.take<u32>();
        line.level = input_.below(3);
        core_irq_line(guest_.vm.core, &line, input_.flag());
    }

    void message()
    {
        auto msi = input_.take<kvm_msi>();
        if (input_.flag()) {
            msi.address_lo = 0xfee00000 | (msi.address_lo & 0xfffff);
            msi.flags = 0;
        }
        core_signal_msi(guest_.vm.core, &msi);
    }

    void bus()
    {
        auto zone = input_.take<kvm_coalesced_mmio_zone>();
        if (input_.flag()) {
            zone.addr &= 0xffff;
            zone.pio &= 1;
        }
        if (input_.flag())
            core_register_coalesced(guest_.vm.core, &zone);
        else
            core_unregister_coalesced(guest_.vm.core, &zone);
        // User space writes the ring whenever it likes.
        input_.fill(core_coalesced_ring(guest_.vm.core), input_.below(64));
    }

    void dirty_log()
    {
        core_dirty_log log{};
        core_get_dirty_log(guest_.vm.core, input_.flag() ? input_.below(4) : input_.take<u32>(),
                           &log);
        auto clear = input_.take<kvm_clear_dirty_log>();
        if (input_.flag()) {
            clear.slot %= 4;
            clear.first_page &= ~u64{63};
            clear.num_pages %= 64;
        }
        if (core_prepare_clear_dirty_log(guest_.vm.core, &clear, &log) == 0) {
            input_.fill(log.bitmap, std::min<usize>(log.size, 16));
            core_clear_dirty_log(guest_.vm.core, &clear);
        }
    }

    void clocks()
    {
        kvm_clock_data clock{};
        core_get_clock(guest_.vm.core, &clock);
        change(clock);
        core_set_clock(guest_.vm.core, &clock);
        core_vm_set_tsc_khz(guest_.vm.core, static_cast<u32>(input_.value()));
        loaded([this] {
            core_set_tsc_khz(vcpu_.core, static_cast<u32>(input_.value()));
            core_kvmclock_ctrl(vcpu_.core);
        });
    }

    void time_passes() { guest_.machine.advance(input_.take<u32>()); }

    Input &input_;
    test::GuestMachine guest_;
    host_vcpu &vcpu_;
    u64 ram_ = 0;
    u32 entries_ = 0;
};

} // namespace
} // namespace minivmx::fuzz

extern "C" int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size)
{
    minivmx::fuzz::Input input(bytes, size);
    minivmx::fuzz::Session session(input);
    for (minivmx::u32 i = 0; i < minivmx::fuzz::kCallsPerInput && !input.empty(); i++)
        session.call();
    return 0;
}
