// SPDX-License-Identifier: GPL-2.0-only
//
// The vector registers of the guest on the simulated machine.
#include "machine.hpp"

#include <cstring>

using minivmx::sim::Machine;

void host_read_xmm(host_u32 index, void *data)
{
    std::memcpy(data, Machine::current().ymm[index], 16);
}

void host_write_xmm(host_u32 index, const void *data)
{
    std::memcpy(Machine::current().ymm[index], data, 16);
}

void host_read_ymm(host_u32 index, void *data)
{
    std::memcpy(data, Machine::current().ymm[index], 32);
}

void host_write_ymm(host_u32 index, const void *data)
{
    std::memcpy(Machine::current().ymm[index], data, 32);
}

bool host_read_mmx(host_u32 index, host_u64 *value)
{
    *value = Machine::current().mmx[index];
    return !Machine::current().x87_exception;
}

bool host_write_mmx(host_u32 index, host_u64 value)
{
    if (!Machine::current().x87_exception)
        Machine::current().mmx[index] = value;
    return !Machine::current().x87_exception;
}

host_u16 host_read_x87_control(void)
{
    return Machine::current().x87_control;
}

host_u16 host_read_x87_status(void)
{
    return Machine::current().x87_exception ? 0x80 : 0;
}

void host_write_x87_control(host_u16 control)
{
    Machine::current().x87_control = control;
}

void host_init_x87(void)
{
    Machine::current().x87_control = 0x37f;
    Machine::current().x87_exception = false;
}

void host_clear_x87_exceptions(void)
{
    Machine::current().x87_exception = false;
}
