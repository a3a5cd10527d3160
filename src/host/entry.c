// SPDX-License-Identifier: GPL-2.0-only
/*
 * The way into a guest and back: everything that must happen with interrupts off, in the order in
 * which it happens.
 */
#include <linux/context_tracking.h>
#include <linux/entry-kvm.h>
#include <linux/ftrace.h>
#include <linux/instrumentation.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/vtime.h>
#include <asm/debugreg.h>
#include <asm/desc.h>
#include <asm/fpu/api.h>
#include <asm/mce.h>
#include <asm/mmu_context.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>

#include "compat.h"
#include "cpus.h"
#include "objects.h"
#include "vmenter.h"
#include "world.h"

static_assert(offsetof(struct vcpu_area, regs) == AREA_REGS);
static_assert(offsetof(struct vcpu_area, host_rsp) == AREA_HOST_RSP);
static_assert(offsetof(struct vcpu_area, spec_ctrl) == AREA_SPEC_CTRL);
static_assert(offsetof(struct vcpu_area, launched) == AREA_LAUNCHED);
static_assert(offsetof(struct vcpu_area, save_spec_ctrl) == AREA_SAVE_SPEC_CTRL);

/* ---- Before ---- */

/*
 * Whether something must be done before the guest may run. mode already says "in the guest": see
 * kick.c.
 */
static bool must_stay_out(struct host_vcpu *vcpu)
{
	return !vcpu->loaded || !cpus_vmx_on_here() || READ_ONCE(vcpu->area.requests) ||
	       xfer_to_guest_mode_work_pending();
}

static void load_guest_fpu_registers(void)
{
	/*
	 * The task's FPU state is the guest's for all of KVM_RUN; an interrupt or a schedule may
	 * have unloaded it.
	 */
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
}

static void load_guest_debug_registers(struct vcpu_area *area)
{
	if (!area->switch_db_regs) {
		/*
		 * The guest's DR7 comes with the entry; the host's breakpoints must not fire on the
		 * way there.
		 */
		if (hw_breakpoint_active())
			set_debugreg(0, 7);
		return;
	}
	set_debugreg(0, 7);
	set_debugreg(area->loaded_db[0], 0);
	set_debugreg(area->loaded_db[1], 1);
	set_debugreg(area->loaded_db[2], 2);
	set_debugreg(area->loaded_db[3], 3);
	/* Only a guest that reaches DR6 without an exit needs its own in the CPU. */
	if (area->switch_db_regs & KVM_DEBUGREG_WONT_EXIT)
		set_debugreg(area->dr6, 6);
}

bool host_prepare_entry(struct host_vcpu *vcpu)
{
	struct vcpu_area *area = &vcpu->area;

	preempt_disable();
	local_irq_disable();

	smp_store_mb(area->mode, VCPU_IN_GUEST);
	if (must_stay_out(vcpu)) {
		smp_store_release(&area->mode, VCPU_OUTSIDE_GUEST);
		local_irq_enable();
		preempt_enable();
		return false;
	}

	uret_load_guest(vcpu);
	segments_load_guest(vcpu);
	load_guest_fpu_registers();
	load_guest_debug_registers(area);
	/* With interrupts off neither can change before the entry any more. */
	area->host_cr3 = __read_cr3();
	area->host_cr4 = cr4_read_shadow();
	vcpu->host_debugctl = __rdmsr(MSR_IA32_DEBUGCTLMSR);
	perf_enter_guest(vcpu);
	vtime_account_guest_enter();
	return true;
}

/* ---- The entry ---- */

/*
 * To RCU, lockdep and the interrupt tracer running a guest is what running in user mode is. A guest
 * that keeps its CPU must not keep RCU waiting; but RCU looks at the clock's ticks for what holds it
 * up, and a tick ends the guest's run: to hear of it once a tick is enough.
 */
static __always_inline void guest_context_enter(struct host_vcpu *vcpu)
{
	instrumentation_begin();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	if (!context_tracking_guest_enter() && vcpu->rcu_told != jiffies) {
		vcpu->rcu_told = jiffies;
		compat_rcu_virt_note_context_switch();
	}
	instrumentation_end();
	lockdep_hardirqs_on(CALLER_ADDR0);
}

static __always_inline void guest_context_exit(void)
{
	lockdep_hardirqs_off(CALLER_ADDR0);
	context_tracking_guest_exit();
	instrumentation_begin();
	trace_hardirqs_off_finish();
	instrumentation_end();
}

