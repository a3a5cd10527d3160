// SPDX-License-Identifier: GPL-2.0-only
// The guest's MSRs that live neither in the VMCS nor in what the host switches (vcpu_area). Plain
// data of one vCPU, touched with its mutex held.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

// Memory type range registers: SDM Vol. 3A, 12.11. They are kept for the guest to read back; EPT's
// memory types decide.
inline constexpr unsigned kVariableMtrrs = 8;
inline constexpr unsigned kFixedMtrrs = 11;

struct GuestMtrrs {
    u64 default_type;
    u64 fixed[kFixedMtrrs];
    u64 base[kVariableMtrrs];
    u64 mask[kVariableMtrrs];
};

// Machine-check banks: SDM Vol. 3B, 16.3.2.
inline constexpr unsigned kMachineCheckBanks = 32;

struct GuestMachineCheck {
    u64 capability;                   // IA32_MCG_CAP
    u64 status;                       // IA32_MCG_STATUS
    u64 control;                      // IA32_MCG_CTL
    u64 bank[kMachineCheckBanks * 4]; // CTL, STATUS, ADDR, MISC of each
};

struct GuestMsrs {
    u64 pat;
    u64 tsc_offset; // what the VMCS holds
    u64 tsc_adjust;
    u64 misc_enable;
    u64 xcr0; // not an MSR, but switched with xss
    u64 xss;
    u64 arch_capabilities;
    u64 platform_info;
    u64 microcode_revision; // IA32_BIOS_SIGN_ID
    bool pred_cmd_used;     // the guest writes IA32_PRED_CMD without exits
    u64 misc_features_enables;
    u64 feature_control;
    u64 power_ctl;
    u64 umwait_control;
    u64 hwcr; // AMD's
    GuestMtrrs mtrr;
    GuestMachineCheck machine_check;
};

} // namespace minivmx
