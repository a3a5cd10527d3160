// SPDX-License-Identifier: GPL-2.0-only
// Scopes for the host's locks and for what is read while it may be replaced.
#pragma once

#include <minivmx/host.h>
#include <minivmx/types.hpp>

namespace minivmx {

class HostLockGuard {
  public:
    explicit HostLockGuard(host_lock *lock) : lock_{lock}, flags_{host_lock_take(lock)} {}
    ~HostLockGuard() { host_lock_release(lock_, flags_); }
    HostLockGuard(const HostLockGuard &) = delete;
    HostLockGuard &operator=(const HostLockGuard &) = delete;

  private:
    host_lock *lock_;
    u64 flags_;
};

class RcuReader {
  public:
    RcuReader() : section_{host_rcu_read_lock()} {}
    ~RcuReader() { host_rcu_read_unlock(section_); }
    RcuReader(const RcuReader &) = delete;
    RcuReader &operator=(const RcuReader &) = delete;

  private:
    int section_;
};

} // namespace minivmx
