// Leaks Buffers as fast as the machine allows. They lie outside the V8 heap, so no heap limit ever ends this:
// it continues until it is stopped from outside, or the machine is full.
import { writeSync } from "node:fs";

const MIB = 1024 * 1024;
const screenshots = [];

for (let taken = 0; ; taken++) {
  screenshots.push(Buffer.alloc(MIB, 1)); // filled, so that the pages are really there
  if (taken % 64 === 0) {
    const { heapUsed, external } = process.memoryUsage();
    writeSync(1, `V8 heap ${Math.round(heapUsed / MIB)} MiB, Buffers ${Math.round(external / MIB)} MiB\n`);
  }
}
