// SPDX-License-Identifier: GPL-2.0-only
#include "opcodes.hpp"

namespace minivmx {

namespace {

using enum Operation;
using C = OperandCode;
using S = SizeCode;

// clang-format off
constexpr OpcodeRow kOneByteRows[] = {
    {0x63, kMovsx, {C::kG, S::kV}, {C::kE, S::kZ}, kAnyExtension, true}, // MOVSXD; ARPL elsewhere
    {0x6c, kIns,   {C::kY, S::kB}, {C::kDx, S::kW}},
    {0x6d, kIns,   {C::kY, S::kZ}, {C::kDx, S::kW}},
    {0x6e, kOuts,  {C::kDx, S::kW}, {C::kX, S::kB}},
    {0x6f, kOuts,  {C::kDx, S::kW}, {C::kX, S::kZ}},
    {0x88, kMov,   {C::kE, S::kB}, {C::kG, S::kB}},
    {0x89, kMov,   {C::kE, S::kV}, {C::kG, S::kV}},
    {0x8a, kMov,   {C::kG, S::kB}, {C::kE, S::kB}},
    {0x8b, kMov,   {C::kG, S::kV}, {C::kE, S::kV}},
    {0xa0, kMov,   {C::kAccumulator, S::kB}, {C::kO, S::kB}},
    {0xa1, kMov,   {C::kAccumulator, S::kV}, {C::kO, S::kV}},
    {0xa2, kMov,   {C::kO, S::kB}, {C::kAccumulator, S::kB}},
    {0xa3, kMov,   {C::kO, S::kV}, {C::kAccumulator, S::kV}},
    {0xa4, kMovs,  {C::kY, S::kB}, {C::kX, S::kB}},
    {0xa5, kMovs,  {C::kY, S::kV}, {C::kX, S::kV}},
    {0xaa, kStos,  {C::kY, S::kB}, {C::kAccumulator, S::kB}},
    {0xab, kStos,  {C::kY, S::kV}, {C::kAccumulator, S::kV}},
    {0xac, kLods,  {C::kAccumulator, S::kB}, {C::kX, S::kB}},
    {0xad, kLods,  {C::kAccumulator, S::kV}, {C::kX, S::kV}},
    {0xc6, kMov,   {C::kE, S::kB}, {C::kI, S::kB}, 0},
    {0xc7, kMov,   {C::kE, S::kV}, {C::kI, S::kZ}, 0},
};

constexpr OpcodeRow kTwoByteRows[] = {
    {0xb6, kMovzx, {C::kG, S::kV}, {C::kE, S::kB}},
    {0xb7, kMovzx, {C::kG, S::kV}, {C::kE, S::kW}},
    {0xbe, kMovsx, {C::kG, S::kV}, {C::kE, S::kB}},
    {0xbf, kMovsx, {C::kG, S::kV}, {C::kE, S::kW}},
};
// clang-format on

struct OpcodeMap {
    OpcodeRow rows[256];
};

template <usize N>
constexpr OpcodeMap make_opcode_map(const OpcodeRow (&rows)[N])
{
    OpcodeMap map{};
    for (const OpcodeRow &row : rows)
        map.rows[row.opcode] = row;
    return map;
}

constexpr OpcodeMap kOneByteMap = make_opcode_map(kOneByteRows);
constexpr OpcodeMap kTwoByteMap = make_opcode_map(kTwoByteRows);

} // namespace

const OpcodeRow &find_opcode(bool two_byte, u8 opcode)
{
    return (two_byte ? kTwoByteMap : kOneByteMap).rows[opcode];
}

} // namespace minivmx
