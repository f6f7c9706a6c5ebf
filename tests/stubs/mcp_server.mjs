// An MCP server over stdio. mcp_server.mjs quiet|stays|leaks [MIB]: it says hello and has no tools; then it ends with its
// input, stays for ever (as does any that owns a timer) and says `ready` on stderr, or hoards Buffers from the moment it
// was greeted, up to so many MiB if told.
import { createInterface } from 'node:readline';

const [mode, most = Infinity] = process.argv.slice(2);
const kept = [];
const answers = {
  initialize: ({ protocolVersion }) =>
    ({ protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'stub', version: '1' } }),
  'tools/list': () => ({ tools: [] }),
  ping: () => ({}),
};

if (mode === 'stays') {
  setInterval(() => {}, 1000);
  console.error('ready');
}
createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  const said = answers[method]
    ? { result: answers[method](params) }
    : { error: { code: -32601, message: `no method ${method}` } };
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, ...said })}\n`);
  if (mode === 'leaks' && method === 'initialize') {
    setInterval(() => kept.length < most / 8 && kept.push(Buffer.alloc(8 << 20, 1)), 50);
  }
});
