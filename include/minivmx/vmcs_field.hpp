// SPDX-License-Identifier: GPL-2.0-only
// The VMCS's fields, typed by width: SDM Vol. 3D, Appendix B "Field Encoding in VMCS". A value of
// the wrong width does not compile, and a field exists under one name only, which is the name the
// document and kvm_intel use.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

// Bits 14:13 of an encoding give the width, bits 11:10 the kind (SDM Vol. 3C, 25.11.2 "VMREAD,
// VMWRITE, and Encodings of VMCS Fields").
enum class VmcsWidth : u8 { k16, k64, k32, kNatural };
enum class VmcsKind : u8 { kControl, kExitInfo, kGuest, kHost };

constexpr VmcsWidth vmcs_width(u32 encoding)
{
    return static_cast<VmcsWidth>(encoding >> 13 & 3);
}
constexpr VmcsKind vmcs_kind(u32 encoding)
{
    return static_cast<VmcsKind>(encoding >> 10 & 3);
}

template <VmcsWidth width, class Value>
struct VmcsField {
    using value_type = Value;
    u32 encoding;

    // The fields of the six segments (and of the descriptor tables behind them) lie two encodings
    // apart, in one order.
    constexpr VmcsField operator+(u32 index) const { return {encoding + 2 * index}; }
};

using VmcsField16 = VmcsField<VmcsWidth::k16, u16>;
using VmcsField32 = VmcsField<VmcsWidth::k32, u32>;
using VmcsField64 = VmcsField<VmcsWidth::k64, u64>;
using VmcsFieldNatural = VmcsField<VmcsWidth::kNatural, u64>;

