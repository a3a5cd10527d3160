# SPDX-License-Identifier: GPL-2.0-only
"""The machine's root file system: busybox, a few modules and the caller's files, as a cpio archive.

The archive is written here rather than by cpio(1) so that it needs neither root (for /dev/console) nor a staging
directory, and so that equal inputs give equal bytes: a repeated run is then identical to the last instruction.
"""

import lzma
import os
import stat
import subprocess
from pathlib import Path

from .errors import MachineError

BUSYBOX = Path("/bin/busybox")
DIRECTORIES = ("dev", "proc", "sys", "tmp", "bin", "lib", "etc", "root", "mnt", "run")
# Modules a machine gets unless told otherwise, where its kernel has them.
MODULES = ("kvm-intel", "msr", "cpuid", "kunit", "brd")


class Archive:
    """A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self._data = bytearray()
        self._inode = 0
        self._known = set()

    def directory(self, path):
        """Adds a directory and its parents; one that is there already is left alone."""
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            self._once("/".join(parts[:depth]), stat.S_IFDIR | 0o755, b"")

    def file(self, path, content, mode=0o755):
        self._in_directory(path, stat.S_IFREG | mode, content)

    def symlink(self, path, target):
        self._in_directory(path, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, path, major, minor, mode=0o600):
        self._in_directory(path, stat.S_IFCHR | mode, b"", (major, minor))

    def finish(self):
        self._write("TRAILER!!!", 0, b"")
        return bytes(self._data)

    def _in_directory(self, path, mode, content, device=(0, 0)):
        path = path.strip("/")
        if "/" in path:
            self.directory(path.rsplit("/", 1)[0])
        self._once(path, mode, content, device)

    def _once(self, path, mode, content, device=(0, 0)):
        if path in self._known:
            if not stat.S_ISDIR(mode):
                raise MachineError(f"two files want to be /{path} in the machine")
            return
        self._known.add(path)
        self._write(path, mode, content, device)

    def _write(self, path, mode, content, device=(0, 0)):
        self._inode += 1
        name = path.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self._pad()
        self._data += content
        self._pad()

    def _pad(self):
        self._data += bytes(-len(self._data) % 4)


def build(kernel, init, files, modules=(), busybox=BUSYBOX):
    """Returns the archive's bytes.

    init: the text of /init; files: list of (host path or bytes, path in the machine);
    modules: names beyond MODULES, each an error if the kernel lacks it.
    """
    archive = Archive()
    for directory in DIRECTORIES:
        archive.directory(directory)
    archive.char_device("dev/console", 5, 1)
    archive.file("init", init.encode())
    _add_busybox(archive, busybox)
    _add_modules(archive, kernel, modules)
    for source, target in files:
        _add_host_file(archive, source, target)
    return archive.finish()


def _add_busybox(archive, busybox):
    if not busybox.exists():
        raise MachineError("the package busybox-static is not installed")
    archive.file("bin/busybox", busybox.read_bytes())
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    for applet in sorted(set(applets) - {"busybox"}):
        archive.symlink(f"bin/{applet}", "busybox")
    archive.symlink("sbin", "bin")


def _add_host_file(archive, source, target):
    if isinstance(source, bytes):
        archive.file(target, source)
        return
    source = Path(source)
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                _add_host_file(archive, path, f"{target}/{path.relative_to(source)}")
        return
    try:
        archive.file(target, source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)
    except OSError as error:
        raise MachineError(f"cannot read {source}: {error.strerror}") from error


def _add_modules(archive, kernel, wanted):
    """Copies modules with what they depend on, and a modules.dep that names just those."""
    depends = _read_dependencies(kernel)
    chosen = {}
    for name in dict.fromkeys([*MODULES, *wanted]):
        path = depends.by_name.get(name.replace("-", "_"))
        if path is not None:
            for one in (path, *depends.of[path]):
                chosen[one] = depends.of[one]
        elif name in wanted and name.replace("-", "_") not in depends.builtin:
            raise MachineError(f"the {kernel.name} kernel ({kernel.release}) has no module {name}")
    base = f"lib/modules/{kernel.release}"
    for path in chosen:
        content = (kernel.modules / path).read_bytes()
        if path.endswith(".xz"):  # busybox's insmod knows only plain ones
            content = lzma.decompress(content)
        archive.file(f"{base}/{_plain(path)}", content, 0o644)
    listing = "".join(f"{_plain(path)}: {' '.join(map(_plain, needs))}".rstrip() + "\n"
                      for path, needs in chosen.items())
    archive.file(f"{base}/modules.dep", listing.encode(), 0o644)


def _plain(path):
    return path.removesuffix(".xz")


class _Dependencies:
    def __init__(self):
        self.of = {}        # path -> the paths it needs
        self.by_name = {}   # module name with underscores -> path
        self.builtin = set()


def _read_dependencies(kernel):
    depends = _Dependencies()
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends.of[path] = needs.split()
        depends.by_name[_module_name(path)] = path
    for line in (kernel.modules / "modules.builtin").read_text().splitlines():
        depends.builtin.add(_module_name(line))
    return depends


def _module_name(path):
    return path.rsplit("/", 1)[-1].split(".", 1)[0].replace("-", "_")
