// SPDX-License-Identifier: GPL-2.0-only
//
// Shadow paging from the guest's side: accesses go through a CPU of the test's own, which walks the
// core's tables as SDM Vol. 3A, chapter 4 has it, caches what it finds, and faults into the core.
// What comes of them must be what the reference walker says of the guest's tables.
#include "guest.hpp"
#include "reference_walk.hpp"

#include <minivmx/control_shadow.hpp>
#include <minivmx/shadow.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/state.hpp>

#include <map>
#include <optional>
#include <random>

namespace minivmx::test {
namespace {

/// The CPU that runs the guest: its paging is always on, with CR0.WP and EFER.NXE, and only the
/// tables are the core's.
class Cpu {
  public:
    Cpu(Guest &guest, Machinery &mode) : guest_{guest}, mode_{mode} {}

    struct Translation {
        u64 frame;
        bool rw, us, xd;
    };

    void flush() { tlb_.clear(); }
    void flush(u64 linear) { tlb_.erase(linear >> 12); }
    usize cached() const { return tlb_.size(); }

    /// The host's frame, or the error code of a page fault.
    std::optional<u64> access(const Request &r, u32 &error)
    {
        const auto cached = tlb_.find(r.linear >> 12);
        if (cached != tlb_.end() && permitted(cached->second, r))
            return cached->second.frame;
        flush(r.linear); // a fault forgets: SDM Vol. 3A, 4.10.4.1
        Translation t{0, true, true, false};
        error = (r.write ? 2u : 0) | (r.user && !r.implicit ? 4u : 0) | (r.fetch ? 16u : 0);
        if (!walk(r, t))
            return {};
        error |= 1;
        if (!permitted(t, r))
            return {};
        tlb_[r.linear >> 12] = t;
        return t.frame;
    }

