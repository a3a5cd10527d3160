// SPDX-License-Identifier: GPL-2.0-only
// A map from guest frame numbers to a few words each: a radix tree whose nodes are single pages,
// allocated by others before the lock is taken.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

// What is known of a frame, or of an aligned run of 512 frames.
struct FrameInfo {
    u32 leaf;      // the first shadow entry that maps it (SpteRef); 0: none
    u32 leaves;    // how many do
    u32 page;      // frames: the first shadow page of it, by its number; 0: none
    u32 shadowing; // how many guest tables: shadow pages of the frame, or such frames in the run
};

// Zeroed pages to make nodes of.
struct NodeStock {
    void **pages;
    u32 *count;
    void *take() const { return *count == 0 ? nullptr : pages[--*count]; }
};

class GfnMap {
  public:
    static constexpr unsigned kLeafBits = 8, kInnerBits = 9, kInnerLevels = 4;
    static constexpr unsigned kKeyBits = kLeafBits + kInnerBits * kInnerLevels;
    static constexpr u32 kPathNodes = kInnerLevels + 1; // most nodes that a key can lack

    // What is stored for the key, or null where nothing ever was. Stays where it is until prune().
    FrameInfo *find(u64 key) const;
    // The same, but makes it; null: the stock is exhausted (what was made stays).
    FrameInfo *make(u64 key, NodeStock stock);
    // Calls visit(key, info) for what is stored of [first, end), in order; absent parts cost
    // nothing.
    template <class Visit>
    void for_each(u64 first, u64 end, Visit visit) const
    {
        if (root_ && first < end)
            walk(root_, kInnerLevels, 0, first, end < kEnd ? end : kEnd, visit);
    }
    // Takes out nodes inside of [first, end) whose values are all zero, and hands them to
    // give(page).
    template <class Give>
    void prune(u64 first, u64 end, Give give)
    {
        if (root_ && first < end && prune_node(root_, kInnerLevels, 0, first, end, give)) {
            give(root_);
            root_ = nullptr;
        }
        forget_recent();
    }

    // Hands every node to give(page); nothing is stored any more.
    template <class Give>
    void destroy(Give give)
    {
        if (root_)
            destroy_node(root_, kInnerLevels, give);
        root_ = nullptr;
        forget_recent();
    }

  private:
    static constexpr u64 kEnd = u64{1} << kKeyBits;
    static constexpr unsigned shift(unsigned level) // of an inner node's index
    {
        return kLeafBits + kInnerBits * (level - 1);
    }

    template <class Visit>
    static void walk(void *node, unsigned level, u64 base, u64 first, u64 end, Visit &visit)
    {
        const unsigned count = level == 0 ? 1u << kLeafBits : 1u << kInnerBits;
        const u64 span = level == 0 ? 1 : u64{1} << shift(level);
        const u64 skip = first > base ? (first - base) / span : 0;
        for (u64 i = skip; i < count && base + i * span < end; i++) {
            if (level == 0)
                visit(base + i, static_cast<FrameInfo *>(node)[i]);
            else if (void *child = static_cast<void **>(node)[i])
                walk(child, level - 1, base + i * span, first, end, visit);
        }
    }

    // Whether the node is empty now.
    template <class Give>
    static bool prune_node(void *node, unsigned level, u64 base, u64 first, u64 end, Give &give)
    {
        if (level == 0)
            return leaf_is_empty(static_cast<const FrameInfo *>(node));
        bool empty = true;
        const u64 span = u64{1} << shift(level);
        for (u64 i = 0; i < 1u << kInnerBits; i++) {
            void *&child = static_cast<void **>(node)[i];
            if (!child)
                continue;
            const bool touched = base + (i + 1) * span > first && base + i * span < end;
            if (touched && prune_node(child, level - 1, base + i * span, first, end, give)) {
                give(child);
                child = nullptr;
            }
            empty &= child == nullptr;
        }
        return empty;
    }

    template <class Give>
    static void destroy_node(void *node, unsigned level, Give &give)
    {
        for (u64 i = 0; level > 0 && i < 1u << kInnerBits; i++) {
            if (void *child = static_cast<void **>(node)[i])
                destroy_node(child, level - 1, give);
        }
        give(node);
    }

    static bool leaf_is_empty(const FrameInfo *leaf);

    // Leaf nodes that were found lately, by their place; empty ones are null.
    struct Recent {
        u64 place; // key >> kLeafBits
        FrameInfo *leaf;
    };
    static constexpr u32 kRecent = 8;
    Recent &recent(u64 key) const { return recent_[key >> kLeafBits & (kRecent - 1)]; }
    void forget_recent()
    {
        for (Recent &each : recent_)
            each.leaf = nullptr;
    }

    void *root_;
    mutable Recent recent_[kRecent];
};

} // namespace minivmx
