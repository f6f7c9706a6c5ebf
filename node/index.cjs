// Memory and results of an agent, for its own Node programs. Under seqsup it asks the supervisor by the channel
// (docs/reference/channel.md); elsewhere it reports on this process. Sizes are MB, times ms.
"use strict";

const PROTOCOL = 1;
const MB = 1024 * 1024;
const MOST = 16 * MB; // MB: more is a number of bytes
const SHORT = 2000; // ms; the supervisor answers this at once
const LONG = 15000; // ms; a GC may take the supervisor 11 s
const SETTLED = 300; // ms after a GC until RSS shows it
const ARRIVAL = 2000; // ms for this process's preload to connect, which it does 50 ms after the start
const AGAIN = 20; // ms
const LONGEST = 16 * 1024; // bytes of a summary
const TAIL = 4000; // bytes of output that replace a missing summary
const NAMED = 80; // characters of a wrong name in a message
const TIMER = 2 ** 31 - 1; // ms: a longer timer of Node fires at once
const DRAFT = ".seqsup-"; // as in seqsup's own files that are not whole yet
const ONLY = "only this process is measured";
const REMEDY = "Set node.telemetry = true in the profile, and have node on PATH";
const UNCONNECTED = "its preload is not connected: seqsup's NODE_OPTIONS are missing, or the event loop is blocked";
const SILENT = "no Node process of the agent answered";
const LOCAL = ".seqsup-artifacts";

const { SEQSUP_CHANNEL: channel, SEQSUP_AGENT: self, SEQSUP_ARTIFACTS: artifacts, SEQSUP_FOLDER: run } = process.env;

/** Why there is no channel. */
const APART = !run
  ? `not under seqsup: ${ONLY}`
  : process.env.SEQSUP_HOOK
    ? `in a hook of seqsup: ${ONLY}`
    : `under seqsup without telemetry: ${ONLY}. ${REMEDY}`;

// -- the supervisor

/** Ask from the main thread, without blocking its loop. */
async function ask(question) {
  if (!channel) throw new Error(APART);
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
  if (!channel) throw new Error(APART);
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
  const title = text("label", label) ? `[${label}] ` : "";
  const now = getMemoryUsage();
  const { rss, heapUsed, heapTotal, external } = now;
  const [what, whose] = now.source === "seqsup" ? ["Memory", COUNTED] : ["RSS", now.why];
  const figures = `${what}: ${rss}MB, Heap: ${heapUsed}/${heapTotal}MB, External: ${external}MB`;
  console.log(printable(`${title}${figures} (${whose})`));
  return now;
}
const COUNTED = `${self ? `agent ${self}` : "companion"} with all its processes, as memory.hard counts it`;

