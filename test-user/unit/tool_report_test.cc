// SPDX-License-Identifier: GPL-2.0-only
//
// What `minivmx run` says: exits in words, the report as text and as JSON.
#include <exit_text.hpp>
#include <guest_abi.h>
#include <run_report.hpp>

#include <gtest/gtest.h>

#include <array>

namespace minivmx::tool {
namespace {

TEST(ToolExitText, ExitsHaveNames)
{
    EXPECT_EQ(exit_name(KVM_EXIT_HLT), "hlt");
    EXPECT_EQ(exit_name(KVM_EXIT_INTERNAL_ERROR), "internal-error");
    EXPECT_EQ(exit_name(12345), "exit 12345");
}

TEST(ToolExitText, PortAccessesAreShownWithTheirData)
{
    kvm_run run = {};
    run.exit_reason = KVM_EXIT_IO;
    run.io.direction = KVM_EXIT_IO_OUT;
    run.io.port = 0x3f8;
    run.io.size = 2;
    run.io.count = 2;
    const std::array<std::uint8_t, 4> data = {0x34, 0x12, 0, 0};
    EXPECT_EQ(describe_exit(run, data), "out port 0x3f8, 2 bytes, 2 times: 0x1234");
    run.io.direction = KVM_EXIT_IO_IN;
    run.io.size = 1;
    run.io.count = 1;
    EXPECT_EQ(describe_exit(run, {}), "in port 0x3f8, 1 byte");
}

TEST(ToolExitText, MmioIsShownWithItsData)
{
    kvm_run run = {};
    run.exit_reason = KVM_EXIT_MMIO;
    run.mmio.phys_addr = 0xd0000000;
    run.mmio.len = 4;
    EXPECT_EQ(describe_exit(run, {}), "mmio read 0xd0000000, 4 bytes");
    run.mmio.is_write = 1;
    run.mmio.data[3] = 0x80;
    EXPECT_EQ(describe_exit(run, {}), "mmio write 0xd0000000, 4 bytes: 0x80000000");
    // A length that KVM never gives must not read beyond the data.
    run.mmio.len = 4000000000;
    EXPECT_EQ(describe_exit(run, {}), "mmio write 0xd0000000, 8 bytes: 0x80000000");
}

TEST(ToolExitText, FailedEntriesAreExplained)
{
    EXPECT_EQ(describe_failed_entry(0x80000021), "0x80000021 (invalid guest state)");
    EXPECT_EQ(describe_failed_entry(0x80000022), "0x80000022 (an MSR could not be loaded)");
    EXPECT_EQ(describe_failed_entry(7), "0x7 (invalid control fields)");
    EXPECT_EQ(describe_failed_entry(8), "0x8 (invalid host-state fields)");
    // 33 without bit 31 is no failed entry's exit reason.
    EXPECT_EQ(describe_failed_entry(33), "0x21 (no reason that the SDM lists)");
}

TEST(ToolExitText, InternalErrorsListTheirData)
{
    kvm_run run = {};
    run.internal.suberror = KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON;
    run.internal.ndata = 2;
    run.internal.data[0] = 0x30;
    run.internal.data[1] = 1;
    EXPECT_EQ(describe_internal_error(run), "an unexpected VM exit (suberror 4, data 0x30 0x1)");
    run.internal.suberror = 77;
    run.internal.ndata = 0;
    EXPECT_EQ(describe_internal_error(run), "unknown (suberror 77)");
    run.internal.ndata = 0xffffffff;
    EXPECT_EQ(describe_internal_error(run).find("unknown (suberror 77, data 0x30"), 0u);
}

RunReport sample_report()
{
    CpuReport cpu;
    cpu.ending = Ending::kHalted;
    cpu.sentence = "it halted";
    cpu.exits = {{KVM_EXIT_IO, 10}, {KVM_EXIT_HLT, 1}};
    cpu.regs.rax = 0xfedcba9876543210;
    cpu.regs.rip = 0x100020;
    cpu.sregs.cr0 = 0x80000031;
    RunReport report;
    report.sentence = "the guest's end: it halted";
    report.cpus = {cpu};
    return report;
}

TEST(ToolRunReport, TextHasEndingExitsAndRegisters)
{
    const std::string text = run_text(sample_report(), RegisterDetail::kGeneral);
    EXPECT_NE(text.find("minivmx: the guest's end: it halted\n"), std::string::npos);
    EXPECT_NE(text.find("11 exits to this VMM: 10 io, 1 hlt"), std::string::npos) << text;
    EXPECT_NE(text.find("rax=fedcba9876543210"), std::string::npos);
    EXPECT_EQ(text.find("gdt"), std::string::npos);
    EXPECT_NE(run_text(sample_report(), RegisterDetail::kAll).find("gdt"), std::string::npos);
    EXPECT_EQ(run_text(sample_report(), RegisterDetail::kNone).find("rax"), std::string::npos);
}

TEST(ToolRunReport, JsonKeepsAll64Bits)
{
    GuestRequest request;
    request.file = "hello.bin";
    GuestPlan plan = {};
    plan.mode = Mode::kLong;
    plan.load = 0x100000;
    plan.memory_size = 64 << 20;
    const auto json =
        run_json(subject_json(request, plan, "/dev/kvm"), sample_report(), 7, "out\n", "log\n");
    EXPECT_EQ(json["file"], "hello.bin");
    EXPECT_EQ(json["mode"], "long");
    EXPECT_EQ(json["memory"], 64 << 20);
    EXPECT_EQ(json["load"], "0x100000");
    EXPECT_EQ(json["status"], 0);
    EXPECT_EQ(json["guest_status"], 7);
    EXPECT_EQ(json["serial"], "out\n");
    EXPECT_EQ(json["debug"], "log\n");
    ASSERT_EQ(json["vcpus"].size(), 1u);
    EXPECT_EQ(json["vcpus"][0]["ending"], "hlt");
    EXPECT_EQ(json["vcpus"][0]["exits"]["io"], 10);
    EXPECT_EQ(json["vcpus"][0]["registers"]["rax"], "0xfedcba9876543210");
    EXPECT_EQ(json["vcpus"][0]["registers"]["cr0"], "0x80000031");
}

TEST(ToolRunReport, JsonSaysWhenTheGuestGaveNoStatus)
{
    const auto json = run_json({}, sample_report(), std::nullopt, "", "");
    EXPECT_TRUE(json["guest_status"].is_null());
}

} // namespace
} // namespace minivmx::tool
