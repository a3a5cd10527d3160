// SPDX-License-Identifier: GPL-2.0-only
//
// A vCPU's state beyond its registers: MSRs, FPU, events, debug registers, machine checks, time.
#include "ioctl_test.hpp"

using namespace kvm;
using namespace guest;

namespace {

struct One {
    Device device;
    Vm vm{device};
    Vcpu vcpu{device, vm};
    One()
    {
        Cpuid all;
        Cpuid::supported(device, all);
        REQUIRE_OK(call(vcpu, KVM_SET_CPUID2, all.list));
    }
};

struct Msrs {
    static constexpr uint32_t kRoom = 300;
    kvm_msrs *list;
    Msrs()
        : list(static_cast<kvm_msrs *>(calloc(1, sizeof(kvm_msrs) + kRoom * sizeof(kvm_msr_entry))))
    {}
    Msrs(std::initializer_list<kvm_msr_entry> entries) : Msrs()
    {
        for (const kvm_msr_entry &entry : entries)
            list->entries[list->nmsrs++] = entry;
    }
    Msrs(const Msrs &) = delete;
    Msrs &operator=(const Msrs &) = delete;
    ~Msrs() { free(list); }
};

kvm_msr_entry msr(uint32_t index, uint64_t value = 0)
{
    kvm_msr_entry entry = {};
    entry.index = index;
    entry.data = value;
    return entry;
}

uint64_t get_msr(const Vcpu &vcpu, uint32_t index)
{
    Msrs msrs{msr(index)};
    EXPECT_EQ(call(vcpu, KVM_GET_MSRS, msrs.list), 1);
    return msrs.list->entries[0].data;
}

int set_msr(const Vcpu &vcpu, uint32_t index, uint64_t value)
{
    Msrs msrs{msr(index, value)};
    return call(vcpu, KVM_SET_MSRS, msrs.list);
}

std::vector<uint32_t> index_list(const Device &device, unsigned long request)
{
    kvm_msr_list none = {};
    EXPECT_ERRNO(call(device, request, &none), E2BIG);
    auto *list = static_cast<kvm_msr_list *>(calloc(1, sizeof(kvm_msr_list) + 4 * none.nmsrs));
    list->nmsrs = none.nmsrs;
    REQUIRE_OK(call(device, request, list));
    REQUIRE_EQ(list->nmsrs, none.nmsrs);
    std::vector<uint32_t> indices(list->indices, list->indices + list->nmsrs);
    free(list);
    return indices;
}

bool contains(const std::vector<uint32_t> &list, uint32_t index)
{
    for (uint32_t each : list)
        if (each == index)
            return true;
    return false;
}

template <class T>
T get(const Vcpu &vcpu, unsigned long request)
{
    static_assert(sizeof(T) <= 4096);
    T value;
    memset(static_cast<void *>(&value), 0xcc, sizeof(value));
    REQUIRE_OK(call(vcpu, request, &value));
    return value;
}

} // namespace

// ----- MSRs

TEST(msr_index_list)
{
    Device device;
    const std::vector<uint32_t> list = index_list(device, KVM_GET_MSR_INDEX_LIST);
    // What any client saves: SYSENTER, SYSCALL, TSC, PAT, MISC_ENABLE, kvmclock, TSC_ADJUST, MCG.
    for (uint32_t index : {0x174u, 0x175u, 0x176u, 0xc0000081u, 0xc0000082u, 0xc0000102u, 0x10u,
                           0x277u, 0x1a0u, 0x11u,  0x12u,       0x4b564d00u, 0x4b564d01u, 0x3bu,
                           0x6e0u, 0x17au, 0x17bu, 0x8bu,       0x10au,      0xceu,       0x3au})
        if (!contains(list, index))
            test::fail(__FILE__, __LINE__, "MSR 0x%x is not in the list", index);
    EXPECT_ERRNO(call(device, KVM_GET_MSR_INDEX_LIST, kUnmapped), EFAULT);
}

