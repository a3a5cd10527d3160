// SPDX-License-Identifier: GPL-2.0-only
#include "streams.hpp"

#include "error.hpp"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>

namespace minivmx::tool {
namespace {

UniqueFd open_input(const std::string &path)
{
    if (path == "-")
        return {};
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid())
        fail_usage("--input: cannot open {}: {}", path, errno_text(errno));
    return fd;
}

} // namespace

void StreamSink::put(std::uint8_t byte)
{
    std::fputc(byte, stream_);
    dirty_ = true;
    if (byte == '\n')
        flush();
}

void StreamSink::flush()
{
    if (dirty_)
        std::fflush(stream_);
    dirty_ = false;
}

bool StreamSink::failed() const
{
    return std::ferror(stream_) != 0;
}

FileSource::FileSource(const std::string &path)
    : own_fd_(open_input(path)), fd_(own_fd_.valid() ? own_fd_.get() : STDIN_FILENO)
{}

/// Reads only when poll() says that read() will not wait. An unreadable input counts as ended.
void FileSource::refill()
{
    if (next_ < filled_ || at_end_)
        return;
    pollfd ready = {fd_, POLLIN, 0};
    if (poll(&ready, 1, 0) <= 0)
        return;
    const ssize_t got = read(fd_, buffer_.data(), buffer_.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    next_ = 0;
    filled_ = got > 0 ? static_cast<std::size_t>(got) : 0;
    at_end_ = got <= 0;
}

std::optional<std::uint8_t> FileSource::take()
{
    refill();
    if (next_ == filled_)
        return std::nullopt;
    return buffer_.at(next_++);
}

bool FileSource::ended()
{
    refill();
    return at_end_ && next_ == filled_;
}

} // namespace minivmx::tool
