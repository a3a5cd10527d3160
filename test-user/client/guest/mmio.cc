// SPDX-License-Identifier: GPL-2.0-only
//
// MMIO: reads and writes of unbacked addresses by the plain MOV forms, MOVZX and MOVSX.
#include "guest_test.hpp"

namespace {

// The registers every row starts with.
constexpr uint64_t kRax = 0x1122334455667788, kR9 = 0x99aabbccddeeff01, kRsi = 0x5152535455565758;

kvm_regs row_regs()
{
    kvm_regs r = fresh_regs();
    r.rax = kRax;
    r.rbx = r.rbp = r.r12 = r.r13 = G_MMIO;
    r.rcx = 3;
    r.rdx = 0xd0d1d2d3d4d5d6d7;
    r.rsi = kRsi;
    r.r9 = kR9;
    r.r15 = 5;
    return r;
}

struct WriteRow {
    Blob code;
    uint64_t offset;
    unsigned length;
    uint64_t value;
};

struct ReadRow {
    Blob code;
    uint64_t offset;
    unsigned length;
    __u64 kvm_regs::*target;
    uint64_t value; // of the register, afterwards
};

constexpr uint64_t kGiven = 0xf1e2d3c4b5a69788; // what a read finds

void run_write(Guest &g, const WriteRow &row, int index, const kvm_regs &regs,
               uint64_t base = G_MMIO)
{
    start(g, row.code, regs);
    EXPECT_MMIO_WRITE(g.vcpu, base + row.offset, row.length, row.value);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs after = g.vcpu.regs(), expected = regs;
    expected.rip = G_CODE + row.code.size();
    EXPECT(memcmp(&after, &expected, sizeof(after)) == 0);
    char where[32];
    snprintf(where, sizeof(where), "write row %d", index);
    fails_in(where);
}

void run_read(Guest &g, const ReadRow &row, int index, const kvm_regs &regs, uint64_t base = G_MMIO)
{
    start(g, row.code, regs);
    EXPECT_MMIO_READ(g.vcpu, base + row.offset, row.length, kGiven);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    kvm_regs after = g.vcpu.regs(), expected = regs;
    expected.rip = G_CODE + row.code.size();
    expected.*row.target = row.value;
    EXPECT_EQ(after.*row.target, row.value);
    EXPECT(memcmp(&after, &expected, sizeof(after)) == 0);
    char where[32];
    snprintf(where, sizeof(where), "read row %d", index);
    fails_in(where);
}

} // namespace

TEST(mmio_write_operands)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    const WriteRow rows[] = {
        {CODE(64, "mov [rbx], al; hlt"), 0, 1, kRax},
        {CODE(64, "mov [rbx], ah; hlt"), 0, 1, 0x77},
        {CODE(64, "mov [rbx], ax; hlt"), 0, 2, kRax},
        {CODE(64, "mov [rbx], eax; hlt"), 0, 4, kRax},
        {CODE(64, "mov [rbx], rax; hlt"), 0, 8, kRax},
        {CODE(64, "mov [rbx], sil; hlt"), 0, 1, kRsi},
        {CODE(64, "mov [rbx], r9b; hlt"), 0, 1, kR9},
        {CODE(64, "mov [rbx], r9w; hlt"), 0, 2, kR9},
        {CODE(64, "mov [rbx], r9d; hlt"), 0, 4, kR9},
        {CODE(64, "mov [rbx], r9; hlt"), 0, 8, kR9},
        {CODE(64, "mov byte ptr [rbx], 0x5a; hlt"), 0, 1, 0x5a},
        {CODE(64, "mov word ptr [rbx], 0x5aa5; hlt"), 0, 2, 0x5aa5},
        {CODE(64, "mov dword ptr [rbx], 0x5aa5c33c; hlt"), 0, 4, 0x5aa5c33c},
        {CODE(64, "mov qword ptr [rbx], -2; hlt"), 0, 8, 0xfffffffffffffffe},
        {CODE(64, "movabs [0xd0000000], al; hlt"), 0, 1, kRax},
        {CODE(64, "movabs [0xd0000008], ax; hlt"), 8, 2, kRax},
        {CODE(64, "movabs [0xd0000008], eax; hlt"), 8, 4, kRax},
        {CODE(64, "movabs [0xd0000008], rax; hlt"), 8, 8, kRax},
    };
    int index = 0;
    for (const WriteRow &row : rows)
        run_write(g, row, index++, row_regs());
}