TEST(msr_index_list_can_be_read_and_written_back)
{
    // What a client saves it can restore: QEMU gives up otherwise.
    One o;
    for (uint32_t index : index_list(o.device, KVM_GET_MSR_INDEX_LIST)) {
        if (test::options.reference() && (index & 0xf0000000) == 0x40000000)
            continue; // Hyper-V's, and KVM's that need more
        Msrs msrs{msr(index)};
        if (call(o.vcpu, KVM_GET_MSRS, msrs.list) != 1) {
            if (!test::options.reference())
                test::fail(__FILE__, __LINE__, "MSR 0x%x can't be read", index);
            continue;
        }
        if (call(o.vcpu, KVM_SET_MSRS, msrs.list) != 1 && !test::options.reference())
            test::fail(__FILE__, __LINE__, "MSR 0x%x = 0x%llx can't be written back", index,
                       msrs.list->entries[0].data);
    }
}

TEST(msr_features)
{
    Device device;
    const std::vector<uint32_t> list = index_list(device, KVM_GET_MSR_FEATURE_INDEX_LIST);
    EXPECT(contains(list, 0x8b));
    EXPECT(contains(list, 0x10a));
    for (uint32_t index : list) {
        Msrs msrs{msr(index)};
        EXPECT_EQ(call(device, KVM_GET_MSRS, msrs.list), 1);
    }
    Msrs unknown{msr(0x8b), msr(0x10), msr(0x8b)};
    EXPECT_EQ(call(device, KVM_GET_MSRS, unknown.list), 1); // up to the first that is none
}

TEST(msrs_count_up_to_the_first_that_fails)
{
    One o;
    Msrs get{msr(0x174), msr(0xc0000082), msr(0xdeadbeef), msr(0x176)};
    EXPECT_EQ(call(o.vcpu, KVM_GET_MSRS, get.list), 2);
    Msrs set{msr(0x174, 0x10), msr(0xc0000082, 1ULL << 62), msr(0x176, 0x30)};
    EXPECT_EQ(call(o.vcpu, KVM_SET_MSRS, set.list), 1); // not canonical
    EXPECT_EQ(get_msr(o.vcpu, 0x174), 0x10);
    EXPECT_EQ(get_msr(o.vcpu, 0x176), 0);
}

TEST(msrs_limits)
{
    One o;
    Msrs msrs;
    EXPECT_EQ(call(o.vcpu, KVM_GET_MSRS, msrs.list), 0);
    msrs.list->nmsrs = 256;
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_MSRS, msrs.list), E2BIG);
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_MSRS, msrs.list), E2BIG);
    msrs.list->nmsrs = ~0u;
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_MSRS, msrs.list), E2BIG);
    EXPECT_ERRNO(call(o.device, KVM_GET_MSRS, msrs.list), E2BIG);
    for (uint32_t i = 0; i < 255; i++)
        msrs.list->entries[i].index = 0x174;
    msrs.list->nmsrs = 255;
    EXPECT_EQ(call(o.vcpu, KVM_GET_MSRS, msrs.list), 255);
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_MSRS, kUnmapped), EFAULT);
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_MSRS, kUnmapped), EFAULT);
}

TEST(msrs_as_the_client_writes_them)
{
    // What a guest may not: its microcode revision, the status of a machine-check bank, locked
    // feature control, features its CPUID lacks.
    One o;
    EXPECT_EQ(set_msr(o.vcpu, 0x8b, 0x1234500000000), 1);
    EXPECT_EQ(get_msr(o.vcpu, 0x8b), 0x1234500000000);
    EXPECT_EQ(set_msr(o.vcpu, 0x401, 0x8000000000000001), 1);
    EXPECT_EQ(get_msr(o.vcpu, 0x401), 0x8000000000000001);
    EXPECT_EQ(set_msr(o.vcpu, 0x3a, 1), 1);
    EXPECT_EQ(set_msr(o.vcpu, 0x3a, 0), 1);
    const uint64_t arch = get_msr(o.vcpu, 0x10a);
    EXPECT_EQ(set_msr(o.vcpu, 0x10a, arch), 1);
    EXPECT_EQ(set_msr(o.vcpu, 0x175, 1ULL << 62), 1); // made canonical
    EXPECT_EQ(get_msr(o.vcpu, 0x175), 0);
    EXPECT_EQ(set_msr(o.vcpu, 0xce, 0), 1);
    EXPECT_EQ(get_msr(o.vcpu, 0xce), 0);
    EXPECT_EQ(set_msr(o.vcpu, 0xc0000080, 0xd01), 1); // EFER; LMA stays as it is
    EXPECT_EQ(get_msr(o.vcpu, 0xc0000080), 0x901);
}

