// Sound that carries its own script, as `harness/sound.py` makes it: the pitch says which line of
// the script is spoken. Every number must be the same in both files.

export const RATE = 24_000; // samples a second
const LOUD = 500; // RMS above which sound counts as sound
export const SECONDS_PER_WORD = 0.3;

const FIRST_PITCH = 300;
const PITCH_STEP = 100;
const NOISE_PITCH = 4_000;
const AMPLITUDE = 9_000;

/** Which line a tone speaks; `undefined` for noise. */
export function lineOfPitch(hertz) {
  if (hertz > NOISE_PITCH / 2) return undefined;
  return Math.max(0, Math.round((hertz - FIRST_PITCH) / PITCH_STEP));
}

/** How long it takes to say `text`. */
export function secondsFor(text) {
  return SECONDS_PER_WORD * text.split(/\s+/).filter(Boolean).length;
}

/** A tone as 16-bit samples. */
export function tone(hertz, seconds) {
  const sample = (_, n) => AMPLITUDE * Math.sin((2 * Math.PI * hertz * n) / RATE);
  return Int16Array.from({ length: Math.round(RATE * seconds) }, sample);
}

export function isLoud(samples) {
  const energy = samples.reduce((sum, sample) => sum + sample * sample, 0);
  return Math.sqrt(energy / samples.length) > LOUD;
}

/** How often the sign changes: twice the pitch, for a tone. */
export function crossings(samples) {
  let count = 0;
  for (let n = 1; n < samples.length; n++) count += samples[n] < 0 !== samples[n - 1] < 0;
  return count;
}

/** Seconds of one window, the step of the voice detector and the speech-to-text. */
export const WINDOW = 0.025;

/** Cuts frames of any length into windows, measured in audio time. */
export class Windows {
  #rest = new Int16Array(0);

  *of(frame) {
    const samples = frame.data.filter((_, n) => n % frame.channels === 0);
    let all = new Int16Array(this.#rest.length + samples.length);
    all.set(this.#rest);
    all.set(samples, this.#rest.length);
    const size = Math.floor(frame.sampleRate * WINDOW);
    for (; all.length >= size; all = all.subarray(size)) yield all.subarray(0, size);
    this.#rest = all.slice();
  }
}
