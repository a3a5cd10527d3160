#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""judge.py EMULATOR-LOG OUTPUT MODULE TEST-MODULE

Compares what breakage_test saw (OUTPUT) with what the emulator wrote into its own log about the same entries, which is
an independent implementation's opinion of them; and looks whether the shipped module has anything of the test build.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

sys.dont_write_bytecode = True

from messages import FIELDS, ONLY_ON, UNREACHABLE  # noqa: E402

BOCHS = Path("/usr/bin/bochs-bin")
# kunit/breakage/breakage.h: MINIVMX_BREAK_MARK_MSR
MARK_MSR = 0x4d780000
MARK = re.compile(r"RDMSR: Unknown register (0x4d78[0-9a-f]{4})$")
# A message of the log, without the time and the device.
MESSAGE = re.compile(r"^\d+\w\[.*?\] (.*)$")
# What the emulator says of VM entries.
ABOUT_ENTRIES = re.compile(r"^(VMFAIL: |VMENTER FAIL: |FAIL: VMCS |VMENTER: .*Checks Failed|VMX LoadMSRs )")
ENTERED = re.compile(r"^entered (\d+): (.*)$")
FAILED = re.compile(r"^failed (\d+): (\S+), broken (\S+), reason (\w+), error (\d+), audit(.*)$")
TRIED = re.compile(r"^tried (\d+) bases, (\d+) breakages$")
# Whatever the test build adds.
OWN_SYMBOL = re.compile("breakage|break_entry|mend_entry|minivmx_test")
SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS")
# How many breakages there are to be in all.
ENOUGH = 120


def main():
    log, output, module, test_module = (Path(name) for name in sys.argv[1:5])
    said = read_log(log)
    lines = output.read_text().splitlines()
    if not any(map(TRIED.match, lines)):
        tell("breakage_test came to its end", "it did not")
        return
    seen = set()
    check_bases(lines, said)
    check_breakages(lines, said, seen)
    check_messages(seen)
    check_symbols(module, test_module)


def tell(name, why=""):
    print(f"not ok - {name}: {why}" if why else f"ok - {name}")


# ---- Bochs's log

def read_log(path):
    """What the emulator said of VM entries after each mark, as [(format, values)]."""
    said = defaultdict(list)
    mark = None
    for line in path.read_text(errors="replace").splitlines():
        message = MESSAGE.match(line)
        if not message:
            continue
        text = message.group(1).strip()
        marked = MARK.search(text)
        if marked:
            mark = int(marked.group(1), 16) - MARK_MSR
        elif ABOUT_ENTRIES.match(text):
            said[mark].append(text)
    return said


def pattern_of(message):
    """The messages that a format string can make."""
    parts = re.split(r"(%[0-9]*l*[sdcx])", message)
    return re.compile("".join("(.+?)" if part.startswith("%") else re.escape(part) for part in parts) + "$")


# One that is all text is meant before one that has room for it.
ORDER = sorted([*FIELDS, *UNREACHABLE], key=lambda message: (message.count("%"), -len(message)))
PATTERNS = [(message, pattern_of(message)) for message in ORDER]


def known(text):
    """The format string a message was made from, and its values; None if there is no such message."""
    for message, pattern in PATTERNS:
        match = pattern.match(text)
        if match:
            return message, match.groups()
    return None, ()


def fields_of(message, values):
    segment = SEGMENTS[int(values[0])] if "host segreg" in message else ""
    return FIELDS.get(message, "").format(*values, segment=segment).split()


# ---- The client's output

def check_bases(lines, said):
    for match in filter(None, map(ENTERED.match, lines)):
        mark, name = int(match.group(1)), match.group(2)
        tell(f"the emulator, too, enters: {name}", "; ".join(said[mark]))


def check_breakages(lines, said, seen):
    failed = [match for match in map(FAILED.match, lines) if match]
    for match in failed:
        check_breakage(match, said, seen)
    tell(f"there are {ENOUGH} breakages or more",
         "" if len(failed) >= ENOUGH else f"only {len(failed)}")
    none = [text for text in said[None]]
    tell("no entry fails that nobody broke", "; ".join(none))


def check_breakage(match, said, seen):
    mark, name, broken, _reason, _error, audit = match.groups()
    messages = said[int(mark)]
    title = f"the emulator agrees about {name}"
    if len(messages) != 1:
        return tell(title, f"it says {len(messages)} things: {messages}")
    message, values = known(messages[0])
    if message is None:
        return tell(title, f"its message is not listed: {messages[0]}")
    seen.add(message)
    meant = fields_of(message, values)
    found = audit.split()
    if meant and not set(meant) & set(found):
        return tell(title, f"it says {messages[0]!r}, the audit names {' '.join(found) or 'nothing'}")
    return tell(f"{title}: {' or '.join(meant) or broken}")


# ---- All messages

def check_messages(seen):
    model = os.environ.get("MACHINE_CPU", "")
    program = {text.decode() for text in re.findall(rb"[\x20-\x7e]{8,}(?=\0)", BOCHS.read_bytes())}
    possible = {text for text in program if ABOUT_ENTRIES.match(text)}
    for message in sorted(possible - set(FIELDS) - set(UNREACHABLE)):
        tell("every message of the emulator is listed", message)
    for message in sorted((set(FIELDS) | set(UNREACHABLE)) - possible):
        tell("every message that is listed is one of the emulator", message)
    for message in FIELDS:
        here = model in ONLY_ON.get(message, (model,))
        if here and message not in seen:
            tell(f"some breakage brings about: {message}", "none does")
    for message in sorted(seen & set(UNREACHABLE)):
        tell("what is listed as unreachable is not reached", message)
    print(f"ok - of the emulator's {len(possible)} messages {len(seen)} were brought about, "
          f"{len(UNREACHABLE)} can't be")


# ---- The shipped module

def symbols(module):
    names = subprocess.run(["nm", module], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line.split()[-1] for line in names.splitlines()}


def check_symbols(module, test_module):
    own = {name for name in symbols(test_module) if OWN_SYMBOL.search(name)}
    tell("the test build has symbols of its own", "" if len(own) >= 5 else f"it has {len(own)}")
    shipped = {name for name in symbols(module) if OWN_SYMBOL.search(name)}
    tell("the shipped module has none of them", " ".join(sorted(shipped)))
    text = module.read_bytes()
    tell("nor any of its texts", "" if b"minivmx_test" not in text else "it has")


if __name__ == "__main__":
    main()
