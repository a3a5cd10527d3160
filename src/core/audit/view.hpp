// SPDX-License-Identifier: GPL-2.0-only
//
// What the predicates of the audit read through: the VMCS, the CPU, and what follows from both. It
// remembers when something was asked for that nobody knows; the check that asked is then not
// checkable, whatever it answers. So a predicate asks for no more than it needs, and in an order in
// which a sure fault is found before an unknown input is touched.
#pragma once

#include <minivmx/audit.hpp>
#include <minivmx/controls.hpp>
#include <minivmx/exit.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/vmcs_field.hpp>
#include <minivmx/x86.hpp>

namespace minivmx {

class AuditView {
  public:
    /// `entry`: of the MSR-load area, for checks of that stage.
    AuditView(const AuditSource &source, const AuditCheck &check, u32 entry)
        : source_(source), check_(check), entry_(entry)
    {}

    const AuditCheck &check() const { return check_; }

    template <VmcsWidth width, class Value>
    Value operator[](VmcsField<width, Value> field) const
    {
        return static_cast<Value>(read(field.encoding));
    }
    u64 read(u32 encoding) const;
    /// Of the field that the check is about.
    u64 value() const { return read(check_.field); }

    // Whether all of these controls are on: a word that is not activated counts as 0. SDM Vol. 3C,
    // 25.6.2 and 25.7.1.
    bool pin(u32 bits) const { return are_set((*this)[PIN_BASED_VM_EXEC_CONTROL], bits); }
    bool primary(u32 bits) const { return are_set((*this)[CPU_BASED_VM_EXEC_CONTROL], bits); }
    bool secondary(u32 bits) const
    {
        return primary(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) &&
               are_set((*this)[SECONDARY_VM_EXEC_CONTROL], bits);
    }
    bool tertiary(u64 bits) const
    {
        return primary(CPU_BASED_ACTIVATE_TERTIARY_CONTROLS) &&
               are_set((*this)[TERTIARY_VM_EXEC_CONTROL], bits);
    }
    bool exit(u32 bits) const { return are_set((*this)[VM_EXIT_CONTROLS], bits); }
    bool entry(u32 bits) const { return are_set((*this)[VM_ENTRY_CONTROLS], bits); }

    /// A capability MSR.
    u64 msr(u32 number) const;
    /// What the hardware accepts of a control word.
    AllowedSettings allowed(ControlField field) const;

    /// The bits of a physical address that are beyond what the CPU has.
    u64 beyond_physical_width(u64 address) const;
    /// Whether bits 63:`width - 1` are all the same, `width` being the CPU's linear addresses'.
    bool canonical(u64 address) const { return sign_bits_equal(address, 1); }
    /// Whether bits 63:`width` are all the same: the field may hold the first address behind the
    /// lower canonical half.
    bool nearly_canonical(u64 address) const { return sign_bits_equal(address, 0); }
    AuditCpu::Mode host_mode() const;
    bool has(AuditHas AuditFeatures::*feature) const;
    /// The bits of IA32_PERF_GLOBAL_CTRL that this CPU has.
    u64 counters() const;
    u64 vmcs_address() const;
    /// `size` bytes at `address`; zeros if they are not known.
    void memory(u64 address, void *bytes, usize size) const;
    /// The entry of the VM-entry MSR-load area that the check is about.
    AuditMsrEntry msr_entry() const;

    // The guest that is entered.
    bool ia32e_guest() const { return entry(VM_ENTRY_IA32E_MODE); }
    bool unrestricted_guest() const { return secondary(SECONDARY_EXEC_UNRESTRICTED_GUEST); }
    bool virtual_8086() const { return ((*this)[GUEST_RFLAGS] & X86_EFLAGS_VM) != 0; }
    /// It begins in 64-bit mode.
    bool guest_64bit() const { return ia32e_guest() && ((*this)[GUEST_CS_AR_BYTES] & AR_L) != 0; }

    /// Nobody knows; the first such thing counts.
    void miss(AuditInput::Kind kind, u32 number) const;
    void miss(AuditFact fact) const { miss(AuditInput::Kind::kFact, static_cast<u32>(fact)); }
    bool missed() const { return missed_; }
    const AuditInput &missing() const { return missing_; }

