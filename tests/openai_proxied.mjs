// Uses the server's proxy with the unmodified OpenAI SDK for Node, as openai_proxied.py does in Python:
//
//     node openai_proxied.mjs BASE_URL KEY_OF_TRAILER KEY_OF_LOST KEY_OF_THROTTLED FOLDER
//
// FOLDER is where `npm install openai` was run.

import { createRequire } from "node:module";

const [baseURL, ...rest] = process.argv.slice(2);
const sdk = createRequire(`${rest.pop()}/`);
const OpenAI = sdk("openai").default;

const JOB = { model: "Kling-2.5", prompt: "a paper boat", seconds: "10", size: "1920x1080" };
const [trailer, lost, throttled] = rest.map((apiKey) => new OpenAI({ baseURL, apiKey, maxRetries: 2 }).videos);
const outcomes = [];

async function note(call) {
  try {
    const video = await call();
    outcomes.push(`${video.id} ${video.status}`);
  } catch (error) {
    outcomes.push(`${error.constructor.name} ${error.status} ${error.code ?? ""}`.trim());
  }
}

await note(() => trailer.create(JOB));
const task = outcomes[0].split(" ")[0];
await note(() => trailer.retrieve(task));
await note(() => trailer.create({ ...JOB, model: "Kling-9" }));
await note(() => trailer.create(JOB));
await note(() => trailer.create(JOB));
await note(() => lost.create(JOB));
await note(() => throttled.create(JOB));
await note(() => lost.retrieve(task));
process.stdout.write(JSON.stringify(outcomes));
