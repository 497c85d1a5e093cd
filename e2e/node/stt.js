// The fake speech-to-text: recognises the line whose pitch it hears, and ignores noise. Times as in
// `harness/fakes.py`: interim transcripts every 0.4 s, the final transcript 0.35 s after the end of
// speech.

import { randomUUID } from 'node:crypto';

import { stt } from '@livekit/agents';

import {
  SECONDS_PER_WORD,
  WINDOW,
  Windows,
  crossings,
  isLoud,
  lineOfPitch,
  secondsFor,
} from './sound.js';

const INTERIM_EVERY = 0.4;
const FINAL_AFTER = 0.35;
const CUT_AFTER = 1.2; // for an unfinished line: on a busy machine, sound has gaps

export class ScriptedStt extends stt.STT {
  label = 'e2e.ScriptedStt';
  model = 'script-stt';
  provider = 'e2e';

  constructor(lines) {
    super({ streaming: true, interimResults: true });
    this.lines = lines;
  }

  async _recognize() {
    throw new Error('only streaming');
  }

  stream(options) {
    return new ScriptedSttStream(this, options?.connOptions);
  }
}

class ScriptedSttStream extends stt.SpeechStream {
  label = 'e2e.ScriptedSttStream';
  #lines;
  #windows = new Windows();
  #at = 0; // seconds of audio
  #lastFinal = { text: undefined, at: 0 };
  #utterance = newUtterance();

  constructor(ears, connOptions) {
    super(ears, undefined, connOptions);
    this.#lines = ears.lines;
  }

  async run() {
    for await (const frame of this.input) {
      if (this.closed) return;
      if (frame === stt.SpeechStream.FLUSH_SENTINEL) {
        this.#finish();
        continue;
      }
      for (const window of this.#windows.of(frame)) this.#hear(window);
    }
  }

  #hear(window) {
    const u = this.#utterance;
    this.#at += WINDOW;
    if (isLoud(window)) {
      // Only full windows are used for the pitch: the first and the last are cut.
      if (u.heard && !u.silence) {
        u.crossings += crossings(window);
        u.counted += WINDOW;
      }
      u.heard += WINDOW + u.silence;
      u.silence = 0;
      const text = this.#line();
      if (text && u.heard - u.interimAt >= INTERIM_EVERY) {
        u.interimAt = u.heard;
        const words = text.split(' ');
        const spoken = Math.floor(u.heard / SECONDS_PER_WORD);
        this.#say(stt.SpeechEventType.INTERIM_TRANSCRIPT, words.slice(0, Math.max(1, spoken)));
      }
    } else if (u.heard) {
      u.silence += WINDOW;
      const whole = u.heard >= 0.8 * secondsFor(this.#line() ?? '');
      if (u.silence >= (whole ? FINAL_AFTER : CUT_AFTER)) this.#finish();
    }
  }

  #line() {
    const { counted, crossings } = this.#utterance;
    const number = counted ? lineOfPitch(crossings / 2 / counted) : undefined;
    return number === undefined ? undefined : this.#lines[Math.min(number, this.#lines.length - 1)];
  }

  #say(type, words) {
    const text = words.join(' ');
    const heard = { language: 'en', text, startTime: 0, endTime: 0, confidence: 1 };
    this.#put({ type, requestId: this.#utterance.id, alternatives: [heard] });
  }

  #put(event) {
    if (!this.queue.closed) this.queue.put(event);
  }

  #finish() {
    const { id, heard } = this.#utterance;
    const text = this.#line();
    if (text) {
      // After a gap near the end of a line, the rest of it is not a second utterance.
      const rest = text === this.#lastFinal.text && this.#at - this.#lastFinal.at < 2;
      if (!rest || heard > 0.5 * secondsFor(text)) {
        this.#say(stt.SpeechEventType.FINAL_TRANSCRIPT, [text]);
      }
      this.#lastFinal = { text, at: this.#at };
    }
    if (heard) {
      const type = stt.SpeechEventType.RECOGNITION_USAGE;
      this.#put({ type, requestId: id, recognitionUsage: { audioDuration: heard } });
    }
    this.#utterance = newUtterance();
  }
}

/** What was heard of an utterance: times in seconds of audio, and counts. */
function newUtterance() {
  return { id: randomUUID(), heard: 0, silence: 0, interimAt: 0, crossings: 0, counted: 0 };
}
