# SPDX-License-Identifier: GPL-2.0-only
"""Counts what is on the path of each kind of exit, for kvm_intel and for minivmx in one boot.

`minivmx bench --mark` runs a few windows of each case between two magic breakpoints; trace.py cuts what the debugger
prints there. An interrupt of the host may come between: of windows the shortest counts, as in the benchmark, of exits the
median one.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from . import kernel as kernels
from . import trace
from .bochs import Hardware
from .errors import MachineError
from .machine import Job, run
from .symbols import Symbols, dump_command, read_dump

DEVICES = ("/dev/kvm", "/dev/minivmx")
DEVICE = re.compile(r"^@device (\S+)$")
MARKED = re.compile(r"^marked (\S+) (\d+)$")
LISTED = re.compile(r"^([a-z0-9-]+) +(\S.*)$")
TIMEOUT = 600
MOST_FUNCTIONS = 12  # of a path in the JSON
# Without SMP's lock prefixes, which a kernel with one CPU removes from itself, nothing could be said of machines with
# more. kvm_intel can't have PML here, so neither gets it.
CMDLINE = "noreplace-smp"
PARAMS = {"/dev/kvm": "pml=0", "/dev/minivmx": "report=0 pml=0"}


@dataclass(frozen=True)
class Kind:
    """How a case of `minivmx bench` is cut. exits: in one window, another number is an error; None: as many as it takes.

    each_exit: a path leads from an exit to the next VM entry; otherwise from one reading of the clock to the next, and
    the window holds so many operations.
    """

    exits: int = None
    each_exit: bool = False
    operations: int = 1


IN_KERNEL = Kind(exits=8, each_exit=True)
TO_USER = Kind(exits=1)
FROM_EVENT = Kind()
FIRST_TOUCH = Kind(each_exit=True)
KINDS = {
    **dict.fromkeys(("cpuid", "vmcall", "rdmsr", "wrmsr", "cr0-write", "ioeventfd"), IN_KERNEL),
    **dict.fromkeys(("pio-out", "pio-in"), TO_USER), "pio-string": FROM_EVENT,
    **dict.fromkeys(("mmio-write", "mmio-read"), TO_USER),
    **dict.fromkeys(("self-ipi", "apic-timer", "halt-wakeup"), FROM_EVENT), "ipi": Kind(operations=2),
    **dict.fromkeys(("touch-fresh", "touch-populated", "touch-sparse", "touch-logged"), FIRST_TOUCH),
}


@dataclass
class ExitPath:
    """What was found of one kind on one device."""

    steps: list  # the kernel's instructions, of `operations` operations
    operations: int
    exits: int  # in all of them

    @property
    def counts(self):
        """By name, for one operation; a fraction if operations differ."""
        return {name: _ratio(number, self.operations)
                for name, number in {"exits": self.exits, **trace.count(self.steps)}.items()}


@dataclass
class Counts:
    """All that one boot told."""

    kernel: str
    cpu: str
    operations: dict = field(default_factory=dict)  # kind -> what is done once, in words
    paths: dict = field(default_factory=dict)       # (kind, device) -> ExitPath
    symbols: Symbols = None

    def to_json(self):
        return {"kernel": self.kernel, "cpu": self.cpu, "paths": [
            {"name": kind, "operation": self.operations.get(kind, ""), "devices": [
                {"device": device, **self.paths[kind, device].counts, **self._functions(kind, device)}
                for device in DEVICES]} for kind in self.kinds]}

    def _functions(self, kind, device):
        """The functions with most instructions, and how many of one operation are in each."""
        if not self.symbols:
            return {}
        path = self.paths[kind, device]
        return {"functions": [[function.name, _ratio(function.instructions, path.operations)]
                              for function in self.symbols.profile(path.steps)[:MOST_FUNCTIONS]]}

    @property
    def kinds(self):
        return list(dict.fromkeys(kind for kind, _ in self.paths))


def _ratio(number, divisor):
    return number // divisor if number % divisor == 0 else round(number / divisor, 2)


def count(kernel, cpu, kinds, files, scratch, symbols=False, on_stage=None):
    """Boots a machine and returns the Counts. files: minivmx.ko and the minivmx command; scratch: a directory."""
    traced = Path(scratch) / "trace"
    chosen = kernels.find(kernel)
    lines, log = [], []
    script = _script(kinds, dump_command(chosen) if symbols else "")
    job = Job(kernel=kernel, hardware=Hardware(cpu=cpu), script=script, files=files, cmdline=CMDLINE, timeout=TIMEOUT,
              trace=traced)
    outcome = run(job, log.append, lines.append, on_stage)
    if outcome.failure or outcome.status or outcome.faults:
        why = outcome.failure or "; ".join(outcome.faults) or f"the script ended with status {outcome.status}"
        raise MachineError(why, [*log[-10:], *lines[-20:]])
    found = Counts(kernel, cpu)
    marked, dump = read_output(lines, found)
    found.symbols = read_dump(dump, chosen) if symbols else None
    with open(traced, "rb") as file:
        read_trace(file, marked, kinds, found)
    return found


def _script(kinds, dump):
    names = " ".join(kinds)
    return "\n".join([
        f"modprobe kvm-intel {PARAMS['/dev/kvm']} && insmod /minivmx.ko {PARAMS['/dev/minivmx']} || exit 1",
        "minivmx bench --list || exit 1",
        *(f"echo @device {device}\nminivmx bench --mark {names} --device {device} || exit 1" for device in DEVICES),
        f"echo @symbols\n{dump}\necho @end" if dump else ""]).encode()


def read_output(lines, found):
    """What the script printed: names go to `found`. Returns (kind, device, exits) for each marked run, and the dump."""
    marked, device, dump, dumping = [], None, [], False
    for line in lines:
        if line in ("@symbols", "@end"):
            dumping = line == "@symbols"
        elif dumping:
            dump.append(line)
        elif match := DEVICE.match(line):
            device = match.group(1)
        elif match := MARKED.match(line):
            marked.append((match.group(1), device, int(match.group(2))))
        elif (match := LISTED.match(line)) and device is None:
            found.operations[match.group(1)] = match.group(2)
    return marked, dump


def read_trace(file, marked, kinds, found):
    """Adds the path of each of `kinds` to `found`; the runs in the trace are those in `marked`, in order."""
    runs, regions = 0, trace.regions(file)
    for (kind, device, exits), steps in zip(marked, regions):
        runs += 1
        if kind in kinds:
            found.paths[kind, device] = path_of(kind, steps, exits, device)
    runs += sum(1 for _ in regions)
    if runs != len(marked):
        raise MachineError(f"the trace has {runs} runs, expected {len(marked)}")
    missing = [f"{kind} on {device}" for kind in kinds for device in DEVICES if (kind, device) not in found.paths]
    if missing:
        raise MachineError(f"not traced: {', '.join(missing)}")


def path_of(name, steps, exits, device):
    """The path of one kind in the Steps of its run, in which the module counted that many exits."""
    kind = KINDS[name]
    where = f"{name} on {device}"
    # A self-IPI may be answered without the exit being counted, and a thread may be in the guest at the marks.
    if kind.exits and trace.entries(steps) != exits:
        raise MachineError(f"{where}: {trace.entries(steps)} VM entries in the trace, but {exits} exits were counted")
    windows = trace.windows(steps)
    # More exits than others have were an interrupt of the host.
    wanted = kind.exits or min((window.exits for window in windows), default=0)
    windows = [window for window in windows if window.exits == wanted]
    if not windows:
        raise MachineError(f"{where}: no window has {kind.exits or 'any'} VM exits")
    if kind.each_exit:
        paths = [path for window in windows for path in window.paths]
        if not paths:
            raise MachineError(f"{where}: no exit between two readings of the clock")
        return ExitPath(sorted(paths, key=len)[(len(paths) - 1) // 2], 1, 1)
    window = min(windows, key=lambda one: len(one.steps))
    return ExitPath(window.steps, kind.operations, window.exits)
