// SPDX-License-Identifier: GPL-2.0-only
//
// The guest that does what an operating system does to page tables: it switches processes, maps
// memory on demand, forks. With EPT that is the guest's own affair; without, the hypervisor shadows
// it.
//
// paging_guest.cc is compiled for itself, into a section of its own that runs anywhere: in the
// guest at kPagingCode, and nowhere else. Whoever runs it sets `processes` and `pages`, then calls
// paging_setup() once.
#pragma once

#include <cstdint>

namespace minivmx::tool {

constexpr std::uint64_t kPagingCode = 0x110000;
constexpr std::uint64_t kPagingState = 0x120000;

constexpr unsigned kPagingProcesses = 64;
/// So many pages a process touches whenever it runs.
constexpr unsigned kPagingTouched = 16;
/// As many as are mapped on demand, or protected, in one go.
constexpr unsigned kPagingRange = 64;

/// One process: the tables of its own, by address. Everything below 512 GiB is the kernel's, and
/// mapped to where it is.
struct PagingProcess {
    std::uint64_t pml4;
    std::uint64_t pdpt;
    std::uint64_t directory;
    std::uint64_t table;
};

/// What the guest knows, at kPagingState.
struct PagingState {
    std::uint32_t processes; ///< there are so many
    std::uint32_t pages;     ///< each has so many at the start
    std::uint32_t faults;    ///< the guest's #PFs
    std::uint32_t current;   ///< of those in `all`
    std::uint64_t table;     ///< of the process that runs
    std::uint64_t unused;    ///< the next page that nobody has ever had
    std::uint64_t free;      ///< the first page that was given back; it says which is the next
    PagingProcess all[kPagingProcesses];
};

// Where a guest may start, all on the stack of a caller in the guest.

/// Makes the processes, and each writes its pages.
void paging_setup();
/// MOV to CR3: the next process runs, and writes kPagingTouched of its pages.
void paging_switch();
/// A process writes kPagingRange pages that it doesn't have: each is mapped in its #PF. Then all
/// are unmapped.
void paging_demand();
/// A process makes a child, which has its pages until it writes them. Both write kPagingTouched of
/// them, then the child ends.
void paging_fork();
/// kPagingRange pages are made read-only and are read, then they are made writable and are written.
void paging_protect();

/// The handler of #PF, for the IDT.
void paging_fault();

} // namespace minivmx::tool

/// The section's bounds, by the linker.
extern "C" const std::uint8_t __start_bench_paging[], __stop_bench_paging[];
