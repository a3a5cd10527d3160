// SPDX-License-Identifier: GPL-2.0-only
#include "run_command.hpp"

#include "board.hpp"
#include "guest_setup.hpp"
#include "input_pump.hpp"
#include "linux_guest.hpp"
#include "minivmx.h"
#include "number.hpp"
#include "output.hpp"
#include "raw_terminal.hpp"
#include "run_report.hpp"
#include "runner.hpp"
#include "streams.hpp"

#include <array>

namespace minivmx::tool {
namespace {

/// The options as they were typed.
struct RunOptions {
    std::string file;
    std::string kernel;
    std::string initrd;
    std::string cmdline;
    std::string device = MINIVMX_DEVICE;
    std::string mode;
    std::string memory; // empty: what suits the guest
    std::string load;
    std::string entry;
    std::string cpus = "1";
    std::string timeout = "0";
    std::string debug_port = fmt::format("{:#x}", GUEST_PORT_DEBUG);
    std::string input;
    std::string registers; // likewise
    bool allow_shutdown = false;
    bool trace = false;
    bool json = false;
};

constexpr const char *kFooter = R"(
FILE is put into the guest's memory and started: at 0x7c00 in real mode (a boot sector runs as it
is), at 1 MiB in the other modes; in mode reset it is a firmware image that ends at 4 GiB. Without
--mode, the file's own note decides (the guests that come with minivmx have one), else it is real.

What the guest writes to the serial port 0x3f8 goes to standard output; the debug port's bytes and
the report at the end go to standard error. The guest ends with HLT, or by writing a status to port
0xf4.

With --kernel, a Linux kernel (a 64-bit bzImage) is started instead of a FILE, on a board with the
PC's interrupt controllers, a timer, the serial port as its console, and ACPI to turn it off. Its
console reads standard input unless --input says otherwise; on a terminal, Ctrl-] ends the run.

Exit status: 0 the guest ended well (a kernel: it turned the machine off, or reset it); 1 it could
not be run, or crashed; 2 an option or the file is wrong; 3 it wrote another status than 0 to port
0xf4; 124 --timeout; 130 Ctrl-C or another signal.)";

std::optional<std::uint64_t> optional_address(const char *option, const std::string &text)
{
    if (text.empty())
        return std::nullopt;
    return parse_size(option, text, 0, kMostMemory - 1);
}

RegisterDetail parse_detail(const std::string &text)
{
    if (text == "none")
        return RegisterDetail::kNone;
    if (text == "general")
        return RegisterDetail::kGeneral;
    if (text == "all")
        return RegisterDetail::kAll;
    fail_usage("--regs: '{}' is not known, expected none, general, all", text);
}

/// Refuses options that mean nothing for the kind of guest that was asked for.
void check_kind(const RunOptions &given)
{
    if (given.file.empty() == given.kernel.empty())
        fail_usage("{}", given.file.empty() ? "FILE or --kernel is missing"
                                            : "FILE: with --kernel there is none");
    const auto refuse = [](const char *option, const std::string &value, const char *why) {
        if (!value.empty())
            fail_usage("{}: '{}' is not for {}", option, value, why);
    };
    if (given.kernel.empty()) {
        refuse("--initrd", given.initrd, "a FILE, but for --kernel");
        refuse("--cmdline", given.cmdline, "a FILE, but for --kernel");
        return;
    }
    refuse("--mode", given.mode, "--kernel, which starts in 64-bit mode");
    refuse("--load", given.load, "--kernel, whose file says where it goes");
    refuse("--entry", given.entry, "--kernel, whose file says where it starts");
}

GuestRequest make_request(const RunOptions &options)
{
    GuestRequest request;
    request.file = options.file;
    if (!options.mode.empty())
        request.mode = parse_mode(options.mode);
    request.memory_size = parse_size("--mem", options.memory.empty() ? "64M" : options.memory,
                                     kLeastMemory, kMostMemory);
    request.load = optional_address("--load", options.load);
    request.entry = optional_address("--entry", options.entry);
    request.cpus = static_cast<unsigned>(parse_number("--cpus", options.cpus, 1, GUEST_CPUS_MAX));
    return request;
}

LinuxRequest make_linux_request(const RunOptions &options)
{
    LinuxRequest request;
    request.kernel = options.kernel;
    request.initrd = options.initrd;
    request.cmdline = options.cmdline.empty() ? "console=ttyS0" : options.cmdline;
    request.memory_size = parse_size("--mem", options.memory.empty() ? "256M" : options.memory,
                                     kLeastMemory, kMostMemory);
    request.cpus = static_cast<unsigned>(parse_number("--cpus", options.cpus, 1, GUEST_CPUS_MAX));
    return request;
}

/// What the guest wrote, and where it goes.
struct Outputs {
    ByteSink &serial;
    ByteSink &debug;
};

struct Outcome {
    RunReport report;
    std::optional<std::uint32_t> guest_status;
};

class RunCommand : public Command {
  public:
    explicit RunCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    Outcome run_flat(const GuestPlan &plan, const Outputs &outputs) const;
    Outcome run_linux(const LinuxPlan &plan, const Outputs &outputs) const;
    template <typename Request, typename Plan, typename Run>
    ExitStatus report(const Request &request, const Plan &plan, Run run) const;

    RunOptions given_;
    RunLimits limits_;
    RegisterDetail detail_ = RegisterDetail::kGeneral;
    std::uint16_t debug_port_ = 0;
};

