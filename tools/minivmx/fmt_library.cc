// SPDX-License-Identifier: GPL-2.0-only
// The body of libfmt, compiled once: Debian has it as headers and as a shared library, but the
// command is static. This file alone takes the headers' bodies, and keeps all of their inline
// functions (-fkeep-inline-functions) for those that only see declarations.
#define FMT_HEADER_ONLY
#include <fmt/format.h>
