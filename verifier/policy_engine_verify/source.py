"""Reading a bundle: a folder or a .zip of members with known names. Only reading: nothing is unpacked or written.

A member's name is one of a few patterns, so no path leads elsewhere; links, doubled names, encrypted, overlapping and
absurdly compressed members are refused before a byte of them is read. Files are read in pieces, lines have a length.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Callable
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO

from policy_engine_verify import limits
from policy_engine_verify.formats import Refused

NAMES = re.compile(
    r"manifest\.json|checkpoint|leaves\.jsonl|(?:entries|sealed|bodies)/[A-Za-z0-9_-]{1,64}\.jsonl"
    r"|hashes/[A-Za-z0-9_-]{1,64}|blobs/[0-9a-f]{64}|releases/[0-9a-f]{64}/(?:files\.json|model\.conf|policy\.csv)"
    r"|receipts/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.json|proofs/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.tlog-proof"
)
FOLDERS = re.compile("entries|sealed|bodies|hashes|blobs|receipts|proofs|releases(?:/[0-9a-f]{64})?")
_ESCAPED = (10, 92, *range(10), *range(11, 32))
"""The bytes that JSON writes with an escape, quotes aside; the newline first."""

ReadSome = Callable[[int], bytes]


class Lines:
    """The lines of a member, in order. `plain` is true while all lines that wait are (`is_plain`)."""

    def __init__(self, name: str, read: ReadSome | None) -> None:
        self.name, self.plain = name, True
        self._read, self._rest = read, b""
        self._lines: list[bytes] = []
        self._at = 0

    def take(self, count: int) -> list[bytes]:
        """Return the next `count` lines, fewer at the end."""
        while len(self._lines) - self._at < count and self._read is not None:
            self._fill()
        found = self._lines[self._at : self._at + count]
        self._at += len(found)
        if self._at == len(self._lines):  # kept, they would be a piece of every log there ever was
            self._lines, self._at = [], 0
        return found

    def back(self, lines: list[bytes]) -> None:
        """Put lines back, so that they come next."""
        self._lines = lines + self._lines[self._at :]
        self._at, self.plain = 0, False

    def _fill(self) -> None:
        chunk = _reading(self.name, lambda: self._read(limits.CHUNK_BYTES))  # type: ignore[misc]  # asked above
        if not chunk:
            self._read = None
            if self._rest:
                raise Refused(f"{self.name} is cut off: its last line has no end")
            return
        end = chunk.rfind(b"\n")
        if end < 0:
            self._rest += chunk
        else:
            whole, self._rest = self._rest + chunk[: end + 1], chunk[end + 1 :]
            self.plain = is_plain(whole, _ESCAPED[1:]) and (self.plain or self._at == len(self._lines))
            self._lines = self._lines[self._at :] + [line[:-1] for line in BytesIO(whole)]  # faster than to split it
            self._at = 0
        if len(self._rest) > limits.LINE_BYTES:
            raise Refused(f"a line of {self.name} is longer than {limits.LINE_BYTES} bytes")


def is_plain(data: bytes, without: tuple[int, ...] = _ESCAPED) -> bool:
    """Return whether bytes are UTF-8 without anything that JSON writes with an escape, quotes aside."""
    try:  # one look for each is faster than one at every byte
        return not any(map(data.__contains__, without)) and (data.isascii() or bool(data.decode()))
    except UnicodeDecodeError:
        return False


def _reading(name: str, read: Callable[[], bytes]) -> bytes:
    """Read, and say in one sentence when it cannot be done."""
    try:
        return read()
    except Exception:  # noqa: BLE001  a hostile .zip makes the library raise errors of many kinds
        raise Refused(f"{name} cannot be read: the bundle is cut off or damaged") from None


class Source:
    """A bundle: the sizes of its members by name, and how to read them."""

    def __init__(self, path: Path) -> None:
        self.sizes: dict[str, int] = {}
        self._path = path
        self._zip: zipfile.ZipFile | None = None
        self._file: IO[bytes] | None = None
        try:
            if path.is_dir():
                self._list_folder()
            else:
                self._list_zip()
        except Refused:
            self.close()
            raise
        except Exception:  # noqa: BLE001  a hostile .zip makes the library raise errors of many kinds
            self.close()
            raise Refused(
                "the bundle is neither a folder nor a .zip that can be read: it is foreign or cut off"
            ) from None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the .zip, if it is one."""
        if self._file is not None:
            self._file.close()

    def read(self, name: str, most: int) -> bytes:
        """Return a whole small member. Raises `Refused` when it is not there or larger than `most` bytes."""
        if name not in self.sizes:
            raise Refused(f"the bundle has no {name}")
        if self.sizes[name] > most:
            raise Refused(f"{name} is longer than {most} bytes")
        return _reading(name, lambda: self._open(name)(most + 1))

    def hashes(self, name: str, first: int, count: int) -> list[bytes] | None:
        """Return hashes that lie in the bundle to find a change by, if there are; they prove nothing."""
        if self.sizes.get(f"hashes/{name}", 0) < 32 * (first + count):
            return None
        data = _reading(name, lambda: self._open(f"hashes/{name}", 32 * first)(32 * count))
        return [data[at : at + 32] for at in range(0, len(data), 32)] if len(data) == 32 * count else None

    def lines(self, name: str) -> Lines:
        """Return the lines of a member; of one that is not there, none."""
        return Lines(name, self._open(name) if name in self.sizes else None)

    def _open(self, name: str, first: int = 0) -> ReadSome:
        if self._zip is not None:
            archive = self._zip
            opened: list[IO[bytes]] = []

            def read(count: int) -> bytes:
                if not opened:
                    opened.append(archive.open(name))
                    opened[0].seek(first)
                return opened[0].read(count)

            return read
        place, path = [first], os.path.join(self._path, name)

        def piece(count: int) -> bytes:
            """Read on from where the last piece ended; no file stays open, however many logs there are."""
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                data = os.pread(descriptor, count, place[0])
            finally:
                os.close(descriptor)
            place[0] += len(data)
            return data

        return piece

    def _list_folder(self) -> None:
        folders = [""]
        while folders:
            folder = folders.pop()
            with os.scandir(self._path / folder) as found:
                items = list(islice(found, limits.MEMBERS_COUNT + 1))
            for item in items:
                name = f"{folder}{item.name}"
                status = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and FOLDERS.fullmatch(name):
                    folders.append(name + "/")
                else:
                    self._add(name, status.st_size, stat.S_ISREG(status.st_mode))

    def _add(self, name: str, size: int, regular: bool) -> None:
        if not regular or not NAMES.fullmatch(name):
            raise Refused("the bundle holds a link, a special file, or a name that no bundle has")
        if name in self.sizes:
            raise Refused("the bundle holds two members of one name")
        self.sizes[name] = size
        if len(self.sizes) > limits.MEMBERS_COUNT:
            raise Refused(f"the bundle holds over {limits.MEMBERS_COUNT} members")

    def _list_zip(self) -> None:
        self._file = self._path.open("rb")
        if _directory_bytes(self._file, self._path.stat().st_size) > limits.DIRECTORY_BYTES:
            raise Refused(f"the directory of the .zip is longer than {limits.DIRECTORY_BYTES} bytes")
        self._zip = zipfile.ZipFile(self._file)
        end = 0
        for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
            if info.is_dir() and FOLDERS.fullmatch(info.filename[:-1]) and not info.file_size:
                continue
            mode = info.external_attr >> 16
            self._add(info.filename, info.file_size, stat.S_ISREG(mode) or not stat.S_IFMT(mode))
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused("a member of the .zip is encrypted or compressed in a way that no bundle is")
            if info.file_size > limits.ARCHIVE_RATIO_TIMES * info.compress_size + limits.CHUNK_BYTES:
                raise Refused(f"a member of the .zip unpacks to over {limits.ARCHIVE_RATIO_TIMES} times its size")
            if info.header_offset < end:
                raise Refused("members of the .zip overlap")
            end = info.header_offset + 30 + len(info.filename) + info.compress_size


def _directory_bytes(file: IO[bytes], size: int) -> int:
    """Return how long the directory of a .zip says it is, before anybody reads it.

    It is said at the very end, behind which nothing may stand: a comment could hold another end, that says less.
    """
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    large, locator, end = tail[:56], tail[56:76], tail[76:]
    found = int.from_bytes(end[12:16], "little")
    if end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise zipfile.BadZipFile
    if locator[:4] != b"PK\x06\x07":
        return found
    if large[:4] != b"PK\x06\x06" or int.from_bytes(locator[8:16], "little") != size - 98:
        raise zipfile.BadZipFile
    return max(int.from_bytes(large[40:48], "little"), found % 0xFFFFFFFF)  # which stands for "see the larger one"
