// SPDX-License-Identifier: GPL-2.0-only
//
// What the audit found, in words: names of fields and of their bits, and the sentence.
#include "view.hpp"

namespace minivmx {

namespace {

struct FieldName {
    u32 encoding;
    const char *name;
};
constexpr FieldName kFieldNames[] = {
#define MINIVMX_FIELD_NAME(width, name, number) {number, #name},
    MINIVMX_VMCS_FIELDS(MINIVMX_FIELD_NAME)
#undef MINIVMX_FIELD_NAME
};

/// Bits `high` to `low` of the fields `first` to `last`.
struct BitsName {
    u32 first, last;
    u8 high, low;
    const char *name;
};

constexpr BitsName of(VmcsFieldNatural field, u8 bit, const char *name)
{
    return {field.encoding, field.encoding, bit, bit, name};
}
constexpr BitsName of(VmcsField64 field, u8 bit, const char *name)
{
    return {field.encoding, field.encoding, bit, bit, name};
}
constexpr BitsName of(VmcsField32 field, u8 high, u8 low, const char *name)
{
    return {field.encoding, field.encoding, high, low, name};
}
constexpr BitsName of_rights(u8 high, u8 low, const char *name)
{
    return {GUEST_ES_AR_BYTES.encoding, GUEST_TR_AR_BYTES.encoding, high, low, name};
}

// clang-format off
constexpr BitsName kBitsNames[] = {
#define OF_GUEST_AND_HOST(field, bit, name) of(GUEST_##field, bit, name), of(HOST_##field, bit, name)
    OF_GUEST_AND_HOST(CR0, 0, "PE"), OF_GUEST_AND_HOST(CR0, 1, "MP"), OF_GUEST_AND_HOST(CR0, 2, "EM"),
    OF_GUEST_AND_HOST(CR0, 3, "TS"), OF_GUEST_AND_HOST(CR0, 4, "ET"), OF_GUEST_AND_HOST(CR0, 5, "NE"),
    OF_GUEST_AND_HOST(CR0, 16, "WP"), OF_GUEST_AND_HOST(CR0, 18, "AM"), OF_GUEST_AND_HOST(CR0, 29, "NW"),
    OF_GUEST_AND_HOST(CR0, 30, "CD"), OF_GUEST_AND_HOST(CR0, 31, "PG"),
    OF_GUEST_AND_HOST(CR4, 0, "VME"), OF_GUEST_AND_HOST(CR4, 1, "PVI"), OF_GUEST_AND_HOST(CR4, 2, "TSD"),
    OF_GUEST_AND_HOST(CR4, 3, "DE"), OF_GUEST_AND_HOST(CR4, 4, "PSE"), OF_GUEST_AND_HOST(CR4, 5, "PAE"),
    OF_GUEST_AND_HOST(CR4, 6, "MCE"), OF_GUEST_AND_HOST(CR4, 7, "PGE"), OF_GUEST_AND_HOST(CR4, 8, "PCE"),
    OF_GUEST_AND_HOST(CR4, 9, "OSFXSR"), OF_GUEST_AND_HOST(CR4, 10, "OSXMMEXCPT"), OF_GUEST_AND_HOST(CR4, 11, "UMIP"),
    OF_GUEST_AND_HOST(CR4, 12, "LA57"), OF_GUEST_AND_HOST(CR4, 13, "VMXE"), OF_GUEST_AND_HOST(CR4, 14, "SMXE"),
    OF_GUEST_AND_HOST(CR4, 16, "FSGSBASE"), OF_GUEST_AND_HOST(CR4, 17, "PCIDE"), OF_GUEST_AND_HOST(CR4, 18, "OSXSAVE"),
    OF_GUEST_AND_HOST(CR4, 20, "SMEP"), OF_GUEST_AND_HOST(CR4, 21, "SMAP"), OF_GUEST_AND_HOST(CR4, 22, "PKE"),
    OF_GUEST_AND_HOST(CR4, 23, "CET"), OF_GUEST_AND_HOST(CR4, 24, "PKS"), OF_GUEST_AND_HOST(CR4, 25, "UINTR"),
    OF_GUEST_AND_HOST(CR4, 28, "LAM_SUP"), OF_GUEST_AND_HOST(CR4, 32, "FRED"),
    OF_GUEST_AND_HOST(IA32_EFER, 0, "SCE"), OF_GUEST_AND_HOST(IA32_EFER, 8, "LME"),
    OF_GUEST_AND_HOST(IA32_EFER, 10, "LMA"), OF_GUEST_AND_HOST(IA32_EFER, 11, "NXE"),
#undef OF_GUEST_AND_HOST
    of(GUEST_RFLAGS, 1, "fixed 1"), of(GUEST_RFLAGS, 8, "TF"), of(GUEST_RFLAGS, 9, "IF"), of(GUEST_RFLAGS, 17, "VM"),
    of(GUEST_IA32_DEBUGCTL, 1, "BTF"), of(GUEST_IA32_DEBUGCTL, 2, "BUS_LOCK_DETECT"), of(GUEST_IA32_DEBUGCTL, 15, "RTM"),
    of(GUEST_PENDING_DBG_EXCEPTIONS, 11, "bus lock"), of(GUEST_PENDING_DBG_EXCEPTIONS, 12, "enabled breakpoint"),
    of(GUEST_PENDING_DBG_EXCEPTIONS, 14, "BS"), of(GUEST_PENDING_DBG_EXCEPTIONS, 16, "RTM"),
    of(GUEST_INTERRUPTIBILITY_INFO, 0, 0, "blocking by STI"), of(GUEST_INTERRUPTIBILITY_INFO, 1, 1, "blocking by MOV SS"),
    of(GUEST_INTERRUPTIBILITY_INFO, 2, 2, "blocking by SMI"), of(GUEST_INTERRUPTIBILITY_INFO, 3, 3, "blocking by NMI"),
    of(GUEST_INTERRUPTIBILITY_INFO, 4, 4, "enclave interruption"),
    of(VM_ENTRY_INTR_INFO_FIELD, 7, 0, "vector"), of(VM_ENTRY_INTR_INFO_FIELD, 10, 8, "type"),
    of(VM_ENTRY_INTR_INFO_FIELD, 11, 11, "deliver error code"), of(VM_ENTRY_INTR_INFO_FIELD, 31, 31, "valid"),
    of_rights(3, 0, "type"), of_rights(4, 4, "S"), of_rights(6, 5, "DPL"), of_rights(7, 7, "P"),
    of_rights(12, 12, "AVL"), of_rights(13, 13, "L"), of_rights(14, 14, "D/B"), of_rights(15, 15, "G"),
    of_rights(16, 16, "unusable"),
    {GUEST_ES_SELECTOR.encoding, GUEST_TR_SELECTOR.encoding, 1, 0, "RPL"},
    {GUEST_ES_SELECTOR.encoding, GUEST_TR_SELECTOR.encoding, 2, 2, "TI"},
    {HOST_ES_SELECTOR.encoding, HOST_TR_SELECTOR.encoding, 1, 0, "RPL"},
    {HOST_ES_SELECTOR.encoding, HOST_TR_SELECTOR.encoding, 2, 2, "TI"},
    {EPT_POINTER.encoding, EPT_POINTER.encoding, 2, 0, "memory type"},
    {EPT_POINTER.encoding, EPT_POINTER.encoding, 5, 3, "page-walk length"},
    {EPT_POINTER.encoding, EPT_POINTER.encoding, 6, 6, "accessed and dirty flags"},
    {EPT_POINTER.encoding, EPT_POINTER.encoding, 7, 7, "supervisor shadow-stack control"},
    {VM_FUNCTION_CONTROL.encoding, VM_FUNCTION_CONTROL.encoding, 0, 0, "EPTP switching"},
};
// clang-format on

const ControlWordInfo *control_word_in(u32 encoding)
{
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlWordInfo &word = control_word_info(static_cast<ControlField>(i));
        if (word.vmcs_field == encoding)
            return &word;
    }
    return nullptr;
}

/// The name of what begins at `bit`, and how many bits that is; nullptr without a name.
const char *name_of_bits(u32 encoding, u64 bits, unsigned bit, unsigned *count)
{
    *count = 1;
    if (const ControlWordInfo *word = control_word_in(encoding)) {
        const ControlBit *row = find_control(word->field, bit);
        return row != nullptr ? row->name : nullptr;
    }
    for (const BitsName &row : kBitsNames) {
        if (encoding < row.first || encoding > row.last || row.low > bit || row.high < bit)
            continue;
        *count = row.high - bit + 1u;
        return row.name;
    }
    // Without names, as many as are in a row.
    while (bit + *count < 64 && (bits >> (bit + *count) & 1) != 0)
        (*count)++;
    return nullptr;
}

void put_bit_numbers(TextBuilder &out, unsigned low, unsigned count)
{
    if (count == 1)
        out.put("bit ", low);
    else
        out.put("bits ", low + count - 1, ":", low);
}

} // namespace

