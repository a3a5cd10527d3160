// SPDX-License-Identifier: GPL-2.0-only
#include "input_pump.hpp"

#include "error.hpp"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>

namespace minivmx::tool {
namespace {

// While the guest does not read what is there, it is looked at so often.
constexpr int kBusyMilliseconds = 10;

UniqueFd make_event()
{
    UniqueFd fd(eventfd(0, EFD_CLOEXEC));
    if (!fd.valid())
        fail("cannot make an event for the guest's input: {}", errno_text(errno));
    return fd;
}

/// A thread that gets no signals: they are for the thread that waits for them.
template <typename Work>
std::thread start_quiet(Work work)
{
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    std::thread thread(work);
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    return thread;
}

} // namespace

InputPump::InputPump(Board &board, int input)
    : board_(board), input_(input), stop_(make_event()), thread_(start_quiet([this] { run(); }))
{}

InputPump::~InputPump()
{
    const std::uint64_t one = 1;
    while (write(stop_.get(), &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    thread_.join();
}

void InputPump::run()
{
    std::array<pollfd, 2> both = {{{stop_.get(), POLLIN, 0}, {input_, POLLIN, 0}}};
    for (;;) {
        if (poll(both.data(), both.size(), -1) < 0 && errno != EINTR)
            return;
        if (both[0].revents != 0 || !board_.look_for_input())
            return;
        // Readable still, perhaps: the guest takes a byte at a time.
        if (poll(both.data(), 1, kBusyMilliseconds) > 0)
            return;
    }
}

} // namespace minivmx::tool
