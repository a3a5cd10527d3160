// SPDX-License-Identifier: GPL-2.0-only
//
// A VM with one vCPU for one side of a lab's case, and passes of its guest.
#pragma once

#include "../guest_memory.hpp"
#include "../kvm.hpp"
#include "counters.hpp"
#include "lab.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace minivmx::tool {

/// What one pass of the guest came to.
struct LabPass {
    bool ran = false;
    std::string refused;            // why not
    ExitCounts exits;               // all of them, or those to this process only
    bool counted = false;           // all of them
    std::uint64_t client_exits = 0; // MINIVMX_EXIT_INTERCEPT
    std::uint64_t least_ticks = 0;
    std::uint64_t value = 0;
    int fault = -1;
};

class LabMachine {
  public:
    /// Throws Error where the device fails. What the CPU or the device lacks for it is told by
    /// lacking().
    LabMachine(const Device &device, const LabSetup &setup);

    /// Nothing, or what is missing to make such a machine, in a few words.
    const std::string &lacking() const { return lacking_; }

    /// The guest does this so many times. Events happen only if `with_events`.
    LabPass run(const LabCode &before, const LabCode &code, unsigned rounds, bool with_events);

    /// The vCPU's control word and what the CPU allows; nothing where the device doesn't tell.
    struct Word {
        std::uint64_t value, allowed1;
    };
    std::optional<Word> word(ControlField field) const;

    /// How long it took to set the guest's TSC, in ticks of the host's.
    std::uint64_t tsc_setting_took() const { return tsc_setting_took_; }

  private:
    /// Each says whether the machine can be made so; if not, lacking() tells.
    bool prepare_vm();
    bool prepare_vcpu();
    bool set_cpuid();
    bool set_intercepts();
    bool set_tsc();
    void set_registers();
    bool lacks(std::string what);

    void write_memory();
    void load(const LabCode &before, const LabCode &code, unsigned rounds);
    bool handle_exit(LabPass &pass, bool with_events);
    void happen(LabEvent event);

    const Device &device_;
    LabSetup setup_;
    Vm vm_;
    GuestMemory memory_;
    GuestMemory logged_;
    std::unique_ptr<Vcpu> vcpu_; // nullptr where the VM lacks something
    std::string lacking_;
    std::uint64_t tsc_setting_took_ = 0;
};

} // namespace minivmx::tool
