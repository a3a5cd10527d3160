// SPDX-License-Identifier: GPL-2.0-only
//
// Every control at work: for each primary and secondary processor-based control, what a tiny guest
// does to show it, how the control is moved, and what the architecture says comes of it. The table
// is both the lesson that `minivmx lab` prints and the test that it runs.
#pragma once

#include <minivmx/control_types.hpp>
#include <minivmx/cpuid.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace minivmx::tool {

struct LabRun; // run.hpp

/// Instructions of a guest: as text in Intel syntax, and assembled.
struct LabCode {
    const char *text;
    const std::uint8_t *begin;
    const std::uint8_t *end;

    std::span<const std::uint8_t> bytes() const { return {begin, end}; }
};

/// What the VMM does when the guest writes to kLabEventPort.
enum class LabEvent : std::uint8_t {
    kNone,
    kQueueInterrupt,    // one waits: KVM_SIGNAL_MSI
    kRequestWindow,     // the VMM wants to know when it could give one
    kQueueNmi,          // KVM_NMI
    kQueueTwoNmis,      // the second has to wait for the first one's IRET
    kCollectDirtyPages, // KVM_GET_DIRTY_LOG: all pages are clean again
    kRestoreMapping,    // of the page that the guest remaps
};

constexpr std::uint16_t kLabEventPort = 0xf1;
constexpr std::uint16_t kLabExamplePort = 0xf2; // with nothing behind it
constexpr std::uint16_t kLabEndPort = 0xf4;     // the guest is done

/// How the VM and its vCPU are made. The default is a plain vCPU in 64-bit mode, without an APIC in
/// the kernel.
struct LabSetup {
    std::uint64_t intercepts = 0; // MINIVMX_INTERCEPT_*
    std::uint16_t intercept_port = 0;
    std::uint32_t intercept_msr = 0;
    std::uint64_t disable_exits = 0; // KVM_X86_DISABLE_EXITS_*
    bool irqchip = false;            // PIC, IOAPIC and local APIC in the kernel
    bool x2apic = false;             // in x2APIC mode
    bool log_dirty_pages = false;
    bool real_mode = false;
    bool half_tsc_rate = false;       // of the host's
    std::uint64_t tsc_ahead = 0;      // of the host's, in ticks
    std::vector<CpuidFeature> hide{}; // the guest's CPUID doesn't have them
    std::vector<CpuidFeature> need{}; // it must have them, or this can't be shown
    LabEvent event = LabEvent::kNone;
};

/// What the architecture says of the measured instructions.
struct LabOutcome {
    /// Basic exit reasons, any of them; -1 ends the list. Empty: the guest stays in.
    std::array<int, 3> exits = {-1, -1, -1};
    unsigned least = 0;                     // at least so many exits in all; 0: one each round
    int fault = -1;                         // vector of the exception that the guest gets
    std::array<int, 3> also = {-1, -1, -1}; // exits for these, too, which are not the point
    unsigned stray = 0;                     // where none is expected, so many may come nevertheless
    bool to_client = false;                 // the exit is reported as MINIVMX_EXIT_INTERCEPT

    bool expects_exit() const { return exits[0] >= 0; }
    bool counts(int reason) const { return is_one_of(exits, reason); }
    bool allows(int reason) const { return is_one_of(also, reason); }

  private:
    static bool is_one_of(const std::array<int, 3> &list, int reason)
    {
        return reason >= 0 && (reason == list[0] || reason == list[1] || reason == list[2]);
    }
};

/// One of the two runs that are compared.
struct LabSide {
    const char *how = nullptr;     // what makes it so: "KVM_X86_DISABLE_EXITS_HLT"
    const char *instead = nullptr; // what stands for the control's being off or on, where it can't
    LabSetup setup{};
    LabCode before{}; // in each round, not measured
    LabCode code{};   // measured
    LabOutcome expected{};
    /// The control's bit in the vCPU's control word, as the module tells it; nothing where it
    /// changes while the guest runs.
    std::optional<bool> bit{};
    /// It is so only with this module parameter on or off; else kNone.
    Parameter parameter = Parameter::kNone;
    bool parameter_on = true;
    bool with_ept = false; // and only while EPT is on
    /// Why it can't be shown; then all the rest is empty.
    const char *why_not = nullptr;
};

struct LabCase {
    const char *slug; // of the control table
    LabSide off{};
    LabSide on{};
    const char *lesson = nullptr; // what is to be seen, and what it is good for
    /// Compares both runs: nullptr, or a sentence that says what is wrong.
    const char *(*check)(const LabRun &off, const LabRun &on) = nullptr;
    /// Something to see beside exits and cost: a few words, or nullptr.
    const char *(*remark)(const LabRun &run) = nullptr;
    /// Why there is nothing to show; then both sides are empty.
    const char *why_not = nullptr;

    bool shows() const { return why_not == nullptr; }
};

/// In the order of the control table.
std::span<const LabCase> lab_cases();
/// The case of a control, or nullptr for one of another word.
const LabCase *lab_case_of(std::string_view slug);

} // namespace minivmx::tool
