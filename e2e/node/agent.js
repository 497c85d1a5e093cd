// The voice agent: a real `AgentSession` with fake models, as a job of a real worker.
//
// Its script is in the job's metadata, see `Script` in `harness/call.py`. It reports what it does
// over the line, and receives orders over the line, as `harness/agent.py` does in Python.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

import { defineAgent, voice } from '@livekit/agents';
import { ParticipantKind, RoomEvent } from '@livekit/rtc-node';

import { Line } from './line.js';
import { ScriptedLlm } from './llm.js';
import { publish } from './publish.js';
import { reportPlayback, reportSession } from './report.js';
import { ScriptedStt } from './stt.js';
import { ToneTts } from './tts.js';
import { EnergyVad } from './vad.js';

async function entry(context) {
  const script = JSON.parse(context.job.metadata);
  const { room } = context;
  const line = await Line.connect(script.socket, 'agent');
  await context.connect();
  line.report('joined', { identity: room.localParticipant.identity, pid: process.pid });

  const session = new voice.AgentSession({
    vad: new EnergyVad(),
    stt: new ScriptedStt(script.lines),
    llm: new ScriptedLlm(script.replies),
    tts: new ToneTts(),
    turnHandling: { turnDetection: 'vad', interruption: { mode: 'vad' } },
  });
  const play = async (cue) => {
    for (const action of script.cues[cue] ?? []) await publish(room, line, action);
  };

  reportSession(session, line, (text) => background(play(text)));
  await session.start({
    agent: new voice.Agent({ instructions: '' }),
    room,
    inputOptions: { closeOnDisconnect: script.close_on_disconnect },
    record: script.recorded,
  });
  reportPlayback(session.output.audio, line);
  await play('ready');
  line.report('ready');

  background(greet(context, session, line, script, play));
  background(obey(context, session, line));
}

async function greet(context, session, line, script, play) {
  await callerOnThePhone(context);
  if (!script.greeting) return;
  await sleep(1000 * script.greet_after);
  line.report('say', { text: script.greeting });
  session.say(script.greeting);
  await play('greeting');
}

/** Returns when a caller can be spoken to: a phone call must be answered first. */
async function callerOnThePhone(context) {
  const caller = await context.waitForParticipant();
  if (caller.info.kind !== ParticipantKind.SIP) return;
  while (caller.attributes['sip.callStatus'] !== 'active') {
    await once(context.room, RoomEvent.ParticipantAttributesChanged);
  }
}

async function obey(context, session, line) {
  for await (const order of line.orders()) {
    switch (order.do) {
      case 'say':
        session.say(order.text);
        break;
      case 'publish':
        background(publish(context.room, line, order.action));
        break;
      case 'delete_room':
        line.report('deletes_room');
        await context.deleteRoom();
        break;
      case 'leave':
        line.report('leaves');
        await session.close();
        await context.room.disconnect();
        break;
      default:
        throw new Error(`unknown order ${order.do}`);
    }
  }
  // The scenario is over.
  context.shutdown();
}

/** An error here (the room closes before a caller joins) is logged and does no harm. */
function background(work) {
  work.catch((error) => console.error('in the background:', error));
}

export default defineAgent({ entry });