const char *vmcs_field_name(u32 encoding)
{
    for (const FieldName &row : kFieldNames) {
        if (row.encoding == encoding)
            return row.name;
    }
    return nullptr;
}

bool find_vmcs_field(const char *name, u32 *encoding)
{
    for (const FieldName &row : kFieldNames) {
        if (!text_equal(row.name, name))
            continue;
        *encoding = row.encoding;
        return true;
    }
    return false;
}

bool field_tells_of_host(u32 encoding)
{
    if (vmcs_kind(encoding) == VmcsKind::kHost || encoding == VMCS_LINK_POINTER.encoding)
        return true;
    if (vmcs_kind(encoding) != VmcsKind::kControl || vmcs_width(encoding) != VmcsWidth::k64)
        return false;
    // Of the 64-bit controls all but these are addresses.
    switch (encoding) {
    case TSC_OFFSET.encoding:
    case TSC_MULTIPLIER.encoding:
    case VM_FUNCTION_CONTROL.encoding:
    case XSS_EXIT_BITMAP.encoding:
    case ENCLS_EXITING_BITMAP.encoding:
    case ENCLV_EXITING_BITMAP.encoding:
    case TERTIARY_VM_EXEC_CONTROL.encoding:
    case SECONDARY_VM_EXIT_CONTROLS.encoding:
        return false;
    default:
        return encoding < EOI_EXIT_BITMAP0.encoding || encoding > EOI_EXIT_BITMAP3.encoding;
    }
}

