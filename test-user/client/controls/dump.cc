// SPDX-License-Identifier: GPL-2.0-only
//
// Makes VM entry fail and reads the dump from the kernel's log.
#include <optional>

#include "controls.hpp"

#include "../common/guest.hpp"

using namespace kvm;

namespace {

// The kernel's log from now on.
class Log {
  public:
    Log() : fd_(open("/dev/kmsg", O_RDONLY | O_NONBLOCK))
    {
        REQUIRE(fd_.get() >= 0);
        lseek(fd_.get(), 0, SEEK_END);
    }
    // The next message without its header; false at the end.
    bool next(std::string &line)
    {
        char record[2048];
        ssize_t size;
        do
            size = read(fd_.get(), record, sizeof(record) - 1);
        while (size < 0 && errno == EPIPE); // overrun: older records are gone
        if (size <= 0)
            return false;
        record[size] = 0;
        const char *text = strchr(record, ';');
        line = text ? text + 1 : record;
        return true;
    }

  private:
    Fd fd_;
};

uint64_t number_behind(const std::string &line, const char *key, bool &found)
{
    size_t at = line.find(key);
    found = at != std::string::npos;
    return found ? strtoull(line.c_str() + at + strlen(key), nullptr, 16) : 0;
}

// The vCPUs of rows that have the VM in common: making and destroying VMs takes most of the time.
class RowVm {
  public:
    RowVm(const Device &device, const Memory &memory, unsigned exits, bool irqchip)
        : vm_(device), exits_(exits), irqchip_(irqchip)
    {
        if (exits)
            REQUIRE_OK(vm_.enable_cap(KVM_CAP_X86_DISABLE_EXITS, exits));
        REQUIRE_OK(vm_.set_slot(0, 0, G_SIZE, memory.base));
        if (irqchip)
            REQUIRE_OK(call(vm_, KVM_CREATE_IRQCHIP));
    }
    bool serves(unsigned exits, bool irqchip) const
    {
        return exits == exits_ && irqchip == irqchip_;
    }
    Vcpu fresh_vcpu(const Device &device)
    {
        Vcpu vcpu(device, vm_, next_id_++);
        if (irqchip_) { // all but the first wait for INIT otherwise
            kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
            REQUIRE_OK(call(vcpu, KVM_SET_MP_STATE, &runnable));
        }
        return vcpu;
    }

  private:
    Vm vm_;
    unsigned exits_;
    bool irqchip_;
    unsigned long next_id_ = 0;
};

class Dumper {
  public:
    Dumper() : memory_(G_SIZE)
    {
        Cpuid::supported(device_, cpuid_);
        guest::write_tables_for(guest::Mode::kLong, memory_);
    }

    Words dump(unsigned exits, bool cpuid, Apic apic)
    {
        Vcpu vcpu = vm_for(exits, apic != Apic::kUserSpace).fresh_vcpu(device_);
        if (cpuid)
            REQUIRE_OK(call(vcpu, KVM_SET_CPUID2, cpuid_.list));
        // 64-bit mode with an FS base that no CPU accepts (Intel SDM Vol. 3C, 27.3.1.2).
        kvm_sregs s = vcpu.sregs();
        guest::make_sregs_for(guest::Mode::kLong, s);
        s.fs.base = 1ULL << 63;
        if (apic == Apic::kX2apic)
            s.apic_base |= 1 << 10; // EXTD: Intel SDM Vol. 3A, 11.12.1
        vcpu.set(s);
        Log log;
        REQUIRE_OK(vcpu.enter());
        const uint32_t reason = vcpu.run->exit_reason;
        REQUIRE(reason == KVM_EXIT_FAIL_ENTRY || reason == KVM_EXIT_INTERNAL_ERROR);
        Words words;
        for (std::string line; log.next(line);)
            parse_dump_line(line, words);
        return words;
    }

  private:
    // Rows come sorted by their exits, with and without an irqchip in turn.
    RowVm &vm_for(unsigned exits, bool irqchip)
    {
        std::optional<RowVm> &vm = vms_[irqchip];
        if (!vm || !vm->serves(exits, irqchip))
            vm.emplace(device_, memory_, exits, irqchip);
        return *vm;
    }

    Device device_;
    Memory memory_;
    Cpuid cpuid_;
    std::optional<RowVm> vms_[2];
};

} // namespace

void parse_dump_line(const std::string &line, Words &words)
{
    static const struct {
        const char *line, *key, *word;
    } kKeys[] = {
        {"PinBased=", "PinBased=0x", "pin"},
        {"CPUBased=", "CPUBased=0x", "primary"},
        {"SecondaryExec=", "SecondaryExec=0x", "secondary"},
        {"TertiaryExec=", "TertiaryExec=0x", "tertiary"},
        {"EntryControls=", "EntryControls=", "entry"},
        {"ExitControls=", "ExitControls=", "exit"},
        {"ExceptionBitmap=", "ExceptionBitmap=", "exceptions"},
        {"CR0: actual=", "gh_mask=", "cr0_mask"},
        {"CR4: actual=", "gh_mask=", "cr4_mask"},
    };
    for (const auto &key : kKeys) {
        bool found;
        if (line.find(key.line) == std::string::npos)
            continue;
        uint64_t value = number_behind(line, key.key, found);
        if (found)
            words[key.word] = value;
    }
}

int dump_rows(const char *device_name, const char *params, char **rows)
{
    test::options.device = device_name;
    static test::Verdict verdict;
    test::verdict = &verdict;
    Dumper dumper;
    for (; *rows; rows++) {
        unsigned exits = 0, cpuid = 0, apic = 0;
        if (sscanf(*rows, "%u:%u:%u", &exits, &cpuid, &apic) != 3 || apic > 2)
            return 2;
        Words words = dumper.dump(exits, cpuid != 0, static_cast<Apic>(apic));
        printf("%s %u %u %u", params, exits, cpuid, apic);
        for (const char *word : kWords)
            if (words.count(word))
                printf(" %s=%lx", word, words[word]);
        printf("\n");
        if (verdict.state == test::Verdict::kFailed) {
            fprintf(stderr, "%s: %s\n", device_name, verdict.why);
            return 1;
        }
    }
    return 0;
}
