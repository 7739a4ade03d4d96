// The official JavaScript clients at a door that checks keys and counts.

import { main } from './harness.mjs';

await import('./door-openai.mjs');
await import('./door-openai-agents.mjs');
await import('./door-ai-sdk.mjs');
await import('./door-langchain.mjs');
await import('./door-cycls-web.mjs');

await main('door-node');
