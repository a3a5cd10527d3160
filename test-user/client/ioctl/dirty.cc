// SPDX-License-Identifier: GPL-2.0-only
//
// KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG and their capability: arguments.
#include "ioctl_test.hpp"

using namespace kvm;

namespace {

// Slot 1: 200 pages, logged. Slot 2: 64 pages, not logged.
struct Logged {
    static constexpr uint64_t kPages = 200;
    Device device;
    Vm vm{device};
    Memory memory{kPages * kPage};
    Memory bitmap{2 * kPage};

    Logged()
    {
        REQUIRE_OK(
            vm.set_slot(1, 0x10000000, kPages * kPage, memory.base, KVM_MEM_LOG_DIRTY_PAGES));
        REQUIRE_OK(vm.set_slot(2, 0x20000000, 64 * kPage, memory.base));
    }
    ~Logged() { expect_usable(device, vm); }
    int get(uint32_t slot, void *to) const
    {
        kvm_dirty_log log = {};
        log.slot = slot;
        log.dirty_bitmap = to;
        return call(vm, KVM_GET_DIRTY_LOG, &log);
    }
    int get(uint32_t slot) const { return get(slot, bitmap.base); }
    int clear(uint32_t slot, uint64_t first, uint32_t count, void *from) const
    {
        kvm_clear_dirty_log log = {};
        log.slot = slot;
        log.first_page = first;
        log.num_pages = count;
        log.dirty_bitmap = from;
        return call(vm, KVM_CLEAR_DIRTY_LOG, &log);
    }
    int clear(uint32_t slot, uint64_t first, uint32_t count) const
    {
        return clear(slot, first, count, bitmap.base);
    }
};

} // namespace

TEST(dirty_log_arguments)
{
    Logged s;
    EXPECT_ERRNO(s.get(1), 0);
    EXPECT_ERRNO(s.get(2), ENOENT);
    EXPECT_ERRNO(s.get(3), ENOENT);
    EXPECT_ERRNO(s.get(static_cast<uint32_t>(s.device.extension(KVM_CAP_NR_MEMSLOTS))), EINVAL);
    EXPECT_ERRNO(s.get(0xffff), EINVAL);
    EXPECT_ERRNO(s.get(2u << 16 | 1), EINVAL);
    EXPECT_ERRNO(s.get(0xffffffff), EINVAL);
    EXPECT_ERRNO(s.get(1, kUnmapped), EFAULT);
    EXPECT_ERRNO(s.get(1, reinterpret_cast<void *>(kKernelAddress)), EFAULT);
    EXPECT_ERRNO(call(s.vm, KVM_GET_DIRTY_LOG, kUnmapped), EFAULT);
    EXPECT_ERRNO(call(s.vm, KVM_CLEAR_DIRTY_LOG, kUnmapped), EFAULT);
}

TEST(dirty_log_writes_whole_words_only)
{
    Logged s;
    memset(s.bitmap.base, 0xaa, s.bitmap.size);
    EXPECT_ERRNO(s.get(1), 0);
    for (size_t i = 0; i < 64; i++)
        EXPECT_EQ(s.bitmap.base[i], i < 32 ? 0 : 0xaa); // 200 pages: four words
    // Right up to the end of what is mapped.
    REQUIRE_OK(munmap(s.bitmap.base + kPage, kPage));
    EXPECT_ERRNO(s.get(1, s.bitmap.base + kPage - 32), 0);
    EXPECT_ERRNO(s.get(1, s.bitmap.base + kPage - 24), EFAULT);
    EXPECT_ERRNO(s.clear(1, 0, 200, s.bitmap.base + kPage - 32), 0);
    EXPECT_ERRNO(s.clear(1, 0, 200, s.bitmap.base + kPage - 24), EFAULT);
}

