// SPDX-License-Identifier: GPL-2.0-only
//
// Makes VM entry fail and reads the dump from the kernel's log.
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

Words dump_one(Device &device, unsigned exits, bool cpuid, Apic apic)
{
    Memory memory(G_SIZE);
    Vm vm(device);
    if (exits)
        REQUIRE_OK(vm.enable_cap(KVM_CAP_X86_DISABLE_EXITS, exits));
    REQUIRE_OK(vm.set_slot(0, 0, G_SIZE, memory.base));
    if (apic != Apic::kUserSpace)
        REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
    Vcpu vcpu(device, vm);
    if (cpuid) {
        Cpuid list;
        Cpuid::supported(device, list);
        REQUIRE_OK(call(vcpu, KVM_SET_CPUID2, list.list));
    }
    // 64-bit mode with an FS base that no CPU accepts (Intel SDM Vol. 3C, 27.3.1.2).
    kvm_sregs s = vcpu.sregs();
    guest::make_sregs_for(guest::Mode::kLong, s);
    guest::write_tables_for(guest::Mode::kLong, memory);
    s.fs.base = 1ULL << 63;
    if (apic == Apic::kX2apic)
        s.apic_base |= 1 << 10; // EXTD: Intel SDM Vol. 3A, 11.12.1
    vcpu.set(s);
    Log log;
    REQUIRE_OK(vcpu.enter());
    uint32_t reason = vcpu.run->exit_reason;
    REQUIRE(reason == KVM_EXIT_FAIL_ENTRY || reason == KVM_EXIT_INTERNAL_ERROR);
    Words words;
    for (std::string line; log.next(line);)
        parse_dump_line(line, words);
    return words;
}

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
    Device device;
    for (; *rows; rows++) {
        unsigned exits = 0, cpuid = 0, apic = 0;
        if (sscanf(*rows, "%u:%u:%u", &exits, &cpuid, &apic) != 3 || apic > 2)
            return 2;
        Words words = dump_one(device, exits, cpuid != 0, static_cast<Apic>(apic));
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
