// SPDX-License-Identifier: GPL-2.0-only
//
// A kernel file that is as small as one can be, for the tests to spoil.
#pragma once

#include <bzimage.hpp>

#include <cstring>
#include <vector>

namespace minivmx::tool {

template <typename T>
void put(std::vector<std::uint8_t> &file, std::size_t offset, T value)
{
    std::memcpy(file.data() + offset, &value, sizeof(value));
}

/// Boot protocol 2.15, one setup sector, a kernel of 4096 bytes that wants 1 MiB at 16 MiB.
inline std::vector<std::uint8_t> small_bzimage()
{
    std::vector<std::uint8_t> file(1024 + 4096, 0);
    put<std::uint8_t>(file, setup::kSetupSects, 1);
    put<std::uint16_t>(file, setup::kBootFlag, 0xaa55);
    put<std::uint8_t>(file, 0x200, 0xeb);
    put<std::uint8_t>(file, setup::kJumpLength, 0x6a);
    std::memcpy(file.data() + setup::kMagic, "HdrS", 4);
    put<std::uint16_t>(file, setup::kVersion, 0x020f);
    put<std::uint8_t>(file, setup::kLoadFlags, 1);
    put<std::uint32_t>(file, setup::kInitrdAddrMax, 0x7fffffff);
    put<std::uint32_t>(file, setup::kKernelAlignment, 0x200000);
    put<std::uint8_t>(file, setup::kRelocatable, 1);
    put<std::uint16_t>(file, setup::kXloadFlags, 1);
    put<std::uint32_t>(file, setup::kCmdlineSize, 2047);
    put<std::uint64_t>(file, setup::kPrefAddress, 0x1000000);
    put<std::uint32_t>(file, setup::kInitSize, 0x100000);
    for (std::size_t i = 1024; i < file.size(); i++)
        file[i] = static_cast<std::uint8_t>(i * 7);
    return file;
}

} // namespace minivmx::tool
