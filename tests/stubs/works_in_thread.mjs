// A worker thread starts a child, which the kernel lists under that thread only; says `ready PID` and holds.
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const MINUTE = 60_000;
if (isMainThread) {
  new Worker(fileURLToPath(import.meta.url)).on("message", (pid) => console.log(`ready ${pid}`));
  setTimeout(() => process.exit(), MINUTE);
} else {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  child.on("spawn", () => parentPort.postMessage(child.pid));
}
