"""What the record of a call must say, derived from the truth alone.

Tolerances, and why they are not smaller:

* `EDGE` 0.3 s: after the server confirmed an event to the actor, the event
  reaches an observer in about 10 ms, on a busy machine in about 100 ms.
* Agent response time: the agent measures it (`e2e_latency`); 2 ms for rounding.
* User response time: from the end of the agent's speech to the start of the
  caller's, which the agent's voice detector dates back. `STATE` covers the few
  ms between an event and its report; the agent reports one end twice, and the
  time between the two reports is added.

Both times are on the agent's clock. Sound takes time to reach the agent, so the
caller begins and ends about 0.1 s earlier than the agent hears; the product
subtracts that (`HEARD_START`, `HEARD_END`). docs/accuracy.md measures how
closely the result agrees with the caller's own clock: that depends on how busy
the machine is.
"""

from dataclasses import dataclass

from .record import seconds
from .truth import Truth

EDGE = 0.3

STATE = 0.03

HEARD_START, HEARD_END = 0.075, 0.110
"""How much later an agent hears the caller begin and end (crates/call/src/evidence.rs)."""

UNFED = 0.45
"""How far a mean may be from the caller's own clock if only speaker events are known."""

FAKES = ("e2e/script-stt", "e2e/script-llm", "e2e/tone-tts", None, None)
"""The configuration an observer reads from the usage that sessions with fake models report."""


@dataclass(frozen=True)
class Near:
    """Equals every number from `low` to `high`."""

    low: float
    high: float

    def __eq__(self, other) -> bool:
        return isinstance(other, int | float) and self.low <= other <= self.high

    def __repr__(self) -> str:
        return f"{self.low:.3f}..{self.high:.3f}"


@dataclass(frozen=True)
class Moment:
    """Equals every time of a record from `low` to `high` (Unix seconds)."""

    low: float
    high: float

    def __eq__(self, other) -> bool:
        return isinstance(other, str) and self.low <= seconds(other) <= self.high

    def off_by(self, other: str) -> str:
        return f"{seconds(other) - self.low:+.3f} s from the earliest"

    def __repr__(self) -> str:
        return f"a moment in a span of {self.high - self.low:.3f} s"


def around(t: float, done: float | None = None) -> Moment:
    """When an observer sees what an actor began at `t` and the server confirmed at `done`: a little
    later, never earlier."""
    return Moment(t - 0.05, max(t, done or t) + EDGE)


def joined(truth: Truth, who: str = "caller") -> Moment:
    """The server's time of a join lies between the client's request and its success. With a phone that is answered
    when it comes, the call begins when the first agent joins, as the bridge answers when it hears somebody; but not
    after the observer came."""
    latest = truth.one(who, "joined").t
    if truth.all(who, "comes_answered"):
        others = truth.all("agent", "joined") + truth.all("observer", "in_the_room")
        latest = max(latest, min((fact.t for fact in others), default=latest))
    return Moment(truth.one(who, "joins").t - 0.05, latest + 0.05)


def stages(truth: Truth, *names: str) -> list[dict]:
    """The timeline of stages, each at the moment when the agent first published it."""
    times: dict[str, Moment] = {}
    for fact in truth.all("agent", "published"):
        action = fact["action"]
        message = action.get("text") or action.get("packet") or {}
        attributes = action.get("attributes") or {}
        stage = attributes.get("call.stage")
        if isinstance(message, dict) and message.get("type") == "stage":
            stage = message.get("stage")
        if action.get("module") == "stage":
            stage = action["args"]
        if stage:
            times.setdefault(stage, around(fact.t, fact["done"]))
    return [{"stage": name, "timestamp": times[name]} for name in names]


def answered(truth: Truth, who: str = "caller") -> Moment:
    return around(
        truth.one(who, "status", status="active").t,
        truth.one(who, "status_is_set", status="active").t,
    )


def vanished(killed: float) -> Moment:
    """The end of a call whose caller died. The server publishes a lost connection every 5 s; it was
    seen 6.4 to 14.5 s after a death (early for a participant that had just joined, late on a busy
    machine). The product subtracts 7.5 s."""
    return Moment(killed - 1.1 - EDGE, killed + 7.0 + EDGE)


