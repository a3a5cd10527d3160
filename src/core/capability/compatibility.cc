// SPDX-License-Identifier: GPL-2.0-only
//
// Are two CPUs of one machine alike? A vCPU moves between them with one set of control words.
#include <minivmx/vmcs_config.hpp>

namespace minivmx {

namespace {

/// What the words of a control mean, in one or two bits per control: "may be 1", "must be 1".
const char *setting_name(const AllowedSettings &allowed, u64 mask)
{
    if (allowed.may_be_1(mask))
        return allowed.may_be_0(mask) ? "available" : "always on";
    return "absent";
}

Status differs(SetupLog &log)
{
    return Status::failure(Errno::kIo, log.error.c_str());
}

void begin_sentence(const Hardware &reference, const HostDesc &host, SetupLog &log)
{
    log.error.clear();
    log.error.put("CPU ", host.cpu, " differs from CPU ", reference.host.cpu, ": ");
}

void end_sentence(SetupLog &log)
{
    log.error.put(". A vCPU could not move between them");
}

/// Bits of the word whose allowed settings differ and that have a name; those without a name are
/// never used, so they can differ.
u64 differing_bits(const HostDesc &a, const HostDesc &b, ControlField field)
{
    const AllowedSettings one = true_allowed_settings(a.msr, field);
    const AllowedSettings other = true_allowed_settings(b.msr, field);
    u64 known = 0;
    for (const ControlBit &row : control_bits_of(field))
        known |= row.mask();
    return ((one.allowed0 ^ other.allowed0) | (one.allowed1 ^ other.allowed1)) & known;
}

Status compare_word(const Hardware &reference, const HostDesc &host, ControlField field,
                    SetupLog &log)
{
    const u64 differing = differing_bits(reference.host, host, field);
    if (differing == 0)
        return Status::success();
    const ControlWordInfo &word = control_word_info(field);
    begin_sentence(reference, host, log);
    for (u64 rest = differing; rest != 0; rest &= rest - 1) {
        const u64 mask = rest & (~rest + 1);
        if (rest != differing)
            log.error.put(", ");
        log.error.put(word.slug, " bit ", lowest_bit(mask), " (");
        put_control_names(log.error, field, mask, "");
        log.error.put(") is ", setting_name(true_allowed_settings(host.msr, field), mask), ", not ",
                      setting_name(true_allowed_settings(reference.host.msr, field), mask));
    }
    log.error.put("; ", msr_name(word.msr), " (", hex(word.msr), ") is ",
                  hex(host.msr[word.msr], 16), " and ", hex(reference.host.msr[word.msr], 16));
    end_sentence(log);
    return differs(log);
}

/// Capability MSRs that hold no controls but decide what a VMCS may contain. Not here:
/// IA32_VMX_VMCS_ENUM and IA32_VMX_VMFUNC, which only describe what the controls tell already.
constexpr u32 kComparedMsrs[] = {
    MSR_IA32_VMX_BASIC,      MSR_IA32_VMX_MISC,       MSR_IA32_VMX_EPT_VPID_CAP,
    MSR_IA32_VMX_CR0_FIXED0, MSR_IA32_VMX_CR0_FIXED1, MSR_IA32_VMX_CR4_FIXED0,
    MSR_IA32_VMX_CR4_FIXED1,
};

Status compare_msrs(const Hardware &reference, const HostDesc &host, SetupLog &log)
{
    for (const u32 msr : kComparedMsrs) {
        const u64 one = host.msr[msr];
        const u64 other = reference.host.msr[msr];
        if (one == other)
            continue;
        begin_sentence(reference, host, log);
        log.error.put(msr_name(msr), " (", hex(msr), ") is ", hex(one, 16), " and ", hex(other, 16),
                      ", lowest differing bit ", lowest_bit(one ^ other));
        end_sentence(log);
        return differs(log);
    }
    return Status::success();
}

/// The negotiated words can differ with equal MSRs: errata go by model, ENCLS exiting by SGX.
Status compare_negotiated(const Hardware &reference, const HostDesc &host, const vmcs_config &conf,
                          SetupLog &log)
{
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlField field = static_cast<ControlField>(i);
        const u64 differing = reference.config.control(field) ^ conf.control(field);
        if (differing == 0)
            continue;
        begin_sentence(reference, host, log);
        log.error.put("of the ", control_word_info(field).name, " controls it would use ",
                      hex(conf.control(field), 8), ", not ",
                      hex(reference.config.control(field), 8), ", because of ");
        put_control_names(log.error, field, differing, ", ");
        end_sentence(log);
        return differs(log);
    }
    return Status::success();
}

} // namespace

Status check_processor_compatibility(const Hardware &reference, const HostDesc &host, SetupLog &log)
{
    // kvm_intel answers -EIO here, whatever is wrong with a CPU that is not the first.
    if (check_vmx_support(host, log).failed())
        return differs(log);
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        Status status = compare_word(reference, host, static_cast<ControlField>(i), log);
        if (status.failed())
            return status;
    }
    if (Status status = compare_msrs(reference, host, log); status.failed())
        return status;

    vmcs_config conf;
    vmx_capability cap;
    SetupLog quiet; // CPU 0's warnings were printed; the same ones again tell nothing new
    Status status = setup_vmcs_config(host, reference.asked, conf, cap, quiet);
    if (status.failed()) {
        log.error.clear();
        log.error.put("CPU ", host.cpu, ": ", quiet.error);
        return differs(log);
    }
    return compare_negotiated(reference, host, conf, log);
}

} // namespace minivmx
