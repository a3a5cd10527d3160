// SPDX-License-Identifier: GPL-2.0-only
//
// How functions of the core fail: with one of KVM's errno values and a sentence that says why.
// Both types are [[nodiscard]], so an error can't be dropped without saying so.
#pragma once

#include "types.hpp"

#include <utility>

namespace minivmx {

/// The errno values the core uses: Linux's numbers (asm-generic/errno-base.h, errno.h), positive.
enum class Errno : int {
    kPerm = 1,
    kNoEnt = 2,
    kIntr = 4,
    kIo = 5,
    kNxIo = 6,
    kTooBig = 7,
    kBadF = 9,
    kAgain = 11,
    kNoMem = 12,
    kFault = 14,
    kBusy = 16,
    kExist = 17,
    kNoDev = 19,
    kInval = 22,
    kNoTty = 25,
    kNoSpc = 28,
    kNoSys = 38,
    kOpNotSupp = 95,
};

/// Success, or an errno and the reason. Two words, so it travels in registers.
/// The sentence is borrowed: a string literal, or a text that the function's caller owns (the
/// Sentence of a SetupLog, say) and that must outlive the status.
class [[nodiscard]] Status {
  public:
    static constexpr Status success() { return Status(); }
    static constexpr Status failure(Errno error, const char *why)
    {
        return Status(static_cast<int>(error), why);
    }

    constexpr bool ok() const { return error_ == 0; }
    constexpr bool failed() const { return error_ != 0; }
    /// What a system call returns: 0, or the negative errno.
    constexpr int code() const { return -error_; }
    /// The reason as a sentence; empty on success.
    constexpr const char *why() const { return why_; }

  private:
    constexpr Status() = default;
    constexpr Status(int error, const char *why) : error_(error), why_(why) {}

    int error_ = 0;
    const char *why_ = "";
};

/// A value, or the Status that says why there is none. T must be cheap to move and have a default
/// value; the value may be read only after ok().
template <typename T>
class [[nodiscard]] Result {
  public:
    constexpr Result(T value) : value_(std::move(value)) {}
    constexpr Result(Status status) : status_(status) {}

    constexpr bool ok() const { return status_.ok(); }
    constexpr bool failed() const { return status_.failed(); }
    constexpr Status status() const { return status_; }
    constexpr int code() const { return status_.code(); }
    constexpr const char *why() const { return status_.why(); }
    constexpr T &value() { return value_; }
    constexpr const T &value() const { return value_; }

  private:
    Status status_ = Status::success();
    T value_{};
};

} // namespace minivmx