  private:
    bool permitted(const Translation &t, const Request &r) const
    {
        if (r.user && !r.implicit)
            return t.us && (!r.write || t.rw) && (!r.fetch || !t.xd);
        if (r.fetch)
            return !t.xd && !(t.us && mode_.smep);
        if (t.us && mode_.smap && (r.implicit || !mode_.ac))
            return false;
        return !r.write || t.rw;
    }
    bool walk(const Request &r, Translation &t)
    {
        const u64 cr3 = guest_.get(GUEST_CR3);
        const bool wide = mode_.mode == Mode::k64;
        u64 table = cr3;
        if (!wide) {
            EXPECT_LT(cr3, u64{1} << 32);
            table = load(cr3 + (r.linear >> 30 & 3) * 8);
            EXPECT_EQ(table & 0xfff0'0000'0000'01e6, 0u);
            if (!(table & 1))
                return false;
        }
        for (unsigned level = wide ? 4 : 2;; level--) {
            const unsigned low = 12 + 9 * (level - 1);
            const u64 at = (table & 0x000ffffffffff000) + (r.linear >> low & 511) * 8;
            const u64 entry = load(at);
            if (!(entry & 1))
                return false;
            const bool page = level == 1 || (entry & 0x80);
            EXPECT_FALSE(level == 4 && page);
            EXPECT_FALSE(level == 2 && page && (entry & 0x1fe000));
            EXPECT_EQ(entry & 0x000f'0000'0000'0000, 0u) << "reserved bits";
            t.rw &= (entry & 2) != 0;
            t.us &= (entry & 4) != 0;
            t.xd |= (entry >> 63) != 0;
            table = entry;
            if (page) {
                const u64 inside = (u64{1} << low) - 1;
                t.frame = ((entry & 0x000ffffffffff000 & ~inside) | (r.linear & inside)) >> 12;
                return true;
            }
        }
    }
    u64 load(u64 phys) const
    {
        void *page = host_phys_page(phys);
        EXPECT_NE(page, nullptr) << "CR3 or an entry leads to 0x" << std::hex << phys;
        if (!page)
            return 0;
        return *reinterpret_cast<u64 *>(static_cast<u8 *>(page) + (phys & 0xfff));
    }

    Guest &guest_;
    Machinery &mode_;
    std::map<u64, Translation> tlb_;
};

/// What became of an access.
struct Outcome2 {
    enum Kind { kDone, kFault, kEmulated, kStuck } kind;
    u64 frame;
    u32 error;
};

class Shadow : public testing::Test {
  protected:
    static constexpr u64 kSize = 20 * kPageSize;

    explicit Shadow(bool vpid = true)
        : guest{"corei7_skylake_x", [=](sim::Machine &, Parameters &p) {
                    p.ept = false;
                    p.vpid = vpid;
                }}
    {}

    Guest guest;
    Machinery m{};
    Cpu cpu{guest, m};
    u64 hva = guest.add_ram(0, 0, kSize);
    u64 invalidations = 0;

    std::vector<u8> memory() const
    {
        const u8 *const start = reinterpret_cast<const u8 *>(hva);
        return {start, start + kSize};
    }

    /// The guest gets this mode by the registers themselves; it flushes.
    void set_mode()
    {
        const bool wide = m.mode == Mode::k64, pae = wide || m.mode == Mode::kPae;
        u64 cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | (m.wp ? X86_CR0_WP : 0);
        cr0 |= m.mode == Mode::kOff ? 0 : X86_CR0_PG;
        const u64 cr4 = (pae ? X86_CR4_PAE : 0) | (m.pse ? X86_CR4_PSE : 0) |
                        (m.smep ? X86_CR4_SMEP : 0) | (m.smap ? X86_CR4_SMAP : 0);
        const u64 efer = (m.nxe ? EFER_NX : 0) | (wide ? EFER_LME | EFER_LMA : 0);
        guest.set_segments(0, 0xffffffff, wide ? 0xa09b : 0xc09b, 0xc093);
        write_efer(guest.vmx(), efer);
        write_paging_state(guest.vmx(), {cr0, m.cr3, cr4, efer});
        for (u32 i = 0; i < 4; i++)
            write_pdptr(guest.vmx(), i, m.pdpte[i]);
        guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | (m.ac ? X86_EFLAGS_AC : 0));
    }

    /// What KVM_RUN does before it enters. False: it would not enter now.
    bool prepare()
    {
        if (guest.area().requests & VCPU_REQUEST_TLB_FLUSH)
            mark_stale(guest.vmx(), StaleTranslations::kAll);
        guest.area().requests = 0;
        minivmx::Outcome outcome = minivmx::Outcome::resume();
        if (!prepare_shadow_root(guest.vmx(), outcome)) {
            EXPECT_TRUE(outcome.resumes());
            return false;
        }
        if (guest.area().requests != 0)
            return false;
        if (guest.vmx().vpid == 0 || guest.vmx().stale_translations != StaleTranslations::kNone)
            cpu.flush();
        if (guest.vmx().stale_translations != StaleTranslations::kNone)
            flush_guest_tlb(guest.vmx());
        notice_invvpid();
        return true;
    }
    void notice_invvpid()
    {
        if (guest.machine.invvpids != invalidations)
            cpu.flush();
        invalidations = guest.machine.invvpids;
    }

    Outcome2 access(const Request &r)
    {
        guest.set_cpl(r.user ? 3 : 0);
        for (unsigned attempt = 0; attempt < 40; attempt++) {
            if (!prepare())
                continue;
            u32 error = 0;
            if (const auto frame = cpu.access(r, error))
                return {Outcome2::kDone, *frame, 0};
            guest.vmx().idt_vectoring_info = 0;
            guest.vmx().exit_reason = EXIT_REASON_EXCEPTION_NMI;
            const minivmx::Outcome outcome = handle_shadow_fault(guest.vmx(), r.linear, error);
            if (!outcome.resumes())
                return {Outcome2::kEmulated, 0, 0};
            const ExceptionQueue exception = guest.take_exception();
            if (!exception.pending)
                continue;
            if (exception.vector != PF_VECTOR || guest.area().cr2 != r.linear)
                return {Outcome2::kEmulated, 0, 0}; // a device's: the instruction can't be fetched
            EXPECT_TRUE(exception.has_error_code);
            return {Outcome2::kFault, 0, exception.error_code};
        }
        return {Outcome2::kStuck, 0, 0};
    }
    u64 frame_of(u64 gpa) { return guest.machine.pfn_of(hva + (gpa & ~u64{0xfff})); }

    /// The access, compared with the reference. Returns whether it was carried out by the CPU.
    bool check(const Request &r)
    {
        std::vector<u8> copy = memory();
        const Result expected = Reference{copy, m, r}.run();
        if (expected.ok && expected.gpa >= kSize)
            return false; // a device's
        // A write that only the supervisor may do, and only for CR0.WP being 0, is emulated where
        // SMAP is on: there is no instruction here.
        if (r.write && !m.wp && m.smap && !(r.user && !r.implicit))
            return false;
        const Outcome2 got = access(r);
        EXPECT_EQ(got.kind, expected.ok ? Outcome2::kDone : Outcome2::kFault)
            << "expected " << expected << ", got error " << got.error;
        if (expected.ok && got.kind == Outcome2::kDone) {
            EXPECT_EQ(got.frame, frame_of(expected.gpa));
        } else if (!expected.ok && got.kind == Outcome2::kFault) {
            EXPECT_EQ(got.error, expected.error);
        }
        EXPECT_EQ(memory(), copy) << "accessed and dirty flags";
        return got.kind == Outcome2::kDone;
    }
};

// ---- One after the other ------------------------------------------------------------------------

TEST_F(Shadow, WithoutPagingAddressesAreTheirOwn)
{
    m.mode = Mode::kOff;
    m.maxphyaddr = 36;
    set_mode();
    EXPECT_TRUE(check({0x3123, true, false, false, false}));
    EXPECT_TRUE(check({0x3123, false, true, true, false}));
    EXPECT_TRUE(check({0x4123, false, false, true, false}));
}

TEST_F(Shadow, TheFourLevels)
{
    m.mode = Mode::k64;
    m.maxphyaddr = 36;
    m.wp = m.nxe = true;
    m.cr3 = 0x1000;
    guest.poke<u64>(0x1000, 0x2007);
    guest.poke<u64>(0x2000, 0x3007);
    guest.poke<u64>(0x3000, 0x4007);
    guest.poke<u64>(0x4000 + 5 * 8, 0x6007);
    set_mode();
    EXPECT_TRUE(check({0x5123, false, false, true, false}));
    EXPECT_TRUE(check({0x5123, true, false, true, false}));
    EXPECT_FALSE(check({0x6000, true, false, true, false}));
    // The tables themselves, mapped and written.
    guest.poke<u64>(0x4000 + 6 * 8, 0x4007);
    set_mode();
    EXPECT_TRUE(check({0x6000, false, false, true, false}));
    EXPECT_TRUE(check({0x6000, true, false, true, false}));
    guest.poke<u64>(0x4000 + 5 * 8, 0x7007);
    invalidate_guest_address(guest.vmx(), 0x5000);
    notice_invvpid();
    EXPECT_TRUE(check({0x5123, true, false, true, false}));
    guest.poke<u64>(0x4000 + 5 * 8, 0x8007);
    EXPECT_TRUE(set_cr3(guest.vmx(), m.cr3));
    EXPECT_TRUE(check({0x5123, true, false, true, false}));
}

// What the CPU does by itself (reads a descriptor, say) below CPL 3 has the error code of a read of
// the program's. EFLAGS.AC lets that pass, and not this: the guest gets a page fault, not the same
// exit for ever. SDM Vol. 3A, 4.6.1.
TEST_F(Shadow, SmapHoldsForImplicitAccessesOfTheSupervisor)
{
    m.mode = Mode::k64;
    m.maxphyaddr = 36;
    m.wp = m.nxe = m.smap = m.ac = true;
    m.cr3 = 0x1000;
    guest.poke<u64>(0x1000, 0x2027);
    guest.poke<u64>(0x2000, 0x3027);
    guest.poke<u64>(0x3000, 0x4027);
    guest.poke<u64>(0x4000 + 5 * 8, 0x6027);
    guest.poke<u64>(0x4000 + 6 * 8, 0x7023); // the supervisor's
    set_mode();
    const Request implicit{0x5123, false, false, false, true};
    EXPECT_FALSE(check(implicit));
    EXPECT_EQ(access(implicit).error, u64{PFERR_PRESENT});
    EXPECT_TRUE(check({0x5123, false, false, false, false}));
    EXPECT_FALSE(check(implicit)) << "mapped by now";
    EXPECT_TRUE(check({0x6123, false, false, false, true}));
    // Once the page is the supervisor's, without a flush, the CPU's own access goes on.
    guest.poke<u64>(0x4000 + 5 * 8, 0x6023);
    EXPECT_TRUE(check(implicit));
}

// With CR0.WP clear, an instruction in a read-only large page writes to another part of it: both
// translations are there at once, or it would never end.
TEST_F(Shadow, AWriteInSpiteOfTheTablesLeavesTheRestOfItsLargePage)
{
    m.mode = Mode::k64;
    m.maxphyaddr = 36;
    m.cr3 = 0x1000;
    guest.poke<u64>(0x1000, 0x2023);
    guest.poke<u64>(0x2000, 0x3023);
    guest.poke<u64>(0x3000, 0xe1); // 2 MiB, read-only, dirty
    set_mode();
    const Request fetch{0x14, false, true, false, false}, write{0x8000, true, false, false, false};
    EXPECT_TRUE(check(fetch));
    EXPECT_TRUE(check(write));
    cpu.flush();
    u32 error = 0;
    EXPECT_TRUE(cpu.access(fetch, error).has_value());
    EXPECT_TRUE(cpu.access(write, error).has_value());
    m.wp = true;
    set_mode();
    EXPECT_FALSE(check(write));
    EXPECT_TRUE(check(fetch));
}

// The types of shadow entries are the module's, whatever the guest's PAT says.
TEST_F(Shadow, AGuestsPatIsNotTheCpus)
{
    const u64 before = guest.get(GUEST_IA32_PAT);
    EXPECT_EQ(before & 0xff, 6u); // write-back
    u64 value = 0;
    EXPECT_TRUE(set_msr(guest.vmx(), MSR_IA32_PAT, 0x0101010101010101));
    EXPECT_TRUE(get_msr(guest.vmx(), MSR_IA32_PAT, value));
    EXPECT_EQ(value, 0x0101010101010101u);
    EXPECT_EQ(guest.get(GUEST_IA32_PAT), before);
}

// With CR4.PAE clear or without IA-32e mode the roots are four; a CR3 of before is known again.
TEST_F(Shadow, RootsOfBeforeAreFoundAgain)
{
    for (const Mode mode : {Mode::k32, Mode::kPae}) {
        m = {};
        m.mode = mode;
        m.maxphyaddr = 36;
        m.wp = true;
        m.nxe = mode == Mode::kPae;
        for (const u64 base : {u64{0x4000}, u64{0x8000}}) {
            if (mode == Mode::kPae) {
                guest.poke<u64>(base, (base + 0x1000) | 1);
                guest.poke<u64>(base + 0x1000, (base + 0x2000) | 7);
                guest.poke<u64>(base + 0x2000 + 5 * 8, (base + 0x3000) | 7);
            } else {
                guest.poke<u32>(base, static_cast<u32>((base + 0x2000) | 7));
                guest.poke<u32>(base + 0x2000 + 5 * 4, static_cast<u32>((base + 0x3000) | 7));
            }
        }
        auto go_to = [&](u64 base) {
            m.cr3 = base;
            for (u64 i = 0; mode == Mode::kPae && i < 4; i++)
                m.pdpte[i] = guest.peek<u64>(base + 8 * i);
            EXPECT_TRUE(set_cr3(guest.vmx(), base));
            EXPECT_TRUE(check({0x5123, true, false, true, false}));
        };
        m.cr3 = 0x4000;
        m.pdpte[0] = 0x5001;
        set_mode();
        go_to(0x4000);
        const u64 first = guest.get(GUEST_CR3);
        go_to(0x8000);
        const u64 second = guest.get(GUEST_CR3);
        EXPECT_NE(first, second);
        go_to(0x4000);
        EXPECT_EQ(guest.get(GUEST_CR3), first);
        // A page-directory-pointer entry that is another one now.
        if (mode == Mode::kPae)
            guest.poke<u64>(0x8000, 0x5001);
        go_to(0x8000);
        go_to(0x4000);
        // What was written meanwhile is seen after the flush.
        if (mode == Mode::kPae)
            guest.poke<u64>(0x6000 + 5 * 8, 0x10007);
        else
            guest.poke<u32>(0x6000 + 5 * 4, 0x10007);
        shadow_note_write(*guest.vmx().kvm, 0x6);
        go_to(0x4000);
    }
}

// ---- Random tables ------------------------------------------------------------------------------

struct Coverage {
    unsigned done = 0, faults = 0, writes_to_tables = 0;
};

class RandomShadow : public Shadow, public testing::WithParamInterface<std::tuple<Mode, bool>> {
  protected:
    RandomShadow() : Shadow{std::get<1>(GetParam())} {}

