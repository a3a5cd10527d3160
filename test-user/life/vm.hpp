// SPDX-License-Identifier: GPL-2.0-only
//
// A VM with one vCPU that runs the loop of loop.S, and can say whether it computed what it should.
#pragma once

#include <cstdint>

#include <fcntl.h>
#include <minivmx.h>

namespace life {

// Prints "life: WHAT: errno's name" and ends with status 1.
[[noreturn]] void die(const char *what);
// The same without errno.
[[noreturn]] void give_up(const char *what);

struct Vm {
    int device = -1;
    int vm = -1;
    int vcpu = -1;
    kvm_run *run = nullptr;
    size_t run_size = 0;
    uint8_t *memory = nullptr;

    // Ends the program when something fails.
    explicit Vm(const char *path);
    // The loop from its start, ending after `steps`; 0: after 2^32.
    void start(uint32_t steps) const;
    // What the guest counted to; it may be running.
    uint32_t count() const;
    // Gives the guest a kvmclock; whether that says that the host had stopped it.
    void use_clock() const;
    bool was_stopped() const;
    // KVM_RUN; ends the program unless it is interrupted (false) or the guest halts (true).
    bool enter() const;
    // Ends the program unless the registers are what the loop leaves at some point of its count.
    void expect_right_registers() const;
};

int open_device(const char *path);

} // namespace life
