# SPDX-License-Identifier: GPL-2.0-only
"""Shows a run to the user: stages with the time that passed, then what the machine prints."""

import sys
import threading
import time
from collections import deque

LAST_LINES = 40
# How often a line of the boot is shown where no terminal can show each in turn.
SECONDS_BETWEEN_SIGNS_OF_LIFE = 10


class Display:
    """Gets the callbacks of machine.run(). `last` are the last lines, for whoever has to explain a failure."""

    def __init__(self, log=None, whole_boot=False):
        self.current = "start"
        self.last = deque(maxlen=LAST_LINES)
        self._begin = time.monotonic()
        self._log = open(log, "w") if log else None
        self._show_console = whole_boot
        self._live = sys.stderr.isatty()
        self._live_shown = False
        self._last_sign = self._begin

    @property
    def seconds(self):
        return time.monotonic() - self._begin

    def stage(self, text):
        self.current = text
        if text == "script" or text.startswith("shell"):
            self._show_console = True
        self._keep(f"== {text}")
        self._clear_live()
        print(f"[{self.seconds:6.1f} s] {text}", file=sys.stderr, flush=True)
        self._last_sign = time.monotonic()

    def console(self, line):
        self._keep(line)
        if self._show_console:
            print(line, flush=True)
        else:
            self._sign_of_life(line)

    def output(self, line):
        self._keep(line)
        print(line, flush=True)

    def failure(self, message, lines=None):
        """The stage that failed, its last lines, and why."""
        self._clear_live()
        for line in self.last if lines is None else lines:
            print(f"    {line}", file=sys.stderr)
        print(f"failed after {self.seconds:.0f} s in stage \"{self.current}\": {message}", file=sys.stderr)

    def close(self):
        self._clear_live()
        if self._log:
            self._log.close()

    def _keep(self, line):
        self.last.append(line)
        if self._log:
            self._log.write(line + "\n")
            self._log.flush()

    def _sign_of_life(self, line):
        text = f"[{self.seconds:6.1f} s]   {line[:90]}"
        if self._live:
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
            self._live_shown = True
        elif time.monotonic() > self._last_sign + SECONDS_BETWEEN_SIGNS_OF_LIFE:
            print(text, file=sys.stderr, flush=True)
            self._last_sign = time.monotonic()

    def _clear_live(self):
        if self._live_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._live_shown = False


class Table:
    """Rows of a fixed shape that several threads add as they finish."""

    def __init__(self, *widths):
        self._widths = widths
        self._lock = threading.Lock()

    def row(self, cells, notes=()):
        """Prints one row; a negative width aligns to the right. `notes` are lines that belong below it."""
        shown = [f"{cell!s:>{-width}}" if width < 0 else f"{cell!s:<{width}}"
                 for cell, width in zip(cells, self._widths)]
        with self._lock:
            print("  ".join(shown).rstrip(), *(f"    {note}" for note in notes), sep="\n", flush=True)
