// usage: check.mjs SNIPPET: reads a list of requests and prints for each whether the snippet's verified() accepts or refuses it, or fails.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { verified } = await import(pathToFileURL(process.argv[2]));
const outcome = (r) => {
  try {
    return verified(r.secrets, r.headers, Buffer.from(r.body, "base64")) ? "accepted" : "refused";
  } catch {
    return "failed";
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(outcome)));
