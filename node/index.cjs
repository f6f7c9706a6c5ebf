// Memory and results of an agent, for its own Node programs. Under seqsup it asks the supervisor by the channel
// (docs/reference/channel.md); elsewhere it reports on this process. Sizes are MB, times ms.
"use strict";

const PROTOCOL = 1;
const MB = 1024 * 1024;
const MOST = 16 * MB; // MB: more is a number of bytes
const SHORT = 2000; // ms; the supervisor answers this at once
const LONG = 15000; // ms; a GC may take the supervisor 11 s
const SETTLED = 300; // ms after a GC until RSS shows it
const LONGEST = 16 * 1024; // bytes of a summary
const DRAFT = ".seqsup-"; // as in seqsup's own files that are not whole yet
const OUTSIDE = "not under seqsup: only this process is measured";
const LOCAL = ".seqsup-artifacts";

const { SEQSUP_CHANNEL: channel, SEQSUP_AGENT: self, SEQSUP_ARTIFACTS: artifacts, SEQSUP_FOLDER: run } = process.env;

// -- the supervisor

/** Ask from the main thread, without blocking its loop. */
async function ask(question) {
  if (!channel) throw new Error(OUTSIDE);
  const turn = queue.catch(() => {}).then(() => converse(require("net"), channel, question, LONG, PROTOCOL, true));
  queue = turn;
  return turn;
}
let queue = Promise.resolve(); // one connection at a time: the supervisor takes few from one process

/** One question and its answer. It is also sent to the worker as text, so it uses its arguments only. */
function converse(net, path, question, patience, protocol, held) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path);
    const fail = (why) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new Error(why));
    };
    const timer = setTimeout(() => fail(`the supervisor did not answer within ${patience / 1000} s`), patience);
    if (!held) {
      timer.unref();
      socket.unref();
    }
    let text = "";
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(`${JSON.stringify({ hello: "client", protocol, ask: question })}\n`));
    socket.on("data", (piece) => (text += piece));
    socket.on("error", (error) => fail(`the supervisor cannot be reached: ${error.message}`));
    socket.on("close", () => {
      clearTimeout(timer);
      try {
        const answer = JSON.parse(text);
        if (answer.error) fail(answer.error);
        else if (answer.protocol === protocol) resolve(answer);
        else fail(`the supervisor speaks version ${answer.protocol} of the channel, and this package version ${protocol}`);
      } catch {
        fail("the supervisor ended the connection without an answer");
      }
    });
  });
}

const WORKER = `
const { workerData: { path, port, signal, protocol } } = require("worker_threads");
const converse = ${converse};
port.on("message", ({ question, patience, number }) => {
  const tell = (told) => {
    port.postMessage({ number, ...told });
    Atomics.store(signal, 0, number);
    Atomics.notify(signal, 0);
  };
  converse(require("net"), path, question, patience, protocol, true).then(
    (answer) => tell({ answer }),
    (error) => tell({ error: error.message }),
  );
});
`;

let worker; // made by the first question: { port, signal, number }

/** Ask from a thread, and block this one until the answer, which does not depend on it. */
function askNow(question) {
  if (!channel) throw new Error(OUTSIDE);
  const { receiveMessageOnPort } = require("worker_threads");
  worker = worker || thread();
  const { port, signal } = worker;
  const number = (worker.number += 1);
  const ends = Date.now() + SHORT;
  port.postMessage({ question, patience: SHORT, number });
  for (let left; (left = ends - Date.now()) > 0; ) {
    const seen = Atomics.load(signal, 0);
    for (let said; (said = receiveMessageOnPort(port)); ) {
      if (said.message.number !== number) continue; // of a question that was given up
      if (said.message.error) throw new Error(said.message.error);
      return said.message.answer;
    }
    Atomics.wait(signal, 0, seen, left);
  }
  throw new Error(`the supervisor did not answer within ${SHORT / 1000} s`);
}

function thread() {
  const { Worker, MessageChannel } = require("worker_threads");
  const { port1, port2 } = new MessageChannel();
  const signal = new Int32Array(new SharedArrayBuffer(4));
  const made = new Worker(WORKER, {
    eval: true,
    workerData: { path: channel, port: port2, signal, protocol: PROTOCOL },
    transferList: [port2],
    env: {},
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2 },
  });
  made[Symbol.for("seqsup")] = true; // so that seqsup does not take it for the program's own
  made.on("error", () => (worker = undefined));
  made.unref();
  port1.unref();
  return { port: port1, signal, number: 0 };
}