def left(truth: Truth, who: str = "caller") -> Moment:
    """A phone's bridge sets `hangup` first and leaves when the server has confirmed that, on a busy
    machine much later. The server announces joins and leaves of a participant without a track in
    batches of 3 s."""
    batch = 0.0 if truth.all(who, "microphone") else 3.0
    leaves = truth.all(who, "leaves")[-1].t
    hung_up = [fact.t for fact in truth.all(who, "status", status="hangup")]
    gone = [fact.t for fact in truth.all(who, "left")]
    return Moment(min([leaves, *hung_up]) - 0.05, max([leaves, *gone]) + batch + EDGE)


@dataclass(frozen=True)
class _Said:
    start: float
    end: float
    text: str
    interrupted: bool = False


def user_said(truth: Truth, who: str = "caller") -> list[_Said]:
    starts, ends = truth.all(who, "speaks"), truth.all(who, "spoke")
    return [_Said(s.t, e.t, s["text"]) for s, e in zip(starts, ends, strict=True)]


def agent_said(truth: Truth, who: str = "agent") -> list[_Said]:
    return [
        _Said(
            item["started_speaking_at"],
            item["stopped_speaking_at"],
            item["text"],
            item["interrupted"],
        )
        for item in truth.all(who, "item", role="assistant")
    ]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _answers(asked: list[_Said], replies: list[_Said], begin) -> list[tuple[float, float]]:
    """For each utterance its end, and the begin of the first reply before the same side speaks again."""
    pairs = []
    for said in asked:
        until = min((a.start for a in asked if a.start > said.start), default=float("inf"))
        reply = next((r for r in replies if said.end <= r.start < until), None)
        if reply:
            pairs.append((said.end, begin(reply)))
    return pairs


def _same_story(what: str, measured: float, real: float) -> None:
    """Fails if agent and caller disagree: then a busy machine delayed the sound, and the scenario
    has no result."""
    assert -2.0 < measured - real < 2.0, f"{what}: agent says {measured}, caller says {real}"


def user_response(truth: Truth) -> Near:
    """The mean pause from the end of the agent's utterance to the caller's answer."""
    heard = truth.all("agent", "user_state", new="speaking")
    fell_silent = [f.t for f in truth.all("agent", "state", old="speaking")]

    def heard_by_the_agent(said: _Said) -> float:
        # The detector's time, which is later than the caller's by the delay of the sound.
        return next((f.t for f in heard if f.t >= said.start - 0.1), said.start)

    def reported_late(end: float) -> float:
        # The agent reports its end twice, in an item and as a state; on a busy machine they differ.
        return next((t for t in fell_silent if t >= end), end) - end

    uncut = [said.end for said in agent_said(truth) if not said.interrupted]
    answers = [
        (end, begin)
        for end, begin in _answers(agent_said(truth), user_said(truth), heard_by_the_agent)
        if end in uncut
    ]
    if not answers:
        return Near(0.0, 0.0)
    mean = _mean([begin - end for end, begin in answers])
    late = _mean([min(reported_late(end), begin - end) for end, begin in answers])
    by_the_caller = _answers(agent_said(truth), user_said(truth), lambda said: said.start)
    real = [(end, begin) for end, begin in by_the_caller if end in uncut]
    _same_story("user response", mean, _mean([begin - end for end, begin in real]))
    mean -= HEARD_START
    return Near(mean - late - STATE, mean + STATE)


def user_response_unfed(truth: Truth) -> Near:
    """The same without the session's feed, from the server's speaker events."""
    uncut = [said for said in agent_said(truth) if not said.interrupted]
    return _near(_answers(uncut, user_said(truth), lambda said: said.start), UNFED)


def _near(answers: list[tuple[float, float]], off: float) -> Near:
    if not answers:
        return Near(0.0, 0.0)
    mean = _mean([begin - end for end, begin in answers])
    return Near(max(0.0, mean - off), mean + off)


def agent_response(truth: Truth) -> Near:
    """The mean of the latencies that the agent measured."""
    latencies = [
        item["e2e_latency"]
        for item in truth.all("agent", "item", role="assistant")
        if item["e2e_latency"] is not None
    ]
    real = _answers(user_said(truth), agent_said(truth), lambda said: said.start)
    assert len(real) == len(latencies), "agent and caller disagree about who was answered"
    if not latencies:
        return Near(0.0, 0.0)
    mean = _mean(latencies)
    _same_story("agent response", mean, _mean([begin - end for end, begin in real]))
    mean += HEARD_END
    return Near(mean - 0.002, mean + 0.002)


