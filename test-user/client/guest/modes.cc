// SPDX-License-Identifier: GPL-2.0-only
//
// Each mode of the CPU, entered by userspace and by the guest itself.
#include "guest_test.hpp"

DECLARE_GUEST(walk);
DECLARE_GUEST(reset_jump);

TEST(mode_each)
{
    // A store, a load, a call and an exit in each mode.
    Blob code16 = CODE(
        16, "mov eax, 0x600d; push eax; call 1f; pop eax; inc eax; out 0x10, eax; hlt; 1: ret");
    Blob code64 = CODE(
        64, "mov eax, 0x600d; push rax; call 1f; pop rax; inc eax; out 0x10, eax; hlt; 1: ret");
    Blob code32 = CODE(
        32, "mov eax, 0x600d; push eax; call 1f; pop eax; inc eax; out 0x10, eax; hlt; 1: ret");
    Codes codes = {code16, code32, code64};
    Device device;
    for (Mode mode : kAllModes) {
        Guest g(device, mode, codes.in(mode));
        EXPECT_REPORT(g.vcpu, 0x600e);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        fails_in(guest::name(mode));
    }
}

TEST(mode_reset_vector)
{
    // A vCPU nobody has touched starts at 0xfffffff0 in real mode, with CS based at 0xffff0000.
    Device device;
    Vm vm(device);
    Memory low(0x20000), rom(kPage);
    memcpy(rom.base + 0xff0, guest_reset_jump, guest_reset_jump_end - guest_reset_jump);
    Blob code = CODE(
        16,
        "mov ax, cs; out 0x10, ax; mov eax, edx; out 0x10, eax; mov eax, cr0; out 0x10, eax; hlt");
    memcpy(low.base + G_CODE, code.begin, code.size());
    REQUIRE_OK(vm.set_slot(0, 0, low.size, low.base));
    REQUIRE_OK(vm.set_slot(1, 0xfffff000, kPage, rom.base));
    Vcpu vcpu(device, vm);
    EXPECT_OUT(vcpu, PORT_OUT, 2, 0);
    EXPECT_OUT(vcpu, PORT_OUT, 4, 0x600);
    EXPECT_OUT(vcpu, PORT_OUT, 4, 0x60000010);
    ENTER(vcpu, KVM_EXIT_HLT);
    kvm_sregs s = vcpu.sregs();
    EXPECT_EQ(s.cs.base, 0);
    EXPECT_EQ(s.cs.selector, 0);
    EXPECT_EQ(s.cs.limit, 0xffff);
}

TEST(mode_reset_vector_call_into_rom)
{
    // Until CS is loaded, code runs near the top of 4 GiB.
    Device device;
    Vm vm(device);
    Memory rom(0x10000);
    Blob code = CODE(16, "mov ax, cs; out 0x10, ax; hlt");
    memcpy(rom.base + 0xfff0, code.begin, code.size());
    REQUIRE_OK(vm.set_slot(1, 0xffff0000, rom.size, rom.base));
    Vcpu vcpu(device, vm);
    EXPECT_OUT(vcpu, PORT_OUT, 2, 0xf000);
    ENTER(vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(vcpu.sregs().cs.base, 0xffff0000);
    EXPECT_EQ(vcpu.regs().rip, 0xfff0 + code.size());
}

namespace {

constexpr uint64_t kWalkPaged = 0x100000, kWalkPae = 0x110000, kWalkLong = 0x120000;

// Identity maps of the first MiB(s) by large pages, one set a paging mode.
void write_walk_tables(Guest &g)
{
    Memory &m = g.memory;
    m.at<uint32_t>(kWalkPaged) = 0x83;
    // PAE: the PDPT at +0 maps the first GiB; the one at +0x20 maps the same memory at 0 and at 1
    // GiB.
    m.at<uint64_t>(kWalkPae) = (kWalkPae + 0x1000) | 1;
    m.at<uint64_t>(kWalkPae + 0x20) = (kWalkPae + 0x1000) | 1;
    m.at<uint64_t>(kWalkPae + 0x28) = (kWalkPae + 0x1000) | 1;
    m.at<uint64_t>(kWalkPae + 0x1000) = 0x83;
    m.at<uint64_t>(kWalkLong) = (kWalkLong + 0x1000) | 3;
    m.at<uint64_t>(kWalkLong + 0x1000) = (kWalkLong + 0x2000) | 3;
    m.at<uint64_t>(kWalkLong + 0x2000) = 0x83;
}

} // namespace

TEST(mode_walk)
{
    Device device;
    Guest g(device, Mode::kReal, BLOB(walk));
    write_walk_tables(g);
    for (uint32_t value :
         {0x16u, 0x32u, 0x3210u, static_cast<uint32_t>(kWalkPaged), 0x36u, 0x20u, 0x12345678u,
          0x500u, 0x64u, 0x12345678u, 0x6432u, 0x100u, 0x1616u, 0x1617u})
        EXPECT_REPORT(g.vcpu, value);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 0x21, 0, g.log(0).rip);
    kvm_sregs s = g.vcpu.sregs();
    EXPECT_EQ(s.cr0 & 0x80000001, 0);
    EXPECT_EQ(s.efer, 0);
    EXPECT_EQ(s.cs.selector, 0);
    EXPECT_EQ(s.cs.base, 0);
}

