// The worker of the Node voice agents.
//
// Run as `node worker.js NAME`, with the environment every LiveKit agent reads. Prints
// `registered` on stdout once the LiveKit server took it.

import { copyFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { AgentServer, ServerOptions, initializeLogger } from '@livekit/agents';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

// As its users do: beside the agent.
copyFileSync(here('../../integrations/node/call_history.js'), here('call_history.js'));

initializeLogger({ pretty: false, level: 'info' });

const server = new AgentServer(
  new ServerOptions({
    agent: here('agent.js'),
    agentName: process.argv[2],
    wsURL: process.env.LIVEKIT_URL,
    // A process for each call, as in production; so many wait for one.
    numIdleProcesses: 2,
    // A shared machine may be busy: a full worker would be offered no job, and the call would be
    // one without an agent.
    loadFunc: async () => 0,
    host: '127.0.0.1',
  }),
);
server.event.on('worker_registered', () => console.log('registered'));
await server.run();
