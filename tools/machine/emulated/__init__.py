# SPDX-License-Identifier: GPL-2.0-only
"""The emulated machine: a Linux kernel on an emulated Intel CPU with VMX (Bochs), from a host with none.

kernel     where vmlinuz, modules and KDIR of a kernel are
initramfs  the machine's root file system
bundle     files that a machine carries if it is asked to: QEMU, a Linux guest
image      the bootable CD made of the two
bochs      the emulator's process
console    what the machine prints, and what counts as a fault
results    test lines turned into counts
machine    one run, put together
"""
