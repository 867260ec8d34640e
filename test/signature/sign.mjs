// usage: sign.mjs FOLDER: reads a list of requests and prints what the published package in FOLDER/node_modules signs them with.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Webhook } = createRequire(process.argv[2] + "/sign.mjs")("standardwebhooks");
const requests = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(requests.map((r) => {
  const { "webhook-id": id, "webhook-timestamp": timestamp } = r.headers;
  return new Webhook(r.secrets[0]).sign(id, new Date(timestamp * 1000), Buffer.from(r.body, "base64"));
})));
