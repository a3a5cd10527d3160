// SPDX-License-Identifier: GPL-2.0-only
//
// Time, timers, locks and sleeping vCPUs of the simulated machine. Time passes when a test says so,
// or when the only vCPU there is sleeps.
#include "machine.hpp"

using minivmx::u64;
using minivmx::sim::Machine;

namespace {

host_timer *earliest(const Machine &m)
{
    host_timer *first = nullptr;
    for (host_timer *timer : m.timers) {
        if (timer->started && (first == nullptr || timer->deadline < first->deadline))
            first = timer;
    }
    return first;
}

} // namespace

u64 Machine::next_deadline() const
{
    const host_timer *const first = earliest(*this);
    return first == nullptr ? ~u64{0} : first->deadline;
}

void Machine::advance(u64 ns)
{
    const u64 end = time_ns + ns;
    for (host_timer *timer = earliest(*this); timer != nullptr && timer->deadline <= end;
         timer = earliest(*this)) {
        if (timer->deadline > time_ns)
            time_ns = timer->deadline;
        timer->started = false;
        const bool irqs = irqs_off;
        irqs_off = true;
        timer->fire(timer->arg);
        irqs_off = irqs;
    }
    time_ns = end;
}

host_u64 host_time_ns()
{
    return Machine::current().time_ns;
}

void host_clock_read(host_clock *clock)
{
    Machine &m = Machine::current();
    *clock = {m.time_ns, m.tsc++, m.realtime_ns + m.time_ns, m.clock_counts_tsc};
}

host_timer *host_timer_create(void (*fire)(void *arg), void *arg)
{
    Machine &m = Machine::current();
    m.may_sleep("host_timer_create");
    if (m.allocations_left == 0)
        return nullptr;
    if (m.allocations_left > 0)
        m.allocations_left--;
    auto *const timer = new host_timer{fire, arg};
    m.timers.insert(timer);
    return timer;
}

void host_timer_destroy(host_timer *timer)
{
    if (timer == nullptr)
        return;
    Machine &m = Machine::current();
    m.may_sleep("host_timer_destroy");
    if (m.timers.erase(timer) == 0)
        m.violation("host_timer_destroy of something that is not a timer");
    else
        delete timer;
}

void host_timer_start(host_timer *timer, host_u64 deadline_ns)
{
    timer->started = true;
    timer->deadline = deadline_ns;
}

void host_timer_cancel(host_timer *timer)
{
    timer->started = false;
}

host_lock *host_lock_create()
{
    Machine &m = Machine::current();
    m.may_sleep("host_lock_create");
    if (m.allocations_left == 0)
        return nullptr;
    if (m.allocations_left > 0)
        m.allocations_left--;
    auto *const lock = new host_lock;
    m.locks.insert(lock);
    return lock;
}

void host_lock_destroy(host_lock *lock)
{
    Machine &m = Machine::current();
    if (lock == nullptr)
        return;
    if (lock->taken)
        m.violation("a lock is destroyed that somebody holds");
    m.locks.erase(lock);
    delete lock;
}

host_u64 host_lock_take(host_lock *lock)
{
    Machine &m = Machine::current();
    if (lock->taken)
        m.violation("a lock is taken twice");
    lock->taken = true;
    m.preempt_count++;
    return host_irq_save();
}

void host_lock_release(host_lock *lock, host_u64 flags)
{
    Machine &m = Machine::current();
    if (!lock->taken)
        m.violation("a lock is released that nobody holds");
    lock->taken = false;
    m.preempt_count--;
    host_irq_restore(flags);
}

int host_rcu_read_lock()
{
    return ++Machine::current().rcu_readers;
}

// Scopes nest, so who leaves is the last who entered.
void host_rcu_read_unlock(int section)
{
    Machine &m = Machine::current();
    if (section <= 0 || section != m.rcu_readers)
        m.violation("host_rcu_read_unlock of a section that isn't the innermost");
    else
        m.rcu_readers--;
}

void host_rcu_wait()
{
    Machine &m = Machine::current();
    m.may_sleep("host_rcu_wait");
    if (m.rcu_readers != 0)
        m.violation("host_rcu_wait by a reader waits for itself");
    m.rcu_waits++;
}

void host_vcpu_kick(host_vcpu *vcpu)
{
    vcpu->area.requests |= VCPU_REQUEST_EVENT;
    Machine::current().kicks.push_back(vcpu);
}

void host_yield()
{
    Machine::current().may_sleep("host_yield");
}

bool host_vcpu_block(host_vcpu *vcpu)
{
    Machine &m = Machine::current();
    m.may_sleep("host_vcpu_block");
    m.blocks++;
    bool asked = false;
    unsigned patience = 100'000; // a periodic timer may fire for ever and wake nobody
    while (!core_vcpu_runnable(vcpu->core) && !m.signal_pending) {
        if (m.on_block && !asked) {
            asked = true;
            m.on_block(*vcpu);
        } else if (m.next_deadline() != ~u64{0} && patience-- != 0) {
            m.advance(m.next_deadline() > m.time_ns ? m.next_deadline() - m.time_ns : 0);
            asked = false;
        } else {
            m.violation("a vCPU sleeps for ever");
            m.signal_pending = true;
        }
    }
    return core_vcpu_runnable(vcpu->core);
}
