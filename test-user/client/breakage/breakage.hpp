// SPDX-License-Identifier: GPL-2.0-only
//
// breakage_test: VM entries that fail, one broken field at a time, and what the audit says of each.
//
// A base is a running vCPU, perhaps with fields that prepare for what is to be broken; it is
// entered as it is first, and the audit must be silent. A breakage is one write more. Only the test
// build of the module can do that (kunit/breakage), and only for the next entry.
#pragma once

#include "../../../kunit/breakage/breakage.h"
#include "../common/guest.hpp"

#include <minivmx/control_bits.hpp>
#include <minivmx/vmcs_field.hpp>

#include <vector>

namespace breakage {

using namespace minivmx;

using Write = minivmx_break_write;

template <class Field>
Write set(Field field, uint64_t value)
{
    return {field.encoding, MINIVMX_BREAK_SET, value};
}
template <class Field>
Write on(Field field, uint64_t bits)
{
    return {field.encoding, MINIVMX_BREAK_BITS_ON, bits};
}
template <class Field>
Write off(Field field, uint64_t bits)
{
    return {field.encoding, MINIVMX_BREAK_BITS_OFF, bits};
}
// The address of a page of the module's own, plus offset.
template <class Field>
Write page(Field field, uint64_t offset = 0)
{
    return {field.encoding, MINIVMX_BREAK_PAGE, offset};
}
// The address of the VMCS itself.
template <class Field>
Write vmcs(Field field)
{
    return {field.encoding, MINIVMX_BREAK_VMCS, 0};
}

enum class Shape { kLong, kUser, kPae, kReal, kVirtual8086 };

// Controls that the CPU must have for a base: bits of a word of MINIVMX_GET_CONTROLS.
struct Needs {
    int word = MINIVMX_WORD_PIN;
    uint64_t bits = 0;
    bool absent = false; // it must not have them
};

struct Base {
    const char *name;
    Shape shape;
    std::vector<Write> writes = {};
    Needs needs = {};
    // What the module's page begins with.
    uint64_t page[4] = {};
    // Of a vCPU that has not been entered before.
    bool fresh = false;
    // Why this base can't be entered itself: then the breakage is all of it together.
    const char *not_entered = nullptr;
};

struct Breakage {
    const char *name;
    Write write;
    // In place of the base's.
    uint64_t page[4] = {};
    // The field that the audit finds fault with, where it isn't the broken one.
    uint32_t blamed = 0;
    Needs needs = {};
    // The emulator enters it all the same.
    bool unseen = false;
};

struct Group {
    Base base;
    std::vector<Breakage> breakages;
};

// The tables.
std::vector<Group> control_groups();
std::vector<Group> exit_and_entry_groups();
std::vector<Group> host_groups();
std::vector<Group> register_groups();
std::vector<Group> segment_groups();
std::vector<Group> state_groups();

// CPUID.80000008H:EAX[7:0]
unsigned physical_bits();

constexpr uint64_t kNotCanonical = 0x8000'0000'0000'0000;
constexpr uint64_t kAbove4G = 1ULL << 32;

} // namespace breakage
