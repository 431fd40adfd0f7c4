#!/usr/bin/env node
// An external extension that subscribes through the Logs API, over TCP or HTTP as LISTEN_OVER says, and prints
// every event that it hears of.
const http = require("http");
const net = require("net");
const readline = require("readline");
const path = require("path");

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");

function ask(method, target, headers, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, method, path: target, headers }, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("end", () => resolve({ text, headers: answer.headers }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

let unreported = 0; // invocations whose report was not heard yet
let isEnding = false;

function endWhenAllIsHeard() {
  if (!isEnding || unreported > 0) return; // what came over TCP may still wait to be read
  console.log("the end");
  process.exit(0);
}

function hear(line) {
  console.log("heard:", line);
  if (JSON.parse(line).type === "platform.report") unreported -= 1;
  endWhenAllIsHeard();
}

const isTcp = process.env.LISTEN_OVER === "TCP";
const lines = (peer) => readline.createInterface({ input: peer }).on("line", hear);
const requests = (request, answer) => {
  let text = "";
  request.on("data", (part) => (text += part));
  request.on("end", () => {
    answer.end("OK");
    for (const event of JSON.parse(text)) hear(JSON.stringify(event));
  });
};
const server = isTcp ? net.createServer(lines) : http.createServer(requests);
const destination = isTcp
  ? { protocol: "TCP", port: 4244 }
  : { protocol: "HTTP", URI: "http://sandbox.localdomain:4244/" };

server.listen(4244, "0.0.0.0", async () => {
  const name = { "Lambda-Extension-Name": path.basename(process.argv[1]) };
  const events = JSON.stringify({ events: ["INVOKE", "SHUTDOWN"] });
  const registered = await ask("POST", "/2020-01-01/extension/register", name, events);
  const identity = { "Lambda-Extension-Identifier": registered.headers["lambda-extension-identifier"] };
  const wish = JSON.stringify({
    schemaVersion: "2021-03-18",
    types: ["platform", "function"],
    buffering: { timeoutMs: 25 },
    destination,
  });
  console.log("subscribed:", (await ask("PUT", "/2020-08-15/logs", identity, wish)).text);
  for (;;) {
    const event = JSON.parse((await ask("GET", "/2020-01-01/extension/event/next", identity)).text);
    if (event.eventType === "SHUTDOWN") break;
    unreported += 1;
  }
  isEnding = true;
  endWhenAllIsHeard();
});
