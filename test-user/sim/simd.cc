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

// SDM Vol. 2A, "FXSAVE", table 3-43, as far as the machine has what stands there.
namespace {

constexpr unsigned kMxcsr = 24, kMxcsrMask = 28, kX87 = 32, kXmm = 160;
constexpr minivmx::u32 kMask = 0xffff;

} // namespace

void host_save_fx(void *image, bool)
{
    auto *bytes = static_cast<minivmx::u8 *>(image);
    const Machine &machine = Machine::current();
    std::memset(bytes, 0, HOST_FX_IMAGE_SIZE);
    std::memcpy(bytes, &machine.x87_control, 2);
    const host_u16 status = host_read_x87_status();
    std::memcpy(bytes + 2, &status, 2);
    std::memcpy(bytes + kMxcsr, &machine.mxcsr, 4);
    std::memcpy(bytes + kMxcsrMask, &kMask, 4);
    for (unsigned i = 0; i < 8; i++)
        std::memcpy(bytes + kX87 + 16 * i, &machine.mmx[i], 8);
    for (unsigned i = 0; i < 16; i++)
        std::memcpy(bytes + kXmm + 16 * i, machine.ymm[i], 16);
}

void host_restore_fx(const void *image, bool)
{
    const auto *bytes = static_cast<const minivmx::u8 *>(image);
    Machine &machine = Machine::current();
    host_u16 status;
    std::memcpy(&machine.x87_control, bytes, 2);
    std::memcpy(&status, bytes + 2, 2);
    machine.x87_exception = (status & 0x80) != 0;
    std::memcpy(&machine.mxcsr, bytes + kMxcsr, 4);
    if (machine.mxcsr & ~kMask)
        machine.violation("FXRSTOR with a bit of MXCSR that the CPU does not have");
    for (unsigned i = 0; i < 8; i++)
        std::memcpy(&machine.mmx[i], bytes + kX87 + 16 * i, 8);
    for (unsigned i = 0; i < 16; i++)
        std::memcpy(machine.ymm[i], bytes + kXmm + 16 * i, 16);
}
