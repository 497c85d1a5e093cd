// The fake LLM: knows one answer for each line of the caller. First token after 0.3 s.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { llm } from '@livekit/agents';

const FIRST_TOKEN_AFTER = 300; // ms

export class ScriptedLlm extends llm.LLM {
  model = 'script-llm';
  provider = 'e2e';

  constructor(replies) {
    super();
    this.replies = replies;
  }

  label() {
    return 'e2e.ScriptedLlm';
  }

  chat(request) {
    return new ScriptedLlmStream(this, request);
  }
}

class ScriptedLlmStream extends llm.LLMStream {
  #replies;

  constructor(mind, { chatCtx, toolCtx, connOptions }) {
    super(mind, { chatCtx, toolCtx, connOptions });
    this.#replies = mind.replies;
  }

  async run() {
    const asked = this.chatCtx.items.findLast((i) => i.type === 'message' && i.role === 'user');
    const answer = this.#replies[asked?.textContent?.trim() ?? ''] ?? '';
    await sleep(FIRST_TOKEN_AFTER);

    const id = randomUUID();
    const words = answer.split(' ').filter(Boolean);
    words.forEach((word, n) => {
      const content = n === words.length - 1 ? word : `${word} `;
      this.#put({ id, delta: { role: 'assistant', content } });
    });
    const tokens = { completionTokens: words.length, promptTokens: 1, promptCachedTokens: 0 };
    this.#put({ id, usage: { ...tokens, totalTokens: 1 + words.length } });
  }

  #put(chunk) {
    if (!this.queue.closed) this.queue.put(chunk);
  }
}