// -- memory

function getMemoryUsage() {
  return rounded(usage());
}

/** In bytes. */
function usage() {
  try {
    return ofAgent(askNow("usage"));
  } catch (error) {
    return ofProcess(error.message);
  }
}

function ofProcess(why) {
  const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
  return { rss, heapUsed, heapTotal, external, source: "process", why };
}

/** The supervisor's figures; of this process those of now. */
function ofAgent({ used, after, why }) {
  const own = ofProcess("");
  const sums = { heapUsed: own.heapUsed, heapTotal: own.heapTotal, external: own.external };
  for (const { pid, heap } of after) {
    if (pid === process.pid) continue;
    sums.heapUsed += heap.used;
    sums.heapTotal += heap.total;
    sums.external += heap.external;
  }
  return { rss: used, ...sums, source: "seqsup", why };
}

function rounded(bytes) {
  const mb = { ...bytes };
  for (const key of ["rss", "heapUsed", "heapTotal", "external"]) mb[key] = Math.round(bytes[key] / MB);
  return mb;
}

function logMemoryUsage(label) {
  const now = getMemoryUsage();
  const whose = now.source === "seqsup" ? `agent ${self || ""} with all its processes` : now.why;
  const { rss, heapUsed, heapTotal, external } = now;
  console.log(`[${label}] RSS: ${rss}MB, Heap: ${heapUsed}/${heapTotal}MB, External: ${external}MB (${whose})`);
  return now;
}

function isMemoryHigh(mb = 6144) {
  const most = bytes(mb);
  return usage().rss > most;
}

function bytes(mb) {
  amount("mb", mb);
  if (mb > MOST) throw new RangeError(`mb is a number of MB, and ${mb} MB is more than 16 TiB: give 6144 for 6 GiB`);
  return mb * MB;
}

function amount(name, value) {
  if (!(typeof value === "number" && value >= 0)) throw new RangeError(`${name} is a number of at least 0, not ${value}`);
}

function forceGC() {
  const own = typeof globalThis.gc === "function";
  if (own) globalThis.gc();
  if (!channel) return own;
  // Neither waited for, nor a reason to stay: a call that waited behind it would end with the program
  collecting ??= converse(require("net"), channel, "gc", LONG, PROTOCOL, false)
    .catch(() => {})
    .finally(() => (collecting = undefined));
  return true;
}
let collecting; // while a GC that forceGC asked for is not over

