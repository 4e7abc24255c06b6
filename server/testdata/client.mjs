// The official client, unchanged, against a server at argv[2] with the key
// argv[3].
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// The client is looked for where NODE_PATH says, too.
const { OpenAI, BadRequestError, AuthenticationError } = createRequire(import.meta.url)("openai");

const [base, key, kind] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base + "/v1", apiKey: key, maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const args = { model, prompt: "Once upon a time", max_tokens: 20, temperature: 0 };

const whole = await client.completions.create(args);
assert.equal(whole.usage.completion_tokens, 20);
assert.equal(whole.choices[0].finish_reason, "length");

let text = "", usage = null;
for await (const chunk of await client.completions.create({ ...args, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.text ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].text);
assert.equal(usage.completion_tokens, 20);

const probs = (await client.completions.create({ ...args, logprobs: 2 })).choices[0].logprobs;
assert.equal(probs.tokens.length, 20);

await assert.rejects(client.completions.create({ ...args, max_tokens: -1 }), BadRequestError);
await assert.rejects(new OpenAI({ baseURL: base + "/v1", apiKey: "wrong", maxRetries: 0 }).models.list(), AuthenticationError);

// A client that leaves early ends its request.
const left = await client.completions.create({ ...args, max_tokens: 2000, stream: true });
for await (const _ of left) break;

const messages = [{ role: "user", content: "Say hello." }];
if (kind === "chat") {
  const chat = { model, messages, max_tokens: 12, temperature: 0 };
  const answer = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 2 });
  assert.equal(answer.choices[0].logprobs.content[0].top_logprobs.length, 2);
  let said = "";
  for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) said += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(said, answer.choices[0].message.content);
} else {
  await assert.rejects(client.chat.completions.create({ model, messages }), BadRequestError);
}
console.log("ok");
