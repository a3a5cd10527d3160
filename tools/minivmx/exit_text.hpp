// SPDX-License-Identifier: GPL-2.0-only
//
// KVM's exits in words, and registers as lines.
#pragma once

#include <minivmx.h>

#include <cstdint>
#include <span>
#include <string>

namespace minivmx::tool {

/// "io", "mmio", "hlt" ... for KVM_EXIT_*; "exit 99" for one that this tool does not know.
std::string exit_name(std::uint32_t exit_reason);

/// One line about an exit, for a trace. `io_data` is the data of a KVM_EXIT_IO, else unused.
std::string describe_exit(const kvm_run &run, std::span<const std::uint8_t> io_data);

/// Why a VM entry failed, from KVM_EXIT_FAIL_ENTRY: exit reasons 33 to 41 with bit 31, or a
/// VM-instruction error number (SDM Vol. 3C, 27.8 and 31.4).
std::string describe_failed_entry(std::uint64_t hardware_reason);

/// What KVM_EXIT_INTERNAL_ERROR's structure says.
std::string describe_internal_error(const kvm_run &run);

/// General registers, RIP, RFLAGS, CR0, CR2, CR3, CR4, CR8 and EFER, in lines that end in a
/// newline.
std::string register_text(const kvm_regs &regs, const kvm_sregs &sregs);

/// Segments and descriptor tables, likewise.
std::string segment_text(const kvm_sregs &sregs);

} // namespace minivmx::tool
