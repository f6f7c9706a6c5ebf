// Takes MIB MiB in Node, by KIND: buffers (off the heap), objects, strings. Says ready and holds them. At most 1,000.
const [kind, mib] = [process.argv[2], Math.min(Number(process.argv[3]), 1000)];
const MINUTE = 60_000;
const held = [];
const used = () => process.memoryUsage().rss / (1 << 20);
while (used() < mib) {
  if (kind === "buffers") held.push(Buffer.alloc(8 << 20, 1));
  if (kind === "objects") for (let n = 0; n < 10_000; n++) held.push({ n, of: [n, n + 1, { n }] });
  if (kind === "strings") held.push(Buffer.alloc(1 << 20, held.length % 26 + 97).toString("latin1"));
}
console.log("ready");
setTimeout(() => process.exit(), MINUTE);
