// SPDX-License-Identifier: GPL-2.0-only
#include "marks.hpp"

namespace minivmx::tool {
namespace {

void magic_breakpoint()
{
    asm volatile("xchg %%bx, %%bx" ::: "memory");
}

} // namespace

BenchMarking &bench_marking()
{
    static BenchMarking marking;
    return marking;
}

BenchMarks::BenchMarks(const BenchVm *vm) : vm_(vm)
{
    if (!bench_marking().on || vm_ == nullptr)
        return;
    before_ = vm->exits();
    magic_breakpoint();
}

BenchMarks::~BenchMarks()
{
    if (!bench_marking().on || vm_ == nullptr)
        return;
    magic_breakpoint();
    bench_marking().exits.reset();
    if (const auto after = vm_->exits(); after && before_)
        bench_marking().exits = *after - *before_;
}

} // namespace minivmx::tool
