"""The primary dies and its synchronous standby is promoted: nothing acknowledged is lost, and no old epoch revives.

Both are real servers. The stores know both by one URL that asks for the writable one, as an operator would set it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from policy_engine.errors import StoreUnavailable
from policy_engine.ledger.encoding import parse_public
from policy_engine.store.interfaces import Committed
from policy_engine.store.postgres import PostgresStore
from tests.attacks.test_postgres_kills import Load, draft, places
from tests.postgresql import Pair, end_pair, started_pair
from tests.store.samples import VAULT, PostgresDatabase, genesis, put

WAIT_SECONDS = 1.5


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary with a synchronous standby."""
    made = started_pair()
    yield made
    end_pair(made)


def test_the_standby_goes_on_where_the_primary_died(pair: Pair) -> None:
    """Under load: every acknowledged entry once, the switch stays engaged, and the old primary acknowledges nothing."""
    database = PostgresDatabase(None, pair.either)
    stores = [database.open() for _ in range(2)]
    genesis(stores[0])
    with Load(database) as load:
        load.await_more()
        engaged = stores[0].change(put("switches", "off", 0, {"scope": {"models": ["fable-5"]}}))
        epoch = stores[0].state().epoch
        load.await_more(60)
        pair.primary.stop("immediate")
        pair.standby.promote()
        load.await_more(60)
    load.check()
    assert (engaged.log_id, engaged.seqs[0]) in places(database)
    assert stores[1].state().epoch == epoch
    with pair.standby.admin(database.name) as session:
        written = session.execute("SELECT public FROM policy_engine.entries").fetchall()
    entries = [parse_public(bytes(public)) for (public,) in written]
    committed_at = next(entry["at"] for entry in entries if entry["kind"] == "switches.put")
    assert [entry for entry in entries if entry["epoch"] < epoch and entry["at"] > committed_at] == []
    database.close()
    assert database.verify().findings == ()

    pair.primary.start()
    url = pair.primary.url(database.name, "pe_writer")
    stray = PostgresStore(url, VAULT, operator=pair.primary.url(database.name, "pe_operator"))
    state = stray.state()
    told = [
        unacknowledged(lambda: stray.append([draft(stray)], state)),
        unacknowledged(lambda: stray.change(put("switches", "other", 0, {"scope": {"models": ["open-1"]}}))),
    ]
    time.sleep(WAIT_SECONDS)
    pair.primary.stop("immediate")
    stray.close()
    assert not any(isinstance(answer, Committed) for answers in told for answer in answers)


def unacknowledged(write: Callable[[], object]) -> list[object]:
    """Write in a thread of its own, for it may wait as long as the server does; return where its answer will be."""
    told: list[object] = []

    def run() -> None:
        try:
            told.append(write())
        except StoreUnavailable as error:
            told.append(error)

    threading.Thread(target=run, daemon=True).start()
    return told


def test_while_the_standby_is_away_nothing_is_acknowledged(pair: Pair) -> None:
    """A commit that only the primary has is not known to be durable; when the standby is back, writing goes on."""
    database = PostgresDatabase(None, pair.primary)
    store = database.open()
    genesis(store)
    state = store.state()
    pair.standby.stop()
    told = unacknowledged(lambda: store.append([draft(store)], state))
    time.sleep(WAIT_SECONDS)
    assert told == []
    pair.standby.start()
    until = time.monotonic() + 20
    while not told:
        assert time.monotonic() < until
        time.sleep(0.02)
    (result,) = told
    assert isinstance(result, Committed)
    assert isinstance(store.append([draft(store)], state), Committed)
    database.close()
    assert database.verify().findings == ()
