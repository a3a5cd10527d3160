// SPDX-License-Identifier: GPL-2.0-only
#include "guest_setup.hpp"

#include "cpuid_model.hpp"
#include "error.hpp"
#include "guest_abi.h"
#include "image.hpp"

#include <algorithm>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kPage = 0x1000;
constexpr std::uint64_t kFourGiB = std::uint64_t{1} << 32;
constexpr std::uint64_t kRealModeEnd = std::uint64_t{1} << 20;

constexpr std::uint64_t kMostFirmware = 0x40000; // above kTssAddress

std::uint64_t whole_pages(std::uint64_t bytes)
{
    return (bytes + kPage - 1) & ~(kPage - 1);
}

Mode choose_mode(const GuestRequest &request, const std::vector<std::uint8_t> &image)
{
    // The note is read even when --mode overrules it: a broken file should not go unnoticed.
    const std::optional<Mode> noted = image_mode(request.file, image);
    return request.mode.value_or(noted.value_or(Mode::kReal));
}

void check_firmware(const GuestRequest &request, const std::vector<std::uint8_t> &image)
{
    if (request.load)
        fail_usage("--load: mode reset puts the file below 4 GiB by itself");
    if (request.entry)
        fail_usage("--entry: mode reset starts at the reset vector");
    if (image.size() % kPage != 0 || image.size() > kMostFirmware)
        fail_usage("{}: {} bytes, but a firmware image has whole 4096-byte pages, at most {} bytes",
                   request.file, image.size(), kMostFirmware);
}

void check_placement(const GuestRequest &request, const GuestPlan &plan)
{
    const std::uint64_t end = plan.load + plan.image.size();
    if (plan.load > plan.memory_size || end > plan.memory_size)
        fail_usage("{}: {} bytes at {:#x} end beyond the guest's memory of {} bytes; try a larger "
                   "--mem",
                   request.file, plan.image.size(), plan.load, plan.memory_size);
    const TableRange tables = table_range(plan.mode);
    if (plan.load < tables.end && end > tables.first)
        fail_usage("--load: {:#x} to {:#x} overlaps the GDT and page tables that mode {} needs at "
                   "{:#x} to {:#x}",
                   plan.load, end, mode_name(plan.mode), tables.first, tables.end);
    if (plan.mode == Mode::kReal && plan.entry >= kRealModeEnd)
        fail_usage("--entry: {:#x} cannot be reached in real mode, expected less than {:#x}",
                   plan.entry, kRealModeEnd);
    if (plan.entry >= plan.memory_size)
        fail_usage("--entry: {:#x} lies beyond the guest's memory of {} bytes", plan.entry,
                   plan.memory_size);
}

} // namespace

GuestPlan plan_guest(const GuestRequest &request)
{
    GuestPlan plan = {};
    plan.memory_size = whole_pages(request.memory_size);
    plan.cpus = request.cpus;
    plan.image = read_image(request.file, plan.memory_size);
    plan.mode = choose_mode(request, plan.image);
    if (plan.mode == Mode::kReset) {
        check_firmware(request, plan.image);
        plan.load = kFourGiB - plan.image.size();
        plan.entry = kFourGiB - 16;
        return plan;
    }
    plan.load = request.load.value_or(plan.mode == Mode::kReal ? GUEST_LOAD_REAL : GUEST_LOAD_FLAT);
    plan.entry = request.entry.value_or(plan.load);
    check_placement(request, plan);
    return plan;
}

GuestRam build_ram(const GuestPlan &plan)
{
    GuestRam ram = {};
    ram.slots.emplace_back(0, plan.memory_size);
    if (plan.mode == Mode::kReset)
        ram.slots.emplace_back(plan.load, plan.image.size());
    ram.cr3 = write_tables(plan.mode, ram.slots.front());
    const std::span<std::uint8_t> place = ram.slots.back().range(plan.load, plan.image.size());
    std::copy(plan.image.begin(), plan.image.end(), place.begin());
    return ram;
}

std::vector<std::unique_ptr<Vcpu>> build_vcpus(const GuestPlan &plan, const GuestRam &ram, Vm &vm)
{
    for (std::size_t slot = 0; slot < ram.slots.size(); slot++)
        vm.add_memory(static_cast<std::uint32_t>(slot), ram.slots[slot]);
    vm.reserve_tss(kTssAddress);

    const std::vector<kvm_cpuid_entry2> cpuid = vm.device().supported_cpuid();
    std::vector<std::unique_ptr<Vcpu>> vcpus;
    for (unsigned i = 0; i < plan.cpus; i++) {
        auto vcpu = std::make_unique<Vcpu>(vm, i);
        const StartFacts facts = {plan.entry, plan.memory_size, i, plan.cpus};
        vcpu->set_cpuid(cpuid_for(cpuid, i));
        vcpu->set_sregs(start_sregs(plan.mode, vcpu->sregs(), ram.cr3, facts));
        if (const auto regs = start_regs(plan.mode, facts))
            vcpu->set_regs(*regs);
        vcpus.push_back(std::move(vcpu));
    }
    return vcpus;
}

} // namespace minivmx::tool
