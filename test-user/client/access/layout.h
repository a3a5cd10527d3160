/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the access test keeps its things in the guest's memory, beside those of common/layout.h,
 * and what a case looks like there: read by the guest's assembly and by the client.
 */
#pragma once

/* The code that runs at CPL 3: the only page of the guest's own that user mode may use. */
#define A_USER 0x30000
/* Page tables under test: two of each level, and further roots. */
#define A_TABLES 0x31000
#define A_ROOTS  0x38000
/* What the loop remembers. */
#define A_STATE 0x3f000
#define A_COUNT (A_STATE + 0) /* cases still to do */
#define A_CR0   (A_STATE + 4) /* the control registers as they are */
#define A_CR4   (A_STATE + 8)
#define A_EFER  (A_STATE + 12)
#define A_DESC  (A_STATE + 16) /* of INVPCID */
/* The cases. */
#define A_CASES     0x40000
#define A_CASES_END 0x1c0000
/* The pages that the tables under test lead to. */
#define A_TARGETS 0x200000
#define A_SIZE    0x400000

/* In each target page. A jump through BX lies at A_JUMP; another one begins in the last byte. */
#define A_JUMP       0x10
#define A_DATA       0x20 /* a double word that tells the page */
#define A_DESCRIPTOR 0x28 /* of a data segment that was never accessed */

/* Selectors beyond those of common/layout.h. */
#define A_SEL_LDT       0x30
#define A_SEL_USER32    0x43
#define A_SEL_USER_DATA 0x4b
#define A_SEL_USER64    0x53
#define A_SEL_LOCAL_DATA                                                                           \
    (A_DESCRIPTOR | 7) /* the descriptor of the target page: the LDT is there */
#define A_GDT_SIZE 0x58

/* A case: what to do ... */
#define C_ENTRY   0  /* four entries to write, of level 1 first */
#define C_AT      32 /* where to; 0: no such level */
#define C_ADDRESS 48 /* the access */
#define C_CR3     56
#define C_FLAGS   64 /* RFLAGS while it happens */
#define C_CR0     72
#define C_CR4     76
#define C_EFER    80
#define C_HOW     84
#define C_FLUSH   88
#define C_KIND    92
#define C_USER    96  /* at CPL 3 */
#define C_INPUT   100 /* what it writes */
#define C_TARGET  104 /* the physical double word to look at afterwards */
/* ... and what happened. */
#define C_VECTOR 108 /* or C_NOTHING */
#define C_ERROR  112
#define C_OUTPUT 116 /* what it read */
#define C_CR2    120
#define C_AFTER  128 /* the four entries */
#define C_MEMORY 160 /* the double word at C_TARGET */
#define C_TRIES  164
#define C_SIZE   168

#define C_NOTHING 0xffffffff

/* C_HOW */
#define HOW_WRITE 1 /* the entries are to be written */
#define HOW_WIDE  2 /* an entry has eight bytes */
#define HOW_RETRY 4 /* after a page fault, once more */

/* C_FLUSH */
#define FLUSH_NONE    0
#define FLUSH_INVLPG  1
#define FLUSH_CR3     2
#define FLUSH_PGE     3
#define FLUSH_INVPCID 4 /* and its type */

/* C_KIND */
#define KIND_READ   0
#define KIND_WRITE  1
#define KIND_FETCH  2
#define KIND_MODIFY 3 /* reads and writes */
#define KIND_LAR    4 /* reads a descriptor: a supervisor's access at any CPL */
#define KIND_LOAD   5 /* loads a segment, and marks its descriptor accessed */
#define KINDS       6

/* Before each access. */
#define A_CR2_BEFORE 0x5a5a5a5a
