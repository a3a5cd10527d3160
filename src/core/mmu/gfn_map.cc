// SPDX-License-Identifier: GPL-2.0-only
// The radix tree from guest frames to what is known of them.
#include "gfn_map.hpp"

namespace minivmx {

static_assert(sizeof(FrameInfo) << GfnMap::kLeafBits == 4096);
static_assert(sizeof(void *) << GfnMap::kInnerBits == 4096);

FrameInfo *GfnMap::find(u64 key) const
{
    constexpr u64 kInLeaf = (1u << kLeafBits) - 1;
    Recent &found = recent(key);
    if (found.leaf && found.place == key >> kLeafBits)
        return found.leaf + (key & kInLeaf);
    if (key >= kEnd)
        return nullptr;
    void *node = root_;
    for (unsigned level = kInnerLevels; node && level > 0; level--) {
        const u64 index = key >> shift(level) & ((1u << kInnerBits) - 1);
        node = static_cast<void **>(node)[index];
    }
    if (!node)
        return nullptr;
    found = {key >> kLeafBits, static_cast<FrameInfo *>(node)};
    return found.leaf + (key & kInLeaf);
}

FrameInfo *GfnMap::make(u64 key, NodeStock stock)
{
    if (FrameInfo *info = find(key))
        return info;
    if (key >= kEnd)
        return nullptr;
    void **place = &root_;
    for (unsigned level = kInnerLevels;; level--) {
        if (!*place)
            *place = stock.take();
        if (!*place)
            return nullptr;
        if (level == 0)
            return static_cast<FrameInfo *>(*place) + (key & ((1u << kLeafBits) - 1));
        const u64 index = key >> shift(level) & ((1u << kInnerBits) - 1);
        place = &static_cast<void **>(*place)[index];
    }
}

bool GfnMap::leaf_is_empty(const FrameInfo *leaf)
{
    for (u32 i = 0; i < 1u << kLeafBits; i++) {
        const FrameInfo &info = leaf[i];
        if ((info.leaf | info.leaves | info.page | info.shadowing) != 0)
            return false;
    }
    return true;
}

} // namespace minivmx
