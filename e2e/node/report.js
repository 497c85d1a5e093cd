// Reports the session's events to the scenario, with the names that `harness/agent.py` uses.

import { voice } from '@livekit/agents';

const { AgentSessionEventTypes: Happens, AudioOutput } = voice;

/** `spoke` is called with every text that either side said. */
export function reportSession(session, line, spoke) {
  const change = (what) => (event) =>
    line.report(what, { old: event.oldState, new: event.newState }, event.createdAt / 1000);
  session.on(Happens.AgentStateChanged, change('state'));
  // The time of the event itself; the times that the detector dates back are in the item.
  session.on(Happens.UserStateChanged, change('user_state'));

  session.on(Happens.AgentFalseInterruption, (event) =>
    line.report('false_interruption', { resumed: event.resumed }, event.createdAt / 1000),
  );

  session.on(Happens.ConversationItemAdded, ({ item, createdAt }) => {
    const text = item.type === 'message' ? item.textContent?.trim() : '';
    if (!text) return;
    const { role, interrupted } = item;
    line.report('item', { role, text, interrupted, ...numbers(item.metrics) }, createdAt / 1000);
    spoke(text);
  });

  session.on(Happens.Close, ({ reason }) => line.report('session_closed', { reason }));
}

/** Reports when the agent's sound is really played into the room. */
export function reportPlayback(output, line) {
  output.on(AudioOutput.EVENT_PLAYBACK_STARTED, ({ createdAt }) =>
    line.report('playback_started', {}, createdAt / 1000),
  );
  output.on(AudioOutput.EVENT_PLAYBACK_FINISHED, ({ playbackPosition, interrupted }) =>
    line.report('playback_finished', { position: playbackPosition, interrupted }),
  );
}

/** The metrics of an item, named as in Python: `startedSpeakingAt` is `started_speaking_at`. */
function numbers(metrics) {
  const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const entries = Object.entries(metrics).filter(([, value]) => typeof value === 'number');
  return Object.fromEntries(entries.map(([name, value]) => [snake(name), value]));
}