    std::mt19937_64 random{static_cast<u64>(std::get<0>(GetParam())) + 1};
    u64 below(u64 n) { return random() % n; }
    bool likely() { return below(16) != 0; }

    void choose_mode()
    {
        m = {};
        m.mode = std::get<0>(GetParam());
        m.maxphyaddr = guest_physical_bits(guest.vmx());
        m.cr3 = below(8) * kPageSize;
        for (u64 &pdpte : m.pdpte)
            pdpte = below(8) * kPageSize | (likely() ? 1 : 0);
        m.pse = below(2);
        m.g1 = guest_has_1g_pages(guest.vmx());
        m.wp = below(2);
        m.smep = m.mode != Mode::kOff && below(2);
        m.smap = m.mode != Mode::kOff && below(4) == 0;
        m.nxe = below(2);
        m.ac = m.smap && below(2);
    }
    u64 linear()
    {
        u64 address = below(kPageSize);
        switch (m.mode) {
        case Mode::kOff:
            return address | below(kSize / kPageSize) << 12;
        case Mode::k32:
            return address | below(3) << 12 | below(3) << 22 | below(2) << 31;
        case Mode::kPae:
            return address | below(3) << 12 | below(3) << 21 | below(4) << 30;
        case Mode::k64:
            break;
        }
        address |= below(3) << 12 | below(3) << 21 | below(4) << 30 | below(2) << 39;
        return below(4) == 0 ? address | 0xffff800000000000 : address;
    }
    u64 entry()
    {
        const bool narrow = m.mode == Mode::k32;
        u64 e = below(kSize / kPageSize) * kPageSize;
        e |= (likely() ? 1 : 0) | (likely() ? 2 : 0) | (likely() ? 4 : 0);
        e |= below(4) << 3 | below(4) << 5;
        if (below(8) == 0) {
            e |= 0x80;
            if (likely())
                e &= narrow ? ~u64{0x3ff000} : below(2) ? ~u64{0x1ff000} : ~u64{0x3ffff000};
        }
        if (!narrow && below(40) == 0)
            e |= u64{1} << (m.maxphyaddr + below(63 - m.maxphyaddr));
        if (!narrow && below(10) == 0)
            e |= u64{1} << 63;
        return narrow ? e & 0xffffffff : e;
    }
    u64 place() // of an entry that linear() can reach
    {
        constexpr u64 kIndices[] = {0, 1, 2, 3, 256, 257, 510, 511, 512, 513, 514};
        const u64 size = m.mode == Mode::k32 ? 4 : 8;
        return below(kSize / kPageSize) * kPageSize +
               kIndices[below(m.mode == Mode::k32 ? 11 : 8)] * size;
    }
    void put_entry(u64 gpa)
    {
        const u64 e = entry();
        std::memcpy(guest.at(gpa), &e, m.mode == Mode::k32 ? 4 : 8);
    }
    void fill()
    {
        for (unsigned i = 0; i < 2000; i++) {
            const u64 gpa = place();
            put_entry(gpa);
            shadow_note_write(guest.kvm(), gpa >> 12);
        }
    }
    Request request()
    {
        Request r{linear(), below(2) == 1, false, below(2) == 1, below(8) == 0};
        r.fetch = !r.write && below(2) == 1;
        r.implicit = r.implicit && !r.fetch && r.user;
        return r;
    }

