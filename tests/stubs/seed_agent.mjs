// An agent as the seed has it: `seed_agent.mjs NAME MIB [plain|hidden]` loads an MCP server, which it never stops, and
// holds MIB MiB for a moment. It writes `begin NAME` and `end NAME` to the file `ledger`. A hidden server has a session of
// its own and an empty environment.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync } from "node:fs";

const [name, mib, how] = process.argv.slice(2);
const MOMENT = mib < 100 ? 300 : 1500; // ms; with much, longer than between two looks, so that its peak is seen
const write = (line) => appendFileSync("ledger", `${line} ${name}\n`);

write("begin");
if (how) {
  const script = new URL("mcp_server.mjs", import.meta.url).pathname;
  const mark = `--seqsup-test=${process.env.SEQSUP_TEST}`;
  const hidden = how === "hidden" ? { detached: true, env: {} } : {};
  const server = spawn(process.execPath, [script, "stays", "0", mark], { stdio: "pipe", ...hidden });
  await once(server.stderr, "data");
  server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params: {} })}\n`);
  await once(server.stdout, "data");
  console.log(`server ${server.pid}`);
}
globalThis.held = Buffer.alloc(mib * 2 ** 20, 1);
setTimeout(() => {
  write("end");
  process.exit();
}, MOMENT);
