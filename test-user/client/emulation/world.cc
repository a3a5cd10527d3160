// SPDX-License-Identifier: GPL-2.0-only
#include "world.hpp"

namespace emulation {

namespace {

constexpr uint64_t kCodeRights = 0x00cf9b000000ffff, kDataRights = 0x00cf93000000ffff;
constexpr uint64_t kLevel3 = 3ULL << 45, kLevel1 = 1ULL << 45, kPresentBit = 1ULL << 47;

constexpr uint64_t gate(uint16_t selector, uint64_t offset, uint8_t access, uint8_t parameters = 0)
{
    return (offset & 0xffff) | uint64_t{selector} << 16 | uint64_t{parameters} << 32 |
           uint64_t{access} << 40 | (offset & 0xffff0000) << 32;
}

constexpr uint64_t system(uint64_t base, uint32_t limit, uint8_t access)
{
    return limit | base << 16 | uint64_t{access} << 40;
}

struct Gate {
    uint16_t selector;
    uint8_t access;
};
constexpr Gate kGates[] = {
    {kCode0, 0x8e},     {kCode0, 0xee},       {kCode0, 0x8f},
    {kCode0, 0xef},     {kCode0, 0x86},       {kCode0, 0xe7},
    {kCode0, 0x6e},     {kCode0, 0x0e},       {kCode0, 0xec},
    {kCode0, 0xe1},     {kCode0, 0xf2},       {0, 0xee},
    {3, 0xee},          {kData0, 0xee},       {kCode3, 0xee},
    {kCode3, 0x8e},     {kConforming, 0xee},  {kAbsentCode, 0xee},
    {kLast, 0xee},      {kCode16, 0xee},      {kCode16, 0xe6},
    {kCode1, 0xee},     {kCode64, 0xee},      {kCode64, 0x8f},
    {kOtherTask, 0xe5}, {kTask, 0xe5},        {kOtherTask, 0x85},
    {kTaskGate, 0xe5},  {kExecuteOnly, 0xee}, {kTable, 0xee},
    {kCode3of64, 0xee}, {0x0c, 0xee},
};

// FNV-1a, over words.
uint64_t digest(const uint8_t *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        hash = (hash ^ word) * 0x100000001b3;
    }
    return hash;
}

void add_segment(State &state, const char *name, const kvm_segment &s)
{
    const std::string prefix = name;
    state.add(prefix, s.selector);
    state.add(prefix + ".unusable", s.unusable);
    if (s.unusable)
        return;
    state.add(prefix + ".base", s.base);
    state.add(prefix + ".limit", s.limit);
    state.add(prefix + ".rights", s.type | s.s << 4 | s.dpl << 5 | s.present << 7 | s.avl << 12 |
                                      s.l << 13 | s.db << 14 | s.g << 15);
}

} // namespace

size_t gate_count()
{
    return sizeof(kGates) / sizeof(kGates[0]);
}

std::string State::text() const
{
    std::string line;
    char number[24];
    for (const auto &[name, value] : *this) {
        snprintf(number, sizeof(number), "=%llx ", static_cast<unsigned long long>(value));
        line += name + number;
    }
    return line;
}

World::World(Mode m) : guest_(device_, m, CODE(32, "hlt")), reset_(guest_.vcpu.sregs())
{
    write_world();
    image_.assign(guest_.memory.base + kGdt, guest_.memory.base + kEnd);
}

