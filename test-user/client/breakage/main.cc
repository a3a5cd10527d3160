// SPDX-License-Identifier: GPL-2.0-only
//
// breakage_test: see breakage.hpp. Beside test lines it prints what happened at each mark:
//   entered MARK: NAME
//   failed MARK: NAME, broken FIELD, reason R, error E, audit FIELD FIELD ...
// The judge on the host compares that with the emulator's log, where the marks stand as well.
#include "breakage.hpp"

#include "../guest/guest_test.hpp"

#include <memory>
#include <string>

namespace breakage {

namespace {

constexpr uint64_t kInterruptsOn = 0x202;
constexpr uint32_t kFindings = 64;

const char *field_name(uint32_t encoding)
{
    switch (encoding) {
#define NAME(width, name, number)                                                                  \
    case number:                                                                                   \
        return #name;
        MINIVMX_VMCS_FIELDS(NAME)
#undef NAME
    case MINIVMX_BREAK_LAUNCHED:
        return "VMLAUNCH/VMRESUME";
    default:
        return "?";
    }
}

// ----- Guests ------------------------------------------------------------------------------------

// Says something for ever: each KVM_RUN ends with the next word.
Blob speaking(Mode mode)
{
    const Codes codes = CODES("1: out 0x10, al\n jmp 1b\n");
    return codes.in(mode);
}

Mode mode_of(Shape shape)
{
    switch (shape) {
    case Shape::kPae:
        return Mode::kPae;
    case Shape::kReal:
        return Mode::kReal;
    case Shape::kVirtual8086:
        return Mode::kPaged;
    default:
        return Mode::kLong;
    }
}

template <class Entry>
void let_users_in(Guest &guest)
{
    for (uint64_t at = G_TABLES; at < G_TABLES + 5 * kPage; at += sizeof(Entry))
        if (guest.memory.at<Entry>(at) & guest::kPresent)
            guest.memory.at<Entry>(at) |= guest::kUser;
}

void enter_user_mode(Guest &guest)
{
    let_users_in<uint64_t>(guest);
    kvm_sregs s = guest.vcpu.sregs();
    for (kvm_segment *segment : {&s.cs, &s.ss, &s.ds, &s.es, &s.fs, &s.gs}) {
        segment->dpl = 3;
        segment->selector |= 3;
    }
    guest.vcpu.set(s);
    kvm_regs r = guest.vcpu.regs();
    r.rflags = kInterruptsOn | 3 << 12; // IOPL 3: it may use ports
    guest.vcpu.set(r);
}

void enter_virtual_8086(Guest &guest)
{
    let_users_in<uint32_t>(guest);
    kvm_sregs s = guest.vcpu.sregs();
    for (kvm_segment *segment : {&s.cs, &s.ss, &s.ds, &s.es, &s.fs, &s.gs}) {
        *segment = {};
        segment->selector = segment == &s.cs ? G_CODE >> 4 : 0x1000;
        segment->base = uint64_t{segment->selector} << 4;
        segment->limit = 0xffff;
        segment->type = 3;
        segment->present = segment->s = 1;
        segment->dpl = 3;
    }
    // The task's I/O bitmap, all zeros: every port is free.
    guest.memory.at<uint16_t>(G_TSS + 0x66) = 0x68;
    s.tr.limit = 0x7f;
    guest.vcpu.set(s);
    kvm_regs r = guest.vcpu.regs();
    r.rip = 0;
    r.rsp = 0x1000;
    r.rflags = kInterruptsOn | 3 << 12 | 1 << 17;
    guest.vcpu.set(r);
}

std::unique_ptr<Guest> make_guest(Device &device, Shape shape)
{
    const Mode mode = mode_of(shape);
    const Blob code = speaking(shape == Shape::kVirtual8086 ? Mode::kReal : mode);
    auto guest = std::make_unique<Guest>(device, mode, code);
    guest->enter_mode(guest->vcpu, kInterruptsOn);
    if (shape == Shape::kUser)
        enter_user_mode(*guest);
    if (shape == Shape::kVirtual8086)
        enter_virtual_8086(*guest);
    return guest;
}

// ----- One entry ---------------------------------------------------------------------------------

struct Attempt {
    minivmx_breakage_result result = {};
    bool told = false; // MINIVMX_GET_ENTRY_AUDIT has answered
    minivmx_entry_audit audit = {};
    std::vector<minivmx_audit_finding> findings;
    int audit_errno = 0;
};

void read_audit(const Vcpu &vcpu, Attempt &attempt)
{
    attempt.findings.resize(kFindings);
    attempt.audit.count = kFindings;
    attempt.audit.findings = reinterpret_cast<uint64_t>(attempt.findings.data());
    attempt.told = call(vcpu, MINIVMX_GET_ENTRY_AUDIT, &attempt.audit) == 0;
    attempt.audit_errno = attempt.told ? 0 : errno;
    attempt.findings.resize(attempt.told ? attempt.audit.count : 0);
}

Attempt attempt_entry(const Vcpu &vcpu, const Base &base, const Breakage *breakage, uint32_t mark)
{
    minivmx_breakage request = {};
    request.mark = mark;
    request.must_fail = breakage != nullptr;
    memcpy(request.page, breakage && breakage->page[0] ? breakage->page : base.page,
           sizeof(request.page));
    for (const Write &write : base.writes)
        request.writes[request.count++] = write;
    if (breakage)
        request.writes[request.count++] = breakage->write;
    REQUIRE_OK(call(vcpu, MINIVMX_BREAK_ENTRY, &request));
    REQUIRE_OK(vcpu.enter());
    Attempt attempt;
    REQUIRE_OK(call(vcpu, MINIVMX_GET_BREAKAGE, &attempt.result));
    read_audit(vcpu, attempt);
    return attempt;
}

// ----- What has to come of it --------------------------------------------------------------------

// Why the base isn't good, or an empty string.
std::string fault_of_base(const Vcpu &vcpu, const Attempt &attempt)
{
    if (attempt.result.refused)
        return "false alarm: the audit expects it to fail";
    if (attempt.result.violated)
        return "false alarm: the audit has " + std::to_string(attempt.result.violated) +
               " complaints";
    if (attempt.result.entered != 1)
        return "it was not entered";
    if (vcpu.run->exit_reason != KVM_EXIT_IO)
        return std::string("KVM_EXIT_") + exit_name(vcpu.run->exit_reason);
    if (attempt.audit_errno != ENOENT)
        return "an audit is there, though nothing failed";
    return "";
}

bool names(const Attempt &attempt, uint32_t field)
{
    for (const minivmx_audit_finding &finding : attempt.findings)
        if (finding.field == field && !strcmp(finding.field_name, field_name(field)))
            return true;
    return false;
}

// Whether each finding is complete, and none tells a value of the host.
std::string fault_of_findings(const Attempt &attempt)
{
    for (const minivmx_audit_finding &finding : attempt.findings) {
        const bool host = vmcs_kind(finding.field) == VmcsKind::kHost;
        if (!finding.clause[0] || !finding.rule[0] || !finding.check[0] || !finding.bits)
            return std::string("an incomplete finding: ") + finding.check;
        if (host && (finding.flags & MINIVMX_AUDIT_HAS_VALUE || finding.value))
            return std::string("the client was told host state: ") + finding.field_name;
    }
    return "";
}

std::string fault_of_breakage(const Vcpu &vcpu, const Breakage &breakage, const Attempt &attempt)
{
    if (attempt.result.refused)
        return "the audit finds nothing; not tried, since host state is at risk";
    if (attempt.result.entered != 2 || vcpu.run->exit_reason != KVM_EXIT_FAIL_ENTRY)
        return "the entry did not fail";
    if (!attempt.told)
        return std::string("MINIVMX_GET_ENTRY_AUDIT: ") + test::errno_name(attempt.audit_errno);
    const uint64_t reason = vcpu.run->fail_entry.hardware_entry_failure_reason;
    if (reason != (attempt.audit.exit_reason ?: attempt.audit.instruction_error))
        return "KVM_EXIT_FAIL_ENTRY and the audit disagree about the reason";
    if (breakage.write.field == MINIVMX_BREAK_LAUNCHED)
        return attempt.audit.violated ? "false alarm: nothing is wrong with the fields" : "";
    const uint32_t field = breakage.blamed ? breakage.blamed : breakage.write.field;
    if (!names(attempt, field))
        return std::string("the audit does not name ") + field_name(field);
    return fault_of_findings(attempt);
}

// ----- The whole table ---------------------------------------------------------------------------

class Proof {
  public:
    explicit Proof(std::string only) : only_(std::move(only)) {}

