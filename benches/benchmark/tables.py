"""Numbers as people read them, and tables of them."""

from collections.abc import Callable

Format = Callable[[float], str]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown: names at the left, numbers at the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rounded(value: float) -> str:
    """Three digits: 1,234 · 123 · 12.3 · 1.23 · 0.123."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.9995 else f"{value:.3f}"


def memory(mb: float) -> str:
    if abs(mb) < 1:
        return f"{mb * 1024:,.0f} kB"
    return f"{rounded(mb)} MB"


def cpu(percent: float) -> str:
    """Per cent of one core."""
    return "under 0.01 %" if percent < 0.01 else f"{rounded(percent)} %"


def millis(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 999.5 else f"{rounded(ms / 1000)} s"


def seconds(s: float) -> str:
    return millis(s * 1000)


def how_many(calls: int) -> str:
    return f"{calls} call{'s' if calls > 1 else ''}"


def ratio(value: float | None, base: float | None) -> str:
    """How many times the base; empty where that says nothing."""
    if value is None or not base or base <= 0 or value <= 0:
        return ""
    times = value / base
    return f" (×{times:,.0f})" if times >= 9.95 else f" (×{times:.1f})"


def compared(values: list[float | None], shown: Format, ratios: bool = True) -> list[str]:
    """Cells of one row: the first value is ours, the others get their ratio to it."""
    base = values[0]
    cells = []
    for i, value in enumerate(values):
        if value is None:
            cells.append("–")
        else:
            cells.append(shown(value) + (ratio(value, base) if i and ratios else ""))
    return cells
