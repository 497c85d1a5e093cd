"""The fake models, for old versions too: what they need of `livekit-agents`, and old versions
do not have.

Import this instead of `harness.fakes`. It looks for what is missing and never for a version.
"""

import asyncio
import uuid

from livekit import rtc
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, llm, stt, tts

_STREAMS_PUSH_FRAMES = not hasattr(tts, "AudioEmitter")
if _STREAMS_PUSH_FRAMES:
    # The fakes name it in an annotation.
    tts.AudioEmitter = object

if not hasattr(llm.ChatContext, "messages"):
    llm.ChatContext.messages = lambda context: [i for i in context.items if i.type == "message"]

from harness import fakes, sound  # noqa: E402 (the fakes need the above)

_FRAME = 0.05


class _FrameTts(fakes.ToneTts):
    def synthesize(self, text: str, *, conn_options=None, **kwargs) -> tts.ChunkedStream:
        return _FrameStream(tts=self, input_text=text, conn_options=conn_options)


class _FrameStream(tts.ChunkedStream):
    """Cuts its sound into frames itself, as streams did before there was an emitter."""

    async def _run(self) -> None:
        await asyncio.sleep(fakes._FIRST_SOUND_AFTER)
        request = uuid.uuid4().hex
        pcm = sound.tone(220.0, sound.seconds_for(self.input_text))
        size = 2 * int(sound.RATE * _FRAME)
        for at in range(0, len(pcm), size):
            part = pcm[at : at + size]
            frame = rtc.AudioFrame(part, sound.RATE, 1, len(part) // 2)
            self._event_ch.send_nowait(tts.SynthesizedAudio(frame=frame, request_id=request))


EnergyVad = fakes.EnergyVad
ToneTts = _FrameTts if _STREAMS_PUSH_FRAMES else fakes.ToneTts


# Old sessions call both without connection options.
class ScriptedStt(fakes.ScriptedStt):
    def stream(self, *, conn_options=DEFAULT_API_CONNECT_OPTIONS, **kwargs) -> stt.RecognizeStream:
        return super().stream(conn_options=conn_options, **kwargs)


class ScriptedLlm(fakes.ScriptedLlm):
    def chat(self, *, conn_options=DEFAULT_API_CONNECT_OPTIONS, **kwargs) -> llm.LLMStream:
        return super().chat(conn_options=conn_options, **kwargs)
