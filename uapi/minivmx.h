/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The ABI of /dev/minivmx: KVM's ioctls, structures, exit reasons and errno values, unchanged.
 */
#ifndef MINIVMX_UAPI_H
#define MINIVMX_UAPI_H

/*
 * Some structures end in a flexible array, and the kernel's macro for it puts an empty struct before
 * it, which has size 0 in C and 1 in C++. Sizes are part of ioctl numbers, so that a C++ program
 * would ask for ioctls that nobody knows, and offsets are wrong, too. C++ programs include this
 * header instead of <linux/kvm.h>.
 */
#ifdef __cplusplus
#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]
#endif

#include <linux/kvm.h>

#ifdef __cplusplus
static_assert(sizeof(struct kvm_cpuid2) == 8, "linux/kvm.h was included before, with other sizes");
#endif

/* Where a client that does not want a symbolic link /dev/kvm finds the device. */
#define MINIVMX_DEVICE "/dev/minivmx"

/*
 * What KVM lacks: ioctls of our own, in a number space of their own. KVM's is 0xAE.
 */
#define MINIVMX_IO 0xBC

/* ---- More exits than the hypervisor needs: MINIVMX_SET_INTERCEPTS, on a vCPU ---- */

/*
 * minivmx_intercepts.controls. Each asks for KVM_RUN to return, with MINIVMX_EXIT_INTERCEPT, before
 * the guest does this. A control that the CPU lacks: -EOPNOTSUPP, and nothing has changed.
 */
#define MINIVMX_INTERCEPT_HLT              (1ULL << 0)
#define MINIVMX_INTERCEPT_INVLPG           (1ULL << 1)
#define MINIVMX_INTERCEPT_MWAIT            (1ULL << 2)
#define MINIVMX_INTERCEPT_MONITOR          (1ULL << 3)
#define MINIVMX_INTERCEPT_PAUSE            (1ULL << 4)
#define MINIVMX_INTERCEPT_RDPMC            (1ULL << 5)
#define MINIVMX_INTERCEPT_RDTSC            (1ULL << 6) /* RDTSC, RDTSCP */
#define MINIVMX_INTERCEPT_CR0_WRITE        (1ULL << 7) /* MOV to CR0, CLTS, LMSW */
#define MINIVMX_INTERCEPT_CR3_LOAD         (1ULL << 8)
#define MINIVMX_INTERCEPT_CR3_STORE        (1ULL << 9)
#define MINIVMX_INTERCEPT_CR4_WRITE        (1ULL << 10)
#define MINIVMX_INTERCEPT_CR8_LOAD         (1ULL << 11)
#define MINIVMX_INTERCEPT_CR8_STORE        (1ULL << 12)
#define MINIVMX_INTERCEPT_MOV_DR           (1ULL << 13)
#define MINIVMX_INTERCEPT_DESCRIPTOR_TABLE (1ULL << 14) /* LGDT, SGDT, LIDT, SIDT, LLDT, ... */
#define MINIVMX_INTERCEPT_WBINVD           (1ULL << 15)
#define MINIVMX_INTERCEPT_RDRAND           (1ULL << 16)
#define MINIVMX_INTERCEPT_RDSEED           (1ULL << 17)
#define MINIVMX_INTERCEPT_XSAVES           (1ULL << 18) /* XSAVES, XRSTORS */
#define MINIVMX_INTERCEPT_USER_WAIT        (1ULL << 19) /* UMWAIT, TPAUSE */
#define MINIVMX_INTERCEPT_SINGLE_STEP      (1ULL << 20) /* monitor trap flag: after each instruction */
#define MINIVMX_INTERCEPT_INTERRUPT_WINDOW (1ULL << 21)
#define MINIVMX_INTERCEPT_NMI_WINDOW       (1ULL << 22)
#define MINIVMX_INTERCEPT_ALL              ((1ULL << 23) - 1)

#define MINIVMX_MAX_INTERCEPT_RANGES 64

/* I/O ports first to last, both included; pad is 0. */
struct minivmx_port_range {
	__u16 first;
	__u16 last;
	__u32 pad;
};

#define MINIVMX_MSR_READ  (1U << 0)
#define MINIVMX_MSR_WRITE (1U << 1)

/* MSRs first to last, both included, of the ranges that MSR bitmaps cover. */
struct minivmx_msr_range {
	__u32 first;
	__u32 last;
	__u32 flags;
	__u32 pad;
};

/* Replaces what was asked for before; all of it zero asks for nothing. */
struct minivmx_intercepts {
	__u64 controls;
	__u32 exceptions; /* a bit for each vector */
	__u32 port_count;
	__u64 ports; /* user address of struct minivmx_port_range[port_count] */
	__u32 msr_count;
	__u32 pad;
	__u64 msrs; /* user address of struct minivmx_msr_range[msr_count] */
	__u64 reserved[4];
};
#define MINIVMX_SET_INTERCEPTS _IOW(MINIVMX_IO, 0x10, struct minivmx_intercepts)

/* kvm_run.exit_reason, far from KVM's own. The facts lie where KVM's do for its exits. */
#define MINIVMX_EXIT_INTERCEPT 0x6d780001

#define MINIVMX_ANSWER_PROCEED 0 /* the instruction or event takes place */
#define MINIVMX_ANSWER_SKIP    1 /* the guest goes on behind the instruction, without its effect */
#define MINIVMX_ANSWER_INJECT  2 /* the guest gets an exception in its place */

struct minivmx_exit_intercept {
	/* What happened. */
	__u64 control;     /* MINIVMX_INTERCEPT_*; 0 for a port, an MSR or an exception */
	__u32 exit_reason; /* the CPU's: SDM Vol. 3D, Appendix C */
	__u32 length;      /* of the instruction, in bytes */
	__u64 qualification;
	__u32 info;        /* VM-exit instruction or interruption information */
	__u32 number;      /* the control register, debug register, port, MSR or vector */
	__u64 value;       /* what is about to be written or is the exception's error code */
	__u64 address;     /* linear address of the operand, where there is one */
	__u8 is_write;
	__u8 size;         /* of the operand, in bytes */
	__u8 pad[6];
	/* The client's answer; PROCEED unless it writes another. Read at the next KVM_RUN. */
	__u32 answer;
	__u32 vector;
	__u32 error_code; /* for vectors that have one */
	__u32 pad2;
};

#endif