TEST(msrs_of_the_apic)
{
    One o;
    EXPECT_EQ(get_msr(o.vcpu, 0x1b), 0xfee00900);
    EXPECT_EQ(set_msr(o.vcpu, 0x1b, 0xfee00901), 0);
    EXPECT_EQ(set_msr(o.vcpu, 0x802, 0), 0); // no APIC in the kernel
}

// ----- FPU

TEST(xsave_round_trip)
{
    One o;
    auto area = get<kvm_xsave>(o.vcpu, KVM_GET_XSAVE);
    uint32_t *r = area.region;
    EXPECT_EQ(r[0] & 0xffff, 0x37f);
    EXPECT_EQ(r[6], 0x1f80);
    r[0] = 0x27f;
    r[6] = 0x9fc0;
    for (int i = 0; i < 64; i++)
        r[40 + i] = 0x01010101u * static_cast<uint32_t>(i + 1);
    r[128] |= 3; // XSTATE_BV
    REQUIRE_OK(call(o.vcpu, KVM_SET_XSAVE, &area));
    auto back = get<kvm_xsave>(o.vcpu, KVM_GET_XSAVE);
    EXPECT_EQ(back.region[0] & 0xffff, 0x27f);
    EXPECT_EQ(back.region[6], 0x9fc0);
    EXPECT(memcmp(&back.region[40], &r[40], 256) == 0);
    auto wide = get<kvm_xsave>(o.vcpu, KVM_GET_XSAVE2);
    EXPECT(memcmp(&wide, &back, sizeof(back)) == 0);
    auto fpu = get<kvm_fpu>(o.vcpu, KVM_GET_FPU);
    EXPECT_EQ(fpu.fcw, 0x27f);
    EXPECT(memcmp(fpu.xmm, &r[40], sizeof(fpu.xmm)) == 0);
}

TEST(xsave_bad_contents)
{
    One o;
    auto area = get<kvm_xsave>(o.vcpu, KVM_GET_XSAVE);
    const kvm_xsave good = area;
    area.region[129] = 0x80000000; // a component nobody has
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_XSAVE, &area), EINVAL);
    area = good;
    area.region[6] = 0xffffffff; // reserved bits of MXCSR
    area.region[128] |= 3;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_XSAVE, &area), EINVAL);
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_XSAVE, kUnmapped), EFAULT);
    EXPECT_ERRNO(call(o.vcpu, KVM_GET_XSAVE, kUnmapped), EFAULT);
    REQUIRE_OK(call(o.vcpu, KVM_SET_XSAVE, &good));
}

TEST(fpu_round_trip)
{
    One o;
    auto fpu = get<kvm_fpu>(o.vcpu, KVM_GET_FPU);
    fpu.fcw = 0x300;
    fpu.fsw = 0x1234 & ~0x80;
    fpu.last_opcode = 0x123;
    for (int i = 0; i < 8; i++)
        memset(fpu.fpr[i], i + 1, 10);
    for (int i = 0; i < 16; i++)
        memset(fpu.xmm[i], 0x40 + i, 16);
    REQUIRE_OK(call(o.vcpu, KVM_SET_FPU, &fpu));
    auto back = get<kvm_fpu>(o.vcpu, KVM_GET_FPU);
    EXPECT_EQ(back.fcw, fpu.fcw);
    EXPECT_EQ(back.fsw, fpu.fsw);
    for (int i = 0; i < 8; i++)
        EXPECT(memcmp(back.fpr[i], fpu.fpr[i], 10) == 0);
    EXPECT(memcmp(back.xmm, fpu.xmm, sizeof(fpu.xmm)) == 0);
}

TEST(set_fpu_keeps_the_rest)
{
    // KVM_SET_FPU before KVM_SET_CPUID2: what the guest can't have yet stays all the same.
    One o;
    Cpuid cpuid;
    Cpuid::supported(o.device, cpuid);
    const kvm_cpuid_entry2 *leaf = cpuid.find(0xd);
    if (!leaf || !(leaf->eax & 4))
        return; // no AVX
    auto area = get<kvm_xsave>(o.vcpu, KVM_GET_XSAVE);
    const uint32_t ymm = cpuid.find(0xd, 2)->ebx / 4;
    for (uint32_t i = 0; i < 64; i++)
        area.region[ymm + i] = 0x5a000000 + i;
    area.region[128] |= 7; // XSTATE_BV
    REQUIRE_OK(call(o.vcpu, KVM_SET_XSAVE, &area));
    auto fpu = get<kvm_fpu>(o.vcpu, KVM_GET_FPU);
    REQUIRE_OK(call(o.vcpu, KVM_SET_FPU, &fpu));
    REQUIRE_OK(call(o.vcpu, KVM_SET_CPUID2, cpuid.list));
    auto back = get<kvm_xsave>(o.vcpu, KVM_GET_XSAVE);
    EXPECT_EQ(back.region[128] & 4, 4);
    EXPECT(memcmp(&back.region[ymm], &area.region[ymm], 256) == 0);
}

