// SPDX-License-Identifier: GPL-2.0-only
//
// Explanations as lines for a person.
#pragma once

#include "explain.hpp"

#include <string>

namespace minivmx::tool {

/// `text` after `first`, broken at spaces so that no line is longer than 100 characters; further
/// lines begin in column `indent`, or else where the first one's text does.
std::string wrapped(const std::string &first, const std::string &text);
std::string wrapped(const std::string &first, const std::string &text, std::size_t indent);

/// Whose words these are: the machine, its parameters, the vCPU, and whether the module would load.
std::string subject_text(const Explanation &answer);

/// One bit: what it is, and each step that made it what it is.
std::string bit_text(const Explanation &answer, const ExplainedBit &bit);

/// One word: a line for each bit. `brief` puts those that minivmx does not use into lists.
std::string word_text(const Explanation &answer, const ExplainedWord &word, bool brief);

} // namespace minivmx::tool
