// Read first by every Node process of an agent (--require in NODE_OPTIONS). It names itself, and answers
// requests: memory, a collection, allocation sites. It keeps no process alive, delays none and prints nothing. A
// supervisor that is gone, deaf or absent is no trouble to it. Requests and answers are lines of JSON (see channel.py).
"use strict";

if (process.versions.deno) return; // reads NODE_OPTIONS too, and unless it is allowed to, ends at whatever we look at

const LATER = 50; // ms: to connect at once would cost each start 8 ms, for `net` and `v8`
const LONGEST = 65536; // characters of a question
const SITES = 10;
const FRAMES = 12;

const major = Number(process.versions.node.split(".")[0]);
const channel = process.env.SEQSUP_CHANNEL;
const reports = process.env.SEQSUP_REPORTS; // the program may change its environment
const inWorker = process.abort.disabled === true; // worker_threads would tell as well, but costs 2 to 7 ms to load

let collect; // V8's own gc()
let profiler; // an inspector session, while allocations are sampled
let watch; // the worker that answers while this thread's loop is blocked
let workers = 0; // the program's own
let answered = 0; // number of the last question answered

if (process.env.SEQSUP_EXPOSE_GC && typeof globalThis.gc !== "function") offerGc();
if (channel && !inWorker) {
  process.on("worker", count);
  setTimeout(connect, LATER).unref();
}

/** Give the program a global gc(), as --expose-gc would; nothing is loaded before it is used. */
function offerGc() {
  const define = (value) =>
    Object.defineProperty(globalThis, "gc", { value, writable: true, configurable: true, enumerable: false });
  Object.defineProperty(globalThis, "gc", {
    configurable: true,
    enumerable: false,
    get: () => (define(collector()), collect),
    set: define,
  });
}

function count(worker) {
  if (worker === watch || worker[Symbol.for("seqsup")]) return; // that of the npm package waits, and holds nothing
  workers += 1;
  worker.once("exit", () => (workers -= 1));
}

function connect() {
  try {
    const socket = require("net").connect(channel);
    socket.unref();
    socket.on("error", () => {});
    socket.setEncoding("utf8");
    let rest = "";
    hear(socket, "connect", () => say(socket, hello()));
    hear(socket, "data", (text) => {
      rest += text;
      for (let end; (end = rest.indexOf("\n")) >= 0; rest = rest.slice(end + 1)) {
        const answer = respond(rest.slice(0, end));
        if (answer !== null) say(socket, answer);
      }
      if (rest.length > LONGEST) throw new Error("too long");
    });
  } catch {
    // whatever the program has made of `net`: it runs as if we were not there
  }
}

/** What is no question comes from nobody we know, and the program may have made anything of what an answer takes. */
function hear(socket, event, act) {
  socket.on(event, (said) => {
    try {
      act(said);
    } catch {
      socket.destroy();
    }
  });
}

/** A write that does not go out at once means that nobody reads, and a pending one would hold the process. */
function say(socket, line) {
  socket.write(line + "\n");
  if (socket.writableLength > 0) socket.destroy();
}

function hello() {
  report();
  return JSON.stringify({
    hello: "node",
    protocol: 1,
    pid: process.pid,
    version: process.version,
    script: String(process.argv[1] || "").slice(0, 1000),
    limit: require("v8").getHeapStatistics().heap_size_limit,
    // the command line's wins over NODE_OPTIONS, so this is what overrode a cap
    cap: process.execArgv.find((word) => /^--max[-_]old[-_]space[-_]size/.test(word)) || "",
  });
}

/** Have V8's last words written where the supervisor looks; without the environment, which holds keys. */
function report() {
  if (!reports || !process.report || process.report.reportOnFatalError) return;
  process.report.directory = reports;
  process.report.compact = true;
  process.report.excludeNetwork = true;
  process.report.excludeEnv = true; // known from 22.13 on; of an older one the supervisor takes it out
  process.report.reportOnFatalError = true;
}

/** Answer one line; null where it was answered before, by way of the watch. */
function respond(line) {
  const question = JSON.parse(line);
  if (question.id <= answered) return null;
  answered = question.id;
  let answer;
  try {
    answer = { id: question.id, ...questions[question.ask](question) };
  } catch (error) {
    answer = { id: question.id, error: String(error && error.message).slice(0, 300) };
  }
  return JSON.stringify(answer);
}