TEST(mode_seen_by_userspace)
{
    // GET_SREGS during the walk shows the mode the guest is in.
    Device device;
    Guest g(device, Mode::kReal, BLOB(walk));
    write_walk_tables(g);
    struct {
        uint32_t report;
        uint64_t cr0, cr4, efer;
        uint8_t db, l;
    } steps[] = {
        {0x16, 0x60000010, 0, 0, 0, 0},          {0x32, 0x60000011, 0, 0, 1, 0},
        {0x3210, 0xe0000011, 0x10, 0, 1, 0},     {kWalkPaged, 0xe0000011, 0x10, 0, 1, 0},
        {0x36, 0xe0000011, 0x20, 0, 1, 0},       {0x20, 0xe0000011, 0x20, 0, 1, 0},
        {0x12345678, 0xe0000011, 0x20, 0, 1, 0}, {0x500, 0xe0000011, 0x20, 0x500, 1, 0},
        {0x64, 0xe0000011, 0x20, 0x500, 0, 1},   {0x12345678, 0xe0000011, 0x20, 0x500, 0, 1},
        {0x6432, 0xe0000011, 0x20, 0x500, 1, 0}, {0x100, 0x60000011, 0x20, 0x100, 1, 0},
    };
    for (const auto &step : steps) {
        EXPECT_REPORT(g.vcpu, step.report);
        kvm_sregs s = g.vcpu.sregs();
        EXPECT_EQ(s.cr0, step.cr0);
        EXPECT_EQ(s.cr4, step.cr4);
        EXPECT_EQ(s.efer, step.efer);
        EXPECT_EQ(s.cs.db, step.db);
        EXPECT_EQ(s.cs.l, step.l);
        char where[32];
        snprintf(where, sizeof(where), "step 0x%x", step.report);
        fails_in(where);
    }
}

TEST(mode_switched_by_userspace)
{
    // SET_SREGS may put the same vCPU into any mode at any time.
    Device device;
    Guest real(device, Mode::kReal, CODE(16, "hlt"));
    kvm_sregs reset = real.vcpu.sregs();
    constexpr Mode kOrder[] = {Mode::kLong, Mode::kReal,  Mode::kPae,  Mode::kProtected,
                               Mode::kLong, Mode::kPaged, Mode::kReal, Mode::kProtected};
    for (Mode mode : kOrder) {
        Guest other(device, mode, CODE(16, "hlt")); // for its tables
        memcpy(real.memory.base, other.memory.base, G_SIZE);
        kvm_sregs s = reset;
        other.make_sregs(s);
        real.vcpu.set(s);
        real.mode = mode;
        Blob code = CODES("mov eax, 77; out 0x10, eax; hlt").in(mode);
        kvm_regs r = fresh_regs();
        start(real, code, r);
        EXPECT_REPORT(real.vcpu, 77);
        ENTER(real.vcpu, KVM_EXIT_HLT);
        fails_in(guest::name(mode));
    }
}

TEST(mode_halt_and_go_on)
{
    // Without an interrupt controller in the kernel HLT goes to userspace; running again goes on
    // behind it.
    Device device;
    for (Mode mode : kAllModes) {
        Guest g(device, mode, CODES("hlt; hlt; mov eax, 5; out 0x10, eax; hlt").in(mode));
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 1);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 2);
        EXPECT_REPORT(g.vcpu, 5);
        ENTER(g.vcpu, KVM_EXIT_HLT);
    }
}

TEST(mode_triple_fault)
{
    Device device;
    for (Mode mode : {Mode::kProtected, Mode::kPaged, Mode::kPae, Mode::kLong}) {
        Guest g(device, mode, CODES("ud2").in(mode));
        kvm_sregs s = g.vcpu.sregs();
        s.idt.limit = 0;
        g.vcpu.set(s);
        ENTER(g.vcpu, KVM_EXIT_SHUTDOWN);
        // Shut down again if it is run again, and healthy once it is set up anew.
        ENTER(g.vcpu, KVM_EXIT_SHUTDOWN);
        s.idt.limit = 0xfff;
        g.vcpu.set(s);
        start(g, CODES("hlt").in(mode));
        ENTER(g.vcpu, KVM_EXIT_HLT);
        fails_in(guest::name(mode));
    }
}
