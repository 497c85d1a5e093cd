"""The fake speech-to-speech model of the voice agent, which needs no provider.

It hears the caller and speaks itself: the session has no voice detector, no speech recognition, no
language model and no voice besides. The model decides when a turn of the caller is over, and says so
when it knows. The session takes that moment for the time of the speech, as with real models.

The timing is that of usual providers: the beginning of speech is reported after 0.15 s, its end after
0.5 s of silence, each with 0.05 s for the way; the first sound 0.3 s later, and the words of the
caller, if the model transcribes them, another 0.4 s after that.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass, field

from livekit import rtc
from livekit.agents import llm
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.agents.metrics.base import Metadata
from livekit.agents.utils import aio

from . import sound
from .fakes import PROVIDER, WINDOW, Windows

MODEL = "script-realtime"

_STARTS_AFTER = 0.15
_ENDS_AFTER = 0.5
_CUT_AFTER = 1.2
"""Seconds of silence after which an unfinished line ends: on a busy machine, sound has gaps."""
_WAY = 0.05
"""Seconds from the provider to the agent."""
_FIRST_SOUND_AFTER = 0.3
_WORDS_AFTER = 0.7
_PIECE = 0.1
"""Seconds of sound in a frame of an answer."""


class ScriptedRealtime(llm.RealtimeModel):
    """Answers the line whose pitch it hears; a noise interrupts it, and is not answered."""

    model, provider = MODEL, PROVIDER

    def __init__(self, lines: list[str], replies: dict[str, str], *, transcribes: bool) -> None:
        super().__init__(
            capabilities=llm.RealtimeCapabilities(
                message_truncation=True,
                turn_detection=True,
                user_transcription=transcribes,
                auto_tool_reply_generation=False,
                audio_output=True,
                manual_function_calls=True,
                mutable_chat_context=True,
                mutable_instructions=True,
                mutable_tools=True,
                per_response_tool_choice=True,
            )
        )
        self.lines, self.replies, self.transcribes = lines, replies, transcribes

    def session(self, *, turn_detection_disabled: bool = False) -> llm.RealtimeSession:
        return _Session(self)

    async def aclose(self) -> None:
        pass


@dataclass
class _Response:
    """What the model says, which may be cancelled."""

    id: str
    text: aio.Chan[str] = field(default_factory=aio.Chan)
    audio: aio.Chan[rtc.AudioFrame] = field(default_factory=aio.Chan)
    messages: aio.Chan[llm.MessageGeneration] = field(default_factory=aio.Chan)
    functions: aio.Chan[llm.FunctionCall] = field(default_factory=aio.Chan)

    def close(self) -> None:
        for stream in (self.text, self.audio, self.messages, self.functions):
            stream.close()


class _Hearing:
    """Finds turns in the caller's sound: `hear` returns what has happened with a window of it."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.speaking = False
        self._forget()

    def _forget(self) -> None:
        self._loud = self._quiet = 0.0
        self._crossings, self._counted = 0, 0.0

    def line(self) -> str | None:
        """The line that has been heard; `None` if there were no words."""
        if not self._counted:
            return None
        number = sound.line_of_pitch(self._crossings / 2 / self._counted)
        return None if number is None else self._lines[min(number, len(self._lines) - 1)]

    def hear(self, window) -> str | None:
        """`starts`, `ends` or nothing. The line is known until the next sound."""
        if sound.loudness(window) > sound.LOUD:
            if not self.speaking and self._quiet:
                self._forget()
            crossings = sound.crossings(window)
            # Words count, and a noise before them does not; nor do windows that a sound fills in part.
            if self._loud and not self._quiet and sound.is_word(crossings / 2 / WINDOW):
                self._crossings += crossings
                self._counted += WINDOW
            self._loud += WINDOW + self._quiet
            self._quiet = 0.0
            if not self.speaking and self._loud >= _STARTS_AFTER:
                self.speaking = True
                return "starts"
            return None
        if not self._loud:
            return None
        self._quiet += WINDOW
        whole = self._counted >= 0.8 * sound.seconds_for(self.line() or "")
        if self.speaking and self._quiet >= (_ENDS_AFTER if whole else _CUT_AFTER):
            self.speaking = False
            return "ends"
        return None


