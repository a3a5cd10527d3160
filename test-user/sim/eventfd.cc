// SPDX-License-Identifier: GPL-2.0-only
//
// Eventfds of the simulated machine's user process, and ends of interrupts it waits for.
#include "machine.hpp"

using minivmx::sim::Machine;

void host_eventfd_signal(host_eventfd *eventfd)
{
    eventfd->count++;
}

void host_eventfd_put(host_eventfd *eventfd)
{
    Machine::current().may_sleep("host_eventfd_put");
    if (eventfd->references-- <= 0)
        Machine::current().violation("an eventfd is put once too often");
}

void host_irq_acked(host_vm *, host_u32 gsi)
{
    Machine &m = Machine::current();
    if (m.preempt_count != 0)
        m.violation("host_irq_acked with a lock held");
    m.acked_gsis.push_back(gsi);
    if (m.on_irq_acked)
        m.on_irq_acked(gsi);
}
