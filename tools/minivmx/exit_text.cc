// SPDX-License-Identifier: GPL-2.0-only
#include "exit_text.hpp"

#include <minivmx/exit_name.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace minivmx::tool {
namespace {

struct Name {
    std::uint64_t value;
    const char *text;
};

constexpr std::array kExitNames = {
    Name{KVM_EXIT_UNKNOWN, "unknown"},
    Name{KVM_EXIT_EXCEPTION, "exception"},
    Name{KVM_EXIT_IO, "io"},
    Name{KVM_EXIT_HYPERCALL, "hypercall"},
    Name{KVM_EXIT_DEBUG, "debug"},
    Name{KVM_EXIT_HLT, "hlt"},
    Name{KVM_EXIT_MMIO, "mmio"},
    Name{KVM_EXIT_IRQ_WINDOW_OPEN, "irq-window-open"},
    Name{KVM_EXIT_SHUTDOWN, "shutdown"},
    Name{KVM_EXIT_FAIL_ENTRY, "fail-entry"},
    Name{KVM_EXIT_INTR, "intr"},
    Name{KVM_EXIT_SET_TPR, "set-tpr"},
    Name{KVM_EXIT_TPR_ACCESS, "tpr-access"},
    Name{KVM_EXIT_NMI, "nmi"},
    Name{KVM_EXIT_INTERNAL_ERROR, "internal-error"},
    Name{KVM_EXIT_SYSTEM_EVENT, "system-event"},
    Name{KVM_EXIT_IOAPIC_EOI, "ioapic-eoi"},
    Name{KVM_EXIT_X86_RDMSR, "rdmsr"},
    Name{KVM_EXIT_X86_WRMSR, "wrmsr"},
};

// SDM Vol. 3C, appendix C: basic exit reasons that a failed VM entry gives.
constexpr std::array kEntryFailures = {
    Name{33, "invalid guest state"},
    Name{34, "an MSR could not be loaded"},
    Name{41, "a machine check during the entry"},
};

constexpr std::array kSuberrors = {
    Name{KVM_INTERNAL_ERROR_EMULATION, "an instruction could not be emulated"},
    Name{KVM_INTERNAL_ERROR_SIMUL_EX, "exceptions came at the same time"},
    Name{KVM_INTERNAL_ERROR_DELIVERY_EV, "an exit came while an event was being delivered"},
    Name{KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, "an unexpected VM exit"},
};

template <std::size_t N>
const char *find_name(const std::array<Name, N> &names, std::uint64_t value)
{
    const auto found = std::find_if(names.begin(), names.end(),
                                    [value](const Name &name) { return name.value == value; });
    return found == names.end() ? nullptr : found->text;
}

/// Little-endian bytes as one number.
std::uint64_t number(std::span<const std::uint8_t> bytes)
{
    std::uint64_t value = 0;
    for (std::size_t i = std::min<std::size_t>(bytes.size(), 8); i > 0; i--)
        value = value << 8 | bytes[i - 1];
    return value;
}

std::string describe_io(const kvm_run &run, std::span<const std::uint8_t> data)
{
    const bool out = run.io.direction == KVM_EXIT_IO_OUT;
    std::string text = fmt::format("{} port {:#x}, {} byte{}", out ? "out" : "in", run.io.port,
                                   run.io.size, run.io.size == 1 ? "" : "s");
    if (run.io.count != 1)
        text += fmt::format(", {} times", run.io.count);
    if (out && run.io.size != 0 && data.size() >= run.io.size)
        text += fmt::format(": {:#x}", number(data.first(run.io.size)));
    return text;
}

std::string segment_line(const char *name, const kvm_segment &segment)
{
    return fmt::format("  {:<4} sel={:04x} base={:016x} limit={:08x} type={:x} s={} dpl={} p={} "
                       "avl={} l={} db={} g={}{}\n",
                       name, segment.selector, segment.base, segment.limit, segment.type, segment.s,
                       segment.dpl, segment.present, segment.avl, segment.l, segment.db, segment.g,
                       segment.unusable != 0 ? " unusable" : "");
}

} // namespace

