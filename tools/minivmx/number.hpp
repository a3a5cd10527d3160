// SPDX-License-Identifier: GPL-2.0-only
//
// Numbers as a person types them on a command line, and as a person reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace minivmx::tool {

/// A decimal or 0x-hexadecimal number, the whole of `text`. `option` is named when it is wrong:
/// throws a usage Error for anything else and for a value outside [least, most].
std::uint64_t parse_number(std::string_view option, std::string_view text, std::uint64_t least,
                           std::uint64_t most);

/// The same with an optional unit behind it: K, M, G or KiB, MiB, GiB in either case, always powers
/// of 1024. The value and the bounds are in bytes.
std::uint64_t parse_size(std::string_view option, std::string_view text, std::uint64_t least,
                         std::uint64_t most);

/// Seconds with an optional fraction ("2", "0.5"), in milliseconds, rounded up.
std::uint64_t parse_seconds(std::string_view option, std::string_view text);

/// 1234567 as 1,234,567.
std::string grouped(std::uint64_t number);

} // namespace minivmx::tool