  private:
    static bool are_set(u64 word, u64 bits) { return (word & bits) == bits; }
    bool sign_bits_equal(u64 address, unsigned below) const;
    u32 linear_width() const; ///< 0: unknown

    const AuditSource &source_;
    const AuditCheck &check_;
    u32 entry_;
    mutable AuditInput missing_{};
    mutable bool missed_ = false;
};

namespace audit {

template <VmcsWidth width, class Value>
constexpr AuditCheck control_check(const char *sdm, VmcsField<width, Value> field, const char *name,
                                   const char *rule, AuditPredicate predicate)
{
    return {AuditStage::kControls, field.encoding, sdm, name, rule, predicate};
}
template <VmcsWidth width, class Value>
constexpr AuditCheck host_check(const char *sdm, VmcsField<width, Value> field, const char *name,
                                const char *rule, AuditPredicate predicate)
{
    return {AuditStage::kHost, field.encoding, sdm, name, rule, predicate};
}
template <VmcsWidth width, class Value>
constexpr AuditCheck guest_check(const char *sdm, VmcsField<width, Value> field, const char *name,
                                 const char *rule, AuditPredicate predicate)
{
    return {AuditStage::kGuest, field.encoding, sdm, name, rule, predicate};
}
constexpr AuditCheck msr_load_check(const char *name, const char *rule, AuditPredicate predicate)
{
    return {AuditStage::kMsrLoad, VM_ENTRY_MSR_LOAD_ADDR.encoding, "27.4", name, rule, predicate};
}

/// For predicates that blame no single bit.
constexpr u64 fault_if(bool violated)
{
    return violated ? kWholeValue : 0;
}

constexpr u64 kPageOffset = kPageSize - 1;
/// Bits 63:32.
constexpr u64 kHighHalf = ~u64{0xffffffff};

/// The event to be injected: SDM Vol. 3C, 25.8.3, table 25-17.
struct EntryEvent {
    u32 info;

    static constexpr u32 kReservedType = 1u << 8, kOther = 7u << 8; ///< besides INTR_TYPE_*
    static constexpr u32 kNested = bit32(13), kReserved = 0x7ffff000;

    constexpr bool valid() const { return (info & INTR_INFO_VALID) != 0; }
    constexpr u32 vector() const { return info & INTR_INFO_VECTOR_MASK; }
    constexpr u32 type() const { return info & INTR_INFO_TYPE_MASK; }
    constexpr bool delivers_error_code() const { return (info & INTR_INFO_HAS_ERROR_CODE) != 0; }
    constexpr bool is(u32 wanted) const { return valid() && type() == wanted; }
};

inline EntryEvent entry_event(const AuditView &v)
{
    return EntryEvent{v[VM_ENTRY_INTR_INFO_FIELD]};
}

// Predicates that more than one table uses.
u64 page_address(const AuditView &v);      ///< 4-KiB aligned and within the physical width
u64 canonical_address(const AuditView &v); ///< kWholeValue unless canonical
u64 supervisor_cet(const AuditView &v);    ///< IA32_S_CET without reserved bits
u64 perf_global_ctrl_reserved(const AuditView &v);
u64 wrong_memory_types(u64 pat); ///< each byte of IA32_PAT is a type. SDM Vol. 3A, 12.12.2
u64 efer_reserved(const AuditView &v, u64 efer);
u64 cr3_reserved(const AuditView &v);
u64 fred_config_reserved(const AuditView &v); ///< IA32_FRED_CONFIG
/// A stack pointer of FRED: canonical, and these low bits are 0.
u64 fred_stack(const AuditView &v, u64 low_bits);
/// Bits of CR0 or CR4 that differ from what VMX operation allows, without those of `unchecked`. SDM
/// Vol. 3D, A.7 and A.8.
u64 cr_unsupported(const AuditView &v, u32 fixed0_msr, u32 fixed1_msr, u64 unchecked);
// Of a control word: what the capability MSR says that it has wrong.
u64 controls_that_must_be_1(const AuditView &v);
u64 controls_that_must_be_0(const AuditView &v);

extern const Span<const AuditCheck> kExecutionControlChecks, kVirtualizationControlChecks,
    kExitEntryControlChecks, kHostChecks, kGuestRegisterChecks, kGuestSegmentChecks,
    kGuestStateChecks, kMsrLoadChecks;

} // namespace audit

} // namespace minivmx
