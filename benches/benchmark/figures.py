"""All that a page is made of, and how a figure is found in it. Kept as JSON, so that the page can be made anew."""

import statistics
from dataclasses import dataclass, field

from .forms import FORMS


@dataclass
class Figures:
    plan: str
    away_s: float
    after_s: float
    """From the end of the most calls to the look at what is left."""
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    server: str
    binary_mb: float
    lines_of_python: int
    environment_mb: float
    """The installed Python packages."""
    minutes: float = 0.0
    starts_s: dict[str, list[float]] = field(default_factory=dict)
    turns: list[dict] = field(default_factory=list)
    outcomes: list[dict] = field(default_factory=list)


def turn(figures: Figures, form: str, calls: int) -> dict:
    return next((t for t in figures.turns if t["form"] == form and t["calls"] == calls), {})


def total(t: dict, span: str, figure: str) -> float | None:
    return t[span][figure] if t.get(span) else None


def per_call(t: dict, span: str, figure: str) -> float | None:
    if not t.get(span) or not t.get("idle"):
        return None
    return (t[span][figure] - t["idle"][figure]) / t["calls"]


def median(values: list[float] | None) -> float | None:
    return statistics.median(values) if values else None


def sizes(figures: Figures) -> list[int]:
    return sorted({t["calls"] for t in figures.turns})


def largest(figures: Figures) -> int:
    """The most calls that all workers bore with figures for each phase."""

    def borne(calls: int) -> bool:
        return all(turn(figures, form.key, calls).get("after") for form in FORMS)

    return max((calls for calls in sizes(figures) if borne(calls)), default=sizes(figures)[0])


def of_all(figures: Figures, calls: int, figure, *what: str) -> list[float | None]:
    return [figure(turn(figures, form.key, calls), *what) for form in FORMS]


def reported(t: dict) -> str:
    """Of the calls that ended all at once, and of those that ended among them."""
    if not t.get("after"):
        return "–"
    return f"{t['reported'] + t['probes_reported']} of {t['calls'] + len(t['joined_ms'])}"


def starts(figures: Figures) -> list[float | None]:
    return [median(figures.starts_s.get(form.key)) for form in FORMS]


def times(figures: Figures, calls: int, what: str) -> list[float | None]:
    return [median(turn(figures, form.key, calls).get(what)) for form in FORMS]


def idle(figures: Figures, figure: str) -> list[float | None]:
    """The median over the turns: each began with a fresh worker."""
    return [
        median([t["idle"][figure] for t in figures.turns if t["form"] == f.key and t["idle"]]) for f in FORMS
    ]


def outcome(figures: Figures, form: str, what: str) -> dict:
    """Empty if the calls could not be held."""
    of_these = (o for o in figures.outcomes if o["form"] == form and o["what"] == what and not o["failed"])
    return next(of_these, {})
