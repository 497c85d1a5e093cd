"""What really happened in a call, from what its actors wrote down, and from nothing the product says.

* The caller's times are on its own clock: when its microphone's queue played a line, or in a browser
  when a meter behind the microphone heard the line.
* The agent speaks from the moment its first frame of sound goes into the room (`playback_started`)
  for as long as sound was played. Its own items are not used, because they are measured as well.
* An answer that was cut off ends where its sound stopped, because the caller spoke, or made a noise
  after which the agent did not go on. The number of its spoken words is not known exactly: a word is
  cut, and the text that the agent keeps is paced by rules, not by sound. So there is a least and a
  most.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ..sound import SECONDS_PER_WORD
from .rows import kind_of

SILENCE = 5.0
"""Seconds: the product's default."""

_LATE = 0.3
"""Seconds by which the event of an end may be late, on a busy machine."""

_FORCED = 0.15
"""Seconds: an answer that stopped this close to the leave was stopped by the leave."""


@dataclass
class Said:
    start: float
    end: float
    text: str
    fewest: int
    """The least number of words that were said."""
    most: int
    """The largest number of words that may have been said."""
    cut_off: bool = False
    """Whether the caller interrupted it."""
    item: dict | None = None
    """The conversation item that the agent reported for it."""


@dataclass
class Answer:
    asked: Said
    given: Said

    @property
    def seconds(self) -> float:
        return self.given.start - self.asked.end