TEST(mmio_write_addressing)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    g.set_entry(0x180000, G_MMIO | 3); // another way to the same page, within reach of RIP
    const WriteRow rows[] = {
        {CODE(64, "mov [rbx + 0x10], eax; hlt"), 0x10, 4, kRax},
        {CODE(64, "mov [rbx - 0x10 + 0x1000], eax; hlt"), 0xff0, 4, kRax},
        {CODE(64, "mov [rbx + 0x12345], eax; hlt"), 0x12345, 4, kRax},
        {CODE(64, "mov [rbx + rcx], eax; hlt"), 3, 4, kRax},
        {CODE(64, "mov [rbx + rcx * 2], eax; hlt"), 6, 4, kRax},
        {CODE(64, "mov [rbx + rcx * 4], eax; hlt"), 12, 4, kRax},
        {CODE(64, "mov [rbx + rcx * 8 + 0x20], eax; hlt"), 0x38, 4, kRax},
        {CODE(64, "mov [rbx + r15 * 8 + 0x2000], eax; hlt"), 0x2028, 4, kRax},
        {CODE(64, "mov [rcx + rbx], eax; hlt"), 3, 4, kRax},
        {CODE(64, "mov [rbp], eax; hlt"), 0, 4, kRax},
        {CODE(64, "mov [r12], eax; hlt"), 0, 4, kRax},
        {CODE(64, "mov [r13], eax; hlt"), 0, 4, kRax},
        {CODE(64, "mov [r13 + rcx], eax; hlt"), 3, 4, kRax},
        {CODE(64, "mov [r12 + 0x40], r9; hlt"), 0x40, 8, kR9},
        {CODE(64, "mov [ebx], eax; hlt"), 0, 4, kRax},
        {CODE(64, "mov [ebx + ecx * 4 + 4], eax; hlt"), 16, 4, kRax},
        {CODE(64, "mov [rip + 0x180000 - 0xa000 - 6], eax; hlt"), 0, 4, kRax},
        {CODE(64, "mov dword ptr [rip + 0x180004 - 0xa000 - 10], 0x11223344; hlt"), 4, 4,
         0x11223344},
        {CODE(64, "mov [0x180008], eax; hlt"), 8, 4, kRax},
        {CODE(64, "mov [rcx * 8 + 0x180000], eax; hlt"), 24, 4, kRax},
    };
    int index = 0;
    for (const WriteRow &row : rows)
        run_write(g, row, index++, row_regs());
    // The stack pointer as a base; nothing is pushed.
    kvm_regs r = row_regs();
    r.rsp = G_MMIO + 0x100;
    run_write(g, {CODE(64, "mov [rsp + 8], eax; hlt"), 0x108, 4, kRax}, 100, r);
    // FS and GS have bases in 64-bit mode, ES has none.
    kvm_sregs s = g.vcpu.sregs();
    s.fs.base = 0x1000;
    s.gs.base = 0xffffffffffffff00;
    s.es.base = 0x5000;
    g.vcpu.set(s);
    run_write(g, {CODE(64, "mov fs:[rbx], eax; hlt"), 0x1000, 4, kRax}, 101, row_regs());
    run_write(g, {CODE(64, "mov gs:[rbx + 0x200], eax; hlt"), 0x100, 4, kRax}, 102, row_regs());
    run_write(g, {CODE(64, "mov es:[rbx], eax; hlt"), 0, 4, kRax}, 103, row_regs());
}

