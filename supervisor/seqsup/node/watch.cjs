// Runs in a worker of an agent's Node process, once asked for. While that process's loop is blocked by JavaScript, it
// answers in its stead: the inspector interrupts what runs there (Runtime.evaluate; other commands would wait).
"use strict";

const { workerData: channel } = require("worker_threads");
const { Session } = require("inspector");

// Connected only while something is asked: a Node that ends by process.exit() says so on stderr while one is.
let session;
let asked = 0;

const socket = require("net").connect(channel);
socket.on("error", () => {});
socket.on("connect", () => socket.write(`${JSON.stringify({ hello: "watch", protocol: 1, pid: process.pid })}\n`));
socket.setEncoding("utf8");

let rest = "";
socket.on("data", (text) => {
  rest += text;
  for (let end; (end = rest.indexOf("\n")) >= 0; rest = rest.slice(end + 1)) hand(rest.slice(0, end));
});

function hand(line) {
  if (!session) {
    session = new Session();
    session.connectToMainThread();
  }
  asked += 1;
  const expression = `globalThis[Symbol.for("seqsup")](${JSON.stringify(line)})`;
  session.post("Runtime.evaluate", { expression, returnByValue: true, silent: true }, (error, answer) => {
    asked -= 1;
    if (!asked) {
      session.disconnect();
      session = undefined;
    }
    if (error || typeof answer.result.value !== "string") return; // null: it was answered over there
    socket.write(`${answer.result.value}\n`);
    if (socket.writableLength > 0) socket.destroy();
  });
}
