// SPDX-License-Identifier: GPL-2.0-only
// The architecture's names of basic exit reasons.
#include <minivmx/exit_name.hpp>

namespace minivmx {

namespace {

// SDM Vol. 3D, Appendix C, table C-1, and Intel's "Architecture Instruction Set Extensions" for
// those that are newer than it. Numbers without a name are not in use.
constexpr const char *const kExitReasonNames[] = {
    /*  0 */ "Exception or NMI",
    /*  1 */ "External interrupt",
    /*  2 */ "Triple fault",
    /*  3 */ "INIT signal",
    /*  4 */ "Start-up IPI",
    /*  5 */ "I/O SMI",
    /*  6 */ "Other SMI",
    /*  7 */ "Interrupt window",
    /*  8 */ "NMI window",
    /*  9 */ "Task switch",
    /* 10 */ "CPUID",
    /* 11 */ "GETSEC",
    /* 12 */ "HLT",
    /* 13 */ "INVD",
    /* 14 */ "INVLPG",
    /* 15 */ "RDPMC",
    /* 16 */ "RDTSC",
    /* 17 */ "RSM",
    /* 18 */ "VMCALL",
    /* 19 */ "VMCLEAR",
    /* 20 */ "VMLAUNCH",
    /* 21 */ "VMPTRLD",
    /* 22 */ "VMPTRST",
    /* 23 */ "VMREAD",
    /* 24 */ "VMRESUME",
    /* 25 */ "VMWRITE",
    /* 26 */ "VMXOFF",
    /* 27 */ "VMXON",
    /* 28 */ "Control-register access",
    /* 29 */ "MOV DR",
    /* 30 */ "I/O instruction",
    /* 31 */ "RDMSR",
    /* 32 */ "WRMSR",
    /* 33 */ "Entry failure: guest state",
    /* 34 */ "Entry failure: MSR loading",
    /* 35 */ nullptr,
    /* 36 */ "MWAIT",
    /* 37 */ "Monitor trap flag",
    /* 38 */ nullptr,
    /* 39 */ "MONITOR",
    /* 40 */ "PAUSE",
    /* 41 */ "Entry failure: machine check",
    /* 42 */ nullptr,
    /* 43 */ "TPR below threshold",
    /* 44 */ "APIC access",
    /* 45 */ "Virtualized EOI",
    /* 46 */ "Access to GDTR or IDTR",
    /* 47 */ "Access to LDTR or TR",
    /* 48 */ "EPT violation",
    /* 49 */ "EPT misconfiguration",
    /* 50 */ "INVEPT",
    /* 51 */ "RDTSCP",
    /* 52 */ "VMX-preemption timer expired",
    /* 53 */ "INVVPID",
    /* 54 */ "WBINVD or WBNOINVD",
    /* 55 */ "XSETBV",
    /* 56 */ "APIC write",
    /* 57 */ "RDRAND",
    /* 58 */ "INVPCID",
    /* 59 */ "VMFUNC",
    /* 60 */ "ENCLS",
    /* 61 */ "RDSEED",
    /* 62 */ "Page-modification log full",
    /* 63 */ "XSAVES",
    /* 64 */ "XRSTORS",
    /* 65 */ "PCONFIG",
    /* 66 */ "Sub-page permission event",
    /* 67 */ "UMWAIT",
    /* 68 */ "TPAUSE",
    /* 69 */ "LOADIWKEY",
    /* 70 */ "ENCLV",
    /* 71 */ nullptr,
    /* 72 */ "ENQCMD PASID translation failure",
    /* 73 */ "ENQCMDS PASID translation failure",
    /* 74 */ "Bus lock",
    /* 75 */ "Instruction timeout",
    /* 76 */ "SEAMCALL",
    /* 77 */ "TDCALL",
    /* 78 */ "RDMSRLIST",
    /* 79 */ "WRMSRLIST",
    /* 80 */ "URDMSR",
    /* 81 */ "UWRMSR",
    /* 82 */ nullptr,
    /* 83 */ nullptr,
    /* 84 */ "RDMSR with an immediate",
    /* 85 */ "WRMSRNS with an immediate",
};
static_assert(sizeof(kExitReasonNames) / sizeof(kExitReasonNames[0]) == kExitReasonNameCount);

} // namespace

const char *exit_reason_name(u32 basic_reason)
{
    return basic_reason < kExitReasonNameCount ? kExitReasonNames[basic_reason] : nullptr;
}

} // namespace minivmx
