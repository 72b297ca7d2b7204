"""Checks of the model's name: other names of the forbidden model, and other spellings of its name.

Left to others: where the name stands (`headers`, `bodies`, `routes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policy_engine.probe.asks import Ask, encoded
from policy_engine.probe.checking import Asks, Check, Run, Scene, Verdict, skipped, withheld

GROUP: Final = "names"
_WIDE: Final = 0xFEE0
_CYRILLIC: Final = str.maketrans("aeopcyxi", "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456")


def plain(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the model as any client does."""
    yield scene.form.ask(model, "the plain question")


def streaming(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the model with a streamed answer."""
    yield scene.form.ask(model, "a streamed answer", stream=True)


def case(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the name in other cases."""
    yield from _spelled(scene, model, ("upper case", model.upper()), ("title case", model.title()))


def space(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the name with what a reader may trim."""
    yield from _spelled(
        scene,
        model,
        ("a space behind the name", f"{model} "),
        ("a space before the name", f" {model}"),
        ("a tab before the name", f"\t{model}"),
        ("a line break behind the name", f"{model}\n"),
        ("a null character behind the name", f"{model}\0"),
    )


def lookalike(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the name in characters that a reader may take for the same."""
    wide = "".join(chr(ord(mark) + _WIDE) if "!" <= mark <= "~" else mark for mark in model)
    yield from _spelled(
        scene,
        model,
        ("full-width letters", wide),
        ("an invisible character in the name", f"{model[:1]}\u200b{model[1:]}"),
        ("a soft hyphen in the name", f"{model[:1]}\u00ad{model[1:]}"),
        ("another hyphen", model.replace("-", "\u2010")),
        ("Cyrillic letters", model.translate(_CYRILLIC)),
    )


def prefixed(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the name with a provider before it or a version behind it."""
    before = (f"{prefix}/{model}" for prefix in ("openai", "anthropic", "azure", "models"))
    behind = (f"{model}{suffix}" for suffix in (":latest", "@latest", ":0"))
    for name in (*before, *behind):
        yield scene.form.ask(name, f"the name {name}")


def escaped(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the name written with JSON escapes: the same name to a parser, another to a search in the text."""
    spelled = "".join(f"\\u{ord(mark):04x}" for mark in model)
    yield scene.form.raw(scene.form.spelled(f'"{spelled}"'), "the name in JSON escapes")


def shapes(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the model by something that is no text."""
    for sent, value in (("a list of one name", [model]), ("an object with the name", {"id": model, "name": model})):
        yield scene.form.raw(encoded({**scene.form.rest(), "model": value}), sent)


def missing(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask without a model: whoever answers by default may be the forbidden one."""
    rest = scene.form.rest()
    yield scene.form.raw(encoded(rest), "no model at all")
    yield scene.form.raw(encoded({"model": "", **rest}), "an empty name")
    yield scene.form.raw(encoded({"model": None, **rest}), "null for a model")
    yield scene.form.raw(encoded({"models": [model], **rest}), "the model among models, and no model beside them")


def _spelled(scene: Scene, model: str, *spellings: tuple[str, str]) -> Iterator[Ask]:
    """Ask for those spellings that differ from the name."""
    for sent, name in spellings:
        if name != model:
            yield scene.form.ask(name, sent)


def _named(asks: Asks, names: str, option: str) -> Run:
    """Return a check over names that the operator gave; without any it is skipped."""

    def each(scene: Scene, _: str) -> Iterator[Ask]:
        for name in getattr(scene.target.models, names):
            yield from asks(scene, name)

    def run(scene: Scene) -> Verdict:
        if not getattr(scene.target.models, names):
            return skipped(f"no name to ask for: give {option}")
        return withheld(each)(scene)

    return run


_RESOLVE: Final = "decide on the catalogue's id of the name, and send that id on"

CHECKS: Final = (
    Check("streaming", GROUP, "decide before the upstream is asked, whether or not the answer is streamed",
          withheld(streaming)),
    Check("alias", GROUP, f"{_RESOLVE}; list every alias in the catalogue", _named(plain, "aliases", "--alias")),
    Check("derivative", GROUP, "list derivatives with what they are made from, so that they inherit its rules",
          _named(plain, "derivatives", "--derivative")),
    Check("name-case", GROUP, f"{_RESOLVE}; deny names that the catalogue does not spell so", withheld(case)),
    Check("name-space", GROUP, f"{_RESOLVE}; deny names with spaces or control characters", withheld(space)),
    Check("name-unicode", GROUP, f"{_RESOLVE}; deny names that are not in the catalogue letter by letter",
          withheld(lookalike)),
    Check("name-prefix", GROUP, f"{_RESOLVE}; deny provider prefixes and versions that it does not list",
          withheld(prefixed)),
    Check("name-escaped", GROUP, "read the body with a JSON parser, never with a pattern", withheld(escaped)),
    Check("name-shape", GROUP, "refuse a model that is not a text", withheld(shapes)),
    Check("name-missing", GROUP, "refuse a request without a model, or decide on the default model", withheld(missing)),
)  # fmt: skip
