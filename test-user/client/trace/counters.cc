// SPDX-License-Identifier: GPL-2.0-only
//
// The files of debugfs: what they count, who may read them, and how long they live.
#include "trace_test.hpp"

#include <sys/stat.h>

TEST(exits_are_counted)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "mov r8d, 9\n1: xor eax, eax; cpuid; dec r8d; jnz 1b\n"
                      "out 0x10, al; out 0x10, al; in al, 0x10; hlt"));
    EXPECT(read_file(about_us("0/0/exits")).empty());
    for (int i = 0; i < 3; i++)
        ENTER(g.vcpu, KVM_EXIT_IO);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    const Counters exits = counters("0/0/exits");
    EXPECT_EQ(exits.at("CPUID"), 9u);
    EXPECT_EQ(exits.at("IO_INSTRUCTION"), 3u);
    EXPECT_EQ(exits.at("HLT"), 1u);
    for (const auto &[name, count] : exits)
        EXPECT(count > 0);
    const Counters events = counters("0/0/events");
    EXPECT_EQ(events.at("returns_to_user"), 4u);
    EXPECT_EQ(events.at("failed_entries"), 0u);
    EXPECT(events.at("tlb_flushes") > 0);
}

TEST(vm_is_the_sum_of_its_vcpus)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "xor eax, eax; cpuid; hlt"));
    Vcpu second(device, g.vm, 5);
    g.set_cpuid(second);
    g.enter_mode(second);
    start(g, CODE(64, "xor eax, eax; cpuid; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    ENTER(second, KVM_EXIT_HLT);
    EXPECT_EQ(counters("0/0/exits").at("CPUID"), 1u);
    EXPECT_EQ(counters("0/5/exits").at("CPUID"), 1u);
    EXPECT_EQ(counters("0/exits").at("CPUID"), 2u);
    EXPECT_EQ(counters("0/events").at("returns_to_user"), 2u);
}

TEST(controls_are_explained)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    const std::string text = read_file(about_us("0/0/controls"));
    for (const char *name : {"cr3-load-exiting", "hlt-exiting", "enable-ept", "nmi-exiting"})
        EXPECT(text.find(name) != std::string::npos);
    // A running vCPU answers, too: nothing waits for its mutex. The guest's IF is 1, so that the
    // host's interrupts end its loop.
    start(g, CODE(64, "1: pause; jmp 1b"), fresh_regs(0x202));
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        usleep(100'000);
        const std::string path = DEBUGFS "/" + std::to_string(getppid()) + "/0/0/controls";
        const bool same = read_file(path).size() > text.size() / 2;
        kill(getppid(), SIGUSR1);
        _exit(same ? 0 : 1);
    }
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, nullptr);
    EXPECT_EQ(g.vcpu.enter(), -1);
    EXPECT_EQ(errno, EINTR);
    int status = 0;
    REQUIRE_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST(only_root_may_read)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    for (const char *file : {"0/exits", "0/events", "0/0/exits", "0/0/events", "0/0/controls"}) {
        struct stat s = {};
        REQUIRE_OK(stat(about_us(file).c_str(), &s));
        EXPECT_EQ(s.st_mode & 07777, 0400u);
        EXPECT_EQ(s.st_uid, 0u);
        EXPECT(write_file(about_us(file), "0") != 0);
    }
    const std::string path = about_us("0/0/exits");
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        _exit(setuid(1000) == 0 && open(path.c_str(), O_RDONLY) < 0 && errno == EACCES ? 0 : 1);
    int status = 0;
    REQUIRE_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST(numbers_of_vms)
{
    Device device;
    auto first = new Vm(device);
    Vm second(device);
    EXPECT(exists(about_us("0/exits")) && exists(about_us("1/exits")));
    delete first;
    EXPECT(test::soon([] { return !exists(about_us("0")); }));
    EXPECT(exists(about_us("1/exits")));
    Vm third(device);
    EXPECT(exists(about_us("2/exits")));
    EXPECT(!exists(about_us("0")));
}

TEST(closed_in_any_order)
{
    Device device;
    {
        // The VM's file first: its vCPU goes on, and so do the files about it.
        auto vm = new Vm(device);
        Vcpu vcpu(device, *vm, 3);
        delete vm;
        EXPECT(exists(about_us("0/3/controls")));
        EXPECT(!read_file(about_us("0/3/controls")).empty());
    }
    EXPECT(test::soon([] { return !exists(about_us("")); }));
    {
        // The vCPU's first: it stays until its VM goes.
        Vm vm(device);
        {
            Vcpu vcpu(device, vm, 3);
        }
        EXPECT(!read_file(about_us("0/3/controls")).empty());
    }
    EXPECT(test::soon([] { return !exists(about_us("")); }));
}

TEST(open_files_outlive_the_vm)
{
    Device device;
    Fd exits, controls;
    char byte;
    {
        Vm vm(device);
        Vcpu vcpu(device, vm);
        exits.reset(open(about_us("0/0/events").c_str(), O_RDONLY | O_CLOEXEC));
        controls.reset(open(about_us("0/0/controls").c_str(), O_RDONLY | O_CLOEXEC));
        REQUIRE(exits.get() >= 0 && controls.get() >= 0);
        EXPECT_EQ(read(controls.get(), &byte, 1), 1);
    }
    EXPECT(test::soon([] { return !exists(about_us("")); }));
    EXPECT_ERRNO(read(exits.get(), &byte, 1), EIO);
    EXPECT_ERRNO(read(controls.get(), &byte, 1), EIO);
}

TEST(a_killed_process_leaves_nothing)
{
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        Device device;
        Guest g(device, Mode::kLong, CODE(64, "1: pause; jmp 1b"));
        start(g, CODE(64, "1: pause; jmp 1b"), fresh_regs(0x202));
        g.vcpu.enter();
        _exit(1);
    }
    const std::string files = DEBUGFS "/" + std::to_string(child);
    EXPECT(test::soon([&] { return exists(files + "/0/0/exits"); }));
    EXPECT(test::soon([&] { return !read_file(files + "/0/0/exits").empty(); }));
    kill(child, SIGKILL);
    int status = 0;
    REQUIRE_EQ(waitpid(child, &status, 0), child);
    EXPECT(test::soon([&] { return !exists(files); }));
}
