// The fake text-to-speech: a low tone, as long as the words would take. First sound after 0.15 s.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { tts } from '@livekit/agents';
import { AudioFrame } from '@livekit/rtc-node';

import { RATE, secondsFor, tone } from './sound.js';

const FIRST_SOUND_AFTER = 150; // ms
const PITCH = 220;
const SAMPLES_PER_FRAME = RATE / 20;

export class ToneTts extends tts.TTS {
  label = 'e2e.ToneTts';
  model = 'tone-tts';
  provider = 'e2e';

  constructor() {
    super(RATE, 1, { streaming: false });
  }

  synthesize(text, connOptions, abortSignal) {
    return new ToneStream(text, this, connOptions, abortSignal);
  }

  stream() {
    throw new Error('only whole texts');
  }
}

class ToneStream extends tts.ChunkedStream {
  label = 'e2e.ToneStream';

  async run() {
    await sleep(FIRST_SOUND_AFTER);
    const requestId = randomUUID();
    const samples = tone(PITCH, secondsFor(this.inputText));
    for (let at = 0; at < samples.length && !this.queue.closed; at += SAMPLES_PER_FRAME) {
      const part = samples.slice(at, at + SAMPLES_PER_FRAME);
      const frame = new AudioFrame(part, RATE, 1, part.length);
      const final = at + SAMPLES_PER_FRAME >= samples.length;
      this.queue.put({ requestId, segmentId: requestId, frame, final });
    }
    if (!this.queue.closed) this.queue.close();
  }
}
