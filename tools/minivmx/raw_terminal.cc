// SPDX-License-Identifier: GPL-2.0-only
#include "raw_terminal.hpp"

#include <unistd.h>

namespace minivmx::tool {

RawTerminal::RawTerminal(int fd) : fd_(fd)
{
    constexpr cc_t kControlBracket = 0x1d;
    if (tcgetattr(fd_, &saved_) != 0)
        return;
    termios raw = saved_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | IEXTEN);
    raw.c_iflag &= ~static_cast<tcflag_t>(IXON | ICRNL);
    for (cc_t &character : raw.c_cc)
        character = _POSIX_VDISABLE;
    raw.c_cc[VINTR] = kControlBracket;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    active_ = tcsetattr(fd_, TCSAFLUSH, &raw) == 0;
}

RawTerminal::~RawTerminal()
{
    if (active_)
        tcsetattr(fd_, TCSAFLUSH, &saved_);
}

} // namespace minivmx::tool
