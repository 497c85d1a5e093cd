// The worker of the Node voice agents.
//
// Run as `node worker.js NAME`, with the environment every LiveKit agent reads. Prints
// `registered` on stdout once the LiveKit server took it.

import { copyFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { AgentServer, ServerOptions, initializeLogger } from '@livekit/agents';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

// Copies the module beside the agent, as its users do.
copyFileSync(here('../../integrations/node/call_history.js'), here('call_history.js'));

initializeLogger({ pretty: false, level: 'info' });

const server = new AgentServer(
  new ServerOptions({
    agent: here('agent.js'),
    agentName: process.argv[2],
    wsURL: process.env.LIVEKIT_URL,
    // A process for each call, as in production; this many wait for a call.
    numIdleProcesses: 2,
    // Always zero: on a busy machine the worker would report that it is full, get no job, and the
    // call would have no agent.
    loadFunc: async () => 0,
    host: '127.0.0.1',
  }),
);
server.event.on('worker_registered', () => console.log('registered'));
await server.run();
