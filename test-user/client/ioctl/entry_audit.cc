// SPDX-License-Identifier: GPL-2.0-only
//
// MINIVMX_GET_ENTRY_AUDIT: what it refuses. What it says of entries that fail: ../breakage.
#include "ioctl_test.hpp"

using namespace kvm;

namespace {

struct OneVcpu {
    Device device;
    Vm vm{device};
    Vcpu vcpu{device, vm};
};

} // namespace

TEST(entry_audit_none)
{
    // KVM has no such ioctl, and says so.
    const int none = test::options.reference() ? EINVAL : ENOENT;
    OneVcpu one;
    minivmx_entry_audit audit = {};
    EXPECT_ERRNO(call(one.vcpu, MINIVMX_GET_ENTRY_AUDIT, &audit), none);
    audit.count = ~0u;
    EXPECT_ERRNO(call(one.vcpu, MINIVMX_GET_ENTRY_AUDIT, &audit), none);
}

TEST(entry_audit_bad_arguments)
{
    OneVcpu one;
    EXPECT_ERRNO(call(one.vcpu, MINIVMX_GET_ENTRY_AUDIT, nullptr),
                 test::options.reference() ? EINVAL : EFAULT);
    minivmx_entry_audit audit = {};
    audit.pad = 1;
    EXPECT_ERRNO(call(one.vcpu, MINIVMX_GET_ENTRY_AUDIT, &audit), EINVAL);
    audit = {};
    audit.reserved[3] = 1;
    EXPECT_ERRNO(call(one.vcpu, MINIVMX_GET_ENTRY_AUDIT, &audit), EINVAL);
    // It is a vCPU's, and this number belongs to nobody.
    EXPECT_ERRNO(call(one.vm, MINIVMX_GET_ENTRY_AUDIT, &audit), ENOTTY);
    EXPECT_ERRNO(call(one.vcpu, _IO(MINIVMX_IO, 0xee)), EINVAL);
}
