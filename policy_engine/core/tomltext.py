"""Text in TOML, read in time and memory that grow with its length alone; whatever cannot be read is one kind of error.

Rules of the room: pure. `tomllib` keeps every beginning of a dotted key, the square of its length, and lets out of its
hand what Python raises for deep nesting and for long numbers; nothing that is meant to be read needs either.
Left to others: whose text it is, and what the refusal says of it.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from policy_engine.limits import LIMITS

_PART: Final = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY: Final = re.compile(rf"(?<![^\s\[{{,]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{LIMITS.toml_key_parts_count}}}")
"""A dotted key of one part too many, from its true beginning: nothing in it is tried in two ways."""
_LINE: Final = re.compile(r" \(at line (\d+)")


class NotToml(ValueError):
    """A text is no TOML, or none that is read here; the message says why, `line` (from 1) where it is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def loads_toml(text: str) -> dict[str, Any]:
    """Return the data of a text. Raises `NotToml`, and nothing else."""
    found = _LONG_KEY.search(text)
    if found is not None:
        most = LIMITS.toml_key_parts_count
        raise NotToml(f"a key has more than {most} parts between dots", text.count("\n", 0, found.start()) + 1)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _LINE.search(str(error))
        raise NotToml(str(error).partition(" (at")[0].lower(), int(at[1]) if at else None) from None
    except RecursionError:
        raise NotToml("it is nested too deeply") from None
    except ValueError:
        raise NotToml("a number in it is too long") from None
