// SPDX-License-Identifier: GPL-2.0-only
// RDMSR and WRMSR that exit. One table says which MSRs a guest has and what each does; whatever is
// not in it raises #GP, as in KVM with ignore_msrs=0. Values and their checks are the
// architecture's (SDM Vol. 4, and Vol. 2B, RDMSR and WRMSR); MSRs that only some CPU model has read
// as what KVM shows of them.
#include "msr.hpp"

#include <minivmx/hardware.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/state.hpp>

namespace minivmx {

namespace {

// ---- Ways to answer that many rows share

template <u64 constant>
bool read_constant(vcpu_vmx &, u32, u64 &value)
{
    value = constant;
    return true;
}
constexpr MsrReadFn *read_zero = read_constant<0>;

bool ignore_write(vcpu_vmx &, u32, u64)
{
    return true;
}

constexpr bool always(const vcpu_vmx &, u32, u64)
{
    return true;
}

u64 canonical_form(vcpu_vmx &vmx, u64 address)
{
    const unsigned width = guest_cr4(vmx) & X86_CR4_LA57 ? 57 : 48;
    return static_cast<u64>(static_cast<s64>(address << (64 - width)) >> (64 - width));
}

// ---- SYSCALL, SYSENTER, segment bases: SDM Vol. 3A, 5.8.7 and 5.8.8

template <vcpu_uret_msr slot>
bool read_switched(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.area->uret[slot];
    return true;
}

template <vcpu_uret_msr slot>
bool write_switched(vcpu_vmx &vmx, u32, u64 value)
{
    vmx.area->uret[slot] = value;
    vmx.area->uret_dirty = 1;
    return true;
}

// Instruction pointers: WRMSR refuses those that aren't canonical.
template <vcpu_uret_msr slot>
bool write_switched_address(vcpu_vmx &vmx, u32 index, u64 value)
{
    return is_canonical_address(vmx, value) && write_switched<slot>(vmx, index, value);
}

template <const VmcsFieldNatural &field>
bool read_address_field(vcpu_vmx &, u32, u64 &value)
{
    value = vmcs_read(field);
    return true;
}

template <const VmcsFieldNatural &field>
bool write_sysenter_address(vcpu_vmx &vmx, u32, u64 value)
{
    // A guest on an AMD CPU may have anything there, and user space brings it.
    if (vmx.msr_access_by_host)
        value = canonical_form(vmx, value);
    if (!is_canonical_address(vmx, value))
        return false;
    vmcs_write(field, value);
    return true;
}

template <const VmcsFieldNatural &field>
bool write_address_field(vcpu_vmx &vmx, u32, u64 value)
{
    if (!is_canonical_address(vmx, value))
        return false;
    vmcs_write(field, value);
    return true;
}

template <Segment which>
bool read_segment_base(vcpu_vmx &vmx, u32, u64 &value)
{
    value = segment_base(vmx, which);
    return true;
}

template <Segment which>
bool write_segment_base_msr(vcpu_vmx &vmx, u32, u64 value)
{
    if (!is_canonical_address(vmx, value))
        return false;
    write_segment_base(vmx, which, value);
    return true;
}

bool read_sysenter_cs(vcpu_vmx &, u32, u64 &value)
{
    value = vmcs_read(GUEST_SYSENTER_CS);
    return true;
}

bool write_sysenter_cs(vcpu_vmx &, u32, u64 value)
{
    vmcs_write(GUEST_SYSENTER_CS, static_cast<u32>(value));
    return true;
}

bool read_kernel_gs_base(vcpu_vmx &vmx, u32, u64 &value)
{
    value = host_read_kernel_gs_base(vmx.host);
    return true;
}

bool write_kernel_gs_base(vcpu_vmx &vmx, u32, u64 value)
{
    if (!is_canonical_address(vmx, value))
        return false;
    host_write_kernel_gs_base(vmx.host, value);
    return true;
}

bool read_efer(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.efer;
    return true;
}

bool write_guest_efer(vcpu_vmx &vmx, u32, u64 value)
{
    return set_efer(vmx, value);
}

// The MSR exists with RDTSCP or RDPID, which read it.
bool tsc_aux_exists()
{
    const u32 *host = hardware.info.features;
    return (host[HOST_FEATURES_80000001_EDX] & bit32(27)) != 0 ||
           (host[HOST_FEATURES_7_ECX] & bit32(22)) != 0;
}

bool has_tsc_aux(const vcpu_vmx &vmx)
{
    return tsc_aux_exists() && (vmx.msr_access_by_host || vmx.cpuid.has(CpuidFeature::kRdtscp) ||
                                vmx.cpuid.has(CpuidFeature::kRdpid));
}

// With the local APIC in user space the deadline means nothing here, and is forgotten as in KVM.
bool read_tsc_deadline(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.has_apic ? lapic_tsc_deadline(vmx) : 0;
    return true;
}

bool write_tsc_deadline(vcpu_vmx &vmx, u32, u64 value)
{
    if (vmx.has_apic)
        lapic_write_tsc_deadline(vmx, value);
    return true;
}

bool read_x2apic(vcpu_vmx &vmx, u32 index, u64 &value)
{
    return vmx.has_apic && lapic_read_msr(vmx, index, value);
}

bool write_x2apic(vcpu_vmx &vmx, u32 index, u64 value)
{
    return vmx.has_apic && lapic_write_msr(vmx, index, value);
}

bool read_tsc_aux(vcpu_vmx &vmx, u32 index, u64 &value)
{
    return has_tsc_aux(vmx) && read_switched<URET_TSC_AUX>(vmx, index, value);
}

bool write_tsc_aux(vcpu_vmx &vmx, u32 index, u64 value)
{
    // Bits 63:32 are reserved on Intel's CPUs; AMD's ignore them.
    if (!has_tsc_aux(vmx) || (vmx.cpuid.is_intel() && value >> 32))
        return false;
    return write_switched<URET_TSC_AUX>(vmx, index, static_cast<u32>(value));
}

bool write_nothing_but_zero(vcpu_vmx &, u32, u64 value)
{
    return value == 0;
}

constexpr u32 kLastMachineCheckBank = 0x400 + 4 * kMachineCheckBanks - 1;
// IA32_PERF_STATUS: a clock ratio of 4 in the old place and a TSC increment, for guests that divide
// by them.
constexpr u64 kPerfStatus = 1000 | u64{4} << 40;
constexpr u64 kEbcFrequencyId = 1 << 24; // bus ratio 1
constexpr u64 kBblCrCtl3 = 0xbe702111;   // L2 cache: 256 KiB, enabled
constexpr u64 kK7ClkCtl = 0x20000000;

// ---- The table, by number
// Names of SDM Vol. 4, chapter 2, or of AMD's manuals where they are AMD's.
// clang-format off
constexpr MsrRow kMsrTable[] = {
    {0x00000000, 0x00000001, read_zero, nullptr},                                  // IA32_P5_MC_ADDR, IA32_P5_MC_TYPE
    {0x00000010, 0x00000010, read_tsc, write_tsc},                                 // IA32_TIME_STAMP_COUNTER
    {0x00000011, 0x00000011, read_kvm_wall_clock, write_kvm_wall_clock},           // MSR_KVM_WALL_CLOCK
    {0x00000012, 0x00000012, read_kvm_system_time, write_kvm_system_time},         // MSR_KVM_SYSTEM_TIME
    {0x00000017, 0x00000017, read_zero, nullptr},                                  // IA32_PLATFORM_ID
    {0x0000001b, 0x0000001b, read_apic_base, write_guest_apic_base, always},       // IA32_APIC_BASE
    {0x0000002a, 0x0000002a, read_zero, nullptr},                                  // MSR_EBL_CR_POWERON
    {0x0000002c, 0x0000002c, read_constant<kEbcFrequencyId>, nullptr},             // MSR_EBC_FREQUENCY_ID
    {0x00000034, 0x00000034, read_zero, nullptr},                                  // MSR_SMI_COUNT
    {0x0000003a, 0x0000003a, read_stored<&GuestMsrs::feature_control>,
                             write_feature_control},                               // IA32_FEATURE_CONTROL
    {0x0000003b, 0x0000003b, read_stored<&GuestMsrs::tsc_adjust>, write_tsc_adjust}, // IA32_TSC_ADJUST
    {0x00000048, 0x00000048, read_spec_ctrl, write_spec_ctrl},                     // IA32_SPEC_CTRL
    {0x00000049, 0x00000049, nullptr, write_pred_cmd},                             // IA32_PRED_CMD
    {0x00000079, 0x00000079, nullptr, ignore_write},                               // IA32_BIOS_UPDT_TRIG
    {0x0000008b, 0x0000008b, read_stored<&GuestMsrs::microcode_revision>,
                             write_microcode_revision},                            // IA32_BIOS_SIGN_ID
    {0x000000c1, 0x000000c2, read_zero, ignore_write},                             // P6's PerfCtr0, PerfCtr1
    {0x000000cd, 0x000000cd, read_constant<3>, nullptr},                           // MSR_FSB_FREQ
    {0x000000ce, 0x000000ce, read_platform_info, write_platform_info},             // MSR_PLATFORM_INFO
    {0x000000e1, 0x000000e1, read_umwait_control, write_umwait_control},           // IA32_UMWAIT_CONTROL
    {0x000000fe, 0x000000fe, read_mtrr_capability, nullptr},                       // IA32_MTRRCAP
    {0x0000010a, 0x0000010a, read_arch_capabilities, write_arch_capabilities},     // IA32_ARCH_CAPABILITIES
    {0x0000011e, 0x0000011e, read_constant<kBblCrCtl3>, ignore_write},             // MSR_BBL_CR_CTL3
    {0x00000140, 0x00000140, read_stored<&GuestMsrs::misc_features_enables>,
                             write_misc_features_enables},                         // MSR_MISC_FEATURES_ENABLES
    {0x00000174, 0x00000174, read_sysenter_cs, write_sysenter_cs},                 // IA32_SYSENTER_CS
    {0x00000175, 0x00000175, read_address_field<GUEST_SYSENTER_ESP>,
                             write_sysenter_address<GUEST_SYSENTER_ESP>},             // IA32_SYSENTER_ESP
    {0x00000176, 0x00000176, read_address_field<GUEST_SYSENTER_EIP>,
                             write_sysenter_address<GUEST_SYSENTER_EIP>},             // IA32_SYSENTER_EIP
    {0x00000179, 0x00000179, read_machine_check_capability, nullptr},              // IA32_MCG_CAP
    {0x0000017a, 0x0000017a, read_machine_check_status, write_machine_check_status}, // IA32_MCG_STATUS
    {0x0000017b, 0x0000017b, read_machine_check_control, write_machine_check_control}, // IA32_MCG_CTL
    {0x00000186, 0x00000187, read_zero, ignore_write},                             // P6's PerfEvtSel0, PerfEvtSel1
    {0x00000198, 0x00000198, read_constant<kPerfStatus>, nullptr},                 // IA32_PERF_STATUS
    {0x00000199, 0x00000199, read_zero, nullptr},                                  // IA32_PERF_CTL
    {0x000001a0, 0x000001a0, read_stored<&GuestMsrs::misc_enable>, write_misc_enable}, // IA32_MISC_ENABLE
    {0x000001d9, 0x000001d9, read_debugctl, write_debugctl},                       // IA32_DEBUGCTL
    {0x000001db, 0x000001de, read_zero, nullptr},                                  // last branch, last interrupt
    {0x000001fc, 0x000001fc, read_stored<&GuestMsrs::power_ctl>, store<&GuestMsrs::power_ctl>}, // MSR_POWER_CTL
    {0x00000200, 0x0000020f, read_variable_mtrr, write_variable_mtrr},             // IA32_MTRR_PHYSBASEn, PHYSMASKn
    {0x00000250, 0x00000250, read_fixed_mtrr, write_fixed_mtrr},                   // IA32_MTRR_FIX64K_00000
    {0x00000258, 0x00000259, read_fixed_mtrr, write_fixed_mtrr},                   // IA32_MTRR_FIX16K_n
    {0x00000268, 0x0000026f, read_fixed_mtrr, write_fixed_mtrr},                   // IA32_MTRR_FIX4K_n
    {0x00000277, 0x00000277, read_stored<&GuestMsrs::pat>, write_pat},             // IA32_PAT
    {0x000002ff, 0x000002ff, read_mtrr_default, write_mtrr_default},               // IA32_MTRR_DEF_TYPE
    {0x00000400, kLastMachineCheckBank, read_machine_check_bank,
                             write_machine_check_bank},                            // IA32_MCi_CTL, STATUS, ADDR, MISC
    {0x00000606, 0x00000606, read_zero, nullptr},                                  // MSR_RAPL_POWER_UNIT
    {0x00000611, 0x00000611, read_zero, nullptr},                                  // MSR_PKG_ENERGY_STATUS
    {0x00000619, 0x00000619, read_zero, nullptr},                                  // MSR_DRAM_ENERGY_STATUS
    {0x00000639, 0x00000639, read_zero, nullptr},                                  // MSR_PP0_ENERGY_STATUS
    {0x00000641, 0x00000641, read_zero, nullptr},                                  // MSR_PP1_ENERGY_STATUS
    {0x000006e0, 0x000006e0, read_tsc_deadline, write_tsc_deadline, always},       // IA32_TSC_DEADLINE
    {0x00000800, 0x000008ff, read_x2apic, write_x2apic, lapic_writes_msr_at_once}, // x2APIC
    {0x00000d90, 0x00000d90, read_bndcfgs, write_bndcfgs},                         // IA32_BNDCFGS
    {0x00000da0, 0x00000da0, read_xss, write_xss},                                 // IA32_XSS
    {0x4b564d00, 0x4b564d00, read_kvm_wall_clock, write_kvm_wall_clock},           // MSR_KVM_WALL_CLOCK_NEW
    {0x4b564d01, 0x4b564d01, read_kvm_system_time, write_kvm_system_time},         // MSR_KVM_SYSTEM_TIME_NEW
    {0xc0000080, 0xc0000080, read_efer, write_guest_efer},                         // IA32_EFER
    {0xc0000081, 0xc0000081, read_switched<URET_STAR>, write_switched<URET_STAR>}, // IA32_STAR
    {0xc0000082, 0xc0000082, read_switched<URET_LSTAR>, write_switched_address<URET_LSTAR>}, // IA32_LSTAR
    {0xc0000083, 0xc0000083, read_switched<URET_CSTAR>, write_switched_address<URET_CSTAR>}, // IA32_CSTAR
    {0xc0000084, 0xc0000084, read_switched<URET_SYSCALL_MASK>, write_switched<URET_SYSCALL_MASK>}, // IA32_FMASK
    {0xc0000100, 0xc0000100, read_segment_base<kFs>, write_segment_base_msr<kFs>}, // IA32_FS_BASE
    {0xc0000101, 0xc0000101, read_segment_base<kGs>, write_segment_base_msr<kGs>}, // IA32_GS_BASE
    {0xc0000102, 0xc0000102, read_kernel_gs_base, write_kernel_gs_base},           // IA32_KERNEL_GS_BASE
    {0xc0000103, 0xc0000103, read_tsc_aux, write_tsc_aux},                         // IA32_TSC_AUX
    {0xc0010000, 0xc0010007, read_zero, ignore_write},                             // AMD: PERF_CTLn, PERF_CTRn
    {0xc0010010, 0xc0010010, read_zero, nullptr},                                  // AMD: SYSCFG
    {0xc0010015, 0xc0010015, read_stored<&GuestMsrs::hwcr>, write_hwcr},           // AMD: HWCR
    {0xc001001b, 0xc001001b, read_constant<kK7ClkCtl>, ignore_write},              // AMD: K7's CLK_CTL
    {0xc001001f, 0xc001001f, read_zero, ignore_write},                             // AMD: NB_CFG
    {0xc0010020, 0xc0010020, nullptr, ignore_write},                               // AMD: PATCH_LOADER
    {0xc0010055, 0xc0010055, read_zero, nullptr},                                  // AMD: INT_PENDING_MSG
    {0xc0010058, 0xc0010058, read_zero, write_nothing_but_zero},                   // AMD: MMIO_CONF_BASE
    {0xc0010112, 0xc0010113, read_zero, nullptr},                                  // AMD: TSEG_ADDR, TSEG_MASK
    {0xc0010117, 0xc0010117, read_zero, ignore_write},                             // AMD: VM_HSAVE_PA
    {0xc0011022, 0xc0011023, read_zero, ignore_write},                             // AMD: DC_CFG, TW_CFG
    {0xc001102a, 0xc001102a, read_zero, ignore_write},                             // AMD: BU_CFG2
    {0xc001102c, 0xc001102c, read_zero, ignore_write},                             // AMD: EX_CFG
};
// clang-format on

constexpr usize kMsrRows = sizeof(kMsrTable) / sizeof(kMsrTable[0]);

constexpr bool in_order()
{
    for (usize i = 1; i < kMsrRows; i++)
        if (kMsrTable[i].first <= kMsrTable[i - 1].last || kMsrTable[i].last < kMsrTable[i].first)
            return false;
    return true;
}
static_assert(in_order(), "search_row() searches by halves");

// The row of each low MSR, and of those from IA32_EFER on: what guests read and write. 0: none.
constexpr u32 kLowMsrs = 0x900, kHighMsrs = 0x90, kFirstHighMsr = 0xc0000080;

struct MsrIndex {
    u8 low[kLowMsrs], high[kHighMsrs];
};

consteval MsrIndex make_msr_index()
{
    static_assert(kMsrRows < 255);
    MsrIndex made{};
    for (usize i = 0; i < kMsrRows; i++) {
        for (u32 msr = kMsrTable[i].first; msr <= kMsrTable[i].last; msr++) {
            if (msr < kLowMsrs)
                made.low[msr] = static_cast<u8>(i + 1);
            else if (msr - kFirstHighMsr < kHighMsrs)
                made.high[msr - kFirstHighMsr] = static_cast<u8>(i + 1);
        }
    }
    return made;
}
constexpr MsrIndex kMsrIndex = make_msr_index();

const MsrRow *search_row(u32 index)
{
    usize low = 0, high = kMsrRows;
    while (low < high) {
        const usize middle = (low + high) / 2;
        const MsrRow &row = kMsrTable[middle];
        if (index < row.first)
            high = middle;
        else if (index > row.last)
            low = middle + 1;
        else
            return &row;
    }
    return nullptr;
}

const MsrRow *find_row(u32 index)
{
    u8 place;
    if (index < kLowMsrs)
        place = kMsrIndex.low[index];
    else if (index - kFirstHighMsr < kHighMsrs)
        place = kMsrIndex.high[index - kFirstHighMsr];
    else
        return search_row(index);
    return place ? &kMsrTable[place - 1] : nullptr;
}

} // namespace

bool is_canonical_address(vcpu_vmx &vmx, u64 address)
{
    return canonical_form(vmx, address) == address;
}

void init_guest_msrs(vcpu_vmx &vmx)
{
    constexpr u64 kPatAfterReset = 0x0007040600070406; // SDM Vol. 3A, 12.12.4
    constexpr u64 kPlatformHasCpuidFault = bit64(31);
    constexpr u64 kMicrocodeRevision = u64{1} << 32;
    GuestMsrs &msrs = vmx.msrs;
    msrs = {};
    msrs.pat = kPatAfterReset;
    msrs.misc_enable = kMiscEnableReadOnly;
    msrs.xcr0 = 1; // x87 always: SDM Vol. 3A, 10.1.1
    msrs.arch_capabilities = guest_arch_capabilities();
    msrs.platform_info = kPlatformHasCpuidFault;
    msrs.microcode_revision = kMicrocodeRevision;
    msrs.machine_check.capability = kMachineCheckBanks;
    vmx.apic_base = apic_base_after_reset(vmx);
}

bool get_msr(vcpu_vmx &vmx, u32 index, u64 &value)
{
    value = 0;
    const MsrRow *row = find_row(index);
    return row && row->read && row->read(vmx, index, value);
}

bool set_msr(vcpu_vmx &vmx, u32 index, u64 value)
{
    const MsrRow *row = find_row(index);
    return row && row->write && row->write(vmx, index, value);
}

namespace {

// Why an access failed.
MsrResult failure_of(u32 index)
{
    return find_row(index) ? MsrResult::kInvalid : MsrResult::kUnknown;
}

Outcome msr_failed(vcpu_vmx &vmx, MsrResult why, PendingMsr kind, u32 index, u64 value)
{
    if (ask_user_space(vmx, why, kind, index, value))
        return Outcome::to_user();
    inject_gp(vmx);
    return Outcome::resume();
}

} // namespace

bool answer_rdmsr(vcpu_vmx &vmx)
{
    const u32 index = static_cast<u32>(read_gpr(vmx, kRcx));
    u64 value;
    if (!msr_allowed(*vmx.kvm, index, KVM_MSR_FILTER_READ) || !get_msr(vmx, index, value))
        return false;
    write_edx_eax(vmx, value);
    skip_emulated_instruction(vmx);
    return true;
}

Outcome handle_rdmsr(vcpu_vmx &vmx)
{
    if (answer_rdmsr(vmx))
        return Outcome::resume();
    const u32 index = static_cast<u32>(read_gpr(vmx, kRcx));
    const bool allowed = msr_allowed(*vmx.kvm, index, KVM_MSR_FILTER_READ);
    return msr_failed(vmx, allowed ? failure_of(index) : MsrResult::kFiltered, PendingMsr::kRead,
                      index, 0);
}

bool answer_wrmsr(vcpu_vmx &vmx)
{
    const u32 index = static_cast<u32>(read_gpr(vmx, kRcx));
    const u64 value = read_edx_eax(vmx);
    const MsrRow *row = find_row(index);
    if (!row || !row->writes_at_once || !row->writes_at_once(vmx, index, value) ||
        !msr_allowed(*vmx.kvm, index, KVM_MSR_FILTER_WRITE) || !row->write(vmx, index, value))
        return false;
    skip_emulated_instruction(vmx);
    return true;
}

Outcome handle_wrmsr(vcpu_vmx &vmx)
{
    const u32 index = static_cast<u32>(read_gpr(vmx, kRcx));
    const u64 value = read_edx_eax(vmx);
    if (!msr_allowed(*vmx.kvm, index, KVM_MSR_FILTER_WRITE))
        return msr_failed(vmx, MsrResult::kFiltered, PendingMsr::kWrite, index, value);
    if (!set_msr(vmx, index, value))
        return msr_failed(vmx, failure_of(index), PendingMsr::kWrite, index, value);
    skip_emulated_instruction(vmx);
    return Outcome::resume();
}

} // namespace minivmx
