// SPDX-License-Identifier: GPL-2.0-only
#include <minivmx/private_pages.hpp>

#include <minivmx/ept.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/host.h>
#include <minivmx/memslot.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/vm.hpp>
#include <minivmx/x86.hpp>

namespace minivmx {

namespace {

using Place = PrivatePages::Place;

Place &place_of(kvm_vm &kvm, PrivatePage which, u32 index = 0)
{
    return kvm.private_pages.places[static_cast<u32>(which) + index];
}

void *page_at(const Place &place)
{
    return __atomic_load_n(&place.page, __ATOMIC_ACQUIRE);
}

// Takes the pages over, all or none. A place that has its page already keeps that one.
int publish(kvm_vm &kvm, PrivatePage which, u64 gfn, void **pages, u32 count)
{
    u64 *unlinked = nullptr;
    int error = 0;
    host_mmu_lock(kvm.host);
    const MemSlotArray *slots = kvm.slots.current;
    if ((slots && slots->overlaps(gfn, gfn + count, kUserMemSlots)) ||
        (!place_of(kvm, which).page && private_page_in(kvm, gfn, gfn + count)))
        error = -EEXIST;
    for (u32 i = 0; !error && i < count; i++) {
        Place &place = place_of(kvm, which, i);
        if (place.page)
            continue;
        place.gfn = gfn + i;
        __atomic_store_n(&place.page, pages[i], __ATOMIC_RELEASE);
        pages[i] = nullptr;
    }
    // They may be known there as places without memory.
    if (!error && kvm.ept.root && ept_zap_gfn_range(kvm.ept, gfn, gfn + count, unlinked))
        host_request_all(kvm.host, VCPU_REQUEST_TLB_FLUSH);
    host_mmu_unlock(kvm.host);
    ept_free_unlinked(unlinked);
    return error;
}

// Allocates the pages, lets fill(pages) write them and publishes them.
template <u32 count, class Fill>
int create(kvm_vm &kvm, PrivatePage which, u64 gfn, Fill fill)
{
    void *pages[count] = {};
    int error = 0;
    for (void *&page : pages) {
        page = host_page_alloc();
        if (!page)
            error = -ENOMEM;
    }
    if (!error) {
        fill(pages);
        error = publish(kvm, which, gfn, pages, count);
    }
    for (void *page : pages)
        host_page_free(page);
    return error;
}

// Where user space chose no other place: three pages below the BIOS, as KVM documents.
constexpr u64 kDefaultIdentityMap = 0xfffbc000;

} // namespace

void *private_page(const kvm_vm &kvm, u64 gfn)
{
    for (const Place &place : kvm.private_pages.places) {
        void *page = page_at(place);
        if (page && place.gfn == gfn)
            return page;
    }
    return nullptr;
}

bool private_page_in(const kvm_vm &kvm, u64 gfn, u64 end)
{
    for (const Place &place : kvm.private_pages.places)
        if (page_at(place) && place.gfn >= gfn && place.gfn < end)
            return true;
    return false;
}

void destroy_private_pages(kvm_vm &kvm)
{
    for (Place &place : kvm.private_pages.places) {
        host_page_free(place.page);
        place.page = nullptr;
    }
}

u64 apic_access_page_phys(const kvm_vm &kvm)
{
    const void *page =
        page_at(kvm.private_pages.places[static_cast<u32>(PrivatePage::kApicAccess)]);
    return page ? host_page_phys(page) : 0;
}

int create_apic_access_page(kvm_vm &kvm)
{
    if (apic_access_page_phys(kvm) != 0)
        return 0;
    return create<1>(kvm, PrivatePage::kApicAccess, kApicAccessGfn, [](void **) {});
}

u64 identity_map_address(const kvm_vm &kvm)
{
    return kvm.identity_map_addr ? kvm.identity_map_addr : kDefaultIdentityMap;
}

int create_identity_map(kvm_vm &kvm)
{
    if (!hardware.params.ept || hardware.params.unrestricted_guest ||
        page_at(place_of(kvm, PrivatePage::kIdentityMap)))
        return 0;
    const u64 address = identity_map_address(kvm);
    if (address & (kPageSize - 1))
        return -EINVAL;
    return create<1>(kvm, PrivatePage::kIdentityMap, address >> kPageShift, [](void **pages) {
        // Present, writable, user's, accessed, dirty, 4 MiB: SDM Vol. 3A, 4.3, table 4-4.
        constexpr u32 kFlags = 0xe7, kEntries = 1024;
        u32 *table = static_cast<u32 *>(pages[0]);
        for (u32 i = 0; i < kEntries; i++)
            table[i] = i << 22 | kFlags;
    });
}

int create_real_mode_tss(kvm_vm &kvm, u64 address)
{
    if (hardware.params.unrestricted_guest) {
        kvm.tss_addr = address;
        return 0;
    }
    if (address & (kPageSize - 1))
        return -EINVAL;
    if (page_at(place_of(kvm, PrivatePage::kTss)))
        return -EEXIST;
    const int error = create<3>(kvm, PrivatePage::kTss, address >> kPageShift, [](void **pages) {
        // No interrupt and no port is the monitor's: both maps are 0. The map of ports starts where
        // the word at 102 says, and ends with a byte of ones. SDM Vol. 1, 19.5.2.
        constexpr u32 kMapBase = 102;
        u8 *first = static_cast<u8 *>(pages[0]);
        u8 *last = static_cast<u8 *>(pages[kRealModeTssLimit / kPageSize]);
        const u16 base = kTssSize + kRedirectionMapSize;
        __builtin_memcpy(first + kMapBase, &base, sizeof(base));
        last[kRealModeTssLimit % kPageSize] = 0xff;
    });
    if (!error)
        kvm.tss_addr = address;
    return error;
}

} // namespace minivmx
