// SPDX-License-Identifier: GPL-2.0-only
//
// A piece of memory that the VMM gives to a guest.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace minivmx::tool {

/// Anonymous, zeroed pages, mapped here and meant for the guest-physical range
/// [base, base + size). Owns the mapping, which stays where it is; moving the object moves the
/// ownership. Not synchronised: what vCPUs do with it at the same time is the guest's business.
class GuestMemory {
  public:
    /// Both in bytes and multiples of a page. Throws when the host has no room.
    GuestMemory(std::uint64_t base, std::uint64_t size);
    GuestMemory(GuestMemory &&other) noexcept;
    GuestMemory &operator=(GuestMemory &&other) = delete;
    GuestMemory(const GuestMemory &) = delete;
    GuestMemory &operator=(const GuestMemory &) = delete;
    ~GuestMemory();

    std::uint64_t base() const { return base_; }
    std::uint64_t size() const { return size_; }
    std::uint8_t *host() const { return host_; }

    bool contains(std::uint64_t address, std::uint64_t length) const;

    /// The bytes of a guest-physical range. Throws when the range is not all in this memory.
    std::span<std::uint8_t> range(std::uint64_t address, std::uint64_t length) const;

    template <typename T>
    void store(std::uint64_t address, T value) const
    {
        static_assert(std::is_trivially_copyable_v<T>);
        std::memcpy(range(address, sizeof(T)).data(), &value, sizeof(T));
    }

    template <typename T>
    T load(std::uint64_t address) const
    {
        static_assert(std::is_trivially_copyable_v<T>);
        T value;
        std::memcpy(&value, range(address, sizeof(T)).data(), sizeof(T));
        return value;
    }

  private:
    std::uint64_t base_;
    std::uint64_t size_;
    std::uint8_t *host_;
};

} // namespace minivmx::tool
