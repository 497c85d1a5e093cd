"""A real Pipecat bot with fake models. Run in the environment of `pipecat/requirements.txt`.

Everything between the models is Pipecat's own: transport, turn taking, interruptions, RTVI. It says
on stdout, a line of JSON each, when it starts and stops to speak. With a `socket` in its script it also
reports on the line when its sound was really played into the room.
"""

import asyncio
import io
import json
import os
import sys
import time
import wave
from pathlib import Path

import numpy as np
from livekit import rtc
from loguru import logger
from pipecat.audio.vad.vad_analyzer import VADAnalyzer
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.livekit import generate_token_with_agent
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.livekit.transport import LiveKitParams, LiveKitTransport
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import sound  # noqa: E402 (its folder is not a package here)
from harness.wire import Line  # noqa: E402

SCRIPT = json.loads(os.environ["BOT_SCRIPT"])
"""`lines` of the caller, `replies` by line, `greeting`."""

_OVER_AFTER = 0.15
"""Seconds without sound after which the sound was over."""


def report(what: str) -> None:
    print(json.dumps({"what": what}), flush=True)


class EnergyVad(VADAnalyzer):
    """Takes every loud sound for speech."""

    def num_frames_required(self) -> int:
        return int(self.sample_rate * 0.02)

    def voice_confidence(self, buffer: bytes) -> float:
        return float(sound.loudness(np.frombuffer(buffer, dtype=np.int16)) > sound.LOUD)


class ToneStt(SegmentedSTTService):
    """Recognizes the line of the script by its pitch."""

    async def run_stt(self, audio: bytes):
        with wave.open(io.BytesIO(audio)) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        loud = samples[np.abs(samples) > 2 * sound.LOUD]
        if len(loud) < rate // 10:
            yield None
            return
        first, last = np.flatnonzero(np.abs(samples) > 2 * sound.LOUD)[[0, -1]]
        spoken = samples[first : last + 1]
        line = sound.line_of_pitch(sound.crossings(spoken) / 2 / (len(spoken) / rate))
        if line is not None and line < len(SCRIPT["lines"]):
            text = SCRIPT["lines"][line]
            yield TranscriptionFrame(text, self._user_id, time_now_iso8601(), finalized=True)


class ScriptLlm(FrameProcessor):
    """Answers the last line of the caller."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        said = [m["content"] for m in frame.context.get_messages() if m["role"] == "user"]
        reply = SCRIPT["replies"].get(said[-1].strip()) if said else None
        if reply is None:
            return
        await asyncio.sleep(0.3)
        await self.push_frame(LLMFullResponseStartFrame())
        for word in reply.split():
            await self.push_frame(LLMTextFrame(f"{word} "))
        await self.push_frame(LLMFullResponseEndFrame())


class ToneTts(TTSService):
    def __init__(self) -> None:
        super().__init__(
            sample_rate=sound.RATE, push_start_frame=True, push_stop_frames=True, stop_frame_timeout_s=0.3
        )

    async def run_tts(self, text: str, context_id: str):
        await asyncio.sleep(0.15)
        yield TTSAudioRawFrame(
            audio=sound.tone(1_000.0, sound.seconds_for(text)),
            sample_rate=sound.RATE,
            num_channels=1,
            context_id=context_id,
        )


class PlayedSource(rtc.AudioSource):
    """The source of the bot's track, which reports when sound was played.

    Pipecat's own reports are of sound that was handed over, up to a second before it is played.
    """

    line: Line

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._dry_at = 0.0
        """When the source's queue will be empty (Unix seconds)."""
        self._since: float | None = None
        self._until = 0.0
        self._watch = asyncio.ensure_future(self._report_ends())

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        start = max(self._dry_at, time.time())
        self._dry_at = start + frame.samples_per_channel / frame.sample_rate
        samples = np.frombuffer(frame.data, dtype=np.int16)
        loud = np.flatnonzero(np.abs(samples) > sound.LOUD) / frame.sample_rate
        if len(loud):
            if self._since is None:
                self._since = start + loud[0]
                self.line.report("playback_started", self._since)
            # The last frame is filled up with silence.
            self._until = start + loud[-1]
        await super().capture_frame(frame)

    def clear_queue(self) -> None:
        """Pipecat does this when the caller interrupts, whether the bot speaks or not."""
        super().clear_queue()
        self._dry_at = min(self._dry_at, time.time())
        if self._since is not None and self._until > self._dry_at:
            self._over(self._dry_at, interrupted=True)

    async def _report_ends(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            if self._since is not None and time.time() > self._until + _OVER_AFTER:
                self._over(self._until, interrupted=False)

    def _over(self, at: float, *, interrupted: bool) -> None:
        self.line.report(
            "playback_finished", at, position=at - self._since, interrupted=interrupted
        )
        self._since = None


class Reports(FrameProcessor):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction == FrameDirection.UPSTREAM:
            if isinstance(frame, BotStartedSpeakingFrame):
                report("started")
            if isinstance(frame, BotStoppedSpeakingFrame):
                report("stopped")
        await self.push_frame(frame, direction)


async def main() -> None:
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    line = None
    if path := SCRIPT.get("socket"):
        line = PlayedSource.line = await Line.connect(path, "agent")
        # The transport makes its source itself.
        rtc.AudioSource = PlayedSource
    room, name = os.environ["BOT_ROOM"], os.environ["BOT_NAME"]
    key, secret = os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"]
    transport = LiveKitTransport(
        url=os.environ["LIVEKIT_URL"],
        token=generate_token_with_agent(room, name, key, secret),
        room_name=room,
        params=LiveKitParams(audio_in_enabled=True, audio_out_enabled=True),
    )
    aggregators = LLMContextAggregatorPair(
        LLMContext([]),
        user_params=LLMUserAggregatorParams(
            vad_analyzer=EnergyVad(),
            user_turn_strategies=UserTurnStrategies(stop=[SpeechTimeoutUserTurnStopStrategy()]),
        ),
    )
    pipeline = Pipeline(
        [
            transport.input(),
            ToneStt(),
            aggregators.user(),
            ScriptLlm(),
            ToneTts(),
            Reports(),
            transport.output(),
            aggregators.assistant(),
        ]
    )
    task = PipelineTask(
        pipeline, params=PipelineParams(audio_in_sample_rate=16_000, audio_out_sample_rate=sound.RATE)
    )

    @transport.event_handler("on_connected")
    async def there(_transport) -> None:
        if line:
            line.report("ready")

    @transport.event_handler("on_first_participant_joined")
    async def greet(_transport, _participant) -> None:
        report("ready")
        await asyncio.sleep(SCRIPT.get("greet_after", 1.0))
        await task.queue_frames([TTSSpeakFrame(SCRIPT["greeting"])])

    @transport.event_handler("on_participant_disconnected")
    async def leave(*_args) -> None:
        await task.cancel()

    await PipelineRunner(handle_sigint=False).run(task)


if __name__ == "__main__":
    asyncio.run(main())