// clang-format off
// X(width, name, encoding)
#define MINIVMX_VMCS_FIELDS(X) \
    X(16, VIRTUAL_PROCESSOR_ID, 0x00000000)               \
    X(16, POSTED_INTR_NV, 0x00000002)                     \
    X(16, EPTP_INDEX, 0x00000004)                         \
    X(16, HLAT_PREFIX_SIZE, 0x00000006)                   \
    X(16, LAST_PID_POINTER_INDEX, 0x00000008)             \
    X(16, GUEST_ES_SELECTOR, 0x00000800)                  \
    X(16, GUEST_CS_SELECTOR, 0x00000802)                  \
    X(16, GUEST_SS_SELECTOR, 0x00000804)                  \
    X(16, GUEST_DS_SELECTOR, 0x00000806)                  \
    X(16, GUEST_FS_SELECTOR, 0x00000808)                  \
    X(16, GUEST_GS_SELECTOR, 0x0000080a)                  \
    X(16, GUEST_LDTR_SELECTOR, 0x0000080c)                \
    X(16, GUEST_TR_SELECTOR, 0x0000080e)                  \
    X(16, GUEST_INTR_STATUS, 0x00000810)                  \
    X(16, GUEST_PML_INDEX, 0x00000812)                    \
    X(16, GUEST_UINV, 0x00000814)                         \
    X(16, HOST_ES_SELECTOR, 0x00000c00)                   \
    X(16, HOST_CS_SELECTOR, 0x00000c02)                   \
    X(16, HOST_SS_SELECTOR, 0x00000c04)                   \
    X(16, HOST_DS_SELECTOR, 0x00000c06)                   \
    X(16, HOST_FS_SELECTOR, 0x00000c08)                   \
    X(16, HOST_GS_SELECTOR, 0x00000c0a)                   \
    X(16, HOST_TR_SELECTOR, 0x00000c0c)                   \
    X(64, IO_BITMAP_A, 0x00002000)                        \
    X(64, IO_BITMAP_B, 0x00002002)                        \
    X(64, MSR_BITMAP, 0x00002004)                         \
    X(64, VM_EXIT_MSR_STORE_ADDR, 0x00002006)             \
    X(64, VM_EXIT_MSR_LOAD_ADDR, 0x00002008)              \
    X(64, VM_ENTRY_MSR_LOAD_ADDR, 0x0000200a)             \
    X(64, EXECUTIVE_VMCS_POINTER, 0x0000200c)             \
    X(64, PML_ADDRESS, 0x0000200e)                        \
    X(64, TSC_OFFSET, 0x00002010)                         \
    X(64, VIRTUAL_APIC_PAGE_ADDR, 0x00002012)             \
    X(64, APIC_ACCESS_ADDR, 0x00002014)                   \
    X(64, POSTED_INTR_DESC_ADDR, 0x00002016)              \
    X(64, VM_FUNCTION_CONTROL, 0x00002018)                \
    X(64, EPT_POINTER, 0x0000201a)                        \
    X(64, EOI_EXIT_BITMAP0, 0x0000201c)                   \
    X(64, EOI_EXIT_BITMAP1, 0x0000201e)                   \
    X(64, EOI_EXIT_BITMAP2, 0x00002020)                   \
    X(64, EOI_EXIT_BITMAP3, 0x00002022)                   \
    X(64, EPTP_LIST_ADDRESS, 0x00002024)                  \
    X(64, VMREAD_BITMAP, 0x00002026)                      \
    X(64, VMWRITE_BITMAP, 0x00002028)                     \
    X(64, VE_INFO_ADDRESS, 0x0000202a)                    \
    X(64, XSS_EXIT_BITMAP, 0x0000202c)                    \
    X(64, ENCLS_EXITING_BITMAP, 0x0000202e)               \
    X(64, SPP_TABLE_POINTER, 0x00002030)                  \
    X(64, TSC_MULTIPLIER, 0x00002032)                     \
    X(64, TERTIARY_VM_EXEC_CONTROL, 0x00002034)           \
    X(64, ENCLV_EXITING_BITMAP, 0x00002036)               \
    X(64, LOW_PASID_DIRECTORY, 0x00002038)                \
    X(64, HIGH_PASID_DIRECTORY, 0x0000203a)               \
    X(64, HLAT_POINTER, 0x00002040)                       \
    X(64, PID_POINTER_TABLE, 0x00002042)                  \
    X(64, SECONDARY_VM_EXIT_CONTROLS, 0x00002044)         \
    X(64, GUEST_PHYSICAL_ADDRESS, 0x00002400)             \
    X(64, VMCS_LINK_POINTER, 0x00002800)                  \
    X(64, GUEST_IA32_DEBUGCTL, 0x00002802)                \
    X(64, GUEST_IA32_PAT, 0x00002804)                     \
    X(64, GUEST_IA32_EFER, 0x00002806)                    \
    X(64, GUEST_IA32_PERF_GLOBAL_CTRL, 0x00002808)        \
    X(64, GUEST_PDPTR0, 0x0000280a)                       \
    X(64, GUEST_PDPTR1, 0x0000280c)                       \
    X(64, GUEST_PDPTR2, 0x0000280e)                       \
    X(64, GUEST_PDPTR3, 0x00002810)                       \
    X(64, GUEST_BNDCFGS, 0x00002812)                      \
    X(64, GUEST_IA32_RTIT_CTL, 0x00002814)                \
    X(64, GUEST_IA32_LBR_CTL, 0x00002816)                 \
    X(64, GUEST_IA32_PKRS, 0x00002818)                    \
    X(64, GUEST_IA32_FRED_CONFIG, 0x0000281a)             \
    X(64, GUEST_IA32_FRED_RSP1, 0x0000281c)               \
    X(64, GUEST_IA32_FRED_RSP2, 0x0000281e)               \
    X(64, GUEST_IA32_FRED_RSP3, 0x00002820)               \
    X(64, GUEST_IA32_FRED_STKLVLS, 0x00002822)            \
    X(64, GUEST_IA32_FRED_SSP1, 0x00002824)               \
    X(64, GUEST_IA32_FRED_SSP2, 0x00002826)               \
    X(64, GUEST_IA32_FRED_SSP3, 0x00002828)               \
    X(64, HOST_IA32_PAT, 0x00002c00)                      \
    X(64, HOST_IA32_EFER, 0x00002c02)                     \
    X(64, HOST_IA32_PERF_GLOBAL_CTRL, 0x00002c04)         \
    X(64, HOST_IA32_PKRS, 0x00002c06)                     \
    X(64, HOST_IA32_FRED_CONFIG, 0x00002c08)              \
    X(64, HOST_IA32_FRED_RSP1, 0x00002c0a)                \
    X(64, HOST_IA32_FRED_RSP2, 0x00002c0c)                \
    X(64, HOST_IA32_FRED_RSP3, 0x00002c0e)                \
    X(64, HOST_IA32_FRED_STKLVLS, 0x00002c10)             \
    X(64, HOST_IA32_FRED_SSP1, 0x00002c12)                \
    X(64, HOST_IA32_FRED_SSP2, 0x00002c14)                \
    X(64, HOST_IA32_FRED_SSP3, 0x00002c16)                \
    X(32, PIN_BASED_VM_EXEC_CONTROL, 0x00004000)          \
    X(32, CPU_BASED_VM_EXEC_CONTROL, 0x00004002)          \
    X(32, EXCEPTION_BITMAP, 0x00004004)                   \
    X(32, PAGE_FAULT_ERROR_CODE_MASK, 0x00004006)         \
    X(32, PAGE_FAULT_ERROR_CODE_MATCH, 0x00004008)        \
    X(32, CR3_TARGET_COUNT, 0x0000400a)                   \
    X(32, VM_EXIT_CONTROLS, 0x0000400c)                   \
    X(32, VM_EXIT_MSR_STORE_COUNT, 0x0000400e)            \
    X(32, VM_EXIT_MSR_LOAD_COUNT, 0x00004010)             \
    X(32, VM_ENTRY_CONTROLS, 0x00004012)                  \
    X(32, VM_ENTRY_MSR_LOAD_COUNT, 0x00004014)            \
    X(32, VM_ENTRY_INTR_INFO_FIELD, 0x00004016)           \
    X(32, VM_ENTRY_EXCEPTION_ERROR_CODE, 0x00004018)      \
    X(32, VM_ENTRY_INSTRUCTION_LEN, 0x0000401a)           \
    X(32, TPR_THRESHOLD, 0x0000401c)                      \
    X(32, SECONDARY_VM_EXEC_CONTROL, 0x0000401e)          \
    X(32, PLE_GAP, 0x00004020)                            \
    X(32, PLE_WINDOW, 0x00004022)                         \
    X(32, NOTIFY_WINDOW, 0x00004024)                      \
    X(32, VM_INSTRUCTION_ERROR, 0x00004400)               \
    X(32, VM_EXIT_REASON, 0x00004402)                     \
    X(32, VM_EXIT_INTR_INFO, 0x00004404)                  \
    X(32, VM_EXIT_INTR_ERROR_CODE, 0x00004406)            \
    X(32, IDT_VECTORING_INFO_FIELD, 0x00004408)           \
    X(32, IDT_VECTORING_ERROR_CODE, 0x0000440a)           \
    X(32, VM_EXIT_INSTRUCTION_LEN, 0x0000440c)            \
    X(32, VMX_INSTRUCTION_INFO, 0x0000440e)               \
    X(32, GUEST_ES_LIMIT, 0x00004800)                     \
    X(32, GUEST_CS_LIMIT, 0x00004802)                     \
    X(32, GUEST_SS_LIMIT, 0x00004804)                     \
    X(32, GUEST_DS_LIMIT, 0x00004806)                     \
    X(32, GUEST_FS_LIMIT, 0x00004808)                     \
    X(32, GUEST_GS_LIMIT, 0x0000480a)                     \
    X(32, GUEST_LDTR_LIMIT, 0x0000480c)                   \
    X(32, GUEST_TR_LIMIT, 0x0000480e)                     \
    X(32, GUEST_GDTR_LIMIT, 0x00004810)                   \
    X(32, GUEST_IDTR_LIMIT, 0x00004812)                   \
    X(32, GUEST_ES_AR_BYTES, 0x00004814)                  \
    X(32, GUEST_CS_AR_BYTES, 0x00004816)                  \
    X(32, GUEST_SS_AR_BYTES, 0x00004818)                  \
    X(32, GUEST_DS_AR_BYTES, 0x0000481a)                  \
    X(32, GUEST_FS_AR_BYTES, 0x0000481c)                  \
    X(32, GUEST_GS_AR_BYTES, 0x0000481e)                  \
    X(32, GUEST_LDTR_AR_BYTES, 0x00004820)                \
    X(32, GUEST_TR_AR_BYTES, 0x00004822)                  \
    X(32, GUEST_INTERRUPTIBILITY_INFO, 0x00004824)        \
    X(32, GUEST_ACTIVITY_STATE, 0x00004826)               \
    X(32, GUEST_SMBASE, 0x00004828)                       \
    X(32, GUEST_SYSENTER_CS, 0x0000482a)                  \
    X(32, VMX_PREEMPTION_TIMER_VALUE, 0x0000482e)         \
    X(32, HOST_IA32_SYSENTER_CS, 0x00004c00)              \
    X(Natural, CR0_GUEST_HOST_MASK, 0x00006000)           \
    X(Natural, CR4_GUEST_HOST_MASK, 0x00006002)           \
    X(Natural, CR0_READ_SHADOW, 0x00006004)               \
    X(Natural, CR4_READ_SHADOW, 0x00006006)               \
    X(Natural, CR3_TARGET_VALUE0, 0x00006008)             \
    X(Natural, CR3_TARGET_VALUE1, 0x0000600a)             \
    X(Natural, CR3_TARGET_VALUE2, 0x0000600c)             \
    X(Natural, CR3_TARGET_VALUE3, 0x0000600e)             \
    X(Natural, EXIT_QUALIFICATION, 0x00006400)            \
    X(Natural, IO_RCX, 0x00006402)                        \
    X(Natural, IO_RSI, 0x00006404)                        \
    X(Natural, IO_RDI, 0x00006406)                        \
    X(Natural, IO_RIP, 0x00006408)                        \
    X(Natural, GUEST_LINEAR_ADDRESS, 0x0000640a)          \
    X(Natural, GUEST_CR0, 0x00006800)                     \
    X(Natural, GUEST_CR3, 0x00006802)                     \
    X(Natural, GUEST_CR4, 0x00006804)                     \
    X(Natural, GUEST_ES_BASE, 0x00006806)                 \
    X(Natural, GUEST_CS_BASE, 0x00006808)                 \
    X(Natural, GUEST_SS_BASE, 0x0000680a)                 \
    X(Natural, GUEST_DS_BASE, 0x0000680c)                 \
    X(Natural, GUEST_FS_BASE, 0x0000680e)                 \
    X(Natural, GUEST_GS_BASE, 0x00006810)                 \
    X(Natural, GUEST_LDTR_BASE, 0x00006812)               \
    X(Natural, GUEST_TR_BASE, 0x00006814)                 \
    X(Natural, GUEST_GDTR_BASE, 0x00006816)               \
    X(Natural, GUEST_IDTR_BASE, 0x00006818)               \
    X(Natural, GUEST_DR7, 0x0000681a)                     \
    X(Natural, GUEST_RSP, 0x0000681c)                     \
    X(Natural, GUEST_RIP, 0x0000681e)                     \
    X(Natural, GUEST_RFLAGS, 0x00006820)                  \
    X(Natural, GUEST_PENDING_DBG_EXCEPTIONS, 0x00006822)  \
    X(Natural, GUEST_SYSENTER_ESP, 0x00006824)            \
    X(Natural, GUEST_SYSENTER_EIP, 0x00006826)            \
    X(Natural, GUEST_S_CET, 0x00006828)                   \
    X(Natural, GUEST_SSP, 0x0000682a)                     \
    X(Natural, GUEST_INTR_SSP_TABLE, 0x0000682c)          \
    X(Natural, HOST_CR0, 0x00006c00)                      \
    X(Natural, HOST_CR3, 0x00006c02)                      \
    X(Natural, HOST_CR4, 0x00006c04)                      \
    X(Natural, HOST_FS_BASE, 0x00006c06)                  \
    X(Natural, HOST_GS_BASE, 0x00006c08)                  \
    X(Natural, HOST_TR_BASE, 0x00006c0a)                  \
    X(Natural, HOST_GDTR_BASE, 0x00006c0c)                \
    X(Natural, HOST_IDTR_BASE, 0x00006c0e)                \
    X(Natural, HOST_IA32_SYSENTER_ESP, 0x00006c10)        \
    X(Natural, HOST_IA32_SYSENTER_EIP, 0x00006c12)        \
    X(Natural, HOST_RSP, 0x00006c14)                      \
    X(Natural, HOST_RIP, 0x00006c16)                      \
    X(Natural, HOST_S_CET, 0x00006c18)                    \
    X(Natural, HOST_SSP, 0x00006c1a)                      \
    X(Natural, HOST_INTR_SSP_TABLE, 0x00006c1c)
// clang-format on

#define MINIVMX_DECLARE_FIELD(width, name, number)                                                 \
    inline constexpr VmcsField##width name{number};                                                \
    static_assert(vmcs_width(number) == VmcsWidth::k##width,                                       \
                  #name " is declared with another width than it encodes");
MINIVMX_VMCS_FIELDS(MINIVMX_DECLARE_FIELD)
#undef MINIVMX_DECLARE_FIELD

} // namespace minivmx
