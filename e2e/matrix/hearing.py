"""What a caller hears of an agent: when its sound begins and ends in the caller's client.

It is the same for every framework and version, and nothing of it comes from the agent.
"""

import asyncio
import time
from dataclasses import dataclass

import numpy as np
from livekit import rtc

from harness import sound

_BEGINS_AFTER = 0.1
"""Seconds of sound that make a beginning: shorter ones are blips."""
_ENDS_AFTER = 0.3
"""Seconds of quiet that make an end: on a busy machine, sound has gaps."""


@dataclass
class Heard:
    start: float
    """Unix seconds, as is the end."""
    end: float
    over: bool = False

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Hearing:
    def __init__(self, room: rtc.Room) -> None:
        self.all: list[Heard] = []
        """Every utterance that was long enough, in order."""
        self._now: Heard | None = None
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        room.on("track_subscribed", lambda track, *_: self._open(track))

    def _open(self, track: rtc.Track) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            task = asyncio.ensure_future(self._listen(track))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=sound.RATE, num_channels=1)
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, dtype=np.int16)
                self._take(sound.loudness(samples) > sound.LOUD, event.frame.duration)
        finally:
            await stream.aclose()

    def _take(self, loud: bool, seconds: float) -> None:
        now = time.time()
        if loud:
            if self._now is None:
                self._now = Heard(now - seconds, now)
            self._now.end = now
            known = bool(self.all) and self.all[-1] is self._now
            if self._now.seconds >= _BEGINS_AFTER and not known:
                self.all.append(self._now)
                self._changed.set()
        elif self._now and now - self._now.end >= _ENDS_AFTER:
            self._now.over = True
            self._now = None
            self._changed.set()

    async def begins(self, number: int, timeout: float = 20.0) -> Heard:
        """Waits until utterance `number` (from 0) has begun."""
        return await self._wait(lambda: len(self.all) > number, number, timeout)

    async def ends(self, number: int, timeout: float = 20.0) -> Heard:
        """Waits until utterance `number` is over."""
        return await self._wait(
            lambda: len(self.all) > number and self.all[number].over, number, timeout
        )

    async def _wait(self, true, number: int, timeout: float) -> Heard:
        try:
            async with asyncio.timeout(timeout):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"utterance {number + 1} of the agent was not heard in {timeout} s"
            ) from None
        return self.all[number]