class Story:
    """Read from `ROW-NN.truth.json`."""

    def __init__(self, file: Path) -> None:
        kept = json.loads(file.read_text())
        self.file = file
        self.name: str = file.name.removesuffix(".truth.json")
        self.row: str = kept["row"]
        self.kind = kind_of(self.row)
        self.posted: dict = kept["posted"]
        self.plan: dict = kept["plan"]
        self._facts: list[dict] = kept["facts"]
        gone = self._all("caller", "leaves") + self._all("caller", "status", status="hangup")
        self.end = min(fact["t"] for fact in gone)
        self.noises = [
            (n["t"], over["t"])
            for n, over in zip(
                self._all("caller", "noise"), self._all("caller", "noise_over"), strict=True
            )
        ]
        self.user = self._user()
        self.agent = self._agent()

    def _all(self, who: str, what: str, **like) -> list[dict]:
        found = (f for f in self._facts if f["who"] == who and f["what"] == what)
        return [f for f in found if all(f.get(k) == v for k, v in like.items())]

    def _user(self) -> list[Said]:
        items = self._all("agent", "item", role="user")
        out = []
        pairs = zip(self._all("caller", "speaks"), self._all("caller", "spoke"), strict=True)
        for starts, ends in pairs:
            words = len(starts["text"].split())
            item = next((i for i in items if i["text"] == starts["text"]), None)
            end = min(ends["t"], self.end)
            out.append(Said(starts["t"], end, starts["text"], words, words, item=item))
        return out

    def _agent(self) -> list[Said]:
        items = self._all("agent", "item", role="assistant")
        finished = self._all("agent", "playback_finished")
        replies = {turn["line"]: turn["reply"] for turn in self.plan["turns"]}
        out = []
        for started in self._all("agent", "playback_started"):
            start = started["t"]
            if start >= self.end:
                continue
            over = next((f for f in finished if f["t"] >= start), None)
            asked = [u.text for u in self.user if u.end < start]
            text = replies[asked[-1]] if asked else self.plan["greeting"]
            item = next((i for i in items if _begins(i, start)), None)
            out.append(self._delivery(start, over, text, item))
        return out

    def _delivery(self, start: float, over: dict | None, text: str, item: dict | None) -> Said:
        words = len(text.split())
        # The leave cut this answer short, and the caller heard it until then. (The end of an answer
        # that the caller had interrupted may also be reported only at the leave: its sound had stopped
        # before.)
        if over is None or min(over["t"], start + over["position"] + _FORCED) > self.end:
            said = int((self.end - start) / SECONDS_PER_WORD)
            return Said(start, self.end, text, min(said, words), words, item=item)
        nominal = start + over["position"]
        if not over["interrupted"]:
            # Only a pause makes an answer take much longer than its sound.
            end = nominal if over["t"] - nominal < _LATE else over["t"]
            return Said(start, end, text, words, words, item=item)
        said = over["position"] / SECONDS_PER_WORD
        kept = len(item["text"].split()) if item else 0
        fewest, most = min(int(said), words), min(max(int(said) + 1, kept), words)
        if kept:
            fewest = min(fewest, kept)
        into = [(u.start, u.end) for u in self.user]
        if not self.kind.resumes:
            into += self.noises
        spoken_into = any(since < nominal + _LATE and until > start for since, until in into)
        return Said(start, nominal, text, fewest, most, cut_off=spoken_into, item=item)

    def pauses(self) -> int:
        """How often the agent fell silent for a noise, and continued."""
        return len(self._all("agent", "false_interruption", resumed=True))

    def stops_for_noise(self) -> int:
        """How often a noise stopped the agent for good; such an answer was interrupted."""
        stopped = (s for s in self.agent if s.cut_off)
        return sum(any(t < s.end + _LATE and over > s.start for t, over in self.noises) for s in stopped)

    def heard(self) -> list[tuple[float, float]]:
        """Pairs: when a browser heard the agent begin, and when that sound was played."""
        heard = [fact["t"] for fact in self._all("caller", "hears_sound")]
        found = ((next((t for t in heard if t >= s.start), None), s.start) for s in self.agent)
        return [(t, start) for t, start in found if t is not None and t - start < 1.0]

    # ---- What a record has to say

    def longest(self, said: list[Said]) -> tuple[int, int]:
        """The longest utterance in words: at least and at most."""
        return max((s.fewest for s in said), default=0), max((s.most for s in said), default=0)

    def interruptions(self) -> int:
        return sum(s.cut_off for s in self.agent)

    def silences(self) -> int:
        sounds = [(s.start, s.end) for s in self.user + self.agent] + self.noises
        if not sounds:
            return 0
        quiet_since, count = min(sounds)[1], 0
        for start, end in [*sorted(sounds), (self.end, self.end)]:
            count += start - quiet_since >= SILENCE
            quiet_since = max(quiet_since, end)
        return count

    def agent_answers(self) -> list[Answer]:
        """Each line of the caller, with the agent's answer before the caller's next line."""
        return _answers(self.user, self.agent)

    def user_answers(self) -> list[Answer]:
        """Each uninterrupted utterance of the agent, with the caller's answer."""
        whole = [s for s in self.agent if not s.cut_off]
        return [a for a in _answers(self.agent, self.user) if a.asked in whole]

    # ---- What the agent itself reports of the same answers

    def reported_agent_answers(self) -> list[tuple[float, float]]:
        """Pairs of response times: the agent's measurement, and the real time."""
        items = [(a.given.item or {}, a.seconds) for a in self.agent_answers()]
        return [(i["e2e_latency"], due) for i, due in items if i.get("e2e_latency") is not None]

    def reported_user_answers(self) -> list[tuple[float, float]]:
        out = []
        for a in self.user_answers():
            ended = (a.asked.item or {}).get("stopped_speaking_at")
            began = (a.given.item or {}).get("started_speaking_at")
            if ended is not None and began is not None:
                out.append((began - ended, a.seconds))
        return out


def _begins(item: dict, start: float) -> bool:
    began = item.get("started_speaking_at")
    return began is not None and abs(began - start) < _LATE


def _answers(asked: list[Said], given: list[Said]) -> list[Answer]:
    out = []
    for number, said in enumerate(asked):
        until = asked[number + 1].start if number + 1 < len(asked) else float("inf")
        talking = any(g.start < said.end < g.end for g in given)
        answer = next((g for g in given if said.end <= g.start < until), None)
        if answer and not talking:
            out.append(Answer(said, answer))
    return out
