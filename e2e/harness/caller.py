"""A scripted caller: a plain LiveKit client that speaks in tones.

A caller of kind SIP has the attributes that a SIP bridge sets; any other is a
web page. Everything a caller does is recorded in the call's truth at once.
"""

import asyncio
import contextlib
import time

from livekit import rtc

from . import sound
from .ears import Ears

_FRAME = 0.02
_SILENCE = bytes(2 * int(sound.RATE * _FRAME))
_LEAD = 0.06
_LONGEST = 30.0
"""Seconds of sound that can wait in the microphone's queue."""


class Mouth:
    """Publishes a microphone that is silent until `utter` is called.

    An utterance goes into the microphone's queue as a whole. LiveKit's own thread plays it, so
    that it has no gaps when this process is busy. An agent would take a gap for a pause.
    """

    def __init__(self, room: rtc.Room, name: str) -> None:
        self._room, self._name = room, name
        self._source = rtc.AudioSource(sound.RATE, 1, queue_size_ms=int(1000 * _LONGEST))
        self._dry_at = 0.0
        """When the queue will be empty (Unix seconds)."""
        self._pump: asyncio.Task | None = None

    async def open(self) -> None:
        track = rtc.LocalAudioTrack.create_audio_track(self._name, self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self._room.local_participant.publish_track(track, options)
        self._pump = asyncio.ensure_future(self._be_silent())

    async def _be_silent(self) -> None:
        while True:
            while self._dry_at - time.time() < _LEAD:
                await self._queue(_SILENCE)
            await asyncio.sleep(_FRAME)

    async def _queue(self, pcm: bytes) -> tuple[float, float]:
        """Queues a sound; returns its start and its end (Unix seconds)."""
        start = max(self._dry_at, time.time())
        self._dry_at = start + len(pcm) / 2 / sound.RATE
        await self._source.capture_frame(rtc.AudioFrame(pcm, sound.RATE, 1, len(pcm) // 2))
        return start, start + len(pcm) / 2 / sound.RATE

    async def utter(self, pcm: bytes, on_start) -> float:
        """Makes a sound; calls back with its start, returns its end (Unix seconds)."""
        start, end = await self._queue(pcm)
        on_start(start)
        await asyncio.sleep(max(0.0, end - time.time()))
        return end

    async def close(self) -> None:
        if self._pump:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump


class Caller(Ears):
    """`report(what, at, **facts)` records facts in the truth; `lines` is what the caller can say,
    by number."""

    def __init__(self, url: str, token: str, lines: list[str], report) -> None:
        super().__init__()
        self.room = rtc.Room()
        self._url, self._token, self._lines, self._report = url, token, lines, report
        self._mouth: Mouth | None = None
        self.room.on("participant_attributes_changed", self._on_attributes)
        self.room.on("participant_connected", lambda p: self._on_attributes(p.attributes, p))
        self.room.on("participant_disconnected", lambda p: self._report("lost", whom=p.identity))
        self.room.on("disconnected", lambda reason: self._report("disconnected", reason=reason))
        self.room.on("reconnecting", lambda: self._report("reconnecting"))
        self.room.on("reconnected", lambda: self._report("reconnected"))

    async def join(self, *, microphone: bool = True, listening: bool = True) -> None:
        self._report("joins")
        options = rtc.RoomOptions(auto_subscribe=listening)
        await self.room.connect(self._url, self._token, options)
        self._report("joined", sid=self.room.local_participant.sid)
        for participant in self.room.remote_participants.values():
            self._on_attributes(participant.attributes, participant)
        if microphone:
            self._mouth = Mouth(self.room, self.room.local_participant.identity)
            await self._mouth.open()
            self._report("microphone")

    def listens(self) -> None:
        """Subscribes to the tracks in the room, for a caller that joined without listening."""
        self._report("listens")
        for participant in self.room.remote_participants.values():
            for publication in participant.track_publications.values():
                publication.set_subscribed(True)

    def _on_attributes(self, changed: dict[str, str], participant) -> None:
        if state := changed.get("lk.agent.state"):
            self.noted(state)

    async def speaks(self, line: int, *, pause: float = 0.8) -> float:
        """Waits `pause` seconds, then says a line of the script; returns when the line ended."""
        await asyncio.sleep(pause)
        text = self._lines[line]
        pcm = sound.tone(sound.pitch_of_line(line), sound.seconds_for(text))
        end = await self._mouth.utter(pcm, lambda at: self._report("speaks", at, text=text))
        self._report("spoke", end, text=text)
        return end

    async def makes_noise(self, seconds: float) -> float:
        """A cough, a door: loud, without words."""
        pcm = sound.tone(sound.noise_pitch(), seconds)
        end = await self._mouth.utter(pcm, lambda at: self._report("noise", at))
        self._report("noise_over", end)
        return end

    async def status(self, status: str) -> None:
        """What the SIP bridge does when the state of the phone call changes."""
        self._report("status", status=status)
        await self.room.local_participant.set_attributes({"sip.callStatus": status})
        self._report("status_is_set", status=status)

    async def hangs_up(self) -> None:
        """A phone caller hangs up: the bridge sets the status and leaves."""
        await self.status("hangup")
        await self.leaves()

    async def leaves(self, reason=rtc.DisconnectReason.CLIENT_INITIATED) -> None:
        self._report("leaves", reason=rtc.DisconnectReason.Name(reason))
        await self.room.disconnect(reason=reason)
        self._report("left")
        if self._mouth:
            await self._mouth.close()

    async def reconnects_fully(self) -> None:
        """The client loses its session and joins again with the same identity."""
        self._report("reconnects")
        await self.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
