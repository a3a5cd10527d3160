// SPDX-License-Identifier: GPL-2.0-only
//
// The walk of the guest's paging structures: fixed cases from the SDM, and random tables in every
// mode against the reference.
#include "guest.hpp"
#include "reference_walk.hpp"

#include <cerrno>
#include <optional>
#include <random>

namespace minivmx::test {
namespace {

// ---- The walker under test --------------------------------------------------

AddressState address_state_of(const Machinery &m, const Request &r)
{
    AddressState s{};
    s.cr3 = m.cr3;
    std::memcpy(s.pdptes, m.pdpte, sizeof(s.pdptes));
    s.physical_bits = m.maxphyaddr;
    s.paging = m.mode != Mode::kOff;
    s.pae = m.mode == Mode::kPae || m.mode == Mode::k64;
    s.long_mode = s.code_64 = m.mode == Mode::k64;
    s.pse = m.pse;
    s.pages_1g = m.g1;
    s.write_protect = m.wp;
    s.smep = m.smep;
    s.smap = m.smap;
    s.nxe = m.nxe;
    s.user = r.user;
    s.ac = m.ac;
    s.protected_mode = true;
    return s;
}

class Walk : public testing::Test {
  protected:
    static constexpr u64 kSize = 20 * kPageSize;
    Guest guest;
    u64 hva = guest.add_ram(0, 0, kSize);

    std::vector<u8> memory()
    {
        const u8 *const start = reinterpret_cast<const u8 *>(hva);
        return {start, start + kSize};
    }
    Result walk(const Machinery &m, const Request &r)
    {
        GuestFault fault{};
        Result result{};
        const Access access{r.write, r.fetch, r.implicit};
        const AddressState state = address_state_of(m, r);
        const MemoryResult outcome =
            translate(guest.vmx(), state, r.linear, access, result.gpa, fault);
        result.ok = outcome == MemoryResult::kOk;
        if (!result.ok) {
            EXPECT_EQ(outcome, MemoryResult::kFault);
            EXPECT_EQ(fault.vector, PF_VECTOR);
            EXPECT_TRUE(fault.has_error_code);
            EXPECT_EQ(fault.address, r.linear);
            result = {false, 0, fault.error_code};
        }
        return result;
    }
};

struct Coverage {
    unsigned ok = 0, not_present = 0, protection = 0, reserved = 0;
};

class RandomWalk : public Walk, public testing::WithParamInterface<Mode> {
  protected:
    std::mt19937_64 random{static_cast<u64>(GetParam()) + 1};
    u64 below(u64 n) { return random() % n; }
    bool likely() { return below(16) != 0; }

