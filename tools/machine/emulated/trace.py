# SPDX-License-Identifier: GPL-2.0-only
"""What the emulator's debugger prints between two magic breakpoints: instructions, cut into the paths of VM exits.

    Tracing enabled for CPU0
    (0).[422876996] [0x0000013ca06b] 0010:ffffffff813ca06b (unk. ctxt): lock cmpxchg qword ptr ds:[rdi], rdx ; f0480fb117

A line is printed before its instruction is executed, one for each turn of a repeated one.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

STEP = re.compile(rb"\((\d+)\)\.\[\d+\] \[0x[0-9a-f]+\] ([0-9a-f]{4}):([0-9a-f]{8,16}) \([^)]*\): (.*?)\s*(?:;|$)")
BEGIN, END = b"Tracing enabled", b"Tracing disabled"
KERNEL, USER, GUEST = "kernel", "user", "guest"
# Linux keeps the upper half for itself; what the guests of the benchmark use is below, under another code segment than
# that of Linux's programs.
UPPER_HALF = 1 << 47
USER_SELECTORS = (0x33, 0x23)
ENTRIES = ("vmlaunch", "vmresume")
CLOCKS = ("rdtsc", "rdtscp")

# What is counted, in the order in which it is shown: a name, and the mnemonics or the rule for it.
PREFIXES = {"xsave": ("xsave", "fxsave"), "xrstor": ("xrstor", "fxrstor")}
MNEMONICS = ("vmread", "vmwrite", "rdmsr", "wrmsr", "invept", "invvpid", "vmptrld")
COUNTED = (*MNEMONICS, *PREFIXES, "locked")


class Step(NamedTuple):
    """One instruction, and who executes it."""

    address: int
    who: str
    text: str

    @property
    def mnemonic(self):
        return self.text.split(" ", 1)[0]


@dataclass
class Window:
    """What lies between two readings of the clock: the kernel's instructions, and where VM entries are among them."""

    steps: list
    exits: int  # how many of the VM exits are in it
    paths: list  # one list of steps for each, from the exit to the next VM entry


def regions(file):
    """Yields the list of Steps of each pair of magic breakpoints in `file`, which yields lines as bytes."""
    steps = None
    for line in file:
        match = STEP.match(line) if steps is not None else None
        if match:
            steps.append(_step(match))
        elif line.startswith(BEGIN):
            steps = []
        elif line.startswith(END) and steps is not None:
            yield steps
            steps = None


def _step(match):
    selector, address = int(match.group(2), 16), int(match.group(3), 16)
    who = KERNEL if address >= UPPER_HALF else USER if selector in USER_SELECTORS else GUEST
    return Step(address, who, match.group(4).decode(errors="replace"))


def entries(steps):
    """How many VM entries there are."""
    return sum(step.who == KERNEL and step.mnemonic in ENTRIES for step in steps)


def windows(steps):
    """The Windows between each two readings of the clock outside the kernel, as the benchmark measures them."""
    found, window = [], None
    for step in steps:
        if step.who != KERNEL and step.mnemonic in CLOCKS:
            if window is not None:
                found.append(_window(window))
            window = [] if window is None else None
        elif window is not None:
            window.append(step)
    return found


def _window(steps):
    kernel, paths, path = [], [], None
    left = None  # who ran last
    for step in steps:
        if step.who == KERNEL:
            kernel.append(step)
            if left == GUEST:
                path = []
            if path is not None:
                path.append(step)
                if step.mnemonic in ENTRIES:
                    paths.append(path)
                    path = []  # the guest may leave again before its first instruction
        elif step.who == USER:
            path = None  # the exit went to the VMM: the window is its path
        left = step.who
    return Window(kernel, entries(steps), paths)


def is_locked(text):
    """Whether the instruction locks the bus: by its prefix, or XCHG with memory (SDM Vol. 3A, 9.1.2.1)."""
    return text.startswith("lock ") or (text.startswith("xchg ") and "[" in text)


def count(steps):
    """How many instructions there are in all, and of each kind that is counted: a dictionary."""
    counts = dict.fromkeys(("instructions", *COUNTED), 0)
    counts["instructions"] = len(steps)
    for step in steps:
        mnemonic = step.mnemonic
        if mnemonic in MNEMONICS:
            counts[mnemonic] += 1
        elif is_locked(step.text):
            counts["locked"] += 1
        else:
            for name, prefixes in PREFIXES.items():
                counts[name] += mnemonic.startswith(prefixes)
    return counts
