// SPDX-License-Identifier: GPL-2.0-only
#include "generations.hpp"

#include <algorithm>
#include <string_view>
#include <tuple>

namespace minivmx::profiles {

namespace {

/// CPUs of one family and model, from a stepping on: the same model may carry several designs.
struct Model {
    u32 family, model, first_stepping;
    Generation generation;
};

// Models are those of SDM Vol. 4, table 2-1 (DisplayFamily_DisplayModel), and of the kernel's
// arch/x86/include/asm/intel-family.h; years are when Intel began to sell the first of them.
// Where a model appears twice, the row of the highest stepping that is not above the CPU's counts.
// Rows are in the order in which the generations came.
constexpr Model kIntel[] = {
    {6, 0x0f, 0, {"Core 2, 65 nm", CpuLine::kCore, 2006}},
    {6, 0x16, 0, {"Core 2, 65 nm", CpuLine::kCore, 2006}},
    {6, 0x17, 0, {"Core 2, 45 nm", CpuLine::kCore, 2007}},
    {6, 0x1d, 0, {"Core 2, 45 nm", CpuLine::kCore, 2007}},
    {6, 0x1a, 0, {"Nehalem", CpuLine::kCore, 2008}},
    {6, 0x1e, 0, {"Nehalem", CpuLine::kCore, 2008}},
    {6, 0x1f, 0, {"Nehalem", CpuLine::kCore, 2008}},
    {6, 0x2e, 0, {"Nehalem", CpuLine::kCore, 2008}},
    {6, 0x25, 0, {"Westmere", CpuLine::kCore, 2010}},
    {6, 0x2c, 0, {"Westmere", CpuLine::kCore, 2010}},
    {6, 0x2f, 0, {"Westmere", CpuLine::kCore, 2010}},
    {6, 0x2a, 0, {"Sandy Bridge", CpuLine::kCore, 2011}},
    {6, 0x2d, 0, {"Sandy Bridge", CpuLine::kCore, 2011}},
    {6, 0x3a, 0, {"Ivy Bridge", CpuLine::kCore, 2012}},
    {6, 0x3e, 0, {"Ivy Bridge", CpuLine::kCore, 2012}},
    {6, 0x3c, 0, {"Haswell", CpuLine::kCore, 2013}},
    {6, 0x3f, 0, {"Haswell", CpuLine::kCore, 2013}},
    {6, 0x45, 0, {"Haswell", CpuLine::kCore, 2013}},
    {6, 0x46, 0, {"Haswell", CpuLine::kCore, 2013}},
    {6, 0x3d, 0, {"Broadwell", CpuLine::kCore, 2014}},
    {6, 0x47, 0, {"Broadwell", CpuLine::kCore, 2014}},
    {6, 0x4f, 0, {"Broadwell", CpuLine::kCore, 2014}},
    {6, 0x56, 0, {"Broadwell", CpuLine::kCore, 2014}},
    {6, 0x4e, 0, {"Skylake", CpuLine::kCore, 2015}},
    {6, 0x5e, 0, {"Skylake", CpuLine::kCore, 2015}},
    {6, 0x8e, 0, {"Kaby Lake", CpuLine::kCore, 2016}},
    {6, 0x9e, 0, {"Kaby Lake", CpuLine::kCore, 2016}},
    {6, 0x55, 0, {"Skylake-SP", CpuLine::kCore, 2017}},
    {6, 0x8e, 10, {"Coffee Lake", CpuLine::kCore, 2017}},
    {6, 0x9e, 10, {"Coffee Lake", CpuLine::kCore, 2017}},
    {6, 0x66, 0, {"Cannon Lake", CpuLine::kCore, 2018}},
    {6, 0x55, 5, {"Cascade Lake", CpuLine::kCore, 2019}},
    {6, 0xa5, 0, {"Comet Lake", CpuLine::kCore, 2019}},
    {6, 0xa6, 0, {"Comet Lake", CpuLine::kCore, 2019}},
    {6, 0x7d, 0, {"Ice Lake", CpuLine::kCore, 2019}},
    {6, 0x7e, 0, {"Ice Lake", CpuLine::kCore, 2019}},
    {6, 0x8a, 0, {"Lakefield", CpuLine::kCore, 2020}},
    {6, 0x55, 10, {"Cooper Lake", CpuLine::kCore, 2020}},
    {6, 0x8c, 0, {"Tiger Lake", CpuLine::kCore, 2020}},
    {6, 0x8d, 0, {"Tiger Lake", CpuLine::kCore, 2020}},
    {6, 0xa7, 0, {"Rocket Lake", CpuLine::kCore, 2021}},
    {6, 0x6a, 0, {"Ice Lake-SP", CpuLine::kCore, 2021}},
    {6, 0x6c, 0, {"Ice Lake-SP", CpuLine::kCore, 2021}},
    {6, 0x97, 0, {"Alder Lake", CpuLine::kCore, 2021}},
    {6, 0x9a, 0, {"Alder Lake", CpuLine::kCore, 2021}},
    {6, 0xb7, 0, {"Raptor Lake", CpuLine::kCore, 2022}},
    {6, 0xba, 0, {"Raptor Lake", CpuLine::kCore, 2022}},
    {6, 0xbf, 0, {"Raptor Lake", CpuLine::kCore, 2022}},
    {6, 0x8f, 0, {"Sapphire Rapids", CpuLine::kCore, 2023}},
    {6, 0xaa, 0, {"Meteor Lake", CpuLine::kCore, 2023}},
    {6, 0xac, 0, {"Meteor Lake", CpuLine::kCore, 2023}},
    {6, 0xcf, 0, {"Emerald Rapids", CpuLine::kCore, 2023}},
    {6, 0xad, 0, {"Granite Rapids", CpuLine::kCore, 2024}},
    {6, 0xae, 0, {"Granite Rapids", CpuLine::kCore, 2024}},
    {6, 0xbd, 0, {"Lunar Lake", CpuLine::kCore, 2024}},
    {6, 0xc5, 0, {"Arrow Lake", CpuLine::kCore, 2024}},
    {6, 0xc6, 0, {"Arrow Lake", CpuLine::kCore, 2024}},
    {6, 0xb5, 0, {"Arrow Lake-U", CpuLine::kCore, 2025}},
    {6, 0xcc, 0, {"Panther Lake", CpuLine::kCore, 2026}},
    {6, 0xd5, 0, {"Wildcat Lake", CpuLine::kCore, 2026}},

    {6, 0x1c, 0, {"Bonnell", CpuLine::kAtom, 2008}},
    {6, 0x26, 0, {"Bonnell", CpuLine::kAtom, 2008}},
    {6, 0x27, 0, {"Saltwell", CpuLine::kAtom, 2011}},
    {6, 0x35, 0, {"Saltwell", CpuLine::kAtom, 2011}},
    {6, 0x36, 0, {"Saltwell", CpuLine::kAtom, 2011}},
    {6, 0x37, 0, {"Silvermont", CpuLine::kAtom, 2013}},
    {6, 0x4a, 0, {"Silvermont", CpuLine::kAtom, 2013}},
    {6, 0x4d, 0, {"Silvermont", CpuLine::kAtom, 2013}},
    {6, 0x5a, 0, {"Silvermont", CpuLine::kAtom, 2013}},
    {6, 0x5d, 0, {"Silvermont", CpuLine::kAtom, 2013}},
    {6, 0x4c, 0, {"Airmont", CpuLine::kAtom, 2015}},
    {6, 0x5c, 0, {"Goldmont", CpuLine::kAtom, 2016}},
    {6, 0x5f, 0, {"Goldmont", CpuLine::kAtom, 2016}},
    {6, 0x7a, 0, {"Goldmont Plus", CpuLine::kAtom, 2017}},
    {6, 0x86, 0, {"Tremont", CpuLine::kAtom, 2020}},
    {6, 0x96, 0, {"Tremont", CpuLine::kAtom, 2020}},
    {6, 0x9c, 0, {"Tremont", CpuLine::kAtom, 2020}},
    {6, 0xbe, 0, {"Gracemont", CpuLine::kAtom, 2023}},
    {6, 0xaf, 0, {"Sierra Forest", CpuLine::kAtom, 2024}},
    {6, 0xb6, 0, {"Grand Ridge", CpuLine::kAtom, 2024}},
};

// Zhaoxin's own designs count their families from 7; the names are those of its datasheets.
constexpr Model kCentaur[] = {
    {6, 0x0f, 0, {"Isaiah", CpuLine::kCentaur, 2008}},
    {6, 0x19, 0, {"ZhangJiang", CpuLine::kCentaur, 2015}},
    {7, 0x1b, 0, {"WuDaoKou", CpuLine::kCentaur, 2017}},
    {7, 0x3b, 0, {"LuJiaZui", CpuLine::kCentaur, 2019}},
    {6, 0x47, 0, {"CNS", CpuLine::kCentaur, 2020}},
    {7, 0x5b, 0, {"YongFeng", CpuLine::kCentaur, 2022}},
    {7, 0x6b, 0, {"ShiJiDaDao", CpuLine::kCentaur, 2023}},
};

constexpr Generation kUnknown = {"unknown", CpuLine::kUnknown, 0};

/// A generation's place among those of its vendor.
template <std::size_t N>
std::size_t place_among(const Model (&models)[N], const Generation &generation)
{
    const std::string_view name = generation.name;
    std::size_t place = 0;
    while (place < N && models[place].generation.name != name)
        place++;
    return place;
}

template <std::size_t N>
const Generation &find(const Model (&models)[N], CpuSignature signature)
{
    const Model *best = nullptr;
    for (const Model &row : models) {
        if (row.family == signature.family() && row.model == signature.model() &&
            row.first_stepping <= signature.stepping() &&
            (best == nullptr || row.first_stepping > best->first_stepping))
            best = &row;
    }
    return best != nullptr ? best->generation : kUnknown;
}

} // namespace

const char *line_name(CpuLine line)
{
    switch (line) {
    case CpuLine::kCore:
        return "Core and Xeon";
    case CpuLine::kAtom:
        return "Atom";
    case CpuLine::kCentaur:
        return "VIA and Zhaoxin";
    case CpuLine::kUnknown:
        break;
    }
    return "other";
}

const Generation &generation_of(const std::string &vendor, CpuSignature signature)
{
    if (vendor == "GenuineIntel")
        return find(kIntel, signature);
    if (vendor == "CentaurHauls" || vendor == "  Shanghai  ")
        return find(kCentaur, signature);
    return kUnknown;
}

const Generation &generation_of(const CpuProfile &profile)
{
    return generation_of(profile.vendor, CpuSignature{profile.signature});
}

bool same_generation(const CpuProfile &a, const CpuProfile &b)
{
    // Several models share one.
    const Generation &x = generation_of(a);
    const Generation &y = generation_of(b);
    return x.line == y.line && std::string_view(x.name) == y.name;
}

std::vector<const CpuProfile *> profiles_by_generation()
{
    const auto order_of = [](const CpuProfile &profile) {
        const Generation &generation = generation_of(profile);
        return std::tuple(profile.emulated, generation.line, generation.year,
                          generation.line == CpuLine::kCentaur ? place_among(kCentaur, generation)
                                                               : place_among(kIntel, generation));
    };
    std::vector<const CpuProfile *> order;
    for (const CpuProfile &profile : shipped_profiles())
        order.push_back(&profile);
    // Within a generation the file's order stays: it goes by signature.
    std::stable_sort(order.begin(), order.end(), [&](const CpuProfile *a, const CpuProfile *b) {
        return order_of(*a) < order_of(*b);
    });
    return order;
}

} // namespace minivmx::profiles
