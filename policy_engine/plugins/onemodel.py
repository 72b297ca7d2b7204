"""A request names its model once: what else in its body could say which model answers, or where, is refused.

LiteLLM lays the members of a body over what the operator wrote down for a deployment, and providers read members of
their own: `deployment_id`, `model_id`, `extra_body: {"model": …}`. That happens behind the last hook, so no hook sees
what comes of it. With `user_config` a caller even writes down deployments, and which model each of them is.

Rules of the room: pure. A name is judged by its letters and digits, whatever its case, and by its kind where it has
one: a new version of LiteLLM brings new names. What a model is to read (messages, input, the schema of a tool) is not
looked into.
Left to others: the member `model` itself, and fallbacks by name, which are decided hop by hop (`hops`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MODEL: Final = "model"
_MARKS: Final = re.compile(r"[\W_]+")
_KINDS: Final = re.compile(r"model|deployment|region|router|adapter|residency|^vertex\w*location$")
"""What names a model, whatever leads to one, and where it is served."""
_NAMES: Final = frozenset(
    (
        *("azure", "contextwindowfallbackdict", "customllmprovider", "engine", "engineid", "promptid"),
        *("uselitellmproxy", "userconfig", "apibase", "baseurl", "litellmcredentialname"),
        *("preset", "provider", "gateway", "inferencegeo", "lora", "loraid", "loraname", "lorapath"),
    )
)
_HARMLESS: Final = frozenset(
    ("additionalmodelrequestfields", "additionalmodelresponsefieldpaths", "allowedmodelregion")
)
"""Names by which Bedrock is told what its models read, and one by which LiteLLM takes deployments away."""
_LAID_OVER: Final = frozenset(
    (
        *("extrabody", "extraquery", "extraheaders", "headers", "litellmparams", "optionalparams", "params"),
        *("provideroptions", "request"),
    )
)
"""Members whose own members are laid over a request, or are sent beside it."""
_FALLBACKS: Final = frozenset(("fallbacks", "contextwindowfallbacks", "contentpolicyfallbacks"))
_SCOPED: Final = "providerspecificheader"
"""Headers with the providers that get them, one such or several; LiteLLM puts those of Anthropic's clients there."""
_PROVIDERS: Final = "custom_llm_provider"
_TOOLS: Final = frozenset(("plugins", "tools"))
"""A tool of a provider's own may have a model of its own, or choose one; what a function takes lies deeper."""
_SEARCHED: Final = "engine"
"""Among tools the name of what searches the web."""


def names_another(body: Mapping[str, Any]) -> bool:
    """Say whether a body could say beside its `model` which model answers, or where; one nested too deeply could."""
    try:
        return any(_says(name, value) for name, value in body.items() if name != MODEL)
    except RecursionError:
        return True


def _says(name: str, value: Any) -> bool:
    letters = _MARKS.sub("", name.casefold())
    if letters in _HARMLESS:
        return False
    if letters in _NAMES or _KINDS.search(letters):
        return value is not None
    if letters in _LAID_OVER:
        return value is not None and not (isinstance(value, Mapping) and _plain(value))
    if letters == _SCOPED:
        return value is not None and not all(map(_is_scoped, value if isinstance(value, list) else [value]))
    if letters in _FALLBACKS:
        return _in_fallbacks(value)
    if letters in _TOOLS:
        tools = value if isinstance(value, list) else [value]
        return not all(_is_tool(tool) for tool in tools if isinstance(tool, Mapping))
    return False


def _plain(members: Mapping[str, Any]) -> bool:
    return not any(name == MODEL or _says(name, value) for name, value in members.items())


def _is_tool(tool: Mapping[str, Any]) -> bool:
    return _plain({name: tool[name] for name in tool if name != _SEARCHED})


def _is_scoped(headers: Any) -> bool:
    return isinstance(headers, Mapping) and _plain({name: headers[name] for name in headers if name != _PROVIDERS})


def _in_fallbacks(value: Any) -> bool:
    """Look through fallbacks: names, names by the model that they stand in for, or requests with a `model`."""
    if isinstance(value, list):
        return any(_in_fallbacks(each) for each in value)
    if not isinstance(value, Mapping):
        return False
    if all(isinstance(each, list) for each in value.values()):
        return any(_in_fallbacks(each) for each in value.values())
    return names_another(value)
