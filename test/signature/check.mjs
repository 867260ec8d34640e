// usage: check.mjs SNIPPET: reads a list of requests and prints whether the snippet's verified() accepts each.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { verified } = await import(pathToFileURL(process.argv[2]));
const requests = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(requests.map((r) => verified(r.secrets, r.headers, Buffer.from(r.body, "base64")))));
