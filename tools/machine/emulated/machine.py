# SPDX-License-Identifier: GPL-2.0-only
"""One run of the machine: build the CD, start the emulator, follow what it prints, judge the end."""

import os
import re
import selectors
import shlex
import shutil
import sys
import tempfile
import termios
import threading
import time
import tty
from dataclasses import dataclass, field
from pathlib import Path

from . import bundle, image, initramfs, kernel
from .bochs import MODELS_WITHOUT_FSRM, Bochs, Hardware
from .console import Lines, Watch
from .errors import MachineError, run_tool

HERE = Path(__file__).resolve().parent.parent
STARTED = "@machine started"
EXIT = re.compile(r"^@machine exit (\d+)$")
# After a panic the rest of its trace is still on its way; after the script, the power has to go off.
SECONDS_AFTER_PANIC = 3
SECONDS_TO_POWER_OFF = 60
# Set by whoever wants every running machine to end: a signal handler, in a program with several threads.
stop_all = threading.Event()


@dataclass
class Job:
    """What to run. files: (host path or bytes, path in the machine); crash_script: run by a crash kernel after a panic."""

    kernel: str = "lean"
    hardware: Hardware = field(default_factory=Hardware)
    script: bytes = b""
    files: list = field(default_factory=list)
    carries: list = field(default_factory=list)  # names of bundles
    modules: list = field(default_factory=list)
    cmdline: str = ""
    timeout: float = 300
    allow: list = field(default_factory=list)
    crash_script: bytes = None
    environment: dict = field(default_factory=dict)  # variables the script sees
    console_level: int = 6
    interactive: bool = False
    emulator_log: Path = None  # where to leave the emulator's own log
    trace: Path = None         # where to leave the instructions between magic breakpoints (trace.py)


@dataclass
class Outcome:
    status: int             # the script's exit status, or 1 if the machine failed
    seconds: float
    failure: str = ""       # why the machine failed, a sentence; empty if it did not
    faults: list = field(default_factory=list)  # lines of the kernel's log that should not be there


def run(job, on_console=None, on_output=None, on_stage=None):
    """Runs `job` and returns its Outcome.

    on_console and on_output get each line of the kernel's log and of the script, on_stage each step that begins.
    """
    begin = time.monotonic()
    stage = on_stage or (lambda text: None)
    stage(f"kernel {job.kernel}")
    chosen = kernel.find(job.kernel)
    with tempfile.TemporaryDirectory(prefix="minivmx-machine-") as directory:
        stage(f"image of {chosen.release}")
        iso = _build_image(job, chosen, directory)
        stage(f"boot on {job.hardware.cpu}, {job.hardware.cpus} CPU{'s' * (job.hardware.cpus > 1)}")
        emulator = Bochs(job.hardware, iso, directory, tracing=job.trace is not None)
        session = _Session(job, emulator, on_console, on_output, stage)
        try:
            failure = session.follow()
        finally:
            session.close()
            if job.emulator_log and emulator.log.exists():
                shutil.copy(emulator.log, job.emulator_log)
    status = session.status if session.status is not None else 1
    return Outcome(status, time.monotonic() - begin, failure, session.watch.faults)


def _build_image(job, chosen, directory):
    init = (HERE / "init").read_text()
    files = [*job.files]
    for name in job.carries:
        files += bundle.files(name)
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in job.environment.items())
    files.append((exports.encode(), "/etc/environment"))
    if job.interactive:
        files.append((b"", "/interactive"))
    if job.script or not job.interactive:
        files.append((job.script, "/script"))
    cmdline = command_line(job, chosen)
    if job.crash_script is not None:
        crash_files = [(job.crash_script, "/script"), (exports.encode(), "/etc/environment")]
        crash = initramfs.build(chosen, init, crash_files, job.modules)
        files += [(chosen.bzimage, "/boot/bzImage"), (crash, "/boot/crash-initrd"),
                  (crash_command_line(job, chosen).encode() + b"\n", "/boot/crash-cmdline")]
        files.append((_compile(HERE / "kexec-load.c", directory), "/bin/kexec-load"))
        cmdline += f" crashkernel={max(128, job.hardware.megabytes // 4)}M"
    archive = initramfs.build(chosen, init, files, job.modules)
    return image.build(directory, chosen.image, archive, cmdline)


def _compile(source, directory):
    """A static program from one C file."""
    program = Path(directory) / source.stem
    run_tool("gcc", "-O2", "-static", "-o", program, source)
    return program


def command_line(job, chosen):
    """The kernel's command line for `job`."""
    # Level 6 shows the line a kernel begins with, by which a reset is noticed. The TSC counts instructions; some
    # models announce another frequency by CPUID, and a kernel that believes them has a clock far too slow.
    words = ["console=ttyS0,115200", f"loglevel={job.console_level}", "panic=0", "random.trust_cpu=on",
             f"tsc_early_khz={job.hardware.ips // 1000}", chosen.cmdline]
    if job.hardware.cpu in MODELS_WITHOUT_FSRM:
        words.append("clearcpuid=fsrm")
    if job.hardware.cpus > 1:
        words.append("idle=halt")  # from MWAIT a CPU of Bochs 2.7 may not wake up before its next timer interrupt
    return " ".join([*words, job.cmdline]).strip()


