"""One call as its room shows it."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from livekit import rtc
from livekit.agents.voice import RemoteSession
from livekit.agents.voice.remote_session import RoomSessionTransport
from livekit.protocol.agent_pb import agent_session as pb

from record import Turn, Verdict, build

AGENT, SIP = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT, rtc.ParticipantKind.PARTICIPANT_KIND_SIP
CALLERS = (SIP, rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD, rtc.ParticipantKind.PARTICIPANT_KIND_CONNECTOR)
CONNECTED = ("active", "automation")
# A caller who has hung up does not come back, but the transcript of the last words may come this late.
AFTER_HANGUP, AFTER_LEAVE, AFTER_TIMEOUT = 2.5, 10.0, 20.0


@dataclass
class Segment:
    """A piece of a transcript: who said it, the text so far, when its first and its last part came."""

    identity: str
    text: str
    start: float
    end: float


class Call:
    def __init__(self, room: rtc.Room, room_sid: str) -> None:
        self.over = asyncio.Event()
        self.room, self.room_sid = room, room_sid
        self.caller: rtc.RemoteParticipant | None = None
        self.start: float | None = None
        self.first_seen = self.end = 0.0
        self.hung_up: float | None = None
        self.verdict = Verdict()
        self.kinds: dict[str, int] = {}
        self.present: set[str] = set()
        self.items: list[Turn] = []
        self.streams: dict[tuple[str, str], Segment] = {}
        self.legacy: dict[tuple[str, str], Segment] = {}
        self.config: dict[str, str] = {}
        self.usage: dict[str, str] = {}
        self.outcomes: dict[str, Any] = {}
        self.stages: list[tuple[str, float]] = []
        self.session = RemoteSession(RoomSessionTransport(room))
        self._readers: set[asyncio.Task[None]] = set()
        self._ending: asyncio.TimerHandle | None = None

    async def listen(self) -> None:
        """Before the room is joined, so that nothing is missed."""
        room = self.room
        room.register_text_stream_handler("lk.transcription", self._reads(self._transcript))
        room.register_text_stream_handler("call-history", self._reads(self._message))
        room.on("transcription_received", self._legacy_transcript)
        room.on("data_received", self._packet)
        room.on("participant_connected", self._came)
        room.on("participant_disconnected", self._left)
        room.on("participant_attributes_changed", lambda changed, who: self._attributes(who, changed))
        room.on("disconnected", self._room_ended)
        self.session.on("conversation_item_added", self._item)
        self.session.on("session_usage_updated", self._used)
        await self.session.start()

    def joined(self) -> None:
        for participant in self.room.remote_participants.values():
            self._came(participant)

    async def record(self) -> dict | None:
        """None if no caller was there."""
        if self._readers:
            await asyncio.wait(self._readers, timeout=1)
        await self.session.aclose()
        return build(self) if self.caller else None

    # ---- who is there

    def _came(self, who: rtc.RemoteParticipant) -> None:
        self.kinds[who.identity] = who.kind
        if who.kind == AGENT:
            self.verdict.agent_was_there = True
        elif who.kind in CALLERS:
            self.present.add(who.identity)
            if self._ending:  # the caller is back
                self._ending.cancel()
                self._ending = None
            if self.caller is None:
                self.caller = who
                self.first_seen = who.joined_at.timestamp() if who.joined_at else time.time()
        # Connected already when it is first seen: then since its join.
        self._attributes(who, who.attributes, self.first_seen)

    def _attributes(self, who: rtc.Participant, changed: dict[str, str], since: float = 0.0) -> None:
        if self.caller and who.identity == self.caller.identity:
            status = who.attributes.get("sip.callStatus")
            self.verdict.sip_status = status or self.verdict.sip_status
            if status == "hangup":
                self.hung_up = self.hung_up or time.time()
            if self.start is None and (who.kind != SIP or status in CONNECTED):
                self.start = since or time.time()
        if who.kind != AGENT:
            return
        if stage := changed.get("call.stage"):
            self._stage(stage, time.time())
        for key, target in (("call.agent_config", self.config), ("call.outcomes", self.outcomes)):
            if isinstance(found := parsed(changed.get(key, "")), dict):
                target.update(found)

    def _left(self, who: rtc.RemoteParticipant) -> None:
        if who.identity not in self.present:
            return
        self.present.discard(who.identity)
        if self.present:
            return
        # The hang-up is known at once; the leave of a phone without a track up to three seconds later.
        self.end = self.hung_up or time.time()
        self.verdict.sip_status = who.attributes.get("sip.callStatus") or self.verdict.sip_status
        self.verdict.reason = who.disconnect_reason
        if self.verdict.sip_status == "hangup" or self.start is None:
            grace = AFTER_HANGUP
        elif who.disconnect_reason == rtc.DisconnectReason.CONNECTION_TIMEOUT:
            grace = AFTER_TIMEOUT
        else:
            grace = AFTER_LEAVE
        self._ending = asyncio.get_running_loop().call_later(grace, self.over.set)

    def _room_ended(self, reason: rtc.DisconnectReason.ValueType | None = None) -> None:
        if self.present:
            self.end = time.time()
            self.verdict.reason = reason
            self.verdict.room_ended = True
        self.over.set()

    # ---- what is said

    def _reads(self, handle):
        """A handler that reads a stream in a task of its own, which is kept until it ends."""

        def opened(reader: rtc.TextStreamReader, identity: str) -> None:
            task = asyncio.create_task(handle(reader, identity))
            self._readers.add(task)
            task.add_done_callback(self._readers.discard)

        return opened

    async def _transcript(self, reader: rtc.TextStreamReader, identity: str) -> None:
        now, text = time.time(), ""
        attributes = reader.info.attributes or {}
        key = (identity, attributes.get("lk.segment_id", reader.info.stream_id))
        segment = self.streams.setdefault(key, Segment(identity, "", now, now))
        try:
            async for chunk in reader:
                text += chunk
                # An agent's stream grows; each of a caller's streams holds all of the segment so far.
                segment.text, segment.end = text, time.time()
        except rtc.StreamError:
            pass  # the sender or we are gone: what came is kept

    def _legacy_transcript(self, segments, who: rtc.Participant | None, _publication) -> None:
        for part in segments:
            now, identity = time.time(), who.identity if who else ""
            segment = self.legacy.setdefault((identity, part.id), Segment(identity, "", now, now))
            segment.text, segment.end = part.text, now

    def _item(self, event: pb.AgentSessionEvent) -> None:
        item = event.conversation_item_added.item
        if not item.HasField("message") or item.message.role not in (pb.USER, pb.ASSISTANT):
            return
        message, times = item.message, item.message.metrics
        text = " ".join(part.text for part in message.content if part.text)
        said = event.created_at.ToMicroseconds() / 1e6
        start = times.started_speaking_at.ToMicroseconds() / 1e6 or said
        end = times.stopped_speaking_at.ToMicroseconds() / 1e6 or said
        self.items.append(Turn(message.role == pb.ASSISTANT, text, start, end, message.interrupted))

    def _used(self, event: pb.AgentSessionEvent) -> None:
        for model in event.session_usage_updated.usage.model_usage:
            kind = model.WhichOneof("usage")
            used = getattr(model, kind)
            self.usage[f"{kind}_config_key"] = f"{used.provider}/{used.model}"

    # ---- what the agent publishes

    async def _message(self, reader: rtc.TextStreamReader, identity: str) -> None:
        now = time.time()
        try:
            text = await reader.read_all()
        except rtc.StreamError:
            return
        if self.kinds.get(identity) == AGENT:
            self._published(text, now)

    def _packet(self, packet: rtc.DataPacket) -> None:
        if packet.topic == "call-history" and packet.participant and packet.participant.kind == AGENT:
            self._published(packet.data.decode(errors="replace"), time.time())

    def _published(self, text: str, now: float) -> None:
        message = parsed(text)
        if not isinstance(message, dict):
            return
        match message.pop("type", None):
            case "stage" if isinstance(message.get("stage"), str):
                self._stage(message["stage"], now)
            case "agent_config":
                self.config.update(message)
            case "outcomes":
                self.outcomes.update(message)
            case "end":
                self.verdict.published = (message.get("status"), message.get("termination_reason"))

    def _stage(self, stage: str, now: float) -> None:
        if not self.stages or self.stages[-1][0] != stage:
            self.stages.append((stage, now))


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
