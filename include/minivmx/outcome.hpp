// SPDX-License-Identifier: GPL-2.0-only
// What comes after an exit handler, or after any step of KVM_RUN: the guest again, user space, or
// an error of the ioctl.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

class [[nodiscard]] Outcome {
  public:
    // The guest goes on (an event may have been queued for it).
    static constexpr Outcome resume() { return Outcome{1}; }
    // KVM_RUN returns 0; kvm_run says why.
    static constexpr Outcome to_user() { return Outcome{0}; }
    // KVM_RUN fails with this negative errno.
    static constexpr Outcome error(int negative_errno) { return Outcome{negative_errno}; }

    constexpr bool resumes() const { return value_ > 0; }
    // What KVM_RUN returns, unless the guest goes on.
    constexpr int ioctl_result() const { return value_; }

  private:
    explicit constexpr Outcome(int value) : value_{value} {}
    int value_;
};

} // namespace minivmx
