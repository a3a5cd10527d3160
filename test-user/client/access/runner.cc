// SPDX-License-Identifier: GPL-2.0-only
#include "access_test.hpp"

namespace paging {

namespace {

constexpr size_t kBatch = (A_CASES_END - A_CASES) / C_SIZE;
constexpr uint32_t kDescriptorHigh = 0x00cff200; // data, writable, DPL 3, not accessed

const char *name(Kind kind)
{
    constexpr const char *kNames[] = {"read", "write", "fetch", "modify", "LAR", "segment load"};
    return kNames[static_cast<unsigned>(kind)];
}

const char *flush_name(uint32_t flush)
{
    constexpr const char *kNames[] = {"none",      "INVLPG",    "CR3",       "CR4.PGE",
                                      "INVPCID 0", "INVPCID 1", "INVPCID 2", "INVPCID 3"};
    return kNames[flush];
}

// The frame that the page table under test gives lies beyond the guest's memory.
bool is_device(const Case &c)
{
    return (c.after[0] & 0xfffff000) >= G_MMIO;
}

// Whether an entry in use is like that. PDPTEs of PAE paging are none: they give no rights (SDM
// Vol. 3A, 4.4.1).
template <class Like>
bool any_entry(Mode mode, const Case &c, const Like &like)
{
    const unsigned top = mode == Mode::kLong ? 4 : 2;
    for (unsigned level = top; level >= 1; level--) {
        if (like(c.after[level - 1]))
            return true;
        if (level > 1 && (c.after[level - 1] & kPs))
            return false;
    }
    return false;
}

// The access went through, and no accessed or dirty flag shows it.
bool went_through(const Case &expected, const Case &got)
{
    return got.vector == C_NOTHING && memcmp(got.after, expected.after, sizeof(got.after)) == 0;
}

// kvm_intel with ept=0 marks fetches in the error code whenever EFER.NXE is set, with 32-bit
// paging, too, where only SMEP makes it so (SDM Vol. 3A, 4.7).
bool marked_fetch(Mode mode, const Case &expected, const Case &got)
{
    return mode == Mode::kPaged && expected.kind == Kind::kFetch && expected.vector == kPageFault &&
           (expected.efer & guest::kNxe) && !(expected.cr4 & kCr4Smep) &&
           got.vector == kPageFault && got.error == (expected.error | kErrorFetch);
}

// What it remembers of an access to a device's page lets a later write there be emulated with no
// walk of the guest's tables, if the rights suffice: the page stays clean.
bool clean_device(const Case &expected, const Case &got)
{
    const bool write = expected.kind == Kind::kWrite || expected.kind == Kind::kModify;
    Case clean = expected;
    clean.after[0] &= ~kD;
    return write && expected.vector == C_NOTHING && is_device(expected) &&
           got.cr2 == expected.cr2 && went_through(clean, got);
}

// With CR0.WP clear, a write by the supervisor (with RFLAGS.AC set) to the user's read-only page
// makes that a supervisor's page in the shadow tables, where SMAP, in force again, has no say.
bool past_smap(Mode mode, const Case &expected, const Case &got)
{
    const bool supervisor = !expected.user || expected.kind >= Kind::kLar;
    return supervisor && expected.kind != Kind::kFetch && !(expected.cr0 & guest::kWp) &&
           (expected.cr4 & kCr4Smap) && expected.vector == kPageFault &&
           (expected.error & ~kErrorW) == kErrorP &&
           any_entry(mode, expected, [](uint64_t entry) { return !(entry & kW); }) &&
           went_through(expected, got);
}

// Shadow pages made while EFER.NXE was set are used again while it is clear, when bit 63 is
// reserved.
bool past_nx(Mode mode, const Case &expected, const Case &got)
{
    return expected.kind != Kind::kFetch && !(expected.efer & guest::kNxe) &&
           expected.vector == kPageFault && (expected.error & kErrorReserved) &&
           any_entry(mode, expected, [](uint64_t entry) { return entry & kNx; }) &&
           went_through(expected, got);
}

// How kvm_intel with ept=0 differs from the manual and from the CPU.
bool known_of_kvm_intel(Mode mode, const Case &expected, const Case &got)
{
    return marked_fetch(mode, expected, got) || clean_device(expected, got) ||
           past_smap(mode, expected, got) || past_nx(mode, expected, got);
}

template <class... T>
std::string text(const char *format, T... values)
{
    char line[512];
    snprintf(line, sizeof(line), format, values...);
    return line;
}

} // namespace

Runner::Runner(Mode m, const char *g)
    : mode(m), group(g), features(features_of(device)), vm(device), memory(A_SIZE),
      model(m, features), levels(m == Mode::kLong  ? 4
                                 : m == Mode::kPae ? 3
                                                   : 2),
      random(number("ACCESS_SEED", 1)), share_(static_cast<uint32_t>(number("ACCESS_SHARE", 24))),
      reference_shadow_(test::options.reference() && !kvm::module_parameter("ept")),
      batch_(reference_shadow_ ? 1 : kBatch)
{
    // Shared, so that it outlives its being unmapped.
    REQUIRE(mmap(memory.base, A_SIZE, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory.base);
    REQUIRE_OK(vm.set_slot(0, 0, A_SIZE, memory.base));
    vcpu = kvm::Vcpu(device, vm);
    write_memory();
    start();
    memcpy(model.memory.data(), memory.base, A_SIZE);
    REQUIRE(model.load_root(G_TABLES));
}

Features Runner::features_of(const kvm::Device &device)
{
    kvm::Cpuid list;
    kvm::Cpuid::supported(device, list);
    auto word = [&](uint32_t function, uint32_t kvm_cpuid_entry2::*reg) {
        const kvm_cpuid_entry2 *entry = list.find(function);
        return entry ? entry->*reg : 0;
    };
    const uint32_t ext = word(0x80000001, &kvm_cpuid_entry2::edx);
    const uint32_t structured = word(7, &kvm_cpuid_entry2::ebx);
    Features f = {};
    f.physical_bits = word(0x80000008, &kvm_cpuid_entry2::eax) & 0xff;
    f.nx = ext >> 20 & 1;
    f.pages_1g = ext >> 26 & 1;
    f.smep = structured >> 7 & 1;
    f.smap = structured >> 20 & 1;
    f.invpcid = structured >> 10 & 1;
    f.pse36 = word(1, &kvm_cpuid_entry2::edx) >> 17 & 1;
    f.pcid = word(1, &kvm_cpuid_entry2::ecx) >> 17 & 1;
    return f;
}

uint64_t Runner::table(unsigned level, unsigned set) const
{
    return level == levels ? G_TABLES : A_TABLES + 0x1000 * (level - 1 + 3 * set);
}

uint32_t Runner::entry_at(unsigned level, unsigned set) const
{
    const unsigned size = mode == Mode::kPaged ? 4 : 8;
    const unsigned shift = 12 + (level - 1) * (mode == Mode::kPaged ? 10 : 9);
    const uint64_t index = page() >> shift & (mode == Mode::kPaged ? 1023 : 511);
    return static_cast<uint32_t>(table(level, set) + index * size);
}

bool Runner::can_map_page(unsigned level) const
{
    return level == 1 || level == 2 || (level == 3 && mode == Mode::kLong && features.pages_1g);
}

uint64_t Runner::permissive(unsigned level, bool maps_page, unsigned set) const
{
    if (mode == Mode::kPae && level == 3)
        return table(2, set) | kP;
    constexpr uint64_t kAll = kP | kW | kU;
    if (level == 1)
        return (A_TARGETS + 0x1000) | kAll;
    if (!maps_page)
        return table(level - 1, set) | kAll;
    // The page that A_TARGETS lies in: of 2 MiB, of 4 MiB, of 1 GiB.
    return (level == 2 && mode != Mode::kPaged ? A_TARGETS : 0) | kAll | kPs;
}

void Runner::write_memory()
{
    const bool wide = mode == Mode::kLong;
    guest::write_tables_for(mode, memory);
    // The target pages in the guest's own tables: for the supervisor.
    for (uint64_t at = A_TARGETS; mode == Mode::kPaged && at < A_SIZE; at += kvm::kPage)
        memory.at<uint32_t>(guest::entry_address(mode, at)) =
            static_cast<uint32_t>(at | guest::kPresent | guest::kWrite);
    if (mode != Mode::kPaged)
        memory.at<uint64_t>(G_TABLES + (wide ? 0x2000 : 0x1000) + 8) = A_TARGETS | kP | kW | kPs;
    // The page of the code at CPL 3.
    for (uint64_t at : {G_TABLES, G_TABLES + 0x1000, G_TABLES + 0x2000})
        if (!(mode == Mode::kPae && at == G_TABLES))
            if (at < guest::entry_address(mode, 0))
                memory.at<uint8_t>(at) |= kU;
    memory.at<uint8_t>(guest::entry_address(mode, A_USER)) |= kU;
    // Their accessed and dirty flags are set for good: the model need not watch the loop's
    // accesses.
    for (uint64_t at = G_TABLES; at < G_TABLES + 5 * kvm::kPage; at += mode == Mode::kPaged ? 4 : 8)
        if (!(mode == Mode::kPae && at < G_TABLES + kvm::kPage) && (memory.at<uint8_t>(at) & kP))
            memory.at<uint8_t>(at) |= kA | kD;
    // The page before the one under test, for accesses that begin there.
    for (unsigned set = 0; set < 2; set++) {
        const uint64_t entry = A_TARGETS | kP | kW | kU | kA | kD;
        const uint64_t at = entry_at(1, set);
        if (mode == Mode::kPaged)
            memory.at<uint32_t>(at - 4) = static_cast<uint32_t>(entry);
        else
            memory.at<uint64_t>(at - 8) = entry;
    }
    for (uint64_t at = A_TARGETS; at < A_SIZE; at += kvm::kPage) {
        memory.at<uint16_t>(at) = 0x90e3; // the end of a jump through BX
        memory.at<uint16_t>(at + A_JUMP) = 0xe3ff;
        memory.at<uint32_t>(at + A_DATA) = static_cast<uint32_t>(0xacce0000 | at >> 12);
        memory.at<uint32_t>(at + A_DESCRIPTOR) = 0xffff;
        memory.at<uint32_t>(at + A_DESCRIPTOR + 4) = kDescriptorHigh;
        memory.at<uint16_t>(at + 0xffe) = 0xff90; // and its beginning
    }
    auto copy = [&](uint64_t to, const uint8_t *from, const uint8_t *end) {
        memcpy(memory.base + to, from, static_cast<size_t>(end - from));
    };
    if (wide) {
        copy(G_CODE, guest_access64, guest_access64_end);
        copy(A_USER, access64_user, access64_user_end);
    } else {
        copy(G_CODE, guest_access32, guest_access32_end);
        copy(A_USER, access32_user, access32_user_end);
    }
    const uint64_t gdt[] = {0,
                            0x00cf9b000000ffff,
                            0x00cf93000000ffff,
                            0x00af9b000000ffff,
                            0x00008b0000000067 | uint64_t{G_TSS} << 16,
                            0,
                            0,
                            0,
                            0x00cffb000000ffff,
                            0x00cff3000000ffff,
                            0x00affb000000ffff};
    static_assert(sizeof(gdt) == A_GDT_SIZE);
    memcpy(memory.base + G_GDT, gdt, sizeof(gdt));
    // The stack of CPL 0.
    memory.at<uint32_t>(G_TSS + 4) = G_STACK;
    memory.at<uint32_t>(G_TSS + 8) = wide ? 0 : SEL_DATA;
    const uint64_t stubs =
        wide ? GUEST_ADDRESS(access64, access64_stubs) : GUEST_ADDRESS(access32, access32_stubs);
    auto gate = [&](uint32_t vector, uint64_t handler, uint64_t rights) {
        const uint64_t at = G_IDT + (wide ? 16 : 8) * vector;
        memory.at<uint64_t>(at) = (handler & 0xffff) | (handler & 0xffff0000) << 32 | rights << 40 |
                                  static_cast<uint64_t>(wide ? SEL_CODE64 : SEL_CODE32) << 16;
    };
    for (uint32_t vector = 0; vector < 32; vector++)
        gate(vector, stubs + 16 * vector, 0x8e);
    gate(0x80, stubs + 16 * 32, 0xee);
}

void Runner::start()
{
    kvm::Cpuid all;
    kvm::Cpuid::supported(device, all);
    REQUIRE_OK(kvm::call(vcpu, KVM_SET_CPUID2, all.list));
    kvm_sregs s = vcpu.sregs();
    guest::make_sregs_for(mode, s);
    s.gdt.limit = A_GDT_SIZE - 1;
    s.ds.selector = s.es.selector = A_SEL_USER_DATA;
    s.ds.dpl = s.es.dpl = 3;
    s.ldt = {};
    s.ldt.base = page();
    s.ldt.limit = 0xffff;
    s.ldt.selector = A_SEL_LDT;
    s.ldt.type = 2;
    s.ldt.present = 1;
    vcpu.set(s);
    kvm_regs r = {};
    r.rip = G_CODE;
    r.rflags = 0x202;
    vcpu.set(r);
    memory.at<uint32_t>(A_CR0) = static_cast<uint32_t>(s.cr0);
    memory.at<uint32_t>(A_CR4) = static_cast<uint32_t>(s.cr4);
    memory.at<uint32_t>(A_EFER) = static_cast<uint32_t>(s.efer);
}

std::vector<Controls> Runner::all_controls() const
{
    std::vector<Controls> all;
    for (unsigned bits = 0; bits < 32; bits++) {
        const Controls c = {bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8),
                            bool(bits & 16)};
        // PSE says nothing where entries have eight bytes (SDM Vol. 3A, 4.1.4).
        const bool has = (features.smep || !c.smep) && (features.smap || !c.smap) &&
                         (features.nx || !c.nxe) && (mode == Mode::kPaged || c.pse);
        if (has)
            all.push_back(c);
    }
    return all;
}

uint64_t Runner::offset_of(Kind kind)
{
    switch (kind) {
    case Kind::kFetch:
        return A_JUMP;
    case Kind::kLar:
    case Kind::kLoad:
        return A_DESCRIPTOR;
    default:
        return A_DATA;
    }
}

Case Runner::again(Kind kind, bool user, bool ac) const
{
    Case c = {};
    c.kind = kind;
    c.user = user;
    c.flags = 0x202 | (ac ? kFlagsAc : 0);
    c.address = page() + offset_of(kind);
    c.cr3 = G_TABLES;
    c.cr0 = static_cast<uint32_t>(guest::kPe | guest::kEt | guest::kNe | guest::kPg |
                                  (controls.wp ? guest::kWp : 0));
    c.cr4 = static_cast<uint32_t>((mode == Mode::kPaged ? 0 : guest::kCr4Pae) | kCr4Pge |
                                  (controls.pse ? guest::kCr4Pse : 0) |
                                  (controls.smep ? kCr4Smep : 0) | (controls.smap ? kCr4Smap : 0));
    c.efer = static_cast<uint32_t>((mode == Mode::kLong ? guest::kLme | guest::kLma : 0) |
                                   (controls.nxe ? guest::kNxe : 0));
    c.how = mode == Mode::kPaged ? 0 : HOW_WIDE;
    c.input = 0x5eed0000 + static_cast<uint32_t>(count_ & 0xffff);
    for (unsigned level = 1; level <= levels; level++)
        c.at[level - 1] = entry_at(level);
    return c;
}

Case Runner::make(Kind kind, bool user, bool ac) const
{
    Case c = again(kind, user, ac);
    c.how |= HOW_WRITE;
    c.flush = FLUSH_CR3;
    for (unsigned level = 1; level <= levels; level++)
        c.entry[level - 1] = permissive(level);
    return c;
}

bool Runner::take(uint32_t of)
{
    return share_ <= 1 || random.one_in(share_ * of);
}

void Runner::add(Case c)
{
    const unsigned size = mode == Mode::kPaged ? 4 : 8;
    bool loaded = model.set_controls({bool(c.cr0 & guest::kWp), bool(c.cr4 & kCr4Smep),
                                      bool(c.cr4 & kCr4Smap), bool(c.efer & guest::kNxe),
                                      bool(c.cr4 & guest::kCr4Pse)});
    REQUIRE(loaded); // bad PDPTEs have a group of their own
    if (c.how & HOW_WRITE)
        for (unsigned i = 0; i < 4; i++)
            if (c.at[i])
                model.store(c.at[i], c.entry[i], size);
    Outcome out = {C_NOTHING, 0, A_CR2_BEFORE, 0, 0};
    if (c.flush == FLUSH_CR3)
        loaded = model.load_root(c.cr3);
    else if (c.flush == FLUSH_PGE)
        loaded = model.toggle_pge();
    if (loaded)
        out = model.run({c.address, c.kind, bool(c.user), bool(c.flags & kFlagsAc)}, c.input);
    else
        out = {kGeneralProtection, 0, 0, 0, 0};
    c.vector = out.vector;
    c.error = out.error;
    c.cr2 = out.cr2;
    c.output = out.output;
    const bool memory_access = out.vector == C_NOTHING && model.is_memory(out.physical);
    REQUIRE(out.vector != C_NOTHING || memory_access || c.kind < Kind::kLar);
    c.target =
        static_cast<uint32_t>((memory_access ? out.physical : A_TARGETS + 0x1000 + A_DATA) & ~3ull);
    if (c.kind == Kind::kLoad)
        c.target += 4;
    c.memory = model.read32(c.target);
    for (unsigned i = 0; i < 4; i++)
        c.after[i] = c.at[i] ? model.load(c.at[i], size) : 0;
    waiting_.push_back(c);
    if (waiting_.size() == batch_)
        run_batch();
}

void Runner::run_batch()
{
    if (waiting_.empty())
        return;
    for (size_t i = 0; i < waiting_.size(); i++) {
        Case c = waiting_[i];
        c.vector = 0;
        c.error = c.output = c.memory = c.tries = 0;
        c.cr2 = 0;
        memset(c.after, 0, sizeof(c.after));
        memory.at<Case>(A_CASES + i * C_SIZE) = c;
    }
    memory.at<uint32_t>(A_COUNT) = static_cast<uint32_t>(waiting_.size());
    std::vector<DeviceWrite> writes;
    int result;
    while ((result = vcpu.enter()) == 0 ? serve(writes) : errno == EINTR)
        ;
    const kvm_run &run = *vcpu.run;
    if (result == -1 || run.exit_reason != KVM_EXIT_IO) {
        const size_t index = waiting_.size() - memory.at<uint32_t>(A_COUNT);
        const kvm_regs r = vcpu.regs();
        test::fail(
            __FILE__, __LINE__, "%s, exit %s%s 0x%llx at rip 0x%llx, in case %llu: %s",
            result == -1 ? test::errno_name(errno) : "no end", kvm::exit_name(run.exit_reason),
            run.exit_reason == KVM_EXIT_INTERNAL_ERROR ? " suberror" : " of",
            run.exit_reason == KVM_EXIT_INTERNAL_ERROR ? run.internal.suberror : run.mmio.phys_addr,
            r.rip, static_cast<unsigned long long>(count_ + index),
            describe(waiting_[index]).c_str());
        test::leave();
    }
    if (writes != model.device_writes)
        test::fail(__FILE__, __LINE__, "%zu writes to the device (expected %zu), or others",
                   writes.size(), model.device_writes.size());
    model.device_writes.clear();
    for (size_t i = 0; i < waiting_.size(); i++) {
        compare(waiting_[i], memory.at<Case>(A_CASES + i * C_SIZE));
        count_++;
    }
    waiting_.clear();
}

// Plays the device. False: this is another exit.
bool Runner::serve(std::vector<DeviceWrite> &writes)
{
    kvm_run &run = *vcpu.run;
    if (run.exit_reason != KVM_EXIT_MMIO || run.mmio.len != 4)
        return false;
    uint32_t value = Model::device_read(run.mmio.phys_addr);
    if (run.mmio.is_write) {
        memcpy(&value, run.mmio.data, 4);
        writes.push_back({run.mmio.phys_addr, value});
    } else
        memcpy(run.mmio.data, &value, 4);
    return true;
}

void Runner::compare(const Case &expected, const Case &got)
{
    const bool read = expected.kind == Kind::kRead && expected.vector == C_NOTHING;
    // CR2 is of interest whatever happened: an exception that is none of its business leaves it.
    // Which byte of a descriptor the CPU writes is its own affair.
    const uint64_t whole = expected.kind == Kind::kLoad ? ~7ull : ~0ull;
    const bool same =
        got.vector == expected.vector &&
        (expected.vector == C_NOTHING || got.error == expected.error) &&
        (expected.vector == kGeneralProtection || ((got.cr2 ^ expected.cr2) & whole) == 0) &&
        memcmp(got.after, expected.after, sizeof(got.after)) == 0 &&
        got.memory == expected.memory && (!read || got.output == expected.output);
    if (same)
        return;
    if (reference_shadow_ && known_of_kvm_intel(mode, expected, got)) {
        // What comes next begins with what is there.
        memcpy(model.memory.data(), memory.base, A_SIZE);
        known_++;
        return;
    }
    if (different_++ == 0)
        first_ = text("case %llu, %s: expected %s, got %s", static_cast<unsigned long long>(count_),
                      describe(expected).c_str(), outcome(expected).c_str(), outcome(got).c_str());
}

std::string Runner::describe(const Case &c) const
{
    std::string s = text("%s at CPL %u of 0x%llx, wp=%d smep=%d smap=%d ac=%d nxe=%d", name(c.kind),
                         c.user ? 3 : 0, static_cast<unsigned long long>(c.address),
                         bool(c.cr0 & guest::kWp), bool(c.cr4 & kCr4Smep), bool(c.cr4 & kCr4Smap),
                         bool(c.flags & kFlagsAc), bool(c.efer & guest::kNxe));
    if (mode == Mode::kPaged)
        s += text(" pse=%d", bool(c.cr4 & guest::kCr4Pse));
    s +=
        text(", flush %s, %s", flush_name(c.flush), c.how & HOW_WRITE ? "entries" : "entries kept");
    for (unsigned level = levels; c.how & HOW_WRITE && level >= 1; level--)
        s += text(" %llx", static_cast<unsigned long long>(c.entry[level - 1]));
    return s;
}

std::string Runner::outcome(const Case &c) const
{
    std::string s = c.vector == C_NOTHING    ? "no fault"
                    : c.vector == kPageFault ? text("#PF(0x%x)", c.error)
                                             : text("exception %u(0x%x)", c.vector, c.error);
    s += text(" cr2=%llx after", static_cast<unsigned long long>(c.cr2));
    for (unsigned level = levels; level >= 1; level--)
        s += text(" %llx", static_cast<unsigned long long>(c.after[level - 1]));
    s += text(" memory %x", c.memory);
    if (c.kind == Kind::kRead && c.vector == C_NOTHING)
        s += text(" read %x", c.output);
    return s;
}

void Runner::finish()
{
    run_batch();
    if (count_ == 0)
        test::fail(__FILE__, __LINE__, "no case ran");
    else if (different_)
        test::fail(__FILE__, __LINE__, "%llu of %llu cases differ; %s",
                   static_cast<unsigned long long>(different_),
                   static_cast<unsigned long long>(count_), first_.c_str());
    else if (known_)
        test::note("%llu cases, of which %llu differ as kvm_intel is known to",
                   static_cast<unsigned long long>(count_),
                   static_cast<unsigned long long>(known_));
    else
        test::note("%llu cases", static_cast<unsigned long long>(count_));
}

} // namespace paging
