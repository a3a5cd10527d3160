// SPDX-License-Identifier: GPL-2.0-only
#include "stat/statistics.hpp"

#include "number.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace minivmx::tool {
namespace {

/// Adds up counters under a name, of both readings.
class Sums {
  public:
    void add(const std::string &name, std::uint64_t before, std::uint64_t now)
    {
        Sum &sum = sums_[name];
        sum.total += now;
        // A vCPU of the same name that is younger counts from 0.
        sum.more += now >= before ? now - before : now;
    }
    /// In the order of the names, or the most frequent first.
    std::vector<Rate> rates(double seconds, bool sorted) const
    {
        std::vector<Rate> rates;
        for (const auto &[name, sum] : sums_)
            rates.push_back(
                {name, sum.total, seconds > 0 ? static_cast<double>(sum.more) / seconds : 0});
        if (sorted)
            std::stable_sort(rates.begin(), rates.end(), [](const Rate &a, const Rate &b) {
                return std::pair(a.per_second, a.total) > std::pair(b.per_second, b.total);
            });
        return rates;
    }

  private:
    struct Sum {
        std::uint64_t total = 0, more = 0;
    };
    std::map<std::string, Sum> sums_;
};

std::uint64_t count_of(const Counters &counters, const std::string &name)
{
    const auto found = counters.find(name);
    return found == counters.end() ? 0 : found->second;
}

std::string vm_name(const VcpuCounters &vcpu)
{
    return fmt::format("{}/{} {}", vcpu.name.pid, vcpu.name.vm, vcpu.process);
}

std::string vcpu_name(const VcpuCounters &vcpu)
{
    return vcpu.name.text() + " " + vcpu.process;
}

std::string per_second_text(double rate)
{
    if (rate > 0 && rate < 10)
        return fmt::format("{:.1f}", rate);
    return grouped(static_cast<std::uint64_t>(std::llround(rate)));
}

/// Of all exits: of those between the readings, or of the totals where there is one reading.
double share(const Statistics &s, const Rate &rate)
{
    const double all =
        s.seconds > 0 ? s.all_exits.per_second : static_cast<double>(s.all_exits.total);
    const double part = s.seconds > 0 ? rate.per_second : static_cast<double>(rate.total);
    return all > 0 ? 100 * part / all : 0;
}

std::string row(const Statistics &s, const Rate &rate, const std::string &share_text)
{
    std::string text = fmt::format("{:<30}", rate.name);
    if (s.seconds > 0)
        text += fmt::format(" {:>12}", per_second_text(rate.per_second));
    return text + fmt::format(" {:>8} {:>16}\n", share_text, grouped(rate.total));
}

std::string header(const Statistics &s, const char *what)
{
    return fmt::format("{:<30}{} {:>8} {:>16}\n", what,
                       s.seconds > 0 ? fmt::format(" {:>12}", "per second") : "", "share", "total");
}

std::string exit_rows(const Statistics &s, const std::vector<Rate> &rates, std::size_t most)
{
    std::string text;
    for (std::size_t i = 0; i < rates.size() && i < most; i++)
        text += row(s, rates[i], fmt::format("{:.1f} %", share(s, rates[i])));
    if (rates.size() > most)
        text += fmt::format("... and {} more\n", rates.size() - most);
    return text;
}

nlohmann::ordered_json rates_json(const Statistics &s, const std::vector<Rate> &rates)
{
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    for (const Rate &rate : rates) {
        json[rate.name]["total"] = rate.total;
        if (s.seconds > 0)
            json[rate.name]["per_second"] = rate.per_second;
    }
    return json;
}

} // namespace

Statistics make_statistics(const std::vector<VcpuCounters> &before,
                           const std::vector<VcpuCounters> &now, double seconds)
{
    static const VcpuCounters kNothing = {};
    std::map<VcpuName, const VcpuCounters *> earlier;
    for (const VcpuCounters &vcpu : before)
        earlier[vcpu.name] = &vcpu;

    Sums exits, events, by_vm, by_vcpu, all;
    std::set<std::pair<std::uint64_t, std::uint64_t>> vms;
    for (const VcpuCounters &vcpu : now) {
        const auto found = earlier.find(vcpu.name);
        const VcpuCounters &was = found == earlier.end() ? kNothing : *found->second;
        vms.emplace(vcpu.name.pid, vcpu.name.vm);
        by_vm.add(vm_name(vcpu), 0, 0); // a row, even without exits
        by_vcpu.add(vcpu_name(vcpu), 0, 0);
        for (const auto &[reason, count] : vcpu.exits) {
            const std::uint64_t had = count_of(was.exits, reason);
            exits.add(reason, had, count);
            by_vm.add(vm_name(vcpu), had, count);
            by_vcpu.add(vcpu_name(vcpu), had, count);
            all.add("all exits", had, count);
        }
        for (const auto &[event, count] : vcpu.events)
            events.add(event, count_of(was.events, event), count);
    }
    const std::vector<Rate> sum = all.rates(seconds, false);
    return {.seconds = seconds,
            .vms = vms.size(),
            .vcpus = now,
            .exits = exits.rates(seconds, true),
            .events = events.rates(seconds, false),
            .by_vm = by_vm.rates(seconds, true),
            .by_vcpu = by_vcpu.rates(seconds, true),
            .all_exits = sum.empty() ? Rate{"all exits", 0, 0} : sum.front()};
}

std::string statistics_text(const Statistics &s, StatRows rows, std::size_t most_rows)
{
    if (s.vcpus.empty())
        return "no vCPU\n";
    std::string text = fmt::format("{} VM{}, {} vCPU{}\n\n", s.vms, s.vms == 1 ? "" : "s",
                                   s.vcpus.size(), s.vcpus.size() == 1 ? "" : "s");
    const std::vector<Rate> &rates = rows == StatRows::kReason ? s.exits
                                     : rows == StatRows::kVm   ? s.by_vm
                                                               : s.by_vcpu;
    text += header(s, rows == StatRows::kReason ? "exits by reason"
                      : rows == StatRows::kVm   ? "exits of VM"
                                                : "exits of vCPU");
    text += exit_rows(s, rates, most_rows);
    text += row(s, s.all_exits, "");
    text += "\n";
    for (const Rate &event : s.events)
        if (event.total != 0)
            text += row(s, event, "");
    return text;
}

nlohmann::ordered_json statistics_json(const Statistics &s)
{
    nlohmann::ordered_json json;
    json["seconds"] = s.seconds;
    json["exits"] = rates_json(s, s.exits);
    json["all_exits"] = rates_json(s, {s.all_exits})[s.all_exits.name];
    json["events"] = rates_json(s, s.events);
    json["vcpus"] = nlohmann::ordered_json::array();
    for (const VcpuCounters &vcpu : s.vcpus) {
        nlohmann::ordered_json one;
        one["name"] = vcpu.name.text();
        one["pid"] = vcpu.name.pid;
        one["vm"] = vcpu.name.vm;
        one["vcpu"] = vcpu.name.vcpu;
        one["process"] = vcpu.process;
        one["exits"] = vcpu.exits;
        one["events"] = vcpu.events;
        json["vcpus"].push_back(one);
    }
    return json;
}

} // namespace minivmx::tool
