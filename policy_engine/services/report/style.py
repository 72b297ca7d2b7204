"""How the report looks: one style sheet, in the page itself. No font, picture or script is fetched from anywhere.

Rules of the room: text on its background has a contrast of at least 7 to 1 in light, dark and print, and what is drawn
at least 3 to 1 (a test computes both from `COLOURS`); nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COLOURS: Final[Mapping[str, Mapping[str, str]]] = {
    "light": {
        "paper": "#ffffff", "ink": "#1b1f24", "faint": "#444c56", "rule": "#8b949e", "panel": "#f3f5f7",
        "allow": "#0b6e4f", "deny": "#b3261e", "denyback": "#f6c9c5", "mark": "#5a3ea6", "bar": "#1f5f99",
        "era0": "#d8e6f5", "era1": "#eadcf7", "good": "#0b5c41", "bad": "#9c1c15",
    },
    "dark": {
        "paper": "#14171a", "ink": "#f0f3f6", "faint": "#c2cad3", "rule": "#8b949e", "panel": "#1f2429",
        "allow": "#4cc59a", "deny": "#ff8a80", "denyback": "#5a1f1b", "mark": "#c4a8ff", "bar": "#79b8ff",
        "era0": "#1d3a57", "era1": "#3b2957", "good": "#6fdcb4", "bad": "#ffb4ab",
    },
}  # fmt: skip
"""The colours by name, in light and dark. Print uses the light ones."""


def _variables(scheme: str) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in COLOURS[scheme].items())


_RULES: Final = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main,header,footer,nav{max-width:860px;margin:0 auto;padding:0 1.25rem}
h1{font-size:1.7rem;line-height:1.2;margin:1.5rem 0 .25rem}
h2{font-size:1.25rem;margin:2.5rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
p.lead,p.note,figcaption,.empty{color:var(--faint)}
a{color:inherit}
nav ol{columns:2;padding-left:1.25rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.75rem;padding:0;
margin:1rem 0;list-style:none}
.cards li{background:var(--panel);border:1px solid var(--rule);border-radius:6px;padding:.6rem .8rem}
.cards strong{display:block;font-size:1.45rem;line-height:1.3;font-variant-numeric:tabular-nums}
.good{color:var(--good)}.bad{color:var(--bad)}
.scroll{overflow-x:auto;margin:.75rem 0 1.25rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;font-weight:600;padding:.25rem 0}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--rule);vertical-align:top;text-align:left}
th,td{overflow-wrap:break-word}
.long{overflow-wrap:anywhere;min-width:12rem}.short{white-space:nowrap}
th[scope=row]{font-weight:400;min-width:7rem}
th.number,td.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
dl{display:grid;grid-template-columns:minmax(9rem,auto) 1fr;gap:.2rem 1rem;margin:.75rem 0}
dt{color:var(--faint)}dd{margin:0;overflow-wrap:anywhere}
pre{background:var(--panel);padding:.75rem;overflow-x:auto;font-size:.8rem;white-space:pre-wrap;overflow-wrap:anywhere}
figure{margin:.75rem 0}figcaption{font-size:.9rem}
figure svg{width:100%;height:auto;display:block}
svg.defs{position:absolute}
svg text{fill:var(--ink);font:12px system-ui,sans-serif}
svg .axis,svg .name{text-anchor:end}svg .tick,svg .marked,svg .era{text-anchor:middle}
svg .axis,svg .tick{fill:var(--faint)}
svg .grid{stroke:var(--rule);stroke-width:.5}
svg rect.allow{fill:var(--allow)}
svg rect.deny{fill:url(#hatch);stroke:var(--deny);stroke-width:1}
svg .denyback{fill:var(--denyback)}svg .hatch{stroke:var(--deny);stroke-width:3}
svg rect.decisions{fill:var(--bar)}
svg line.mark{stroke:var(--mark);stroke-width:1.5}
svg line.mark.loosens{stroke-dasharray:4 3}
svg circle.mark{fill:var(--paper);stroke:var(--mark);stroke-width:1.5}
svg text.marked{fill:var(--mark);font-weight:600;font-size:10px}
svg rect.era{stroke:var(--rule);stroke-width:1}svg rect.era0{fill:var(--era0)}svg rect.era1{fill:var(--era1)}
.key span{display:inline-block;width:1.1rem;height:.8rem;margin:0 .35rem 0 1rem;vertical-align:-1px;
border:1px solid var(--ink)}
.key .allow{background:var(--allow)}
.key .deny{background:repeating-linear-gradient(45deg,var(--deny) 0 3px,var(--denyback) 3px 6px)}
footer{margin:3rem auto 2rem;color:var(--faint);font-size:.9rem}
@media print{body{font-size:10.5pt}nav,.scroll{overflow:visible}h2{break-after:avoid}figure,tr,dl{break-inside:avoid}
thead{display:table-header-group}a{text-decoration:none}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

STYLE: Final = (
    f":root{{color-scheme:light dark;{_variables('light')}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables('dark')}}}}}"
    f"{_RULES}"
)
"""The whole style sheet."""
