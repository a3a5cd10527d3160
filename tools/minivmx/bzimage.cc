// SPDX-License-Identifier: GPL-2.0-only
#include "bzimage.hpp"

#include "error.hpp"

#include <algorithm>
#include <cstring>

namespace minivmx::tool {
namespace {

constexpr std::size_t kSector = 512;
constexpr std::uint8_t kDefaultSetupSects = 4; // what 0 means
constexpr std::uint16_t kBootFlagValue = 0xaa55;
constexpr std::uint32_t kMagicValue = 0x53726448; // "HdrS"
constexpr std::uint16_t kLeastVersion = 0x020c;   // the first with xloadflags
constexpr std::uint8_t kLoadedHigh = 1 << 0;
constexpr std::uint16_t kHas64BitEntry = 1 << 0;
constexpr std::uint64_t kPage = 0x1000;
constexpr std::uint64_t kOneMiB = 1 << 20;
constexpr std::uint64_t kFourGiB = std::uint64_t{1} << 32;
// The 64-bit entry's distance from the start.
constexpr std::size_t kEntry64 = 0x200;

template <typename T>
T field(std::span<const std::uint8_t> file, std::size_t offset)
{
    T value;
    std::memcpy(&value, file.data() + offset, sizeof(value));
    return value;
}

/// All fields that are read later lie inside the file.
void check_magic(const std::string &path, std::span<const std::uint8_t> file)
{
    if (file.size() < setup::kMostHeader)
        fail_usage("{}: {} bytes are too few for a Linux kernel", path, file.size());
    if (field<std::uint16_t>(file, setup::kBootFlag) != kBootFlagValue ||
        field<std::uint32_t>(file, setup::kMagic) != kMagicValue)
        fail_usage("{}: not a Linux bzImage (no boot signature and setup header)", path);
    const auto version = field<std::uint16_t>(file, setup::kVersion);
    if (version < kLeastVersion)
        fail_usage("{}: boot protocol {}.{:02}, expected 2.12 or newer (Linux 3.8)", path,
                   version >> 8, version & 0xff);
    if ((field<std::uint8_t>(file, setup::kLoadFlags) & kLoadedHigh) == 0)
        fail_usage("{}: a zImage, which is loaded below 1 MiB; expected a bzImage", path);
    if ((field<std::uint16_t>(file, setup::kXloadFlags) & kHas64BitEntry) == 0)
        fail_usage("{}: a kernel without a 64-bit entry point", path);
}

std::vector<std::uint8_t> take_header(const std::string &path, std::span<const std::uint8_t> file)
{
    const std::size_t end = setup::kHeaderBase + field<std::uint8_t>(file, setup::kJumpLength);
    if (end < setup::kInitSize + sizeof(std::uint32_t))
        fail_usage("{}: the setup header ends at {:#x}, before the fields of its version", path,
                   end);
    const std::size_t copied = std::min(end, setup::kMostHeader);
    return {file.begin() + setup::kHeader, file.begin() + static_cast<std::ptrdiff_t>(copied)};
}

std::vector<std::uint8_t> take_kernel(const std::string &path, std::span<const std::uint8_t> file)
{
    std::size_t sectors = field<std::uint8_t>(file, setup::kSetupSects);
    if (sectors == 0)
        sectors = kDefaultSetupSects;
    const std::size_t start = (sectors + 1) * kSector;
    if (file.size() <= start + kEntry64)
        fail_usage("{}: the file ends at {} bytes, before the kernel that begins at {}", path,
                   file.size(), start);
    return {file.begin() + static_cast<std::ptrdiff_t>(start), file.end()};
}

void check_placement(const std::string &path, const BzImage &image)
{
    if (image.alignment < kPage || (image.alignment & (image.alignment - 1)) != 0 ||
        image.alignment > kFourGiB)
        fail_usage("{}: the header's kernel_alignment {:#x} is no power of two of at least a page",
                   path, image.alignment);
    if (image.preferred < kOneMiB || image.preferred >= kFourGiB || image.preferred % kPage != 0)
        fail_usage("{}: the header's pref_address {:#x} is not a page from 1 MiB to 4 GiB", path,
                   image.preferred);
    if (image.memory < image.kernel.size())
        fail_usage("{}: the header's init_size {:#x} is less than the kernel's {:#x} bytes", path,
                   image.memory, image.kernel.size());
}

} // namespace

BzImage parse_bzimage(const std::string &path, std::span<const std::uint8_t> file)
{
    check_magic(path, file);
    BzImage image = {};
    image.header = take_header(path, file);
    image.kernel = take_kernel(path, file);
    image.preferred = field<std::uint64_t>(file, setup::kPrefAddress);
    image.alignment = field<std::uint32_t>(file, setup::kKernelAlignment);
    image.memory = field<std::uint32_t>(file, setup::kInitSize);
    image.relocatable = field<std::uint8_t>(file, setup::kRelocatable) != 0;
    image.initrd_end = std::uint64_t{field<std::uint32_t>(file, setup::kInitrdAddrMax)} + 1;
    image.cmdline_size = field<std::uint32_t>(file, setup::kCmdlineSize);
    check_placement(path, image);
    return image;
}

} // namespace minivmx::tool
