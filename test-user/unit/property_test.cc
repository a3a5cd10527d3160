// SPDX-License-Identifier: GPL-2.0-only
//
// For any values of the capability MSRs, however absurd: either a sentence and an errno, or words
// that the hardware described by them accepts.
#include "support.hpp"

#include <gtest/gtest.h>

#include <random>

namespace minivmx {
namespace {

using test::negotiate;
using test::Negotiated;
using test::shipped_profiles;

/// Raw MSRs, not the code's own decoders.
void expect_sound(const HostDesc &host, const Negotiated &n)
{
    if (n.code != 0) {
        ASSERT_EQ(n.code, -EIO);
        ASSERT_GT(n.why.size(), 40u);
        return;
    }
    const bool has_true = (host.msr[0x480] >> 55 & 1) != 0;
    const struct {
        u64 word;
        u32 msr, true_msr;
        bool used;
    } words[] = {
        {n.config.pin_based_exec_ctrl, 0x481, 0x48d, true},
        {n.config.cpu_based_exec_ctrl, 0x482, 0x48e, true},
        {n.config.vmexit_ctrl, 0x483, 0x48f, true},
        {n.config.vmentry_ctrl, 0x484, 0x490, true},
        {n.config.cpu_based_2nd_exec_ctrl, 0x48b, 0,
         (n.config.cpu_based_exec_ctrl & 0x80000000) != 0},
    };
    for (const auto &w : words) {
        if (!w.used) {
            ASSERT_EQ(w.word, 0u);
            continue;
        }
        const u64 must = host.msr[has_true && w.true_msr != 0 ? w.true_msr : w.msr] & 0xffffffff;
        ASSERT_EQ(w.word & ~(host.msr[w.msr] >> 32), 0u) << std::hex << w.msr;
        ASSERT_EQ(must & ~w.word, 0u) << std::hex << w.msr;
    }
    ASSERT_EQ(n.config.cpu_based_3rd_exec_ctrl & ~host.msr[0x492], 0u);
    ASSERT_GE(n.config.size, 1u);
    ASSERT_LE(n.config.size, 4096u);
    // Dependencies that VM entry checks (SDM Vol. 3C, 27.2.1.1).
    if ((n.config.cpu_based_exec_ctrl & CPU_BASED_TPR_SHADOW) == 0) {
        ASSERT_EQ(n.config.cpu_based_2nd_exec_ctrl & 0x310, 0u);
    }
}

TEST(Property, RandomMsrs)
{
    std::mt19937_64 random(20240611);
    unsigned accepted = 0;
    for (int i = 0; i < 20000; i++) {
        HostDesc host = shipped_profiles()[i % shipped_profiles().size()].host();
        for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++) {
            switch (random() % 4) {
            case 0:
                host.msr.set(msr, random());
                break;
            case 1:
                host.msr.remove(msr);
                break;
            default:
                break;
            }
        }
        host.is_64bit = random() % 2 != 0;
        host.has_sgx = random() % 2 != 0;
        host.enlightened_vmcs = random() % 2 != 0;
        Parameters params = default_parameters();
        params.error_on_inconsistent_vmcs_config = random() % 2 != 0;
        const Negotiated n = negotiate(host, params);
        accepted += n.code == 0;
        expect_sound(host, n);
        if (HasFatalFailure())
            FAIL() << "round " << i;
    }
    RecordProperty("accepted", static_cast<int>(accepted));
}

// Mostly sane MSRs with a few bits flipped: these get far into the rules.
TEST(Property, FlippedBits)
{
    std::mt19937_64 random(5318008);
    unsigned accepted = 0;
    for (int i = 0; i < 40000; i++) {
        HostDesc host = shipped_profiles()[random() % shipped_profiles().size()].host();
        for (u64 flips = random() % 6; flips > 0; flips--) {
            const u32 msr = static_cast<u32>(kFirstVmxMsr + random() % kVmxMsrCount);
            host.msr.set(msr, host.msr[msr] ^ bit64(static_cast<unsigned>(random() % 64)));
        }
        host.is_64bit = random() % 8 != 0;
        host.enlightened_vmcs = random() % 8 == 0;
        Parameters params = default_parameters();
        params.error_on_inconsistent_vmcs_config = random() % 2 != 0;
        const Negotiated n = negotiate(host, params);
        accepted += n.code == 0;
        expect_sound(host, n);
        if (HasFatalFailure())
            FAIL() << "round " << i;
    }
    EXPECT_GT(accepted, 10000u) << "too few rounds reached the end to mean something";
}

// Whatever comes out, the report can be written and every parameter has a value and a reason.
TEST(Property, ReportsAnything)
{
    std::mt19937_64 random(31337);
    for (int i = 0; i < 500; i++) {
        HostDesc host = shipped_profiles()[random() % shipped_profiles().size()].host();
        for (u64 flips = random() % 6; flips > 0; flips--) {
            const u32 msr = static_cast<u32>(kFirstVmxMsr + random() % kVmxMsrCount);
            host.msr.set(msr, host.msr[msr] ^ bit64(static_cast<unsigned>(random() % 64)));
        }
        const test::Loaded s = test::set_up(host);
        if (s.code != 0)
            continue;
        for (const ReportLevel level : {ReportLevel::kScreen, ReportLevel::kEveryBit}) {
            test::Lines lines;
            print_report(s.hardware, level, lines.sink());
            EXPECT_GT(lines.lines.size(), 10u);
            for (const std::string &line : lines.lines)
                EXPECT_LT(line.size(), 160u);
        }
    }
}

} // namespace
} // namespace minivmx
