// SPDX-License-Identifier: GPL-2.0-only
// The ranges that were registered on a bus: the part of devices.hpp that its files share.
#pragma once

#include <minivmx/devices.hpp>
#include <minivmx/host_guard.hpp>
#include <minivmx/vm.hpp>

namespace minivmx {

struct IoRange {
    u64 addr;
    u64 last;     // its last byte; of an ioeventfd without a length, addr
    u64 max_last; // the largest `last` up to here, so that a search can leave out a whole prefix
    u64 datamatch;
    host_eventfd *eventfd; // null: a coalesced range
    u32 len;               // 0: an ioeventfd without a length, or an empty range
    bool match_data;
};

// Immutable once it is current; ordered by addr, equal ones in the order they came.
struct IoBus {
    u32 count;
    u32 ioeventfds;

    IoRange *ranges() { return reinterpret_cast<IoRange *>(this + 1); }
    const IoRange *ranges() const { return reinterpret_cast<const IoRange *>(this + 1); }
};

enum class IoBusKind : u8 { kMmio, kPio };

inline IoBus *&bus_of(kvm_vm &kvm, IoBusKind kind)
{
    return kind == IoBusKind::kPio ? kvm.pio_bus : kvm.mmio_bus;
}

// How the bus becomes another one. -ENOMEM. [sleep], under the slots mutex.
int bus_add(kvm_vm &kvm, IoBusKind kind, const IoRange &added);
// Removes the ranges that match(range) picks and returns how many; drops their references.
int bus_remove(kvm_vm &kvm, IoBusKind kind, bool (*match)(const IoRange &range, const void *wanted),
               const void *wanted);
void bus_destroy(kvm_vm &kvm, IoBusKind kind);

// A guest's write of size bytes (at most 8). Whether somebody took it. [any but NMI]
bool bus_write(kvm_vm &kvm, IoBusKind kind, u64 addr, const void *data, u32 size);
// Whether an ioeventfd waits for this write. [any but NMI]
bool bus_signals(kvm_vm &kvm, IoBusKind kind, u64 addr, const void *data, u32 size);
// Into the ring. False: it is full.
bool coalesce_write(kvm_vm &kvm, IoBusKind kind, u64 addr, const void *data, u32 size);

} // namespace minivmx
