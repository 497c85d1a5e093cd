// @ts-check
/**
 * Publishes to call-history what only the voice agent knows about its call.
 *
 * Copy this file beside your agent (an ES module; in TypeScript set `allowJs`, then it is typed).
 *
 *     import { config, end, outcomes, stage } from './call_history.js';
 *
 *     await config({ stt: 'deepgram', llm: 'gpt-4o', businessType: 'restaurant' });
 *     await stage('greeting');
 *     await outcomes({ fieldsCollected: ['name', 'time'], successful: true });
 *     await end({ status: 'completed', terminationReason: 'transferred' });
 *
 * Each function sends one text stream on the topic `call-history` to the room of the running job,
 * or to `{ room }` as the last argument. Values that are undefined or null are not sent. For each
 * key, the value that was sent last counts.
 *
 * These functions never disturb a call: a message that cannot be sent within TIMEOUT is dropped, and
 * a line without its values is logged to the console. Only a wrong argument rejects, with a TypeError
 * or RangeError, and then nothing is sent.
 *
 * The room must still be connected. In a job's shutdown callbacks it no longer is.
 */

const TOPIC = 'call-history';
/** Milliseconds to wait for a message to be sent. */
const TIMEOUT = 2000;

/** @typedef {{ sendText(text: string, options: { topic: string }): Promise<unknown> }} Sender */
/** @typedef {{ room?: { localParticipant?: Sender } }} Options The room, if not the job's. */

/**
 * The call enters a stage. Repeating the current stage has no effect.
 * @param {string} name
 * @param {Options} [options]
 */
export async function stage(name, options) {
  need(typeof name === 'string', 'name must be a string');
  if (name === '') throw new RangeError('name must not be empty');
  await publish('stage', { stage: name }, options);
}

/**
 * The outcomes of the call. `completionRate` is 0 to 1. `fieldsCollected` is the whole list, not only
 * the new fields. `finalStage` is only needed if it is not the last stage.
 * @param {{
 *   completionRate?: number | null, fieldsCollected?: readonly string[] | null,
 *   finalStage?: string | null, successful?: boolean | null, notes?: string | null,
 * }} values
 * @param {Options} [options]
 */
export async function outcomes(values, options) {
  const known = ['completionRate', 'fieldsCollected', 'finalStage', 'successful', 'notes'];
  const { completionRate, fieldsCollected, finalStage, successful, notes } = only(known, values);
  if (completionRate != null) {
    need(typeof completionRate === 'number', 'completionRate must be a number');
    // Written so that NaN is refused, too.
    if (!(completionRate >= 0 && completionRate <= 1)) {
      throw new RangeError('completionRate must be 0 to 1');
    }
  }
  need(
    fieldsCollected == null ||
      (Array.isArray(fieldsCollected) && fieldsCollected.every((f) => typeof f === 'string')),
    'fieldsCollected must be an array of strings',
  );
  need(successful == null || typeof successful === 'boolean', 'successful must be a boolean');
  texts({ finalStage, notes });
  const message = {
    completion_rate: completionRate,
    fields_collected: fieldsCollected,
    final_stage: finalStage,
    successful,
    notes,
  };
  await publish('outcomes', message, options);
}

/**
 * How the agent is configured.
 * @param {{
 *   stt?: string | null, llm?: string | null, tts?: string | null,
 *   businessType?: string | null, language?: string | null,
 * }} values
 * @param {Options} [options]
 */
export async function config(values, options) {
  const known = ['stt', 'llm', 'tts', 'businessType', 'language'];
  const { stt, llm, tts, businessType, language } = texts(only(known, values));
  const message = {
    stt_config_key: stt,
    llm_config_key: llm,
    tts_config_key: tts,
    business_type: businessType,
    language,
  };
  await publish('agent_config', message, options);
}

/**
 * How the call ends; this overrides what was observed. Without a status it is "completed".
 * @param {{
 *   status?: 'completed' | 'failed' | 'dropped' | null, terminationReason?: string | null,
 * }} [values]
 * @param {Options} [options]
 */
export async function end(values = {}, options) {
  const { status, terminationReason } = texts(only(['status', 'terminationReason'], values));
  if (status != null && !['completed', 'failed', 'dropped'].includes(status)) {
    throw new RangeError('status must be "completed", "failed" or "dropped"');
  }
  await publish('end', { status, termination_reason: terminationReason }, options);
}

/** @type {(holds: boolean, message: string) => void} */
function need(holds, message) {
  if (!holds) throw new TypeError(message);
}

/**
 * @template {object} T
 * @param {string[]} known
 * @param {T} values
 */
function only(known, values) {
  need(typeof values === 'object' && values !== null, 'an object must be given');
  for (const key of Object.keys(values)) need(known.includes(key), `${key} is not known`);
  return values;
}

/**
 * @template {object} T
 * @param {T} values
 */
function texts(values) {
  for (const [name, value] of Object.entries(values)) {
    need(value == null || typeof value === 'string', `${name} must be a string`);
  }
  return values;
}

/**
 * @param {string} type
 * @param {Record<string, unknown>} values
 * @param {Options} [options]
 */
async function publish(type, values, options) {
  const given = Object.entries(values).filter(([, value]) => value != null);
  if (given.length === 0 && type !== 'end') return;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  try {
    const room = options?.room ?? (await import('@livekit/agents')).getJobContext().room;
    if (!room.localParticipant) throw new Error('not connected');
    const text = JSON.stringify({ type, ...Object.fromEntries(given) });
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new DOMException('', 'TimeoutError')), TIMEOUT);
    });
    await Promise.race([room.localParticipant.sendText(text, { topic: TOPIC }), late]);
  } catch (error) {
    // Without the error's text, which may quote the message.
    const name = error instanceof Error ? error.name : typeof error;
    console.warn(`call_history: ${type} was not published: ${name}`);
  } finally {
    clearTimeout(timer);
  }
}
