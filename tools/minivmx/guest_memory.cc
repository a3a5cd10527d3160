// SPDX-License-Identifier: GPL-2.0-only
#include "guest_memory.hpp"

#include "error.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

namespace minivmx::tool {

GuestMemory::GuestMemory(std::uint64_t base, std::uint64_t size) : base_(base), size_(size)
{
    void *mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        fail("no room for {} KiB of guest memory: {}", size / 1024, errno_text(errno));
    host_ = static_cast<std::uint8_t *>(mapped);
}

GuestMemory::GuestMemory(GuestMemory &&other) noexcept
    : base_(other.base_), size_(other.size_), host_(std::exchange(other.host_, nullptr))
{}

GuestMemory::~GuestMemory()
{
    if (host_ != nullptr)
        munmap(host_, size_);
}

bool GuestMemory::contains(std::uint64_t address, std::uint64_t length) const
{
    return address >= base_ && length <= size_ && address - base_ <= size_ - length;
}

std::span<std::uint8_t> GuestMemory::range(std::uint64_t address, std::uint64_t length) const
{
    if (!contains(address, length))
        fail("guest-physical range {:#x} + {:#x} lies outside of memory, which ends at {:#x}",
             address, length, base_ + size_);
    return {host_ + (address - base_), length};
}

} // namespace minivmx::tool
