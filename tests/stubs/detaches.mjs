// Starts a detached child (a session of its own), says `ready PID` once that lives, and exits (or, with --stay, holds).
import { spawn } from "node:child_process";
import { once } from "node:events";

const MINUTE = 60_000;
const child = spawn(
  process.execPath,
  ["-e", `setTimeout(() => {}, ${MINUTE}); process.stdout.write("up")`],
  { detached: true, stdio: ["ignore", "pipe", "ignore"] },
);
await once(child.stdout, "data");
child.unref();
child.stdout.destroy();
console.log(`ready ${child.pid}`);
if (process.argv.includes("--stay")) setTimeout(() => {}, MINUTE);
