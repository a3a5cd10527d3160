# SPDX-License-Identifier: GPL-2.0-only
"""The emulator's process: its configuration, its terminal, its two serial ports, its end.

Debian's Bochs 2.7 is a debugger build: it starts at a prompt and needs a terminal for its "term" display, so it gets
a pseudo-terminal of its own and an -rc file that says "c" (continue). It ignores a plain kill. The display itself is
yet another pseudo-terminal, to which it writes every second: nobody reading, it would hang after some minutes.
"""

import ctypes
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import tty
from dataclasses import dataclass
from pathlib import Path

from .errors import MachineError

BOCHS = "/usr/bin/bochs-bin"
# The emulated CPUs that have VMX, oldest first.
CPU_MODELS = (
    "core2_penryn_t9600", "corei5_lynnfield_750", "corei5_arrandale_m520", "corei7_sandy_bridge_2600k",
    "corei7_ivy_bridge_3770k", "corei7_haswell_4770", "broadwell_ult", "corei7_skylake_x", "corei3_cnl",
    "corei7_icelake_u", "tigerlake",
)
# These announce fast short REP MOV but the kernel's use of it goes wrong in the emulator.
MODELS_WITHOUT_FSRM = ("corei7_icelake_u", "tigerlake")

# What it prints first: its display is a pseudo-terminal of its own, whose other end is this.
DISPLAY = re.compile(rb'Bochs connected to screen "(/dev/pts/\d+)"')
# Lines of the emulator's log begin with a time, a letter for how bad it is, and the device.
PANIC = re.compile(r"^\d+p\[")
PR_SET_PDEATHSIG = 1
# How often a machine can switch tracing on and off; its debugger takes its commands from a file.
MOST_TRACES = 1000


@dataclass(frozen=True)
class Hardware:
    cpu: str = "corei7_haswell_4770"
    cpus: int = 1
    megabytes: int = 512
    ips: int = 10_000_000  # emulated instructions per emulated second; a low number shortens the BIOS's waits


class Bochs:
    """A running emulator. `console` and `second` are file descriptors of its serial ports, `screen` of its terminal."""

    def __init__(self, hardware, iso, directory, tracing=False):
        """tracing: XCHG BX, BX in the machine makes the debugger print each instruction, until the next one."""
        if not os.path.exists(BOCHS):
            raise MachineError("the package bochs is not installed")
        directory = Path(directory)
        self.log = directory / "bochs.log"
        self._slaves = []
        self._greeting = b""
        self.console, console_path = self._open_pty()
        self.second, second_path = self._open_pty()
        self.screen, _ = self._open_pty()
        self._set_size(self.screen)
        config = directory / "bochsrc"
        config.write_text(_configuration(hardware, iso, self.log, console_path, second_path)
                          + "magic_break: enabled=1\n" * tracing)
        commands = directory / "commands"
        commands.write_text("c\n" + "trace on\nc\ntrace off\nc\n" * (MOST_TRACES * tracing))
        terminal = self._slaves[-1]
        self._process = subprocess.Popen(
            [BOCHS, "-q", "-f", config, "-rc", commands], stdin=terminal, stdout=terminal, stderr=terminal,
            start_new_session=True, preexec_fn=_die_with_parent, cwd=directory,
            env={**os.environ, "TERM": "linux", "LINES": "40", "COLUMNS": "120"})

    def open_display(self, data):
        """Takes what came from `screen`; returns a descriptor of the display, to be read, when it has been announced."""
        if self._greeting is None:
            return None
        self._greeting += data
        announced = DISPLAY.search(self._greeting)
        if not announced:
            return None
        self._greeting = None
        display = os.open(announced.group(1), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(display)  # or it would echo
        self._slaves.append(display)
        return display

    @property
    def running(self):
        return self._process.poll() is None

    def stop(self):
        """Ends the emulator, whatever it is doing, and closes its terminals."""
        if self.running:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for descriptor in (self.console, self.second, self.screen, *self._slaves):
            os.close(descriptor)

    def reason(self):
        """Why the emulator ended by itself, in its own words."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log"
        panics = [line.split("] ", 1)[-1].strip() for line in lines if PANIC.match(line)]
        return panics[-1] if panics else (lines[-1] if lines else "its log is empty")

    def _open_pty(self):
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        # The slave stays open here, so that reading the master never fails between two users of the slave.
        self._slaves.append(slave)
        return master, os.ttyname(slave)

    @staticmethod
    def _set_size(descriptor):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))


def _die_with_parent():
    """In the child: the emulator must not outlive a runner that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _configuration(hardware, iso, log, console, second):
    return f"""\
config_interface: textconfig
display_library: term
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
cpu: model={hardware.cpu}, count={hardware.cpus}:1:1, ips={hardware.ips}, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={hardware.megabytes}, host={min(hardware.megabytes, 2048)}
clock: sync=none, time0=utc
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path="{iso}", status=inserted
boot: cdrom
com1: enabled=1, mode=term, dev={console}
com2: enabled=1, mode=term, dev={second}
sound: driver=dummy
speaker: enabled=0
vga: extension=vbe, update_freq=1
log: {log}
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""
