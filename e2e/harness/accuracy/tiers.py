"""The call with fewer signals: its journal, replayed without some of the events."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_STREAMS = {"stream_opened", "stream_sender", "stream_chunk", "stream_closed"}
_STATE = "lk.agent.state"


def _without(*kinds: str) -> Callable[[dict], dict | None]:
    return lambda event: None if event["what"] in kinds else event


def _stateless(event: dict) -> dict | None:
    """The event without the agent's state; `None` if it holds nothing else."""
    for key in ("attributes", "changed"):
        if _STATE in event.get(key, {}):
            event[key] = {k: v for k, v in event[key].items() if k != _STATE}
            if key == "changed" and not event[key]:
                return None
    return event


def _all_of(*filters: Callable[[dict], dict | None]) -> Callable[[dict], dict | None]:
    def both(event: dict) -> dict | None:
        for one in filters:
            if event is not None:
                event = one(event)
        return event

    return both


@dataclass(frozen=True)
class Tier:
    name: str
    keep: Callable[[dict], dict | None]
    needs: str = ""
    """A kind of event that a call must have to be measured in this tier."""
    lacks: str = ""
    """A kind of event that no call of this tier has."""
    has_words: bool = True
    hears_caller: bool = True
    """Whether anything but the caller's words shows when the caller speaks."""

    def is_of(self, lines: list[dict]) -> bool:
        """Whether the call has the events of this tier."""
        kinds = {line.get("what") for line in lines}
        return (not self.needs or self.needs in kinds) and self.lacks not in kinds


_FEED = _without("feed", "undecodable")
_LEVELS = _without("speaking")
_TEXTS = _without(*_STREAMS)

FED = Tier("session feed", lambda event: event, needs="feed")
STATES = Tier("states, streams, speakers", _FEED, lacks="rtvi")
STATES_UNHEARD = Tier(
    "states, streams", _all_of(_FEED, _LEVELS), lacks="rtvi", hears_caller=False
)
RTVI = Tier("RTVI, speakers", lambda event: event, needs="rtvi")

TIERS = [
    FED,
    STATES,
    STATES_UNHEARD,
    Tier(
        "streams only",
        _all_of(_FEED, _LEVELS, _stateless),
        lacks="rtvi",
        hears_caller=False,
    ),
    Tier(
        "legacy packets only",
        _all_of(_FEED, _LEVELS, _stateless, _TEXTS),
        needs="legacy",
        hears_caller=False,
    ),
    RTVI,
    Tier("RTVI only", _LEVELS, needs="rtvi"),
    Tier(
        "speakers only",
        _all_of(_FEED, _stateless, _TEXTS, _without("legacy", "rtvi")),
        needs="speaking",
        has_words=False,
    ),
]
"""The signals that an observer may have, best first."""


def journal_of(truth: Path) -> Path:
    return truth.with_name(truth.name.replace(".truth.json", ".journal.jsonl"))


def events(journal: Path) -> list[dict]:
    """Header and events, without checksums."""
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line.strip()]
    return [{k: v for k, v in line.items() if k != "crc"} for line in lines]


def replayed(lines: list[dict], tier: Tier) -> dict | None:
    """The record that the events of this tier give; `None` if they show no call."""
    header, *rest = json.loads(json.dumps(lines))
    seen = [event for event in map(tier.keep, rest) if event is not None]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as file:
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [header, *seen]))
    try:
        return replay(Path(file.name))
    finally:
        os.unlink(file.name)


def replay(journal: Path) -> dict | None:
    command = [os.environ["E2E_PRODUCT_BIN"], "replay", "--details", str(journal)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"replay of {journal.name}: {done.stderr.strip()}"
    return json.loads(done.stdout) if done.stdout.strip() else None
