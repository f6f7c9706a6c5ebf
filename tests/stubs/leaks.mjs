// Leaks in one way, at a line that tests look for: `node leaks.mjs objects 10 [child]` (milliseconds between two helpings).
// Imported, it only offers `leak`. It holds on at MIB, for a collection on a busy machine must come back before V8's own limit.
import { spawn } from "node:child_process";
import { createSecretKey } from "node:crypto";
import { EventEmitter } from "node:events";
import { fileURLToPath } from "node:url";
import { createContext } from "node:vm";

const [kind, every, where] = process.argv.slice(2);
const bus = new EventEmitter().setMaxListeners(0);
const page = Buffer.alloc(2 * 1024 * 1024, "a");
const kept = [];
const MIB = 350;

const leaks = {
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
  contexts: function detach() {
    for (let n = 0; n < 5; n++) kept.push(createContext({ n }));
  },
  native: function remember_key() {
    kept.push(createSecretKey(page));
  },
};

export const leak = (kind) => process.memoryUsage.rss() < MIB * 2 ** 20 && leaks[kind]();

if (process.argv[1] !== fileURLToPath(import.meta.url)) {
  // a library
} else if (where === "child") {
  spawn(process.execPath, [process.argv[1], kind, every], { stdio: "ignore" });
  setInterval(() => {}, 1000);
} else {
  setInterval(leak, Number(every), kind);
  console.log("ready");
}