void put_field_bits(TextBuilder &out, u32 encoding, u64 bits)
{
    constexpr unsigned kMostParts = 6;
    for (unsigned part = 0; bits != 0; part++) {
        if (part == kMostParts) {
            out.put(", ...");
            return;
        }
        if (part != 0)
            out.put(", ");
        const unsigned bit = lowest_bit(bits);
        unsigned count = 1;
        if (const char *name = name_of_bits(encoding, bits, bit, &count)) {
            out.put(name, " (");
            put_bit_numbers(out, bit, count);
            out.put(")");
        } else {
            put_bit_numbers(out, bit, count);
        }
        bits = bit + count >= 64 ? 0 : bits & ~u64{0} << (bit + count);
    }
}

void put_audit_input(TextBuilder &out, const AuditInput &input)
{
    static constexpr const char *kFacts[] = {
        "the width of physical addresses", "the width of linear addresses",
        "the mode that the host runs in",  "the CPU's features",
        "memory behind an address",        "the address of the VMCS",
    };
    switch (input.kind) {
    case AuditInput::Kind::kField:
        if (const char *name = vmcs_field_name(input.number))
            out.put(name);
        else
            out.put("VMCS field ", hex(input.number, 4));
        return;
    case AuditInput::Kind::kMsr:
        out.put(msr_name(input.number));
        return;
    case AuditInput::Kind::kFact:
        out.put(kFacts[input.number]);
    }
}

void put_audit_finding(TextBuilder &out, const AuditFinding &finding, bool host_values)
{
    const AuditCheck &check = *finding.check;
    out.put(check.name, ": ");
    if (check.stage == AuditStage::kMsrLoad)
        out.put("entry ", finding.entry, ", MSR ", hex(finding.value));
    else
        out.put(vmcs_field_name(check.field));
    if (finding.verdict == AuditVerdict::kNotCheckable) {
        out.put(": not checkable without ");
        put_audit_input(out, finding.missing);
        return;
    }
    if (check.stage != AuditStage::kMsrLoad && (host_values || !field_tells_of_host(check.field)))
        out.put(" = ", hex(finding.value));
    if (finding.bits != kWholeValue) {
        out.put(", ");
        put_field_bits(out, check.field, finding.bits);
    }
    out.put("; ", check.rule, " (SDM Vol. 3C, ", check.sdm, ")");
}

const char *audit_stage_name(AuditStage stage)
{
    static constexpr const char *kNames[] = {"controls", "host state", "guest state",
                                             "MSR loading"};
    return kNames[static_cast<unsigned>(stage)];
}

} // namespace minivmx
