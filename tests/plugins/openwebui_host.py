"""Open WebUI as far as a filter sees it, in an interpreter that knows the standard library and one file.

It loads the file as Open WebUI 0.12 does (`utils/plugin.py`, `utils/filter.py`): executed into a module of its own that
is gone from `sys.modules` afterwards, saved valves put into `Valves(**saved)` before each call, and the parameters that
a handler names taken from what there is. It reads a JSON command a line and answers with a JSON line; chats keep their
metadata between commands. What comes from a stream is judged as Open WebUI does: an exception drops the piece, no more.
"""

import asyncio
import importlib.util
import inspect
import json
import sys
import types
from typing import Any


def load(text: str) -> Any:
    """Return the filter of a file's text, and refuse to go on where the engine's package could be imported."""
    if importlib.util.find_spec("policy_engine") is not None:
        raise RuntimeError("this interpreter knows the engine")
    module = types.ModuleType("function_policy_engine")
    sys.modules[module.__name__] = module
    exec(text, module.__dict__)  # noqa: S102  # as Open WebUI loads a filter
    del sys.modules[module.__name__]
    return module.Filter()  # type: ignore[attr-defined]  # what the executed text defines


class Host:
    """One filter, its saved valves, and the metadata of each chat."""

    def __init__(self, filter: Any, saved: dict[str, Any]) -> None:
        self.filter = filter
        self.saved = saved
        self.chats: dict[str, dict[str, Any]] = {}

    async def call(self, command: dict[str, Any]) -> Any:
        """Call one handler as Open WebUI does."""
        handler = getattr(self.filter, command["handler"])
        self.filter.valves = self.filter.Valves(**self.saved)
        metadata = self.chats.setdefault(command["chat"], dict(command.get("metadata") or {}))
        extra = {
            "__user__": command.get("user"),
            "__model__": command.get("model"),
            "__metadata__": metadata,
            "__chat_id__": command["chat"],
        }
        named = inspect.signature(handler).parameters
        given = {"event" if command["handler"] == "stream" else "body": command["data"]}
        result = handler(**given, **{name: value for name, value in extra.items() if name in named})
        return await result if inspect.iscoroutine(result) else result


async def answer(host: Host, command: dict[str, Any]) -> dict[str, Any]:
    """Return what a command gave, or the exception as Open WebUI shows it."""
    try:
        if command["do"] == "save":
            host.saved = command["valves"]
            return {"given": host.filter.Valves(**host.saved).model_dump(exclude_unset=True)}
        if command["do"] == "schema":
            return {"given": host.filter.Valves.schema(), "toggle": hasattr(host.filter, "toggle")}
        return {"given": await host.call(command)}
    except Exception as error:  # noqa: BLE001  # as Open WebUI shows whatever a filter raises
        return {"raised": f"{error}", "kind": type(error).__name__}


async def main() -> None:
    """Serve commands until the input ends."""
    with open(sys.argv[1], encoding="utf-8") as file:
        host = Host(load(file.read()), {})
    known = sys.stdlib_module_names | {"__main__"}
    foreign = sorted(name for name in sys.modules if name.partition(".")[0] not in known)
    sys.stdout.write(json.dumps({"foreign": foreign}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(await answer(host, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
