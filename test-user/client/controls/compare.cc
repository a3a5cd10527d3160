// SPDX-License-Identifier: GPL-2.0-only
//
// The rows of both modules side by side.
//
// A list of known differences has a line each:  MODEL PARAMS EXITS CPUID APIC WORD KVM OURS
// REASON... with * for any model, parameters, exits, CPUID or APIC. A known difference must be
// there, exactly so.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "controls.hpp"

namespace {

struct Known {
    std::string model, params, exits, cpuid, apic, word, reason;
    uint64_t kvm = 0, ours = 0;
    bool fits(const char *in_model, const Row &row, const char *in_word) const
    {
        auto match = [](const std::string &pattern, const std::string &value) {
            return pattern == "*" || pattern == value;
        };
        return match(model, in_model) && match(params, row.params) &&
               match(exits, std::to_string(row.exits)) && match(cpuid, row.cpuid ? "1" : "0") &&
               match(apic, std::to_string(static_cast<unsigned>(row.apic))) && word == in_word;
    }
};

bool read_rows(const char *path, std::map<Row, Words> &rows)
{
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        Row row;
        unsigned cpuid = 0, apic = 0;
        if (!(words >> row.params >> row.exits >> cpuid >> apic))
            return false;
        row.cpuid = cpuid != 0;
        row.apic = static_cast<Apic>(apic);
        for (std::string word; words >> word;) {
            size_t equals = word.find('=');
            if (equals == std::string::npos)
                return false;
            rows[row][word.substr(0, equals)] = strtoull(word.c_str() + equals + 1, nullptr, 16);
        }
    }
    return !rows.empty();
}

bool read_known(const char *path, std::vector<Known> &list)
{
    std::ifstream file(path);
    if (!file)
        return false;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line[0] == '#')
            continue;
        std::istringstream words(line);
        Known k;
        if (!(words >> k.model >> k.params >> k.exits >> k.cpuid >> k.apic >> k.word >> std::hex >>
              k.kvm >> k.ours))
            return false;
        std::getline(words >> std::ws, k.reason);
        list.push_back(k);
    }
    return true;
}

// What differs in one row, as text; empty if nothing does but what is known.
std::string differences(const char *model, const Row &row, const Words &kvm, const Words &ours,
                        const std::vector<Known> &list)
{
    std::string text;
    char part[128];
    for (const char *word : kWords) {
        auto a = kvm.find(word), b = ours.find(word);
        if (a == kvm.end() || b == ours.end()) {
            snprintf(part, sizeof(part), "%s%s was not printed by %s", text.empty() ? "" : "; ",
                     word, a == kvm.end() ? "kvm_intel" : "minivmx");
            text += part;
            continue;
        }
        uint64_t expected = a->second;
        const Known *known = nullptr;
        for (const Known &k : list)
            if (k.fits(model, row, word))
                known = &k;
        if (known && (known->kvm != a->second || known->ours != b->second)) {
            snprintf(part, sizeof(part), "%s%s: the known difference %lx/%lx is now %lx/%lx",
                     text.empty() ? "" : "; ", word, known->kvm, known->ours, a->second, b->second);
            text += part;
        } else if (!known && b->second != expected) {
            snprintf(part, sizeof(part), "%s%s (expected 0x%lx, got 0x%lx, differing in 0x%lx)",
                     text.empty() ? "" : "; ", word, expected, b->second, b->second ^ expected);
            text += part;
        }
    }
    return text;
}

} // namespace

int compare_files(const char *model, const char *reference, const char *ours_path,
                  const char *known_path)
{
    std::map<Row, Words> kvm, ours;
    std::vector<Known> known;
    if (!read_rows(reference, kvm) || !read_rows(ours_path, ours) ||
        !read_known(known_path, known)) {
        printf("not ok - controls %s: unreadable rows or list of known differences\n", model);
        return 1;
    }
    const Row by_default{"default", 0, false, Apic::kUserSpace};
    int failed = 0, same_as_default = 0;
    for (const auto &[row, words] : kvm) {
        auto mine = ours.find(row);
        std::string what = mine == ours.end() ? "minivmx has no such row"
                                              : differences(model, row, words, mine->second, known);
        bool counts = row == by_default || words != kvm[by_default] ||
                      (mine != ours.end() && mine->second != ours[by_default]);
        if (!what.empty()) {
            printf("not ok - controls %s %s: %s\n", model, row.name().c_str(), what.c_str());
            failed = 1;
        } else if (counts)
            printf("ok - controls %s %s\n", model, row.name().c_str());
        else
            same_as_default++;
    }
    if (ours.size() != kvm.size()) {
        printf("not ok - controls %s: %zu rows of kvm_intel, %zu of minivmx\n", model, kvm.size(),
               ours.size());
        failed = 1;
    }
    printf("# controls %s: %zu rows, %d of them equal to the default row\n", model, kvm.size(),
           same_as_default);
    return failed;
}
