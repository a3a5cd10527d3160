# SPDX-License-Identifier: GPL-2.0-only
"""What the machine prints: bytes into lines, and which of them are faults."""

import re

# The kernel is gone: nothing more will come.
FATAL = re.compile(r"Kernel panic - not syncing|---\[ end Kernel panic|Attempted to kill init|System halted")
# The kernel goes on, but what it says must not happen in a test.
FAULT = re.compile(
    r"\bBUG: |\bkernel BUG at |\bOops: |general protection fault|\bWARNING: |\bunchecked MSR access error|"
    r"\bINFO: (task|rcu|possible|suspicious|trying to register|inconsistent)|detected stalls? on CPU|"
    r"scheduling while atomic|double fault|\binvalid opcode: |\bBad page |\bdivide error: |stack segment: |"
    r"\bUBSAN: |\bKASAN: |refcount_t: |list_(add|del) corruption|unregister_netdevice: waiting|"
    r"Slab corruption|Object .* still in use|Objects remaining in|minivmx_watch: (false alarm|.* lacks)|\*\* .*leak")
KERNEL_STARTS = re.compile(r"\bLinux version \d")
# The log's time stamp, as in "[   12.345678] ".
STAMP = re.compile(r"^\[ *\d+\.\d+\](\[ *[TC]\d+\])? ?")


class Lines:
    """Cuts a stream of bytes into lines of text, whatever pieces they arrive in."""

    def __init__(self):
        self._rest = b""

    def feed(self, data):
        """Returns the lines that `data` completes."""
        *complete, self._rest = (self._rest + data).split(b"\n")
        return [_clean(line) for line in complete]

    @property
    def unfinished(self):
        """The text after the last newline."""
        return _clean(self._rest)


def _clean(line):
    return line.decode(errors="replace").rstrip("\r").replace("\0", "")


class Watch:
    """Follows the kernel's log and remembers the faults.

    allow: regular expressions; a fault that matches one is expected. boots: how often a kernel may start (2 when a
    crash kernel takes over); one more is a reset nobody asked for. While `booting`, only what is fatal counts: the
    kernel warns about some of the emulated CPUs (the layout of XSAVE's area), which is nobody's fault here.
    """

    def __init__(self, allow=(), boots=1):
        self.faults = []
        self.fatal = None
        self.starts = 0
        self.booting = True
        self._allow = [re.compile(pattern) for pattern in allow]
        self._boots = boots

    def line(self, text):
        if KERNEL_STARTS.search(text):
            self.starts += 1
            if self.starts > self._boots:
                self.fatal = "the machine reset itself (a triple fault, or a reboot)"
            return
        fatal = FATAL.search(text)
        if not fatal and (self.booting or not FAULT.search(text)):
            return
        if any(pattern.search(text) for pattern in self._allow):
            return
        text = STAMP.sub("", text)
        if not fatal or self.starts < self._boots:
            self.faults.append(text)
        elif not self.fatal:
            self.fatal = text
