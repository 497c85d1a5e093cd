"""All kept calls, replayed in every tier and compared."""

import re
from collections import Counter, defaultdict
from pathlib import Path

from .compare import SIDES, Errors, Result
from .story import Story
from .tiers import TIERS, events, journal_of, replay, replayed


class Measured:
    def __init__(self, kept: Path, rows: list[str]) -> None:
        self.results: dict[tuple[str, str], Result] = {}
        """By row and tier."""
        self.own_report = defaultdict(lambda: {side: Errors() for side in SIDES})
        """By row: the errors of the times that the agent itself reports."""
        self.heard = defaultdict(Errors)
        """By row: how long the agent's sound took to the caller's client."""
        self.calls: Counter[str] = Counter()
        self.histories: Counter[str] = Counter()
        """By row: calls in which an agent sent its whole history when it was asked."""
        self.failed: list[tuple[str, str]] = []
        self.happened: Counter[str] = Counter()
        self.differs: list[str] = []
        """Calls whose journal gives a record that differs from the posted one."""
        self.unseen: list[str] = []
        """Calls and tiers that gave no record."""
        for row in rows:
            for file in sorted(kept.glob(f"{row}-*.failed.txt")):
                why = (file.read_text().splitlines() or [""])[0]
                # Paths and addresses of this machine do not belong in the report.
                why = re.sub(r"\S*/\S*", "…", why)
                self.failed.append((file.name.removesuffix(".failed.txt"), why))
            for file in sorted(kept.glob(f"{row}-*.truth.json")):
                self._take(Story(file))

    def result(self, row: str, tier: str) -> Result | None:
        return self.results.get((row, tier))

    def _take(self, story: Story) -> None:
        self.calls[story.row] += 1
        self.happened += Counter(
            {
                "utterances of callers": len(story.user),
                "utterances of agents": len(story.agent),
                "answers of agents": len(story.agent_answers()),
                "answers of callers": len(story.user_answers()),
                "interruptions": story.interruptions(),
                "noises that made the agent pause": story.pauses(),
                "noises that stopped the agent": story.stops_for_noise(),
                "silences": story.silences(),
                "hang-ups at the last word": int(story.plan["hangs_up_at_once"]),
            }
        )
        self.own_report[story.row]["agent"].add(story.reported_agent_answers())
        self.own_report[story.row]["user"].add(story.reported_user_answers())
        self.heard[story.row].add(story.heard())
        journal = journal_of(story.file)
        if replay(journal) != story.posted:
            self.differs.append(story.name)
        lines = events(journal)
        if _has_history(lines):
            self.histories[story.row] += 1
        for tier in TIERS:
            if not tier.is_of(lines):
                continue
            if (record := replayed(lines, tier)) is None:
                self.unseen.append(f"{story.name}, {tier.name}")
                continue
            result = self.results.setdefault((story.row, tier.name), Result())
            result.add(story, record, tier)


def _has_history(lines: list[dict]) -> bool:
    messages = (line["message"] for line in lines if line.get("what") == "feed")
    return any(message["kind"] == "history" for message in messages)
