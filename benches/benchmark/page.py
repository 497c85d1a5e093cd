"""docs/benchmarks.md and its pictures, from the figures alone. Of an existing page only what stands between the two marks
is replaced."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from .figures import (
    Figures,
    idle,
    largest,
    of_all,
    outcome,
    per_call,
    reported,
    sizes,
    starts,
    times,
    total,
    turn,
)
from .forms import FORMS, GLIBC_TUNABLES
from .pictures import pictures
from .tables import Format, compared, cpu, how_many, memory, millis, seconds, table

BEGIN, END = "<!-- make benchmark: begin -->", "<!-- make benchmark: end -->"
PICTURES = {"memory": "bench-memory.svg", "cpu": "bench-cpu.svg", "times": "bench-times.svg"}
FULL_MACHINE = 95.0
HEAD = ["", *(form.name for form in FORMS)]


def write(figures: Figures, docs: Path) -> list[Path]:
    written = []
    for key, picture in pictures(figures).items():
        path = docs / "pictures" / PICTURES[key]
        path.parent.mkdir(exist_ok=True)
        path.write_text(picture)
        written.append(path)
    page = docs / "benchmarks.md"
    old = page.read_text() if page.exists() else f"# What it costs\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        raise ValueError(f"{page} has no marks for what the benchmark writes: {BEGIN} {END}")
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text(figures)}\n{END}{after}")
    return [*written, page]


def text(figures: Figures) -> str:
    parts = [
        intro(figures),
        short(figures),
        in_detail(figures),
        equal_work(figures),
        lost(figures),
        limits(figures),
        repeat(),
    ]
    return "\n\n".join(parts)


def intro(figures: Figures) -> str:
    m, v = figures.machine, figures.versions
    trial = "" if figures.plan == "full" else "\n**A trial run: too short for figures that count.**\n"
    return f"""{trial}
