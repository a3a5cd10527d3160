// SPDX-License-Identifier: GPL-2.0-only
//
// A second walker of the guest's paging structures, written differently (recursive, on a copy of
// memory), that the tests compare the core's with.
#pragma once

#include <minivmx/types.hpp>

#include <algorithm>
#include <cstring>
#include <ostream>
#include <vector>

namespace minivmx::test {

struct Request {
    u64 linear;
    bool write, fetch, user, implicit;
};

struct Result {
    bool ok;
    u64 gpa;   // ok
    u32 error; // else: the error code of the page fault
    bool operator==(const Result &) const = default;
};

inline std::ostream &operator<<(std::ostream &out, const Result &r)
{
    return out << (r.ok ? "gpa " : "error ") << std::hex << (r.ok ? r.gpa : r.error) << std::dec;
}

enum class Mode { kOff, k32, kPae, k64 };

struct Machinery {
    Mode mode;
    u64 cr3;
    u64 pdpte[4];
    unsigned maxphyaddr;
    bool pse, g1, wp, smep, smap, nxe, ac;
};

/// SDM Vol. 3A, chapter 4, once more: one table after the other, by recursion.
class Reference {
  public:
    Reference(std::vector<u8> &memory, const Machinery &m, const Request &r)
        : memory_{memory}, m_{m}, r_{r}
    {}

    Result run()
    {
        switch (m_.mode) {
        case Mode::kOff:
            return {true, r_.linear & 0xffffffff, 0};
        case Mode::k32:
            return table(2, m_.cr3 & 0xfffff000, Rights{});
        case Mode::kPae: {
            const u64 pdpte = m_.pdpte[(r_.linear >> 30) & 3];
            if (!(pdpte & 1))
                return fault(false, false);
            return table(2, pdpte & address_bits(), Rights{});
        }
        case Mode::k64:
            return table(4, m_.cr3 & address_bits(), Rights{});
        }
        return {};
    }

  private:
    struct Rights {
        bool rw = true, us = true, xd = false;
    };

    bool narrow() const { return m_.mode == Mode::k32; }
    u64 address_bits() const { return ((u64{1} << m_.maxphyaddr) - 1) & ~u64{0xfff}; }

    Result fault(bool present, bool reserved) const
    {
        u32 e = present ? 1 : 0;
        e |= r_.write ? 2 : 0;
        e |= r_.user && !r_.implicit ? 4 : 0;
        e |= reserved ? 8 : 0;
        const bool id = m_.smep || (m_.mode != Mode::k32 && m_.nxe);
        e |= r_.fetch && id ? 16 : 0;
        return {false, 0, e};
    }

    Result table(unsigned level, u64 base, Rights rights)
    {
        const unsigned width = narrow() ? 10 : 9;
        const unsigned low = 12 + (level - 1) * width;
        const u64 entry_size = narrow() ? 4 : 8;
        const u64 at = base + ((r_.linear >> low) % (u64{1} << width)) * entry_size;
        if (at + entry_size > memory_.size())
            return fault(false, false);
        u64 entry = 0;
        std::memcpy(&entry, &memory_[at], entry_size);
        if (!(entry & 1))
            return fault(false, false);

        const bool ps = entry & 0x80;
        bool page = level == 1;
        if (ps && level == 2)
            page |= !narrow() || m_.pse;
        if (ps && level == 3)
            page |= m_.g1;
        if (reserved(entry, level, page))
            return fault(true, true);

        rights.rw = rights.rw && (entry & 2);
        rights.us = rights.us && (entry & 4);
        rights.xd = rights.xd || (!narrow() && m_.nxe && entry >> 63);
        Result result;
        u64 flags = 0x20;
        if (!page) {
            result =
                table(level - 1, narrow() ? entry & 0xfffff000 : entry & address_bits(), rights);
        } else if (!permitted(rights)) {
            result = fault(true, false);
        } else {
            const u64 inside = (u64{1} << low) - 1;
            u64 frame = narrow() ? entry & 0xffffffff : entry & address_bits();
            if (narrow() && level == 2)
                frame |= ((entry >> 13) & 0xff) << 32;
            result = {true, (frame & ~inside) | (r_.linear & inside), 0};
            flags |= r_.write ? 0x40 : 0;
        }
        if (result.ok) // the entry may have been used on a lower level, too
            memory_[at] |= static_cast<u8>(flags);
        return result;
    }

    bool reserved(u64 entry, unsigned level, bool page) const
    {
        if (narrow()) {
            // Table 4-4: bits 21:(M-19), M being the smaller of MAXPHYADDR and 40.
            if (level != 2 || !page)
                return false;
            for (unsigned bit = std::min(m_.maxphyaddr, 40u) - 19; bit <= 21; bit++) {
                if (entry >> bit & 1)
                    return true;
            }
            return false;
        }
        const unsigned top = m_.mode == Mode::kPae ? 62 : 51;
        for (unsigned bit = m_.maxphyaddr; bit <= top; bit++) {
            if (entry >> bit & 1)
                return true;
        }
        if (entry >> 63 && !m_.nxe)
            return true;
        if (level == 4 && (entry & 0x80))
            return true;
        if (level == 3 && (entry & 0x80) && !m_.g1)
            return true;
        if (page && level > 1) {
            for (unsigned bit = 13; bit < 12 + 9 * (level - 1); bit++) {
                if (entry >> bit & 1)
                    return true;
            }
        }
        return false;
    }

    bool permitted(const Rights &rights) const
    {
        if (r_.user && !r_.implicit)
            return rights.us && (!r_.write || rights.rw) && (!r_.fetch || !rights.xd);
        if (r_.fetch)
            return !rights.xd && !(rights.us && m_.smep);
        if (rights.us && m_.smap && (r_.implicit || !m_.ac))
            return false;
        return !r_.write || rights.rw || !m_.wp;
    }

    std::vector<u8> &memory_;
    const Machinery &m_;
    const Request &r_;
};

} // namespace minivmx::test
