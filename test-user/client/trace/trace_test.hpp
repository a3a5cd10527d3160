// SPDX-License-Identifier: GPL-2.0-only
//
// What the files of trace_test share: the kernel's trace of this process's vCPUs, and the files of
// debugfs about them.
#pragma once

#include "../guest/guest_test.hpp"

#include <map>

#define DEBUGFS "/sys/kernel/debug/minivmx"
#define TRACING "/sys/kernel/debug/tracing"
#define EVENTS  TRACING "/events/minivmx"

// The whole of a file; ends the test when it can't be read.
std::string read_file(const std::string &path);
// 0 or the errno.
int write_file(const std::string &path, const std::string &text);
bool exists(const std::string &path);

// DEBUGFS/this process/`rest`.
std::string about_us(const std::string &rest);

// Lines "NAME COUNT" of such a file.
using Counters = std::map<std::string, uint64_t>;
Counters counters(const std::string &rest);

// One event of one of this process's vCPUs.
struct Event {
    std::string name; // "exit"
    std::string text; // behind "PID/VM/VCPU ": "CPUID rip 0xa000 leaf 0x1 subleaf 0x0"
    bool is(const std::string &begin) const { return text.compare(0, begin.size(), begin) == 0; }
};

// Listens while it lives.
class Listener {
  public:
    explicit Listener(std::vector<std::string> names);
    ~Listener();
    Listener(const Listener &) = delete;
    Listener &operator=(const Listener &) = delete;

    // Since it began, or since the last call.
    std::vector<Event> events();

  private:
    std::vector<std::string> names_;
};

// Those of one name, without what the host's interrupts and the guest's first touch of memory add.
std::vector<std::string> texts(const std::vector<Event> &events, const std::string &name);

// Compares two lists, and says at which line they part.
void expect_texts(int line, const std::vector<std::string> &got,
                  const std::vector<std::string> &expected);
#define EXPECT_TEXTS(got, ...) expect_texts(__LINE__, got, {__VA_ARGS__})