    Machinery machinery()
    {
        constexpr unsigned widths[] = {32, 36, 39, 40, 46, 52};
        Machinery m{};
        m.mode = GetParam();
        m.maxphyaddr = widths[below(6)];
        m.cr3 = below(8) * kPageSize | (below(2) ? below(4096) : 0);
        for (u64 &pdpte : m.pdpte)
            pdpte = below(8) * kPageSize | (likely() ? 1 : 0);
        m.pse = below(2);
        m.g1 = below(2);
        m.wp = below(2);
        m.smep = below(2);
        m.smap = below(2);
        m.nxe = below(2);
        m.ac = below(2);
        return m;
    }
    /// A linear address that has few distinct indices, so that entries are met again.
    u64 linear()
    {
        u64 address = below(kPageSize);
        if (GetParam() == Mode::k32)
            return address | below(3) << 12 | below(3) << 22 | below(2) << 31;
        address |= below(3) << 12 | below(3) << 21 | below(4) << 30;
        if (GetParam() == Mode::k64) {
            address |= below(2) << 39;
            if (below(4) == 0)
                address |= 0xffff800000000000;
        }
        return address;
    }
    u64 entry(const Machinery &m)
    {
        const bool narrow = m.mode == Mode::k32;
        u64 e = below(kSize / kPageSize) * kPageSize; // tables and data share the memory
        e |= likely() ? 1 : 0;                        // present
        e |= likely() ? 2 : 0;                        // writable
        e |= likely() ? 4 : 0;                        // user
        e |= below(4) << 3 | below(4) << 5;
        if (below(6) == 0) {
            e |= 0x80; // a large page, mostly of a sound address
            if (likely())
                e &= narrow ? ~u64{0x3ff000} : below(2) ? ~u64{0x1ff000} : ~u64{0x3ffff000};
            if (narrow && below(3) == 0)
                e |= below(256) << 13;
        }
        if (below(24) == 0)
            e |= below(2) << (narrow ? 12 + below(10) : m.maxphyaddr + below(64 - m.maxphyaddr));
        if (!narrow && below(10) == 0)
            e |= u64{1} << 63;
        return narrow ? e & 0xffffffff : e;
    }
    void fill(const Machinery &m)
    {
        const usize size = m.mode == Mode::k32 ? 4 : 8;
        // Entries that linear() can reach, in each page.
        for (u64 page = 0; page < kSize; page += kPageSize) {
            for (u64 index : {0, 1, 2, 3, 256, 257, 510, 511, 512, 513, 514}) {
                const u64 e = entry(m);
                if ((index + 1) * size <= kPageSize)
                    std::memcpy(guest.at(page + index * size), &e, size);
            }
        }
    }
};

TEST_P(RandomWalk, AgreesWithTheReference)
{
    Coverage seen;
    for (unsigned round = 0; round < 2000; round++) {
        const Machinery m = machinery();
        fill(m);
        for (unsigned i = 0; i < 12; i++) {
            Request r{linear(), below(2) == 1, false, below(2) == 1, below(8) == 0};
            r.fetch = !r.write && below(2) == 1;
            if (r.fetch)
                r.implicit = false;
            std::vector<u8> copy = memory();
            const Result expected = Reference{copy, m, r}.run();
            const Result got = walk(m, r);
            ASSERT_EQ(got, expected) << "round " << round << " linear 0x" << std::hex << r.linear;
            ASSERT_EQ(memory(), copy) << "accessed and dirty flags, round " << round;
            seen.ok += got.ok;
            seen.not_present += !got.ok && !(got.error & 1);
            seen.reserved += !got.ok && (got.error & 8);
            seen.protection += !got.ok && (got.error & 9) == 1;
        }
    }
    // The tables were neither all good nor all bad.
    EXPECT_GT(seen.ok, 1000u);
    if (GetParam() != Mode::kOff) {
        EXPECT_GT(seen.not_present, 1000u);
        EXPECT_GT(seen.protection, 1000u);
        EXPECT_GT(seen.reserved, 200u);
    }
}

std::string mode_name(const testing::TestParamInfo<Mode> &info)
{
    constexpr const char *kNames[] = {"off", "legacy32", "pae", "long64"};
    return kNames[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Modes, RandomWalk,
                         testing::Values(Mode::kOff, Mode::k32, Mode::kPae, Mode::k64), mode_name);

// ---- What the state is made of ----------------------------------------------

TEST_F(Walk, StateOfTheVcpu)
{
    guest.long_mode(0x1000, 0x5000);
    AddressState s = address_state(guest.vmx());
    EXPECT_TRUE(s.paging && s.pae && s.long_mode && s.code_64 && s.protected_mode && s.nxe);
    EXPECT_TRUE(s.write_protect);
    EXPECT_FALSE(s.user || s.smep || s.smap || s.ac || s.pse);
    EXPECT_EQ(s.cr3, 0x5000u);

    guest.set_cpl(3);
    guest.set_segment(kCs, 0, 0xffffffff, 0xc0fb); // 32-bit code in long mode
    guest.set(GUEST_CR4, X86_CR4_PAE | X86_CR4_SMEP | X86_CR4_SMAP);
    guest.vmx().cr4 = X86_CR4_PAE | X86_CR4_SMEP | X86_CR4_SMAP;
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_AC);
    s = address_state(guest.vmx());
    EXPECT_TRUE(s.user && s.smep && s.smap && s.ac);
    EXPECT_FALSE(s.code_64);

    guest.protected_mode(0x1000, 0x6000, X86_CR4_PAE);
    for (u32 i = 0; i < 4; i++)
        guest.set(GUEST_PDPTR0 + i, 0x1001 * (i + 1));
    s = address_state(guest.vmx());
    EXPECT_FALSE(s.long_mode);
    EXPECT_EQ(s.pdptes[3], 0x4004u);

    guest.real_mode(0x1000);
    s = address_state(guest.vmx());
    EXPECT_FALSE(s.paging || s.protected_mode);
}

// ---- Tables that can't be written, or change --------------------------------

TEST_F(Walk, TablesInAReadOnlySlotKeepTheirFlags)
{
    Machinery m{};
    m.mode = Mode::k32;
    m.maxphyaddr = 36;
    m.cr3 = 0x1000;
    guest.poke<u32>(0x1000, 0x2000 | 7);
    guest.poke<u32>(0x2000, 0x3000 | 7);
    ASSERT_EQ(guest.set_region(0, 0, 0, 0), 0);
    ASSERT_EQ(guest.set_region(0, 0, kSize, hva, KVM_MEM_READONLY), 0);
    EXPECT_EQ(walk(m, {0x123, true, false, false, false}), (Result{true, 0x3123, 0}));
    EXPECT_EQ(guest.peek<u32>(0x1000), 0x2007u);
    EXPECT_EQ(guest.peek<u32>(0x2000), 0x3007u);
}

TEST_F(Walk, TablesOutsideOfMemoryAreNotPresent)
{
    Machinery m{};
    m.mode = Mode::k64;
    m.maxphyaddr = 40;
    m.cr3 = kSize;
    EXPECT_EQ(walk(m, {0, false, false, false, false}), (Result{false, 0, 0}));
    m.cr3 = 0;
    guest.poke<u64>(0, 0xfee00000 | 7);
    EXPECT_EQ(walk(m, {0, true, false, true, false}), (Result{false, 0, 6}));
}

TEST_F(Walk, ATableThatMapsItself)
{
    Machinery m{};
    m.mode = Mode::k64;
    m.maxphyaddr = 40;
    m.cr3 = 0x1000;
    guest.poke<u64>(0x1000 + 8 * 511, 0x1000 | 3);
    // All four levels use the one entry, which is also in the page.
    const u64 linear = ~u64{0} << 12;
    EXPECT_EQ(walk(m, {linear + 0xff8, true, false, false, false}), (Result{true, 0x1ff8, 0}));
    EXPECT_EQ(guest.peek<u64>(0x1ff8), 0x1063u);
}

// ---- Virtual memory ---------------------------------------------------------

class VirtualMemory : public Walk {
  protected:
    /// Identity mapping of the first 16 pages by 4 KiB entries, through tables at 0x10000.
    void map()
    {
        guest.poke<u64>(0x10000, 0x11000 | 7);
        guest.poke<u64>(0x11000, 0x12000 | 7);
        guest.poke<u64>(0x12000, 0x13000 | 7);
        for (u64 page = 0; page < 16; page++)
            guest.poke<u64>(0x13000 + 8 * page, page << 12 | 7);
        guest.long_mode(0x1000, 0x10000);
    }
    GuestFault fault{};
    MemoryResult read(u64 linear, void *to, u32 size)
    {
        return read_guest_virt(guest.vmx(), address_state(guest.vmx()), linear, to, size, Access{},
                               fault);
    }
    MemoryResult write(u64 linear, const void *from, u32 size)
    {
        return write_guest_virt(guest.vmx(), address_state(guest.vmx()), linear, from, size, fault);
    }
};

TEST_F(VirtualMemory, AcrossPages)
{
    map();
    guest.poke<u64>(0x13000 + 8 * 3, 0x7000 | 7); // page 3 lies elsewhere
    const u64 value = 0x1122334455667788;
    ASSERT_EQ(write(0x2ffd, &value, 8), MemoryResult::kOk);
    EXPECT_EQ(guest.peek<u16>(0x2ffe), 0x6677);
    EXPECT_EQ(guest.peek<u32>(0x7000), 0x22334455u);
    u64 back = 0;
    ASSERT_EQ(read(0x2ffd, &back, 8), MemoryResult::kOk);
    EXPECT_EQ(back, value);
}

TEST_F(VirtualMemory, AFaultInTheSecondPageWritesNothing)
{
    map();
    guest.poke<u64>(0x13000 + 8 * 3, 0x3000 | 5); // read-only
    const u64 value = ~u64{0};
    ASSERT_EQ(write(0x2ffd, &value, 8), MemoryResult::kFault);
    EXPECT_EQ(fault.address, 0x3000u);
    EXPECT_EQ(fault.error_code, 3u);
    EXPECT_EQ(guest.peek<u16>(0x2ffe), 0);
}

TEST_F(VirtualMemory, Holes)
{
    map();
    guest.poke<u64>(0x13000 + 8 * 3, 0xfee00000 | 7);
    u64 value;
    EXPECT_EQ(read(0x3000, &value, 8), MemoryResult::kMmio);
    EXPECT_EQ(read(0x2ffc, &value, 8), MemoryResult::kMmio);
    EXPECT_EQ(read_guest_phys(guest.vmx(), kSize - 4, &value, 8), MemoryResult::kMmio);
    EXPECT_EQ(read_guest_phys(guest.vmx(), kSize - 8, &value, 8), MemoryResult::kOk);
}

TEST_F(VirtualMemory, PhysicalAcrossSlots)
{
    const u64 second = guest.add_ram(1, kSize, kPageSize);
    const u32 value = 0xaabbccdd;
    ASSERT_EQ(write_guest_phys(guest.vmx(), kSize - 1, &value, 4), MemoryResult::kOk);
    EXPECT_EQ(*guest.at(kSize - 1), 0xdd);
    EXPECT_EQ(*reinterpret_cast<u8 *>(second), 0xcc);
    u32 back;
    ASSERT_EQ(read_guest_phys(guest.vmx(), kSize - 1, &back, 4), MemoryResult::kOk);
    EXPECT_EQ(back, value);
}

// ---- Segments ---------------------------------------------------------------

class Segments : public Walk {
  protected:
    /// The linear address, or minus the vector of the fault.
    s64 linear(Segment segment, u64 offset, u32 size, Access access = {})
    {
        u64 result = 0;
        GuestFault fault{};
        const AddressState state = address_state(guest.vmx());
        if (segment_to_linear(guest.vmx(), state, segment, offset, size, access, result, fault) ==
            MemoryResult::kOk)
            return static_cast<s64>(result);
        EXPECT_TRUE(fault.has_error_code);
        EXPECT_EQ(fault.error_code, 0u);
        return -s64{fault.vector};
    }
    static constexpr Access kWrite{.write = true};
    static constexpr s64 kGp = -13, kStack = -12;
};

TEST_F(Segments, RealMode)
{
    guest.real_mode(0);
    guest.set_segment(kDs, 0xffff0, 0xffff, 0x93);
    EXPECT_EQ(linear(kDs, 0xffff, 1), 0x10ffef);
    EXPECT_EQ(linear(kDs, 0xfffe, 2), 0x10ffee);
    EXPECT_EQ(linear(kDs, 0xffff, 2), kGp);
    EXPECT_EQ(linear(kSs, 0xffff, 2), kStack);
    EXPECT_EQ(linear(kCs, 0, 4, kWrite), 0); // a code segment, but real mode does not care
    guest.set_segment(kDs, 0, 0xffffffff, 0x93);
    EXPECT_EQ(linear(kDs, 0x12345678, 4), 0x12345678); // big real mode
}

TEST_F(Segments, ProtectedMode)
{
    guest.protected_mode(0);
    EXPECT_EQ(linear(kDs, 0xfffffffc, 4), 0xfffffffc);
    EXPECT_EQ(linear(kDs, 0xfffffffd, 4), kGp);
    EXPECT_EQ(linear(kCs, 0, 4), 0);
    EXPECT_EQ(linear(kCs, 0, 4, kWrite), kGp);
    guest.set_segment(kDs, 0x1000, 0xfff, 0x4091); // read-only, 4 KiB
    EXPECT_EQ(linear(kDs, 0xffc, 4), 0x1ffc);
    EXPECT_EQ(linear(kDs, 0xffd, 4), kGp);
    EXPECT_EQ(linear(kDs, 0, 4, kWrite), kGp);
    guest.set_segment(kDs, 0, 0, 0x10000); // unusable
    EXPECT_EQ(linear(kDs, 0, 1), kGp);
    guest.set_segment(kSs, 0, 0, 0x10000);
    EXPECT_EQ(linear(kSs, 0, 1), kStack);
    guest.set_segment(kCs, 0, 0xffffffff, 0xc099); // execute-only
    EXPECT_EQ(linear(kCs, 0, 1), kGp);
    EXPECT_EQ(linear(kCs, 0, 1, Access{.fetch = true}), 0);
    guest.set_segment(kDs, 0xfffff000, 0xffffffff, 0xc093);
    EXPECT_EQ(linear(kDs, 0x2000, 4), 0x1000); // wraps at 4 GiB
}

TEST_F(Segments, ExpandDown)
{
    guest.protected_mode(0);
    guest.set_segment(kDs, 0, 0xfff, 0x4097); // D/B set: up to 4 GiB
    EXPECT_EQ(linear(kDs, 0xfff, 1), kGp);
    EXPECT_EQ(linear(kDs, 0x1000, 4), 0x1000);
    EXPECT_EQ(linear(kDs, 0xfffffffc, 4), 0xfffffffc);
    EXPECT_EQ(linear(kDs, 0xfffffffe, 4), kGp);
    guest.set_segment(kDs, 0, 0xfff, 0x97); // up to 64 KiB
    EXPECT_EQ(linear(kDs, 0xfffc, 4), 0xfffc);
    EXPECT_EQ(linear(kDs, 0xfffd, 4), kGp);
}

TEST_F(Segments, LongMode)
{
    guest.long_mode(0, 0x1000);
    guest.set_segment(kDs, 0x5000, 0, 0x10000); // neither base, limit nor type count
    guest.set_segment(kFs, 0x5000, 0, 0x10000);
    guest.set_segment(kGs, 0xffff888000000000, 0, 0x10000);
    EXPECT_EQ(linear(kDs, 0x1234, 8, kWrite), 0x1234);
    EXPECT_EQ(linear(kCs, 0x1234, 8, kWrite), 0x1234);
    EXPECT_EQ(linear(kFs, 0x1234, 8), 0x6234);
    EXPECT_EQ(linear(kGs, 8, 8), static_cast<s64>(0xffff888000000008));
    EXPECT_EQ(linear(kDs, 0x7fffffffffff, 1), 0x7fffffffffff);
    EXPECT_EQ(linear(kDs, 0x7fffffffffff, 2), kGp);
    EXPECT_EQ(linear(kDs, 0x800000000000, 1), kGp);
    EXPECT_EQ(linear(kSs, 0x800000000000, 1), kStack);
    EXPECT_EQ(linear(kDs, 0xffff7fffffffffff, 1), kGp);
    EXPECT_EQ(linear(kDs, 0xffff800000000000, 1), static_cast<s64>(0xffff800000000000));
    EXPECT_EQ(linear(kDs, ~u64{0}, 2), -1); // wraps to 0
}

} // namespace
} // namespace minivmx::test