def crash_command_line(job, chosen):
    """The crash kernel's: it runs on one CPU, the others were stopped where they were."""
    return f"{command_line(job, chosen)} nr_cpus=1 irqpoll reset_devices"


class _Session:
    """Follows one emulator from power on to power off."""

    def __init__(self, job, bochs, on_console, on_output, stage):
        self.watch = Watch(job.allow, boots=1 if job.crash_script is None else 2)
        self.status = None
        self._job = job
        self._bochs = bochs
        self._stage = stage
        self._console = Lines()
        self._output = Lines()
        self._on_console = on_console or (lambda line: None)
        self._on_output = on_output or (lambda line: None)
        self._trace = open(job.trace, "wb") if job.trace else None
        self._started = False
        self._deadline = time.monotonic() + job.timeout
        self._selector = selectors.SelectSelector()  # takes a file or /dev/null as the keyboard, epoll does not
        for descriptor, handler in ((bochs.console, self._from_console), (bochs.second, self._from_output),
                                    (bochs.screen, self._from_screen)):
            self._selector.register(descriptor, selectors.EVENT_READ, handler)
        self._keyboard = _Keyboard(self._selector, bochs.console) if job.interactive else None

    def close(self):
        if self._keyboard:
            self._keyboard.close()
        self._bochs.stop()
        if self._trace:
            self._trace.close()
        self._selector.close()

    def follow(self):
        """Returns when the machine is off or has failed: the failure as a sentence, or an empty string."""
        panicked = None
        while True:
            idle = not self._read(0.2)
            now = time.monotonic()
            if self.watch.fatal and panicked is None:
                panicked = now
            if panicked is not None and now > panicked + SECONDS_AFTER_PANIC:
                return self._failure(self.watch.fatal)
            if idle and not self._bochs.running:
                return self._at_power_off()
            if stop_all.is_set():
                return "interrupted"
            if now > self._deadline:
                return self._failure(self._late())

    def _late(self):
        if self.status is not None:
            return f"the machine did not power off within {SECONDS_TO_POWER_OFF} s"
        where = "in the script" if self._started else "while booting"
        return f"timeout: still {where} after {self._job.timeout:.0f} s"

    def _at_power_off(self):
        if self.watch.fatal:
            return self._failure(self.watch.fatal)
        if self.status is None:
            where = "in the script" if self._started else "while booting"
            return self._failure(f"the machine stopped {where}: {self._bochs.reason()}")
        return ""

    def _failure(self, text):
        if self._console.unfinished:
            self._on_console(self._console.unfinished)
        return text

    def _read(self, timeout):
        events = self._selector.select(timeout)
        for key, _ in events:
            try:
                data = os.read(key.fd, 65536)
            except (BlockingIOError, OSError):
                continue
            key.data(data)
        return events

    def _from_screen(self, data):
        if self._trace:
            self._trace.write(data)
        display = self._bochs.open_display(data)
        if display is not None:
            self._selector.register(display, selectors.EVENT_READ, lambda picture: self._from_display(display, picture))

    def _from_display(self, display, picture):
        if not picture:  # the emulator has ended
            self._selector.unregister(display)

    def _from_console(self, data):
        if self._job.interactive and self._started:
            os.write(sys.stdout.fileno(), data)
        for line in self._console.feed(data):
            self.watch.line(line)
            if not (self._job.interactive and self._started):
                self._on_console(line)

    def _from_output(self, data):
        for line in self._output.feed(data):
            ended = EXIT.match(line)
            if line == STARTED:
                self._begin_script()
            elif ended:
                self.status = int(ended.group(1))
                self._stage("power off")
                self._deadline = min(self._deadline, time.monotonic() + SECONDS_TO_POWER_OFF)
            else:
                self._on_output(line)

    def _begin_script(self):
        self._started = True
        self.watch.booting = False
        if self._keyboard:
            self._stage("shell (type exit, or Ctrl-D, to power off)")
            self._keyboard.open()
            self._deadline = float("inf")
        else:
            self._stage("script")


class _Keyboard:
    """Carries the user's key strokes to the machine's console."""

    def __init__(self, selector, console):
        self._selector = selector
        self._console = console
        self._input = sys.stdin.fileno()
        self._saved = None

    def open(self):
        if os.isatty(self._input):
            self._saved = termios.tcgetattr(self._input)
            tty.setraw(self._input)
        self._selector.register(self._input, selectors.EVENT_READ, self._forward)

    def close(self):
        if self._saved is not None:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._saved)

    def _forward(self, data):
        if not data:  # end of input: say so to the shell, once
            self._selector.unregister(self._input)
            data = b"\x04"
        os.write(self._console, data)
