// SPDX-License-Identifier: GPL-2.0-only
//
// What the predicates see of the VMCS and of the CPU.
#include "view.hpp"

namespace minivmx {

void AuditView::miss(AuditInput::Kind kind, u32 number) const
{
    if (!missed_)
        missing_ = AuditInput{kind, number};
    missed_ = true;
}

u64 AuditView::read(u32 encoding) const
{
    u64 value = 0;
    if (source_.field(source_.context, encoding, &value))
        return value;
    miss(AuditInput::Kind::kField, encoding);
    return 0;
}

u64 AuditView::msr(u32 number) const
{
    if (source_.cpu.msr != nullptr && source_.cpu.msr->present(number))
        return (*source_.cpu.msr)[number];
    miss(AuditInput::Kind::kMsr, number);
    return 0;
}

AllowedSettings AuditView::allowed(ControlField field) const
{
    const ControlWordInfo &word = control_word_info(field);
    const bool true_msr = word.true_msr != 0 && VmxBasic{msr(MSR_IA32_VMX_BASIC)}.true_controls();
    msr(true_msr ? word.true_msr : word.msr);
    return missed_ ? AllowedSettings{} : true_allowed_settings(*source_.cpu.msr, field);
}

u64 AuditView::beyond_physical_width(u64 address) const
{
    // The least of any CPU with VMX, and the most that the architecture allows: SDM Vol. 3A, 4.1.4.
    constexpr unsigned kLeast = 36, kMost = 52;
    if (address >> kLeast == 0)
        return 0;
    if (const u64 never = address & ~u64{0} << kMost; never != 0)
        return never;
    if (source_.cpu.physical_bits == 0) {
        miss(AuditFact::kPhysicalWidth);
        return 0;
    }
    return source_.cpu.physical_bits >= 64 ? 0 : address & ~u64{0} << source_.cpu.physical_bits;
}

u32 AuditView::linear_width() const
{
    const AuditCpu &cpu = source_.cpu;
    if (cpu.linear_bits != 0 || cpu.msr == nullptr || !cpu.msr->present(MSR_IA32_VMX_CR4_FIXED1))
        return cpu.linear_bits;
    // CPUs with 5-level paging have 57 bits, the others 48: SDM Vol. 3A, 4.1.4.
    return (*cpu.msr)[MSR_IA32_VMX_CR4_FIXED1] & X86_CR4_LA57 ? 57 : 48;
}

bool AuditView::sign_bits_equal(u64 address, unsigned below) const
{
    constexpr unsigned kLeast = 48, kMost = 57;
    const auto equal = [=](unsigned width) {
        const s64 high = static_cast<s64>(address) >> (width - below);
        return high == 0 || high == -1;
    };
    const u32 width = linear_width();
    if (width != 0 && width < 64)
        return equal(width);
    if (width >= 64 || equal(kLeast))
        return true;
    if (equal(kMost))
        miss(AuditFact::kLinearWidth);
    return false;
}

AuditCpu::Mode AuditView::host_mode() const
{
    if (source_.cpu.mode == AuditCpu::Mode::kUnknown)
        miss(AuditFact::kHostMode);
    return source_.cpu.mode;
}

bool AuditView::has(AuditHas AuditFeatures::*feature) const
{
    const AuditHas answer = source_.cpu.features.*feature;
    if (answer == AuditHas::kUnknown)
        miss(AuditFact::kCpuFeatures);
    return answer == AuditHas::kYes;
}

u64 AuditView::counters() const
{
    return has(&AuditFeatures::counters) ? source_.cpu.features.perf_global_ctrl : 0;
}

u64 AuditView::vmcs_address() const
{
    if (source_.vmcs_address == AuditSource::kUnknownAddress)
        miss(AuditFact::kVmcsAddress);
    return source_.vmcs_address;
}

void AuditView::memory(u64 address, void *bytes, usize size) const
{
    if (source_.memory != nullptr && source_.memory(source_.context, address, bytes, size))
        return;
    miss(AuditFact::kMemory);
    for (usize i = 0; i < size; i++)
        static_cast<u8 *>(bytes)[i] = 0;
}

AuditMsrEntry AuditView::msr_entry() const
{
    AuditMsrEntry entry{};
    if (source_.msr_entry != nullptr && source_.msr_entry(source_.context, entry_, &entry))
        return entry;
    memory((*this)[VM_ENTRY_MSR_LOAD_ADDR] + u64{sizeof(entry)} * entry_, &entry, sizeof(entry));
    return entry;
}

namespace audit {

u64 page_address(const AuditView &v)
{
    const u64 address = v.value();
    const u64 offset = address & kPageOffset;
    return offset != 0 ? offset : v.beyond_physical_width(address);
}

u64 canonical_address(const AuditView &v)
{
    return fault_if(!v.canonical(v.value()));
}

u64 wrong_memory_types(u64 pat)
{
    u64 wrong = 0;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        const u64 type = pat >> shift & 0xff;
        // UC, WC, WT, WP, WB and UC-.
        if (type > 7 || type == 2 || type == 3)
            wrong |= u64{0xff} << shift;
    }
    return wrong;
}

u64 supervisor_cet(const AuditView &v)
{
    // Bits 9:6 are reserved, and the legacy tracker is either suppressed or waiting, not both: SDM
    // Vol. 4, table 2-2, IA32_S_CET.
    constexpr u64 kReserved = 0x3c0, kSuppressAndTracker = bit64(10) | bit64(11);
    const u64 value = v.value();
    if (const u64 reserved = value & kReserved; reserved != 0)
        return reserved;
    if ((value & kSuppressAndTracker) == kSuppressAndTracker)
        return kSuppressAndTracker;
    // Bits 63:12 are an address, that of the legacy-code bitmap.
    return fault_if(!v.canonical(value));
}

u64 efer_reserved(const AuditView &v, u64 efer)
{
    if (const u64 never = efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NX); never != 0)
        return never;
    return efer & EFER_NX && !v.has(&AuditFeatures::nx) ? EFER_NX : 0;
}

u64 perf_global_ctrl_reserved(const AuditView &v)
{
    const u64 value = v.value();
    return value == 0 ? 0 : value & ~v.counters();
}

u64 cr3_reserved(const AuditView &v)
{
    // Linear-address masking for user code: SDM Vol. 3A, 4.4.
    constexpr u64 kLam = bit64(61) | bit64(62);
    const u64 value = v.value();
    if (const u64 wrong = v.beyond_physical_width(value & ~kLam); wrong != 0)
        return wrong;
    return value & kLam && !v.has(&AuditFeatures::lam) ? value & kLam : 0;
}

u64 fred_config_reserved(const AuditView &v)
{
    constexpr u64 kReserved = bit64(2) | bit64(4) | bit64(5) | bit64(11);
    const u64 reserved = v.value() & kReserved;
    return reserved != 0 ? reserved : canonical_address(v);
}

u64 fred_stack(const AuditView &v, u64 low_bits)
{
    const u64 low = v.value() & low_bits;
    return low != 0 ? low : canonical_address(v);
}

u64 cr_unsupported(const AuditView &v, u32 fixed0_msr, u32 fixed1_msr, u64 unchecked)
{
    const u64 value = v.value();
    return ((v.msr(fixed0_msr) & ~value) | (value & ~v.msr(fixed1_msr))) & ~unchecked;
}

} // namespace audit

} // namespace minivmx
