"""Sound that carries its own script.

A caller's utterance is a tone, and its pitch says which line of the script is
spoken. So the fake speech-to-text needs no side channel: it "recognises" what
really came through the room, when it came. Noise is a much higher tone: loud
enough for a voice detector, but without words.
"""

import math
import wave

import numpy as np

RATE = 24_000
"""Samples per second of all sound here."""

LOUD = 500.0
"""RMS above which sound counts as sound."""

SECONDS_PER_WORD = 0.3
"""How long one word takes, for callers and agents alike."""

_FIRST_PITCH = 300.0
_PITCH_STEP = 100.0
_NOISE_PITCH = 4_000.0
_AMPLITUDE = 9_000.0


def pitch_of_line(index: int) -> float:
    """The tone, in Hz, that speaks line `index` of a script."""
    return _FIRST_PITCH + _PITCH_STEP * index


def noise_pitch() -> float:
    """The tone, in Hz, that no transcriber understands."""
    return _NOISE_PITCH


def is_word(hertz: float) -> bool:
    """Whether a tone speaks, and is no noise."""
    return hertz <= _NOISE_PITCH / 2


def line_of_pitch(hertz: float) -> int | None:
    """Which line a tone speaks; `None` for noise."""
    if not is_word(hertz):
        return None
    return max(0, round((hertz - _FIRST_PITCH) / _PITCH_STEP))


def seconds_for(text: str) -> float:
    """How long it takes to say `text`."""
    return SECONDS_PER_WORD * len(text.split())


def tone(hertz: float, seconds: float, amplitude: float = _AMPLITUDE) -> bytes:
    """A tone as 16-bit mono PCM."""
    time = np.arange(int(RATE * seconds)) / RATE
    return (amplitude * np.sin(2 * math.pi * hertz * time)).astype("<i2").tobytes()


def loudness(samples: np.ndarray) -> float:
    """RMS of 16-bit samples."""
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))) if len(samples) else 0.0


def crossings(samples: np.ndarray) -> int:
    """How often the sign changes: twice the pitch, for a tone."""
    return int(np.count_nonzero(np.signbit(samples[1:]) != np.signbit(samples[:-1])))


def write_wav(path: str, pcm: bytes) -> None:
    """16-bit mono PCM as a file."""
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(pcm)
