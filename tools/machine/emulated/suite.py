# SPDX-License-Identifier: GPL-2.0-only
"""Test suites: one shell script each, in tools/machine/suites, that says in its first comments where it wants to run.

    # SPDX-License-Identifier: GPL-2.0-only
    # suite: the ioctls' errors, against KVM's               what it proves, one line (required)
    # kernel: lean stock                                     one machine for each kernel ... (default lean)
    # cpu: corei7_haswell_4770 tigerlake                     ... and each CPU model (default corei7_haswell_4770)
    # cpus: 2                                                CPUs in the machine (default 1)
    # memory: 1024                                           megabytes (default 512)
    # ips: 10000000                                          instructions per emulated second
    # cmdline: nosmap                                        more words for the kernel's command line
    # params: vnmi=0                                         $PARAMS of the script, for insmod
    # carry: qemu linux                                      bundles of files (emulated/bundle.py)
    # module: brd                                            one more module of the kernel
    # add: data/bochs-tigerlake.json:/data/cpu.json          one more file; a directory goes in whole
    # build: test                                            /minivmx_test.ko, too: the test build of the module
    # watch: no                                              without the auditor of VM entries (kunit/watch)
    # judge: test-user/client/breakage/judge.py              see below
    # allow: sysrq: Trigger a crash                          regular expression: a kernel's complaint that is meant
    # crash: crash-after.sh                                  script for the crash kernel, in this directory
    # timeout: 300                                           seconds of wall-clock time (default 300)
    # in: test-long                                          test (default), or test-long only

A line may occur several times. kernel, cpu: `all` means every CPU model. A suite with `kernel: none` runs on this host,
in the top directory. The script sees LONG=1 in test-long, MACHINE_KERNEL, MACHINE_CPU, MACHINE_CPUS and PARAMS.

A judge is a program of this host. It runs after the machine with the names of three files as arguments: the emulator's
own log, what the machine printed, and the module that was tested; and it prints test lines of its own.

It prints "ok - NAME", "not ok - NAME: WHY" or "skip - NAME: WHY" for each test, runs programs that do, or loads a KUnit
module. Its end without exit status 0, a complaint of the kernel, a suite without any test line: each is a failure.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from .bochs import CPU_MODELS, Hardware
from .errors import MachineError

DIRECTORY = Path(__file__).resolve().parent.parent / "suites"
DIRECTIVE = re.compile(r"^# (suite|kernel|cpu|cpus|memory|ips|cmdline|params|carry|module|add|build|watch|judge|allow|crash|timeout|in): *(.*)$")


@dataclass
class Suite:
    name: str
    path: Path
    about: str = ""
    kernels: list = field(default_factory=list)
    models: list = field(default_factory=list)
    hardware: dict = field(default_factory=dict)
    cmdline: str = ""
    params: str = ""
    carries: list = field(default_factory=list)
    modules: list = field(default_factory=list)
    files: list = field(default_factory=list)
    allow: list = field(default_factory=list)
    test_build: bool = False
    watched: bool = True
    judge: str = ""
    crash: Path = None
    timeout: float = 300
    long_only: bool = False


@dataclass
class Run:
    """One suite on one machine; `kernel` is None for a suite of this host."""

    suite: Suite
    kernel: str
    cpu: str

    @property
    def machine(self):
        if self.kernel is None:
            return "this host"
        cpus = self.suite.hardware.get("cpus", 1)
        return f"{self.kernel}, {self.cpu}" + (f" x{cpus}" if cpus > 1 else "")


def load_all(long):
    """Every suite of `make test`, or of `make test-long` too, by name."""
    crash_scripts = set()
    suites = []
    for path in sorted(DIRECTORY.glob("*.sh")):
        suite = _read(path)
        if suite.crash:
            crash_scripts.add(suite.crash)
        suites.append(suite)
    return [suite for suite in suites if suite.path not in crash_scripts and (long or not suite.long_only)]


def expand(suites):
    """One Run for each machine; those of slow kernels first, so that the last of them does not run alone."""
    runs = []
    for suite in suites:
        for kernel in suite.kernels or ["lean"]:
            if kernel == "none":
                runs.append(Run(suite, None, ""))
            else:
                runs += [Run(suite, kernel, cpu) for cpu in suite.models or [Hardware.cpu]]
    return sorted(runs, key=lambda run: (run.kernel is not None, not (run.kernel or "").startswith("stock")))


def _read(path):
    suite = Suite(path.stem, path)
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        match = DIRECTIVE.match(line)
        if match:
            _apply(suite, *match.groups())
    return suite


def _apply(suite, key, value):
    try:
        if key == "suite":
            suite.about = value
        elif key == "kernel":
            suite.kernels += value.split()
        elif key == "cpu":
            suite.models += CPU_MODELS if value == "all" else value.split()
        elif key in ("cpus", "memory", "ips"):
            suite.hardware["megabytes" if key == "memory" else key] = int(value)
        elif key in ("cmdline", "params"):
            setattr(suite, key, value)
        elif key == "carry":
            suite.carries += value.split()
        elif key == "module":
            suite.modules += value.split()
        elif key == "add":
            source, _, target = value.partition(":")
            suite.files.append((source, target or f"/{Path(source).name}"))
        elif key == "build":
            suite.test_build = value == "test"
        elif key == "watch":
            suite.watched = value != "no"
        elif key == "judge":
            suite.judge = value
        elif key == "allow":
            suite.allow.append(value)
        elif key == "crash":
            suite.crash = DIRECTORY / value
        elif key == "timeout":
            suite.timeout = float(value)
        elif key == "in":
            suite.long_only = value == "test-long"
    except ValueError as error:
        raise MachineError(f"{suite.path.name}: {key}: {error}") from error
    unknown = [model for model in suite.models if model not in CPU_MODELS]
    if unknown:
        raise MachineError(f"{suite.path.name}: no CPU model {unknown[0]}")
