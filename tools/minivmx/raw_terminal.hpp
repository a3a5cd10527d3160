// SPDX-License-Identifier: GPL-2.0-only
//
// The user's terminal while a guest's console is on it.
#pragma once

#include <termios.h>

namespace minivmx::tool {

/// As long as it lives, the terminal `fd` passes key strokes on one by one, unechoed; Ctrl-] makes
/// a SIGINT, instead of Ctrl-C, which is the guest's. Does nothing when `fd` is no terminal.
class RawTerminal {
  public:
    explicit RawTerminal(int fd);
    RawTerminal(const RawTerminal &) = delete;
    RawTerminal &operator=(const RawTerminal &) = delete;
    ~RawTerminal();

    bool active() const { return active_; }

  private:
    int fd_;
    bool active_ = false;
    termios saved_ = {};
};

} // namespace minivmx::tool
