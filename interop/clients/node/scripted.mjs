// What the scripted agent (agents/scripted.py) says, for all JavaScript clients.

import { WEATHER, assert } from './harness.mjs';

// The agent behind each of OpenAI's own APIs.
export const SCRIPTED = ['scripted-chat', 'scripted-responses'];

export const THOUGHT = 'Let me think, “step by step”.';
export const BOTH = 'the weather in Paris and in Rome'; // calls the tool once for each
export const LOOKING = 'Let me look that up.';
export const CALLED = [{ city: 'Paris', unit: 'Ada “é”' }, { city: 'Rome', unit: 'Ada “é”' }];
export const ADA = { name: 'Ada “é”', age: 36, tags: ['Ada “é”'] };

// What the tool says of a city, and what the agent says when it has heard both.
export const skyOf = (args) => `the sky of ${args.city} is “clear” 🌍`;
export const HEARD = `The tools say: ${CALLED.map(skyOf).join(' | ')}`;

export const chatTool = { type: 'function', function: { name: 'get_weather', description: 'The weather of a city', parameters: WEATHER } };
export const responsesTool = { type: 'function', name: 'get_weather', description: 'The weather of a city', parameters: WEATHER, strict: true };

export function usageOfChat(u) {
  assert.equal(u.prompt_tokens, 11);
  assert.equal(u.completion_tokens, 7);
  assert.equal(u.total_tokens, 18);
  assert.equal(u.prompt_tokens_details.cached_tokens, 3);
  assert.equal(u.completion_tokens_details.reasoning_tokens, 2);
}

export function usageOfResponses(u) {
  assert.equal(u.input_tokens, 11);
  assert.equal(u.output_tokens, 7);
  assert.equal(u.total_tokens, 18);
  assert.equal(u.input_tokens_details.cached_tokens, 3);
  assert.equal(u.output_tokens_details.reasoning_tokens, 2);
}
