"""The fault disk as a library: built once with the machine's C compiler, put under programs that tests start.

Rules of the room:
- The engine under it is the engine: its own `pysqlite3`, its own files, its own process. Only libc's calls are met.
- Without a compiler (`apt-get install gcc libc6-dev`) tests skip; where `CI` is true they fail instead.
Left to others: what a loss of power leaves (`images`), what the journal says (`journal`).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("disk.c")
LIBRARY_VARIABLE = "FAULTDISK_LIBRARY"

KINDS = ("open", "write", "fsync", "truncate", "unlink", "rename", "link", "read")
"""Operations in the order of the bits that `disk.c` knows."""


@cache
def library() -> Path:
    """Return the built library; skip the test without a compiler, fail it where `CI` is true."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing = "the fault disk needs a C compiler (apt-get install gcc libc6-dev)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="pe-disk-"))
    built = folder / "disk.so"
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", str(built), str(SOURCE), "-ldl", "-lpthread"], check=True)
    return built


def run_on(folder: Path, *words: str, journal: Path | None = None, product: Path = ROOT) -> str:
    """Run `python -m WORDS` with the disk under a folder and return what it printed.

    `product` is the checkout whose packages run. Raises `subprocess.CalledProcessError` when the program fails.
    """
    environment = {**os.environ, "LD_PRELOAD": str(library()), LIBRARY_VARIABLE: str(library())}
    environment |= {"FAULTDISK_FOLDER": str(folder), "PYTHONPATH": str(product), "PYTHONDONTWRITEBYTECODE": "1"}
    if journal is not None:
        environment["FAULTDISK_JOURNAL"] = str(journal)
    command = [sys.executable, "-m", *words]
    ended = subprocess.run(command, cwd=product, env=environment, capture_output=True, text=True, timeout=600)
    if ended.returncode:
        sys.stderr.write(ended.stderr)
        raise subprocess.CalledProcessError(ended.returncode, command, ended.stdout, ended.stderr)
    return ended.stdout


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: the operations of some kinds on files whose names end so, from one of them on.

    `skip` operations go through first, then `times` fail with `error` (-1: all, until the disk is mended). `part`
    lets a failing write still write half.
    """

    kinds: tuple[str, ...]
    suffix: str
    error: int
    skip: int = 0
    times: int = 1
    part: bool = False


class Disk:
    """The disk under this very program, for programs started by `run_on`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
        self._library.faultdisk_failed.restype = ctypes.c_long
        self._library.faultdisk_count.restype = ctypes.c_long

    def mark(self, text: str) -> None:
        """Put a line into the journal, behind everything that happened before."""
        data = text.encode()
        self._library.faultdisk_mark(data, ctypes.c_uint32(len(data)))

    def arm(self, fault: Fault) -> None:
        """Let something go wrong from now on."""
        kinds = sum(1 << KINDS.index(kind) for kind in fault.kinds)
        self._library.faultdisk_arm(
            ctypes.c_int(kinds),
            fault.suffix.encode(),
            ctypes.c_long(fault.skip),
            ctypes.c_long(fault.times),
            ctypes.c_int(fault.error),
            ctypes.c_int(int(fault.part)),
        )

    def failed(self) -> int:
        """Return how many operations failed since it was armed."""
        return int(self._library.faultdisk_failed())

    def mend(self) -> int:
        """Let everything succeed again; return how many operations failed since it was armed."""
        failed = self.failed()
        self.arm(Fault((), "", 0, times=0))
        return failed

    def limit(self, size_bytes: int | None) -> None:
        """Let all files together hold no more than so many bytes."""
        self._library.faultdisk_capacity(ctypes.c_int64(-1 if size_bytes is None else size_bytes))

    def counted(self) -> Mapping[str, int]:
        """Return how many operations of each kind there were since the program started."""
        return {kind: int(self._library.faultdisk_count(number)) for number, kind in enumerate(KINDS)}