class _Session(llm.RealtimeSession):
    def __init__(self, model: ScriptedRealtime) -> None:
        super().__init__(model)
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._windows, self._hearing = Windows(), _Hearing(model.lines)
        self._turn, self._turn_started_at = "", 0.0
        self._response: _Response | None = None
        self._tasks: set[asyncio.Task] = set()
        self._chat, self._tools = llm.ChatContext.empty(), llm.ToolContext.empty()

    # ---- The caller

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        for window in self._windows.of(frame):
            match self._hearing.hear(window):
                case "starts":
                    self._loop.call_later(_WAY, self._starts)
                case "ends":
                    self._loop.call_later(_WAY, self._ends, self._hearing.line())

    def _starts(self) -> None:
        self._turn, self._turn_started_at = uuid.uuid4().hex, time.time()
        self._cancel()
        self.emit("input_speech_started", llm.InputSpeechStartedEvent())

    def _ends(self, line: str | None) -> None:
        transcribes = self._model.transcribes
        self.emit("input_speech_stopped", llm.InputSpeechStoppedEvent(transcribes))
        if line is None:
            return
        if transcribes:
            words = llm.InputTranscriptionCompleted(
                item_id=self._turn,
                transcript=line,
                is_final=True,
                turn_started_at=self._turn_started_at,
            )
            self._loop.call_later(
                _WORDS_AFTER, self.emit, "input_audio_transcription_completed", words
            )
        if reply := self._model.replies.get(line):
            self.emit("generation_created", self._respond(reply, asked_for=False))

    # ---- The model's answers

    def _respond(self, text: str, *, asked_for: bool) -> llm.GenerationCreatedEvent:
        self._cancel()
        response = self._response = _Response(uuid.uuid4().hex)
        task = asyncio.ensure_future(self._speak(response, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return llm.GenerationCreatedEvent(
            message_stream=response.messages,
            function_stream=response.functions,
            user_initiated=asked_for,
            response_id=response.id,
        )

    async def _speak(self, response: _Response, text: str) -> None:
        """Sends text and sound, faster than they are played, as models do."""
        began = time.time()
        modalities = self._loop.create_future()
        modalities.set_result(["audio", "text"])
        response.messages.send_nowait(
            llm.MessageGeneration(response.id, response.text, response.audio, modalities)
        )
        await asyncio.sleep(_FIRST_SOUND_AFTER)
        words = text.split()
        pcm = sound.tone(220.0, sound.seconds_for(text))
        size = 2 * int(sound.RATE * _PIECE)
        for number in range(max(len(words), -(-len(pcm) // size))):
            if response is not self._response:
                return
            if word := words[number : number + 1]:
                response.text.send_nowait(word[0] if number == len(words) - 1 else f"{word[0]} ")
            if piece := pcm[number * size : (number + 1) * size]:
                frame = rtc.AudioFrame(piece, sound.RATE, 1, len(piece) // 2)
                response.audio.send_nowait(frame)
            await asyncio.sleep(0.01)
        response.close()
        self._response = None
        self.emit("metrics_collected", self._used(response, began, len(words)))

    def _used(self, response: _Response, began: float, words: int) -> RealtimeModelMetrics:
        return RealtimeModelMetrics(
            request_id=response.id,
            timestamp=began,
            duration=time.time() - began,
            ttft=_FIRST_SOUND_AFTER,
            label=self._model.label,
            input_tokens=1,
            output_tokens=words,
            total_tokens=1 + words,
            input_token_details=RealtimeModelMetrics.InputTokenDetails(audio_tokens=1),
            output_token_details=RealtimeModelMetrics.OutputTokenDetails(audio_tokens=words),
            metadata=Metadata(model_name=MODEL, model_provider=PROVIDER),
        )

    def _cancel(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def generate_reply(
        self, *, instructions=None, tool_choice=None, tools=None
    ) -> asyncio.Future[llm.GenerationCreatedEvent]:
        """Says the instructions: a fake model needs none."""
        created = self._loop.create_future()
        created.set_result(self._respond(instructions or "", asked_for=True))
        return created

    def interrupt(self) -> None:
        self._cancel()

    def truncate(self, *, message_id, modalities, audio_end_ms, audio_transcript=None) -> None:
        pass

    # ---- What the session keeps on the provider's side

    @property
    def chat_ctx(self) -> llm.ChatContext:
        return self._chat.copy()

    @property
    def tools(self) -> llm.ToolContext:
        return self._tools

    async def update_instructions(self, instructions: str) -> None:
        pass

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        self._chat = chat_ctx.copy()

    async def update_tools(self, tools: list[llm.Tool]) -> None:
        self._tools = llm.ToolContext(tools)

    def update_options(self, *, tool_choice=None) -> None:
        pass

    def push_video(self, frame: rtc.VideoFrame) -> None:
        pass

    def commit_audio(self) -> None:
        pass

    def clear_audio(self) -> None:
        self._hearing = _Hearing(self._model.lines)

    async def aclose(self) -> None:
        self._cancel()
        await aio.cancel_and_wait(*self._tasks)
