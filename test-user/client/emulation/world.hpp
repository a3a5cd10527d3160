// SPDX-License-Identifier: GPL-2.0-only
//
// A guest with descriptors of every kind, started with one piece of code after the other, by the
// CPU or, where a segment register makes VM entry impossible, by the emulator. What comes of each
// is a list of named numbers.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../guest/guest_test.hpp"

namespace emulation {

// Below 2 MiB like everything in ../common/layout.h; 0x30000 is nobody's there.
constexpr uint64_t kGdt = 0x30000, kTss = 0x31000, kOtherTss = 0x31800, kLdt = 0x32000,
                   kIdt = 0x33000, kTarget = 0x35000, kHalts = 0x36000, kInnerTop = 0x39000,
                   kStackTop = 0x3b000, kOuterTop = 0x3d000, kData = 0x3e000, kEnd = 0x40000;

constexpr uint16_t kCode0 = 0x08, kData0 = 0x10, kCode64 = 0x18, kTask = 0x20, kOtherTask = 0x30,
                   kCode3 = 0x3b, kData3 = 0x43, kConforming = 0x48, kAbsentCode = 0x50,
                   kAbsentData = 0x58, kReadOnly = 0x60, kExecuteOnly = 0x68, kCode16 = 0x70,
                   kData16 = 0x78, kGate = 0x80, kGate16 = 0x90, kTaskGate = 0x98, kTable = 0xa0,
                   kData1 = 0xb0, kCode1 = 0xb8, kAbsentGate = 0xc0, kInnerGate = 0xd0,
                   kExpandDown = 0xe0, kCode3of64 = 0xeb, kLast = 0xf0;

enum class Cpl { k0, k3 };

// The bytes of a piece of code, to be put together at run time.
struct Code : std::vector<uint8_t> {
    Code() = default;
    Code(Blob blob) : std::vector<uint8_t>(blob.begin, blob.end) {}
    Code(std::initializer_list<uint8_t> bytes) : std::vector<uint8_t>(bytes) {}
    Code &byte(uint8_t value)
    {
        push_back(value);
        return *this;
    }
    Code &number(uint64_t value, unsigned size)
    {
        for (unsigned i = 0; i < size; i++)
            push_back(static_cast<uint8_t>(value >> 8 * i));
        return *this;
    }
};

struct State : std::vector<std::pair<std::string, uint64_t>> {
    void add(std::string what, uint64_t value) { emplace_back(std::move(what), value); }
    std::string text() const;
};

class World {
  public:
    explicit World(Mode mode);

    // Runs the code to where it halts. emulated: none of it by the CPU.
    State run(const Code &code, Cpl cpl, bool emulated, uint64_t flags = 2);
    Mode mode() const { return guest_.mode; }
    // For cases that need more than the code.
    template <class T>
    T &at(uint64_t address)
    {
        return guest_.memory.at<T>(address);
    }

  private:
    void write_world();
    void write_gdt();
    void write_gates();
    void open_tables();
    kvm_sregs initial_sregs(Cpl cpl, bool emulated) const;
    kvm_regs initial_regs(Cpl cpl, uint64_t flags) const;
    void set_msrs();
    State state(uint64_t exit);

    Device device_;
    Guest guest_;
    kvm_sregs reset_;
    std::vector<uint8_t> image_;
};

// A vector of the IDT from here on has this gate: see world.cc.
constexpr uint8_t kFirstGate = 0x40;
size_t gate_count();

} // namespace emulation
