// SPDX-License-Identifier: GPL-2.0-only
#include "model.hpp"

namespace paging {

namespace {

// Bits high:low.
constexpr uint64_t bits(unsigned high, unsigned low)
{
    return high < low ? 0 : (~0ull >> (63 - high)) & (~0ull << low);
}

} // namespace

bool Model::load_root(uint64_t cr3)
{
    if (mode_ != guest::Mode::kPae) {
        root_ = cr3 & (mode_ == guest::Mode::kLong ? bits(51, 12) : bits(31, 12));
        return true;
    }
    // 4.4.1: the PDPTEs are loaded with CR3, and only then are they checked.
    uint64_t fresh[4];
    for (unsigned i = 0; i < 4; i++) {
        fresh[i] = load((cr3 & bits(31, 5)) + 8 * i, 8);
        const uint64_t must_be_zero = bits(2, 1) | bits(8, 5) | bits(63, features_.physical_bits);
        if ((fresh[i] & kP) && (fresh[i] & must_be_zero))
            return false;
    }
    memcpy(pdptes_, fresh, sizeof(pdptes_));
    root_ = cr3;
    return true;
}

bool Model::set_controls(const Controls &controls)
{
    // 4.4.1: these bits of CR4 bring the PDPTEs with them, too.
    const bool loads = controls.smep != controls_.smep || controls.pse != controls_.pse;
    controls_ = controls;
    return !loads || toggle_pge();
}

// Whether an entry that is present maps a page (4.3, 4.4.2, 4.5.4).
bool Model::is_page(unsigned level, uint64_t entry) const
{
    if (level == 1)
        return true;
    if (!(entry & kPs))
        return false;
    if (mode_ == guest::Mode::kPaged)
        return controls_.pse;
    return level == 2 || (level == 3 && mode_ == guest::Mode::kLong && features_.pages_1g);
}

// The bits of an entry that must be 0: table 4-4 to 4-6 (32-bit), 4-9 to 4-11 (PAE), 4-15 to 4-20.
uint64_t Model::reserved(unsigned level, uint64_t entry) const
{
    const bool page = is_page(level, entry);
    const unsigned m = features_.physical_bits;
    if (mode_ == guest::Mode::kPaged) {
        if (level != 2 || !page)
            return 0;
        // PSE-36: bits 20:13 are bits 39:32 of the address, as far as the CPU has them.
        return features_.pse36 ? bits(21, (m < 40 ? m : 40) - 19) : bits(21, 13);
    }
    uint64_t mask = bits(mode_ == guest::Mode::kPae ? 62 : 51, m);
    if (!controls_.nxe)
        mask |= kNx;
    if (level == 4 || (level == 3 && !features_.pages_1g))
        mask |= kPs;
    if (page && level > 1)
        mask |= bits(shift(level) - 1, 13);
    return mask;
}

// 4.6.1.
bool Model::allowed(Request request, bool user_page, bool writable, bool no_execute) const
{
    const bool may_execute = !(controls_.nxe && no_execute);
    if (request.user) {
        if (!user_page)
            return false;
        if (request.fetch)
            return may_execute;
        return !request.write || writable;
    }
    if (request.fetch)
        return may_execute && !(user_page && controls_.smep);
    if (user_page && controls_.smap && !request.explicit_ac)
        return false;
    return !request.write || writable || !controls_.wp;
}

bool Model::translate(uint64_t address, Request request, uint64_t &physical, Outcome &outcome)
{
    const bool pae_entries = mode_ != guest::Mode::kPaged;
    // 4.7.
    uint32_t error = (request.write ? kErrorW : 0) | (request.user ? kErrorU : 0);
    if (request.fetch && (controls_.smep || (pae_entries && controls_.nxe)))
        error |= kErrorFetch;
    auto fault = [&](uint32_t why) {
        outcome.vector = kPageFault;
        outcome.error = error | why;
        outcome.cr2 = address;
        return false;
    };

    uint64_t used[5] = {}, used_at[5] = {};
    bool user_page = true, writable = true, no_execute = false;
    uint64_t table = root_;
    unsigned level = levels();
    if (mode_ == guest::Mode::kPae) {
        const uint64_t pdpte = pdptes_[address >> 30 & 3];
        if (!(pdpte & kP))
            return fault(0);
        table = pdpte & bits(51, 12);
        level = 2;
    }
    for (;; level--) {
        const unsigned index_bits = pae_entries ? 9 : 10;
        const uint64_t index = address >> shift(level) & bits(index_bits - 1, 0);
        const uint64_t at = table + index * entry_size();
        const uint64_t entry = load(at, entry_size());
        if (!(entry & kP))
            return fault(0);
        if (entry & reserved(level, entry))
            return fault(kErrorP | kErrorReserved);
        used[level] = entry;
        used_at[level] = at;
        user_page = user_page && (entry & kU);
        writable = writable && (entry & kW);
        no_execute = no_execute || (pae_entries && (entry & kNx));
        table = entry & bits(pae_entries ? 51 : 31, 12);
        if (is_page(level, entry))
            break;
    }
    if (!allowed(request, user_page, writable, no_execute))
        return fault(kErrorP);

    // 4.8. The CPU may set the accessed flags of a walk that ends in a fault, too; the emulated one
    // does not, and neither do kvm_intel's shadow tables.
    for (unsigned l = level; l <= levels(); l++)
        if (used_at[l]) // one entry may serve several levels
            store(used_at[l],
                  load(used_at[l], entry_size()) | kA | (l == level && request.write ? kD : 0),
                  entry_size());
    const uint64_t offset = bits(shift(level) - 1, 0);
    physical = (table & ~offset) | (address & offset);
    if (!pae_entries && level == 2)
        physical = (used[2] & bits(31, 22)) | (used[2] & bits(20, 13)) << 19 | (address & offset);
    return true;
}

Outcome Model::run(const Access &access, uint32_t input)
{
    Outcome out = {C_NOTHING, 0, A_CR2_BEFORE, 0, 0};
    const Kind kind = access.kind;
    // Reading a descriptor is an implicit supervisor's access, and so is marking it accessed.
    const bool descriptor = kind == Kind::kLar || kind == Kind::kLoad;
    Request request = {};
    request.fetch = kind == Kind::kFetch;
    request.write = kind == Kind::kWrite || kind == Kind::kModify;
    request.user = access.user && !descriptor;
    request.explicit_ac = access.ac && !descriptor;

    const unsigned length = request.fetch ? 2 : descriptor ? 8 : 4;
    const uint64_t first = access.address;
    const uint64_t in_first = 4096 - (first & 4095);
    const unsigned here = in_first < length ? static_cast<unsigned>(in_first) : length;
    uint64_t second_physical = 0;
    if (!translate(first, request, out.physical, out))
        return out;
    if (here < length && !translate(first + here, request, second_physical, out))
        return out;

    if (!is_memory(out.physical)) {
        const uint32_t value = device_read(out.physical);
        if (kind == Kind::kRead)
            out.output = value;
        else
            device_writes.push_back({out.physical, kind == Kind::kModify ? value + input : input});
        return out;
    }
    auto address_of = [&](unsigned i) {
        return i < here ? out.physical + i : second_physical + i - here;
    };
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++)
        value |= static_cast<uint32_t>(load(address_of(i), 1)) << 8 * i;
    if (request.write) {
        const uint32_t result = kind == Kind::kModify ? value + input : input;
        for (unsigned i = 0; i < 4; i++)
            store(address_of(i), result >> 8 * i & 0xff, 1);
    } else if (kind == Kind::kRead)
        out.output = value;
    else if (kind == Kind::kLoad && !(load(out.physical + 5, 1) & 1)) {
        request.write = true;
        uint64_t same = 0;
        if (!translate(first, request, same, out))
            return out;
        store(out.physical + 5, load(out.physical + 5, 1) | 1, 1);
    }
    return out;
}

} // namespace paging