    /// The guest changes an entry: through its own tables where it can, else somebody else does.
    void change_an_entry(Coverage &seen)
    {
        const u64 target = place();
        for (unsigned tries = 0; tries < 20; tries++) {
            const Request r{linear() & ~u64{0xfff}, true, false, below(2) == 1, false};
            if (m.smap || access(r).kind != Outcome2::kDone)
                continue;
            std::vector<u8> copy = memory();
            const Result at = Reference{copy, m, r}.run();
            if (!at.ok || at.gpa >= kSize)
                continue;
            put_entry((at.gpa & ~u64{0xfff}) | (target & 0xfff));
            seen.writes_to_tables++;
            return;
        }
        put_entry(target);
        shadow_note_write(guest.kvm(), target >> 12);
    }
    void flush()
    {
        switch (below(4)) {
        case 0:
            (void)set_cr3(guest.vmx(), m.mode == Mode::kPae ? 0 : m.cr3);
            if (m.mode == Mode::kPae)
                for (u32 i = 0; i < 4; i++)
                    write_pdptr(guest.vmx(), i, m.pdpte[i]);
            forget_guest_translations(guest.vmx());
            break;
        case 1:
            if (m.mode == Mode::k32 || m.mode == Mode::k64)
                m.cr3 = below(8) * kPageSize;
            set_mode();
            break;
        default:
            forget_guest_translations(guest.vmx());
        }
    }
};

TEST_P(RandomShadow, AgreesWithTheReference)
{
    Coverage seen;
    for (unsigned round = 0; round < 200 && !HasFailure(); round++) {
        choose_mode();
        fill();
        set_mode();
        for (unsigned step = 0; step < 60 && !HasFailure(); step++) {
            const Request r = request();
            SCOPED_TRACE("round " + std::to_string(round) + " step " + std::to_string(step));
            (check(r) ? seen.done : seen.faults)++;
            if (below(6) == 0) {
                change_an_entry(seen);
                if (below(3) == 0) {
                    // INVLPG mends this address, and nothing else yet.
                    const Request one = request();
                    invalidate_guest_address(guest.vmx(), one.linear);
                    notice_invvpid();
                    check(one);
                }
                flush();
            }
        }
    }
    EXPECT_GT(seen.done, 3000u);
    if (m.mode != Mode::kOff) {
        EXPECT_GT(seen.faults, 1000u);
        EXPECT_GT(seen.writes_to_tables, 200u);
    }
}

std::string mode_name(const testing::TestParamInfo<std::tuple<Mode, bool>> &info)
{
    constexpr const char *kNames[] = {"off", "legacy32", "pae", "long64"};
    return std::string(kNames[static_cast<int>(std::get<0>(info.param))]) +
           (std::get<1>(info.param) ? "" : "WithoutVpid");
}

INSTANTIATE_TEST_SUITE_P(Modes, RandomShadow,
                         testing::Combine(testing::Values(Mode::kOff, Mode::k32, Mode::kPae,
                                                          Mode::k64),
                                          testing::Bool()),
                         mode_name);

} // namespace
} // namespace minivmx::test
