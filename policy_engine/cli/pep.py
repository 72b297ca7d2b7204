"""`policy-engine pep`: configurations of gateways that ask the engine, as the tests run them.

Rules of the room: a configuration is a file beside this module and a line of `SNIPPETS`; it is printed as it is, so
that what people run is what the tests ran. It holds no secret: the key is written as `pe_THE_KEY_OF_THIS_PROXY`.
Left to others: answering gateways (`api.checks`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Final

import typer

from policy_engine.cli import output
from policy_engine.cli.output import FormOption
from policy_engine.errors import NotFound

app = typer.Typer(name="pep", help="Print configurations of gateways that ask the engine.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class Snippet:
    """A configuration: its file, what it sets up, and the folder of the package that it lies in."""

    file: str
    summary: str
    folder: str = "cli/snippets"

    def text(self) -> str:
        """Return the configuration."""
        return files("policy_engine").joinpath(self.folder, self.file).read_text(encoding="utf-8")


SNIPPETS: Final = {
    "envoy": Snippet("envoy.yaml", "Envoy, ext_authz over gRPC: subject from its JWT filter, model from the body"),
    "envoy-http": Snippet("envoy-http.yaml", "Envoy, ext_authz over HTTP: the same without the extra `envoy`"),
    "nginx": Snippet("nginx.conf", "nginx, auth_request: one location a model"),
    "caddy": Snippet("caddy.Caddyfile", "Caddy, forward_auth: one path a model; Traefik's forwardAuth is alike"),
    "litellm": Snippet("litellm.yaml", "LiteLLM proxy, a callback: each call, each hop, the listing, streams"),
    "vllm": Snippet("vllm.sh", "vLLM, --middleware: every route, callers by the tokens of an issuer"),
    "openwebui": Snippet("open_webui.py", "Open WebUI, a filter: the one file to paste in as a function", "plugins"),
}

_COLUMNS: output.Columns = (("name", "name"), ("sets up", "summary"))


@app.command("list")
def list_all(form: FormOption = None) -> None:
    """List the gateways that there is a configuration for."""
    rows = [{"name": name, "summary": snippet.summary} for name, snippet in SNIPPETS.items()]
    output.emit_rows(rows, form, _COLUMNS)


@app.command("snippet")
def snippet(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The gateway, by its name in `pep list`.")],
) -> None:
    """Print the configuration of a gateway."""
    if name not in SNIPPETS:
        raise NotFound(f"there is no configuration of this name; there are {', '.join(SNIPPETS)}", where="NAME")
    sys.stdout.write(SNIPPETS[name].text())
