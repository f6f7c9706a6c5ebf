// An agent that does what its arguments say, one step after another:
//   heap MIB SECONDS       grow by so many MiB of JavaScript objects, and keep them
//   buffers MIB SECONDS    the same in Buffers, outside V8's heap
//   busy MIB SECONDS       allocate and drop, so that the heap goes up and down by so much
//   drop                   release all that was kept; it stays in memory until a collection
//   once MIB SECONDS       as `buffers`, but only at the first attempt
//   servers N SECONDS      work with N MCP servers as children, and end them
//   leave N                start N servers and leave them running
//   silent SECONDS         wait without a word
//   fail N                 exit 1 in the first N attempts
import { spawn } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const MIB = 1024 * 1024;
const TICK = 100; // ms
const SERVER = fileURLToPath(new URL("../../profiles/agents/mcp-server.mjs", import.meta.url));
const attempt = Number(process.env.SEQSUP_ATTEMPT ?? 1);
let kept = [];

const objects = (mib) => Array.from({ length: mib * 9_000 }, (_, n) => ({ n, text: `message ${n}` })); // 9,000 are a MiB
const buffer = (mib) => Buffer.alloc(Math.ceil(mib * MIB), 1);

async function grow(make, mib, seconds) {
  const ticks = (seconds * 1000) / TICK;
  for (let tick = 0; tick < ticks; tick++) {
    kept.push(make(mib / ticks));
    await pause(TICK);
  }
}

function server(n, options = {}) {
  return spawn(process.execPath, [SERVER, `tools-${n}`], { stdio: "ignore", ...options });
}

const STEPS = {
  heap: (mib, seconds) => grow(objects, mib, seconds),
  buffers: (mib, seconds) => grow(buffer, mib, seconds),
  once: (mib, seconds) => (attempt === 1 ? grow(buffer, mib, seconds) : undefined),
  async busy(mib, seconds) {
    const before = kept;
    for (const ends = Date.now() + seconds * 1000; Date.now() < ends; ) {
      kept = [before, objects(mib * (0.3 + 0.7 * Math.random()))];
      console.log("still at it");
      await pause(700);
    }
    kept = [before];
  },
  drop() {
    kept = [];
  },
  async servers(count, seconds) {
    const running = Array.from({ length: count }, (_, n) => server(n));
    await STEPS.busy(40, seconds);
    for (const each of running) each.kill();
  },
  leave(count) {
    for (let n = 0; n < count; n++) server(n, { detached: true }).unref();
    return pause(1000);
  },
  silent: (seconds) => pause(seconds * 1000),
  fail(attempts) {
    if (attempt > attempts) return;
    console.error("the service answered 503");
    process.exit(1);
  },
};

const words = process.argv.slice(2);
while (words.length) {
  const step = words.shift();
  console.log(`${step} …`);
  await STEPS[step](...words.splice(0, STEPS[step].length).map(Number));
}
