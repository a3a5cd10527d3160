# SPDX-License-Identifier: GPL-2.0-only
"""The bootable CD: GRUB with one built-in boot entry, the kernel and the initramfs."""

import subprocess
from pathlib import Path

from .errors import MachineError

GRUB_MODULES = ("biosdisk", "iso9660", "linux")


def build(directory, kernel_image, initramfs, cmdline):
    """Writes `directory`/machine.iso and returns its path. initramfs: bytes; cmdline: the kernel's command line."""
    root = Path(directory) / "cd"
    root.mkdir()
    (root / "vmlinuz").symlink_to(kernel_image)
    (root / "initrd").write_bytes(initramfs)
    config = Path(directory) / "grub.cfg"
    config.write_text(f"linux (cd)/vmlinuz {cmdline}\ninitrd (cd)/initrd\nboot\n")
    iso = Path(directory) / "machine.iso"
    _run("grub-mkimage", "-O", "i386-pc-eltorito", "-p", "/", "-c", config, "-o", root / "grub.img", *GRUB_MODULES)
    _run("xorriso", "-as", "mkisofs", "-quiet", "-follow-links", "-R", "-b", "grub.img", "-no-emul-boot",
         "-boot-load-size", "4", "-boot-info-table", "-o", iso, root)
    return iso


def _run(*command):
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError:
        raise MachineError(f"{command[0]} is not installed") from None
    if run.returncode != 0:
        raise MachineError(f"{command[0]} failed", run.stdout.splitlines()[-10:])
