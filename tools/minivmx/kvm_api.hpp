// SPDX-License-Identifier: GPL-2.0-only
//
// <linux/kvm.h> with the sizes that the kernel means. Include this instead.
#pragma once

#include <linux/stddef.h>

// Some structures end in a flexible array. The header's macro puts an empty struct before it, which
// has size 0 in C and 1 in C++; the structure's size is part of its ioctl's number, so that a C++
// program would ask for ioctls that nobody knows.
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]

#include <linux/kvm.h>

static_assert(sizeof(kvm_cpuid2) == 8, "linux/kvm.h was included before, with other sizes");
