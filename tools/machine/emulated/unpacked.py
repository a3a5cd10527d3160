# SPDX-License-Identifier: GPL-2.0-only
"""A bzImage that needs no unpacking.

Debian's kernel is compressed with XZ or ZSTD, and unpacking is three quarters of the instructions from power on to the
script. So the kernel proper, unchanged, is unpacked here once and put into a bzImage as the 32-bit protected-mode code,
laid out as it wants to lie in memory; boot-stub.S before it takes it into 64-bit mode. GRUB loads both to the address
the header prefers. (The formats: Documentation/x86/boot.rst of the kernel; elf(5).)
"""

import hashlib
import lzma
import os
import struct
import subprocess
import tempfile
from pathlib import Path

from .errors import MachineError, run_tool

HERE = Path(__file__).resolve().parent.parent
XZ_MAGIC = b"\xfd7zXZ\0"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Fields of the setup header.
SETUP_SECTS, CODE32_START, KERNEL_ALIGNMENT, MIN_ALIGNMENT = 0x1F1, 0x214, 0x230, 0x235
PAYLOAD_OFFSET, PREF_ADDRESS, INIT_SIZE = 0x248, 0x258, 0x260
# The stub's room before the kernel, as a power of two, which GRUB also gets as the alignment.
ROOM_ORDER = 16
ROOM = 1 << ROOM_ORDER
BZIMAGE_ADDRESS = 0x100000
PT_LOAD = 1


def cached(source):
    """The unpacked form of `source`, kept beside it; `source` itself if there is none."""
    with open(HERE / "boot-stub.S", "rb") as stub, open(__file__, "rb") as code:
        version = hashlib.sha256(stub.read() + code.read()).hexdigest()[:12]
    target = source.with_name(f"{source.name}-{version}")
    if not target.exists():
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        if not unpack(source, partial):
            return source
        partial.rename(target)
    return target


def unpack(source, target):
    """Writes the unpacked form of the bzImage `source` to `target`; False if it is not one that can be unpacked here."""
    image = source.read_bytes()
    setup = bytearray(image[:(image[SETUP_SECTS] + 1) * 512])
    payload_at, payload_size = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    payload_at += len(setup)
    elf = _decompress(image[payload_at:payload_at + payload_size])
    if elf is None:
        return False
    base, memory = _load(elf)
    (entry,) = struct.unpack_from("<Q", elf, 24)  # a physical address, in a kernel
    (preferred,) = struct.unpack_from("<Q", setup, PREF_ADDRESS)
    if base != preferred:
        return False
    (init_size,) = struct.unpack_from("<I", setup, INIT_SIZE)
    for form, field, value in (("<I", CODE32_START, BZIMAGE_ADDRESS), ("<I", KERNEL_ALIGNMENT, ROOM),
                               ("<B", MIN_ALIGNMENT, ROOM_ORDER), ("<Q", PREF_ADDRESS, base - ROOM),
                               ("<I", INIT_SIZE, init_size + ROOM)):
        struct.pack_into(form, setup, field, value)
    target.write_bytes(bytes(setup) + _stub(entry, base - ROOM).ljust(ROOM, b"\0") + memory)
    return True


def _decompress(payload):
    """The ELF file in the payload, whose last four bytes are its size; None if the compression is another."""
    if payload.startswith(XZ_MAGIC):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(ZSTD_MAGIC):
        try:
            return subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise MachineError(f"zstd could not unpack the kernel: {error}") from error
    return None


def _load(elf):
    """The memory of an ELF64 kernel once it is loaded: its lowest physical address, and its bytes up to .bss.

    What comes from there on the kernel clears itself before it uses it, as it has to after any loader.
    """
    (headers_at,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    bss = _section_address(elf, b".bss")
    end = None
    segments = []
    for index in range(count):
        kind, _flags, offset, virtual, physical, in_file, in_memory = struct.unpack_from(
            "<IIQQQQQ", elf, headers_at + index * size)
        if kind != PT_LOAD:
            continue
        segments.append((physical, elf[offset:offset + in_file]))
        if virtual <= bss < virtual + in_memory:
            end = physical + bss - virtual
    base = min(physical for physical, _ in segments)
    memory = bytearray(max(physical + len(content) for physical, content in segments) - base)
    for physical, content in segments:
        memory[physical - base:physical - base + len(content)] = content
    return base, bytes(memory[:end - base])


def _section_address(elf, wanted):
    (headers_at,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQ", elf, headers_at + index * size) for index in range(count)]
    names_at = sections[names][4]
    for name, _kind, _flags, address, _offset, _size in sections:
        if elf.startswith(wanted + b"\0", names_at + name):
            return address
    raise MachineError(f"the kernel has no section {wanted.decode()}")


def _stub(entry, address):
    with tempfile.TemporaryDirectory(prefix="minivmx-stub-") as directory:
        binary, elf = Path(directory) / "stub", Path(directory) / "stub.o"
        run_tool("as", "--64", "--defsym", f"ENTRY={entry}", "-o", elf, HERE / "boot-stub.S")
        run_tool("ld", "-m", "elf_x86_64", "--oformat", "binary", "-N", "-e", "_start", f"-Ttext={address:#x}", "-o",
                 binary, elf)
        return binary.read_bytes()
