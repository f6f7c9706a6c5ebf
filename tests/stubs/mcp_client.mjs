// An agent with the official MCP client, which hands its servers six variables of its environment.
// mcp_client.mjs SDK MODE COMMAND ARG…: prints what the processes of its server are and have, then ends as MODE says:
// closes its server, or calls its first tool for ever.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [sdk, mode, command, ...args] = process.argv.slice(2);
const of = (file) => import(pathToFileURL(join(sdk, 'dist/esm/client', file)));
const { Client } = await of('index.js');
const { StdioClientTransport } = await of('stdio.js');

const words = (pid, file) => readFileSync(`/proc/${pid}/${file}`, 'utf8').split('\0').slice(0, -1);
const children = (pid) =>
  readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number));
const tree = (pid) => [pid, ...children(pid).flatMap(tree)];
const environment = (pid) => Object.fromEntries(words(pid, 'environ').map((word) => word.split(/=(.*)/s, 2)));

const client = new Client({ name: 'stub', version: '1' });
const transport = new StdioClientTransport({ command, args, stderr: 'inherit' });
await client.connect(transport);
const { tools } = await client.listTools();
const processes = tree(transport.pid).map((pid) => ({ pid, command: words(pid, 'cmdline'), env: environment(pid) }));
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), processes }));
while (mode === 'call') await client.callTool({ name: tools[0].name });
await client.close();