    void run(const Group &group)
    {
        if (!allowed(group.base.needs))
            return;
        make_ready(group.base.shape, group.base.fresh);
        if (!group.base.not_entered)
            try_base(group.base);
        for (const Breakage &breakage : group.breakages)
            if (allowed(breakage.needs) && strstr(breakage.name, only_.c_str()))
                try_breakage(group.base, breakage);
    }
    void finish()
    {
        printf("tried %u bases, %u breakages\n", bases_, breakages_);
        EXPECT(breakages_ > 0);
    }

  private:
    // What the CPU allows, which every vCPU can tell.
    bool allowed(const Needs &needs)
    {
        if (!needs.bits)
            return true;
        make_ready(Shape::kLong);
        minivmx_controls controls = {};
        if (call(guest_->vcpu, MINIVMX_GET_CONTROLS, &controls) && errno != E2BIG) {
            fail("controls", "MINIVMX_GET_CONTROLS failed");
            return false;
        }
        return ((controls.allowed1[needs.word] & needs.bits) == needs.bits) != needs.absent;
    }

    void make_ready(Shape shape, bool fresh = false)
    {
        if (guest_ && shape_ == shape && !fresh)
            return;
        guest_.reset(); // one vCPU at a time can be broken
        guest_ = make_guest(device_, shape);
        shape_ = shape;
        if (fresh)
            return;
        // Its pages are there, and its VMCS is launched.
        REQUIRE_OK(guest_->vcpu.enter());
        REQUIRE_EQ(guest_->vcpu.run->exit_reason, uint32_t{KVM_EXIT_IO});
    }

