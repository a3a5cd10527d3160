# SPDX-License-Identifier: GPL-2.0-only
"""What goes into the machine: packages, the modules for a kernel, the tools, and where each ends up."""

import os
import re
import subprocess
import threading
from pathlib import Path

from .errors import MachineError, run_tool

TOP = Path(__file__).resolve().parent.parent.parent.parent
JOBS = os.environ.get("JOBS") or str(os.cpu_count())
LINES_OF_A_FAILED_BUILD = 40
# Machines start in threads of their own and want the same files.
STRIPPING = threading.Lock()
# What cmake says while all is well.
PROGRESS = re.compile(r"^\[ *\d+%\] ")


def packages(*groups):
    """Installs what is missing from Debian; says what it installs, asks for root if it has to."""
    if subprocess.run([TOP / "tools/packages", *groups]).returncode != 0:
        raise MachineError("packages are missing")


def modules(kernel, seen, *variables):
    """Builds the modules for `kernel` with these variables of Kbuild; returns the directory that holds minivmx.ko.

    What make says meanwhile goes to `seen`, line by line, here and below.
    """
    directory = TOP / "build/module" / kernel.release
    _build(f"the module for {kernel.release}", seen, TOP / "tools/machine/build-module", kernel.build, directory,
           *variables)
    return directory


def test_module(kernel, seen):
    """Builds the test build of the module (kunit/breakage) for `kernel`; returns its file."""
    directory = TOP / "build/module-test" / kernel.release
    _build(f"the module's test build for {kernel.release}", seen, TOP / "tools/machine/build-module", kernel.build,
           directory, "MINIVMX_TEST=y")
    return directory / "minivmx_test.ko"


def command(seen):
    """Builds the minivmx command and the guest programs."""
    _build("the minivmx command", seen, "make", "-s", "command")


def programs(seen):
    """Builds these and the test programs."""
    _build("the tools", seen, "make", "-s", "tools")


def contents(module_directory):
    """The files every machine gets, as (host path, path in the machine); what was not built is left out."""
    files = [(module_directory / "minivmx.ko", "/minivmx.ko"),
             (module_directory / "kunit/minivmx_kunit.ko", "/minivmx_kunit.ko"),
             (TOP / "build/user/minivmx", "/bin/minivmx")]
    files += [(path, f"/guests/{path.name}") for path in sorted((TOP / "build/guests").glob("*.bin"))]
    files += [(path, f"/tests/{path.name}") for path in sorted((TOP / "build/user/client").glob("*_test"))]
    return [(stripped(source), target) for source, target in files if source.exists()]


def watcher(module_directory):
    """What audits the module's VM entries while it is tested."""
    return [(stripped(module_directory / "kunit/watch/minivmx_watch.ko"), "/minivmx_watch.ko")]


def stripped(source):
    """A copy of a program or module without debug information: every megabyte costs the emulator a tenth of a second."""
    if source.suffix == ".bin":
        return source
    target = TOP / "build/stripped" / source.relative_to(TOP / "build")
    with STRIPPING:
        if not target.exists() or target.stat().st_mtime_ns < source.stat().st_mtime_ns:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.{os.getpid()}")
            run_tool("strip", "--strip-debug", "-o", partial, source)
            partial.rename(target)
    return target


def _build(what, seen, *command):
    lines = []
    with subprocess.Popen(command, cwd=TOP, env={**os.environ, "JOBS": JOBS}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace") as build:
        for line in build.stdout:
            seen(line.rstrip())
            if not PROGRESS.match(line):
                lines.append(line.rstrip())
    if build.returncode != 0:
        raise MachineError(f"{what} could not be built", lines[-LINES_OF_A_FAILED_BUILD:])
    for line in lines:
        if "warning" in line.lower():
            print(f"    {line}")
