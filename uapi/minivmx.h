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

/* ---- Why a VM entry failed: MINIVMX_GET_ENTRY_AUDIT, on a vCPU ---- */

/* minivmx_audit_finding.stage: what the CPU does about a violated check. */
#define MINIVMX_AUDIT_CONTROLS 0 /* VM-instruction error 7 */
#define MINIVMX_AUDIT_HOST     1 /* VM-instruction error 8 */
#define MINIVMX_AUDIT_GUEST    2 /* exit reason 33 */
#define MINIVMX_AUDIT_MSR_LOAD 3 /* exit reason 34 */

/* minivmx_audit_finding.flags: value is there. It never is for host state and host addresses. */
#define MINIVMX_AUDIT_HAS_VALUE (1U << 0)

/* A check of VM entries that the VMCS violates. Texts end in a NUL. */
struct minivmx_audit_finding {
	__u32 field; /* its encoding: SDM Vol. 3D, Appendix B */
	__u32 stage;
	__u32 flags;
	__u32 entry; /* of the MSR-load area, where the check is about one */
	__u64 value;
	__u64 bits; /* of the field, at fault; all ones: its value as a whole */
	char field_name[40];
	char bit_names[96];
	char check[56];
	char clause[16]; /* section of SDM Vol. 3C */
	char rule[256];
};

/*
 * The audit of the VM entry that made the last KVM_RUN answer KVM_EXIT_FAIL_ENTRY; -ENOENT if it
 * did not. count: how many findings there is room for, then how many there are; -E2BIG if they are
 * more, and the room is as it was.
 */
struct minivmx_entry_audit {
	__u32 exit_reason;       /* the CPU's, with bit 31; 0 if VMLAUNCH or VMRESUME failed ... */
	__u32 instruction_error; /* ... with this number: SDM Vol. 3C, 31.4 */
	__u32 violated;          /* how many checks; may be more than are kept as findings */
	__u32 not_checkable;
	__u32 count;
	__u32 pad;         /* 0 */
	__u64 findings;    /* user address of struct minivmx_audit_finding[count] */
	__u64 reserved[4]; /* 0 */
};
#define MINIVMX_GET_ENTRY_AUDIT _IOWR(MINIVMX_IO, 0x01, struct minivmx_entry_audit)

/* ---- Why each control is on or off: MINIVMX_GET_CONTROLS, on a vCPU ---- */

/* Control words, as indices of the arrays in minivmx_controls. */
#define MINIVMX_WORD_PIN            0
#define MINIVMX_WORD_PRIMARY        1 /* processor-based */
#define MINIVMX_WORD_SECONDARY      2
#define MINIVMX_WORD_TERTIARY       3
#define MINIVMX_WORD_EXIT           4
#define MINIVMX_WORD_EXIT_SECONDARY 5
#define MINIVMX_WORD_ENTRY          6
#define MINIVMX_WORDS               7

/* minivmx_control_step.stage: when it was taken. */
#define MINIVMX_STAGE_NEGOTIATION 0 /* when the module was loaded */
#define MINIVMX_STAGE_VCPU        1 /* when the vCPU was created, or what decides here changed */
#define MINIVMX_STAGE_RUNNING     2 /* since then */

/* A step that set or cleared bits of a word. Texts end in a NUL. */
struct minivmx_control_step {
	__u8 word; /* MINIVMX_WORD_* */
	__u8 stage;
	__u8 set; /* 1: the bits became 1; 0: they became 0 */
	__u8 pad[5];
	__u64 bits;
	char rule[32];     /* "ept-cr3-invlpg" */
	char function[32]; /* "setup_vmcs_config" */
	char reason[192];  /* in words */
};

/*
 * The vCPU's control words as they are, and every step that made them: taking the steps of a word
 * one after the other, from 0, gives the word. count: how many steps there is room for, then how
 * many there are; -E2BIG if they are more than the room.
 */
struct minivmx_controls {
	__u64 words[MINIVMX_WORDS];
	__u64 negotiated[MINIVMX_WORDS]; /* at module load, the same for every vCPU */
	__u64 allowed0[MINIVMX_WORDS];   /* bits that this CPU wants to be 1 */
	__u64 allowed1[MINIVMX_WORDS];   /* bits that it allows to be 1 */
	__u32 count;
	__u32 pad;         /* 0 */
	__u64 steps;       /* user address of struct minivmx_control_step[count] */
	__u64 reserved[4]; /* 0 */
};
#define MINIVMX_GET_CONTROLS _IOWR(MINIVMX_IO, 0x02, struct minivmx_controls)

/* ---- More exits than the hypervisor needs: MINIVMX_SET_INTERCEPTS, on a vCPU ---- */

/*
 * minivmx_intercepts.controls. Each asks for KVM_RUN to return, with MINIVMX_EXIT_INTERCEPT, before
 * the guest does this. A control that the CPU lacks: -EOPNOTSUPP, and nothing has changed. What
 * faults anyway, for its privilege or since the guest's CPUID lacks it, is not reported.
 */
