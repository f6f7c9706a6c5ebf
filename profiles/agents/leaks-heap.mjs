// Leaks JavaScript objects until V8 reaches its heap limit and aborts (SIGABRT, "JavaScript heap out of memory").
import { writeSync } from "node:fs";

const MIB = 1024 * 1024;
const conversation = []; // nothing is ever taken out: the usual leak of an agent that keeps its whole history

for (let turn = 0; ; turn++) {
  conversation.push({ turn, messages: Array.from({ length: 100 }, (_, n) => ({ n, text: `message ${turn}.${n}` })) });
  if (turn % 2_000 === 0) {
    // writeSync: console.log to a pipe would be lost in the abort
    writeSync(1, `turn ${turn}: V8 heap ${Math.round(process.memoryUsage().heapUsed / MIB)} MiB\n`);
  }
}
