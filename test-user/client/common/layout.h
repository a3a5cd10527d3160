/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where things are in a test guest's memory: read by the guests' assembly and by the clients, so
 * that both mean the same addresses. Everything lies below 2 MiB; nothing lies at kMmio.
 */
#pragma once

/* Descriptor tables. */
#define G_IVT    0x0000 /* real mode's vectors */
#define G_GDT    0x1000
#define G_TSS    0x1400
#define G_IDT    0x2000  /* 256 gates of 8 or 16 bytes */
#define G_TABLES 0x3000  /* page tables, five pages */
#define G_STUBS  0x8000  /* the exception stubs of common handlers */
#define G_CODE   0xa000  /* the guest under test */
#define G_LOG    0x10000 /* what the exception stubs wrote */
#define G_DATA   0x11000 /* the guest's results and buffers, 60 KiB */
#define G_STACK  0x28000 /* grows down */
#define G_FREE   0x30000 /* nobody's: for tests that move memory */
#define G_SIZE   0x200000

/* Unbacked: an access leaves to userspace. Mapped by every paged mode. */
#define G_MMIO 0xd0000000

/* Selectors. */
#define SEL_CODE32 0x08
#define SEL_DATA   0x10
#define SEL_CODE64 0x18
#define SEL_TSS    0x20
#define SEL_CODE16 0x30
#define SEL_DATA16 0x38

/* The log: a count, a resume address, and records of 32 bytes. */
#define LOG_COUNT       (G_LOG + 0)
#define LOG_RESUME      (G_LOG + 8)
#define LOG_RECORDS     (G_LOG + 16)
#define LOG_RECORD_SIZE 32
/* Offsets in a record. */
#define REC_VECTOR 0
#define REC_ERROR  4
#define REC_CR2    8
#define REC_RIP    16
#define REC_FLAGS  24

/* Ports the guests speak through. */
#define PORT_OUT 0x10 /* a value for the client to look at */
#define PORT_NMI 0x20 /* the NMI handler says it runs */