void World::write_world()
{
    auto poke64 = [&](uint64_t address, uint64_t value) { at<uint64_t>(address) = value; };
    memset(guest_.memory.base + kGdt, 0, kEnd - kGdt);
    write_gdt();
    write_gates();
    open_tables();
    poke64(kLdt, kDataRights & ~(1ULL << 40));
    poke64(kLdt + 8, kCodeRights);
    memset(guest_.memory.base + kTarget, 0xf4, 0x100);
    memset(guest_.memory.base + kHalts, 0xf4, 0x100);
    if (mode() == Mode::kLong) {
        poke64(kTss + 4, kInnerTop);
        poke64(kTss + 0x24, kInnerTop - 0x400);
    } else {
        at<uint32_t>(kTss + 4) = kInnerTop;
        at<uint16_t>(kTss + 8) = kData0;
        at<uint32_t>(kTss + 12) = kInnerTop - 0x400;
        at<uint16_t>(kTss + 16) = kData1 | 1;
    }
    at<uint16_t>(kTss + 0x66) = 0x88; // a map of redirected interrupts, none of them, and no ports
    // The other task halts at once.
    at<uint32_t>(kOtherTss + 0x1c) = G_TABLES;
    at<uint32_t>(kOtherTss + 0x20) = kTarget;
    at<uint32_t>(kOtherTss + 0x24) = 2;
    for (uint32_t i = 0; i < 8; i++)
        at<uint32_t>(kOtherTss + 0x28 + 4 * i) = i == 4 ? kInnerTop - 0x800 : 0xa0 + i;
    for (uint32_t i = 0; i < 6; i++)
        at<uint32_t>(kOtherTss + 0x48 + 4 * i) = i == 1 ? kCode0 : kData0;
    for (uint32_t v = 0; v < 256; v++)
        at<uint32_t>(G_IVT + 4 * v) = static_cast<uint32_t>(kHalts << 12) | v; // 3600:v
    for (uint64_t i = 0; i < 0x400; i += 8)
        poke64(kData + i, i * 0x9e3779b97f4a7c15);
}

void World::write_gdt()
{
    auto describe = [&](uint16_t selector, uint64_t raw) {
        at<uint64_t>(kGdt + (selector & ~7u)) = raw;
    };
    const bool lm = mode() == Mode::kLong;
    const uint16_t handler = lm ? kCode64 : kCode0;
    describe(kCode0, kCodeRights);
    describe(kData0, kDataRights);
    describe(kCode64, 0x00af9b000000ffff);
    describe(kTask, system(kTss, 0xa8, 0x8b));
    if (!lm)
        describe(kOtherTask, system(kOtherTss, 0x67, 0x89));
    describe(kCode3, kCodeRights | kLevel3);
    describe(kData3, kDataRights | kLevel3);
    describe(kConforming, kCodeRights | 1ULL << 42);
    describe(kAbsentCode, kCodeRights & ~kPresentBit);
    describe(kAbsentData, kDataRights & ~kPresentBit);
    describe(kReadOnly, kDataRights & ~(3ULL << 40));    // not accessed yet
    describe(kExecuteOnly, kCodeRights & ~(3ULL << 40)); // nor this
    describe(kCode16, 0x00009a030000ffff);               // at 0x30000
    describe(kData16, 0x000092030000ffff);
    describe(kGate, gate(handler, kTarget, 0xec, 2));
    if (!lm)
        describe(kGate16, gate(kCode16, kTarget, 0xe4, 2));
    describe(kTaskGate, uint64_t{kOtherTask} << 16 | 0xe5ULL << 40);
    describe(kTable, system(kLdt, 0x0f, 0x82));
    describe(kData1, kDataRights | kLevel1);
    describe(kCode1, kCodeRights | kLevel1);
    describe(kAbsentGate, gate(handler, kTarget, 0x6c));
    describe(kInnerGate, gate(handler, kTarget, 0x8c));
    describe(kExpandDown, 0x0040960000000fff);
    describe(kCode3of64, 0x00affb000000ffff);
}

void World::write_gates()
{
    const bool lm = mode() == Mode::kLong;
    const uint16_t handler = lm ? kCode64 : kCode0;
    auto put = [&](uint32_t vector, uint64_t raw) {
        at<uint64_t>(kIdt + (lm ? 16 : 8) * vector) = raw;
    };
    for (uint32_t v = 0; v < 0x40; v++)
        put(v, gate(handler, kHalts + v, 0x8e));
    for (uint32_t i = 0; i < gate_count(); i++)
        put(kFirstGate + i, gate(kGates[i].selector, kHalts + kFirstGate + i, kGates[i].access));
    put(3, gate(handler, kHalts + 3, 0xee));
    put(4, gate(handler, kHalts + 4, 0xee));
}