const questions = {
  mem: () => ({ after: memory() }),

  gc() {
    const before = memory();
    const gc = collector();
    gc();
    // Plain gc() gives no pages back on 22 and later; with options it is a minor collection on 20 and before.
    if (major >= 22) gc({ type: "major", execution: "sync", flavor: "last-resort" });
    else gc();
    return { before, after: memory() };
  },

  /** Sample allocations from now on, one in `interval` bytes. */
  sample({ interval }) {
    if (profiler) profiler.disconnect();
    profiler = new (require("inspector").Session)();
    profiler.connect();
    profiler.post("HeapProfiler.enable");
    profiler.post("HeapProfiler.startSampling", { samplingInterval: interval });
    return {};
  },

  /** With `buffers`, where they are made comes first; of the little else that was sampled, garbage goes. */
  sites({ buffers }) {
    let sites = [];
    if (profiler) {
      if (buffers) collector()({ type: "minor" });
      profiler.post("HeapProfiler.getSamplingProfile", (error, result) => {
        if (!error) sites = top(result.profile.head, buffers);
      });
    }
    return { after: memory(), sites };
  },

  /** Write all that the heap holds to a file, which has its name once it is whole. */
  snapshot({ file }) {
    const { join } = require("path");
    const draft = join(reports, `${file}.part`);
    require("v8").writeHeapSnapshot(draft);
    require("fs").renameSync(draft, join(reports, file));
    return {};
  },

  /** Start the worker that answers for this thread while its loop is blocked. */
  watch() {
    if (watch) return {};
    const { Worker } = require("worker_threads");
    Object.defineProperty(globalThis, Symbol.for("seqsup"), { value: respond, configurable: true });
    watch = new Worker(require("path").join(__dirname, "watch.cjs"), {
      workerData: channel,
      env: {},
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2 },
    });
    watch.on("error", () => {});
    watch.unref();
    return {};
  },
};

function memory() {
  const { rss, heapTotal, heapUsed, external, arrayBuffers } = process.memoryUsage();
  return { rss, used: heapUsed, total: heapTotal, external, array_buffers: arrayBuffers, workers };
}

/** V8's gc() without --expose-gc, which older versions refuse in NODE_OPTIONS and end with exit 9. */
function collector() {
  if (!collect) {
    const v8 = require("v8");
    v8.setFlagsFromString("--expose-gc");
    collect = require("vm").runInNewContext("gc");
    const wanted = `${process.execArgv.join(" ")} ${process.env.NODE_OPTIONS || ""}`;
    if (!/--expose[-_]gc/.test(wanted)) v8.setFlagsFromString("--no-expose-gc");
  }
  return collect;
}

/** The sites that hold most, each by the nearest frame of a file, and with the heaviest way to it. */
function top(head, buffers) {
  const sites = new Map();
  const todo = [[head, null]];
  for (let each; (each = todo.pop()); ) {
    const [node, above] = each;
    if (node.callFrame.url === __filename) continue; // what we ourselves take
    const here = { frame: node.callFrame, above };
    for (const child of node.children) todo.push([child, here]);
    if (!node.selfSize) continue;
    let near = here;
    let buffer = false;
    for (; near && !ofAFile(near.frame); near = near.above) buffer = buffer || ofABuffer(near.frame);
    near = near || here;
    const name = spell(near.frame);
    const site = sites.get(name) || { bytes: 0, buffers: 0, heaviest: 0, way: near };
    site.bytes += node.selfSize;
    if (buffer) site.buffers += node.selfSize;
    if (node.selfSize > site.heaviest) Object.assign(site, { heaviest: node.selfSize, way: near });
    sites.set(name, site);
  }
  return [...sites.entries()]
    .sort(([, a], [, b]) => (buffers && b.buffers - a.buffers) || b.bytes - a.bytes)
    .slice(0, SITES)
    .map(([, { bytes, way }]) => {
      const frames = [];
      for (let at = way; at && frames.length < FRAMES; at = at.above) {
        if (at === way || ofAFile(at.frame)) frames.push(spell(at.frame));
      }
      return { bytes, frames };
    });
}

function ofAFile({ url }) {
  return url !== "" && !url.startsWith("node:");
}

function ofABuffer({ url, functionName }) {
  return url === "node:buffer" || url === "node:internal/buffer" || /^(Shared)?ArrayBuffer$|^Uint8Array$/.test(functionName);
}

function spell({ functionName, url, lineNumber }) {
  const name = functionName || "(anonymous)";
  const file = url.startsWith("file://") ? decodeURI(url.slice(7)) : url;
  return (url ? `${name} (${file.slice(-400)}:${lineNumber + 1})` : name).slice(-600);
}
