// SPDX-License-Identifier: GPL-2.0-only
//
// SGDT, SIDT, LGDT, LIDT, SLDT, STR, LLDT, LTR and INVPCID as the emulator carries them out:
// results, every fault, and in which order. SDM Vol. 2A and 2B.
#include "guest.hpp"

#include <gtest/gtest.h>

#include <minivmx.h>

namespace minivmx::test {
namespace {

constexpr u64 kCode = 0x1000, kData = 0x3000, kGdt = 0x4000;

class Tables : public testing::Test {
  protected:
    Guest guest;
    u64 length = 0;

    void SetUp() override
    {
        guest.add_ram(0, 0, 0x40000);
        guest.protected_mode(kCode);
        guest.vmx().exit_reason = EXIT_REASON_GDTR_IDTR;
        guest.vmx().idt_vectoring_info = 0;
        guest.set(GUEST_INTERRUPTIBILITY_INFO, 0);
        guest.set(GUEST_GDTR_BASE, kGdt);
        guest.set(GUEST_GDTR_LIMIT, 0x3f);
        guest.set(GUEST_IDTR_BASE, 0x12345678);
        guest.set(GUEST_IDTR_LIMIT, 0x7ff);
        guest.set(GUEST_LDTR_SELECTOR, 0x28);
        guest.set(GUEST_TR_SELECTOR, 0x18);
        guest.reg(kRbx) = kData;
    }
    void long_mode()
    {
        guest.poke<u64>(0x8000, 0x9000 | 7);
        guest.poke<u64>(0x9000, 0xa000 | 7);
        guest.poke<u64>(0xa000, 0x87);
        guest.long_mode(kCode, 0x8000);
    }
    void set_descriptor(u16 selector, u64 raw, u64 high = 0)
    {
        guest.poke<u64>(kGdt + (selector & ~7u), raw);
        guest.poke<u64>(kGdt + (selector & ~7u) + 8, high);
    }
    // A system descriptor of 0x67 bytes at 0x00ab1234.
    static u64 system(u8 type, bool present = true)
    {
        return 0x0000'00ab'1234'0067ull | u64{type} << 40 | u64{present} << 47;
    }
    Outcome run(const std::vector<u8> &code)
    {
        length = code.size();
        guest.set_rip(kCode);
        guest.poke_bytes(kCode, code);
        return emulate_exited(guest.vmx(), Operation::kSgdt, Operation::kInvpcid);
    }
    void expect_done(Outcome outcome)
    {
        EXPECT_TRUE(outcome.resumes());
        EXPECT_FALSE(guest.vmx().exception.pending) << int{guest.vmx().exception.vector};
        EXPECT_EQ(guest.rip(), kCode + length);
    }
    void expect_exception(Outcome outcome, u8 vector, u32 error_code = 0)
    {
        EXPECT_TRUE(outcome.resumes());
        ASSERT_TRUE(guest.vmx().exception.pending);
        const ExceptionQueue queued = guest.take_exception();
        EXPECT_EQ(queued.vector, vector);
        EXPECT_EQ(queued.error_code, error_code);
        EXPECT_EQ(guest.rip(), kCode);
    }
};

const std::vector<u8> kSgdt{0x0f, 0x01, 0x03}, kSidt{0x0f, 0x01, 0x0b}, kLgdt{0x0f, 0x01, 0x13},
    kLidt{0x0f, 0x01, 0x1b}; // [ebx], [rbx]
const std::vector<u8> kSldtEax{0x0f, 0x00, 0xc0}, kStrEax{0x0f, 0x00, 0xc8},
    kLldtAx{0x0f, 0x00, 0xd0}, kLtrAx{0x0f, 0x00, 0xd8};
const std::vector<u8> kInvpcidEaxEbx{0x66, 0x0f, 0x38, 0x82, 0x03};

TEST_F(Tables, StoresHaveSixBytes)
{
    guest.poke<u64>(kData, ~u64{0});
    expect_done(run(kSidt));
    EXPECT_EQ(guest.peek<u64>(kData), 0xffff'1234'5678'07ffull);
    expect_done(run(kSgdt));
    EXPECT_EQ(guest.peek<u64>(kData), 0xffff'0000'4000'003full);
}

TEST_F(Tables, StoresHaveTenBytesIn64BitCode)
{
    long_mode();
    guest.set(GUEST_IDTR_BASE, 0xffff'8000'1234'5678);
    guest.poke<u64>(kData + 8, ~u64{0});
    expect_done(run(kSidt));
    EXPECT_EQ(guest.peek<u16>(kData), 0x7ff);
    EXPECT_EQ(guest.peek<u64>(kData + 2), 0xffff'8000'1234'5678);
    EXPECT_EQ(guest.peek<u16>(kData + 10), 0xffff);
}

TEST_F(Tables, Loads)
{
    guest.poke<u64>(kData, 0x0000'aabb'ccdd'0123);
    expect_done(run(kLgdt));
    EXPECT_EQ(guest.get(GUEST_GDTR_BASE), 0xaabbccddu);
    EXPECT_EQ(guest.get(GUEST_GDTR_LIMIT), 0x123u);
    expect_done(run({0x66, 0x0f, 0x01, 0x1b})); // a 16-bit operand size
    EXPECT_EQ(guest.get(GUEST_IDTR_BASE), 0xbbccddu);
    EXPECT_EQ(guest.get(GUEST_IDTR_LIMIT), 0x123u);
}

TEST_F(Tables, LoadsOf64BitCodeAreCanonical)
{
    long_mode();
    guest.poke<u16>(kData, 0xff);
    guest.poke<u64>(kData + 2, 0xffff'8000'0000'1000);
    expect_done(run(kLidt));
    EXPECT_EQ(guest.get(GUEST_IDTR_BASE), 0xffff'8000'0000'1000);
    guest.poke<u64>(kData + 2, 0x0000'8000'0000'1000);
    expect_exception(run(kLidt), GP_VECTOR);
    EXPECT_EQ(guest.get(GUEST_IDTR_BASE), 0xffff'8000'0000'1000);
}

TEST_F(Tables, StoresOfSelectors)
{
    guest.reg(kRax) = 0xffffffffffffffff;
    expect_done(run(kSldtEax));
    EXPECT_EQ(guest.reg(kRax), 0x28u);
    guest.reg(kRax) = 0xffffffffffffffff;
    expect_done(run({0x66, 0x0f, 0x00, 0xc8})); // STR AX
    EXPECT_EQ(guest.reg(kRax), 0xffffffffffff0018);
    guest.poke<u32>(kData, 0xffffffff);
    expect_done(run({0x0f, 0x00, 0x0b})); // STR [EBX]
    EXPECT_EQ(guest.peek<u32>(kData), 0xffff0018u);
}

TEST_F(Tables, LldtLoadsTheDescriptor)
{
    set_descriptor(0x28, system(2));
    guest.reg(kRax) = 0x2b;
    expect_done(run(kLldtAx));
    EXPECT_EQ(guest.get(GUEST_LDTR_SELECTOR), 0x2bu);
    EXPECT_EQ(guest.get(GUEST_LDTR_BASE), 0xab1234u);
    EXPECT_EQ(guest.get(GUEST_LDTR_LIMIT), 0x67u);
    EXPECT_EQ(guest.get(GUEST_LDTR_AR_BYTES), 0x82u);
}

TEST_F(Tables, NullLdtMakesItUnusable)
{
    guest.reg(kRax) = 3;
    expect_done(run(kLldtAx));
    EXPECT_EQ(guest.get(GUEST_LDTR_SELECTOR), 3u);
    EXPECT_TRUE(guest.get(GUEST_LDTR_AR_BYTES) & 1u << 16);
}

TEST_F(Tables, LtrMakesTheTaskBusy)
{
    set_descriptor(0x18, system(9));
    guest.reg(kRax) = 0x18;
    expect_done(run(kLtrAx));
    EXPECT_EQ(guest.get(GUEST_TR_SELECTOR), 0x18u);
    EXPECT_EQ(guest.get(GUEST_TR_BASE), 0xab1234u);
    EXPECT_EQ(guest.get(GUEST_TR_AR_BYTES), 0x8bu);
    EXPECT_EQ(guest.peek<u64>(kGdt + 0x18), system(11));
    expect_exception(run(kLtrAx), GP_VECTOR, 0x18); // busy by now
}

TEST_F(Tables, DescriptorsOfLongModeHaveSixteenBytes)
{
    long_mode();
    set_descriptor(0x18, system(9), 0xffff8000);
    guest.reg(kRax) = 0x18;
    expect_done(run(kLtrAx));
    EXPECT_EQ(guest.get(GUEST_TR_BASE), 0xffff8000'00ab1234);
    set_descriptor(0x18, system(9), 0x8000);
    expect_exception(run(kLtrAx), GP_VECTOR, 0x18); // not canonical
    set_descriptor(0x18, system(9), u64{1} << 40);
    expect_exception(run(kLtrAx), GP_VECTOR, 0x18); // the upper half has a type
    set_descriptor(0x18, system(1));
    expect_exception(run(kLtrAx), GP_VECTOR, 0x18); // no 16-bit TSS there
    guest.set(GUEST_GDTR_LIMIT, 0x26);
    expect_exception(run(kLtrAx), GP_VECTOR, 0x18); // the upper half is beyond the table
}

TEST_F(Tables, SelectorsThatCantBeLoaded)
{
    struct Case {
        const std::vector<u8> &code;
        u16 selector;
        u64 descriptor;
        u8 vector;
        u32 error_code;
    } const cases[] = {
        {kLtrAx, 0, 0, GP_VECTOR, 0},
        {kLtrAx, 0x1c, system(9), GP_VECTOR, 0x1c}, // of the LDT
        {kLldtAx, 0x1c, system(2), GP_VECTOR, 0x1c},
        {kLtrAx, 0x40, 0, GP_VECTOR, 0x40}, // beyond the limit
        {kLldtAx, 0x40, 0, GP_VECTOR, 0x40},
        {kLtrAx, 0x1b, system(2), GP_VECTOR, 0x18}, // an LDT
        {kLldtAx, 0x18, system(9), GP_VECTOR, 0x18},
        {kLtrAx, 0x18, 0x00cf93000000ffff, GP_VECTOR, 0x18}, // data
        {kLldtAx, 0x18, 0x00cf93000000ffff, GP_VECTOR, 0x18},
        {kLtrAx, 0x18, system(9, false), NP_VECTOR, 0x18},
        {kLldtAx, 0x18, system(2, false), NP_VECTOR, 0x18},
    };
    for (const Case &c : cases) {
        SCOPED_TRACE(testing::Message() << "selector " << std::hex << c.selector << " descriptor "
                                        << c.descriptor << (&c.code == &kLtrAx ? " LTR" : " LLDT"));
        if (c.descriptor)
            set_descriptor(c.selector, c.descriptor);
        guest.reg(kRax) = c.selector;
        expect_exception(run(c.code), c.vector, c.error_code);
        EXPECT_EQ(guest.get(GUEST_TR_SELECTOR), 0x18u);
        EXPECT_EQ(guest.get(GUEST_LDTR_SELECTOR), 0x28u);
    }
}

TEST_F(Tables, OnlyTheSupervisorLoads)
{
    guest.set_cpl(3);
    for (const auto *code : {&kLgdt, &kLidt, &kLldtAx, &kLtrAx})
        expect_exception(run(*code), GP_VECTOR);
    expect_done(run(kSgdt));
    expect_done(run(kStrEax));
}

TEST_F(Tables, UmipKeepsTheUserFromStoring)
{
    guest.protected_mode(kCode, 0, X86_CR4_UMIP);
    for (const auto *code : {&kSgdt, &kSidt, &kSldtEax, &kStrEax})
        expect_done(run(*code));
    guest.set_cpl(3);
    for (const auto *code : {&kSgdt, &kSidt, &kSldtEax, &kStrEax})
        expect_exception(run(*code), GP_VECTOR);
}

TEST_F(Tables, RealModeHasNoTasks)
{
    guest.real_mode(kCode);
    for (const auto *code : {&kSldtEax, &kStrEax, &kLldtAx, &kLtrAx})
        expect_exception(run(*code), UD_VECTOR);
    guest.reg(kRbx) = 0;
    guest.reg(kRbp) = 0;
    guest.reg(kRdi) = kData;
    expect_done(run(kSgdt)); // [bp+di]
    EXPECT_EQ(guest.peek<u16>(kData), 0x3f);
}

TEST_F(Tables, OperandsBeyondTheirSegment)
{
    guest.set_segment(kDs, 0, kData + 4, 0xc093);
    expect_exception(run(kSgdt), GP_VECTOR);
    expect_exception(run(kLgdt), GP_VECTOR);
    EXPECT_EQ(guest.get(GUEST_GDTR_BASE), kGdt);
}

// Another vCPU has changed the bytes since the exit: they are the CPU's to execute.
TEST_F(Tables, OtherInstructionsAreLeftAlone)
{
    EXPECT_TRUE(run({0x89, 0x03}).resumes()); // MOV [EBX], EAX
    EXPECT_EQ(guest.rip(), kCode);
    EXPECT_FALSE(guest.vmx().exception.pending);
}

TEST_F(Tables, Invpcid)
{
    long_mode();
    const auto invalidate = [this](u64 type, u64 pcid, u64 address) {
        guest.reg(kRax) = type;
        guest.poke<u64>(kData, pcid);
        guest.poke<u64>(kData + 8, address);
        guest.vmx().stale_translations = StaleTranslations::kNone;
        return run(kInvpcidEaxEbx);
    };
    for (u64 type = 0; type < 4; type++) {
        expect_done(invalidate(type, 0, 0));
        EXPECT_EQ(guest.vmx().stale_translations, StaleTranslations::kLinear);
    }
    expect_exception(invalidate(4, 0, 0), GP_VECTOR);
    expect_exception(invalidate(u64{1} << 32, 0, 0), GP_VECTOR);
    expect_exception(invalidate(1, 0x1000, 0), GP_VECTOR);
    expect_exception(invalidate(0, 0, u64{1} << 47), GP_VECTOR);
    expect_exception(invalidate(1, 1, 0), GP_VECTOR); // a PCID without CR4.PCIDE
    expect_done(invalidate(2, 1, 0));
    guest.set_cpl(3);
    expect_exception(invalidate(2, 0, 0), GP_VECTOR);
    EXPECT_EQ(guest.vmx().stale_translations, StaleTranslations::kNone);
}

} // namespace
} // namespace minivmx::test