// CPL 3 may use all pages.
void World::open_tables()
{
    const bool wide = mode() != Mode::kPaged;
    if (mode() == Mode::kReal || mode() == Mode::kProtected)
        return;
    for (uint64_t a = G_TABLES; a < G_TABLES + 5 * kPage; a += wide ? 8 : 4)
        if (mode() == Mode::kPae && a < G_TABLES + 32)
            continue; // page-directory pointers have no such bit
        else if (at<uint8_t>(a) & guest::kPresent)
            at<uint8_t>(a) |= guest::kUser;
}

kvm_sregs World::initial_sregs(Cpl cpl, bool emulated) const
{
    kvm_sregs s = reset_;
    s.gdt.base = kGdt;
    s.gdt.limit = kLast - 1;
    if (mode() == Mode::kReal) {
        s.cs.base = s.cs.selector = 0;
        if (emulated) { // big real mode
            s.fs.limit = 0xffffffff;
            s.fs.g = 1;
        }
        return s;
    }
    s.idt.base = kIdt;
    s.idt.limit = 0xfff;
    s.tr.base = kTss;
    s.tr.limit = 0xa8;
    s.tr.selector = kTask;
    s.ldt.unusable = 0;
    s.ldt.present = 1;
    s.ldt.type = 2;
    s.ldt.s = s.ldt.g = s.ldt.db = s.ldt.l = s.ldt.dpl = 0;
    s.ldt.selector = kTable;
    s.ldt.base = kLdt;
    s.ldt.limit = 0x0f;
    if (cpl == Cpl::k3) {
        for (kvm_segment *segment : {&s.ds, &s.es, &s.ss, &s.gs}) {
            segment->selector = kData3;
            segment->dpl = 3;
        }
        s.cs.selector = mode() == Mode::kLong ? kCode3of64 : kCode3;
        s.cs.dpl = 3;
    }
    // VM entry takes no data segment that isn't "accessed": SDM Vol. 3C, 27.3.1.2. No guest gets
    // there by itself.
    s.fs.selector = kData0;
    s.fs.dpl = 0;
    s.fs.type = emulated ? 2 : 3;
    return s;
}

kvm_regs World::initial_regs(Cpl cpl, uint64_t flags) const
{
    kvm_regs r = {};
    r.rip = G_CODE;
    r.rflags = flags;
    r.rsp = mode() == Mode::kReal ? 0x9000 : cpl == Cpl::k3 ? kOuterTop : kStackTop;
    r.rax = 0x11111111;
    r.rcx = 0x22222222;
    r.rdx = 0x33333333;
    r.rbx = mode() == Mode::kReal ? 0x100 : kData;
    r.rbp = 0x55555555;
    r.rsi = 0x66666666;
    r.rdi = 0x77777777;
    return r;
}

State World::run(const Code &code, Cpl cpl, bool emulated, uint64_t flags)
{
    memcpy(guest_.memory.base + kGdt, image_.data(), image_.size());
    REQUIRE(code.size() < 0x200);
    memset(guest_.memory.base + G_CODE, 0xf4, 0x200);
    memcpy(guest_.memory.base + G_CODE, code.data(), code.size());
    memset(guest_.memory.base + 0x8800, 0, 0x800); // real mode's stack
    kvm_vcpu_events events = {};
    REQUIRE_OK(kvm::call(guest_.vcpu, KVM_SET_VCPU_EVENTS, &events));
    kvm_debugregs debug = {};
    debug.dr6 = 0xffff0ff0;
    debug.dr7 = 0x400;
    REQUIRE_OK(kvm::call(guest_.vcpu, KVM_SET_DEBUGREGS, &debug));
    set_msrs();
    guest_.vcpu.set(initial_sregs(cpl, emulated));
    guest_.vcpu.set(initial_regs(cpl, flags));
    REQUIRE_OK(guest_.vcpu.enter());
    return state(guest_.vcpu.run->exit_reason);
}

