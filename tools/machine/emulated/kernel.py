# SPDX-License-Identifier: GPL-2.0-only
"""Kernels of the machine: `lean` (our config), `stock` (Debian's package), `stock-6.12` (its newer one)."""

import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import unpacked
from .errors import MachineError

HERE = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minivmx"

# Kernel command lines, without the console. Stock: what only costs time in an emulator is left out (tests of the
# crypto library, mandatory access control, the search for RAID arrays).
STOCK_CMDLINE = "nokaslr cryptomgr.notests=1 raid=noautodetect audit=0 lsm= mtrr_chunk_size=256M"
LEAN_CMDLINE = "nokaslr"


@dataclass(frozen=True)
class Kernel:
    name: str
    release: str
    image: Path    # what GRUB boots
    bzimage: Path  # the kernel's own file, for kexec
    modules: Path  # .../lib/modules/RELEASE
    build: Path    # KDIR for external modules
    cmdline: str

    @property
    def is_stock(self):
        return self.name.startswith("stock")


def find(name):
    """Returns the kernel called `name`, building or downloading it first if need be."""
    if name == "stock":
        return _stock(name, r"6\.1\.0-\d+-amd64", "linux-headers-amd64")
    if name == "stock-6.12":
        return _stock(name, r"6\.12\..*-amd64", "linux-headers-6.12-amd64")
    if name == "lean" or name.startswith("lean-"):
        return _lean(name)
    raise MachineError(f"unknown kernel {name!r}: use lean, stock or stock-6.12")


def _lean(name):
    variant = name[len("lean-"):] if name != "lean" else "lean"
    run = subprocess.run([HERE / "lean-kernel", "--variant", variant], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise MachineError(f"the {name} kernel could not be built")
    top = Path(run.stdout.strip())
    release = (top / "release").read_text().strip()
    return Kernel(name, release, top / "vmlinuz", top / "vmlinuz", top / "lib/modules" / release, top / "tree", LEAN_CMDLINE)


def _stock(name, abi, headers):
    """Debian's kernel: headers from the installed package, image and modules unpacked from the .deb of the same ABI."""
    releases = [path.name[len("linux-headers-"):] for path in Path("/usr/src").glob("linux-headers-*-amd64")
                if re.fullmatch(abi, path.name[len("linux-headers-"):])]
    if not releases:
        raise MachineError(f"the package {headers} is not installed")
    release = max(releases, key=_version_key)
    version = _package_version(f"linux-headers-{release}")
    top = CACHE / f"stock-{release}-{version}"
    with _locked(top):
        if not (top / "vmlinuz").exists():
            _unpack_image(release, version, top)
    image = unpacked.cached(top / "vmlinuz")
    return Kernel(name, release, image, top / "vmlinuz", top / "lib/modules" / release,
                  Path("/usr/src") / f"linux-headers-{release}", STOCK_CMDLINE)


def _version_key(text):
    return [int(part) for part in re.findall(r"\d+", text)]


def _package_version(package):
    run = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True)
    if run.returncode != 0:
        raise MachineError(f"the package {package} is not installed")
    return run.stdout


def _locked(top):
    """An open file whose lock is held until it is closed: two runs at once prepare a kernel once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    lock = open(CACHE / f"{top.name}.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _unpack_image(release, version, top):
    """Unpacks the image's package into `top` without installing it; `top` appears complete or not at all."""
    package = f"linux-image-{release}"
    tmp = top.with_name(top.name + ".tmp")
    shutil.rmtree(tmp, ignore_errors=True)
    (tmp / "deb").mkdir(parents=True)
    errors = ""
    # The archive may hold only a newer build of the same ABI than the headers that are installed; that fits as well.
    for wanted in (f"{package}={version}", package):
        run = subprocess.run(["apt-get", "download", wanted], cwd=tmp / "deb", stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
        if run.returncode == 0:
            break
        errors += run.stderr
    else:
        raise MachineError(f"apt-get could not download {package}: install the newest linux-headers-amd64, so that "
                           "headers and image are of one version", errors.splitlines()[-5:])
    (deb,) = (tmp / "deb").glob("*.deb")
    subprocess.run(["dpkg", "-x", deb, tmp / "root"], check=True)
    modules = tmp / "root/lib/modules" / release
    (tmp / "lib/modules").mkdir(parents=True)
    modules.rename(tmp / "lib/modules" / release)
    subprocess.run(["/sbin/depmod", "-b", tmp, release], check=True)
    (tmp / "root/boot" / f"vmlinuz-{release}").rename(tmp / "vmlinuz")
    shutil.rmtree(tmp / "deb")
    shutil.rmtree(tmp / "root")
    shutil.rmtree(top, ignore_errors=True)
    tmp.rename(top)
