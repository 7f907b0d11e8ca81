// Uses a sandbox with the unmodified OpenAI SDK for Node, as openai_rehearsal.py does in Python:
//
//     node openai_rehearsal.mjs SANDBOX_URL PROVIDER FOLDER
//
// FOLDER is where `npm install openai` was run.

import { createRequire } from "node:module";

const [url, provider, folder] = process.argv.slice(2);
const sdk = createRequire(`${folder}/`);
const OpenAI = sdk("openai").default;

const JOB = { model: "Kling-2.5", prompt: "a paper boat", seconds: "5", size: "1280x720" };
const options = { baseURL: `${url}/${provider}/v1`, apiKey: "x" };
const videos = new OpenAI({ ...options, maxRetries: 1 }).videos;
const patient = new OpenAI({ ...options, maxRetries: 0, timeout: 300 }).videos;
const outcomes = [];

const steer = (path, body) => fetch(url + path, { method: "POST", body: JSON.stringify(body) });
const forward = () => steer("/_clock", { forward_s: 60 });

async function note(call) {
  try {
    const result = await call();
    outcomes.push(typeof result === "string" ? result : `${result.status} ${result.model}`);
    return result;
  } catch (error) {
    const isTimeout = error instanceof OpenAI.APIConnectionTimeoutError;
    outcomes.push(isTimeout ? "timeout" : `${error.constructor.name} ${error.status} ${error.code}`);
  }
}

const create = (changes = {}) => note(() => videos.create({ ...JOB, ...changes }));

async function ids(query = {}) {
  const found = [];
  for await (const video of videos.list({ limit: 1, ...query })) found.push(video.id);
  return found.join();
}

const truth = (holds) => (holds ? "True" : "False");

const first = await create();
await note(() => videos.retrieve(first.id));
await note(() => videos.downloadContent(first.id));
await note(() => videos.delete(first.id));
await forward();
await note(() => videos.retrieve(first.id));
await note(async () => `${(await (await videos.downloadContent(first.id)).arrayBuffer()).byteLength} bytes`);
const failing = await create({ prompt: "a boat [fail:moderation]" });
await forward();
await note(async () => `error ${(await videos.retrieve(failing.id)).error.message}`);
await note(async () => `newest first: ${truth((await ids()) === `${failing.id},${first.id}`)}`);
await note(async () => `oldest first: ${truth((await ids({ order: "asc" })) === `${first.id},${failing.id}`)}`);
await note(async () => `deleted: ${truth((await videos.delete(first.id)).deleted)}`);
await note(() => videos.retrieve(first.id));
await note(async () => `kept: ${truth((await ids()) === failing.id)}`);
await create({ model: "Kling-9" });
await create({ size: "10x10" });
await note(() => patient.create({ ...JOB, prompt: "a boat [429]" }));
await note(() => patient.create({ ...JOB, prompt: "a boat [timeout]" }));
await steer(`/${provider}/_faults`, { faults: ["500"] });
await create();
await steer(`/${provider}/_faults`, { faults: ["lost-answer"] });
await create();
await create({ input_reference: new File([new Uint8Array([137, 80, 78, 71, 13, 10, 0])], "a.png", { type: "image/png" }) });
await create({ metadata: { output_config: { resolution: "1080p" } } });

process.stdout.write(JSON.stringify({ version: sdk("openai/version").VERSION, outcomes }));
