"""Bars as SVG. Colours follow the reader's theme, dark or light; each bar has its number, so that none needs colours."""

from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 720, 170, 150
BAR, GAP, BETWEEN, TOP = 17, 3, 16, 76

STYLE = """
  .back { fill: #ffffff; stroke: #d0d7de }
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .faint { fill: #59636e }
  .b0 { fill: #0969da } .b1 { fill: #bc4c00 } .b2 { fill: #8250df }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117; stroke: #3d444d }
    text { fill: #f0f6fc }
    .faint { fill: #9198a1 }
    .b0 { fill: #4493f8 } .b1 { fill: #f0883e } .b2 { fill: #ab7df8 }
  }
"""


@dataclass(frozen=True)
class Group:
    """A row of the picture: one bar for each worker; `None`: not measured."""

    name: str
    values: list[float | None]
    shown: Callable[[float], str]


def bars(title: str, names: list[str], groups: list[Group], own_scales: bool = False) -> str:
    """`own_scales`: the groups have different units, so each has its longest bar at full length."""
    height = TOP + sum(len(g.values) * (BAR + GAP) + BETWEEN for g in groups)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        f'<text class="title" x="16" y="27">{escape(title)}</text>',
    ]
    x = 16
    for i, name in enumerate(names):
        out.append(f'<rect class="b{i}" x="{x}" y="42" width="12" height="12" rx="2"/>')
        out.append(f'<text x="{x + 18}" y="53">{escape(name)}</text>')
        x += 18 + 8 * len(name) + 20
    longest = max((v for g in groups for v in g.values if v is not None), default=0)
    y = TOP
    for group in groups:
        out.append(f'<text x="16" y="{y + 13}">{escape(group.name)}</text>')
        scale = max((v for v in group.values if v is not None), default=0) if own_scales else longest
        for i, value in enumerate(group.values):
            length = 0.0 if value is None or scale <= 0 else max(value, 0) / scale * (WIDTH - LEFT - RIGHT)
            label = "not measured" if value is None else group.shown(value)
            # A bar that is not quite nothing is seen.
            out.append(
                f'<rect class="b{i}" x="{LEFT}" y="{y}" width="{max(length, 1.5):.1f}" height="{BAR}" rx="2"/>'
            )
            out.append(f'<text class="faint" x="{LEFT + length + 8:.1f}" y="{y + 13}">{escape(label)}</text>')
            y += BAR + GAP
        y += BETWEEN
    out.append("</svg>")
    return "\n".join(out) + "\n"