TEST(xcrs)
{
    One o;
    auto xcrs = get<kvm_xcrs>(o.vcpu, KVM_GET_XCRS);
    if (!o.device.extension(KVM_CAP_XCRS)) {
        EXPECT_EQ(xcrs.nr_xcrs, 0);
        EXPECT_ERRNO(call(o.vcpu, KVM_SET_XCRS, &xcrs), EINVAL);
        return;
    }
    EXPECT_EQ(xcrs.nr_xcrs, 1);
    EXPECT_EQ(xcrs.xcrs[0].value, 1);
    xcrs.xcrs[0].value = 3;
    REQUIRE_OK(call(o.vcpu, KVM_SET_XCRS, &xcrs));
    EXPECT_EQ(get<kvm_xcrs>(o.vcpu, KVM_GET_XCRS).xcrs[0].value, 3);
    for (uint64_t bad : {0ULL, 2ULL, 5ULL, 1ULL << 62, ~0ULL}) {
        xcrs.xcrs[0].value = bad;
        EXPECT_ERRNO(call(o.vcpu, KVM_SET_XCRS, &xcrs), EINVAL);
    }
    xcrs.xcrs[0].value = 1;
    xcrs.nr_xcrs = 17;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_XCRS, &xcrs), EINVAL);
    xcrs.nr_xcrs = 1;
    xcrs.flags = 1;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_XCRS, &xcrs), EINVAL);
    EXPECT_EQ(get<kvm_xcrs>(o.vcpu, KVM_GET_XCRS).xcrs[0].value, 3);
}

// ----- Events and debug registers

TEST(debugregs)
{
    One o;
    auto regs = get<kvm_debugregs>(o.vcpu, KVM_GET_DEBUGREGS);
    EXPECT_EQ(regs.dr6, 0xffff0ff0);
    EXPECT_EQ(regs.dr7, 0x400);
    EXPECT_EQ(regs.flags, 0);
    for (int i = 0; i < 4; i++)
        regs.db[i] = 0x1000 * static_cast<uint64_t>(i + 1);
    regs.dr6 = 0xffff4ff1;
    regs.dr7 = 0x401;
    REQUIRE_OK(call(o.vcpu, KVM_SET_DEBUGREGS, &regs));
    auto back = get<kvm_debugregs>(o.vcpu, KVM_GET_DEBUGREGS);
    EXPECT(memcmp(&back, &regs, sizeof(regs)) == 0);
    regs.flags = 1;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_DEBUGREGS, &regs), EINVAL);
    regs.flags = 0;
    regs.dr6 |= 1ULL << 32;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_DEBUGREGS, &regs), EINVAL);
    regs.dr6 = 0xffff0ff0;
    regs.dr7 |= 1ULL << 63;
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_DEBUGREGS, &regs), EINVAL);
}

