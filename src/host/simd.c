// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's XMM, YMM, MMX and x87 registers, for the instruction emulator.
 *
 * All through KVM_RUN the task's FPU state is the guest's (vcpu_ioctl.c swaps it in), so the
 * registers are the CPU's own, unless the scheduler or an interrupt's kernel_fpu_begin() put them
 * into memory meanwhile: then they are loaded first, as on the way to user mode. XCR0 is the host's
 * here, which enables whatever a guest may.
 */
#include <linux/preempt.h>
#include <linux/thread_info.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>

#include <minivmx/host.h>

static void hold_registers(void)
{
	fpregs_lock();
	fpregs_assert_state_consistent();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
}

static void release_registers(void)
{
	fpregs_unlock();
}

/* A register's number is part of the instruction: one case each. */
#define FOR_8(X, ...)                                                                              \
	X(0, __VA_ARGS__)                                                                          \
	X(1, __VA_ARGS__)                                                                          \
	X(2, __VA_ARGS__)                                                                          \
	X(3, __VA_ARGS__)                                                                          \
	X(4, __VA_ARGS__)                                                                          \
	X(5, __VA_ARGS__)                                                                          \
	X(6, __VA_ARGS__)                                                                          \
	X(7, __VA_ARGS__)
#define FOR_16(X, ...)                                                                             \
	FOR_8(X, __VA_ARGS__)                                                                      \
	X(8, __VA_ARGS__)                                                                          \
	X(9, __VA_ARGS__)                                                                          \
	X(10, __VA_ARGS__)                                                                         \
	X(11, __VA_ARGS__)                                                                         \
	X(12, __VA_ARGS__)                                                                         \
	X(13, __VA_ARGS__)                                                                         \
	X(14, __VA_ARGS__)                                                                         \
	X(15, __VA_ARGS__)

struct xmm_bytes {
	u8 bytes[16];
};
struct ymm_bytes {
	u8 bytes[32];
};

#define STORE(n, move, reg, memory)                                                                \
	case n:                                                                                    \
		asm volatile(move " %%" reg #n ", %0" : "=m"(memory));                             \
		break;
#define LOAD(n, move, reg, memory)                                                                 \
	case n:                                                                                    \
		asm volatile(move " %0, %%" reg #n : : "m"(memory));                               \
		break;

void host_read_xmm(host_u32 index, void *data)
{
	struct xmm_bytes *to = data;

	hold_registers();
	switch (index & 15) {
		FOR_16(STORE, "movdqu", "xmm", *to)
	}
	release_registers();
}

void host_write_xmm(host_u32 index, const void *data)
{
	const struct xmm_bytes *from = data;

	hold_registers();
	switch (index & 15) {
		FOR_16(LOAD, "movdqu", "xmm", *from)
	}
	release_registers();
}

void host_read_ymm(host_u32 index, void *data)
{
	struct ymm_bytes *to = data;

	hold_registers();
	switch (index & 15) {
		FOR_16(STORE, "vmovdqu", "ymm", *to)
	}
	release_registers();
}

void host_write_ymm(host_u32 index, const void *data)
{
	const struct ymm_bytes *from = data;

	hold_registers();
	switch (index & 15) {
		FOR_16(LOAD, "vmovdqu", "ymm", *from)
	}
	release_registers();
}

/*
 * In the kernel a pending x87 exception would be a bug of the kernel: reading the status word raises
 * none. Bit 7: SDM Vol. 1, 8.1.3.
 */
static bool x87_exception_pending(void)
{
	u16 status;

	asm volatile("fnstsw %0" : "=a"(status));
	return status & 0x80;
}

bool host_read_mmx(host_u32 index, host_u64 *value)
{
	bool pending;

	hold_registers();
	pending = x87_exception_pending();
	if (!pending) {
		switch (index & 7) {
			FOR_8(STORE, "movq", "mm", *value)
		}
	}
	release_registers();
	return !pending;
}

bool host_write_mmx(host_u32 index, host_u64 value)
{
	bool pending;

	hold_registers();
	pending = x87_exception_pending();
	if (!pending) {
		switch (index & 7) {
			FOR_8(LOAD, "movq", "mm", value)
		}
	}
	release_registers();
	return !pending;
}

host_u16 host_read_x87_control(void)
{
	host_u16 control;

	hold_registers();
	asm volatile("fnstcw %0" : "=m"(control));
	release_registers();
	return control;
}

host_u16 host_read_x87_status(void)
{
	host_u16 status;

	hold_registers();
	asm volatile("fnstsw %0" : "=a"(status));
	release_registers();
	return status;
}

/* It may unmask an exception that the guest's next x87 instruction raises; none is executed here. */
void host_write_x87_control(host_u16 control)
{
	hold_registers();
	if (!x87_exception_pending())
		asm volatile("fldcw %0" : : "m"(control));
	release_registers();
}

void host_init_x87(void)
{
	hold_registers();
	asm volatile("fninit");
	release_registers();
}

void host_clear_x87_exceptions(void)
{
	hold_registers();
	asm volatile("fnclex");
	release_registers();
}

void host_save_fx(void *image, bool wide)
{
	struct fxregs_state state = {}; /* it may leave reserved bytes alone */

	hold_registers();
	if (wide)
		asm volatile("fxsaveq %0" : "=m"(state));
	else
		asm volatile("fxsave %0" : "=m"(state));
	release_registers();
	memcpy(image, &state, HOST_FX_IMAGE_SIZE);
}

void host_restore_fx(const void *image, bool wide)
{
	struct fxregs_state state = {};

	memcpy(&state, image, HOST_FX_IMAGE_SIZE);
	hold_registers();
	if (wide)
		asm volatile("fxrstorq %0" : : "m"(state));
	else
		asm volatile("fxrstor %0" : : "m"(state));
	release_registers();
}
