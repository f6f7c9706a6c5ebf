// Takes memory outside the V8 heap at full speed, and notes what it holds in a file before it takes more.
// The note: five doubles: bytes held once it has what it asks for, the same at the start, and monotonic seconds:
// when it began, when it crossed 1 GiB, now. It stops at the bytes that its second argument says, and stays.
import fs from "node:fs";

const CHUNK = 1024 * 1024;
const LIMIT = 1024 * CHUNK;
const PAGE = 4096;

const file = fs.openSync(process.argv[2], "r+");
const statm = fs.openSync("/proc/self/statm");
const text = Buffer.alloc(128);
const note = new Float64Array(5);
const bytes = new Uint8Array(note.buffer);
const most = Number(process.argv[3] ?? Infinity);
const held = [];

function own() {
  const [, resident, shared] = text.latin1Slice(0, fs.readSync(statm, text, 0, 128, 0)).split(" ");
  return (resident - shared) * PAGE;
}

while (!(note[0] > most)) {
  const now = Number(process.hrtime.bigint()) / 1e9;
  note[0] = own() + CHUNK;
  note[1] ||= note[0];
  note[2] ||= now;
  if (note[0] > LIMIT) note[3] ||= now;
  note[4] = now;
  fs.writeSync(file, bytes, 0, bytes.length, 0);
  held.push(Buffer.alloc(CHUNK, 1));
}
setInterval(() => {}, 1 << 30);
