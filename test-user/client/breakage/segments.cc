// SPDX-License-Identifier: GPL-2.0-only
//
// The guest's segments: SDM Vol. 3C, 27.3.1.2.
#include "breakage.hpp"

namespace breakage {

namespace {

// Bits of the access rights: SDM Vol. 3C, 25.4.1, table 25-2.
constexpr uint32_t kAccessed = 1 << 0, kWritable = 1 << 1, kConforming = 1 << 2, kCode = 1 << 3;
constexpr uint32_t kNotSystem = 1 << 4, kDpl = 3 << 5, kPresent = 1 << 7, kReserved = 1 << 8;
constexpr uint32_t kDefault = 1 << 14, kGranular = 1 << 15, kUnusable = 1 << 16;
constexpr uint32_t kHighReserved = 1 << 17;

Group long_mode()
{
    return {{"long, its segments", Shape::kLong},
            {{"fs-base", set(GUEST_FS_BASE, kNotCanonical)},
             {"gs-base", set(GUEST_GS_BASE, kNotCanonical)},
             {"cs-base-above-4g", on(GUEST_CS_BASE, kAbove4G)},
             {"ds-base-above-4g", on(GUEST_DS_BASE, kAbove4G)},
             {"es-base-above-4g", on(GUEST_ES_BASE, kAbove4G)},
             {"cs-64-and-32-bit", on(GUEST_CS_AR_BYTES, kDefault)},
             {"tr-base", set(GUEST_TR_BASE, kNotCanonical)},
             {"tr-16-bit-in-long-mode", off(GUEST_TR_AR_BYTES, 8)}}};
}

Group code_and_stack()
{
    return {{"32-bit, its code and stack", Shape::kPae},
            {{"cs-system", off(GUEST_CS_AR_BYTES, kNotSystem)},
             {"cs-not-present", off(GUEST_CS_AR_BYTES, kPresent)},
             {"cs-reserved", on(GUEST_CS_AR_BYTES, kReserved)},
             {"cs-reserved-high", on(GUEST_CS_AR_BYTES, kHighReserved)},
             {"cs-limit-low-bits", set(GUEST_CS_LIMIT, 0xfffff000), {}, GUEST_CS_AR_BYTES.encoding},
             {"cs-not-granular", off(GUEST_CS_AR_BYTES, kGranular)},
             {"cs-not-accessed", off(GUEST_CS_AR_BYTES, kAccessed)},
             {"cs-dpl", on(GUEST_CS_AR_BYTES, kDpl)},
             {"ss-system", off(GUEST_SS_AR_BYTES, kNotSystem)},
             {"ss-not-present", off(GUEST_SS_AR_BYTES, kPresent)},
             {"ss-reserved", on(GUEST_SS_AR_BYTES, kReserved << 3)},
             {"ss-limit-low-bits", off(GUEST_SS_LIMIT, 1), {}, GUEST_SS_AR_BYTES.encoding},
             {"ss-not-granular", off(GUEST_SS_AR_BYTES, kGranular)},
             {"ss-not-accessed", off(GUEST_SS_AR_BYTES, kAccessed)},
             {"ss-not-writable", off(GUEST_SS_AR_BYTES, kWritable)},
             {"ss-code", on(GUEST_SS_AR_BYTES, kCode)},
             {"ss-base-above-4g", on(GUEST_SS_BASE, kAbove4G)}}};
}

Group conforming()
{
    return {{"32-bit, conforming code", Shape::kPae, {on(GUEST_CS_AR_BYTES, kConforming)}},
            {{"cs-conforming-dpl", on(GUEST_CS_AR_BYTES, kDpl)}}};
}

// The same faults of each data segment.
void add_data_faults(std::vector<Breakage> &to, const char *const (&names)[6], unsigned index)
{
    const auto rights = GUEST_ES_AR_BYTES + index;
    to.push_back({names[0], off(rights, kNotSystem)});
    to.push_back({names[1], off(rights, kPresent)});
    to.push_back({names[2], on(rights, kReserved << 1)});
    to.push_back({names[3], off(rights, kGranular)});
    to.push_back({names[4], off(rights, kAccessed)});
    to.push_back({names[5], set(rights, kGranular | kPresent | kNotSystem | kCode | kAccessed)});
}

Group data()
{
    Group group = {{"32-bit, its data segments", Shape::kPae}, {}};
    add_data_faults(group.breakages,
                    {"es-system", "es-not-present", "es-reserved", "es-not-granular",
                     "es-not-accessed", "es-code-not-readable"},
                    0);
    add_data_faults(group.breakages,
                    {"ds-system", "ds-not-present", "ds-reserved", "ds-not-granular",
                     "ds-not-accessed", "ds-code-not-readable"},
                    3);
    add_data_faults(group.breakages,
                    {"fs-system", "fs-not-present", "fs-reserved", "fs-not-granular",
                     "fs-not-accessed", "fs-code-not-readable"},
                    4);
    add_data_faults(group.breakages,
                    {"gs-system", "gs-not-present", "gs-reserved", "gs-not-granular",
                     "gs-not-accessed", "gs-code-not-readable"},
                    5);
    return group;
}

Group restricted()
{
    return {{"32-bit, not unrestricted",
             Shape::kPae,
             {off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_UNRESTRICTED_GUEST)}},
            {{"cs-data-restricted", off(GUEST_CS_AR_BYTES, kCode)},
             {"ds-rpl-restricted", on(GUEST_DS_SELECTOR, 3), {}, GUEST_DS_AR_BYTES.encoding},
             {"gs-rpl-restricted", on(GUEST_GS_SELECTOR, 1), {}, GUEST_GS_AR_BYTES.encoding},
             {"ss-rpl-restricted", on(GUEST_SS_SELECTOR, 3)},
             {"ss-dpl-restricted", on(GUEST_SS_AR_BYTES, kDpl)}}};
}

constexpr Needs kUnrestricted = {MINIVMX_WORD_SECONDARY, SECONDARY_EXEC_UNRESTRICTED_GUEST};

Group real_mode()
{
    return {{"real mode",
             Shape::kReal,
             {set(GUEST_CS_AR_BYTES, kPresent | kNotSystem | kWritable | kAccessed)},
             kUnrestricted},
            {{"real-cs-dpl", on(GUEST_CS_AR_BYTES, kDpl)},
             {"real-ss-dpl", on(GUEST_SS_AR_BYTES, kDpl)}}};
}

Group virtual_8086()
{
    return {{"virtual-8086 mode", Shape::kVirtual8086},
            {{"v86-es-base", on(GUEST_ES_BASE, 0x100000)},
             {"v86-cs-base", on(GUEST_CS_BASE, 1)},
             {"v86-ss-base", on(GUEST_SS_BASE, kAbove4G)},
             {"v86-gs-selector", on(GUEST_GS_SELECTOR, 1), {}, GUEST_GS_BASE.encoding},
             {"v86-es-limit", set(GUEST_ES_LIMIT, 0xfffff)},
             {"v86-cs-limit", set(GUEST_CS_LIMIT, 0xfffe)},
             {"v86-fs-limit", set(GUEST_FS_LIMIT, 0)},
             {"v86-ds-rights", off(GUEST_DS_AR_BYTES, kDpl)},
             {"v86-ss-rights", off(GUEST_SS_AR_BYTES, kAccessed)},
             {"v86-gs-unusable", on(GUEST_GS_AR_BYTES, kUnusable)}}};
}

Group ldtr()
{
    return {{"long, with an LDT",
             Shape::kLong,
             {set(GUEST_LDTR_SELECTOR, 0x28), set(GUEST_LDTR_BASE, G_GDT),
              set(GUEST_LDTR_LIMIT, 0xfff), set(GUEST_LDTR_AR_BYTES, kPresent | 2)}},
            {{"ldtr-ti", on(GUEST_LDTR_SELECTOR, 4)},
             {"ldtr-type", on(GUEST_LDTR_AR_BYTES, 1)},
             {"ldtr-not-system", on(GUEST_LDTR_AR_BYTES, kNotSystem)},
             {"ldtr-not-present", off(GUEST_LDTR_AR_BYTES, kPresent)},
             {"ldtr-reserved", on(GUEST_LDTR_AR_BYTES, kReserved << 2)},
             {"ldtr-limit", set(GUEST_LDTR_LIMIT, 0x100000), {}, GUEST_LDTR_AR_BYTES.encoding},
             {"ldtr-base", set(GUEST_LDTR_BASE, kNotCanonical)}}};
}

Group tr()
{
    return {{"32-bit, its task register", Shape::kPae},
            {{"tr-unusable", on(GUEST_TR_AR_BYTES, kUnusable)},
             {"tr-ti", on(GUEST_TR_SELECTOR, 4)},
             {"tr-not-system", on(GUEST_TR_AR_BYTES, kNotSystem)},
             {"tr-not-present", off(GUEST_TR_AR_BYTES, kPresent)},
             {"tr-reserved", on(GUEST_TR_AR_BYTES, kReserved)},
             {"tr-limit", set(GUEST_TR_LIMIT, 0xfff00000), {}, GUEST_TR_AR_BYTES.encoding},
             {"tr-not-busy", off(GUEST_TR_AR_BYTES, 2)}}};
}

} // namespace

std::vector<Group> segment_groups()
{
    return {long_mode(), code_and_stack(), conforming(), data(), restricted(),
            real_mode(), virtual_8086(),   ldtr(),       tr()};
}

} // namespace breakage
