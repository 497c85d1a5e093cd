#!/usr/bin/env python3
"""Turns a recorded trace of a room into a journal.

    from_trace.py TRACE.jsonl [--with OTHER.jsonl] > JOURNAL.jsonl

TRACE: one event of the room a line, as a hidden observer saw it: `t` (Unix seconds at arrival),
`what` and its fields. OTHER: the same call as an observer with a disabled subscription saw it; its
speakers and connection qualities are merged in by time.

What each event means to the journal is what `src/observer/` makes of it:

* `session` is the agent's session feed as protobuf JSON, in which an enum's zero is absent.
* A leave without a reason is the reader's own: it is held back, and forgotten if the participant
  is there again within four seconds.
* Speakers are told as those who speak now; the journal holds changes.

Everything that is nothing to a record (activations, transport, marks of the script) is left out.
"""

import argparse
import json
import re
import sys
import uuid
from datetime import datetime, timezone

SETTLED_AFTER_MS = 4_000
# Only fictional numbers may stand in a journal.
NUMBER = re.compile(r"\+\d{4,12}(\d{3})\b")
FICTIONAL = r"+15550100\1"


def ms(t):
    return int(t * 1000)


def moment(text):
    """RFC 3339, of any precision, in milliseconds; cut as the observer cuts, not rounded."""
    if text is None:
        return None
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp()
    return int(seconds) * 1000 + int((fraction + "000")[:3])


def enum(value, prefix, zero):
    return (value or zero).removeprefix(prefix).lower()


# ----- the session feed (src/observer/session_feed.rs)


def feed(message):
    if "response" in message:
        history = message["response"].get("get_chat_history")
        return None if history is None else of_history(history.get("items", []))
    event = message.get("event")
    if event is None:
        return None
    at = moment(event.get("created_at"))
    told = of_event(event, at)
    if told is None and at is not None:
        return {"kind": "clock", "at": at}
    return told


def of_event(event, at):
    if "agent_state_changed" in event:
        new = event["agent_state_changed"].get("new_state")
        return {"kind": "agent_state", "at": at, "state": enum(new, "AS_", "AS_INITIALIZING")}
    if "user_state_changed" in event:
        new = event["user_state_changed"].get("new_state")
        return {"kind": "user_state", "at": at, "state": enum(new, "US_", "US_SPEAKING")}
    if "conversation_item_added" in event:
        added = event["conversation_item_added"].get("item", {})
        if "message" in added:
            said = of_message(added["message"])
            return said and {"kind": "item", "at": at, "item": said}
        if "agent_handoff" in added:
            return {"kind": "handoff", **of_handoff(added["agent_handoff"])}
        return None
    if "function_tools_executed" in event:
        ran = event["function_tools_executed"]
        calls, outputs = ran.get("function_calls", []), ran.get("function_call_outputs", [])
        return {"kind": "tools", "calls": of_tools(calls, outputs)}
    if "agent_false_interruption" in event:
        resumed = event["agent_false_interruption"].get("resumed", False)
        return {"kind": "false_interruption", "at": at, "resumed": resumed}
    if "amd_prediction" in event:
        by = enum(event["amd_prediction"].get("category"), "AMD_", "AMD_UNKNOWN")
        return None if by == "unknown" else {"kind": "answered", "by": by}
    if "error" in event:
        return {"kind": "error"}
    if "session_usage_updated" in event:
        usage = event["session_usage_updated"].get("usage")
        if usage is None:
            return None
        models = [of_usage(u) for u in usage.get("model_usage", [])]
        return {"kind": "usage", "models": [m for m in models if m]}
    return None


def of_history(all_items):
    items, handoffs, calls, outputs = [], [], [], []
    for i in all_items:
        if "message" in i:
            items.append(of_message(i["message"]))
        elif "agent_handoff" in i:
            handoffs.append(of_handoff(i["agent_handoff"]))
        elif "function_call" in i:
            calls.append(i["function_call"])
        elif "function_call_output" in i:
            outputs.append(i["function_call_output"])
    told = {"kind": "history", "items": [i for i in items if i]}
    if handoffs:
        told["handoffs"] = handoffs
    if calls:
        told["tools"] = of_tools(calls, outputs)
    return told


