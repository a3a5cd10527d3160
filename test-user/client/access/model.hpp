// SPDX-License-Identifier: GPL-2.0-only
//
// What the CPU does with an access to memory, by the words of SDM Vol. 3A, chapter 4: 32-bit paging
// (4.3), PAE paging (4.4), 4-level paging (4.5). It shares nothing with the module's own walk.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "../common/guest.hpp"
#include "layout.h"

namespace paging {

enum class Kind : uint32_t {
    kRead = KIND_READ,
    kWrite = KIND_WRITE,
    kFetch = KIND_FETCH,
    kModify = KIND_MODIFY,
    kLar = KIND_LAR,
    kLoad = KIND_LOAD,
};

constexpr uint64_t kP = 1, kW = 2, kU = 4, kA = 0x20, kD = 0x40, kPs = 0x80, kG = 0x100;
constexpr uint64_t kNx = 1ull << 63;
constexpr uint32_t kErrorP = 1, kErrorW = 2, kErrorU = 4, kErrorReserved = 8, kErrorFetch = 16;
constexpr uint32_t kPageFault = 14, kGeneralProtection = 13;
constexpr uint64_t kCr4Smep = 1 << 20, kCr4Smap = 1 << 21, kCr4Pge = 1 << 7, kCr4Pcide = 1 << 17;
constexpr uint64_t kFlagsAc = 1 << 18;

// What the CPU can, as its CPUID says.
struct Features {
    unsigned physical_bits;
    bool nx, smep, smap, pages_1g, pse36, pcid, invpcid;
};

struct Controls {
    bool wp, smep, smap, nxe, pse;
};

struct Access {
    uint64_t address;
    Kind kind;
    bool user; // at CPL 3
    bool ac;   // RFLAGS.AC
};

struct Outcome {
    uint32_t vector; // C_NOTHING, or the exception
    uint32_t error;
    uint64_t cr2;
    uint32_t output; // what a read gave
    uint64_t physical;
};

// A write to what is no memory, which leaves for user space.
struct DeviceWrite {
    uint64_t address;
    uint32_t value;
    bool operator==(const DeviceWrite &) const = default;
};

class Model {
  public:
    std::vector<uint8_t> memory;
    std::vector<DeviceWrite> device_writes;

    Model(guest::Mode mode, const Features &features)
        : memory(A_SIZE), mode_(mode), features_(features)
    {}

    // MOV to CR3. False: #GP(0), and everything stays.
    bool load_root(uint64_t cr3);
    // New control registers. False: #GP(0), since the PDPTEs that come with some of them are bad.
    bool set_controls(const Controls &controls);
    // MOV to CR4 that changes PGE.
    bool toggle_pge() { return mode_ != guest::Mode::kPae || load_root(root_); }
    // One instruction's access; changes memory, the accessed and dirty flags among it.
    Outcome run(const Access &access, uint32_t input);

    // What the device that is everywhere beyond memory says there.
    static uint32_t device_read(uint64_t address)
    {
        return static_cast<uint32_t>(0xde000000 | (address >> 4 & 0xffffff));
    }
    bool is_memory(uint64_t at) const { return at < memory.size(); }

    uint32_t read32(uint64_t at) const { return static_cast<uint32_t>(load(at, 4)); }
    uint64_t load(uint64_t at, unsigned bytes) const
    {
        uint64_t value = 0;
        if (at + bytes <= memory.size())
            memcpy(&value, memory.data() + at, bytes);
        return value;
    }
    void store(uint64_t at, uint64_t value, unsigned bytes)
    {
        if (at + bytes <= memory.size())
            memcpy(memory.data() + at, &value, bytes);
    }

  private:
    struct Request {
        bool write, fetch;
        bool user;        // a user-mode access
        bool explicit_ac; // RFLAGS.AC counts
    };

    bool translate(uint64_t address, Request request, uint64_t &physical, Outcome &outcome);
    bool allowed(Request request, bool user_page, bool writable, bool no_execute) const;
    uint64_t reserved(unsigned level, uint64_t entry) const;
    bool is_page(unsigned level, uint64_t entry) const;
    unsigned levels() const
    {
        return mode_ == guest::Mode::kLong ? 4 : mode_ == guest::Mode::kPae ? 3 : 2;
    }
    unsigned entry_size() const { return mode_ == guest::Mode::kPaged ? 4 : 8; }
    unsigned shift(unsigned level) const
    {
        return 12 + (level - 1) * (mode_ == guest::Mode::kPaged ? 10 : 9);
    }

    guest::Mode mode_;
    Features features_;
    Controls controls_ = {};
    uint64_t root_ = 0;
    uint64_t pdptes_[4] = {};
};

} // namespace paging