// What SYSENTER, SYSCALL and their returns go by: flat segments, whatever the selectors.
void World::set_msrs()
{
    constexpr uint32_t kSysenterCs = 0x174, kSysenterEsp = 0x175, kSysenterEip = 0x176,
                       kStar = 0xc0000081, kLstar = 0xc0000082, kSyscallMask = 0xc0000084,
                       kKernelGsBase = 0xc0000102;
    struct {
        kvm_msrs head;
        kvm_msr_entry entries[7];
    } msrs = {};
    msrs.head.nmsrs = 7;
    const kvm_msr_entry entries[7] = {
        {kSysenterCs, 0, kCode0},
        {kSysenterEsp, 0, kInnerTop},
        {kSysenterEip, 0, kTarget},
        {kStar, 0, uint64_t{kCode3of64 - 16} << 48 | uint64_t{kCode64} << 32},
        {kLstar, 0, kTarget},
        {kSyscallMask, 0, 0x47700},
        {kKernelGsBase, 0, 0x123456000},
    };
    memcpy(msrs.entries, entries, sizeof(entries));
    REQUIRE_EQ(kvm::call(guest_.vcpu, KVM_SET_MSRS, &msrs), 7);
}

State World::state(uint64_t exit)
{
    State result;
    result.add("exit", exit);
    const kvm_regs r = guest_.vcpu.regs();
    const kvm_sregs s = guest_.vcpu.sregs();
    const uint64_t *words = reinterpret_cast<const uint64_t *>(&r);
    constexpr const char *kNames[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi",
                                      "rsp", "rbp", "r8",  "r9",  "r10", "r11",
                                      "r12", "r13", "r14", "r15", "rip", "rflags"};
    for (size_t i = 0; i < sizeof(kNames) / sizeof(kNames[0]); i++)
        result.add(kNames[i], words[i]);
    add_segment(result, "es", s.es);
    add_segment(result, "cs", s.cs);
    add_segment(result, "ss", s.ss);
    add_segment(result, "ds", s.ds);
    add_segment(result, "gs", s.gs);
    add_segment(result, "ldt", s.ldt);
    add_segment(result, "tr", s.tr);
    result.add("fs", s.fs.selector);
    result.add("gdt.base", s.gdt.base);
    result.add("gdt.limit", s.gdt.limit);
    result.add("idt.base", s.idt.base);
    result.add("idt.limit", s.idt.limit);
    result.add("cr0", s.cr0);
    result.add("cr2", s.cr2);
    result.add("cr3", s.cr3);
    result.add("cr4", s.cr4);
    result.add("efer", s.efer);
    kvm_debugregs debug = {};
    REQUIRE_OK(kvm::call(guest_.vcpu, KVM_GET_DEBUGREGS, &debug));
    result.add("dr6", debug.dr6);
    result.add("dr7", debug.dr7);
    const uint8_t *base = guest_.memory.base;
    const uint64_t top = s.ss.base + r.rsp;
    for (uint64_t i = 0; i < 6 && top + 8 * i + 8 <= kEnd; i++)
        result.add("stack+" + std::to_string(8 * i), at<uint64_t>(top + 8 * i));
    result.add("tables", digest(base + kGdt, kIdt - kGdt));
    result.add("stack0", digest(base + kStackTop - 0x100, 0x100));
    result.add("inner", digest(base + kInnerTop - 0x900, 0x900));
    result.add("outer", digest(base + kOuterTop - 0x100, 0x140));
    result.add("data", digest(base + kData, 0x800));
    result.add("low", digest(base + 0x8800, 0x800));
    return result;
}

} // namespace emulation
