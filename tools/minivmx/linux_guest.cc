// SPDX-License-Identifier: GPL-2.0-only
#include "linux_guest.hpp"

#include "acpi_tables.hpp"
#include "cpuid_model.hpp"
#include "error.hpp"
#include "guest_setup.hpp"
#include "image.hpp"
#include "linux_start.hpp"
#include "zero_page.hpp"

#include <algorithm>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kPage = 0x1000;
constexpr std::uint64_t kOneMiB = 1 << 20;

std::uint64_t round_up(std::uint64_t value, std::uint64_t to)
{
    return (value + to - 1) / to * to;
}

/// Where the kernel wants to be, or the first place that holds it.
std::uint64_t place_kernel(const LinuxRequest &request, const LinuxPlan &plan)
{
    const BzImage &image = plan.image;
    if (image.preferred + image.memory <= plan.memory_size)
        return image.preferred;
    const std::uint64_t lowest = round_up(kOneMiB, image.alignment);
    if (image.relocatable && lowest + image.memory <= plan.memory_size)
        return lowest;
    const std::uint64_t least = (image.relocatable ? lowest : image.preferred) + image.memory;
    fail_usage("--mem: {} needs at least {} MiB", request.kernel, round_up(least, kOneMiB) >> 20);
}

/// As high as the kernel allows, out of its way.
std::uint64_t place_initrd(const LinuxRequest &request, const LinuxPlan &plan)
{
    const std::uint64_t size = round_up(plan.initrd.size(), kPage);
    const std::uint64_t end = std::min(plan.memory_size, plan.image.initrd_end) & ~(kPage - 1);
    const std::uint64_t lowest = round_up(plan.kernel_at + plan.image.memory, kPage);
    if (lowest > end || size > end - lowest)
        fail_usage("{}: no room for {} bytes beside the kernel, which ends at {:#x}, below {:#x}; "
                   "try a larger --mem",
                   request.initrd, plan.initrd.size(), lowest, end);
    return end - size;
}

void check_cmdline(const LinuxPlan &plan)
{
    const std::uint64_t most = std::min(plan.image.cmdline_size, kMostCmdline);
    if (plan.cmdline.size() > most)
        fail_usage("--cmdline: {} bytes are too long for this kernel, expected at most {}",
                   plan.cmdline.size(), most);
}

void copy_to(const GuestMemory &memory, std::uint64_t address, std::span<const std::uint8_t> bytes)
{
    const std::span<std::uint8_t> place = memory.range(address, bytes.size());
    std::copy(bytes.begin(), bytes.end(), place.begin());
}

} // namespace

void place_linux(const LinuxRequest &request, LinuxPlan &plan)
{
    check_cmdline(plan);
    plan.kernel_at = place_kernel(request, plan);
    if (!plan.initrd.empty())
        plan.initrd_at = place_initrd(request, plan);
}

LinuxPlan plan_linux(const LinuxRequest &request)
{
    LinuxPlan plan = {};
    plan.memory_size = round_up(request.memory_size, kPage);
    plan.cpus = request.cpus;
    plan.cmdline = request.cmdline;
    plan.image = parse_bzimage(request.kernel, read_image(request.kernel, plan.memory_size));
    if (!request.initrd.empty())
        plan.initrd = read_image(request.initrd, plan.memory_size);
    place_linux(request, plan);
    return plan;
}

GuestMemory build_linux_ram(const LinuxPlan &plan)
{
    GuestMemory memory(0, plan.memory_size);
    copy_to(memory, plan.kernel_at, plan.image.kernel);
    copy_to(memory, plan.initrd_at, plan.initrd);
    const std::uint64_t tables = write_acpi_tables(memory, plan.cpus);
    write_zero_page(memory, plan, tables);
    write_linux_tables(memory);
    return memory;
}

std::vector<std::unique_ptr<Vcpu>> build_linux_vcpus(const LinuxPlan &plan, const GuestMemory &ram,
                                                     const Vm &vm)
{
    vm.add_memory(0, ram);
    const std::vector<kvm_cpuid_entry2> cpuid = vm.device().supported_cpuid();
    std::vector<std::unique_ptr<Vcpu>> vcpus;
    for (unsigned i = 0; i < plan.cpus; i++) {
        vcpus.push_back(std::make_unique<Vcpu>(vm, i));
        vcpus.back()->set_cpuid(cpuid_for(cpuid, i));
    }
    Vcpu &first = *vcpus.front();
    first.set_sregs(linux_start_sregs(first.sregs()));
    first.set_regs(linux_start_regs(plan.kernel_at));
    return vcpus;
}

} // namespace minivmx::tool
