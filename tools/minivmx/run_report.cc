// SPDX-License-Identifier: GPL-2.0-only
#include "run_report.hpp"

#include "exit_text.hpp"

#include <fmt/format.h>

#include <numeric>

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;

std::string hex(std::uint64_t value)
{
    return fmt::format("{:#x}", value);
}

std::string exits_text(const CpuReport &cpu)
{
    const std::uint64_t total =
        std::accumulate(cpu.exits.begin(), cpu.exits.end(), std::uint64_t{0},
                        [](std::uint64_t sum, const auto &exit) { return sum + exit.second; });
    std::string text = fmt::format("{} exit{} to this VMM", total, total == 1 ? "" : "s");
    const char *separator = ": ";
    for (const auto &[reason, count] : cpu.exits) {
        text += fmt::format("{}{} {}", separator, count, exit_name(reason));
        separator = ", ";
    }
    return text;
}

Json segment_json(const kvm_segment &s)
{
    return {{"selector", s.selector},
            {"base", hex(s.base)},
            {"limit", s.limit},
            {"type", s.type},
            {"s", s.s},
            {"dpl", s.dpl},
            {"present", s.present},
            {"avl", s.avl},
            {"l", s.l},
            {"db", s.db},
            {"g", s.g},
            {"unusable", s.unusable}};
}

Json registers_json(const kvm_regs &r, const kvm_sregs &s)
{
    Json json;
    json["rax"] = hex(r.rax);
    json["rbx"] = hex(r.rbx);
    json["rcx"] = hex(r.rcx);
    json["rdx"] = hex(r.rdx);
    json["rsi"] = hex(r.rsi);
    json["rdi"] = hex(r.rdi);
    json["rbp"] = hex(r.rbp);
    json["rsp"] = hex(r.rsp);
    json["r8"] = hex(r.r8);
    json["r9"] = hex(r.r9);
    json["r10"] = hex(r.r10);
    json["r11"] = hex(r.r11);
    json["r12"] = hex(r.r12);
    json["r13"] = hex(r.r13);
    json["r14"] = hex(r.r14);
    json["r15"] = hex(r.r15);
    json["rip"] = hex(r.rip);
    json["rflags"] = hex(r.rflags);
    json["cr0"] = hex(s.cr0);
    json["cr2"] = hex(s.cr2);
    json["cr3"] = hex(s.cr3);
    json["cr4"] = hex(s.cr4);
    json["cr8"] = hex(s.cr8);
    json["efer"] = hex(s.efer);
    json["cs"] = segment_json(s.cs);
    json["ss"] = segment_json(s.ss);
    json["ds"] = segment_json(s.ds);
    json["es"] = segment_json(s.es);
    json["fs"] = segment_json(s.fs);
    json["gs"] = segment_json(s.gs);
    json["tr"] = segment_json(s.tr);
    json["ldt"] = segment_json(s.ldt);
    json["gdt"] = {{"base", hex(s.gdt.base)}, {"limit", s.gdt.limit}};
    json["idt"] = {{"base", hex(s.idt.base)}, {"limit", s.idt.limit}};
    return json;
}

Json cpu_json(std::size_t index, const CpuReport &cpu)
{
    Json exits = Json::object();
    for (const auto &[reason, count] : cpu.exits)
        exits[exit_name(reason)] = count;
    return {{"index", index},
            {"ending", ending_name(cpu.ending)},
            {"message", cpu.sentence},
            {"exits", exits},
            {"registers", registers_json(cpu.regs, cpu.sregs)}};
}

} // namespace

std::string run_text(const RunReport &report, RegisterDetail detail)
{
    std::string text = fmt::format("minivmx: {}\n", report.sentence);
    for (std::size_t i = 0; i < report.cpus.size(); i++) {
        const CpuReport &cpu = report.cpus[i];
        text +=
            fmt::format("vCPU {}: {}; {}\n", i,
                        cpu.sentence.empty() ? "it was stopped" : cpu.sentence, exits_text(cpu));
        if (detail != RegisterDetail::kNone)
            text += register_text(cpu.regs, cpu.sregs);
        if (detail == RegisterDetail::kAll)
            text += segment_text(cpu.sregs);
    }
    return text;
}

Json subject_json(const GuestRequest &request, const GuestPlan &plan, const std::string &device)
{
    Json json;
    json["file"] = request.file;
    json["device"] = device;
    json["mode"] = mode_name(plan.mode);
    json["memory"] = plan.memory_size;
    json["load"] = hex(plan.load);
    json["entry"] = hex(plan.entry);
    return json;
}

Json subject_json(const LinuxRequest &request, const LinuxPlan &plan, const std::string &device)
{
    Json json;
    json["file"] = request.kernel;
    json["device"] = device;
    json["mode"] = "linux";
    json["memory"] = plan.memory_size;
    json["load"] = hex(plan.kernel_at);
    json["initrd"] = request.initrd.empty() ? Json(nullptr) : Json(request.initrd);
    json["initrd_load"] = request.initrd.empty() ? Json(nullptr) : Json(hex(plan.initrd_at));
    json["cmdline"] = plan.cmdline;
    return json;
}

Json run_json(Json subject, const RunReport &report, std::optional<std::uint32_t> guest_status,
              const std::string &serial, const std::string &debug)
{
    Json json = std::move(subject);
    json["status"] = static_cast<int>(report.status);
    json["message"] = report.sentence;
    json["guest_status"] = guest_status ? Json(*guest_status) : Json(nullptr);
    json["serial"] = serial;
    json["debug"] = debug;
    json["vcpus"] = Json::array();
    for (std::size_t i = 0; i < report.cpus.size(); i++)
        json["vcpus"].push_back(cpu_json(i, report.cpus[i]));
    return json;
}

} // namespace minivmx::tool
