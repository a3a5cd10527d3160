// SPDX-License-Identifier: GPL-2.0-only
//
// Runs in the guest: no library, no constants outside of the code, no variables but the state's.
// How it has to be compiled is in CMakeLists.txt. Entries of page tables: SDM Vol. 3A, 4.5.
#include "paging_guest.hpp"

// Nothing may end up elsewhere, so there are neither templates nor lambdas here.
#define GUEST __attribute__((section("bench_paging")))

namespace minivmx::tool {
namespace {

/// The CPU and the handler of #PF change entries, too.
using Entry = volatile std::uint64_t;

constexpr unsigned kEntries = 512;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kAddress = 0xffffffffff000;

constexpr std::uint64_t kPresent = 1 << 0;
constexpr std::uint64_t kWritable = 1 << 1;
constexpr std::uint64_t kUser = 1 << 2;
constexpr std::uint64_t kAccessed = 1 << 5;
constexpr std::uint64_t kDirty = 1 << 6;
constexpr std::uint64_t kCopied = 1
                                  << 9; // ignored by the CPU: the page is another's, copy on write
constexpr std::uint64_t kTable = kPresent | kWritable | kUser;
constexpr std::uint64_t kMapped = kTable | kAccessed | kDirty;

/// The processes' memory: what the second entry of a PML4 maps.
constexpr std::uint64_t kProcessMemory = std::uint64_t{1} << 39;
/// Where the range for memory on demand begins, in pages.
constexpr unsigned kDemanded = 128;

GUEST PagingState &state()
{
    return *reinterpret_cast<PagingState *>(kPagingState);
}

GUEST Entry *entries(std::uint64_t table)
{
    return reinterpret_cast<Entry *>(table);
}

GUEST std::uint64_t cr3()
{
    std::uint64_t value;
    asm volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}

GUEST void set_cr3(std::uint64_t value)
{
    asm volatile("mov %0, %%cr3" ::"r"(value) : "memory");
}

GUEST void flush_page(std::uint64_t address)
{
    asm volatile("invlpg (%0)" ::"r"(address) : "memory");
}

GUEST void clear_page(std::uint64_t page)
{
    std::uint64_t words = kPage / 8;
    asm volatile("rep stosq" : "+D"(page), "+c"(words) : "a"(0) : "memory");
}

GUEST void copy_page(std::uint64_t to, std::uint64_t from)
{
    std::uint64_t words = kPage / 8;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
}

GUEST std::uint64_t get_page()
{
    PagingState &s = state();
    const std::uint64_t page = s.free;
    if (page == 0) {
        s.unused += kPage;
        return s.unused - kPage;
    }
    s.free = *entries(page);
    return page;
}

GUEST void put_page(std::uint64_t page)
{
    *entries(page) = state().free;
    state().free = page;
}

GUEST std::uint64_t get_table()
{
    const std::uint64_t table = get_page();
    clear_page(table);
    return table;
}

GUEST void make_process(PagingProcess &process)
{
    process = {get_table(), get_table(), get_table(), get_table()};
    entries(process.pml4)[0] = entries(cr3() & kAddress)[0];
    entries(process.pml4)[1] = process.pdpt | kTable;
    entries(process.pdpt)[0] = process.directory | kTable;
    entries(process.directory)[0] = process.table | kTable;
}

GUEST void end_process(const PagingProcess &process)
{
    for (unsigned i = 0; i < kEntries; i++) {
        const std::uint64_t entry = entries(process.table)[i];
        if ((entry & kPresent) != 0 && (entry & kCopied) == 0)
            put_page(entry & kAddress);
    }
    put_page(process.table);
    put_page(process.directory);
    put_page(process.pdpt);
    put_page(process.pml4);
}

GUEST void run_process(const PagingProcess &process)
{
    state().table = process.table;
    set_cr3(process.pml4);
}

GUEST volatile std::uint32_t &word_of(unsigned page)
{
    return *reinterpret_cast<volatile std::uint32_t *>(kProcessMemory + page * kPage);
}

GUEST void write_pages(unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        word_of(i) = word_of(i) + 1;
}

GUEST void read_pages(unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        [[maybe_unused]] const std::uint32_t word = word_of(i);
}

} // namespace

extern "C" __attribute__((used)) GUEST void bench_paging_fault(std::uint64_t address,
                                                               std::uint64_t error_code)
{
    Entry &entry = entries(state().table)[address / kPage % kEntries];
    state().faults++;
    if ((error_code & kPresent) == 0) { // SDM Vol. 3A, 4.7: bit 0 says that it was
        const std::uint64_t page = get_page();
        clear_page(page);
        entry = page | kMapped;
        return;
    }
    if ((entry & kCopied) != 0) {
        const std::uint64_t page = get_page();
        copy_page(page, entry & kAddress);
        entry = page | kMapped;
    } else {
        entry = entry | kWritable | kDirty;
    }
    flush_page(address);
}

/// Saves what a C++ function need not, and hands it CR2 and the error code, which it removes.
__attribute__((naked)) GUEST void paging_fault()
{
    asm("push %rax; push %rcx; push %rdx; push %rsi; push %rdi\n"
        "push %r8; push %r9; push %r10; push %r11\n"
        "mov %cr2, %rdi; mov 72(%rsp), %rsi; call bench_paging_fault\n"
        "pop %r11; pop %r10; pop %r9; pop %r8\n"
        "pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax\n"
        "add $8, %rsp; iretq");
}

GUEST void paging_setup()
{
    PagingState &s = state();
    for (unsigned i = 0; i < s.processes; i++) {
        make_process(s.all[i]);
        run_process(s.all[i]);
        write_pages(0, s.pages);
    }
    s.current = s.processes - 1;
}

GUEST void paging_switch()
{
    PagingState &s = state();
    s.current = s.current + 1 < s.processes ? s.current + 1 : 0;
    run_process(s.all[s.current]);
    write_pages(0, kPagingTouched);
}

GUEST void paging_demand()
{
    write_pages(kDemanded, kPagingRange);
    Entry *table = entries(state().table);
    for (unsigned i = kDemanded; i < kDemanded + kPagingRange; i++) {
        put_page(table[i] & kAddress);
        table[i] = 0;
    }
    set_cr3(cr3());
}

GUEST void paging_fork()
{
    const PagingProcess &parent = state().all[0];
    PagingProcess child;
    make_process(child);
    Entry *from = entries(parent.table);
    Entry *to = entries(child.table);
    for (unsigned i = 0; i < kEntries; i++) {
        const std::uint64_t shared = from[i] & ~(kWritable | kDirty);
        if ((shared & kPresent) != 0) {
            to[i] = shared | kCopied;
            from[i] = shared;
        }
    }
    set_cr3(parent.pml4);
    run_process(child);
    write_pages(0, kPagingTouched);
    run_process(parent);
    write_pages(0, kPagingTouched);
    end_process(child);
    for (unsigned i = 0; i < kEntries; i++) // the pages are its own again
        if ((from[i] & (kPresent | kWritable)) == kPresent)
            from[i] = from[i] | kWritable;
    set_cr3(parent.pml4);
}

GUEST void paging_protect()
{
    Entry *table = entries(state().table);
    for (unsigned i = 0; i < kPagingRange; i++)
        table[i] = table[i] & ~kWritable;
    set_cr3(cr3());
    read_pages(0, kPagingRange);
    for (unsigned i = 0; i < kPagingRange; i++)
        table[i] = table[i] | kWritable;
    set_cr3(cr3());
    write_pages(0, kPagingRange);
}

} // namespace minivmx::tool
