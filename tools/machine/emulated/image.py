# SPDX-License-Identifier: GPL-2.0-only
"""The bootable CD: GRUB with one built-in boot entry, the kernel and the initramfs."""

import subprocess
from pathlib import Path

from .errors import MachineError, run_tool

GRUB_MODULES = ("biosdisk", "iso9660", "linux")


def build(directory, kernel_image, initramfs, cmdline):
    """Writes `directory`/machine.iso and returns its path. initramfs: bytes; cmdline: the kernel's command line."""
    root = Path(directory) / "cd"
    root.mkdir()
    (root / "vmlinuz").symlink_to(kernel_image)
    (root / "initrd").write_bytes(_compressed(initramfs))
    config = Path(directory) / "grub.cfg"
    config.write_text(f"linux (cd)/vmlinuz {cmdline}\ninitrd (cd)/initrd\nboot\n")
    iso = Path(directory) / "machine.iso"
    run_tool("grub-mkimage", "-O", "i386-pc-eltorito", "-p", "/", "-c", config, "-o", root / "grub.img", *GRUB_MODULES)
    run_tool("xorriso", "-as", "mkisofs", "-quiet", "-follow-links", "-R", "-b", "grub.img", "-no-emul-boot",
             "-boot-load-size", "4", "-boot-info-table", "-o", iso, root)
    return iso


def _compressed(initramfs):
    """As the kernel unpacks it: reading a megabyte from the CD costs the emulator more than unpacking three."""
    try:
        return subprocess.run(["lz4", "-l", "-c"], input=initramfs, stdout=subprocess.PIPE, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise MachineError(f"lz4 could not compress the initramfs: {error}") from error