    void try_base(const Base &base)
    {
        const Attempt attempt = attempt_entry(guest_->vcpu, base, nullptr, ++mark_);
        const std::string fault = fault_of_base(guest_->vcpu, attempt);
        bases_++;
        printf("entered %u: %s\n", mark_, base.name);
        tell(base.name, "is entered, and the audit is silent", fault);
        for (const minivmx_audit_finding &finding : attempt.findings)
            printf("    %s: %s\n", finding.field_name, finding.rule);
    }

    void try_breakage(const Base &base, const Breakage &breakage)
    {
        const Attempt attempt = attempt_entry(guest_->vcpu, base, &breakage, ++mark_);
        if (breakage.unseen) {
            printf("entered %u: %s\n", mark_, breakage.name);
            const bool as_expected = attempt.result.violated && attempt.result.entered == 1;
            tell(breakage.name, "is entered in spite of the audit",
                 as_expected ? "" : "the emulator looks at it, too");
            return;
        }
        breakages_++;
        printf("failed %u: %s, broken %s, reason %x, error %u, audit", mark_, breakage.name,
               field_name(breakage.write.field), attempt.audit.exit_reason,
               attempt.audit.instruction_error);
        for (const minivmx_audit_finding &finding : attempt.findings)
            printf(" %s", finding.field_name);
        printf("\n");
        tell(breakage.name, "fails, and the audit says where",
             fault_of_breakage(guest_->vcpu, breakage, attempt));
    }

    void tell(const char *name, const char *what, const std::string &fault)
    {
        if (fault.empty())
            printf("ok - breakage.%s: %s\n", name, what);
        else
            fail(name, fault);
    }
    void fail(const char *name, const std::string &fault)
    {
        printf("not ok - breakage.%s: %s\n", name, fault.c_str());
    }

    std::string only_;
    Device device_;
    std::unique_ptr<Guest> guest_;
    Shape shape_ = Shape::kLong;
    uint32_t mark_ = 0, bases_ = 0, breakages_ = 0;
};

} // namespace

} // namespace breakage

// All of it, or the breakages whose name contains what follows "--".
TEST_LIMIT(all_tried, 600)
{
    breakage::Proof proof(test::options.args.empty() ? "" : test::options.args[0]);
    for (const auto &groups :
         {breakage::control_groups(), breakage::exit_and_entry_groups(), breakage::host_groups(),
          breakage::register_groups(), breakage::segment_groups(), breakage::state_groups()})
        for (const breakage::Group &group : groups)
            proof.run(group);
    proof.finish();
}

int main(int argc, char **argv)
{
    setvbuf(stdout, nullptr, _IOLBF, 0);
    return test::run_all(argc, argv, "breakage");
}