#define MINIVMX_INTERCEPT_HLT              (1ULL << 0)
#define MINIVMX_INTERCEPT_INVLPG           (1ULL << 1) /* INVLPG, INVPCID */
#define MINIVMX_INTERCEPT_MWAIT            (1ULL << 2)
#define MINIVMX_INTERCEPT_MONITOR          (1ULL << 3)
#define MINIVMX_INTERCEPT_PAUSE            (1ULL << 4)
#define MINIVMX_INTERCEPT_RDPMC            (1ULL << 5)
#define MINIVMX_INTERCEPT_RDTSC            (1ULL << 6) /* RDTSC, RDTSCP */
#define MINIVMX_INTERCEPT_CR0_WRITE        (1ULL << 7) /* MOV to CR0, CLTS, LMSW: if it changes */
#define MINIVMX_INTERCEPT_CR3_LOAD         (1ULL << 8)
#define MINIVMX_INTERCEPT_CR3_STORE        (1ULL << 9)
#define MINIVMX_INTERCEPT_CR4_WRITE        (1ULL << 10) /* if it changes */
#define MINIVMX_INTERCEPT_CR8_LOAD         (1ULL << 11)
#define MINIVMX_INTERCEPT_CR8_STORE        (1ULL << 12)
#define MINIVMX_INTERCEPT_MOV_DR           (1ULL << 13)
#define MINIVMX_INTERCEPT_DESCRIPTOR_TABLE (1ULL << 14) /* LGDT, SGDT, LIDT, SIDT, LLDT, ... */
#define MINIVMX_INTERCEPT_WBINVD           (1ULL << 15) /* WBINVD, WBNOINVD */
#define MINIVMX_INTERCEPT_RDRAND           (1ULL << 16)
#define MINIVMX_INTERCEPT_RDSEED           (1ULL << 17)
#define MINIVMX_INTERCEPT_XSAVES           (1ULL << 18) /* XSAVES, XRSTORS; needs a trap flag */
#define MINIVMX_INTERCEPT_USER_WAIT        (1ULL << 19) /* UMWAIT, TPAUSE */
/* Monitor trap flag: after each instruction, and after the delivery of an event. */
#define MINIVMX_INTERCEPT_SINGLE_STEP (1ULL << 20)
/*
 * As soon as the guest can take an interrupt or an NMI. Each is reported once: such a window stays
 * open, so to hear of the next one a client asks again.
 */
#define MINIVMX_INTERCEPT_INTERRUPT_WINDOW (1ULL << 21)
#define MINIVMX_INTERCEPT_NMI_WINDOW       (1ULL << 22)
#define MINIVMX_INTERCEPT_ALL              ((1ULL << 23) - 1)

/* minivmx_intercepts.exceptions: neither NMIs nor machine checks, which are the host's. */
#define MINIVMX_INTERCEPT_EXCEPTIONS 0x003b7dfbU

#define MINIVMX_MAX_INTERCEPT_RANGES 64

/* I/O ports first to last, both included; pad is 0. Ranges don't overlap. */
struct minivmx_port_range {
	__u16 first;
	__u16 last;
	__u32 pad;
};

#define MINIVMX_MSR_READ  (1U << 0)
#define MINIVMX_MSR_WRITE (1U << 1)

/* MSRs first to last, both included. Ranges for the same kind of access don't overlap. */
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
#define MINIVMX_EXIT_INTERCEPT       0x6d780001
#define MINIVMX_INTERCEPT_FACTS(run) ((struct minivmx_exit_intercept *)(run)->padding)

/* The instruction or event takes place. */
#define MINIVMX_ANSWER_PROCEED 0
/*
 * The guest goes on behind the instruction, without its effect; an event is as if it hadn't been.
 * After a fault the guest tries its instruction again: the client may have mended the cause, or
 * have set RIP.
 */
#define MINIVMX_ANSWER_SKIP 1
/* The guest gets an exception in its place. */
#define MINIVMX_ANSWER_INJECT 2

/* minivmx_exit_intercept.number of MINIVMX_INTERCEPT_DESCRIPTOR_TABLE. */
#define MINIVMX_SGDT 0
#define MINIVMX_SIDT 1
#define MINIVMX_LGDT 2
#define MINIVMX_LIDT 3
#define MINIVMX_SLDT 4
#define MINIVMX_STR  5
#define MINIVMX_LLDT 6
#define MINIVMX_LTR  7

/* The same of MINIVMX_INTERCEPT_XSAVES. */
#define MINIVMX_XSAVES  0
#define MINIVMX_XRSTORS 1

#define MINIVMX_NO_REGISTER 0xff

/*
 * The answer is read at the next KVM_RUN, also at one with immediate_exit, which is how to complete
 * it before the vCPU's state is saved. If RIP has been set meanwhile, PROCEED and SKIP do nothing.
 * An answer that can't be given: -EINVAL, and the question stays.
 */
struct minivmx_exit_intercept {
	/* What happened. */
	__u64 control;     /* MINIVMX_INTERCEPT_*; 0 for a port, an MSR or an exception */
	__u32 exit_reason; /* the CPU's: SDM Vol. 3D, Appendix C */
	__u32 length;      /* of the instruction, in bytes; 0 for an event */
	__u64 qualification;
	__u32 info;    /* VM-exit instruction or interruption information */
	__u32 number;  /* the control register, debug register, port, MSR, vector, counter ... */
	__u64 value;   /* what is about to be written or is the exception's error code */
	__u64 address; /* linear address of the operand, where there is one */
	__u8 is_write; /* to the register, port, MSR or table that is named */
	__u8 size;     /* of the operand, in bytes */
	__u8 reg;      /* the general register that is the other operand */
	__u8 pad[5];
	/* The client's answer; PROCEED unless it writes another. */
	__u32 answer;
	__u32 vector;
	__u32 error_code; /* for vectors that have one */
	__u32 pad2;
	__u64 payload; /* CR2 for #PF, what DR6 gets for #DB */
};

#endif