`call-history` beside the same job in Python: a worker written with `livekit-agents` as its documents teach, which is
dispatched to each room, joins hidden, reads what the room shows, and posts the same record
([benches/python](../benches/python), {figures.lines_of_python} lines). It runs in the library's usual form, with a
process for each call, and in its leanest, with a thread for each. call-history has the environment of its image
(`GLIBC_TUNABLES={GLIBC_TUNABLES}`, see [running.md](running.md#memory)). All three take turns on one machine, on one server, with
the same callers and voice agents.

Measured on {figures.date}: {m["cores"]} cores ({m["cpu"]}), {m["memory"]}, {m["system"]}; {figures.server}, callers and
voice agents on the same machine. call-history {v["call-history"]} ({v["commit"]}), livekit-agents {v["livekit-agents"]},
livekit {v["livekit"]}, Python {v["Python"]}. On disk: a binary of {figures.binary_mb:.0f} MB; Python packages of
{figures.environment_mb:,.0f} MB, and Python."""


def short(figures: Figures) -> str:
    n = largest(figures)
    rows = [
        ["memory without calls", *compared(idle(figures, "pss_mb"), memory)],
        ["memory for each quiet call", *compared(of_all(figures, n, per_call, "quiet", "pss_mb"), memory)],
        [
            "memory for each talking call",
            *compared(of_all(figures, n, per_call, "talking", "pss_mb"), memory),
        ],
        [f"memory with {n} talking calls", *compared(of_all(figures, n, total, "talking", "pss_mb"), memory)],
        [after_name(figures, n), *compared(of_all(figures, n, total, "after", "pss_mb"), memory)],
        ["CPU for each quiet call", *compared(of_all(figures, n, per_call, "quiet", "cpu_percent"), cpu)],
        ["CPU for each talking call", *compared(of_all(figures, n, per_call, "talking", "cpu_percent"), cpu)],
        ["start to registered", *compared(starts(figures), seconds)],
        [f"dispatch to joined, beside {n} calls", *compared(times(figures, n, "joined_ms"), millis)],
        [f"room's end to POST, beside {n} calls", *compared(times(figures, n, "posted_ms"), millis)],
        *([what, *cells] for what, cells in lost_rows(figures)),
    ]
    return f"""## In short

With {how_many(n)}, where nothing else is said. Memory is PSS, the sum over all processes of a worker, with shared pages counted
once; CPU is per cent of one core; ratios are to `call-history`; times are medians.

{table(HEAD, rows)}

![Memory of each worker by number of talking calls](pictures/{PICTURES["memory"]})

![CPU for each talking call](pictures/{PICTURES["cpu"]})

![Times: start to registered, dispatch to joined, room's end to POST](pictures/{PICTURES["times"]})"""


def after_name(figures: Figures, calls: int) -> str:
    return (
        f"memory {figures.after_s:.0f} s after them"
        if calls == max(sizes(figures))
        else "memory after the calls"
    )


def in_detail(figures: Figures) -> str:
    parts = ["## In detail"]
    for calls in sizes(figures):
        parts.append(f"### {how_many(calls)}\n\n{in_size(figures, calls)}")
    parts.append("""A figure for each call is what was used beyond the idle worker, divided by the calls; with one call it holds
what a worker needs once, for its first call. RSS counts a shared page once for each process that has it. A talking
agent sends twelve chunks of transcript a second, and its state changes twice in three seconds.""")
    return "\n\n".join([*parts, *not_all(figures)])


def in_size(figures: Figures, calls: int) -> str:
    def row(
        name: str, what: Callable, span: str, figure: str, shown: Format, ratios: bool = True
    ) -> list[str]:
        return [name, *compared(of_all(figures, calls, what, span, figure), shown, ratios)]

    rows = []
    for phase in ("idle", "quiet", "talking", "after"):
        rows.append(row(f"{phase}: PSS", total, phase, "pss_mb", memory))
        rows.append(row(f"{phase}: RSS", total, phase, "rss_mb", memory))
        rows.append(row(f"{phase}: CPU, whole worker", total, phase, "cpu_percent", cpu))
    for phase in ("quiet", "talking"):
        rows.append(row(f"for each call, {phase}: PSS", per_call, phase, "pss_mb", memory))
        rows.append(row(f"for each call, {phase}: CPU", per_call, phase, "cpu_percent", cpu))
    return table(
        HEAD,
        [
            *rows,
            ["dispatch to joined, median", *compared(times(figures, calls, "joined_ms"), millis)],
            ["room's end to POST, median", *compared(times(figures, calls, "posted_ms"), millis)],
            ["calls that were reported", *(reported(turn(figures, form.key, calls)) for form in FORMS)],
            row("processes, talking", total, "talking", "processes", "{:.0f}".format, False),
            row("threads, talking", total, "talking", "threads", "{:.0f}".format, False),
            row("chunks a second in each call", total, "talking", "chunks", "{:.1f}".format, False),
            row("the machine's CPU, talking", total, "talking", "machine_percent", "{:.0f} %".format, False),
        ],
    )


def not_all(figures: Figures) -> list[str]:
    """Why figures are missing, or say less than they seem to."""
    skipped, full = [], []
    for calls in sizes(figures):
        for form in FORMS:
            t, which = turn(figures, form.key, calls), f"{form.name}, {how_many(calls)}"
            if t.get("skipped"):
                skipped.append(f"{which}: {t['skipped']}.")
            elif (total(t, "talking", "machine_percent") or 0) >= FULL_MACHINE:
                full.append(which)
    if full:
        skipped.append(
            f"The machine was full with {'; '.join(full)}: there the talking figures are what it could do, and not what was asked for."
        )
    return skipped


def equal_work(figures: Figures) -> str:
    found = [outcome(figures, form.key, "equal") for form in FORMS]
    rows = [
        ["calls", *(str(o.get("calls", "–")) for o in found)],
        ["runs until all agreed, two at most", *(str(o.get("runs", "–")) for o in found)],
        ["records", *(str(o.get("posted", "–")) for o in found)],
        ["records that agree with the truth in every field", *(str(o.get("right", "–")) for o in found)],
    ]
    return f"""## Equal work

Scripted calls, held by all workers alike: phones that hang up, agents that delete the room, callees who decline. Each
record is compared with what was said and done: number, direction, status, reason, configuration, utterances and their
longest, silences, interruptions, outcomes and stages exactly; start and end within 0.5 s, mean response times and
stages within 0.3 s. (The server announces a callee's leave up to 3 s late, as that callee has no track.) The signature of
each is checked. If one of them is wrong, there is no page.

{table(HEAD, rows)}"""


def lost_rows(figures: Figures) -> list[tuple[str, list[str]]]:
    rows = []
    for what, name in (
        ("killed", "killed in mid-call: records lost"),
        ("away", f"endpoint away for {figures.away_s:.0f} s: records lost"),
    ):
        found = [outcome(figures, form.key, what) for form in FORMS]
        rows.append((name, [f"{o['calls'] - o['posted']} of {o['calls']}" if o else "–" for o in found]))
    return rows


def lost(figures: Figures) -> str:
    rows = []
    for what, name in (("killed", "killed"), ("away", "endpoint away")):
        found = [outcome(figures, form.key, what) for form in FORMS]
        rows += [
            [f"{name}: calls", *(str(o.get("calls", "–")) for o in found)],
            [f"{name}: records that came", *(str(o.get("posted", "–")) for o in found)],
            [f"{name}: that agree with the truth in every field", *(str(o.get("right", "–")) for o in found)],
            [f"{name}: calls reported twice", *(str(o.get("twice", "–")) for o in found)],
        ]
    late = [outcome(figures, form.key, "away").get("last_after_s") for form in FORMS]
    rows.append(["endpoint away: last record after its return", *compared(late, seconds, False)])
    differences = [
        line
        for form in FORMS
        for o in figures.outcomes
        if o["form"] == form.key
        for line in differing(form.name, o)
    ]
    return f"""## What is lost

*Killed*: SIGKILL for the worker with all its processes, in each call at another moment; started again a second later; the calls
go on, and end. *Endpoint away*: connections are refused when the calls end, and for {figures.away_s:.0f} s after.

{table(HEAD, rows)}

The Python worker keeps a record in memory, and tries for four and a half minutes. LiveKit does not give out the job of a killed
worker again. What was published while no worker was there, and cannot be asked for afterwards, is in no record: a
stage, or a silence that began or ended then. The record's note says that it is incomplete.{"".join(differences)}"""


def differing(name: str, o: dict) -> list[str]:
    """Why there are no records, or in which fields those that came differ from the truth."""
    if o["failed"]:
        return [f"\n\n{name}, {o['what']}: the calls could not be held, {o['failed']}."]
    fields = Counter(
        fault.partition(": ")[2].partition(" is ")[0]
        for fault in o["wrong"]
        if not fault.endswith("no record")
    )
    if o["what"] == "equal" or not fields:
        return []
    found = ", ".join(f"{field} ({count})" for field, count in fields.most_common())
    return [
        f"\n\n{name}, {o['what']}: of {o['posted']} records {o['posted'] - o['right']} differ somewhere from the truth: {found}."
    ]


def limits(figures: Figures) -> str:
    return f"""## What this does not show

* Server, callers and voice agents share the machine, so that a worker that is greedy also slows the others; the three
  workers themselves never run at the same time.
* *Dispatch to joined* begins with the request that makes the room and names the worker, and ends when the server lists it
  as connected. The development server offers a job at once; a real one takes 0.1 to 0.3 s longer, for all three alike.
* Nobody in these calls has sound. In a real call `call-history` also hears from the server who speaks, which the Python
  worker does not ask for; no audio is sent to any of them.
* The benchmark is itself a Python program, so that a few MB of the interpreter are shared with the Python workers, and count
  for them only in part.
* The Python worker reports plain calls. It does not find calls by itself, knows no transfers, no several calls in a room, no
  late joins.
* One run took {figures.minutes:.0f} minutes."""


def repeat() -> str:
    return """## Repeat it

    make benchmark            # half an hour, on a quiet machine; LIVEKIT_URL names another server
    make benchmark SHORT=1    # a few minutes: does it work? Figures go to target/benchmark only

The figures are kept in `target/benchmark/figures.json`."""
