// SPDX-License-Identifier: GPL-2.0-only
#include "run_command.hpp"

#include "board.hpp"
#include "guest_setup.hpp"
#include "minivmx.h"
#include "number.hpp"
#include "output.hpp"
#include "run_report.hpp"
#include "runner.hpp"
#include "streams.hpp"

#include <array>

namespace minivmx::tool {
namespace {

/// The options as they were typed.
struct RunOptions {
    std::string file;
    std::string device = MINIVMX_DEVICE;
    std::string mode;
    std::string memory = "64M";
    std::string load;
    std::string entry;
    std::string cpus = "1";
    std::string timeout = "0";
    std::string debug_port = fmt::format("{:#x}", GUEST_PORT_DEBUG);
    std::string input;
    std::string registers = "general";
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

Exit status: 0 the guest ended well; 1 it could not be run, or crashed; 2 an option or the file is
wrong; 3 it wrote another status than 0 to port 0xf4; 124 --timeout; 130 Ctrl-C or another signal.)";

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

GuestRequest make_request(const RunOptions &options)
{
    GuestRequest request;
    request.file = options.file;
    if (!options.mode.empty())
        request.mode = parse_mode(options.mode);
    request.memory_size = parse_size("--mem", options.memory, kLeastMemory, kMostMemory);
    request.load = optional_address("--load", options.load);
    request.entry = optional_address("--entry", options.entry);
    request.cpus = static_cast<unsigned>(parse_number("--cpus", options.cpus, 1, GUEST_CPUS_MAX));
    return request;
}

std::unique_ptr<ByteSource> make_input(const std::string &path)
{
    if (path.empty())
        return std::make_unique<NoSource>();
    return std::make_unique<FileSource>(path);
}

class RunCommand : public Command {
  public:
    explicit RunCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    RunReport run_on_device(const GuestPlan &plan, Board &board, const RunLimits &limits) const;
    ExitStatus run_for_person(const GuestRequest &request, const RunLimits &limits);
    ExitStatus run_for_program(const GuestRequest &request, const RunLimits &limits);

    RunOptions given_;
    RegisterDetail detail_ = RegisterDetail::kGeneral;
    std::uint16_t debug_port_ = 0;
    std::unique_ptr<ByteSource> input_;
};

RunCommand::RunCommand(CLI::App &app)
    : Command(app, "run", "Run a guest program on /dev/minivmx or /dev/kvm")
{
    CLI::App &o = options();
    o.add_option("FILE", given_.file, "A flat binary")->required();
    o.add_option("-m,--mode", given_.mode,
                 "The mode it starts in: real, protected, paged, pae, long, reset");
    o.add_option("--mem", given_.memory, "The guest's memory, 1M to 3G")->capture_default_str();
    o.add_option("-d,--device", given_.device, "The device that runs it")->capture_default_str();
    o.add_option("--load", given_.load, "Where in its memory the file goes");
    o.add_option("--entry", given_.entry, "Where it starts, if not at the file's first byte");
    o.add_option("--cpus", given_.cpus, "How many vCPUs start at the entry, 1 to 16")
        ->capture_default_str();
    o.add_option("-i,--input", given_.input,
                 "What the guest receives on its serial port; - is the standard input");
    o.add_option("--debug-port", given_.debug_port, "The port of the debug console")
        ->capture_default_str();
    o.add_option("-t,--timeout", given_.timeout, "Stop it after so many seconds; 0 never does")
        ->capture_default_str();
    o.add_option("--regs", given_.registers, "Registers to show at the end: none, general, all")
        ->capture_default_str();
    o.add_flag("--allow-shutdown", given_.allow_shutdown, "A triple fault is a good end");
    o.add_flag("--trace", given_.trace, "A line on standard error for each exit");
    o.add_flag("--json", given_.json, "One JSON object on standard output instead of text");
    o.footer(kFooter);
}

ExitStatus RunCommand::execute()
{
    const GuestRequest request = make_request(given_);
    RunLimits limits;
    limits.timeout_ms = parse_seconds("--timeout", given_.timeout);
    limits.allow_shutdown = given_.allow_shutdown;
    limits.trace = given_.trace;
    detail_ = parse_detail(given_.registers);
    debug_port_ =
        static_cast<std::uint16_t>(parse_number("--debug-port", given_.debug_port, 0, 0xffff));
    input_ = make_input(given_.input);
    return given_.json ? run_for_program(request, limits) : run_for_person(request, limits);
}

RunReport RunCommand::run_on_device(const GuestPlan &plan, Board &board,
                                    const RunLimits &limits) const
{
    const Device device(given_.device);
    Vm vm(device);
    const GuestRam ram = build_ram(plan);
    const auto vcpus = build_vcpus(plan, ram, vm);
    return run_guest(vcpus, board, limits);
}

ExitStatus RunCommand::run_for_person(const GuestRequest &request, const RunLimits &limits)
{
    const GuestPlan plan = plan_guest(request);
    StreamSink serial(stdout);
    StreamSink debug(stderr);
    Board board(serial, *input_, debug, debug_port_);
    const RunReport report = run_on_device(plan, board, limits);
    fmt::print(stderr, "{}", run_text(report, detail_));
    if (serial.failed())
        fail("cannot write the guest's output to standard output");
    return report.status;
}

ExitStatus RunCommand::run_for_program(const GuestRequest &request, const RunLimits &limits)
{
    const GuestPlan plan = plan_guest(request);
    StringSink serial;
    StringSink debug;
    Board board(serial, *input_, debug, debug_port_);
    const RunReport report = run_on_device(plan, board, limits);
    print_json(run_json(request, plan, given_.device, report, board.exit_status(), serial.text(),
                        debug.text()));
    return report.status;
}

} // namespace

std::unique_ptr<Command> make_run_command(CLI::App &app)
{
    return std::make_unique<RunCommand>(app);
}

} // namespace minivmx::tool
