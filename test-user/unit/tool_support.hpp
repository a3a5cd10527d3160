// SPDX-License-Identifier: GPL-2.0-only
//
// What the tests of the minivmx command share.
#pragma once

#include <error.hpp>

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

namespace minivmx::tool {

/// The sentence of the usage error that `work` throws; empty when it throws none. Other errors
/// pass.
template <typename Work>
std::string usage_error(Work work)
{
    try {
        work();
    } catch (const Error &error) {
        if (error.status() == ExitStatus::kUsage)
            return error.what();
        throw;
    }
    return "";
}

/// A file with this content that exists as long as the object.
class TemporaryFile {
  public:
    explicit TemporaryFile(std::span<const std::uint8_t> content)
    {
        const int fd = mkstemp(path_.data());
        if (fd < 0 ||
            write(fd, content.data(), content.size()) != static_cast<ssize_t>(content.size()))
            std::abort();
        close(fd);
    }
    TemporaryFile(const TemporaryFile &) = delete;
    TemporaryFile &operator=(const TemporaryFile &) = delete;
    ~TemporaryFile() { unlink(path_.c_str()); }
    const std::string &path() const { return path_; }

  private:
    std::string path_ = "/tmp/minivmx-test-XXXXXX";
};

} // namespace minivmx::tool