TEST(vcpu_events)
{
    One o;
    auto events = get<kvm_vcpu_events>(o.vcpu, KVM_GET_VCPU_EVENTS);
    EXPECT_EQ(events.exception.injected | events.interrupt.injected | events.nmi.injected |
                  events.nmi.pending | events.nmi.masked | events.interrupt.shadow,
              0);
    const uint32_t expected = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    EXPECT_EQ(events.flags & expected, expected);
    events.exception.injected = 1;
    events.exception.nr = 14;
    events.exception.has_error_code = 1;
    events.exception.error_code = 2;
    events.interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS;
    events.nmi.masked = 1;
    events.nmi.pending = 1;
    REQUIRE_OK(call(o.vcpu, KVM_SET_VCPU_EVENTS, &events));
    auto back = get<kvm_vcpu_events>(o.vcpu, KVM_GET_VCPU_EVENTS);
    EXPECT_EQ(back.exception.injected, 1);
    EXPECT_EQ(back.exception.nr, 14);
    EXPECT_EQ(back.exception.error_code, 2);
    EXPECT_EQ(back.interrupt.shadow, KVM_X86_SHADOW_INT_MOV_SS);
    EXPECT_EQ(back.nmi.masked, 1);
    EXPECT_EQ(back.nmi.pending, 1);
    for (int nr : {2, 32, 255}) {
        events.exception.nr = static_cast<uint8_t>(nr);
        EXPECT_ERRNO(call(o.vcpu, KVM_SET_VCPU_EVENTS, &events), EINVAL);
    }
    events.exception.nr = 14;
    for (uint32_t bit : {0x20u, 0x40u, 0x80000000u}) { // triple fault is not enabled
        events.flags = bit;
        EXPECT_ERRNO(call(o.vcpu, KVM_SET_VCPU_EVENTS, &events), EINVAL);
    }
    events.flags = KVM_VCPUEVENT_VALID_PAYLOAD; // nor are payloads
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_VCPU_EVENTS, &events), EINVAL);
}

