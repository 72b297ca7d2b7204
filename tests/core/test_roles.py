"""A name has a role exactly where a search along the links comes to it within nine steps."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from policy_engine.core.roles import ROLE_STEPS_COUNT, Link, Roles

NAMES, DOMAINS = "abcdefghijklmn", ("", "d")
links = st.lists(st.tuples(*map(st.sampled_from, (NAMES, NAMES, DOMAINS))), max_size=30)


def reached(held: list[Link], name: str, domain: str) -> set[str]:
    """Return the names within so many links, one step after another."""
    found = {name}
    for _ in range(ROLE_STEPS_COUNT):
        found |= {role for user, role, where in held if where == domain and user in found}
    return found


@given(links, links, st.sampled_from(DOMAINS))
def test_what_is_reached_is_had_and_nothing_else(held: list[Link], more: list[Link], domain: str) -> None:
    """Over one link and over many, in one domain and not in the other, before and after links came."""
    for linked, roles in ((held, Roles(held)), (held + more, Roles(held).changed(more))):
        for name in (*NAMES[:4], "nobody"):
            expected = reached(linked, name, domain)
            event(f"roles: {min(len(expected), 3)}")
            had = {role for role in (*NAMES, "nobody") if roles.has(name, domain, role)}
            assert had == expected
            assert roles.reach(name, domain) == expected


def test_a_chain_ends_after_nine_links() -> None:
    """As far as Casbin's role manager follows them, and no farther."""
    chain = [(NAMES[at], NAMES[at + 1], "") for at in range(len(NAMES) - 1)]
    assert Roles(chain).has("a", "", NAMES[ROLE_STEPS_COUNT])
    assert not Roles(chain).has("a", "", NAMES[ROLE_STEPS_COUNT + 1])
