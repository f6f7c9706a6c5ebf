// Starts two MCP servers, uses them, and exits without stopping either: what agents do every day.
//   files    a plain child; when we exit, it runs on without a parent
//   browser  the hard one: a helper starts it in a session of its own and exits at once (a double fork with setsid),
//            so neither process group nor session nor parent leads to us
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const server = fileURLToPath(new URL("mcp-server.mjs", import.meta.url));

const files = spawn(process.execPath, [server, "files"], { stdio: ["ignore", "pipe", "inherit"] });

const helper = `
  const { spawn } = require("node:child_process");
  spawn(process.execPath, process.argv.slice(1), { detached: true, stdio: "inherit" }).unref();
`;
const browser = spawn(process.execPath, ["-e", helper, server, "browser"], { stdio: ["ignore", "pipe", "inherit"] });

// Listen to both at once: Node throws away what a child has printed if nothing listens when it exits.
const ready = [files, browser].map((child) => once(createInterface({ input: child.stdout }), "line"));
for (const [line] of await Promise.all(ready)) {
  console.log(line);
  const [url] = line.match(/http\S+/);
  const answer = await fetch(url, { method: "POST", body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize" }) });
  console.log(`  it answered: ${JSON.stringify((await answer.json()).result.serverInfo)}`);
}

console.log("done; both servers are still running");
process.exit();