def of_message(m):
    by = {"USER": "user", "ASSISTANT": "agent"}.get(m.get("role", "DEVELOPER"))
    if by is None:
        return None
    metrics = m.get("metrics", {})
    return {
        "id": m.get("id", ""),
        "by": by,
        "text": " ".join(c["text"] for c in m.get("content", []) if "text" in c),
        "interrupted": m.get("interrupted", False),
        "created_at": moment(m.get("created_at")),
        "started_at": moment(metrics.get("started_speaking_at")),
        "stopped_at": moment(metrics.get("stopped_speaking_at")),
        "e2e_latency": metrics.get("e2e_latency"),
    }


def of_handoff(h):
    return {
        "id": h.get("id", ""),
        "at": moment(h.get("created_at")),
        "from": h.get("old_agent_id"),
        "to": h.get("new_agent_id", ""),
    }


def of_tools(calls, outputs):
    failed = {o.get("call_id", "") for o in outputs if o.get("is_error")}
    return [
        {"id": c.get("call_id", ""), "name": c.get("name", ""), "failed": c.get("call_id", "") in failed}
        for c in calls
    ]


def of_usage(usage):
    """Protobuf's name of each figure, and ours."""
    figures = {
        "llm": {"input_tokens": "input_tokens", "input_cached_tokens": "cached_input_tokens",
                "output_tokens": "output_tokens"},
        "tts": {"input_tokens": "input_tokens", "output_tokens": "output_tokens",
                "characters_count": "characters", "audio_duration": "audio_seconds"},
        "stt": {"input_tokens": "input_tokens", "output_tokens": "output_tokens",
                "audio_duration": "audio_seconds"},
    }
    for task, names in figures.items():
        if task in usage:
            u = usage[task]
            used = {ours: u[theirs] for theirs, ours in names.items() if u.get(theirs)}
            told = {"task": task, "provider": u.get("provider", ""), "model": u.get("model", "")}
            return {**told, "used": used} if used else told
    return None


# ----- the room (src/observer/room.rs, presence.rs)


