"""Which pictures the page has."""

from .figures import (
    Figures,
    idle,
    largest,
    of_all,
    per_call,
    sizes,
    starts,
    times,
    total,
)
from .forms import FORMS
from .plots import Group, bars
from .tables import cpu, how_many, memory, millis, seconds

NAMES = [form.short for form in FORMS]


def pictures(figures: Figures) -> dict[str, str]:
    n = largest(figures)
    talking, spent = [], []
    for calls in sizes(figures):
        held = of_all(figures, calls, total, "talking", "pss_mb")
        talking.append(Group(how_many(calls), held, memory))
        used = of_all(figures, calls, per_call, "talking", "cpu_percent")
        spent.append(Group(how_many(calls), used, cpu))
    waits = [
        Group("start to registered", starts(figures), seconds),
        Group("dispatch to joined", times(figures, n, "joined_ms"), millis),
        Group("room's end to POST", times(figures, n, "posted_ms"), millis),
    ]
    without = Group("no calls", idle(figures, "pss_mb"), memory)
    return {
        "memory": bars("Memory of the whole worker while calls talk (PSS)", NAMES, [without, *talking]),
        "cpu": bars("CPU for each talking call, per cent of one core", NAMES, spent),
        "times": bars(f"Times beside {n} calls: each with a scale of its own", NAMES, waits, own_scales=True),
    }
