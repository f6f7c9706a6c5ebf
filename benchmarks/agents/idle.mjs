// An agent that waits for ever, and holds so many bytes.
globalThis.held = Buffer.alloc(Number(process.argv[3] ?? 0), 1);
setInterval(() => {}, 1e9);