def agent_response_unfed(truth: Truth) -> Near:
    """The same without the session's feed."""
    return _near(_answers(user_said(truth), agent_said(truth), lambda said: said.start), UNFED)


def silences(truth: Truth, threshold: float = 5.0) -> int:
    """The number of gaps of at least `threshold` seconds without any sound, from the moment when the
    caller was connected to the end."""
    noises = zip(truth.all("caller", "noise"), truth.all("caller", "noise_over"), strict=True)
    sounds = [(said.start, said.end) for said in [*user_said(truth), *agent_said(truth)]]
    sounds += [(begin.t, end.t) for begin, end in noises]
    answered = [f.t for f in truth.all("caller", "status", status="active")]
    connected = [f.t for f in truth.all("caller", "joined")]
    gone = [f.t for what in ("leaves", "killed") for f in truth.all("caller", what)]
    over = min([f.t for f in truth.all("agent", "deletes_room")] + sorted(gone)[-1:])
    quiet_since, count = min(answered or connected or [min(sounds)[0]]), 0
    for start, end in [*sorted(sounds), (over, over)]:
        gap = start - quiet_since
        assert abs(gap - threshold) > 0.4, f"a pause of {gap:.2f} s: is it a silence or not?"
        count += gap >= threshold
        quiet_since = max(quiet_since, end)
    return count


def words(said: list[_Said]) -> int:
    return max((len(s.text.split()) for s in said), default=0)


def metrics(truth: Truth, **known) -> dict:
    """The eight metrics; a scenario states those in `known` itself."""
    users, agents = user_said(truth), agent_said(truth)
    return {
        "total_user_utterances": len(users),
        "total_agent_utterances": len(agents),
        "longest_user_utterance": words(users),
        "longest_agent_utterance": words(agents),
        "average_user_response_time": user_response(truth),
        "average_agent_response_time": agent_response(truth),
        "silence_count": silences(truth),
        "interruption_count": 0,
    } | known


ASKED, UNASKED = 0.15, 0.35
"""How far a mean of response times may be from the caller's own times, with a Node agent.

`ASKED`: the agent could be asked for its history at the end, which holds what it heard, on a quiet
machine 0.1 s late. `UNASKED`: there are only speaker events and transcripts, 0.3 to 1.0 s late. The
product subtracts the usual delay.
"""


def node_responses(truth: Truth, off: float = ASKED) -> dict:
    """Both means, from the caller's own clock and the times when the agent's sound was played."""

    def near(asked: list[_Said], replies: list[_Said]) -> Near:
        return _near(_answers(asked, replies, lambda said: said.start), off)

    users, agents = user_said(truth), agent_said(truth)
    return {
        "average_user_response_time": near([s for s in agents if not s.interrupted], users),
        "average_agent_response_time": near(users, agents),
    }


def node_metrics(truth: Truth, **known) -> dict:
    """The eight metrics of a call with a Node agent that could be asked at its end."""
    return metrics(truth, **node_responses(truth) | known)


def outcomes(**known) -> dict:
    return {
        "completion_rate": 0.0,
        "fields_collected": [],
        "final_stage": None,
        "successful": None,
        "notes": None,
    } | known


def config(*values: str | None) -> dict:
    """`agent_config` from its five values in their order; without values all are null."""
    keys = ("stt_config_key", "llm_config_key", "tts_config_key", "business_type", "language")
    return dict(zip(keys, values or (None,) * 5, strict=True))


def compare(record: dict, expected: dict) -> None:
    """Compares field by field, and fails with all differences at once."""
    wrong: list[str] = []

    def walk(path: str, found, due) -> None:
        if isinstance(due, dict) and isinstance(found, dict):
            for key in due | found:
                walk(
                    f"{path}.{key}" if path else key,
                    found.get(key, "(none)"),
                    due.get(key, "(none)"),
                )
        elif isinstance(due, list) and isinstance(found, list) and len(due) == len(found):
            for number, (one, other) in enumerate(zip(found, due, strict=True)):
                walk(f"{path}[{number}]", one, other)
        elif not due == found:
            hint = f", {due.off_by(found)}" if isinstance(due, Moment) and found else ""
            wrong.append(f"{path}: found {found!r}, due is {due!r}{hint}")

    walk("", record, expected)
    if wrong:
        raise AssertionError("the record is not true:\n  " + "\n  ".join(wrong))