std::string exit_name(std::uint32_t exit_reason)
{
    const char *name = find_name(kExitNames, exit_reason);
    return name != nullptr ? name : fmt::format("exit {}", exit_reason);
}

std::string describe_exit(const kvm_run &run, std::span<const std::uint8_t> io_data)
{
    switch (run.exit_reason) {
    case KVM_EXIT_IO:
        return describe_io(run, io_data);
    case KVM_EXIT_MMIO: {
        const std::uint32_t length = std::min<std::uint32_t>(run.mmio.len, 8);
        if (run.mmio.is_write == 0)
            return fmt::format("mmio read {:#x}, {} bytes", run.mmio.phys_addr, length);
        return fmt::format("mmio write {:#x}, {} bytes: {:#x}", run.mmio.phys_addr, length,
                           number({run.mmio.data, length}));
    }
    default:
        return exit_name(run.exit_reason);
    }
}

std::string describe_failed_entry(std::uint64_t hardware_reason)
{
    constexpr std::uint64_t kEntryFailure = std::uint64_t{1} << 31;
    const char *meaning = (hardware_reason & kEntryFailure) != 0
                              ? find_name(kEntryFailures, hardware_reason & 0xffff)
                              : instruction_error_name(static_cast<std::uint32_t>(hardware_reason));
    return fmt::format("{:#x} ({})", hardware_reason,
                       meaning != nullptr ? meaning : "no reason that the SDM lists");
}

std::string describe_internal_error(const kvm_run &run)
{
    const char *meaning = find_name(kSuberrors, run.internal.suberror);
    std::string text = fmt::format("{} (suberror {}", meaning != nullptr ? meaning : "unknown",
                                   run.internal.suberror);
    const std::size_t count =
        std::min<std::size_t>(run.internal.ndata, std::size(run.internal.data));
    for (std::size_t i = 0; i < count; i++)
        text +=
            fmt::format("{}{:#x}", i == 0 ? ", data " : " ", std::uint64_t{run.internal.data[i]});
    return text + ")";
}

std::string register_text(const kvm_regs &r, const kvm_sregs &s)
{
    std::string text;
    text += fmt::format("  rax={:016x} rbx={:016x} rcx={:016x} rdx={:016x}\n", r.rax, r.rbx, r.rcx,
                        r.rdx);
    text += fmt::format("  rsi={:016x} rdi={:016x} rbp={:016x} rsp={:016x}\n", r.rsi, r.rdi, r.rbp,
                        r.rsp);
    text += fmt::format("  r8 ={:016x} r9 ={:016x} r10={:016x} r11={:016x}\n", r.r8, r.r9, r.r10,
                        r.r11);
    text += fmt::format("  r12={:016x} r13={:016x} r14={:016x} r15={:016x}\n", r.r12, r.r13, r.r14,
                        r.r15);
    text += fmt::format("  rip={:016x} rflags={:08x} cs={:04x} ss={:04x} ds={:04x}\n", r.rip,
                        r.rflags, s.cs.selector, s.ss.selector, s.ds.selector);
    text += fmt::format("  cr0={:08x} cr2={:016x} cr3={:016x} cr4={:08x} cr8={:x} efer={:x}\n",
                        s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.efer);
    return text;
}

std::string segment_text(const kvm_sregs &s)
{
    std::string text;
    text += segment_line("cs", s.cs);
    text += segment_line("ss", s.ss);
    text += segment_line("ds", s.ds);
    text += segment_line("es", s.es);
    text += segment_line("fs", s.fs);
    text += segment_line("gs", s.gs);
    text += segment_line("tr", s.tr);
    text += segment_line("ldt", s.ldt);
    text += fmt::format("  gdt  base={:016x} limit={:04x}\n", s.gdt.base, s.gdt.limit);
    text += fmt::format("  idt  base={:016x} limit={:04x}\n", s.idt.base, s.idt.limit);
    return text;
}

} // namespace minivmx::tool
