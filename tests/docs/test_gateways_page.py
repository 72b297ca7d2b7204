"""The page about gateways: what it shows is what is printed, loaded and read, and every setting is on it."""

from __future__ import annotations

import json
import re

from policy_engine.middleware.vllm import settings_of
from policy_engine.plugins.gatewaysettings import GatewaySettings
from policy_engine.plugins.open_webui import Engine, Valves
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "gateways.md"
SNIPPETS = pages.ROOT / "policy_engine" / "cli" / "snippets"


def code(text: str) -> list[str]:
    """Return the lines that are no comment."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_the_shown_configuration_of_litellm_is_the_printed_one() -> None:
    """The block is what remains of the file that the proxy of the tests runs, without its comments."""
    (block,) = pages.blocks(PAGE, "yaml")
    assert code(block.text) == code((SNIPPETS / "litellm.yaml").read_text())


def test_the_shown_line_of_vllm_is_the_printed_one() -> None:
    """The block is the last line of the file that the tests run; its variables are settings of the guard."""
    (block,) = pages.blocks(PAGE, "sh")
    lines = code((SNIPPETS / "vllm.sh").read_text())
    assert code(block.text) == lines[-1:]
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines[:-1])
    assert settings_of(variables)["resolve"] == {"our-model": "fable-5"}


def test_the_shown_valves_are_enough() -> None:
    """Open WebUI would take the settings, and the filter could ask with them."""
    (block,) = pages.blocks(PAGE, "json")
    shown = json.loads(block.text)
    Engine(Valves(**shown))
    assert Valves(**shown).model_dump(exclude_unset=True) == shown


def test_every_setting_of_a_plugin_is_on_the_page() -> None:
    """The table names each variable, and none that does not exist."""
    named = set(re.findall(r"POLICY_ENGINE_[A-Z_]+[A-Z]", pages.section(PAGE, "LiteLLM")))
    assert named == {f"POLICY_ENGINE_{name.upper()}" for name in GatewaySettings.model_fields}
