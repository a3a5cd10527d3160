# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's functions by address, and a profile of a path by them."""

import base64
import bisect
import gzip
import os
import subprocess
from dataclasses import dataclass

# The kernel's own functions are where they always are (nokaslr), and that is kept beside it: a serial port is slow.
KEPT = "functions"
# For a script: writes what Symbols wants to its output.
DUMP = "grep ' [tTwW] .*\\[' /proc/kallsyms | gzip | base64"
DUMP_ALL = "grep ' [tTwW] ' /proc/kallsyms | gzip | base64"


@dataclass
class Function:
    name: str
    module: str  # empty for the kernel proper
    instructions: int = 0
    times: int = 0  # how often the path came into it


def dump_command(kernel):
    """The script's command for that kernel (kernel.Kernel)."""
    return DUMP if _kept(kernel).exists() else DUMP_ALL


def read_dump(lines, kernel):
    """The Symbols in what the command wrote; keeps what need not be asked again."""
    text = gzip.decompress(base64.b64decode("".join(lines))).decode().splitlines()
    own = [line for line in text if "[" not in line]
    kept = _kept(kernel)
    if own:
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        partial.write_text("".join(f"{line}\n" for line in own))
        partial.rename(kept)
        return Symbols(text)
    return Symbols(kept.read_text().splitlines() + text)


def _kept(kernel):
    return kernel.bzimage.with_name(KEPT)


class Symbols:
    """`lines` as in /proc/kallsyms."""

    def __init__(self, lines):
        found = []
        for line in lines:
            address, _kind, name, *module = line.split()
            found.append((int(address, 16), name, module[0].strip("[]") if module else ""))
        found.sort(key=lambda symbol: symbol[0])
        names = _readable([name for _, name, _ in found])
        self._addresses = [address for address, _, _ in found]
        self._functions = [(name, module) for name, (_, _, module) in zip(names, found)]

    def find(self, address):
        """(function, module, offset)"""
        index = bisect.bisect_right(self._addresses, address) - 1
        if index < 0:
            return hex(address), "", 0
        return (*self._functions[index], address - self._addresses[index])

    def profile(self, steps):
        """Functions of the path, those with most instructions first."""
        functions, last = {}, None
        for step in steps:
            name, module, _ = self.find(step.address)
            function = functions.setdefault((name, module), Function(name, module))
            function.instructions += 1
            function.times += function is not last
            last = function
        return sorted(functions.values(), key=lambda function: -function.instructions)


def _readable(names):
    """Names of C++ as they are written, without their parameters; as they are where there is no c++filt."""
    try:
        run = subprocess.run(["c++filt", "--no-params"], input="\n".join(names), stdout=subprocess.PIPE, text=True,
                             check=True)
    except (OSError, subprocess.CalledProcessError):
        return names
    lines = run.stdout.splitlines()
    return lines if len(lines) == len(names) else names