TEST(mmio_read_operands)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    using R = kvm_regs;
    const ReadRow rows[] = {
        {CODE(64, "mov al, [rbx]; hlt"), 0, 1, &R::rax, 0x1122334455667788},
        {CODE(64, "mov dl, [rbx]; hlt"), 0, 1, &R::rdx, 0xd0d1d2d3d4d5d688},
        {CODE(64, "mov ah, [rbx]; hlt"), 0, 1, &R::rax, 0x1122334455668888},
        {CODE(64, "mov ax, [rbx]; hlt"), 0, 2, &R::rax, 0x1122334455669788},
        {CODE(64, "mov eax, [rbx]; hlt"), 0, 4, &R::rax, 0xb5a69788},
        {CODE(64, "mov rax, [rbx]; hlt"), 0, 8, &R::rax, kGiven},
        {CODE(64, "mov sil, [rbx + 1]; hlt"), 1, 1, &R::rsi, 0x5152535455565788},
        {CODE(64, "mov r9b, [rbx]; hlt"), 0, 1, &R::r9, 0x99aabbccddeeff88},
        {CODE(64, "mov r9w, [rbx]; hlt"), 0, 2, &R::r9, 0x99aabbccddee9788},
        {CODE(64, "mov r9d, [rbx]; hlt"), 0, 4, &R::r9, 0xb5a69788},
        {CODE(64, "mov r9, [rbx + rcx * 8 + 0x1000]; hlt"), 0x1018, 8, &R::r9, kGiven},
        {CODE(64, "mov rbx, [rbx]; hlt"), 0, 8, &R::rbx, kGiven},
        {CODE(64, "movabs al, [0xd0000000]; hlt"), 0, 1, &R::rax, 0x1122334455667788},
        {CODE(64, "movabs ax, [0xd0000010]; hlt"), 0x10, 2, &R::rax, 0x1122334455669788},
        {CODE(64, "movabs eax, [0xd0000010]; hlt"), 0x10, 4, &R::rax, 0xb5a69788},
        {CODE(64, "movabs rax, [0xd0000010]; hlt"), 0x10, 8, &R::rax, kGiven},
        {CODE(64, "movzx ax, byte ptr [rbx]; hlt"), 0, 1, &R::rax, 0x1122334455660088},
        {CODE(64, "movzx eax, byte ptr [rbx]; hlt"), 0, 1, &R::rax, 0x88},
        {CODE(64, "movzx r9, byte ptr [rbx]; hlt"), 0, 1, &R::r9, 0x88},
        {CODE(64, "movzx eax, word ptr [rbx]; hlt"), 0, 2, &R::rax, 0x9788},
        {CODE(64, "movzx r9, word ptr [rbx]; hlt"), 0, 2, &R::r9, 0x9788},
        {CODE(64, "movsx ax, byte ptr [rbx]; hlt"), 0, 1, &R::rax, 0x112233445566ff88},
        {CODE(64, "movsx eax, byte ptr [rbx]; hlt"), 0, 1, &R::rax, 0xffffff88},
        {CODE(64, "movsx r9, byte ptr [rbx]; hlt"), 0, 1, &R::r9, 0xffffffffffffff88},
        {CODE(64, "movsx eax, word ptr [rbx]; hlt"), 0, 2, &R::rax, 0xffff9788},
        {CODE(64, "movsx r9, word ptr [rbx]; hlt"), 0, 2, &R::r9, 0xffffffffffff9788},
        {CODE(64, "movsxd r9, dword ptr [rbx]; hlt"), 0, 4, &R::r9, 0xffffffffb5a69788},
    };
    int index = 0;
    for (const ReadRow &row : rows)
        run_read(g, row, index++, row_regs());
}

TEST(mmio_32_bit_modes)
{
    Device device;
    for (Mode mode : {Mode::kProtected, Mode::kPaged, Mode::kPae}) {
        Guest g(device, mode, CODE(32, "hlt"));
        kvm_regs r = row_regs();
        for (__u64 *reg : {&r.rax, &r.rdx, &r.rsi})
            *reg &= 0xffffffff;
        r.r9 = r.r12 = r.r13 = r.r15 = 0;
        const WriteRow writes[] = {
            {CODE(32, "mov [ebx], al; hlt"), 0, 1, kRax},
            {CODE(32, "mov [ebx], dh; hlt"), 0, 1, 0xd6},
            {CODE(32, "mov [ebx + 0x10], ax; hlt"), 0x10, 2, kRax},
            {CODE(32, "mov [ebx + ecx * 4 + 0x1000], eax; hlt"), 0x100c, 4, kRax},
            {CODE(32, "mov ds:[0xd0000004], eax; hlt"), 4, 4, kRax},       // the moffs form
            {CODE(32, "mov ds:[0xd0000004], edx; hlt"), 4, 4, 0xd4d5d6d7}, // disp32 without base
            {CODE(32, "mov [ebp], esi; hlt"), 0, 4, kRsi},
            {CODE(32, "mov byte ptr [ebx], 0x5a; hlt"), 0, 1, 0x5a},
            {CODE(32, "mov word ptr [ebx], 0x5aa5; hlt"), 0, 2, 0x5aa5},
            {CODE(32, "mov dword ptr [ebx], 0x5aa5c33c; hlt"), 0, 4, 0x5aa5c33c},
        };
        int index = 0;
        for (const WriteRow &row : writes)
            run_write(g, row, index++, r);
        const ReadRow reads[] = {
            {CODE(32, "mov al, [ebx]; hlt"), 0, 1, &kvm_regs::rax, 0x55667788},
            {CODE(32, "mov dh, [ebx]; hlt"), 0, 1, &kvm_regs::rdx, 0xd4d588d7},
            {CODE(32, "mov ax, [ebx]; hlt"), 0, 2, &kvm_regs::rax, 0x55669788},
            {CODE(32, "mov edx, [ebx + 4]; hlt"), 4, 4, &kvm_regs::rdx, 0xb5a69788},
            {CODE(32, "mov eax, ds:[0xd0000008]; hlt"), 8, 4, &kvm_regs::rax, 0xb5a69788},
            {CODE(32, "movzx edx, byte ptr [ebx]; hlt"), 0, 1, &kvm_regs::rdx, 0x88},
            {CODE(32, "movsx edx, word ptr [ebx]; hlt"), 0, 2, &kvm_regs::rdx, 0xffff9788},
        };
        index = 0;
        for (const ReadRow &row : reads)
            run_read(g, row, index++, r);
        // Segment bases count outside 64-bit mode.
        kvm_sregs s = g.vcpu.sregs();
        s.es.base = 0x3000;
        g.vcpu.set(s);
        run_write(g, {CODE(32, "mov es:[ebx], eax; hlt"), 0x3000, 4, kRax}, 100, r);
    }
}

