"""Law 3 for changes: no change of a fact, order, key, approval or active release takes effect before its entry.

What is in effect is what the registers and the state row hold. After every act of a random history they are exactly
what the log's entries give when they are applied to nothing, so no act had an effect that is not in an entry.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given, settings

from policy_engine.store.interfaces import REGISTERS
from tests.services.acts import EVERYTHING, Act, Governance, govern

MIXED: list[Act] = [
    ("engage", 0, 0, 0),
    ("facts", 3, 0, 1),
    ("release", 0, 0, 0),
    ("read", 0, 0, 0),
    ("approve", 2, 0, 0),
    ("publish", 0, 1, 0),
    ("approve", 1, 0, 0),
    ("revoke", 3, 5, 0),
    ("approve", 2, 0, 0),
]

WRITTEN_BY_REFUSALS = {"proposal.failed", "proposal.expired", "release.stored"}
"""Entries that a refused act may leave: that its proposal failed, and content that has no effect."""


@given(EVERYTHING)
@settings(max_examples=30)
@example(MIXED)
def test_the_registers_are_what_the_log_says_after_every_act(acts: list[Act]) -> None:
    """State and registers equal a rebuild from the log after every act, and a refused act writes no effect.

    Control: policy_engine/store/registers.py:
    `row = RowBody(write.register, write.id, revision, write.document).encode()`
    """
    with tempfile.TemporaryDirectory() as folder:
        governance = govern(Path(folder))
        try:
            assert_rebuilt(governance)
            for act in acts:
                before = governance.house.kinds()
                refused = governance.do(act) is not None
                assert_rebuilt(governance)
                written = set(governance.house.kinds()[len(before) :])
                assert not refused or written <= WRITTEN_BY_REFUSALS
            assert governance.house.evidence.verify().findings == ()
        finally:
            governance.house.close()


def assert_rebuilt(governance: Governance) -> None:
    """The registers and the state are exactly what the log gives."""
    house = governance.house
    rebuilt = house.evidence.rebuild()
    assert rebuilt.state == house.store.state()
    for register in REGISTERS:
        rows = {row.id: row for row in house.store.rows(register)}
        assert dict(rebuilt.rows.get(register, {})) == rows