/*
 * A guest that reads a device's registers may find in the CPU's buffers what the host left there
 * ("MMIO stale data"). Where that is all they leak, they are cleared for such guests only; CPUs
 * that leak them more easily have vmenter.S clear them at each entry. kvm asks whether VFIO has
 * given the VM a device, by a file that minivmx doesn't offer; here it counts whether the guest has
 * a device's registers mapped, however it came by them. The CPU's flush of its L1 data cache
 * clears the buffers as well.
 */
static __always_inline void clear_leaks_before_entry(struct host_vcpu *vcpu)
{
	bool cleared = l1d_flush_before_entry(vcpu);

	if (static_branch_unlikely(&mmio_stale_data_clear) && !cleared &&
	    READ_ONCE(vcpu->vm->reaches_devices))
		x86_clear_cpu_buffers();
}

noinstr host_u32 host_vmenter(struct host_vcpu *vcpu)
{
	struct vcpu_area *area = &vcpu->area;
	u32 failed;

	guest_context_enter(vcpu);
	clear_leaks_before_entry(vcpu);
	if (native_read_cr2() != area->cr2)
		native_write_cr2(area->cr2);

	failed = minivmx_enter(area);

	area->cr2 = native_read_cr2();
	guest_context_exit();
	return failed;
}

/* ---- After ---- */

static void save_guest_debug_registers(struct vcpu_area *area)
{
	get_debugreg(area->db[0], 0);
	get_debugreg(area->db[1], 1);
	get_debugreg(area->db[2], 2);
	get_debugreg(area->db[3], 3);
	get_debugreg(area->dr6, 6);
	/* The host's #DB handler takes what it finds there for news. */
	set_debugreg(DR6_RESERVED, 6);
}

void host_after_exit(struct host_vcpu *vcpu)
{
	struct vcpu_area *area = &vcpu->area;

	perf_leave_guest(vcpu);
	if (area->switch_db_regs & KVM_DEBUGREG_WONT_EXIT)
		save_guest_debug_registers(area);
	if (hw_breakpoint_active())
		hw_breakpoint_restore();
	/* VM exit clears it: SDM Vol. 3C, 28.5.1 */
	if (vcpu->host_debugctl)
		update_debugctlmsr(vcpu->host_debugctl);

	smp_store_release(&area->mode, VCPU_OUTSIDE_GUEST);

	/* Before preemption is on: it is this CPU's predictors that the guest trained. */
	if (cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER))
		this_cpu_write(x86_ibpb_exit_to_user, true);
}

void host_finish_exit(struct host_vcpu *vcpu)
{
	/*
	 * A timer tick that ended the guest's run was handled by now and counted as the guest's
	 * time.
	 */
	vtime_account_guest_exit();
	local_irq_enable();
	preempt_enable();
}

/* ---- Events that a VM exit took from the host ---- */

void host_handle_nmi(void)
{
	if (compat_uses_fred())
		compat_fred_entry(EVENT_TYPE_NMI, NMI_VECTOR);
	else
		minivmx_call_gate((unsigned long)compat_nmi_entry);
}

void host_handle_interrupt(host_u32 vector)
{
	struct desc_ptr idt;
	const gate_desc *gates;

	if (compat_uses_fred()) {
		compat_fred_entry(EVENT_TYPE_EXTINT, vector & 0xff);
		return;
	}
	store_idt(&idt);
	gates = (const gate_desc *)idt.address;
	minivmx_call_gate(gate_offset(&gates[vector & 0xff]));
}

void host_handle_machine_check(void)
{
#ifdef CONFIG_X86_MCE
	/*
	 * The handler only asks whether the error may be blamed on a task: say that user mode was
	 * interrupted.
	 */
	struct pt_regs regs = {
		.cs = 3,
		.flags = X86_EFLAGS_IF,
	};

	do_machine_check(&regs);
#endif
}

/* ---- Work in between ---- */

/*
 * The thread is on a CPU that is going offline, or VMX is off everywhere since the machine goes
 * down.
 */
static int wait_for_vmx(struct host_vcpu *vcpu)
{
	while (!READ_ONCE(vcpu->loaded)) {
		if (cpus_going_down() || fatal_signal_pending(current))
			return -EIO;
		schedule_timeout_killable(1);
	}
	return cpus_going_down() ? -EIO : 0;
}

int host_handle_pending_work(struct host_vcpu *vcpu)
{
	int r;

	/* Work that comes after this keeps it out of the guest, and is met here then. */
	if (likely(vcpu->loaded && !cpus_going_down() && !__xfer_to_guest_mode_work_pending()))
		return 0;
	host_let_sleep(vcpu);
	r = wait_for_vmx(vcpu);
	return r ? r : work_do_before_entry();
}

bool host_has_pending_work(void)
{
	return xfer_to_guest_mode_work_pending();
}

void host_branch_predictor_barrier(void)
{
	indirect_branch_prediction_barrier();
}
