// Leaks in one way, at a line that tests look for: `node leaks.mjs objects 10 [child]` (milliseconds between two helpings).
// Imported, it only offers the ways.
import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { fileURLToPath } from "node:url";

const [kind, every, where] = process.argv.slice(2);
const bus = new EventEmitter().setMaxListeners(0);
const page = Buffer.alloc(2 * 1024 * 1024, "a");
const kept = [];

export const leaks = {
  objects: function remember() {
    for (let n = 0; n < 20_000; n++) kept.push({ n, text: `message ${n}`, more: [n, n, n] });
  },
  closures: function plan() {
    for (let n = 0; n < 3_000; n++) {
      const state = new Array(100).fill(n);
      kept.push(() => state.length + n);
    }
  },
  listeners: function subscribe() {
    for (let n = 0; n < 2_000; n++) {
      const seen = new Array(100).fill(n);
      bus.on("change", () => seen.push(n));
    }
  },
  buffers: function screenshot() {
    kept.push(Buffer.alloc(2 * 1024 * 1024, 1));
  },
  strings: function download() {
    kept.push(page.toString("latin1"));
  },
  garbage: function work() {
    let batch = [];
    for (let n = 0; n < 200_000; n++) batch.push({ n, text: `message ${n}` });
    batch = null;
  },
  // Dropped in one go, so that V8 has no reason of its own to collect
  hoard: function hoard() {
    if (kept.length < 3_000_000) leaks.objects();
    else if (kept.length < 3_100_000) kept.length = 0;
  },
};

if (process.argv[1] !== fileURLToPath(import.meta.url)) {
  // a library
} else if (where === "child") {
  spawn(process.execPath, [process.argv[1], kind, every], { stdio: "ignore" });
  setInterval(() => {}, 1000);
} else {
  setInterval(leaks[kind], Number(every));
  console.log("ready");
}
