// The fake voice detector: every loud sound is speech. Times as in `harness/fakes.py`, but in
// milliseconds, as this SDK has them.

import { VAD, VADEventType, VADStream } from '@livekit/agents';

import { RATE, WINDOW, Windows, isLoud } from './sound.js';

const STEP = WINDOW * 1000;
const SPEECH_STARTS_AFTER = 50;
const SPEECH_ENDS_AFTER = 250;

export class EnergyVad extends VAD {
  label = 'e2e.EnergyVad';

  constructor() {
    super({ updateInterval: STEP });
  }

  stream() {
    return new EnergyVadStream(this);
  }
}

class EnergyVadStream extends VADStream {
  #windows = new Windows();
  #heard = 0; // samples
  #speech = 0;
  #silence = 0;
  #speaking = false;

  constructor(vad) {
    super(vad);
    this.#listen();
  }

  async #listen() {
    for (;;) {
      const { done, value } = await this.inputReader.read();
      if (done || this.closed) return;
      if (value === VADStream.FLUSH_SENTINEL) {
        this.#speech = this.#silence = 0;
        this.#speaking = false;
        continue;
      }
      for (const window of this.#windows.of(value)) this.#hear(window, value);
    }
  }

  #hear(window, frame) {
    this.#heard += window.length;
    if (isLoud(window)) {
      // The pause inside speech counts as speech.
      this.#speech += STEP + (this.#speaking ? this.#silence : 0);
      this.#silence = 0;
    } else {
      this.#silence += STEP;
      if (!this.#speaking) this.#speech = 0;
    }

    if (!this.#speaking && this.#speech >= SPEECH_STARTS_AFTER) {
      this.#speaking = true;
      this.#emit(VADEventType.START_OF_SPEECH, frame);
    } else if (this.#speaking && this.#silence >= SPEECH_ENDS_AFTER) {
      this.#emit(VADEventType.END_OF_SPEECH, frame);
      this.#speaking = false;
      this.#speech = 0;
    }
    this.#emit(VADEventType.INFERENCE_DONE, frame);
  }

  #emit(type, frame) {
    const now = this.#silence === 0;
    this.sendVADEvent({
      type,
      samplesIndex: this.#heard,
      timestamp: (1000 * this.#heard) / RATE,
      speechDuration: this.#speaking ? this.#speech : 0,
      silenceDuration: this.#silence,
      frames: [frame],
      probability: now ? 1 : 0,
      inferenceDuration: 0,
      speaking: this.#speaking,
      rawAccumulatedSpeech: now ? this.#speech : 0,
      rawAccumulatedSilence: this.#silence,
    });
  }
}
