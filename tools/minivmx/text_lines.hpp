// SPDX-License-Identifier: GPL-2.0-only
//
// What the parsers of texts share: lines with their numbers, words, hexadecimal numbers, and other
// people's bytes in our sentences.
#pragma once

#include <minivmx/types.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace minivmx::tool {

/// Without white space at either end.
std::string_view trim(std::string_view text);

/// With one space in place of each run of them: brand strings are padded.
std::string squeezed(std::string_view text);

/// Takes a text line by line.
class TextLines {
  public:
    explicit TextLines(std::string_view text) : rest_(text) {}
    /// The next line without its end, white space around it included; nothing after the last.
    std::optional<std::string_view> next();
    /// The number of the line that next() gave, from 1.
    unsigned number() const { return number_; }

  private:
    std::string_view rest_;
    unsigned number_ = 0;
};

/// What is between the separators, without empty pieces.
std::vector<std::string_view> split(std::string_view text, std::string_view separators);

/// The whole of `text` as a hexadecimal number of at most 64 bits, with or without 0x.
std::optional<u64> parse_hex(std::string_view text);

/// The first `most` bytes, without characters that a terminal would obey.
std::string printable(std::string_view text, std::size_t most);

/// In quotation marks, short, and without characters that a terminal would obey.
std::string in_quotes(std::string_view text);

} // namespace minivmx::tool