TEST(mmio_real_mode)
{
    Device device;
    Guest g(device, Mode::kReal, CODE(16, "hlt"));
    // Memory ends at 640 KiB, as on a PC.
    REQUIRE_OK(g.vm.set_slot(0, 0, 0, nullptr));
    REQUIRE_OK(g.vm.set_slot(0, 0, 0xa0000, g.memory.base));
    constexpr uint64_t kBase = 0xb8000;
    kvm_sregs s = g.vcpu.sregs();
    s.ds.base = kBase;
    s.ds.selector = 0xb800;
    g.vcpu.set(s);
    kvm_regs r = fresh_regs();
    r.rax = 0x55667788;
    r.rbx = 0x100;
    r.rcx = 0x20;
    r.rsi = 0x30;
    r.rdi = 0x40;
    r.rbp = 0x200;
    const WriteRow writes[] = {
        {CODE(16, "mov [bx], al; hlt"), 0x100, 1, 0x88},
        {CODE(16, "mov [bx], ah; hlt"), 0x100, 1, 0x77},
        {CODE(16, "mov [bx + si], ax; hlt"), 0x130, 2, 0x7788},
        {CODE(16, "mov [bx + di + 5], ax; hlt"), 0x145, 2, 0x7788},
        {CODE(16, "mov ds:[bp + si], ax; hlt"), 0x230, 2, 0x7788},
        {CODE(16, "mov ds:[bp + di - 8], ax; hlt"), 0x238, 2, 0x7788},
        {CODE(16, "mov [si], eax; hlt"), 0x30, 4, 0x55667788},
        {CODE(16, "mov [di + 0x1234], eax; hlt"), 0x1274, 4, 0x55667788},
        {CODE(16, "mov ds:[0x1234], ax; hlt"), 0x1234, 2, 0x7788},
        {CODE(16, "mov ds:[0x1234], cx; hlt"), 0x1234, 2, 0x20},
        {CODE(16, "mov [ebx + ecx * 4], ax; hlt"), 0x180, 2, 0x7788},
        {CODE(16, "mov byte ptr [bx], 0x41; hlt"), 0x100, 1, 0x41},
        {CODE(16, "mov word ptr [bx], 0x4142; hlt"), 0x100, 2, 0x4142},
        {CODE(16, "mov dword ptr [bx], 0x41424344; hlt"), 0x100, 4, 0x41424344},
        {CODE(16, "mov [bx + si + 0xff00], ax; hlt"), 0x30, 2, 0x7788}, // 16-bit wrap
    };
    int index = 0;
    for (const WriteRow &row : writes)
        run_write(g, row, index++, r, kBase);
    const ReadRow reads[] = {
        {CODE(16, "mov al, [bx]; hlt"), 0x100, 1, &kvm_regs::rax, 0x55667788},
        {CODE(16, "mov ax, [bx + si]; hlt"), 0x130, 2, &kvm_regs::rax, 0x55669788},
        {CODE(16, "mov eax, ds:[0x10]; hlt"), 0x10, 4, &kvm_regs::rax, 0xb5a69788},
        {CODE(16, "movzx cx, byte ptr [si]; hlt"), 0x30, 1, &kvm_regs::rcx, 0x88},
    };
    index = 0;
    for (const ReadRow &row : reads)
        run_read(g, row, index++, r, kBase);
}

TEST(mmio_across_pages)
{
    // One exit a page.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = row_regs();
    r.rbx = G_MMIO + 0xffe;
    start(g, CODE(64, "mov [rbx], eax; mov edx, [rbx]; mov [rbx - 1], r9; hlt"), r);
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO + 0xffe, 2, 0x7788);
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO + 0x1000, 2, 0x5566);
    EXPECT_MMIO_READ(g.vcpu, G_MMIO + 0xffe, 2, 0x2211);
    EXPECT_MMIO_READ(g.vcpu, G_MMIO + 0x1000, 2, 0x4433);
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO + 0xffd, 3, 0xeeff01);
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO + 0x1000, 5, 0x99aabbccdd);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rdx, 0x44332211);
}