RunCommand::RunCommand(CLI::App &app)
    : Command(app, "run", "Run a guest program on /dev/minivmx or /dev/kvm")
{
    CLI::App &o = options();
    o.add_option("FILE", given_.file, "A flat binary");
    o.add_option("-k,--kernel", given_.kernel, "A Linux kernel (bzImage) to boot, instead of FILE");
    o.add_option("--initrd", given_.initrd, "The kernel's initial ram disk");
    o.add_option("--cmdline", given_.cmdline, "The kernel's command line (console=ttyS0)");
    o.add_option("-m,--mode", given_.mode,
                 "The mode it starts in: real, protected, paged, pae, long, reset");
    o.add_option("--mem", given_.memory, "The guest's memory, 1M to 3G (64M; a kernel: 256M)");
    o.add_option("-d,--device", given_.device, "The device that runs it")->capture_default_str();
    o.add_option("--load", given_.load, "Where in its memory the file goes");
    o.add_option("--entry", given_.entry, "Where it starts, if not at the file's first byte");
    o.add_option("--cpus", given_.cpus, "How many vCPUs there are, 1 to 16")->capture_default_str();
    o.add_option("-i,--input", given_.input,
                 "What the guest receives on its serial port; - is the standard input, a kernel's "
                 "default");
    o.add_option("--debug-port", given_.debug_port, "The port of the debug console")
        ->capture_default_str();
    o.add_option("-t,--timeout", given_.timeout, "Stop it after so many seconds; 0 never does")
        ->capture_default_str();
    o.add_option("--regs", given_.registers,
                 "Registers to show at the end: none, general, all (general; a kernel: none)");
    o.add_flag("--allow-shutdown", given_.allow_shutdown, "A triple fault is a good end");
    o.add_flag("--trace", given_.trace, "A line on standard error for each exit");
    o.add_flag("--json", given_.json, "One JSON object on standard output instead of text");
    o.footer(kFooter);
}

ExitStatus RunCommand::execute()
{
    check_kind(given_);
    const bool is_linux = !given_.kernel.empty();
    limits_.timeout_ms = parse_seconds("--timeout", given_.timeout);
    limits_.allow_shutdown = given_.allow_shutdown;
    limits_.trace = given_.trace;
    const std::string usual_detail = is_linux ? "none" : "general";
    detail_ = parse_detail(given_.registers.empty() ? usual_detail : given_.registers);
    debug_port_ =
        static_cast<std::uint16_t>(parse_number("--debug-port", given_.debug_port, 0, 0xffff));
    if (!is_linux) {
        const GuestRequest request = make_request(given_);
        const GuestPlan plan = plan_guest(request);
        return report(request, plan,
                      [&](const Outputs &outputs) { return run_flat(plan, outputs); });
    }
    const LinuxRequest request = make_linux_request(given_);
    const LinuxPlan plan = plan_linux(request);
    return report(request, plan, [&](const Outputs &outputs) { return run_linux(plan, outputs); });
}

Outcome RunCommand::run_flat(const GuestPlan &plan, const Outputs &outputs) const
{
    std::unique_ptr<ByteSource> input;
    if (given_.input.empty())
        input = std::make_unique<NoSource>();
    else
        input = std::make_unique<FileSource>(given_.input);
    const Device device(given_.device);
    Vm vm(device);
    Board board(outputs.serial, *input, outputs.debug, debug_port_);
    const GuestRam ram = build_ram(plan);
    const auto vcpus = build_vcpus(plan, ram, vm);
    RunReport report = run_guest(vcpus, board, limits_);
    return {std::move(report), board.exit_status()};
}

Outcome RunCommand::run_linux(const LinuxPlan &plan, const Outputs &outputs) const
{
    FileSource input(given_.input.empty() ? "-" : given_.input);
    const Device device(given_.device);
    const Vm vm(device);
    vm.reserve_tss(kTssAddress);
    vm.create_interrupt_controllers();
    SerialLine line(vm);
    Board board(outputs.serial, input, outputs.debug, debug_port_);
    board.make_pc(line);
    const GuestMemory ram = build_linux_ram(plan);
    const auto vcpus = build_linux_vcpus(plan, ram, vm);
    const RawTerminal terminal(input.fd());
    const InputPump pump(board, input.fd());
    RunReport report = run_guest(vcpus, board, limits_);
    return {std::move(report), board.exit_status()};
}

/// Runs it, and tells a person or a program how it went.
template <typename Request, typename Plan, typename Run>
ExitStatus RunCommand::report(const Request &request, const Plan &plan, Run run) const
{
    if (given_.json) {
        StringSink serial;
        StringSink debug;
        const Outcome outcome = run(Outputs{serial, debug});
        print_json(run_json(subject_json(request, plan, given_.device), outcome.report,
                            outcome.guest_status, serial.text(), debug.text()));
        return outcome.report.status;
    }
    StreamSink serial(stdout);
    StreamSink debug(stderr);
    const Outcome outcome = run(Outputs{serial, debug});
    fmt::print(stderr, "{}", run_text(outcome.report, detail_));
    if (serial.failed())
        fail("cannot write the guest's output to standard output");
    return outcome.report.status;
}

} // namespace

std::unique_ptr<Command> make_run_command(CLI::App &app)
{
    return std::make_unique<RunCommand>(app);
}

} // namespace minivmx::tool
