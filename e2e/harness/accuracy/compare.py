"""Compares records with the truth: counts, events found, missed or invented, response times."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import mean, median

from .story import Story
from .tiers import Tier

COUNTS = {
    "total_user_utterances": "user utterances",
    "total_agent_utterances": "agent utterances",
    "longest_user_utterance": "longest user",
    "longest_agent_utterance": "longest agent",
}
SIDES = ("agent", "user")


@dataclass
class Errors:
    """Errors of times, in seconds: recorded minus real."""

    signed: list[float] = field(default_factory=list)

    def add(self, pairs) -> None:
        self.signed += [said - due for said, due in pairs]

    @property
    def count(self) -> int:
        return len(self.signed)

    def middle(self) -> float | None:
        return median(abs(e) for e in self.signed) if self.signed else None

    def bias(self) -> float | None:
        return median(self.signed) if self.signed else None

    def p95(self) -> float | None:
        """The 95th percentile by nearest rank."""
        if not self.signed:
            return None
        ranked = sorted(abs(e) for e in self.signed)
        return ranked[max(0, -(-95 * len(ranked) // 100) - 1)]


@dataclass
class Events:
    """Interruptions or silences: how many there were, and how many were reported."""

    due: int = 0
    found: int = 0
    missed: int = 0
    false: int = 0

    def add(self, due: int, reported: int) -> None:
        self.due += due
        self.found += min(due, reported)
        self.missed += max(0, due - reported)
        self.false += max(0, reported - due)


@dataclass(frozen=True)
class Deviation:
    call: str
    what: str
    off: int
    reason: str


class Result:
    """All calls of one row in one tier."""

    def __init__(self) -> None:
        self.calls = 0
        self.exact: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        """Calls in which the number can be known."""
        self.knows_caller = True
        """Whether anything shows when the caller speaks."""
        self.deviations: list[Deviation] = []
        self.interruptions, self.silences = Events(), Events()
        self.answers = {side: Errors() for side in SIDES}
        """The error of each answer, in calls whose number of answers is right."""
        self.means = {side: Errors() for side in SIDES}
        """The error of each call's mean, as the record has it."""
        self.due = dict.fromkeys(SIDES, 0)
        """How many answers there were."""
        self.unpaired = dict.fromkeys(SIDES, 0)
        """Calls whose number of answers is wrong."""

    def all_exact(self) -> int:
        """The number of calls in which every count is exact."""
        return self.calls - len({d.call for d in self.deviations if d.what in COUNTS})

    def add(self, story: Story, record: dict, tier: Tier) -> None:
        self.calls += 1
        self.knows_caller = _knows_caller(story, tier)
        metrics = record["metrics"]
        for key, (low, high) in _due(story).items():
            if not _is_known(key, story, tier):
                continue
            self.known[key] += 1
            reported = metrics[key]
            if low <= reported <= high:
                self.exact[key] += 1
            else:
                off = reported - high if reported > high else reported - low
                self._deviates(story, key, off, tier)
        if not self.knows_caller:
            return
        for key, due, events in (
            ("interruption_count", story.interruptions(), self.interruptions),
            ("silence_count", story.silences(), self.silences),
        ):
            events.add(due, metrics[key])
            if metrics[key] != due:
                self._deviates(story, key, metrics[key] - due, tier)
        for side, due in (("agent", story.agent_answers()), ("user", story.user_answers())):
            self._answers(side, record, [a.seconds for a in due])

    def _answers(self, side: str, record: dict, due: list[float]) -> None:
        self.due[side] += len(due)
        reported = (record["details"]["latency"][f"{side}_response"] or {"values": []})["values"]
        if len(reported) == len(due):
            self.answers[side].add(zip(reported, due, strict=True))
        else:
            self.unpaired[side] += 1
        if due and reported:
            self.means[side].add([(mean(reported), mean(due))])

    def _deviates(self, story: Story, key: str, off: int, tier: Tier) -> None:
        self.deviations.append(Deviation(story.name, key, off, reason(story, key, off, tier)))


def _knows_caller(story: Story, tier: Tier) -> bool:
    return tier.hears_caller or story.kind.transcribes


def _is_known(key: str, story: Story, tier: Tier) -> bool:
    """Whether a count can be known: words cannot where nothing transcribes them."""
    if "user" in key and not _knows_caller(story, tier):
        return False
    known = tier.has_words and (story.kind.transcribes or "user" not in key)
    return known or not key.startswith("longest")


def _due(story: Story) -> dict[str, tuple[int, int]]:
    return {
        "total_user_utterances": (len(story.user),) * 2,
        "total_agent_utterances": (len(story.agent),) * 2,
        "longest_user_utterance": story.longest(story.user),
        "longest_agent_utterance": story.longest(story.agent),
    }


def reason(story: Story, key: str, off: int, tier: Tier) -> str:
    """The likely reason why a count is off, from what happened in the call; "" if not known."""
    cut, noises = any(s.cut_off for s in story.agent), bool(story.noises)
    at_once = story.plan["hangs_up_at_once"]
    more, less = off > 0, off < 0
    known: list[tuple[str, bool, str]] = []
    if not tier.has_words:
        known += [
            ("total_user_utterances", less, "lines too short for the server's meter"),
            ("total_user_utterances", more and noises, "the noise is taken for a line"),
            ("total_agent_utterances", less, "answers too short for the server's meter"),
            ("interruption_count", less, "no signal shows that an answer was cut off"),
        ]
    if not story.kind.transcribes:
        known += [
            ("total_user_utterances", less, "a line too short to count, or two that are one sound"),
            ("total_user_utterances", more and noises, "the noise is taken for a line"),
        ]
    last = "the last words, at the hang-up,"
    known += [
        ("total_user_utterances", less and at_once, f"{last} are not reported"),
        ("total_agent_utterances", more and noises, "an answer that paused is taken for two"),
        ("longest_user_utterance", less and at_once, f"{last} are not reported to their end"),
        ("longest_agent_utterance", cut, "how much of a cut-off answer was spoken"),
        ("interruption_count", less and cut, "that an answer was cut off is not seen"),
        ("interruption_count", more and noises, "a pause for a noise is taken for one"),
        ("silence_count", more and at_once, f"{last} are not heard"),
        ("silence_count", more and noises, "the noise is not heard"),
    ]
    return next((why for what, fits, why in known if what == key and fits), "")