TEST(mmio_across_the_end_of_memory)
{
    // Half in memory, half not, in both orders.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    g.set_entry(0x180000, G_MMIO | 3);
    kvm_regs r = row_regs();
    r.rbx = 0x17fffe;
    g.memory.at<uint16_t>(0x17fffe) = 0xbbaa;
    start(g, CODE(64, "mov edx, [rbx]; mov [rbx], eax; hlt"), r);
    EXPECT_MMIO_READ(g.vcpu, G_MMIO, 2, 0xddcc);
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO, 2, 0x5566);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rdx, 0xddccbbaa);
    EXPECT_EQ(g.memory.at<uint16_t>(0x17fffe), 0x7788);

    r.rbx = 0x180ffe;
    g.memory.at<uint16_t>(0x181000) = 0xddcc;
    start(g, CODE(64, "mov edx, [rbx]; mov [rbx], eax; hlt"), r);
    EXPECT_MMIO_READ(g.vcpu, G_MMIO + 0xffe, 2, 0xbbaa);
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO + 0xffe, 2, 0x7788);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rdx, 0xddccbbaa);
    EXPECT_EQ(g.memory.at<uint16_t>(0x181000), 0x5566);
}

TEST(mmio_code_across_pages)
{
    // The instruction itself straddles two pages that are not neighbours in guest-physical memory.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    Blob code = CODE(64, "mov dword ptr [rbx + rcx * 4 + 0x12345], 0x11223344; hlt");
    constexpr uint64_t kAt = 0x141000 - 5;
    g.set_entry(0x141000, 0x150000 | 3);
    memcpy(g.memory.base + kAt, code.begin, 5);
    memcpy(g.memory.base + 0x150000, code.begin + 5, code.size() - 5);
    kvm_regs r = row_regs();
    r.rip = kAt;
    g.vcpu.set(r);
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO + 0x12345 + 12, 4, 0x11223344);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rip, kAt + code.size());
}

TEST(mmio_repeated)
{
    // A loop over a device register: the second access takes KVM's short way, and must look the
    // same.
    Device device;
    Guest g(device, Mode::kLong,
            CODE(64, "1: mov [rbx], eax; mov edx, [rbx + 4]; inc eax; jmp 1b"));
    kvm_regs r = row_regs();
    g.vcpu.set(r);
    for (uint32_t i = 0; i < 20; i++) {
        EXPECT_MMIO_WRITE(g.vcpu, G_MMIO, 4, kRax + i);
        EXPECT_MMIO_READ(g.vcpu, G_MMIO + 4, 4, 1000 + i);
    }
}

TEST(mmio_then_memory)
{
    // Memory put where MMIO was, and taken away again.
    Device device;
    Guest g(device, Mode::kLong,
            CODE(64, "1: mov [rbx], eax; mov edx, [rbx]; out 0x10, eax; jmp 1b"));
    g.vcpu.set(row_regs());
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO, 4, kRax);
    EXPECT_MMIO_READ(g.vcpu, G_MMIO, 4, 0);
    EXPECT_REPORT(g.vcpu, kRax & 0xffffffff);
    Memory page(kPage);
    REQUIRE_OK(g.vm.set_slot(1, G_MMIO, kPage, page.base));
    EXPECT_REPORT(g.vcpu, kRax & 0xffffffff);
    EXPECT_EQ(page.at<uint32_t>(0), kRax & 0xffffffff);
    REQUIRE_OK(g.vm.set_slot(1, 0, 0, nullptr));
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO, 4, kRax);
}

TEST(mmio_read_only_slot)
{
    Device device;
    if (!device.extension(KVM_CAP_READONLY_MEM))
        test::skip("the device has no read-only slots");
    Guest g(device, Mode::kLong, CODE(64, "mov edx, [rbx]; mov [rbx], eax; mov edx, [rbx]; hlt"));
    Memory page(kPage);
    page.at<uint32_t>(0) = 0x13579bdf;
    REQUIRE_OK(g.vm.set_slot(1, G_MMIO, kPage, page.base, KVM_MEM_READONLY));
    g.vcpu.set(row_regs());
    EXPECT_MMIO_WRITE(g.vcpu, G_MMIO, 4, kRax);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rdx, 0x13579bdf);
    EXPECT_EQ(page.at<uint32_t>(0), 0x13579bdf);
}
