// SPDX-License-Identifier: GPL-2.0-only
#include "image.hpp"

#include "error.hpp"
#include "guest_abi.h"
#include "unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace minivmx::tool {
namespace {

/// Reads until the end of the file, but never more than one byte beyond `most`: the file may grow
/// while it is read, or be a pipe that never ends.
std::vector<std::uint8_t> read_bounded(int fd, const std::string &path, std::uint64_t most)
{
    constexpr std::size_t kChunk = 1 << 16;
    std::vector<std::uint8_t> bytes;
    while (bytes.size() <= most) {
        const std::size_t old_size = bytes.size();
        bytes.resize(old_size + kChunk);
        const ssize_t got = read(fd, bytes.data() + old_size, kChunk);
        if (got < 0 && errno != EINTR)
            fail_usage("{}: cannot read: {}", path, errno_text(errno));
        bytes.resize(old_size + static_cast<std::size_t>(got > 0 ? got : 0));
        if (got == 0)
            break;
    }
    return bytes;
}

} // namespace

std::vector<std::uint8_t> read_image(const std::string &path, std::uint64_t most)
{
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid())
        fail_usage("{}: cannot open: {}", path, errno_text(errno));
    std::vector<std::uint8_t> bytes = read_bounded(fd.get(), path, most);
    if (bytes.empty())
        fail_usage("{}: the file is empty", path);
    if (bytes.size() > most)
        fail_usage("{}: the file is too large: expected at most {} bytes", path, most);
    return bytes;
}

std::optional<Mode> image_mode(const std::string &path, const std::vector<std::uint8_t> &image)
{
    if (image.size() < GUEST_NOTE_SIZE)
        return std::nullopt;
    std::uint32_t magic = 0;
    std::memcpy(&magic, image.data() + GUEST_NOTE_OFFSET, sizeof(magic));
    if (magic != GUEST_MAGIC)
        return std::nullopt;
    const std::uint8_t mode = image[GUEST_NOTE_MODE];
    if (mode >= kModeCount)
        fail_usage("{}: the file's note names mode {}, which does not exist", path, mode);
    return static_cast<Mode>(mode);
}

} // namespace minivmx::tool
