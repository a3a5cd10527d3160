// SPDX-License-Identifier: GPL-2.0-only
#include "zero_page.hpp"

#include "acpi_tables.hpp"

#include <algorithm>
#include <array>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kAcpiRsdp = 0x070;
constexpr std::uint64_t kE820Count = 0x1e8;
constexpr std::uint64_t kE820Table = 0x2d0;
constexpr std::uint64_t kE820EntrySize = 20;
constexpr std::uint8_t kLoaderWithoutNumber = 0xff;

constexpr std::uint32_t kRam = 1;
constexpr std::uint32_t kReserved = 2;
// The last KiB below 640K belongs to a BIOS.
constexpr std::uint64_t kLowMemoryEnd = 0x9fc00;

struct Region {
    std::uint64_t first;
    std::uint64_t end;
    std::uint32_t type;
};

void write_memory_map(const GuestMemory &memory)
{
    const std::array<Region, 3> regions = {{
        {0, kLowMemoryEnd, kRam},
        {kAcpiTables, kAcpiTablesEnd, kReserved},
        {kAcpiTablesEnd, memory.size(), kRam},
    }};
    std::uint64_t at = kZeroPage + kE820Table;
    for (const Region &region : regions) {
        memory.store(at, region.first);
        memory.store(at + 8, region.end - region.first);
        memory.store(at + 16, region.type);
        at += kE820EntrySize;
    }
    memory.store(kZeroPage + kE820Count, static_cast<std::uint8_t>(regions.size()));
}

} // namespace

void write_zero_page(const GuestMemory &memory, const LinuxPlan &plan, std::uint64_t acpi_tables)
{
    const std::vector<std::uint8_t> &header = plan.image.header;
    const auto place = memory.range(kZeroPage + setup::kHeader, header.size());
    std::copy(header.begin(), header.end(), place.begin());
    memory.store(kZeroPage + setup::kTypeOfLoader, kLoaderWithoutNumber);
    memory.store(kZeroPage + setup::kCmdLinePtr, static_cast<std::uint32_t>(kCmdline));
    memory.store(kZeroPage + setup::kRamdiskImage, static_cast<std::uint32_t>(plan.initrd_at));
    memory.store(kZeroPage + setup::kRamdiskSize, static_cast<std::uint32_t>(plan.initrd.size()));
    memory.store(kZeroPage + kAcpiRsdp, acpi_tables);
    write_memory_map(memory);

    const auto text = memory.range(kCmdline, plan.cmdline.size() + 1);
    std::copy(plan.cmdline.begin(), plan.cmdline.end(), text.begin());
    text.back() = 0;
}

} // namespace minivmx::tool
