// SPDX-License-Identifier: GPL-2.0-only
//
// A Linux kernel's file: the bzImage that its 64-bit boot protocol describes
// (Documentation/x86/boot.rst of the kernel).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace minivmx::tool {

/// Offsets of the setup header's fields, in the file as in the zero page, and what they may hold.
namespace setup {
constexpr std::size_t kHeader = 0x1f1;
constexpr std::size_t kSetupSects = 0x1f1;
constexpr std::size_t kBootFlag = 0x1fe;
constexpr std::size_t kJumpLength = 0x201; // the header ends so many bytes after 0x202
constexpr std::size_t kHeaderBase = 0x202;
constexpr std::size_t kMagic = 0x202;
constexpr std::size_t kVersion = 0x206;
constexpr std::size_t kTypeOfLoader = 0x210;
constexpr std::size_t kLoadFlags = 0x211;
constexpr std::size_t kRamdiskImage = 0x218;
constexpr std::size_t kRamdiskSize = 0x21c;
constexpr std::size_t kCmdLinePtr = 0x228;
constexpr std::size_t kInitrdAddrMax = 0x22c;
constexpr std::size_t kKernelAlignment = 0x230;
constexpr std::size_t kRelocatable = 0x234;
constexpr std::size_t kXloadFlags = 0x236;
constexpr std::size_t kCmdlineSize = 0x238;
constexpr std::size_t kPrefAddress = 0x258;
constexpr std::size_t kInitSize = 0x260;
constexpr std::size_t kMostHeader = 0x290; // where the zero page has other things
} // namespace setup

/// What the loader needs of it, checked: every number here was found sane.
struct BzImage {
    std::vector<std::uint8_t> header; // from setup::kHeader on
    std::vector<std::uint8_t> kernel; // the protected-mode part
    std::uint64_t preferred;          // where it wants to lie
    std::uint64_t alignment;          // elsewhere, a multiple of this
    std::uint64_t memory;             // bytes it needs from its start on, until it knows better
    bool relocatable;
    std::uint64_t initrd_end;   // the initrd may reach up to here
    std::uint64_t cmdline_size; // the longest command line, without its NUL
};

/// Takes a file's bytes apart. `path` is named in the usage Error that it throws for anything but a
/// 64-bit kernel that can be loaded: cut short, another format, too old, numbers that make no
/// sense.
BzImage parse_bzimage(const std::string &path, std::span<const std::uint8_t> file);

} // namespace minivmx::tool