class Reader:
    def __init__(self):
        self.room = None
        self.journal = []
        self.kinds = {}
        self.speaking = {}
        self.missing = {}

    def fact(self, at, what, **fields):
        self.journal.append({"at": at, "what": what, **fields})

    def read(self, e):
        at = ms(e["t"])
        self.settle(at)
        handler = getattr(self, "on_" + e["what"].split()[0], None)
        if handler:
            handler(at, e)

    def settle(self, now):
        for identity, (since, attributes) in list(self.missing.items()):
            if now - since >= SETTLED_AFTER_MS:
                del self.missing[identity]
                self.fact(since + SETTLED_AFTER_MS, "left", identity=identity,
                          reason="UNKNOWN_REASON", attributes=attributes, since=since)

    def on_joined(self, at, e):
        self.room = {"sid": e["room_sid"], "name": e["room"]}
        self.fact(at, "watching", server_behind_ms=0)
        for p in e.get("present", []):
            self.on_participant_connected(at, p)

    def on_participant_connected(self, at, p):
        identity, kind = p["id"], p["kind"].removeprefix("PARTICIPANT_KIND_").lower()
        self.kinds[identity] = kind
        self.missing.pop(identity, None)
        self.fact(at, "joined", identity=identity, sid=p["sid"], kind=kind, name=p.get("name", ""),
                  metadata=p.get("metadata", ""), attributes=p.get("attributes", {}),
                  joined_at=p.get("joined_at", at))

    def on_participant_disconnected(self, at, e):
        identity, attributes = e["id"], e.get("attributes", {})
        if self.speaking.pop(identity, False):
            self.fact(at, "speaking", identity=identity, speaking=False)
        if e.get("reason"):
            self.fact(at, "left", identity=identity, reason=e["reason"], attributes=attributes)
        else:
            self.missing.setdefault(identity, (at, attributes))

    def on_attributes(self, at, e):
        self.fact(at, "attributes", identity=e["id"], changed=e["changed"])

    def on_metadata(self, at, e):
        self.fact(at, "metadata", identity=e["id"], metadata=e["metadata"])

    def on_room_metadata(self, at, e):
        self.fact(at, "room_metadata", metadata=e["metadata"])

    def on_track_published(self, at, e):
        self.fact(at, "track", identity=e["id"], sid=e["track"])

    def on_text_open(self, at, e):
        if e["topic"] == "lk.transcription":
            told, identity = e["attributes"], e["sender"]
            # The server marks what is sent in another's name.
            in_callers_name = self.kinds.get(identity) not in (None, "agent")
            self.fact(at, "stream_opened", stream=e["stream"], identity=identity,
                      segment=told.get("lk.segment_id"), track=told.get("lk.transcribed_track_id"),
                      generated=in_callers_name)

    def on_text_chunk(self, at, e):
        if e["topic"] == "lk.transcription":
            self.fact(at, "stream_chunk", stream=e["stream"], text=e["chunk"])

    def on_text_close(self, at, e):
        if e["topic"] == "lk.transcription":
            final = e.get("attributes", {}).get("lk.transcription_final") == "true"
            self.fact(at, "stream_closed", stream=e["stream"], is_final=final)
        elif e["topic"] == "lk.chat":
            self.fact(at, "chat", identity=e["sender"], text=e["text"])
        elif e["topic"] == "call-history":
            self.fact(at, "published", identity=e["sender"], text=e["text"])

    def on_text_abort(self, at, e):
        if e["topic"] == "lk.transcription":
            self.fact(at, "stream_closed", stream=e["stream"], is_final=False)

    def on_legacy_transcription(self, at, e):
        # Of somebody who has left it comes without a participant, and is not heard.
        for s in e["segments"] if e["id"] else []:
            self.fact(at, "legacy", identity=e["id"], segment=s["id"], text=s["text"],
                      is_final=s["final"])

    def on_session(self, at, e):
        message = feed(e["msg"])
        if message:
            self.fact(at, "feed", identity=e["sender"], message=message)

    def on_speakers(self, at, e):
        for identity in self.kinds:
            speaks = identity in e["who"]
            if self.speaking.get(identity, False) != speaks:
                self.speaking[identity] = speaks
                self.fact(at, "speaking", identity=identity, speaking=speaks)

    def on_quality(self, at, e):
        if e["id"] in self.kinds:
            lost = e["q"] in (3, "Lost", "QUALITY_LOST")
            self.fact(at, "quality", identity=e["id"], lost=lost)

    def on_sip_dtmf(self, at, e):
        self.fact(at, "dtmf", identity=e["id"])

    def on_disconnected(self, at, e):
        self.fact(at, "room_ended", reason=e["reason"])


def events(path, only=None):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    text = NUMBER.sub(FICTIONAL, text)
    of = (json.loads(line) for line in text.splitlines() if line.strip())
    # A first line without `what` describes the recording.
    return [e for e in of if "what" in e and (only is None or e["what"] in only)]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("trace")
    args.add_argument("--with", dest="other", help="the same call, with speakers and qualities")
    args = args.parse_args()
    told = events(args.trace)
    if args.other:
        told += events(args.other, only=("speakers", "quality"))
        told.sort(key=lambda e: e["t"])
    reader = Reader()
    for e in told:
        reader.read(e)
    room, ordinal = reader.room, 0
    header = {
        "journal": 1,
        "call_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{room['sid']}/{ordinal}")),
        "room": room,
        "ordinal": ordinal,
        "settings": {"silence_threshold_ms": 5000, "end_grace_ms": 10000, "details": False,
                     "transcript": False, "profiles": {}},
    }
    for line in [header, *reader.journal]:
        print(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit(0)
