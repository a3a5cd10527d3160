// SPDX-License-Identifier: GPL-2.0-only
//
// The numbers of sections are those of the ACPI specification 6.4.
#include "acpi_tables.hpp"

#include "power.hpp"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <vector>

namespace minivmx::tool {
namespace {

constexpr std::uint32_t kLocalApic = 0xfee00000;
constexpr std::uint32_t kIoApic = 0xfec00000;
constexpr std::uint16_t kSci = 9; // the line of ACPI's own interrupt
constexpr std::uint64_t kTableAlignment = 64;

/// A table as it grows. All numbers are little-endian, as the host's.
class Table {
  public:
    template <typename T>
    Table &add(T value)
    {
        const auto *bytes = reinterpret_cast<const std::uint8_t *>(&value);
        bytes_.insert(bytes_.end(), bytes, bytes + sizeof(value));
        return *this;
    }
    Table &add_text(std::string_view text)
    {
        bytes_.insert(bytes_.end(), text.begin(), text.end());
        return *this;
    }
    Table &add_zeros(std::size_t count)
    {
        bytes_.insert(bytes_.end(), count, 0);
        return *this;
    }
    template <typename T>
    void set(std::size_t offset, T value)
    {
        std::copy_n(reinterpret_cast<const std::uint8_t *>(&value), sizeof(value),
                    bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
    }

    /// Makes the sum of the first `length` bytes 0 by means of the byte at `offset`.
    void set_checksum(std::size_t offset, std::size_t length)
    {
        bytes_.at(offset) = 0;
        const unsigned sum = std::accumulate(
            bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(length), 0U);
        bytes_.at(offset) = static_cast<std::uint8_t>(0 - sum);
    }

    std::size_t size() const { return bytes_.size(); }
    const std::vector<std::uint8_t> &bytes() const { return bytes_; }

  private:
    std::vector<std::uint8_t> bytes_;
};

/// Hands out places for tables, one after the other.
class Shelf {
  public:
    explicit Shelf(const GuestMemory &memory) : memory_(memory) {}

    std::uint64_t put(const Table &table)
    {
        const std::uint64_t at = next_;
        const auto place = memory_.range(at, table.size());
        std::copy(table.bytes().begin(), table.bytes().end(), place.begin());
        next_ = (at + table.size() + kTableAlignment - 1) & ~(kTableAlignment - 1);
        return at;
    }