TEST(dirty_log_clear_arguments)
{
    Logged s;
    EXPECT_ERRNO(s.clear(2, 0, 64), ENOENT);
    EXPECT_ERRNO(s.clear(3, 0, 64), ENOENT);
    EXPECT_ERRNO(s.clear(3, 1, 64), EINVAL);
    EXPECT_ERRNO(s.clear(0xffff, 0, 64), EINVAL);
    EXPECT_ERRNO(s.clear(2u << 16 | 1, 0, 64), EINVAL);
    for (uint64_t first : {1, 32, 63, 65})
        EXPECT_ERRNO(s.clear(1, first, 64), EINVAL);
    for (uint32_t count : {1u, 63u, 65u, 199u, 201u, 256u, 0xffffffc0u, 0xffffffffu})
        EXPECT_ERRNO(s.clear(1, 0, count), EINVAL);
    EXPECT_ERRNO(s.clear(1, 192, 9), EINVAL);
    EXPECT_ERRNO(s.clear(1, 192, 7), EINVAL);
    EXPECT_ERRNO(s.clear(1, 256, 0), EINVAL);
    EXPECT_ERRNO(s.clear(1, ~0ULL << 6, 64), EINVAL);
    EXPECT_ERRNO(s.clear(1, 1ULL << 63, 0), EINVAL);
    EXPECT_ERRNO(s.clear(1, 0, 0), 0);
    EXPECT_ERRNO(s.clear(1, 0, 64), 0);
    EXPECT_ERRNO(s.clear(1, 128, 64), 0);
    EXPECT_ERRNO(s.clear(1, 192, 8), 0);
    EXPECT_ERRNO(s.clear(1, 0, 200), 0);
    EXPECT_ERRNO(s.clear(1, 0, 200, kUnmapped), EFAULT);
}

TEST(dirty_log_capability)
{
    Logged s;
    EXPECT_EQ(s.device.extension(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), 3);
    auto enable = [&](uint64_t options, uint32_t flags = 0) {
        return s.vm.enable_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, options, flags);
    };
    EXPECT_ERRNO(enable(2), EINVAL);
    EXPECT_ERRNO(enable(4), EINVAL);
    EXPECT_ERRNO(enable(7), EINVAL);
    EXPECT_ERRNO(enable(1ULL << 63 | 1), EINVAL);
    EXPECT_ERRNO(enable(1, 1), EINVAL);
    EXPECT_ERRNO(enable(1), 0);
    EXPECT_ERRNO(enable(0), 0);
    EXPECT_ERRNO(enable(3), 0);
    // Now a slot that is logged from here on starts dirty all over, but for bits behind its end.
    REQUIRE_OK(s.vm.set_slot(3, 0x30000000, 70 * kPage, s.memory.base, KVM_MEM_LOG_DIRTY_PAGES));
    EXPECT_ERRNO(s.get(3), 0);
    EXPECT_EQ(s.bitmap.at<uint64_t>(0), ~0ULL);
    EXPECT_EQ(s.bitmap.at<uint64_t>(8), 0x3f);
    EXPECT_ERRNO(s.get(1), 0); // an old one doesn't
    EXPECT_EQ(s.bitmap.at<uint64_t>(0), 0);
    EXPECT_ERRNO(enable(0), 0);
}

TEST(dirty_log_flags)
{
    Logged s;
    uint64_t size = Logged::kPages * kPage;
    EXPECT_ERRNO(s.vm.set_slot(1, 0x10000000, size, s.memory.base), 0);
    EXPECT_ERRNO(s.get(1), ENOENT);
    EXPECT_ERRNO(s.vm.set_slot(1, 0x10000000, size, s.memory.base, KVM_MEM_LOG_DIRTY_PAGES), 0);
    EXPECT_ERRNO(s.get(1), 0);
    EXPECT_ERRNO(s.vm.set_slot(1, 0x10000000, size, s.memory.base,
                               KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY),
                 EINVAL);
    // Moved and changed at once.
    EXPECT_ERRNO(s.vm.set_slot(1, 0x11000000, size, s.memory.base), 0);
    EXPECT_ERRNO(s.get(1), ENOENT);
    EXPECT_ERRNO(s.vm.set_slot(1, 0x12000000, size, s.memory.base, KVM_MEM_LOG_DIRTY_PAGES), 0);
    EXPECT_ERRNO(s.get(1), 0);
    EXPECT_ERRNO(s.vm.set_slot(1, 0, 0, nullptr, KVM_MEM_LOG_DIRTY_PAGES), 0);
    EXPECT_ERRNO(s.get(1), ENOENT);
}
