// The Node agent of the matrix: one file for every pinned version of `@livekit/agents`.
//
// It runs in a folder beside the models of `e2e/node`, see `versions.py`. It reports nothing: the
// caller hears what it does.

import { setTimeout as sleep } from 'node:timers/promises';

import { defineAgent, voice } from '@livekit/agents';

import { ScriptedLlm } from './llm.js';
import { ScriptedStt } from './stt.js';
import { ToneTts } from './tts.js';
import { EnergyVad } from './vad.js';

async function entry(context) {
  const script = JSON.parse(context.job.metadata);
  await context.connect();
  const session = new voice.AgentSession({
    vad: new EnergyVad(),
    stt: new ScriptedStt(script.lines),
    llm: new ScriptedLlm(script.replies),
    tts: new ToneTts(),
    // A version ignores what it does not know: the second is what the first was called before.
    turnHandling: { turnDetection: 'vad', interruption: { mode: 'vad' } },
    turnDetection: 'vad',
  });
  const agent = new voice.Agent({ instructions: '' });
  await session.start({ agent, room: context.room, record: false });
  await context.waitForParticipant();
  await sleep(1000 * script.greet_after);
  session.say(script.greeting);
}

export default defineAgent({ entry });
