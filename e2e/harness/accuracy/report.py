"""The report: the tables, with the texts between them."""

from collections import defaultdict
from pathlib import Path

from . import texts
from .compare import COUNTS, SIDES, Deviation, Errors, Events, Result
from .measured import Measured
from .rows import CALLERS, ROWS, kind_of
from .tiers import FED, RTVI, STATES, STATES_UNHEARD, TIERS, Tier

_AIMS = {
    FED: (0.050, 0.150),
    STATES: (0.150, 0.400),
    STATES_UNHEARD: (0.150, 0.400),
    RTVI: (0.150, 0.400),
}
"""The aims for the error of a response time: the median and the 95th percentile, in seconds."""

_COUNTED = (FED, STATES, RTVI)
"""Where every count should be exact."""

_WHAT = COUNTS | {"interruption_count": "interruptions", "silence_count": "silences"}


def report(kept: Path, rows: list[str]) -> str:
    return Report(Measured(kept, rows), rows).text()


class Report:
    def __init__(self, measured: Measured, rows: list[str]) -> None:
        self.m = measured
        self.rows = [row for row in rows if measured.calls[row]]

    def text(self) -> str:
        parts = [
            texts.INTRODUCTION,
            self._held(),
            texts.SIGNALS,
            "## Aims\n",
            self._aims(),
            "## Counts\n\nCalls in which the number is exact.\n",
            self._counts(),
            "### What was not exact\n",
            self._deviations(),
            "## Interruptions and silences\n",
            self._events(),
            "## Response times\n",
            texts.TIMES,
            *(self._times(side) for side in SIDES),
            "### Means of calls\n",
            "The same for the record's two numbers, each the mean of a call.\n",
            self._means(),
            texts.UNKNOWABLE,
            self._sound(),
        ]
        return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)

    # ---- What was measured

    def _held(self) -> str:
        total = sum(self.m.calls.values())
        happened = ", ".join(f"{n} {what}" for what, n in self.m.happened.items() if n)
        lines = [f"{total} calls: {happened}.", ""]
        lines += _table(
            ["agent", "caller", "calls", "with the agent's history", "given up"],
            [
                [*_names(r), self.m.calls[r], self.m.histories[r], self._given_up(r)]
                for r in self.rows
            ],
        )
        if self.m.failed:
            lines += ["", "Given up, and in no table:", ""]
            lines += [f"* {name}: {why}" for name, why in self.m.failed]
        same = f"{total - len(self.m.differs)} of {total} calls{_but(self.m.differs)}"
        lines += [
            "",
            f"Replayed from the journals, the record is the posted one to the digit in {same}. "
            "(The calls named here differ because the program was changed since they were held.)",
        ]
        if self.m.unseen:
            lines += ["", f"No record at all: {'; '.join(self.m.unseen)}."]
        return "\n".join(lines)

    def _given_up(self, row: str) -> int:
        return sum(name.rsplit("-", 1)[0] == row for name, _ in self.m.failed)

    # ---- Tables

    def _each(self):
        """Every row and tier that was measured."""
        for row in self.rows:
            for tier in TIERS:
                if result := self.m.result(row, tier.name):
                    yield row, tier, result

    def _aims(self) -> str:
        groups = dict.fromkeys(kind_of(row).aims for row in self.rows)
        lines = [line for group in groups for line in self._aims_of(group)]
        head = ["number (times: error in the median / at 95 %)", "seen", "aim", "found", ""]
        return "\n".join(_table(head, lines))

    def _aims_of(self, group: str):
        """The aims of some kinds of agents, each tier with all of their rows together."""
        each = [(t, r) for row, t, r in self._each() if kind_of(row).aims == group]

        def seen(tier: Tier) -> str:
            return f"{tier.name}; {group}" if group else tier.name

        for tier in _COUNTED:
            results = [r for t, r in each if t is tier]
            calls, exact = sum(r.calls for r in results), sum(r.all_exact() for r in results)
            if calls:
                what = "calls with exact utterances and longest utterances"
                found = f"{exact} of {calls}"
                yield [what, seen(tier), f"all {calls}", found, _met(exact == calls)]
        for side in SIDES:
            for tier, (middle, tail) in _AIMS.items():
                pool, due = Errors(), 0
                for t, result in each:
                    if t is tier:
                        pool.signed += result.answers[side].signed
                        due += result.due[side]
                if not pool.count:
                    continue
                found = f"{_ms(pool.middle())} / {_ms(pool.p95())} ms of {pool.count} of {due}"
                met = pool.middle() <= middle and pool.p95() <= tail
                aim = f"{_ms(middle)} / {_ms(tail)} ms"
                yield [f"the {side}'s response time", seen(tier), aim, found, _met(met)]

    def _counts(self) -> str:
        lines = []
        for row, tier, result in self._each():
            cells = []
            for key in COUNTS:
                known = result.known[key]
                cells.append(f"{result.exact[key]}/{known}" if known else "–")
            lines.append([*_names(row), _tier(row, tier.name), *cells])
        return "\n".join(_table(["agent", "caller", "seen", *COUNTS.values()], lines))

    def _deviations(self) -> str:
        groups: dict[tuple, list[Deviation]] = defaultdict(list)
        for row, tier, result in self._each():
            for d in result.deviations:
                groups[row, tier.name, d.what, d.off, d.reason].append(d)
        lines = []
        for (row, tier, what, off, why), all_of in groups.items():
            calls = sorted({d.call.rsplit("-", 1)[1] for d in all_of})
            lines.append(
                [*_names(row), _tier(row, tier), _WHAT[what], f"{off:+}", ", ".join(calls)]
                + [why or "not known"]
            )
        if not lines:
            return "Nothing."
        head = ["agent", "caller", "seen", "number", "off by", "calls", "why, it seems"]
        return "\n".join(_table(head, lines))

    def _events(self) -> str:
        def cells(r: Result, e: Events) -> list[int | str]:
            return [e.due, e.found, e.missed, e.false] if r.knows_caller else ["–"] * 4

        lines = [
            [*_names(row), _tier(row, t.name), *cells(r, r.interruptions), *cells(r, r.silences)]
            for row, t, r in self._each()
        ]
        kinds = ["were", "found", "missed", "false"]
        head = [f"{what}: {k}" if k == "were" else k for what in _EVENTS for k in kinds]
        return "\n".join(_table(["agent", "caller", "seen", *head], lines))

    def _times(self, side: str) -> str:
        lines = []
        for row in self.rows:
            for tier in TIERS:
                if result := self.m.result(row, tier.name):
                    unpaired = result.unpaired[side] if result.knows_caller else "–"
                    cells = [*_errors(result.answers[side]), unpaired]
                    lines.append([*_names(row), _tier(row, tier.name), *cells])
            own = self.m.own_report[row][side]
            if own.count:
                lines.append([*_names(row), "*the agent's own report*", *_errors(own), "–"])
        head = ["agent", "caller", "seen", "answers", "median", "95 %", "signed", "calls unpaired"]
        title = {
            "agent": "### The agent's: from the caller's last sound to its first\n\n",
            "user": "### The caller's: from the agent's last sound to the caller's first\n\n",
        }[side]
        return title + "\n".join(_table(head, lines))

    def _means(self) -> str:
        lines = []
        for row, tier, result in self._each():
            cells = [c for side in SIDES for c in _errors(result.means[side])[1:]]
            lines.append([*_names(row), _tier(row, tier.name), *cells])
        head = [f"{s}'s {k}" for s in SIDES for k in ("median", "95 %", "signed")]
        return "\n".join(_table(["agent", "caller", "seen", *head], lines))

    def _sound(self) -> str:
        heard = Errors()
        for row in self.rows:
            heard.signed += self.m.heard[row].signed
        if not heard.count:
            return ""
        return (
            f"* On this machine alone the browsers heard the agent begin {_ms(heard.middle())} ms "
            f"after it was played into the room, {_ms(heard.p95())} ms at the 95th percentile, of "
            f"{heard.count}."
        )


_EVENTS = ("interruptions", "silences")


def _names(row: str) -> list[str]:
    return [kind_of(row).title, CALLERS[ROWS[row][1]]]


def _tier(row: str, tier: str) -> str:
    """The name of a tier in a row: a Node agent has no feed, but sends its history at the end."""
    return "history at the leave" if row.startswith("node") and tier == FED.name else tier


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.0f}"


def _errors(e: Errors) -> list[str | int]:
    bias = e.bias()
    signed = "–" if bias is None else f"{1000 * bias:+.0f}"
    return [e.count, _ms(e.middle()), _ms(e.p95()), signed]


def _met(is_met: bool) -> str:
    return "met" if is_met else "**not met**"


def _but(calls: list[str]) -> str:
    return f" (not in {', '.join(calls)})" if 0 < len(calls) <= 5 else ""


def _table(head: list[str], lines: list[list]) -> list[str]:
    def row(cells) -> str:
        return "| " + " | ".join(str(cell) for cell in cells) + " |"

    return [row(head), "|" + "---|" * len(head), *map(row, lines)]
