// Not a leak: a task that really needs about 150 MiB of JavaScript objects for a moment, and then is done.
const MIB = 1024 * 1024;
const NEEDED = 150 * MIB;

const files = [];
while (process.memoryUsage().heapUsed < NEEDED) {
  for (let n = 0; n < 1_000; n++) files.push({ path: `src/${files.length}.ts`, lines: new Array(100).fill(n) });
}
console.log(`${files.length} files in memory, V8 heap ${Math.round(process.memoryUsage().heapUsed / MIB)} MiB: done`);
