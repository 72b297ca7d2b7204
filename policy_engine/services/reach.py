"""What a release would take from the orders in force: no activation may open what a switch or directive closes.

Rules of the room:
- Orders name models by words of the catalogue: ids, aliases, bases, families, tiers. Another release may give a word
  another meaning, and the order would stand and stop nothing. Such a release is refused while the order stands: easing
  an order is a change of its own, for two persons who see that it is one.
- Compared are the models that both releases know. A model that a release does not know is denied there anyway, and one
  that is new was never stopped. Orders that begin later count as those in force.
Left to others: what an order covers (`core.switches`, `core.orders`), when this is asked (`services.publish`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from policy_engine.core.orders import Directive
from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.core.switches import KillSwitch, SwitchQuestion, covers, read_kill_switch
from policy_engine.errors import Conflict
from policy_engine.services.snapshot import read_orders
from policy_engine.store.registerinterfaces import RegisterReader


def require_reach(registers: RegisterReader, old: AnyRelease, new: AnyRelease, at: int) -> None:
    """Raise `Conflict` where an order that is not over at an instant stops less under `new` than under `old`."""
    for row in registers.rows("switches"):
        switch = read_kill_switch(row.id, row.document)
        if switch.until > at and not switch.drill:
            _require_switch(switch, old, new)
    orders = read_orders(registers.rows("orders"))
    for order in () if orders is None else orders.all():  # orders that nobody can read block everyone
        if isinstance(order, Directive) and order.until > at:
            _require_directive(order, old, new)


def _require_switch(switch: KillSwitch, old: AnyRelease, new: AnyRelease) -> None:
    everything = replace(switch, actions=None)
    for id in _known_to_both(old, new, switch.models or ()):
        if covers(everything, _question(old, id)) and not covers(everything, _question(new, id)):
            raise Conflict(
                f"the kill switch {switch.id} stops the model {id}, and under this release it would not; engage a "
                "switch on the model's own id, or release this one, and propose the activation again"
            )


def _require_directive(directive: Directive, old: AnyRelease, new: AnyRelease) -> None:
    mend = "amend or end it, and propose the activation again"
    if isinstance(old, PlainRelease):
        return  # consults no directive: none can reach less
    if isinstance(new, PlainRelease):
        raise Conflict(f"this release has no packs, so the directive {directive.id} would block nothing; {mend}")
    if directive.models is None:
        return
    for id in _known_to_both(old, new, ()):
        before = directive.models & _question(old, id).models
        after = directive.models & _question(new, id).models
        # An exemption counts where it names each word by which the directive reaches a model: none may fall away.
        if (before - after) if directive.exempts else (before and not after):
            raise Conflict(f"the directive {directive.id} reaches the model {id}, and under this release less; {mend}")
    for name in sorted(name for exempt in directive.exempts for name in exempt.models):
        same = new.catalogue.aliases.get(name, name) == old.catalogue.aliases.get(name, name)
        if not same and new.catalogue.find(name) is not None:  # a name that means nothing any more exempts nobody
            raise Conflict(
                f"the directive {directive.id} exempts a model by the name {name}, which this release gives to "
                f"another; {mend}"
            )


def _known_to_both(old: AnyRelease, new: AnyRelease, named: Iterable[str]) -> Iterator[str]:
    """Yield the ids that both know; where a folder has no catalogue, any id is one: those of the other, and `named`."""
    ids = set(named) if _knows_all(old) else set(old.catalogue.models)
    ids |= set(new.catalogue.models) if _knows_all(old) else set()
    return (id for id in sorted(ids) if _knows_all(new) or new.catalogue.find(id) is not None)


def _knows_all(release: AnyRelease) -> bool:
    return isinstance(release, PlainRelease) and release.models is None


def _question(release: AnyRelease, id: str) -> SwitchQuestion:
    """Return what a switch is compared with for a model, whoever asks, from wherever, and for whatever."""
    model = release.catalogue.find(id)
    return SwitchQuestion(
        models=frozenset((id,)) if model is None else release.catalogue.names(model.id),
        tenants=None,
        tenant_types=frozenset(("unknown",)),
        tier=None if model is None else model.tier,
        regions=None,
        action="",
        families=None if model is None else release.catalogue.families(model.id),
    )
