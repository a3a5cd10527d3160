// SPDX-License-Identifier: GPL-2.0-only
//
// Carries input to a guest that sleeps until it comes.
#pragma once

#include "board.hpp"
#include "unique_fd.hpp"

#include <thread>

namespace minivmx::tool {

/// As long as it lives, a thread waits for `input` to become readable and tells the board. It does
/// not read itself: that is done by the board's source. Both outlive it.
class InputPump {
  public:
    InputPump(Board &board, int input);
    InputPump(const InputPump &) = delete;
    InputPump &operator=(const InputPump &) = delete;
    ~InputPump();

  private:
    void run();

    Board &board_;
    int input_;
    UniqueFd stop_;
    std::thread thread_;
};

} // namespace minivmx::tool
