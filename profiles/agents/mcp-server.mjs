// A server as agents start them: it speaks JSON-RPC over HTTP on a free port of this machine.
// Its timer keeps it alive when its parent is gone, as real MCP servers with a timer are (SIGTERM still ends it).
import { createServer } from "node:http";

const name = process.argv[2] ?? "tools";
const MINUTE = 60_000;

const server = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { id = null, method = "initialize" } = body ? JSON.parse(body) : {};
  const result = method === "initialize" ? { serverInfo: { name, version: "1" }, capabilities: {} } : {};
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ jsonrpc: "2.0", id, result }));
});

server.listen(0, "127.0.0.1", () => {
  // One line through the pipe of its parent; when that end is gone, the line is simply lost.
  process.stdout.on("error", () => {});
  console.log(`${name} ready: pid ${process.pid}, http://127.0.0.1:${server.address().port}`);
});

setInterval(() => {}, MINUTE); // "refresh the cache"
setTimeout(() => process.exit(), 10 * MINUTE); // so that a demonstration never stays for ever
