"""Where models are asked: the paths of the known interfaces, each with the body that it takes.

Rules of the room: pure. Every body asks for the least that there is, as in `asks`.
Left to others: which checks ask where (`routes`, `credentials`), other spellings of a path (`routes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policy_engine.probe.asks import ANTHROPIC, JSON_TYPE, PROMPT, Ask, encoded, encoded_part

Places = tuple[tuple[str, str], ...]
"""Paths, each with the name of a body; `{model}` in a path is the name, encoded."""

CHAT: Final[Places] = (("/v1/chat/completions", "chat"), ("/chat/completions", "chat"))
MESSAGES: Final[Places] = (("/v1/messages", "chat"), ("/messages", "chat"))
RESPONSES: Final[Places] = (("/v1/responses", "responses"), ("/responses", "responses"))
COMPLETIONS: Final[Places] = (("/v1/completions", "prompt"), ("/v1/engines/{model}/completions", "prompt"))
EMBEDDINGS: Final[Places] = (("/v1/embeddings", "input"), ("/embeddings", "input"))
INVOCATIONS: Final[Places] = (("/invocations", "chat"), ("/model/{model}/invoke", "chat"))
DEPLOYMENT: Final = "/openai/deployments/{model}/chat/completions?api-version=2024-10-21"
NATIVE: Final[Places] = (
    ("/api/chat", "native"),
    ("/api/generate", "generate"),
    ("/v1beta/models/{model}:generateContent", "contents"),
)
EVERY: Final[Places] = (
    *(*CHAT, *MESSAGES, *RESPONSES, *COMPLETIONS, *EMBEDDINGS, *INVOCATIONS),
    (DEPLOYMENT, "unnamed"),
    *NATIVE,
)

SECOND_NAMES: Final = ("deployment_id", "model_id")
"""Members by which LiteLLM, and Bedrock through it, take another model than that of `model`."""
MERGED: Final = "refuse members that could name a model beside `model`, or decide on the model that comes of them"
"""The fix for whoever takes such a member, at whichever interface."""


def bodies(model: str) -> Mapping[str, dict[str, Any]]:
    """Return the bodies by name, each for a model."""
    words, chat = [{"role": "user", "content": PROMPT}], {"model": model, "max_tokens": 1}
    return {
        "chat": {**chat, "messages": words},
        "responses": {"model": model, "input": PROMPT, "max_output_tokens": 16},
        "prompt": {**chat, "prompt": PROMPT},
        "input": {"model": model, "input": PROMPT},
        "contents": {"contents": [{"parts": [{"text": PROMPT}]}], "generationConfig": {"maxOutputTokens": 1}},
        "native": {"model": model, "messages": words, "stream": False, "options": {"num_predict": 1}},
        "generate": {"model": model, "prompt": PROMPT, "stream": False, "options": {"num_predict": 1}},
        "unnamed": {"messages": words, "max_tokens": 1},
    }


def asked_at(path: str, body: str, model: str) -> Ask:
    """Return the question for a model at a path, with one of the bodies."""
    headers = ANTHROPIC.headers if path.endswith("/messages") else (JSON_TYPE,)
    return Ask(path, path.replace("{model}", encoded_part(model)), encoded(bodies(model)[body]), headers=headers)
