// SPDX-License-Identifier: GPL-2.0-only
/*
 * SSE's and AVX's registers keep their contents while other processes, and the hypervisor, use
 * theirs: two processes for each CPU fill all sixteen, sleep in the same breath, and look again.
 */
#include "findings.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REGISTERS = 16, ROUNDS = 5, BYTES_SSE = 16, BYTES_AVX = 32 };

struct contents {
    uint8_t bytes[REGISTERS * BYTES_AVX];
};

#define ALL_16(step)                                                                               \
    step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10)       \
        step(11) step(12) step(13) step(14) step(15)
#define CLOBBERED "rcx", "r11", "memory"

/* nanosleep between the loads and the stores, so that no compiled code touches a register. */
#define AROUND_A_SLEEP(load, store)                                                                \
    register uint64_t number __asm__("rax") = SYS_nanosleep;                                       \
    __asm__ volatile(ALL_16(load) "syscall\n\t" ALL_16(store)                                      \
                     : "+a"(number)                                                                \
                     : "D"(time), "S"(0L), [from] "r"(before), [to] "r"(after)                     \
                     : CLOBBERED, "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",  \
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")
#define LOAD_SSE(n)  "movdqu " #n "*16(%[from]), %%xmm" #n "\n\t"
#define STORE_SSE(n) "movdqu %%xmm" #n ", " #n "*16(%[to])\n\t"
#define LOAD_AVX(n)  "vmovdqu " #n "*32(%[from]), %%ymm" #n "\n\t"
#define STORE_AVX(n) "vmovdqu %%ymm" #n ", " #n "*32(%[to])\n\t"

static void sleep_with_sse(const struct timespec *time, const struct contents *before,
                           struct contents *after)
{
    AROUND_A_SLEEP(LOAD_SSE, STORE_SSE);
}

static void sleep_with_avx(const struct timespec *time, const struct contents *before,
                           struct contents *after)
{
    AROUND_A_SLEEP(LOAD_AVX, STORE_AVX);
    __asm__ volatile("vzeroupper" ::: "memory");
}

/* As the SDM says (Vol. 1, 14.3): the CPU has it, and the kernel has turned it on. */
static bool has_avx(void)
{
    unsigned int eax, ebx, ecx, edx, low, high;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE) || !(ecx & bit_AVX))
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}

/* Eight single-precision additions at once: i + 2i = 3i. */
static bool avx_adds(void)
{
    float a[8], b[8], sum[8];
    bool good = true;

    for (int i = 0; i < 8; i++) {
        a[i] = (float)i;
        b[i] = (float)(2 * i);
    }
    __asm__ volatile("vmovups %1, %%ymm0\n\t"
                     "vaddps %2, %%ymm0, %%ymm0\n\t"
                     "vmovups %%ymm0, %0\n\t"
                     "vzeroupper"
                     : "=m"(sum)
                     : "m"(a), "m"(b)
                     : "xmm0");
    for (int i = 0; i < 8; i++)
        good = good && sum[i] == (float)(3 * i);
    return good;
}

typedef void (*sleep_with)(const struct timespec *, const struct contents *, struct contents *);

/* How many of ROUNDS sleeps changed a register. */
static int count_losses(sleep_with sleeper, size_t bytes, uint8_t seed)
{
    const struct timespec time = {0, 2000000};
    struct contents before, after;
    int losses = 0;

    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < sizeof(before.bytes); i++)
            before.bytes[i] = (uint8_t)(seed + round * 17 + (int)i * 31);
        memset(&after, 0, sizeof(after));
        sleeper(&time, &before, &after);
        losses += memcmp(before.bytes, after.bytes, REGISTERS * bytes) != 0;
    }
    return losses;
}

/* Two processes for each CPU, all at the same time; each one's exit status is what it lost. */
static void find_preserved(const char *name, int cpus, sleep_with sleeper, size_t bytes)
{
    int losses = 0, started = 0, status;

    for (int i = 0; i < 2 * cpus; i++) {
        const pid_t child = fork();

        if (child == 0)
            _exit(run_on(i / 2) ? count_losses(sleeper, bytes, (uint8_t)(i * 7 + 1)) : ROUNDS);
        started += child > 0;
    }
    for (int i = 0; i < started; i++)
        if (wait(&status) > 0)
            losses += WIFEXITED(status) ? WEXITSTATUS(status) : ROUNDS;
    finding(started == 2 * cpus && losses == 0, name, "%d of %d sleeps changed a register", losses,
            started * ROUNDS);
}

void find_vector_registers(int cpus)
{
    const bool avx = has_avx();

    find_preserved("SSE registers outlast sleeps", cpus, sleep_with_sse, BYTES_SSE);
    if (expected("expect_avx", 0))
        finding(avx, "the CPU has AVX", "CPUID or XCR0 says no");
    if (avx) {
        finding(avx_adds(), "AVX arithmetic", "wrong sums");
        find_preserved("AVX registers outlast sleeps", cpus, sleep_with_avx, BYTES_AVX);
    }
}
