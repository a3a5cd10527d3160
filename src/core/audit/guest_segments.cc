// SPDX-License-Identifier: GPL-2.0-only
//
// SDM Vol. 3C, 27.3.1.2 "Checks on Guest Segment Registers".
#include "../segmentation/descriptor.hpp"
#include "view.hpp"

namespace minivmx::audit {

namespace {

constexpr u32 kReservedLow = 0xf00, kReservedHigh = 0xfffe0000;

/// Which register the check's field belongs to: each kind of field has the eight of them in a row.
Segment segment_of(const AuditView &v)
{
    constexpr u32 kFirst[] = {GUEST_ES_SELECTOR.encoding, GUEST_ES_BASE.encoding,
                              GUEST_ES_LIMIT.encoding, GUEST_ES_AR_BYTES.encoding};
    constexpr u32 kCount = 8;
    u32 index = kCount;
    for (u32 first : kFirst) {
        // Before the first it wraps around to a large number.
        if ((v.check().field - first) / 2 < kCount)
            index = (v.check().field - first) / 2;
    }
    return static_cast<Segment>(index);
}

AccessRights rights(const AuditView &v, Segment s)
{
    return {v[GUEST_ES_AR_BYTES + s]};
}

/// What CS may be with "unrestricted guest" besides code.
bool is_data(AccessRights cs)
{
    return cs.type() == AR_TYPE_WRITABLE_DATA;
}

u32 rpl(const AuditView &v, Segment s)
{
    return v[GUEST_ES_SELECTOR + s] & kSelectorRpl;
}

/// Whether the checks of access rights apply: CS and TR are always used, the others if they are
/// usable; and virtual-8086 mode has its own.
bool rights_count(const AuditView &v, Segment s)
{
    if (s == kTr)
        return true;
    if (s == kLdtr)
        return rights(v, s).usable();
    return !v.virtual_8086() && (s == kCs || rights(v, s).usable());
}

u64 segment_table_indicator(const AuditView &v)
{
    return rights_count(v, segment_of(v)) ? v.value() & kSelectorLocal : 0;
}

u64 ss_rpl(const AuditView &v)
{
    if (v.virtual_8086() || v.unrestricted_guest())
        return 0;
    return rpl(v, kSs) != rpl(v, kCs) ? kSelectorRpl : 0;
}

u64 base_in_virtual_8086(const AuditView &v)
{
    if (!v.virtual_8086())
        return 0;
    return fault_if(v.value() != real_mode_base(v[GUEST_ES_SELECTOR + segment_of(v)]));
}

u64 base_canonical_if_usable(const AuditView &v)
{
    return rights(v, segment_of(v)).usable() ? canonical_address(v) : 0;
}

u64 base_32bit(const AuditView &v)
{
    const Segment s = segment_of(v);
    const u64 high = v.value() & kHighHalf;
    return high != 0 && (s == kCs || rights(v, s).usable()) ? high : 0;
}

u64 limit_in_virtual_8086(const AuditView &v)
{
    return fault_if(v.virtual_8086() && v.value() != kVirtual8086Limit);
}

u64 rights_in_virtual_8086(const AuditView &v)
{
    return v.virtual_8086() ? v.value() ^ kVirtual8086Rights : 0;
}

u64 cs_type(const AuditView &v)
{
    if (v.virtual_8086())
        return 0;
    const AccessRights cs = rights(v, kCs);
    const bool valid = code_type_valid(cs) || (is_data(cs) && v.unrestricted_guest());
    return valid ? 0 : AR_TYPE_MASK;
}

u64 ss_type(const AuditView &v)
{
    return rights_count(v, kSs) && !stack_type_valid(rights(v, kSs)) ? AR_TYPE_MASK : 0;
}

u64 data_accessed(const AuditView &v)
{
    return rights_count(v, segment_of(v)) ? ~v.value() & AR_TYPE_ACCESSED : 0;
}

u64 data_readable(const AuditView &v)
{
    const Segment s = segment_of(v);
    return rights_count(v, s) && !rights(v, s).readable() ? AR_TYPE_READABLE : 0;
}

u64 not_system(const AuditView &v)
{
    return rights_count(v, segment_of(v)) ? ~v.value() & AR_S : 0;
}

u64 system(const AuditView &v)
{
    return rights_count(v, segment_of(v)) ? v.value() & AR_S : 0;
}

u64 cs_dpl_of_data(const AuditView &v)
{
    const AccessRights cs = rights(v, kCs);
    return !v.virtual_8086() && is_data(cs) && cs.dpl() != 0 ? AR_DPL_MASK : 0;
}

u64 cs_dpl_of_code(const AuditView &v)
{
    const AccessRights cs = rights(v, kCs);
    if (v.virtual_8086() || !cs.code() || cs.conforming())
        return 0;
    return code_dpl_valid(cs, rights(v, kSs)) ? 0 : AR_DPL_MASK;
}

u64 cs_dpl_of_conforming_code(const AuditView &v)
{
    const AccessRights cs = rights(v, kCs);
    if (v.virtual_8086() || !cs.conforming())
        return 0;
    return code_dpl_valid(cs, rights(v, kSs)) ? 0 : AR_DPL_MASK;
}

u64 ss_dpl_is_rpl(const AuditView &v)
{
    if (v.virtual_8086() || v.unrestricted_guest())
        return 0;
    return rights(v, kSs).dpl() != rpl(v, kSs) ? AR_DPL_MASK : 0;
}

u64 ss_dpl_of_real_mode(const AuditView &v)
{
    if (v.virtual_8086() || rights(v, kSs).dpl() == 0)
        return 0;
    const bool real = is_data(rights(v, kCs)) || !(v[GUEST_CR0] & X86_CR0_PE);
    return real ? AR_DPL_MASK : 0;
}

u64 data_dpl(const AuditView &v)
{
    const Segment s = segment_of(v);
    if (!rights_count(v, s) || v.unrestricted_guest())
        return 0;
    return data_dpl_valid(rights(v, s), rpl(v, s)) ? 0 : AR_DPL_MASK;
}

u64 present(const AuditView &v)
{
    return rights_count(v, segment_of(v)) ? ~v.value() & AR_PRESENT : 0;
}

u64 rights_reserved(const AuditView &v)
{
    return rights_count(v, segment_of(v)) ? v.value() & (kReservedLow | kReservedHigh) : 0;
}

u64 cs_default_size(const AuditView &v)
{
    constexpr u64 kBoth = AR_L | AR_DB;
    return v.ia32e_guest() && (v.value() & kBoth) == kBoth ? u64{AR_DB} : 0;
}

u64 granularity(const AuditView &v)
{
    const Segment s = segment_of(v);
    if (!rights_count(v, s))
        return 0;
    const u32 limit = v[GUEST_ES_LIMIT + s];
    const bool pages = (v.value() & AR_G) != 0;
    return (pages && (limit & 0xfff) != 0xfff) || (!pages && limit >> 20 != 0) ? u64{AR_G} : 0;
}

u64 tr_type(const AuditView &v)
{
    return task_type_valid(rights(v, kTr), v.ia32e_guest()) ? 0 : AR_TYPE_MASK;
}

u64 tr_usable(const AuditView &v)
{
    return v.value() & AR_UNUSABLE;
}

u64 ldtr_type(const AuditView &v)
{
    return rights_count(v, kLdtr) && rights(v, kLdtr).type() != AR_TYPE_LDT ? AR_TYPE_MASK : 0;
}

// clang-format off

/// What holds of CS, SS, DS, ES, FS and GS.
#define SEGMENT_ROWS(REG, reg, if_usable) \
    guest_check("27.3.1.2", GUEST_##REG##_BASE, "guest-" reg "-base-v8086", "the base of " #REG " must be its selector times 16 in virtual-8086 mode", base_in_virtual_8086), \
    guest_check("27.3.1.2", GUEST_##REG##_LIMIT, "guest-" reg "-limit-v8086", "the limit of " #REG " must be 0xffff in virtual-8086 mode", limit_in_virtual_8086), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-rights-v8086", "the access rights of " #REG " must be 0xf3 in virtual-8086 mode", rights_in_virtual_8086), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-segment", #REG " must be a code or data segment: S = 1" if_usable, not_system), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-present", #REG " must be present" if_usable, present), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-reserved", "bits 11:8 and 31:17 of the access rights of " #REG " must be 0" if_usable, rights_reserved), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-granularity", \
        "G of " #REG " must be 0 if a bit of 11:0 of its limit is 0, 1 if a bit of 31:20 is 1" if_usable, granularity)

/// What holds of DS, ES, FS and GS besides.
#define DATA_ROWS(REG, reg) \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-accessed", #REG " must be accessed: bit 0 of its type, if it is usable", data_accessed), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-readable", #REG " must be readable if it is a code segment: bit 1 of its type, if it is usable", data_readable), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-dpl", \
        "DPL of " #REG " must not be below its RPL, if it is usable, no conforming code, and without unrestricted guest", data_dpl)

/// What holds of TR and LDTR.
#define SYSTEM_ROWS(REG, reg, if_usable) \
    guest_check("27.3.1.2", GUEST_##REG##_SELECTOR, "guest-" reg "-ti", "TI of " #REG " must be 0" if_usable, segment_table_indicator), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-system", #REG " must be a system segment: S = 0" if_usable, system), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-present", #REG " must be present" if_usable, present), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-reserved", "bits 11:8 and 31:17 of the access rights of " #REG " must be 0" if_usable, rights_reserved), \
    guest_check("27.3.1.2", GUEST_##REG##_AR_BYTES, "guest-" reg "-granularity", \
        "G of " #REG " must be 0 if a bit of 11:0 of its limit is 0, 1 if a bit of 31:20 is 1" if_usable, granularity)

constexpr AuditCheck kGuestSegmentRows[] = {
    SEGMENT_ROWS(CS, "cs", ""),
    guest_check("27.3.1.2", GUEST_CS_BASE, "guest-cs-base-32bit", "bits 63:32 of the base of CS must be 0", base_32bit),
    guest_check("27.3.1.2", GUEST_CS_AR_BYTES, "guest-cs-type", "the type of CS must be 9, 11, 13 or 15 (accessed code); 3 is possible with unrestricted guest", cs_type),
    guest_check("27.3.1.2", GUEST_CS_AR_BYTES, "guest-cs-dpl-data", "DPL of CS must be 0 if its type is 3", cs_dpl_of_data),
    guest_check("27.3.1.2", GUEST_CS_AR_BYTES, "guest-cs-dpl-code", "DPL of CS must equal that of SS if CS is non-conforming code", cs_dpl_of_code),
    guest_check("27.3.1.2", GUEST_CS_AR_BYTES, "guest-cs-dpl-conforming", "DPL of CS must not be above that of SS if CS is conforming code", cs_dpl_of_conforming_code),
    guest_check("27.3.1.2", GUEST_CS_AR_BYTES, "guest-cs-default-size", "D/B of CS must be 0 in 64-bit mode: while IA-32e mode guest and L are 1", cs_default_size),

    SEGMENT_ROWS(SS, "ss", ", if it is usable"),
    guest_check("27.3.1.2", GUEST_SS_SELECTOR, "guest-ss-rpl", "RPL of SS must equal that of CS, without unrestricted guest", ss_rpl),
    guest_check("27.3.1.2", GUEST_SS_BASE, "guest-ss-base-32bit", "bits 63:32 of the base of SS must be 0, if it is usable", base_32bit),
    guest_check("27.3.1.2", GUEST_SS_AR_BYTES, "guest-ss-type", "the type of SS must be 3 or 7 (accessed writable data), if it is usable", ss_type),
    guest_check("27.3.1.2", GUEST_SS_AR_BYTES, "guest-ss-dpl-rpl", "DPL of SS must equal its RPL, without unrestricted guest", ss_dpl_is_rpl),
    guest_check("27.3.1.2", GUEST_SS_AR_BYTES, "guest-ss-dpl-real", "DPL of SS must be 0 if the type of CS is 3 or CR0.PE is 0", ss_dpl_of_real_mode),

    SEGMENT_ROWS(DS, "ds", ", if it is usable"),
    guest_check("27.3.1.2", GUEST_DS_BASE, "guest-ds-base-32bit", "bits 63:32 of the base of DS must be 0, if it is usable", base_32bit),
    DATA_ROWS(DS, "ds"),
    SEGMENT_ROWS(ES, "es", ", if it is usable"),
    guest_check("27.3.1.2", GUEST_ES_BASE, "guest-es-base-32bit", "bits 63:32 of the base of ES must be 0, if it is usable", base_32bit),
    DATA_ROWS(ES, "es"),
    SEGMENT_ROWS(FS, "fs", ", if it is usable"),
    guest_check("27.3.1.2", GUEST_FS_BASE, "guest-fs-base-canonical", "the base of FS must be canonical", canonical_address),
    DATA_ROWS(FS, "fs"),
    SEGMENT_ROWS(GS, "gs", ", if it is usable"),
    guest_check("27.3.1.2", GUEST_GS_BASE, "guest-gs-base-canonical", "the base of GS must be canonical", canonical_address),
    DATA_ROWS(GS, "gs"),

    SYSTEM_ROWS(LDTR, "ldtr", ", if it is usable"),
    guest_check("27.3.1.2", GUEST_LDTR_BASE, "guest-ldtr-base-canonical", "the base of LDTR must be canonical, if it is usable", base_canonical_if_usable),
    guest_check("27.3.1.2", GUEST_LDTR_AR_BYTES, "guest-ldtr-type", "the type of LDTR must be 2, if it is usable", ldtr_type),
    SYSTEM_ROWS(TR, "tr", ""),
    guest_check("27.3.1.2", GUEST_TR_BASE, "guest-tr-base-canonical", "the base of TR must be canonical", canonical_address),
    guest_check("27.3.1.2", GUEST_TR_AR_BYTES, "guest-tr-type", "the type of TR must be 11 (busy 32-bit or 64-bit TSS); 3 (busy 16-bit TSS) is possible outside IA-32e mode", tr_type),
    guest_check("27.3.1.2", GUEST_TR_AR_BYTES, "guest-tr-usable", "TR must be usable", tr_usable),
};
#undef SYSTEM_ROWS
#undef DATA_ROWS
#undef SEGMENT_ROWS
// clang-format on

} // namespace

constinit const Span<const AuditCheck> kGuestSegmentChecks{kGuestSegmentRows};

} // namespace minivmx::audit
