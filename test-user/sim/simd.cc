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