TEST(vcpu_events_with_payload)
{
    One o;
    REQUIRE_OK(o.vm.enable_cap(KVM_CAP_EXCEPTION_PAYLOAD, 1));
    auto events = get<kvm_vcpu_events>(o.vcpu, KVM_GET_VCPU_EVENTS);
    EXPECT(events.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
    events.exception.pending = 1;
    events.exception.nr = 1;
    events.exception_has_payload = 1;
    events.exception_payload = 0x4000;
    REQUIRE_OK(call(o.vcpu, KVM_SET_VCPU_EVENTS, &events));
    auto back = get<kvm_vcpu_events>(o.vcpu, KVM_GET_VCPU_EVENTS);
    EXPECT_EQ(back.exception.pending, 1);
    EXPECT_EQ(back.exception.injected, 0);
    EXPECT_EQ(back.exception_has_payload, 1);
    EXPECT_EQ(back.exception_payload, 0x4000);
}

// ----- Registers

TEST(sregs2)
{
    Device device;
    guest::Guest g(device, Mode::kPae, BLOB(hlt_forever));
    auto s = get<kvm_sregs2>(g.vcpu, KVM_GET_SREGS2);
    EXPECT_EQ(s.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
    EXPECT_EQ(s.pdptrs[0], (G_TABLES + 0x1000) | 1);
    s.pdptrs[1] = 0x5001;
    REQUIRE_OK(call(g.vcpu, KVM_SET_SREGS2, &s));
    EXPECT_EQ(get<kvm_sregs2>(g.vcpu, KVM_GET_SREGS2).pdptrs[1], 0x5001);
    kvm_sregs old = g.vcpu.sregs();
    EXPECT_EQ(old.cr3, s.cr3);
    s.flags = 2;
    EXPECT_ERRNO(call(g.vcpu, KVM_SET_SREGS2, &s), EINVAL);
    guest::Guest flat(device, Mode::kLong, BLOB(hlt_forever));
    s = get<kvm_sregs2>(flat.vcpu, KVM_GET_SREGS2);
    EXPECT_EQ(s.flags, 0);
    s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID; // there are none in long mode
    EXPECT_ERRNO(call(flat.vcpu, KVM_SET_SREGS2, &s), EINVAL);
}

TEST(translate)
{
    Device device;
    guest::Guest g(device, Mode::kLong, BLOB(hlt_forever));
    g.set_entry(0x100000, 0x123000 | kPresent | kWrite);
    g.set_entry(0x101000, 0);
    kvm_translation t = {};
    t.linear_address = 0x100456;
    REQUIRE_OK(call(g.vcpu, KVM_TRANSLATE, &t));
    EXPECT_EQ(t.valid, 1);
    EXPECT_EQ(t.physical_address, 0x123456);
    t.linear_address = 0x101456;
    REQUIRE_OK(call(g.vcpu, KVM_TRANSLATE, &t));
    EXPECT_EQ(t.valid, 0);
    EXPECT_EQ(t.physical_address, ~0ULL);
}

TEST(set_cpuid_without_subleaves)
{
    Device device;
    Vm vm(device);
    Vcpu vcpu(device, vm);
    struct {
        uint32_t nent, padding;
        kvm_cpuid_entry entries[2];
    } old = {2, 0, {}};
    old.entries[1].function = 1;
    old.entries[1].eax = 0x123;
    REQUIRE_OK(call(vcpu, KVM_SET_CPUID, &old));
    Cpuid back;
    REQUIRE_OK(call(vcpu, KVM_GET_CPUID2, back.list));
    if (!test::options.reference()) // 6.1's leaves it alone
        EXPECT_EQ(back.list->nent, 2);
    EXPECT_EQ(back.find(1)->eax, 0x123);
    old.nent = 257;
    EXPECT_ERRNO(call(vcpu, KVM_SET_CPUID, &old), E2BIG);
}

TEST(emulated_cpuid)
{
    Device device;
    Cpuid list;
    REQUIRE_OK(call(device, KVM_GET_EMULATED_CPUID, list.list));
    EXPECT(list.list->nent >= 1);
    list.list->nent = 0;
    EXPECT_ERRNO(call(device, KVM_GET_EMULATED_CPUID, list.list), E2BIG);
    // Unlike its siblings it looks at what the client left in the padding of all entries.
    list.list->nent = 0xffffffff;
    REQUIRE_OK(call(device, KVM_GET_EMULATED_CPUID, list.list));
    list.list->nent = Cpuid::kRoom;
    list.list->entries[Cpuid::kRoom - 1].padding[2] = 1;
    EXPECT_ERRNO(call(device, KVM_GET_EMULATED_CPUID, list.list), EINVAL);
    list.list->nent = Cpuid::kRoom - 1;
    REQUIRE_OK(call(device, KVM_GET_EMULATED_CPUID, list.list));
}

// ----- Machine checks

TEST(machine_check)
{
    One o;
    uint64_t supported = 0;
    REQUIRE_OK(call(o.device, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported));
    EXPECT_EQ(o.device.extension(KVM_CAP_MCE), 32);
    uint64_t cap = 10 | (supported & (1 << 8 | 1 << 24));
    REQUIRE_OK(call(o.vcpu, KVM_X86_SETUP_MCE, &cap));
    EXPECT_EQ(get_msr(o.vcpu, 0x179), cap);
    EXPECT_EQ(get_msr(o.vcpu, 0x17b), ~0ULL);
    EXPECT_EQ(get_msr(o.vcpu, 0x400), ~0ULL);
    EXPECT_EQ(set_msr(o.vcpu, 0x400 + 4 * 10, 0), 0); // behind the last bank
    kvm_x86_mce mce = {};
    mce.bank = 9;
    mce.status = 0x8000000000000001; // a corrected error
    mce.addr = 0x1234;
    REQUIRE_OK(call(o.vcpu, KVM_X86_SET_MCE, &mce));
    EXPECT_EQ(get_msr(o.vcpu, 0x400 + 9 * 4 + 1), mce.status);
    EXPECT_EQ(get_msr(o.vcpu, 0x400 + 9 * 4 + 2), 0x1234);
    mce.bank = 10;
    EXPECT_ERRNO(call(o.vcpu, KVM_X86_SET_MCE, &mce), EINVAL);
    mce.bank = 0;
    mce.status = 1;
    EXPECT_ERRNO(call(o.vcpu, KVM_X86_SET_MCE, &mce), EINVAL);
    for (uint64_t bad : {0ULL, 33ULL, 1ULL << 63 | 10, 1ULL << 9 | 10}) {
        cap = bad;
        EXPECT_ERRNO(call(o.vcpu, KVM_X86_SETUP_MCE, &cap), EINVAL);
    }
}

// ----- Time

TEST(tsc_khz)
{
    One o;
    const int khz = call(o.vcpu, KVM_GET_TSC_KHZ);
    EXPECT(khz > 0);
    EXPECT_EQ(call(o.vcpu, KVM_SET_TSC_KHZ, long{khz}), 0);
    EXPECT_EQ(call(o.vcpu, KVM_SET_TSC_KHZ, 0L), 0);
    EXPECT_EQ(call(o.vcpu, KVM_GET_TSC_KHZ), khz);
    EXPECT_EQ(call(o.vm, KVM_GET_TSC_KHZ), khz);
    // Half the rate takes hardware.
    const int half = call(o.vcpu, KVM_SET_TSC_KHZ, long{khz / 2});
    EXPECT_EQ(half, o.device.extension(KVM_CAP_TSC_CONTROL) ? 0 : -1);
    if (half == 0)
        EXPECT_EQ(call(o.vcpu, KVM_GET_TSC_KHZ), khz / 2);
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_TSC_KHZ, 1L),
                 o.device.extension(KVM_CAP_TSC_CONTROL) ? 0 : EINVAL);
}

