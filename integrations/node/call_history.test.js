// Run with `node --test integrations/node/`. These tests use a fake room and no server; calls with a
// real agent are in e2e/.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { config, end, outcomes, stage } from './call_history.js';

/** A room that notes what is sent. */
function fakeRoom(send = async () => {}) {
  const sent = [];
  return {
    sent,
    localParticipant: {
      async sendText(text, options) {
        sent.push({ ...options, ...JSON.parse(text) });
        await send();
      },
    },
  };
}

/** What is logged meanwhile. */
function warnings(t) {
  const lines = [];
  t.mock.method(console, 'warn', (...words) => lines.push(words.join(' ')));
  return lines;
}

test('each function publishes one message with the keys of the wire', async () => {
  const room = fakeRoom();
  await stage('greeting', { room });
  await outcomes(
    {
      completionRate: 0.5,
      fieldsCollected: ['name'],
      finalStage: 'order',
      successful: false,
      notes: 'süß',
    },
    { room },
  );
  await config(
    { stt: 'a', llm: 'b', tts: 'c', businessType: 'restaurant', language: 'german' },
    { room },
  );
  await end({ status: 'failed', terminationReason: 'no_table' }, { room });
  const topic = 'call-history';
  assert.deepEqual(room.sent, [
    { topic, type: 'stage', stage: 'greeting' },
    {
      topic,
      type: 'outcomes',
      completion_rate: 0.5,
      fields_collected: ['name'],
      final_stage: 'order',
      successful: false,
      notes: 'süß',
    },
    {
      topic,
      type: 'agent_config',
      stt_config_key: 'a',
      llm_config_key: 'b',
      tts_config_key: 'c',
      business_type: 'restaurant',
      language: 'german',
    },
    { topic, type: 'end', status: 'failed', termination_reason: 'no_table' },
  ]);
});

test('what is not given is not sent', async () => {
  const room = fakeRoom();
  await outcomes({ completionRate: 0, notes: null, finalStage: undefined }, { room });
  await outcomes({ notes: null }, { room });
  await config({}, { room });
  await end(undefined, { room });
  assert.deepEqual(room.sent, [
    { topic: 'call-history', type: 'outcomes', completion_rate: 0 },
    { topic: 'call-history', type: 'end' },
  ]);
});

test('a wrong argument rejects and sends nothing', async (t) => {
  const logged = warnings(t);
  const room = fakeRoom();
  for (const [attempt, error] of [
    [() => stage('', { room }), RangeError],
    [() => stage(undefined, { room }), TypeError],
    [() => stage(room), TypeError],
    [() => outcomes(null, { room }), TypeError],
    [() => outcomes({ completionRate: 1.01 }, { room }), RangeError],
    [() => outcomes({ completionRate: -0.5 }, { room }), RangeError],
    [() => outcomes({ completionRate: NaN }, { room }), RangeError],
    [() => outcomes({ completionRate: '1' }, { room }), TypeError],
    [() => outcomes({ completion_rate: 1 }, { room }), TypeError],
    [() => outcomes({ fieldsCollected: 'name' }, { room }), TypeError],
    [() => outcomes({ fieldsCollected: ['name', null] }, { room }), TypeError],
    [() => outcomes({ successful: 'yes' }, { room }), TypeError],
    [() => outcomes({ notes: 7 }, { room }), TypeError],
    [() => config({ llm: {} }, { room }), TypeError],
    [() => end({ status: 'splendid' }, { room }), RangeError],
    [() => end({ terminationReason: 1 }, { room }), TypeError],
  ]) {
    await assert.rejects(attempt, error, String(attempt));
  }
  assert.deepEqual(room.sent, []);
  assert.deepEqual(logged, []);
});

test('a room that refuses, or is not there, is logged without what was to be sent', async (t) => {
  const logged = warnings(t);
  const refuses = fakeRoom(async () => {
    throw new TypeError('cannot send "secret"');
  });
  await stage('secret', { room: refuses });
  await end({ terminationReason: 'secret' }, { room: {} });
  // There is no job here, and perhaps no `@livekit/agents`.
  await outcomes({ notes: 'secret' });
  assert.equal(logged.length, 3);
  assert.equal(logged[0], 'call_history: stage was not published: TypeError');
  assert.doesNotMatch(logged.join(), /secret/);
});

test('a room that never answers is given up', async (t) => {
  const logged = warnings(t);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const given = stage('greeting', { room: fakeRoom(() => new Promise(() => {})) });
  t.mock.timers.tick(2000);
  await given;
  assert.deepEqual(logged, ['call_history: stage was not published: TimeoutError']);
});
