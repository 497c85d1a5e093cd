// @ts-check
/**
 * Tells call-history what only the voice agent knows of its call.
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
 * or to `{ room }` as the last argument. What is undefined or null is not sent; of what was sent
 * before, the last value counts, key by key.
 *
 * A call is never disturbed: what cannot be published, or not within TIMEOUT, is logged (to the
 * console, without its values) and forgotten. Only a wrong argument rejects, with a TypeError or
 * RangeError, and then nothing was sent.
 *
 * The room must still be connected. In a job's shutdown callbacks it is not any more.
 */

const TOPIC = 'call-history';
/** Milliseconds to wait for a message to be sent. */
const TIMEOUT = 2000;

/** @typedef {{ sendText(text: string, options: { topic: string }): Promise<unknown> }} Sender */
/** @typedef {{ room?: { localParticipant?: Sender } }} Options The room, if not the job's. */

/**
 * The call enters a stage. A repeat of the current one adds nothing.
 * @param {string} name
 * @param {Options} [options]
 */
export async function stage(name, options) {
  need(typeof name === 'string', 'name must be a string');
  if (name === '') throw new RangeError('name must not be empty');
  await publish('stage', { stage: name }, options);
}

/**
 * What came of the call. `completionRate` is 0 to 1. `fieldsCollected` is the whole list, not what
 * is new. `finalStage` is only needed when it is not the last stage.
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
    // NaN is not either.
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
 * How the call ends; outranks what was observed. Without a status it is "completed".
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
    // Not its text: that may quote what was to be sent.
    const name = error instanceof Error ? error.name : typeof error;
    console.warn(`call_history: ${type} was not published: ${name}`);
  } finally {
    clearTimeout(timer);
  }
}
