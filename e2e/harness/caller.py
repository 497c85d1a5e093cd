"""A scripted caller: a plain LiveKit client that speaks in tones.

Of kind SIP it carries the attributes a SIP bridge sets; else it is a page.
Everything it does is written into the call's truth at the moment it does it.
"""

import asyncio
import contextlib
import time

from livekit import rtc

from . import sound

_FRAME = 0.02
_SAMPLES = int(sound.RATE * _FRAME)
_SILENCE = bytes(2 * _SAMPLES)


class Mouth:
    """Publishes a microphone that is silent until told to speak."""

    def __init__(self, room: rtc.Room, name: str) -> None:
        self._room, self._name = room, name
        self._source = rtc.AudioSource(sound.RATE, 1, queue_size_ms=100)
        self._pending = b""
        self._position = 0
        self._began = self._ended = None
        self._pump: asyncio.Task | None = None

    async def open(self) -> None:
        track = rtc.LocalAudioTrack.create_audio_track(self._name, self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        await self._room.local_participant.publish_track(track, options)
        self._pump = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if self._pending:
                data = self._pending[: 2 * _SAMPLES].ljust(2 * _SAMPLES, b"\0")
                self._pending = self._pending[2 * _SAMPLES :]
                if self._began and not self._began.done():
                    self._began.set_result(time.time())
                if not self._pending and self._ended and not self._ended.done():
                    self._ended.set_result(time.time() + _FRAME)
            else:
                data = _SILENCE
            await self._source.capture_frame(rtc.AudioFrame(data, sound.RATE, 1, _SAMPLES))
            # By the clock, not by the queue: what is captured now is sent now.
            due = max(due + _FRAME, loop.time() - 3 * _FRAME)
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def utter(self, pcm: bytes, on_start) -> float:
        """Makes a sound; calls back with its start, returns its end (Unix seconds)."""
        loop = asyncio.get_running_loop()
        self._began, self._ended = loop.create_future(), loop.create_future()
        self._pending = pcm
        on_start(await self._began)
        end = await self._ended
        await asyncio.sleep(max(0.0, end - time.time()))
        return end

    async def close(self) -> None:
        if self._pump:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump


class Caller:
    """`tell(what, at, **facts)` receives the truth; `lines` is what it can say, by number."""

    def __init__(self, url: str, token: str, lines: list[str], tell) -> None:
        self.room = rtc.Room()
        self._url, self._token, self._lines, self._tell = url, token, lines, tell
        self._mouth: Mouth | None = None
        self._states = asyncio.Condition()
        self._agent_states: list[tuple[float, str]] = []
        self.room.on("participant_attributes_changed", self._on_attributes)
        self.room.on("participant_connected", lambda p: self._on_attributes(p.attributes, p))
        self.room.on("participant_disconnected", lambda p: self._tell("lost", whom=p.identity))
        self.room.on("disconnected", lambda reason: self._tell("disconnected", reason=reason))
        self.room.on("reconnecting", lambda: self._tell("reconnecting"))
        self.room.on("reconnected", lambda: self._tell("reconnected"))

    async def join(self, *, microphone: bool = True) -> None:
        self._tell("joins")
        await self.room.connect(self._url, self._token)
        self._tell("joined", sid=self.room.local_participant.sid)
        for participant in self.room.remote_participants.values():
            self._on_attributes(participant.attributes, participant)
        if microphone:
            self._mouth = Mouth(self.room, self.room.local_participant.identity)
            await self._mouth.open()
            self._tell("microphone")

    def _on_attributes(self, changed: dict[str, str], participant) -> None:
        if state := changed.get("lk.agent.state"):
            self._agent_states.append((time.time(), state))
            asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self._states:
            self._states.notify_all()

    async def hears(self, state: str, *, after: float = 0.0, timeout: float = 30.0) -> float:
        """When the agent, as this client sees it, got into `state` after `after`."""

        def search() -> float | None:
            return next((t for t, s in self._agent_states if s == state and t > after), None)

        async with self._states:
            try:
                async with asyncio.timeout(timeout):
                    await self._states.wait_for(lambda: search() is not None)
            except TimeoutError:
                raise AssertionError(
                    f"the agent was not {state} in {timeout} s: {self._agent_states[-4:]}"
                ) from None
        return search()

    async def hears_out(self, *, after: float = 0.0, timeout: float = 30.0) -> float:
        """Waits until the agent began to speak after `after`, and fell silent again."""
        began = await self.hears("speaking", after=after, timeout=timeout)
        return await self.hears("listening", after=began, timeout=timeout)

    async def speaks(self, line: int, *, pause: float = 0.8) -> float:
        """Thinks for `pause` seconds, then says a line of the script; returns when it was said."""
        await asyncio.sleep(pause)
        text = self._lines[line]
        pcm = sound.tone(sound.pitch_of_line(line), sound.seconds_for(text))
        end = await self._mouth.utter(pcm, lambda at: self._tell("speaks", at, text=text))
        self._tell("spoke", end, text=text)
        return end

    async def makes_noise(self, seconds: float) -> float:
        """A cough, a door: loud, without words."""
        pcm = sound.tone(sound.noise_pitch(), seconds)
        end = await self._mouth.utter(pcm, lambda at: self._tell("noise", at))
        self._tell("noise_over", end)
        return end

    async def status(self, status: str) -> None:
        """What the SIP bridge does when the state of the phone call changes."""
        self._tell("status", status=status)
        await self.room.local_participant.set_attributes({"sip.callStatus": status})

    async def hangs_up(self) -> None:
        """A phone caller hangs up: the bridge says so, and leaves."""
        await self.status("hangup")
        await self.leaves()

    async def leaves(self, reason=rtc.DisconnectReason.CLIENT_INITIATED) -> None:
        self._tell("leaves", reason=rtc.DisconnectReason.Name(reason))
        await self.room.disconnect(reason=reason)
        self._tell("left")
        if self._mouth:
            await self._mouth.close()

    async def reconnects_fully(self) -> None:
        """The client loses its session and joins again as itself."""
        self._tell("reconnects")
        await self.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
