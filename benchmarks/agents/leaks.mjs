// Takes memory outside the V8 heap at full speed, and notes what it holds in a file before it takes more.
// The note: five doubles: bytes held at most, bytes at the start, when it began, when it crossed 1 GiB, now (seconds).
import fs from "node:fs";

const CHUNK = 1024 * 1024;
const LIMIT = 1024 * CHUNK;
const PAGE = 4096;

const [, resident, shared] = fs.readFileSync("/proc/self/statm", "latin1").split(" ").map(Number);
const base = (resident - shared) * PAGE;
const file = fs.openSync(process.argv[2], "r+");
const note = new Float64Array(5);
const bytes = new Uint8Array(note.buffer);
const seconds = () => Number(process.hrtime.bigint()) / 1e9;
const held = [];

note[1] = base;
note[2] = seconds();
for (;;) {
  note[0] = base + (held.length + 1) * CHUNK;
  note[4] = seconds();
  if (note[0] > LIMIT && !note[3]) note[3] = note[4];
  fs.writeSync(file, bytes, 0, bytes.length, 0);
  held.push(Buffer.alloc(CHUNK, 1));
}
