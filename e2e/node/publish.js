// The ways in which an agent publishes something for an observer: by hand, or with the module that
// this repository offers to Node agents.

import { now } from './line.js';

const TOPIC = 'call-history';

/** Publishes in the way that `action` names, and reports when. */
export async function publish(room, line, action) {
  const began = now();
  if (action.module !== undefined) {
    await byModule(action.room ? { room } : undefined, action);
  } else {
    await byHand(room.localParticipant, action);
  }
  line.report('published', { action, done: now() }, began);
}

/** Without a room in the options, the module uses the room of the running job. */
async function byModule(options, { module, args }) {
  const functions = await import('./call_history.js');
  await functions[module](args, options);
}

async function byHand(me, action) {
  const topic = action.topic ?? TOPIC;
  if (action.text !== undefined) {
    await me.sendText(asText(action.text), { topic });
  } else if (action.packet !== undefined) {
    const bytes = new TextEncoder().encode(JSON.stringify(action.packet));
    await me.publishData(bytes, { reliable: true, topic });
  } else if (action.attributes !== undefined) {
    const entries = Object.entries(action.attributes).map(([key, value]) => [key, asText(value)]);
    await me.setAttributes(Object.fromEntries(entries));
  } else {
    throw new Error(`unknown action ${JSON.stringify(action)}`);
  }
}

function asText(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
