// SPDX-License-Identifier: GPL-2.0-only
#include "machine.hpp"

#include "../cpuid_model.hpp"
#include "../error.hpp"
#include "../exit_text.hpp"
#include "../guest_setup.hpp"
#include "../start_state.hpp"
#include "guest_abi.h"
#include "layout.hpp"
#include "program.hpp"

#include <minivmx/exit.hpp>

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace minivmx::tool {
namespace {

constexpr std::uint32_t kInterruptVector = 0x20;
constexpr std::uint32_t kMessageAddress = 0xfee00000; // to the local APIC with ID 0
constexpr std::uint64_t kCr4Osxsave = std::uint64_t{1} << 18;
constexpr std::uint64_t kX2apicEnable = std::uint64_t{1} << 10; // of IA32_APIC_BASE
constexpr std::uint32_t kMsrTsc = 0x10;
constexpr std::uint32_t kLoggedSlot = 1;

/// An ioctl that must succeed.
template <typename Argument>
void call(const Device &device, int fd, unsigned long request, const char *name, Argument argument)
{
    if (ioctl(fd, request, argument) < 0)
        fail("{}: {} failed: {}", device.path(), name, errno_text(errno));
}

/// Makes KVM_RUN return when a guest never ends.
class Alarm {
  public:
    static constexpr int kSeconds = 20;

    Alarm()
    {
        struct sigaction action = {};
        action.sa_handler = [](int) {}; // without SA_RESTART
        sigaction(SIGALRM, &action, &before_);
        set(kSeconds);
    }
    Alarm(const Alarm &) = delete;
    Alarm &operator=(const Alarm &) = delete;
    ~Alarm()
    {
        set(0);
        sigaction(SIGALRM, &before_, nullptr);
    }
    static bool rang()
    {
        itimerval left = {};
        getitimer(ITIMER_REAL, &left);
        return left.it_value.tv_sec == 0 && left.it_value.tv_usec == 0;
    }

  private:
    static void set(int seconds)
    {
        itimerval timer = {};
        timer.it_value.tv_sec = seconds;
        setitimer(ITIMER_REAL, &timer, nullptr);
    }
    struct sigaction before_ = {};
};

/// The register of CPUID that a feature is in, of these entries; nullptr when there is no such
/// leaf.
std::uint32_t *cpuid_word(std::vector<kvm_cpuid_entry2> &entries, CpuidFeature feature)
{
    const CpuidWordPlace &place = kCpuidWordPlaces[static_cast<unsigned>(feature) / 32];
    for (kvm_cpuid_entry2 &entry : entries)
        if (entry.function == place.leaf && entry.index == place.subleaf)
            return &(entry.*place.word);
    return nullptr;
}

std::uint32_t cpuid_bit(CpuidFeature feature)
{
    return std::uint32_t{1} << static_cast<unsigned>(feature) % 32;
}

bool has(std::vector<kvm_cpuid_entry2> &entries, CpuidFeature feature)
{
    const std::uint32_t *word = cpuid_word(entries, feature);
    return word != nullptr && (*word & cpuid_bit(feature)) != 0;
}

/// What exit of the CPU must be behind an exit to this process.
int reason_of(const kvm_run &run)
{
    switch (run.exit_reason) {
    case KVM_EXIT_IO:
        return EXIT_REASON_IO_INSTRUCTION;
    case KVM_EXIT_MMIO:
        return EXIT_REASON_EPT_VIOLATION;
    case KVM_EXIT_HLT:
        return EXIT_REASON_HLT;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        return EXIT_REASON_INTERRUPT_WINDOW;
    case KVM_EXIT_SET_TPR:
        return EXIT_REASON_CR_ACCESS;
    case MINIVMX_EXIT_INTERCEPT:
        return static_cast<int>(MINIVMX_INTERCEPT_FACTS(&run)->exit_reason & kExitReasonBasicMask);
    default:
        return -1;
    }
}

} // namespace

LabMachine::LabMachine(const Device &device, const LabSetup &setup)
    : device_(device), setup_(setup), vm_(device), memory_(0, kLabMemorySize),
      logged_(kLabLogged, kLabLoggedPages * 4096)
{
    write_memory();
    if (prepare_vm() && !prepare_vcpu())
        vcpu_.reset();
}

bool LabMachine::lacks(std::string what)
{
    lacking_ = std::move(what);
    return false;
}

bool LabMachine::prepare_vm()
{
    if (setup_.disable_exits != 0) {
        const auto offered =
            static_cast<std::uint64_t>(device_.capability(KVM_CAP_X86_DISABLE_EXITS));
        if ((setup_.disable_exits & ~offered) != 0)
            return lacks("KVM_CAP_X86_DISABLE_EXITS doesn't offer it on this CPU");
        kvm_enable_cap enable = {};
        enable.cap = KVM_CAP_X86_DISABLE_EXITS;
        enable.args[0] = setup_.disable_exits;
        call(device_, vm_.fd(), KVM_ENABLE_CAP, "KVM_CAP_X86_DISABLE_EXITS", &enable);
    }
    vm_.reserve_tss(kTssAddress);
    if (setup_.irqchip)
        vm_.create_interrupt_controllers();
    vm_.add_memory(0, memory_);
    kvm_userspace_memory_region region = {};
    region.slot = kLoggedSlot;
    region.flags = setup_.log_dirty_pages ? KVM_MEM_LOG_DIRTY_PAGES : 0;
    region.guest_phys_addr = logged_.base();
    region.memory_size = logged_.size();
    region.userspace_addr = reinterpret_cast<std::uint64_t>(logged_.host());
    call(device_, vm_.fd(), KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", &region);
    return true;
}

bool LabMachine::prepare_vcpu()
{
    vcpu_ = std::make_unique<Vcpu>(vm_, 0);
    if (!set_cpuid())
        return false;
    set_registers();
    return set_tsc() && set_intercepts();
}

bool LabMachine::set_cpuid()
{
    std::vector<kvm_cpuid_entry2> entries = cpuid_for(device_.supported_cpuid(), 0);
    for (const CpuidFeature feature : setup_.need)
        if (!has(entries, feature))
            return lacks("KVM_GET_SUPPORTED_CPUID doesn't have the instruction");
    for (const CpuidFeature feature : setup_.hide)
        if (std::uint32_t *word = cpuid_word(entries, feature))
            *word &= ~cpuid_bit(feature);
    vcpu_->set_cpuid(entries);
    return true;
}

void LabMachine::set_registers()
{
    const Mode mode = setup_.real_mode ? Mode::kReal : Mode::kLong;
    const StartFacts facts = {setup_.real_mode ? kLabRealModeCode : kLabCode, kLabMemorySize, 0, 1};
    kvm_sregs sregs = start_sregs(mode, vcpu_->sregs(), GUEST_PAGE_TABLES, facts);
    if (mode == Mode::kLong) {
        sregs.idt.base = kLabIdt;
        sregs.idt.limit = kLabVectors * 16 - 1;
        std::vector<kvm_cpuid_entry2> entries = device_.supported_cpuid();
        if (has(entries, CpuidFeature::kXsave))
            sregs.cr4 |= kCr4Osxsave;
    }
    if (setup_.x2apic)
        sregs.apic_base |= kX2apicEnable;
    vcpu_->set_sregs(sregs);
}

bool LabMachine::set_tsc()
{
    if (setup_.half_tsc_rate) {
        const int khz = ioctl(vcpu_->fd(), KVM_GET_TSC_KHZ, 0UL);
        if (khz <= 0)
            return lacks("the device doesn't know the TSC's rate");
        if (ioctl(vcpu_->fd(), KVM_SET_TSC_KHZ, static_cast<unsigned long>(khz / 2)) != 0)
            return lacks("KVM_SET_TSC_KHZ takes no other rate than the host's");
    }
    if (setup_.tsc_ahead != 0) {
        struct {
            kvm_msrs head;
            kvm_msr_entry entry;
        } msrs = {};
        const std::uint64_t before = __rdtsc();
        msrs.head.nmsrs = 1;
        msrs.entry = {kMsrTsc, 0, before + setup_.tsc_ahead};
        if (ioctl(vcpu_->fd(), KVM_SET_MSRS, &msrs) != 1)
            fail("{}: KVM_SET_MSRS did not set the TSC", device_.path());
        tsc_setting_took_ = __rdtsc() - before;
    }
    return true;
}

bool LabMachine::set_intercepts()
{
    minivmx_port_range port = {setup_.intercept_port, setup_.intercept_port, 0};
    minivmx_msr_range msr = {setup_.intercept_msr, setup_.intercept_msr,
                             MINIVMX_MSR_READ | MINIVMX_MSR_WRITE, 0};
    minivmx_intercepts intercepts = {};
    intercepts.controls = setup_.intercepts;
    if (setup_.intercept_port != 0) {
        intercepts.port_count = 1;
        intercepts.ports = reinterpret_cast<std::uint64_t>(&port);
    }
    if (setup_.intercept_msr != 0) {
        intercepts.msr_count = 1;
        intercepts.msrs = reinterpret_cast<std::uint64_t>(&msr);
    }
    const bool nothing_asked =
        intercepts.controls == 0 && intercepts.port_count == 0 && intercepts.msr_count == 0;
    if (nothing_asked || ioctl(vcpu_->fd(), MINIVMX_SET_INTERCEPTS, &intercepts) == 0)
        return true;
    if (errno == EOPNOTSUPP)
        return lacks("MINIVMX_SET_INTERCEPTS: the CPU can't do that");
    if (errno == ENOTTY || errno == EINVAL)
        return lacks("the device has no MINIVMX_SET_INTERCEPTS");
    fail("{}: MINIVMX_SET_INTERCEPTS failed: {}", device_.path(), errno_text(errno));
}

void LabMachine::write_memory()
{
    write_tables(Mode::kLong, memory_);
    memory_.store(kLabMappingEntry, kLabFirstPage | 0xe3);
    memory_.store(kLabFirstPage, kLabFirstPage);
    memory_.store(kLabSecondPage, kLabSecondPage);

    const LabStubs stubs = lab_stubs();
    std::copy(stubs.bytes.begin(), stubs.bytes.end(),
              memory_.range(kLabStubs, stubs.bytes.size()).begin());
    for (unsigned vector = 0; vector < kLabVectors; vector++) {
        // An interrupt gate: SDM Vol. 3A, figure 6-8.
        const std::uint64_t handler = kLabStubs + stubs.offsets.at(vector);
        const std::uint64_t gate = (handler & 0xffff) | std::uint64_t{GUEST_SEL_CODE64} << 16 |
                                   std::uint64_t{0x8e00} << 32 | (handler & 0xffff0000) << 32;
        memory_.store(kLabIdt + std::uint64_t{16} * vector, gate);
        memory_.store(kLabIdt + std::uint64_t{16} * vector + 8, handler >> 32);
    }
}

void LabMachine::load(const LabCode &before, const LabCode &code, unsigned rounds)
{
    memory_.store(kLabState, std::int64_t{-1});
    kvm_regs regs = {};
    regs.rflags = 2;
    regs.rsi = kLabData;
    regs.rdi = kLabXsaveArea;
    regs.rsp = GUEST_STACK_TOP;
    regs.r13 = ~std::uint64_t{0};
    regs.r14 = rounds;
    if (setup_.real_mode) {
        const auto bytes = code.bytes();
        std::copy(bytes.begin(), bytes.end(),
                  memory_.range(kLabRealModeCode, bytes.size()).begin());
        regs.rip = kLabRealModeCode;
        regs.rsp = GUEST_STACK_TOP_REAL;
    } else {
        const LabProgram program = lab_program(before, code);
        std::copy(program.bytes.begin(), program.bytes.end(),
                  memory_.range(kLabCode, program.bytes.size()).begin());
        memory_.store(kLabState + 8, kLabCode + program.resume);
        regs.rip = kLabCode;
    }
    vcpu_->set_regs(regs);
}

LabPass LabMachine::run(const LabCode &before, const LabCode &code, unsigned rounds,
                        bool with_events)
{
    load(before, code, rounds);
    LabPass pass;
    const std::optional<ExitCounts> counts_before = read_exit_counts();
    {
        const Alarm alarm;
        bool goes_on = true;
        while (goes_on) {
            const int error = vcpu_->run();
            if (error == 0)
                goes_on = handle_exit(pass, with_events);
            else if (error != EINTR)
                fail("{}: KVM_RUN failed: {}", device_.path(), errno_text(error));
            else if (Alarm::rang())
                fail("{}: a guest of the lab did not end within {} seconds", device_.path(),
                     Alarm::kSeconds);
        }
    }
    const std::optional<ExitCounts> counts_after = read_exit_counts();
    pass.counted = counts_before && counts_after;
    if (pass.counted)
        pass.exits = counts_since(*counts_before, *counts_after);
    // The last OUT is over: another pass may begin at the same address.
    if (pass.ran)
        vcpu_->complete_exit();
    const kvm_regs regs = vcpu_->regs();
    pass.least_ticks = regs.r13;
    pass.value = regs.r10;
    pass.fault = static_cast<int>(memory_.load<std::int32_t>(kLabState));
    return pass;
}

/// False at the guest's end.
bool LabMachine::handle_exit(LabPass &pass, bool with_events)
{
    kvm_run &run = vcpu_->state();
    if (const int reason = reason_of(run); reason >= 0)
        pass.exits[static_cast<std::uint32_t>(reason)]++;
    switch (run.exit_reason) {
    case KVM_EXIT_IO:
        if (run.io.port == kLabEventPort && with_events)
            happen(setup_.event);
        pass.ran = pass.ran || run.io.port == kLabEndPort;
        return run.io.port != kLabEndPort;
    case KVM_EXIT_MMIO:
        std::fill(std::begin(run.mmio.data), std::end(run.mmio.data), std::uint8_t{0xff});
        return true;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        run.request_interrupt_window = 0;
        return true;
    case KVM_EXIT_HLT:
    case KVM_EXIT_SET_TPR:
        return true;
    case MINIVMX_EXIT_INTERCEPT:
        pass.client_exits++; // the answer is in it: proceed
        return true;
    case KVM_EXIT_INTERNAL_ERROR:
        pass.refused = describe_internal_error(run);
        return false;
    case KVM_EXIT_FAIL_ENTRY:
        pass.refused = describe_failed_entry(run.fail_entry.hardware_entry_failure_reason);
        return false;
    default:
        pass.refused = "an exit that the lab doesn't know: " + exit_name(run.exit_reason);
        return false;
    }
}

void LabMachine::happen(LabEvent event)
{
    kvm_msi message = {};
    std::array<std::uint64_t, kLabLoggedPages / 64> bitmap{};
    kvm_dirty_log log = {};
    switch (event) {
    case LabEvent::kNone:
        return;
    case LabEvent::kQueueInterrupt:
        message.address_lo = kMessageAddress;
        message.data = kInterruptVector;
        return call(device_, vm_.fd(), KVM_SIGNAL_MSI, "KVM_SIGNAL_MSI", &message);
    case LabEvent::kRequestWindow:
        vcpu_->state().request_interrupt_window = 1;
        return;
    case LabEvent::kQueueTwoNmis:
        call(device_, vcpu_->fd(), KVM_NMI, "KVM_NMI", 0UL);
        [[fallthrough]];
    case LabEvent::kQueueNmi:
        return call(device_, vcpu_->fd(), KVM_NMI, "KVM_NMI", 0UL);
    case LabEvent::kCollectDirtyPages:
        log.slot = kLoggedSlot;
        log.dirty_bitmap = bitmap.data();
        return call(device_, vm_.fd(), KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG", &log);
    case LabEvent::kRestoreMapping:
        memory_.store(kLabMappingEntry, kLabFirstPage | 0xe3);
        return;
    }
}

std::optional<LabMachine::Word> LabMachine::word(ControlField field) const
{
    minivmx_controls controls = {};
    // Without room for the steps it says that there are some, and tells the words.
    if (ioctl(vcpu_->fd(), MINIVMX_GET_CONTROLS, &controls) < 0 && errno != E2BIG)
        return std::nullopt;
    const auto index = static_cast<std::size_t>(field);
    return Word{controls.words[index], controls.allowed1[index]};
}

} // namespace minivmx::tool
