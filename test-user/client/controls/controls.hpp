// SPDX-License-Identifier: GPL-2.0-only
//
// The VMX control words of a fresh vCPU, as the module under test prints them when VM entry fails.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

// Who has the interrupt controllers, and how the local APIC is reached.
enum class Apic : unsigned { kUserSpace, kXapic, kX2apic };

// A row: which module parameters are off, which exits are disabled, whether the vCPU has a CPUID,
// and its APIC.
struct Row {
    std::string params; // "ept=0,vpid=0", or "default"
    unsigned exits = 0; // KVM_X86_DISABLE_EXITS_*
    bool cpuid = false;
    Apic apic = Apic::kUserSpace;
    std::string name() const;
    auto operator<=>(const Row &) const = default;
};

// The words by name, in the order of kWords; a word that was not found is absent.
using Words = std::map<std::string, uint64_t>;
inline const char *const kWords[] = {"pin",  "primary",    "secondary", "tertiary", "entry",
                                     "exit", "exceptions", "cr0_mask",  "cr4_mask"};

// Reads what the words are from one line of a dump, in the format of kvm_intel 6.1.
void parse_dump_line(const std::string &line, Words &words);

// Prints a line for each "EXITS:CPUID:APIC" of `rows`: the row and its words. Returns an exit
// status.
int dump_rows(const char *device, const char *params, char **rows);
// Prints one line for each set of parameters: the set, then its rows. `full`: all combinations,
// else up to pairs.
int print_plan(bool full);
// Compares two outputs of dump_rows, prints a test line for each row in which a word is not as by
// default.
int compare_files(const char *model, const char *reference, const char *ours, const char *known);
