// A server beside the agents: answers at PORT with its pid, says `listening PID`, holds or drops MiB when it is asked for
// /hold/MIB or /drop/MIB, and what else is told it:
// --late MS before it listens, --crash-after MS, --hold MIB, --deaf to TERM, --child: with an orphan of its own.
import { spawn } from "node:child_process";
import http from "node:http";

const [port, ...flags] = process.argv.slice(2);
const value = (flag) => {
  const at = flags.indexOf(flag);
  return at < 0 ? undefined : Number(flags[at + 1]);
};
setTimeout(() => process.exit(99), 60_000).unref();
if (flags.includes("--deaf")) process.on("SIGTERM", () => {});
globalThis.held = value("--hold") && Buffer.alloc(value("--hold") * 2 ** 20, 1);
if (flags.includes("--child")) {
  spawn("setsid", ["sleep", "60"], { detached: true, stdio: "ignore" }).unref();
}
const server = http.createServer((request, response) => {
  if (request.url === "/crash") process.exit(7);
  if (request.url.startsWith("/hold/")) globalThis.more = Buffer.alloc(Number(request.url.slice(6)) * 2 ** 20, 1);
  if (request.url.startsWith("/drop/")) {
    const dropped = Array.from({ length: Number(request.url.slice(6)) }, () => Buffer.alloc(2 ** 20, 1));
    dropped.length = 0;
  }
  response.end(`${process.pid}\n`);
});
setTimeout(() => {
  server.listen(Number(port), "127.0.0.1", () => console.log(`listening ${process.pid}`));
}, value("--late") ?? 0);
if (value("--crash-after") !== undefined) setTimeout(() => process.exit(7), value("--crash-after"));