TEST(clock)
{
    One o;
    kvm_clock_data data = {};
    EXPECT(o.device.extension(KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_TSC_STABLE);
    REQUIRE_OK(call(o.vm, KVM_GET_CLOCK, &data));
    EXPECT(data.clock < 60'000'000'000);
    kvm_clock_data set = {};
    set.clock = 1'000'000'000'000;
    REQUIRE_OK(call(o.vm, KVM_SET_CLOCK, &set));
    REQUIRE_OK(call(o.vm, KVM_GET_CLOCK, &data));
    EXPECT(data.clock >= set.clock);
    EXPECT(data.clock < set.clock + 20'000'000'000);
    REQUIRE_OK(call(o.vm, KVM_SET_CLOCK, &data)); // what GET gives SET takes
    set.flags = 1;
    EXPECT_ERRNO(call(o.vm, KVM_SET_CLOCK, &set), EINVAL);
    EXPECT_ERRNO(call(o.vm, KVM_SET_CLOCK, kUnmapped), EFAULT);
    EXPECT_ERRNO(call(o.vcpu, KVM_KVMCLOCK_CTRL), EINVAL); // the guest has no clock yet
}

TEST(tsc_of_several_vcpus)
{
    // A client that sets each vCPU's TSC to the same value gets TSCs that agree.
    One o;
    Vcpu second(o.device, o.vm, 1);
    EXPECT_EQ(set_msr(o.vcpu, 0x10, 1'000'000'000'000), 1);
    usleep(1000);
    EXPECT_EQ(set_msr(second, 0x10, 1'000'000'000'000), 1);
    const uint64_t a = get_msr(o.vcpu, 0x10), b = get_msr(second, 0x10), c = get_msr(o.vcpu, 0x10);
    if (test::options.reference())
        return; // KVM can't promise it where it holds the host's TSC for unstable
    EXPECT(a <= b);
    EXPECT(b <= c);
    EXPECT(a >= 1'000'000'000'000);
}

// ----- MSR filters

TEST(msr_filter_arguments)
{
    One o;
    uint8_t bits[0x800] = {};
    kvm_msr_filter filter = {};
    REQUIRE_OK(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter)); // allows everything
    filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
    EXPECT_ERRNO(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter), EINVAL); // without a range
    filter.flags = 2;
    EXPECT_ERRNO(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter), EINVAL);
    filter.flags = 0;
    filter.ranges[3].nmsrs = 8;
    filter.ranges[3].base = 0x10;
    filter.ranges[3].bitmap = bits;
    EXPECT_ERRNO(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter), EINVAL); // neither read nor write
    filter.ranges[3].flags = 4;
    EXPECT_ERRNO(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter), EINVAL);
    filter.ranges[3].flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
    REQUIRE_OK(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter));
    filter.ranges[3].nmsrs = 0x600 * 8;
    REQUIRE_OK(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter));
    filter.ranges[3].nmsrs = 0x600 * 8 + 1;
    EXPECT_ERRNO(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter), EINVAL);
    filter.ranges[3].nmsrs = 0xffffffff;
    EXPECT_ERRNO(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter), EINVAL);
    filter.ranges[3].nmsrs = 8;
    filter.ranges[3].bitmap = static_cast<uint8_t *>(kUnmapped);
    EXPECT_ERRNO(call(o.vm, KVM_X86_SET_MSR_FILTER, &filter), EFAULT);
    EXPECT_ERRNO(o.vm.enable_cap(KVM_CAP_X86_USER_SPACE_MSR, 8), EINVAL);
}

TEST(guest_debug_arguments)
{
    One o;
    kvm_guest_debug debug = {};
    REQUIRE_OK(call(o.vcpu, KVM_SET_GUEST_DEBUG, &debug));
    debug.control = KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_ENABLE;
    REQUIRE_OK(call(o.vcpu, KVM_SET_GUEST_DEBUG, &debug));
    EXPECT_ERRNO(call(o.vcpu, KVM_SET_GUEST_DEBUG, &debug), EBUSY); // one waits already
}
