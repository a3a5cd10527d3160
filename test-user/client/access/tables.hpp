// SPDX-License-Identifier: GPL-2.0-only
//
// A guest in 64-bit mode with a page of its own tables, for the tests that run other code than the
// loop of cases.
#pragma once

#include "../guest/guest_test.hpp"

constexpr uint64_t kPresentWrite = guest::kPresent | guest::kWrite;
constexpr uint64_t kOutside = 0x123456000;  // no slot there, but a possible address
constexpr uint64_t kVirtual = 0x8040201000; // index 1 at each of the four levels
// Tables for it, in G_FREE.
constexpr uint64_t kPdpt = G_FREE, kPd = G_FREE + 0x1000, kPt = G_FREE + 0x2000;
constexpr uint64_t kPageA = G_FREE + 0x3000, kPageB = G_FREE + 0x4000;

inline void map_virtual(Guest &g)
{
    g.memory.at<uint64_t>(G_TABLES + 8) = kPdpt | kPresentWrite;
    g.memory.at<uint64_t>(kPdpt + 8) = kPd | kPresentWrite;
    g.memory.at<uint64_t>(kPd + 8) = kPt | kPresentWrite;
    g.memory.at<uint64_t>(kPt + 8) = kPageA | kPresentWrite;
    g.memory.at<uint32_t>(kPageA) = 0xaaaaaaaa;
    g.memory.at<uint32_t>(kPageB) = 0xbbbbbbbb;
}

inline kvm_regs regs_with(uint64_t rax, uint64_t rbx = 0)
{
    kvm_regs r = fresh_regs(0x202);
    r.rax = rax;
    r.rbx = rbx;
    return r;
}
