"""The record of a call, from what was seen of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from livekit import rtc

if TYPE_CHECKING:
    from call import Call, Segment

SILENCE = 5.0
CONFIG = ("stt_config_key", "llm_config_key", "tts_config_key", "business_type", "language")
GOODBYES = ("CLIENT_INITIATED", "PARTICIPANT_REMOVED", "ROOM_DELETED", "ROOM_CLOSED")
NEVER_CONNECTED = {
    "USER_REJECTED": "rejected",
    "USER_UNAVAILABLE": "no_answer",
    "SIP_TRUNK_FAILURE": "sip_trunk_failure",
}


@dataclass
class Turn:
    """What one side said in one go."""

    by_agent: bool
    text: str
    start: float
    end: float
    interrupted: bool = False

    @property
    def words(self) -> int:
        return len(self.text.split())


@dataclass
class Verdict:
    """What shows how the call ended."""

    agent_was_there: bool = False
    sip_status: str = ""
    reason: int | None = None
    room_ended: bool = False
    published: tuple[str | None, str | None] | None = None

    def of(self, connected: bool, inbound: bool) -> tuple[str, str | None]:
        reason = rtc.DisconnectReason.Name(self.reason) if self.reason else ""
        if self.published:
            return self.published[0] or "completed", self.published[1]
        if not connected:
            if inbound:
                return "failed", "abandoned" if self.sip_status == "hangup" else "no_agent"
            return "failed", NEVER_CONNECTED.get(reason, "not_connected")
        if not self.agent_was_there:
            return "failed", "no_agent"
        if reason not in GOODBYES:
            return "dropped", "observer_disconnected" if self.room_ended else "connection_lost"
        # A phone that leaves a living room by itself, without a hang-up, has lost its connection.
        if reason == "CLIENT_INITIATED" and self.sip_status in ("active", "automation"):
            return "dropped", "connection_lost"
        return "completed", None


def build(call: Call) -> dict:
    caller, sip = call.caller, call.caller.attributes
    inbound = caller.kind != rtc.ParticipantKind.PARTICIPANT_KIND_SIP or "sip.ruleID" in sip
    start, end = call.start or call.first_seen, call.end
    turns = conversation(call)
    user, agent = [t for t in turns if not t.by_agent], [t for t in turns if t.by_agent]
    status, reason = call.verdict.of(call.start is not None, inbound)
    return {
        "call_id": str(uuid.uuid5(uuid.NAMESPACE_URL, call.room_sid)),
        "phone_number": sip.get("sip.phoneNumber") or caller.identity or "unknown",
        "room_name": call.room.name,
        "call_type": "inbound" if inbound else "outbound",
        "start_time": iso(start),
        "end_time": iso(end),
        "duration_seconds": round(max(end - start, 0.0), 3),
        "status": status,
        "termination_reason": reason,
        "agent_config": config(call),
        "metrics": {
            "total_user_utterances": len(user),
            "total_agent_utterances": len(agent),
            "longest_user_utterance": max((t.words for t in user), default=0),
            "longest_agent_utterance": max((t.words for t in agent), default=0),
            "average_user_response_time": response_time(turns, by_agent=False),
            "average_agent_response_time": response_time(turns, by_agent=True),
            "silence_count": silences(turns, start, end) if call.start else 0,
            "interruption_count": sum(t.interrupted for t in agent),
        },
        "outcomes": {
            "completion_rate": float(call.outcomes.get("completion_rate") or 0),
            "fields_collected": list(call.outcomes.get("fields_collected") or []),
            "final_stage": call.stages[-1][0] if call.stages else None,
            "successful": call.outcomes.get("successful"),
            "notes": call.outcomes.get("notes"),
        },
        "stage_timeline": [{"stage": stage, "timestamp": iso(at)} for stage, at in call.stages],
    }


def conversation(call: Call) -> list[Turn]:
    """Each side by its best signal: items of the agent's session, else text streams, else the older packets."""
    turns: list[Turn] = []
    segments = sorted((call.streams or call.legacy).values(), key=lambda s: s.start)
    for by_agent in (False, True):
        items = [t for t in call.items if t.by_agent == by_agent and t.text]
        turns += items or merged(segments, by_agent, call.kinds)
    return sorted(turns, key=lambda t: t.start)


def merged(segments: list[Segment], by_agent: bool, kinds: dict[str, int]) -> list[Turn]:
    """What one side said without the other in between is one utterance: recognisers cut at each pause."""
    turns: list[Turn] = []
    goes_on = False
    for s in segments:
        agent = kinds.get(s.identity) == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        if agent != by_agent:
            goes_on = False
        elif s.text.strip() and goes_on and not by_agent:
            turns[-1].text += " " + s.text
            turns[-1].end = s.end
        elif s.text.strip():
            turns.append(Turn(by_agent, s.text, s.start, s.end))
            goes_on = True
    return turns


def response_time(turns: list[Turn], by_agent: bool) -> float:
    answers = [(a, b) for a, b in pairwise(turns) if b.by_agent == by_agent and a.by_agent != by_agent]
    waits = [b.start - a.end for a, b in answers if b.start >= a.end]
    return round(sum(waits) / len(waits), 3) if waits else 0.0


def silences(turns: list[Turn], start: float, end: float) -> int:
    count, quiet_since = 0, start
    for turn in [*turns, Turn(False, "", end, end)]:
        count += turn.start - quiet_since >= SILENCE
        quiet_since = max(quiet_since, turn.end)
    return count


def config(call: Call) -> dict:
    given = call.usage | {k: v for k, v in call.config.items() if k in CONFIG}
    if not call.config:
        return {key: given.get(key) for key in CONFIG}
    return {key: given.get(key) or ("english" if key == "language" else "unknown") for key in CONFIG}


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
