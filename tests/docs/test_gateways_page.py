"""The page about gateways: what it shows is what is printed, loaded and read, and every setting is on it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from policy_engine.cli.pep import SNIPPETS
from policy_engine.middleware.vllm import settings_of
from policy_engine.plugins import open_webui
from policy_engine.plugins.gatewaysettings import GatewaySettings
from policy_engine.plugins.open_webui import Engine, Valves
from tests.docs import pages
from tests.plugins import litellm_proxy, test_vllm_snippet

PAGE = pages.ROOT / "docs" / "gateways.md"


def code(text: str) -> list[str]:
    """Return the lines that are no comment."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_the_shown_configuration_of_litellm_is_the_printed_one() -> None:
    """The block is what remains of the file that the proxy of the tests runs, without its comments."""
    (block,) = pages.blocks(PAGE, "yaml")
    assert code(block.text) == code(SNIPPETS["litellm"].text())


def test_the_shown_line_of_vllm_is_the_printed_one() -> None:
    """The block is the last line of the file that the tests run; its variables are settings of the guard."""
    (block,) = pages.blocks(PAGE, "sh")
    lines = code(SNIPPETS["vllm"].text())
    assert code(block.text) == lines[-1:]
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines[:-1])
    assert settings_of(variables)["resolve"] == {"our-model": "fable-5"}


def test_what_is_printed_for_a_gateway_is_what_the_tests_run() -> None:
    """The three configurations are the files that the tests of the plugins load, start and copy."""
    printed = {name: SNIPPETS[name].text() for name in ("litellm", "vllm", "openwebui")}
    run = (litellm_proxy.SNIPPET, test_vllm_snippet.SNIPPET, Path(open_webui.__file__))
    assert list(printed.values()) == [file.read_text(encoding="utf-8") for file in run]


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
