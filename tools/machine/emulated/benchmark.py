# SPDX-License-Identifier: GPL-2.0-only
"""Runs `minivmx bench` in a machine, and keeps what it says in data/bench."""

import json
import os
import re
from dataclasses import dataclass

from . import build, kernel
from .bochs import Hardware
from .errors import MachineError
from .machine import Job, run

SAVED = build.TOP / "data/bench"
SCRIPT = build.TOP / "tools/machine/bench.sh"
# As for the suite `bench`, which compares with what is saved. At 100 million instructions a second a guest's kernel finds
# its timers usable, and few interrupts come between.
HARDWARE = Hardware(cpu="corei7_skylake_x", megabytes=1024, ips=100_000_000)
TIMEOUT = 3600
REPORT = re.compile(r"^@report (\S+)$")


@dataclass(frozen=True)
class Measurement:
    """One machine, and what is measured there: data/bench/NAME.json. params: of both modules; cases: all without."""

    name: str
    kernel: str
    params: str = ""
    cases: tuple = ()


# What a guest does to its page tables, and what else changes without EPT.
PAGING = ("cr3-switch", "cr3-switch-many", "demand-fault", "fork", "mprotect")
EXITS_WITHOUT_EPT = ("cpuid", "pio-out", "mmio-write", "mmio-read")
MEASUREMENTS = (
    Measurement("lean", "lean"),
    Measurement("stock", "stock"),
    Measurement("lean-ept0", "lean", "ept=0", (*PAGING, *EXITS_WITHOUT_EPT, "touch-fresh")),
)

# The case `command` is a boot here.
QEMU = {"name": "qemu-boot", "operation": "Debian's QEMU (q35) and a Linux kernel in it, from start to end"}


def prepare(kernels, module, command, display):
    """Builds what is not given; returns the machine's files for each kernel."""
    display.stage("packages")
    build.packages("build", "machine", "lean", "qemu", *(["stock"] if "stock" in kernels else []))
    if not command:
        display.stage("the minivmx command")
        build.command(display.console)
    files = {}
    for name in kernels:
        display.stage(f"kernel {name}, and the module for it")
        found = kernel.find(name)
        source = module or build.modules(found, display.console) / "minivmx.ko"
        files[name] = [(source if module else build.stripped(source), "/minivmx.ko"),
                       (command or build.stripped(build.TOP / "build/user/minivmx"), "/bin/minivmx")]
    return files


def measure(what, files):
    """The report of one machine, as `minivmx bench --json` writes it."""
    lines, log = [], []
    job = Job(kernel=what.kernel, hardware=HARDWARE, script=SCRIPT.read_bytes(), files=files,
              carries=[] if what.cases else ["qemu", "linux"], timeout=TIMEOUT,
              environment={"CASES": " ".join(what.cases), "PARAMS": what.params})
    outcome = run(job, log.append, lines.append)
    if outcome.failure or outcome.status or outcome.faults:
        why = outcome.failure or "; ".join(outcome.faults) or f"the script ended with status {outcome.status}"
        raise MachineError(f"{what.name}: {why}", [*log[-10:], *lines[-20:]])
    return joined(reports(lines))


def reports(lines):
    """Each report that the script printed, by its name."""
    found, name, text = {}, None, []
    for line in lines:
        begins = REPORT.match(line)
        if begins:
            name, text = begins.group(1), []
        elif line == "@end" and name:
            found[name], name = json.loads("\n".join(text)), None
        elif name:
            text.append(line)
    if "cases" not in found:
        raise MachineError("the machine printed no report", lines[-20:])
    return found


def joined(found):
    report = found.pop("cases")
    for name, more in found.items():
        for case in more["cases"]:
            case |= QEMU if name == "qemu" else {}
            after = [at for at, other in enumerate(report["cases"]) if other["group"] == case["group"]]
            report["cases"].insert(after[-1] + 1 if after else len(report["cases"]), case)
    return report


def problems(name, report):
    return [f"{name}: {case['name']}: {case['problem']}" for case in report["cases"] if "problem" in case]


def save(name, report):
    SAVED.mkdir(parents=True, exist_ok=True)
    path = SAVED / f"{name}.json"
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(partial, path)
