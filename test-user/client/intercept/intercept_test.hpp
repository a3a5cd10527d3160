// SPDX-License-Identifier: GPL-2.0-only
//
// What the files of intercept_test share: requests of MINIVMX_SET_INTERCEPTS, and a question each.
#pragma once

#include "../guest/guest_test.hpp"

// SDM Vol. 3D, Appendix C.
enum Reason : uint32_t {
    kExceptionOrNmi = 0,
    kInterruptWindow = 7,
    kNmiWindow = 8,
    kHlt = 12,
    kInvlpg = 14,
    kRdpmc = 15,
    kRdtsc = 16,
    kCrAccess = 28,
    kDrAccess = 29,
    kPort = 30,
    kRdmsr = 31,
    kWrmsr = 32,
    kMwait = 36,
    kMonitorTrapFlag = 37,
    kMonitor = 39,
    kPause = 40,
    kGdtrIdtr = 46,
    kLdtrTr = 47,
    kRdtscp = 51,
    kWbinvd = 54,
    kRdrand = 57,
    kInvpcid = 58,
    kRdseed = 61,
};

inline int set_intercepts(const Vcpu &vcpu, const minivmx_intercepts &asked)
{
    return call(vcpu, MINIVMX_SET_INTERCEPTS, &asked);
}

inline int set_intercepts(const Vcpu &vcpu, uint64_t controls)
{
    minivmx_intercepts asked = {};
    asked.controls = controls;
    return set_intercepts(vcpu, asked);
}

inline int set_exceptions(const Vcpu &vcpu, uint32_t exceptions)
{
    minivmx_intercepts asked = {};
    asked.exceptions = exceptions;
    return set_intercepts(vcpu, asked);
}

// False: this CPU lacks the control. Anything else that goes wrong ends the test.
inline bool can_set_intercepts(const Vcpu &vcpu, uint64_t controls)
{
    if (set_intercepts(vcpu, controls) == 0)
        return true;
    REQUIRE_EQ(errno, EOPNOTSUPP);
    return false;
}

inline minivmx_exit_intercept &facts(const Vcpu &vcpu)
{
    return *MINIVMX_INTERCEPT_FACTS(vcpu.run);
}

// Enters the guest; it must come back with this question, at this RIP.
inline void expect_question(int line, Guest &g, uint64_t control, uint32_t reason, uint64_t rip)
{
    if (!enter_until(line, g.vcpu, MINIVMX_EXIT_INTERCEPT))
        test::leave();
    const minivmx_exit_intercept &f = facts(g.vcpu);
    const uint64_t at = g.vcpu.regs().rip;
    if (f.control != control || f.exit_reason != reason || at != rip || f.answer)
        test::fail(__FILE__, line,
                   "question (expected control 0x%llx reason %u rip 0x%llx, got 0x%llx %u 0x%llx)",
                   static_cast<unsigned long long>(control), reason,
                   static_cast<unsigned long long>(rip), f.control, f.exit_reason,
                   static_cast<unsigned long long>(at));
}
#define EXPECT_QUESTION(g, control, reason, rip) expect_question(__LINE__, g, control, reason, rip)

inline void answer_skip(Guest &g)
{
    facts(g.vcpu).answer = MINIVMX_ANSWER_SKIP;
}

inline void answer_inject(Guest &g, uint32_t vector, uint32_t error_code = 0, uint64_t payload = 0)
{
    minivmx_exit_intercept &f = facts(g.vcpu);
    f.answer = MINIVMX_ANSWER_INJECT;
    f.vector = vector;
    f.error_code = error_code;
    f.payload = payload;
}
