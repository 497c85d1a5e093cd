"""The fake models of the voice agent, which need no provider.

Everything between them (turn taking, interruptions, transcripts, states, the
session feed) is the real `AgentSession`. The timing is that of usual
providers: interim transcripts every 0.4 s, the final transcript 0.35 s after
the end of speech, the first token after 0.3 s, the first sound after 0.15 s.
"""

import asyncio
import uuid

import numpy as np
from livekit import rtc
from livekit.agents import llm, stt, tts, vad

from . import sound

PROVIDER = "e2e"
"""The provider's name in the usage, from which the product derives `agent_config`."""

STT_MODEL, LLM_MODEL, TTS_MODEL = "script-stt", "script-llm", "tone-tts"

WINDOW = 0.025
_SPEECH_STARTS_AFTER = 0.05
_SPEECH_ENDS_AFTER = 0.25
_INTERIM_EVERY = 0.4
_FINAL_AFTER = 0.35
_CUT_AFTER = 1.2
"""Seconds of silence after which an unfinished line ends: on a busy machine, sound has gaps."""
_FIRST_TOKEN_AFTER = 0.3
_FIRST_SOUND_AFTER = 0.15


class Windows:
    """Cuts frames of any length into windows of 25 ms, measured in audio time."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, dtype=np.int16)

    def of(self, frame: rtc.AudioFrame):
        samples = np.frombuffer(frame.data, dtype=np.int16)[:: frame.num_channels]
        self._rest = np.concatenate([self._rest, samples])
        size = int(frame.sample_rate * WINDOW)
        while len(self._rest) >= size:
            window, self._rest = self._rest[:size], self._rest[size:]
            yield window


class EnergyVad(vad.VAD):
    """A voice detector that takes every loud sound for speech."""

    def __init__(self) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=WINDOW))

    def stream(self) -> vad.VADStream:
        return _EnergyVadStream(self)


class _EnergyVadStream(vad.VADStream):
    async def _main_task(self) -> None:
        windows, index = Windows(), 0
        speech = silence = 0.0
        speaking = False
        async for frame in self._input_ch:
            if isinstance(frame, self._FlushSentinel):
                speech = silence = 0.0
                speaking = False
                continue
            for window in windows.of(frame):
                index += len(window)
                if sound.loudness(window) > sound.LOUD:
                    # The pause inside speech counts as speech.
                    speech += WINDOW + (silence if speaking else 0.0)
                    silence = 0.0
                else:
                    silence += WINDOW
                    if not speaking:
                        speech = 0.0

                def event(kind: vad.VADEventType) -> vad.VADEvent:
                    return vad.VADEvent(
                        type=kind,
                        samples_index=index,
                        timestamp=index / sound.RATE,
                        speech_duration=speech if speaking else 0.0,
                        silence_duration=silence,
                        frames=[frame],
                        probability=1.0 if silence == 0.0 else 0.0,
                        speaking=speaking,
                        raw_accumulated_speech=speech if silence == 0.0 else 0.0,
                        raw_accumulated_silence=silence,
                    )

                if not speaking and speech >= _SPEECH_STARTS_AFTER:
                    speaking = True
                    self._event_ch.send_nowait(event(vad.VADEventType.START_OF_SPEECH))
                elif speaking and silence >= _SPEECH_ENDS_AFTER:
                    self._event_ch.send_nowait(event(vad.VADEventType.END_OF_SPEECH))
                    speaking, speech = False, 0.0
                self._event_ch.send_nowait(event(vad.VADEventType.INFERENCE_DONE))


class ScriptedStt(stt.STT):
    """Recognises the line whose pitch it hears; ignores noise."""

    model, provider = STT_MODEL, PROVIDER

    def __init__(self, lines: list[str]) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self.lines = lines

    async def _recognize_impl(self, *args, **kwargs):
        raise NotImplementedError("only streaming")

    def stream(self, *, conn_options, **kwargs) -> stt.RecognizeStream:
        return _ScriptedSttStream(stt=self, conn_options=conn_options)


class _ScriptedSttStream(stt.RecognizeStream):
    async def _run(self) -> None:
        windows = Windows()
        heard = silence = interim_at = 0.0
        crossings = 0
        counted = 0.0
        request = ""
        at = last_final_at = 0.0
        last_final: str | None = None

        def say(kind: stt.SpeechEventType, text: str) -> None:
            self._event_ch.send_nowait(
                stt.SpeechEvent(
                    type=kind,
                    request_id=request,
                    alternatives=[stt.SpeechData(language="en", text=text, confidence=1.0)],
                )
            )

        def line() -> str | None:
            lines = self._stt.lines
            number = sound.line_of_pitch(crossings / 2 / counted) if counted else None
            return lines[min(number, len(lines) - 1)] if number is not None and lines else None

        def finish() -> None:
            nonlocal heard, silence, interim_at, crossings, counted, last_final, last_final_at
            if text := line():
                # After a gap near the end of a line, the rest of it is not a second utterance.
                rest = text == last_final and at - last_final_at < 2.0
                if not rest or heard > 0.5 * sound.seconds_for(text):
                    say(stt.SpeechEventType.FINAL_TRANSCRIPT, text)
                last_final, last_final_at = text, at
            if heard:
                self._event_ch.send_nowait(
                    stt.SpeechEvent(
                        type=stt.SpeechEventType.RECOGNITION_USAGE,
                        request_id=request,
                        recognition_usage=stt.RecognitionUsage(audio_duration=heard),
                    )
                )
            heard = silence = interim_at = counted = 0.0
            crossings = 0

        async for frame in self._input_ch:
            if isinstance(frame, self._FlushSentinel):
                finish()
                continue
            for window in windows.of(frame):
                at += WINDOW
                if sound.loudness(window) > sound.LOUD:
                    if not heard:
                        request = uuid.uuid4().hex
                    # Only full windows are used for the pitch: the first and the last are cut.
                    if heard and not silence:
                        crossings += sound.crossings(window)
                        counted += WINDOW
                    heard += WINDOW + silence
                    silence = 0.0
                    if heard - interim_at >= _INTERIM_EVERY and (text := line()):
                        interim_at = heard
                        words = text.split()
                        spoken = int(heard / sound.SECONDS_PER_WORD)
                        say(
                            stt.SpeechEventType.INTERIM_TRANSCRIPT,
                            " ".join(words[: max(1, min(spoken, len(words)))]),
                        )
                elif heard:
                    silence += WINDOW
                    whole = heard >= 0.8 * sound.seconds_for(line() or "")
                    if silence >= (_FINAL_AFTER if whole else _CUT_AFTER):
                        finish()


class ScriptedLlm(llm.LLM):
    """Knows one answer for each line of the caller."""

    model, provider = LLM_MODEL, PROVIDER

    def __init__(self, replies: dict[str, str]) -> None:
        super().__init__()
        self.replies = replies

    def chat(self, *, chat_ctx, tools=None, conn_options, **kwargs) -> llm.LLMStream:
        return _ScriptedLlmStream(
            self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options
        )


class _ScriptedLlmStream(llm.LLMStream):
    async def _run(self) -> None:
        asked = [m.text_content for m in self._chat_ctx.messages() if m.role == "user"]
        answer = self._llm.replies.get((asked[-1] or "").strip() if asked else "", "")
        await asyncio.sleep(_FIRST_TOKEN_AFTER)
        request, words = uuid.uuid4().hex, answer.split()
        for number, word in enumerate(words):
            self._event_ch.send_nowait(
                llm.ChatChunk(
                    id=request,
                    delta=llm.ChoiceDelta(
                        role="assistant",
                        content=word if number == len(words) - 1 else word + " ",
                    ),
                )
            )
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id=request,
                usage=llm.CompletionUsage(
                    completion_tokens=len(words), prompt_tokens=1, total_tokens=1 + len(words)
                ),
            )
        )


class ToneTts(tts.TTS):
    """Speaks in a low tone, as long as the words would take."""

    model, provider = TTS_MODEL, PROVIDER

    def __init__(self) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False),
            sample_rate=sound.RATE,
            num_channels=1,
        )

    def synthesize(self, text: str, *, conn_options=None, **kwargs) -> tts.ChunkedStream:
        return _ToneStream(tts=self, input_text=text, conn_options=conn_options)


class _ToneStream(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        await asyncio.sleep(_FIRST_SOUND_AFTER)
        output_emitter.initialize(
            request_id=uuid.uuid4().hex,
            sample_rate=sound.RATE,
            num_channels=1,
            mime_type="audio/pcm",
        )
        output_emitter.push(sound.tone(220.0, sound.seconds_for(self.input_text)))
        output_emitter.flush()
