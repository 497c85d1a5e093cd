// The worker of the Node agent. Run as `node worker.js start`; its dispatch name is in
// `MATRIX_AGENT`.

import { fileURLToPath } from 'node:url';

import { WorkerOptions, cli } from '@livekit/agents';

cli.runApp(
  new WorkerOptions({
    agent: fileURLToPath(new URL('agent.js', import.meta.url)),
    agentName: process.env.MATRIX_AGENT,
    numIdleProcesses: 1,
    // Always zero: on a busy machine the worker would report that it is full.
    loadFunc: async () => 0,
    host: '127.0.0.1',
    port: 0,
  }),
);