/** Without characters that could move the cursor or forge a line. */
function printable(line) {
  return line.replace(/(?! )[\p{C}\p{Z}]/gu, " ");
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

function amount(name, value, least = 0) {
  if (typeof value !== "number") throw new TypeError(`${name} is a number, not ${kind(value)}`);
  if (!(value >= least)) throw new RangeError(`${name} is at least ${least}, not ${value}`);
}

/** Return text that may be absent. */
function text(name, value) {
  if (value === undefined || value === null || typeof value === "string") return value;
  throw new TypeError(`${name} is text, not ${kind(value)}`);
}

function kind(value) {
  return value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
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
  amount("everyMs", everyMs, 1);
  for (const ends = Date.now() + maxWaitMs; ; ) {
    const now = await ask("usage").then(ofAgent, (error) => ofProcess(error.message));
    if (now.rss <= most) return true;
    const left = ends - Date.now();
    if (left <= 0) return false;
    await sleep(Math.min(everyMs, left, TIMER));
  }
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function cleanupBetweenAgents() {
  try {
    const here = await connected();
    const before = ofAgent(await ask("usage"));
    const told = await ask("gc");
    const gcAvailable = told.collection !== null;
    const freed = gcAvailable ? told.collection.freed : 0;
    const reached = here || told.after.some(itself);
    const missed = reached ? SILENT : `process ${process.pid} did not collect: ${UNCONNECTED}`;
    const why = told.why || (reached && gcAvailable ? "" : missed);
    return cleanup({ freed, gcAvailable, before, after: ofAgent(told), source: "seqsup", why });
  } catch (error) {
    return cleanOwn(error.message);
  }
}

/** Wait until the supervisor knows this process: a GC does not reach it before. False: it does not, after a while. */
function connected() {
  return (arrival ??= arrive().catch((error) => {
    arrival = undefined;
    throw error;
  }));
}
let arrival; // waited for once

async function arrive() {
  for (const ends = Date.now() + ARRIVAL; ; await sleep(AGAIN)) {
    if ((await ask("usage")).after.some(itself)) return true;
    if (Date.now() >= ends) return false;
  }
}

function itself({ pid }) {
  return pid === process.pid;
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

async function appendToScratchpad(agent, entry) {
  named(agent);
  const { summary, details } = checked(entry);
  const turn = writing.then(() => store(agent, summary, details));
  writing = turn.catch(() => {});
  return turn;
}
let writing = Promise.resolve(); // one at a time, since details are read, extended and written

/** Return summary and details, each of them text or absent. */
function checked(entry) {
  if (!["undefined", "null", "object"].includes(kind(entry))) {
    throw new TypeError(`entry is an object with a summary, details, or both, not ${kind(entry)}`);
  }
  const { summary, details, ...more } = entry ?? {};
  const [slip] = Object.keys(more);
  if (slip !== undefined) throw new TypeError(`unknown key ${quoted(slip)}: give a summary, details, or both`);
  text("summary", summary);
  text("details", details);
  if ((summary ?? details ?? null) === null) throw new TypeError("nothing to store: give a summary, details, or both");
  const size = Buffer.byteLength(summary ?? "");
  const why = `the summary has ${size} bytes, more than ${LONGEST}`;
  if (size > LONGEST) throw new RangeError(`${why}: shorten it, and give the whole text as details`);
  return { summary, details };
}

async function store(agent, summary, details) {
  const folder = placeOf(agent);
  if (!artifacts) await make(LOCAL);
  if (folder !== artifacts) await make(folder);
  const done = await within(folder, async () => {
    if (typeof details === "string") {
      const earlier = await read(folder, "details.md");
      await write(folder, "details.md", earlier ? `${earlier}\n\n${details}` : details);
    }
    if (typeof summary === "string") await write(folder, "summary.md", summary); // last, so that details are there
    return true;
  });
  if (!done) throw new Error(`${folder} does not exist: ${GONE}`);
}
const GONE = "was the run removed, or is this another machine or container?";

/** Return what an agent stored, or else the end of its output, as `seqsup.artifacts.summary` does. */
async function readAgentSummary(agent) {
  named(agent);
  const { dirname, join } = require("path");
  const given = await stored(placeOf(agent));
  if (given !== undefined) return given;
  const attempt = agent === self && artifacts ? dirname(artifacts) : await lastAttempt(agent);
  if (!attempt) return "";
  return (await stored(join(attempt, "artifacts"))) ?? unstyled(await tail(join(attempt, "stdout.log"))).trim();
}

/** Return the summary in a folder; undefined: there is none. */
async function stored(folder) {
  const bytes = await within(folder, () => read(folder, "summary.md", LONGEST));
  return bytes?.toString().replaceAll("\0", "").trim();
}

/** A name as profiles have it: it never leads out of a folder. */
function named(agent) {
  if (typeof agent !== "string") throw new TypeError(`agent is text, not ${kind(agent)}`);
  if (/^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/.test(agent)) return;
  const rule = 'use at most 64 letters, digits, "_", "." and "-"';
  throw new RangeError(`${quoted(agent)} is no name of an agent: ${rule}`);
}

function quoted(word) {
  return JSON.stringify(word.length > NAMED ? `${word.slice(0, NAMED)}…` : word);
}

function placeOf(agent) {
  if (agent === self && artifacts) return artifacts;
  if (agent === "summary.md" || agent === "details.md") throw new RangeError(`${agent} names a file: use another name`);
  return require("path").join(artifacts || LOCAL, agent);
}

/** Return the folder of an agent's last attempt in this run. */
async function lastAttempt(agent) {
  if (!run) return undefined;
  const { join } = require("path");
  const tried = await require("fs/promises").readdir(join(run, agent)).catch((error) => {
    if (error.code !== "EACCES") return missing(error);
    const why = `this user may not read files of ${agent}: use {summary:${agent}} in the command`;
    throw Object.assign(new Error(why, { cause: error }), { code: error.code });
  });
  const numbers = (tried || []).filter((name) => /^[0-9]+$/.test(name)).map(Number);
  return numbers.length ? join(run, agent, String(Math.max(...numbers))) : undefined;
}

/** Refuse a folder that is a link: another process of the agent's user could have put it there. */
async function within(folder, act) {
  const status = await require("fs/promises").lstat(folder).catch(missing);
  if (status && !status.isDirectory()) throw new Error(`${folder} is no folder: remove it`);
  return status ? act() : undefined;
}

/** Return a file's content, or its first bytes; undefined: there is none. */
async function read(folder, name, most = Infinity) {
  const { open, stat } = require("fs/promises");
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = require("fs").constants;
  const file = await open(`${folder}/${name}`, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(missing);
  if (!file) return undefined;
  try {
    const [status, above] = [await file.stat(), await stat(folder)];
    if (!status.isFile() || status.uid !== above.uid) throw new Error(`${folder}/${name} is no file of the agent's own`);
    return (await file.readFile()).subarray(0, most);
  } finally {
    await file.close();
  }
}

/** Return the end of an agent's output; nothing where there is none. */
async function tail(path) {
  const file = await require("fs/promises").open(path, "r").catch(missing);
  if (!file) return "";
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(TAIL), 0, TAIL, Math.max(size - TAIL, 0));
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}

/** Without colours and control characters. */
function unstyled(output) {
  const sequence = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])/g;
  return output.replace(sequence, "").replace(/[\x00-\x08\x0e-\x1f\x7f-\x9f]/g, "");
}

/** Under another name first: a reader never meets half of it, and a link is replaced, not followed. */
async function write(folder, name, content) {
  const { open, rename, unlink } = require("fs/promises");
  const draft = `${folder}/${DRAFT}${require("crypto").randomBytes(8).toString("hex")}`;
  let file;
  try {
    file = await open(draft, "wx", 0o600);
    await file.writeFile(content);
    await file.sync();
    await file.close();
    await rename(draft, `${folder}/${name}`);
  } catch (error) {
    await file?.close().catch(() => {});
    await unlink(draft).catch(() => {});
    throw refusal(`${name} cannot be stored in ${folder}`, error);
  }
}

async function make(folder) {
  const { mkdir } = require("fs/promises");
  await mkdir(folder, { mode: 0o700 }).catch((error) => {
    if (error.code !== "EEXIST") throw refusal(`${folder} cannot be made`, error);
  });
}

/** Return an error of the file system that names what failed. */
function refusal(what, error) {
  return Object.assign(new Error(`${what}: ${error.message.split(", ")[0]}`, { cause: error }), { code: error.code });
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
