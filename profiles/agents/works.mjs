// An agent as it should be: a few steps, a few lines, done.
import { setTimeout as pause } from "node:timers/promises";

const task = process.argv[2] ?? "something useful";

console.log(`task: ${task}`);
for (const step of ["read the files", "think", "write the result"]) {
  console.log(`  ${step} …`);
  await pause(100);
}
console.log("done");