  private:
    const GuestMemory &memory_;
    std::uint64_t next_ = kAcpiTables + kTableAlignment; // the RSDP comes before
};

/// The header that all tables but the RSDP have: 5.2.6.
constexpr std::size_t kLengthOffset = 4;
constexpr std::size_t kChecksumOffset = 9;

Table start_table(std::string_view signature, std::uint8_t revision)
{
    Table table;
    table.add_text(signature).add<std::uint32_t>(0).add(revision).add<std::uint8_t>(0);
    table.add_text("MVMX  ").add_text("MINIVMX ").add<std::uint32_t>(1);
    table.add_text("MVMX").add<std::uint32_t>(1);
    return table;
}

Table finish(Table table)
{
    table.set(kLengthOffset, static_cast<std::uint32_t>(table.size()));
    table.set_checksum(kChecksumOffset, table.size());
    return table;
}

/// Name (_S5, Package () { 5, 5, 0, 0 }) in AML: the sleep type of "off", 7.4.2.6 and 20.2.
Table make_dsdt()
{
    Table table = start_table("DSDT", 2);
    constexpr std::uint8_t kAml[] = {0x08, '_',  'S',           '5',  '_',           0x12, 0x08,
                                     0x04, 0x0a, kSleepTypeOff, 0x0a, kSleepTypeOff, 0x00, 0x00};
    for (const std::uint8_t byte : kAml)
        table.add(byte);
    return finish(table);
}

/// A register in I/O space: 5.2.3.2.
void add_port(Table &table, std::uint64_t port, std::uint8_t bits)
{
    constexpr std::uint8_t kSystemIo = 1;
    table.add(kSystemIo).add(bits).add<std::uint8_t>(0).add<std::uint8_t>(0).add(port);
}

/// 5.2.9. There are no VGA and no CMOS clock; the power button is not a fixed one.
Table make_fadt(std::uint64_t dsdt)
{
    constexpr std::uint8_t kRevision = 4;
    constexpr std::uint16_t kNoVga = 1 << 2;
    constexpr std::uint16_t kNoCmosClock = 1 << 5;
    constexpr std::uint32_t kWbinvd = 1 << 0;
    constexpr std::uint32_t kProcC1 = 1 << 2;
    constexpr std::uint32_t kNoPowerButton = 1 << 4;
    constexpr std::uint32_t kNoSleepButton = 1 << 5;
    constexpr std::uint32_t kResetRegister = 1 << 10;
    Table table = start_table("FACP", kRevision);
    table.add<std::uint32_t>(0).add(static_cast<std::uint32_t>(dsdt)); // no FACS: no sleep
    table.add_zeros(2).add(kSci).add_zeros(4 + 4); // SMI_CMD 0: it is always in ACPI mode
    table.add<std::uint32_t>(kPortPm1Event).add<std::uint32_t>(0);
    table.add<std::uint32_t>(kPortPm1Control).add_zeros(4 + 4 + 4 + 4 + 4); // no PM2, timer, GPE
    table.add<std::uint8_t>(4).add<std::uint8_t>(2);                        // lengths of the two
    table.add_zeros(6);                                          // of the others; C-states
    table.add<std::uint16_t>(0xffff).add<std::uint16_t>(0xffff); // latencies of no C2, C3
    table.add_zeros(2 + 2 + 1 + 1 + 1 + 1 + 1);
    table.add<std::uint16_t>(kNoVga | kNoCmosClock).add<std::uint8_t>(0);
    table.add(kWbinvd | kProcC1 | kNoPowerButton | kNoSleepButton | kResetRegister);
    add_port(table, kPortReset, 8);
    table.add(kResetValue).add_zeros(3);
    table.add<std::uint64_t>(0).add(dsdt);
    add_port(table, kPortPm1Event, 32);
    table.add_zeros(12);
    add_port(table, kPortPm1Control, 16);
    table.add_zeros(12 * 5);
    return finish(table);
}

/// A line of the ISA bus that arrives elsewhere, or in another way: 5.2.12.5.
void add_override(Table &madt, std::uint8_t irq, std::uint32_t gsi, std::uint16_t flags)
{
    madt.add<std::uint8_t>(2).add<std::uint8_t>(10).add<std::uint8_t>(0).add(irq).add(gsi).add(
        flags);
}

/// 5.2.12: a local APIC for each vCPU, one IOAPIC, and the PIC pair. KVM connects each ISA line to
/// the pin of the same number unless told otherwise, so the timer's, too.
Table make_madt(unsigned cpus)
{
    constexpr std::uint32_t kHasPics = 1;
    constexpr std::uint32_t kEnabled = 1;
    constexpr std::uint16_t kActiveHighLevel = 0x0d;
    Table table = start_table("APIC", 4);
    table.add(kLocalApic).add(kHasPics);
    for (unsigned i = 0; i < cpus; i++) {
        const auto id = static_cast<std::uint8_t>(i);
        table.add<std::uint8_t>(0).add<std::uint8_t>(8).add(id).add(id).add(kEnabled);
    }
    table.add<std::uint8_t>(1).add<std::uint8_t>(12).add<std::uint8_t>(0).add<std::uint8_t>(0);
    table.add(kIoApic).add<std::uint32_t>(0);
    add_override(table, kSci, kSci, kActiveHighLevel);
    // NMIs come on LINT1 of every CPU: 5.2.12.7.
    table.add<std::uint8_t>(4).add<std::uint8_t>(6).add<std::uint8_t>(0xff);
    table.add<std::uint16_t>(0).add<std::uint8_t>(1);
    return finish(table);
}

/// 5.2.5.3.
Table make_rsdp(std::uint64_t xsdt)
{
    constexpr std::size_t kFirstLength = 20;
    constexpr std::uint32_t kLength = 36;
    constexpr std::size_t kFirstChecksum = 8;
    constexpr std::size_t kExtendedChecksum = 32;
    Table table;
    table.add_text("RSD PTR ").add<std::uint8_t>(0).add_text("MVMX  ").add<std::uint8_t>(2);
    table.add<std::uint32_t>(0).add(kLength).add(xsdt).add_zeros(4);
    table.set_checksum(kFirstChecksum, kFirstLength);
    table.set_checksum(kExtendedChecksum, kLength);
    return table;
}

} // namespace

std::uint64_t write_acpi_tables(const GuestMemory &memory, unsigned cpus)
{
    Shelf shelf(memory);
    const std::uint64_t dsdt = shelf.put(make_dsdt());
    Table xsdt = start_table("XSDT", 1);
    xsdt.add(shelf.put(make_fadt(dsdt)));
    xsdt.add(shelf.put(make_madt(cpus)));
    const Table rsdp = make_rsdp(shelf.put(finish(xsdt)));
    const auto place = memory.range(kAcpiTables, rsdp.size());
    std::copy(rsdp.bytes().begin(), rsdp.bytes().end(), place.begin());
    return kAcpiTables;
}

} // namespace minivmx::tool
