// A server made with the official SDK: `node mcp_leaks.mjs SDK KIND`. Its one tool leaks, in the way of leaks.mjs.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { leak } from "./leaks.mjs";

const [sdk, kind] = process.argv.slice(2);
const of = (file) => import(pathToFileURL(join(sdk, "dist/esm", file)));
const { Server } = await of("server/index.js");
const { StdioServerTransport } = await of("server/stdio.js");
const { CallToolRequestSchema, ListToolsRequestSchema } = await of("types.js");

const server = new Server({ name: "leaks", version: "1" }, { capabilities: { tools: {} } });
server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [{ name: "work", inputSchema: { type: "object" } }] }));
server.setRequestHandler(CallToolRequestSchema, async () => {
  leak(kind);
  await new Promise((done) => setTimeout(done, 10));
  return { content: [{ type: "text", text: "done" }] };
});
await server.connect(new StdioServerTransport());
