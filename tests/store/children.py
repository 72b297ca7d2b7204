"""Programs that tests run as other processes, on the same database file: `python -m tests.store.children NAME ...`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from policy_engine.errors import StoreUnavailable
from policy_engine.store.interfaces import Committed
from policy_engine.store.sqlite import SqliteStore
from tests.store.samples import VAULT, Sample, put


def say(line: str) -> None:
    """Tell the parent something."""
    sys.stdout.write(line + "\n")


def fill(path: str, most: str = "0") -> None:
    """Append until the disk (or, with `most`, the largest file allowed) is full; then make space and go on.

    Prints the entries written before, the error, whether the state could still be read, and the entries after.
    """
    store = SqliteStore(path, VAULT)
    if int(most):
        limit = Path(path + "-wal").stat().st_size + int(most)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    else:
        ballast = Path(path).with_name("ballast")
        ballast.write_bytes(bytes(200_000))
    written = 0
    try:
        for _ in range(10_000):
            written += append(store)
    except StoreUnavailable as error:
        say(f"full: {error.message}")
    for _ in range(3):
        try:
            written += append(store)
        except StoreUnavailable:
            say("still full")
    if int(most):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        ballast.unlink()
    for _ in range(5):
        written += append(store)
    say(f"written: {written}")
    store.close()


def append(store: SqliteStore) -> int:
    """Append four entries and return how many that were."""
    state = store.state()
    result = store.append([Sample(state, instant=store.now(), until=2**62, clock_set=False) for _ in range(4)], state)
    if not isinstance(result, Committed):
        raise TypeError("nothing else writes here")
    return len(result.seqs)


def change(path: str, count: str) -> None:
    """Change facts, one entry each, as a command line would."""
    store = SqliteStore(path, VAULT)
    for n in range(int(count)):
        store.change(put("persons", f"p{n}", 0))
    store.close()


if __name__ == "__main__":
    {"fill": fill, "change": change}[sys.argv[1]](*sys.argv[2:])
