# SPDX-License-Identifier: GPL-2.0-only
"""Test lines turned into counts.

Programs print   ok - NAME
                 not ok - NAME: WHY
                 skip - NAME: WHY
KUnit prints KTAP (Documentation/dev-tools/ktap.rst): numbered lines, indented by nesting. Only leaves count: the line
that sums up a suite or a parameterised test is not a test of its own, unless it fails while all below it passed.
"""

import re
from dataclasses import dataclass, field

from .console import STAMP

PLAIN = re.compile(r"^(ok|not ok|skip) - (.*)$")
KTAP = re.compile(r"^( *)(ok|not ok) (\d+)(?: -)? ?(.*?)(?: # (SKIP|skip)\b:? ?(.*))?$")
KTAP_START = re.compile(r"^ *(TAP version 14|KTAP version \d+)$")
PLAN = re.compile(r"^( *)1\.\.(\d+)( #.*)?$")


@dataclass
class Results:
    passed: int = 0
    failed: list = field(default_factory=list)   # "name: why"
    skipped: list = field(default_factory=list)
    lines: list = field(default_factory=list)    # what else a reader of the failures needs

    def fail(self, text):
        self.failed.append(text)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    @property
    def total(self):
        return self.passed + len(self.failed) + len(self.skipped)


class Parser:
    """Feeds on lines of both kinds, from one stream each, and fills `results`."""

    def __init__(self, results):
        self._results = results
        # For each depth of indentation: how many leaves below it ended in which way since its block began.
        self._below = {}
        self._diagnosis = []

    def line(self, text):
        """Takes one line; the kernel's time stamp before it does not matter."""
        text = STAMP.sub("", text)
        plain = PLAIN.match(text)
        if plain:
            self._count(*plain.groups())
            return
        ktap = KTAP.match(text)
        if ktap:
            self._ktap(ktap)
        elif text.lstrip().startswith("#") and not PLAN.match(text):
            self._diagnosis.append(text.strip().lstrip("# "))

    def _count(self, verdict, name):
        if verdict == "ok":
            self._results.passed += 1
        elif verdict == "skip":
            self._results.skipped.append(name)
        else:
            self._results.fail(name)

    def _ktap(self, match):
        indent, verdict, _number, name, skip, why = match.groups()
        depth = len(indent)
        below = self._leaves_below(depth)
        diagnosis, self._diagnosis = self._diagnosis, []
        if below is not None:
            if verdict == "not ok" and below == 0:
                self._results.fail(f"{name}: the suite failed though none of its tests did")
            return
        if skip:
            self._results.skipped.append(f"{name}: {why}" if why else name)
            self._note(depth, 0)
        elif verdict == "ok":
            self._results.passed += 1
            self._note(depth, 0)
        else:
            self._results.fail(f"{name}: {'; '.join(diagnosis[-6:])}" if diagnosis else name)
            self._note(depth, 1)

    def _note(self, depth, failures):
        self._below[depth] = self._below.get(depth, 0) + failures

    def _leaves_below(self, depth):
        """Failures among what is nested deeper than `depth` (None: nothing is), which is then folded into `depth`."""
        deeper = [other for other in self._below if other > depth]
        if not deeper:
            return None
        failures = sum(self._below.pop(other) for other in deeper)
        self._note(depth, failures)
        return failures
