# SPDX-License-Identifier: GPL-2.0-only
"""Counts of exits as text: the table, profiles, every step."""

import re
from collections import Counter

from .exit_counts import DEVICES

HEADINGS = {"exits": "exits", "instructions": "instr.", "invvpid": "INVVPID", "locked": "locked"}
WIDTH = 8
FUNCTIONS = 40
# How far back the number of a VMCS field is looked for. A heuristic: it is a constant that was moved to the register.
STEPS_BACK = 60
LOAD = re.compile(r"^mov (\w+), 0x([0-9a-f]+)$")
ACCESS = {"vmread": re.compile(r"^vmread [^,]*(?:\[[^\]]*\])?, (\w+)$"), "vmwrite": re.compile(r"^vmwrite (\w+), ")}


def table_text(found):
    """Two lines for each kind of exit, one for each device."""
    lines = []
    for kind in found.kinds:
        for device in DEVICES:
            counts = found.paths[kind, device].counts
            if not lines:
                lines.append(" " * 26 + "".join(f"{HEADINGS.get(name, name.upper()):>{WIDTH}}" for name in counts))
            lines.append(f"{kind if device == DEVICES[0] else '':<16}{short(device):<10}"
                         + "".join(f"{_number(number):>{WIDTH}}" for number in counts.values()))
    return "\n".join(lines)


def excess(found):
    """(kind, kvm_intel's, ours) of the kinds of exit with more accesses to the VMCS than kvm_intel's."""
    accesses = {key: path.counts["vmread"] + path.counts["vmwrite"] for key, path in found.paths.items()}
    both = [(kind, *(accesses[kind, device] for device in DEVICES)) for kind in found.kinds]
    return [(kind, theirs, ours) for kind, theirs, ours in both if ours > theirs]


def profile_text(found):
    """For each path its functions, those with most instructions first, and the VMCS fields it reads and writes."""
    return "\n".join(line for (kind, device), path in found.paths.items()
                     for line in _profile(kind, device, path, found.symbols))


def _profile(kind, device, path, symbols):
    functions = symbols.profile(path.steps)
    of_modules = {}
    for function in functions:
        module = function.module or "kernel"
        of_modules[module] = of_modules.get(module, 0) + function.instructions
    yield f"\n{kind} on {short(device)}: {len(path.steps)} instructions" + _several(path)
    yield "  " + ", ".join(f"{module} {number}" for module, number in of_modules.items())
    for function in functions[:FUNCTIONS]:
        yield f"  {function.instructions:6} in {function.times:3}x {function.name}" + \
              (f" [{function.module}]" if function.module else "")
    rest = sum(function.instructions for function in functions[FUNCTIONS:])
    if rest:
        yield f"  {rest:6} in {len(functions) - FUNCTIONS} more functions"
    for mnemonic in ACCESS:
        fields = vmcs_fields(path.steps, mnemonic)
        if fields:
            yield f"  {mnemonic.upper()} of " + ", ".join(
                ("?" if field is None else f"{field:04x}") + (f" {times}x" if times > 1 else "")
                for field, times in Counter(fields).items())


def _several(path):
    return f" for {path.operations} operations" if path.operations != 1 else ""


def vmcs_fields(steps, mnemonic):
    """The numbers of the fields that the path reads or writes, in its order; None where it can't be told."""
    return [_field(steps, index, match.group(1)) for index, step in enumerate(steps)
            if (match := ACCESS[mnemonic].match(step.text))]


def _field(steps, index, register):
    low = register_32(register)
    for step in reversed(steps[max(0, index - STEPS_BACK):index]):
        load = LOAD.match(step.text)
        if load and register_32(load.group(1)) == low:
            return int(load.group(2), 16)
    return None


def register_32(name):
    """EAX of RAX, R8D of R8."""
    if name.startswith("r"):
        return f"{name.rstrip('d')}d" if name[1].isdigit() else f"e{name[1:]}"
    return name


def steps_text(found):
    """Every instruction of every path, under its function."""
    lines = []
    for (kind, device), path in found.paths.items():
        lines.append(f"# {kind} on {short(device)}{_several(path)}")
        last = None
        for step in path.steps:
            name, module, offset = found.symbols.find(step.address)
            if (name, module) != last:
                lines.append(f"{name}" + (f" [{module}]" if module else ""))
                last = name, module
            lines.append(f"    +{offset:<6x}{step.text}")
        lines.append("")
    return "\n".join(lines)


def short(device):
    return device.rsplit("/", 1)[-1]


def _number(number):
    return str(number) if isinstance(number, int) else f"{number:.1f}"