async function waitForMemoryCleanup(mb = 4096, maxWaitMs = 30000, everyMs = 1000) {
  const most = bytes(mb);
  amount("maxWaitMs", maxWaitMs);
  amount("everyMs", everyMs);
  for (const ends = Date.now() + maxWaitMs; ; ) {
    const now = await ask("usage").then(ofAgent, (error) => ofProcess(error.message));
    if (now.rss <= most) return true;
    const left = ends - Date.now();
    if (left <= 0) return false;
    await sleep(Math.min(Math.max(everyMs, 1), left));
  }
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function cleanupBetweenAgents() {
  try {
    const before = ofAgent(await ask("usage"));
    const told = await ask("gc");
    const gcAvailable = told.collection !== null;
    const freed = gcAvailable ? told.collection.freed : 0;
    const why = told.why || (gcAvailable ? "" : "no Node process of the agent answers: node.telemetry may be false");
    return cleanup({ freed, gcAvailable, before, after: ofAgent(told), source: "seqsup", why });
  } catch (error) {
    return cleanOwn(error.message);
  }
}

async function cleanOwn(why) {
  const before = ofProcess(why);
  const gcAvailable = typeof globalThis.gc === "function";
  if (gcAvailable) {
    globalThis.gc();
    await sleep(SETTLED);
  } else why += "; start Node with --expose-gc for a GC";
  const after = ofProcess(why);
  return cleanup({ freed: Math.max(before.rss - after.rss, 0), gcAvailable, before, after, source: "process", why });
}

function cleanup(done) {
  return { ...done, freed: Math.round(done.freed / MB), before: rounded(done.before), after: rounded(done.after) };
}

// -- results

async function appendToScratchpad(agent, { summary, details } = {}) {
  named(agent);
  if (summary === undefined && details === undefined) throw new TypeError("give a summary, details, or both");
  for (const [key, text] of Object.entries({ summary, details })) {
    if (text !== undefined && typeof text !== "string") throw new TypeError(`${key} is text, not ${typeof text}`);
  }
  const size = Buffer.byteLength(summary || "");
  if (size > LONGEST) throw new RangeError(`the summary has ${size} bytes, more than ${LONGEST}: put the rest into details`);
  const turn = writing.then(() => store(agent, summary, details));
  writing = turn.catch(() => {});
  return turn;
}
let writing = Promise.resolve(); // one at a time, since details are read, extended and written

async function store(agent, summary, details) {
  const { mkdir } = require("fs/promises");
  if (!artifacts) await mkdir(LOCAL, { mode: 0o700 }).catch(exists);
  const folder = placeOf(agent);
  if (folder !== top()) await mkdir(folder, { mode: 0o700 }).catch(exists);
  await within(folder, async () => {
    if (details !== undefined) {
      const earlier = await read(folder, "details.md");
      await write(folder, "details.md", earlier ? `${earlier}\n\n${details}` : details);
    }
    if (summary !== undefined) await write(folder, "summary.md", summary); // last: a reader that sees it sees the details
  });
}

async function readAgentSummary(agent) {
  named(agent);
  for (const folder of [placeOf(agent), ...(agent === self ? [] : await earlier(agent))]) {
    const text = await within(folder, () => read(folder, "summary.md"));
    if (text) return text.replaceAll("\0", "").trim();
  }
  return "";
}

/** A name as profiles have it: it never leads out of a folder. */
function named(agent) {
  if (typeof agent === "string" && /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/.test(agent)) return;
  throw new RangeError(`${JSON.stringify(agent)} is no name of an agent: use letters, digits, "_", "." and "-"`);
}

function top() {
  return artifacts || LOCAL;
}

function placeOf(agent) {
  return agent === self && artifacts ? artifacts : require("path").join(top(), agent);
}

/** The artifacts of an agent's attempts in this run, the last first. */
async function earlier(agent) {
  if (!run) return [];
  const { join } = require("path");
  const tried = await require("fs/promises").readdir(join(run, agent)).catch(missing);
  const numbers = (tried || []).filter((name) => /^[0-9]+$/.test(name)).map(Number);
  return numbers.sort((a, b) => b - a).slice(0, 1).map((number) => join(run, agent, String(number), "artifacts"));
}

/** Refuse a folder that is a link: another process of the agent's user could have put it there. */
async function within(folder, act) {
  const status = await require("fs/promises").lstat(folder).catch(missing);
  if (status && !status.isDirectory()) throw new Error(`${folder} is no folder: remove it`);
  return status ? act() : undefined;
}

async function read(folder, name) {
  const { open, stat } = require("fs/promises");
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = require("fs").constants;
  const file = await open(`${folder}/${name}`, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(missing);
  if (!file) return undefined;
  try {
    const [status, above] = [await file.stat(), await stat(folder)];
    if (!status.isFile() || status.uid !== above.uid) throw new Error(`${folder}/${name} is no file of the agent's own`);
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/** Under another name first: a reader never meets half of it, and a link is replaced, not followed. */
async function write(folder, name, text) {
  const { open, rename, unlink } = require("fs/promises");
  const draft = `${folder}/${DRAFT}${require("crypto").randomBytes(8).toString("hex")}`;
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
    await file.close();
    await rename(draft, `${folder}/${name}`);
  } catch (error) {
    await file.close().catch(() => {});
    await unlink(draft).catch(() => {});
    throw error;
  }
}

function exists(error) {
  if (error.code !== "EEXIST") throw error;
}

function missing(error) {
  if (error.code !== "ENOENT" && error.code !== "ENOTDIR") throw error;
}

module.exports = {
  getMemoryUsage,
  logMemoryUsage,
  isMemoryHigh,
  forceGC,
  waitForMemoryCleanup,
  cleanupBetweenAgents,
  appendToScratchpad,
  readAgentSummary,
};
