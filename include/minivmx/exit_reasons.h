/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The basic exit reasons: SDM Vol. 3D, Appendix C, table C-1, and Intel's "Architecture Instruction
 * Set Extensions" for those that are newer. The one list, for C++ and C: X(constant, number, name).
 * The constants are those of kvm_intel's traces; numbers that are missing are not in use.
 */
#ifndef MINIVMX_EXIT_REASONS_H
#define MINIVMX_EXIT_REASONS_H

/* clang-format off */
#define MINIVMX_EXIT_REASONS(X)                                                \
    X(EXCEPTION_NMI, 0, "Exception or NMI")                                    \
    X(EXTERNAL_INTERRUPT, 1, "External interrupt")                             \
    X(TRIPLE_FAULT, 2, "Triple fault")                                         \
    X(INIT_SIGNAL, 3, "INIT signal")                                           \
    X(SIPI_SIGNAL, 4, "Start-up IPI")                                          \
    X(IO_SMI, 5, "I/O SMI")                                                    \
    X(OTHER_SMI, 6, "Other SMI")                                               \
    X(INTERRUPT_WINDOW, 7, "Interrupt window")                                 \
    X(NMI_WINDOW, 8, "NMI window")                                             \
    X(TASK_SWITCH, 9, "Task switch")                                           \
    X(CPUID, 10, "CPUID")                                                      \
    X(GETSEC, 11, "GETSEC")                                                    \
    X(HLT, 12, "HLT")                                                          \
    X(INVD, 13, "INVD")                                                        \
    X(INVLPG, 14, "INVLPG")                                                    \
    X(RDPMC, 15, "RDPMC")                                                      \
    X(RDTSC, 16, "RDTSC")                                                      \
    X(RSM, 17, "RSM")                                                          \
    X(VMCALL, 18, "VMCALL")                                                    \
    X(VMCLEAR, 19, "VMCLEAR")                                                  \
    X(VMLAUNCH, 20, "VMLAUNCH")                                                \
    X(VMPTRLD, 21, "VMPTRLD")                                                  \
    X(VMPTRST, 22, "VMPTRST")                                                  \
    X(VMREAD, 23, "VMREAD")                                                    \
    X(VMRESUME, 24, "VMRESUME")                                                \
    X(VMWRITE, 25, "VMWRITE")                                                  \
    X(VMOFF, 26, "VMXOFF")                                                     \
    X(VMON, 27, "VMXON")                                                       \
    X(CR_ACCESS, 28, "Control-register access")                                \
    X(DR_ACCESS, 29, "MOV DR")                                                 \
    X(IO_INSTRUCTION, 30, "I/O instruction")                                   \
    X(MSR_READ, 31, "RDMSR")                                                   \
    X(MSR_WRITE, 32, "WRMSR")                                                  \
    X(INVALID_STATE, 33, "Entry failure: guest state")                         \
    X(MSR_LOAD_FAIL, 34, "Entry failure: MSR loading")                         \
    X(MWAIT_INSTRUCTION, 36, "MWAIT")                                          \
    X(MONITOR_TRAP_FLAG, 37, "Monitor trap flag")                              \
    X(MONITOR_INSTRUCTION, 39, "MONITOR")                                      \
    X(PAUSE_INSTRUCTION, 40, "PAUSE")                                          \
    X(MCE_DURING_VMENTRY, 41, "Entry failure: machine check")                  \
    X(TPR_BELOW_THRESHOLD, 43, "TPR below threshold")                          \
    X(APIC_ACCESS, 44, "APIC access")                                          \
    X(EOI_INDUCED, 45, "Virtualized EOI")                                      \
    X(GDTR_IDTR, 46, "Access to GDTR or IDTR")                                 \
    X(LDTR_TR, 47, "Access to LDTR or TR")                                     \
    X(EPT_VIOLATION, 48, "EPT violation")                                      \
    X(EPT_MISCONFIG, 49, "EPT misconfiguration")                               \
    X(INVEPT, 50, "INVEPT")                                                    \
    X(RDTSCP, 51, "RDTSCP")                                                    \
    X(PREEMPTION_TIMER, 52, "VMX-preemption timer expired")                    \
    X(INVVPID, 53, "INVVPID")                                                  \
    X(WBINVD, 54, "WBINVD or WBNOINVD")                                        \
    X(XSETBV, 55, "XSETBV")                                                    \
    X(APIC_WRITE, 56, "APIC write")                                            \
    X(RDRAND, 57, "RDRAND")                                                    \
    X(INVPCID, 58, "INVPCID")                                                  \
    X(VMFUNC, 59, "VMFUNC")                                                    \
    X(ENCLS, 60, "ENCLS")                                                      \
    X(RDSEED, 61, "RDSEED")                                                    \
    X(PML_FULL, 62, "Page-modification log full")                              \
    X(XSAVES, 63, "XSAVES")                                                    \
    X(XRSTORS, 64, "XRSTORS")                                                  \
    X(PCONFIG, 65, "PCONFIG")                                                  \
    X(SPP_EVENT, 66, "Sub-page permission event")                              \
    X(UMWAIT, 67, "UMWAIT")                                                    \
    X(TPAUSE, 68, "TPAUSE")                                                    \
    X(LOADIWKEY, 69, "LOADIWKEY")                                              \
    X(ENCLV, 70, "ENCLV")                                                      \
    X(ENQCMD_PASID, 72, "ENQCMD PASID translation failure")                    \
    X(ENQCMDS_PASID, 73, "ENQCMDS PASID translation failure")                  \
    X(BUS_LOCK, 74, "Bus lock")                                                \
    X(NOTIFY, 75, "Instruction timeout")                                       \
    X(SEAMCALL, 76, "SEAMCALL")                                                \
    X(TDCALL, 77, "TDCALL")                                                    \
    X(RDMSRLIST, 78, "RDMSRLIST")                                              \
    X(WRMSRLIST, 79, "WRMSRLIST")                                              \
    X(URDMSR, 80, "URDMSR")                                                    \
    X(UWRMSR, 81, "UWRMSR")                                                    \
    X(RDMSR_IMM, 84, "RDMSR with an immediate")                                \
    X(WRMSRNS_IMM, 85, "WRMSRNS with an immediate")
/* clang-format on */

#endif
