# SPDX-License-Identifier: GPL-2.0-only
"""Sets of files that a machine carries only if it is asked to.

qemu         Debian's qemu-system-x86_64 as it is, the libraries it is linked to, the firmware of its PCs
linux        a Linux guest: /linux/bzImage (the lean kernel) and /linux/initrd, whose init program looks around, says what
             it finds, and powers off (tools/guests/linux)
linux-stock  Debian's kernel as a guest: /linux/stock
"""

import re
import subprocess
from pathlib import Path

from . import build, initramfs, kernel
from .errors import MachineError, run_tool

QEMU = Path("/usr/bin/qemu-system-x86_64")
# Where QEMU looks: the packages qemu-system-data, seabios and ipxe-qemu. No other firmware serves pc, q35 and microvm
# with their default devices.
FIRMWARE = ("/usr/share/seabios/bios-256k.bin", "/usr/share/seabios/bios-microvm.bin",
            "/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/kvmvapic.bin", "/usr/share/qemu/linuxboot_dma.bin",
            "/usr/share/qemu/pvh.bin", "/usr/share/qemu/qboot.rom", "/usr/lib/ipxe/qemu/efi-e1000.rom", "/usr/lib/ipxe/qemu/efi-e1000e.rom")
# A line of ldd: "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x...)", or the loader's path alone.
LIBRARY = re.compile(r"(/\S+) \(0x[0-9a-f]+\)$")


def files(name):
    """The bundle's files: (host path or bytes, path in the machine)."""
    if name not in BUNDLES:
        raise MachineError(f"nothing is called {name!r} that a machine could carry: use {', '.join(BUNDLES)}")
    return BUNDLES[name]()


def _qemu():
    if not QEMU.exists():
        raise MachineError("the package qemu-system-x86 is not installed")
    listing = subprocess.run(["ldd", QEMU], stdout=subprocess.PIPE, text=True, check=True).stdout
    libraries = [match.group(1) for match in map(LIBRARY.search, listing.splitlines()) if match]
    return [(Path(path), path) for path in (str(QEMU), *libraries, *FIRMWARE)]


def _linux():
    run_tool("make", "-s", "-C", build.TOP / "tools/guests/linux")
    archive = initramfs.Archive()
    archive.directory("dev")
    archive.char_device("dev/console", 5, 1)
    archive.file("init", (build.TOP / "build/guests/linux/init").read_bytes())
    return [(kernel.find("lean").bzimage, "/linux/bzImage"), (archive.finish(), "/linux/initrd")]


def _linux_stock():
    return [(kernel.find("stock").bzimage, "/linux/stock")]


BUNDLES = {"qemu": _qemu, "linux": _linux, "linux-stock": _linux_stock}
