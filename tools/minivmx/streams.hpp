// SPDX-License-Identifier: GPL-2.0-only
//
// The ends of a serial line: files, memory, nothing.
#pragma once

#include "serial.hpp"
#include "unique_fd.hpp"

#include <array>
#include <cstdio>
#include <string>

namespace minivmx::tool {

/// Writes to a C stream that outlives it; complete lines appear at once. Errors are kept for
/// failed().
class StreamSink : public ByteSink {
  public:
    explicit StreamSink(std::FILE *stream) : stream_(stream) {}
    void put(std::uint8_t byte) override;
    void flush() override;
    bool failed() const;

  private:
    std::FILE *stream_;
    bool dirty_ = false;
};

/// Keeps everything.
class StringSink : public ByteSink {
  public:
    void put(std::uint8_t byte) override { text_.push_back(static_cast<char>(byte)); }
    void flush() override {}
    const std::string &text() const { return text_; }

  private:
    std::string text_;
};

/// A line on which nobody sends.
class NoSource : public ByteSource {
  public:
    std::optional<std::uint8_t> take() override { return std::nullopt; }
    bool ended() override { return true; }
};

/// Reads a file, a pipe or a terminal, without ever waiting for it.
class FileSource : public ByteSource {
  public:
    /// `path` "-" is the standard input. Throws a usage Error naming --input and the path.
    explicit FileSource(const std::string &path);
    int fd() const { return fd_; }
    std::optional<std::uint8_t> take() override;
    bool ended() override;

  private:
    void refill();

    UniqueFd own_fd_; // empty for the standard input, which is not ours to close
    int fd_;
    std::array<std::uint8_t, 4096> buffer_ = {};
    std::size_t next_ = 0;
    std::size_t filled_ = 0;
    bool at_end_ = false;
};

} // namespace minivmx::tool
