// Measures how heavy pages are and how soon they show something: `make page-weight`. Prints a table for docs/receiver.md.

import { close, open, reader } from "./browser.mjs";
import { Receiver } from "./receiver.mjs";

const CALLS = 1000;
const LOADS = 9;
// An hour of talk, made of a sample's turns again and again.
const LONG = 3600;
// As Lighthouse has a slow phone: 150 ms, 1.6 Mbit/s, a processor a quarter as fast.
const SLOW = { offline: false, latency: 150, downloadThroughput: (1.6e6 / 8), uploadThroughput: (750e3 / 8) };

function longCall(record) {
  const length = record.duration_seconds;
  const times = Math.floor(LONG / length);
  const start = Date.parse(record.start_time);
  const moved = (json, by) => {
    if (Array.isArray(json)) return json.map((one) => moved(one, by));
    if (json && typeof json === "object") {
      return Object.fromEntries(Object.entries(json).map(([key, one]) => [key, moved(one, by)]));
    }
    const isTime = typeof json === "string" && /^\d{4}-\d\d-\d\dT.*Z$/.test(json);
    return isTime ? new Date(Date.parse(json) + by).toISOString() : json;
  };
  const long = structuredClone(record);
  const { details } = long;
  const repeat = (all) => Array.from({ length: times }, (_, n) => moved(all, n * length * 1000)).flat();
  for (const key of Object.keys(details.timeline)) details.timeline[key] = repeat(details.timeline[key]);
  details.transcript = repeat(details.transcript);
  long.call_id = "long-call";
  long.duration_seconds = times * length;
  long.end_time = new Date(start + times * length * 1000).toISOString();
  return long;
}

const median = (all) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)];

async function load(browser, url, slow) {
  const page = await reader(browser);
  const line = await page.context().newCDPSession(page);
  await line.send("Network.enable");
  if (slow) {
    await line.send("Network.emulateNetworkConditions", SLOW);
    await line.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  }
  let bytes = 0;
  let requests = 0;
  line.on("Network.loadingFinished", ({ encodedDataLength }) => {
    bytes += encodedDataLength;
    requests += 1;
  });
  await page.goto(url, { waitUntil: "load" });
  const found = await page.evaluate(async () => {
    const paint = () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime;
    while (!paint()) await new Promise((resolve) => setTimeout(resolve, 10));
    const [document_] = performance.getEntriesByType("navigation");
    return {
      paint: paint(),
      server: document_.responseStart - document_.requestStart,
      html: document_.decodedBodySize,
      elements: document.querySelectorAll("*").length,
    };
  });
  await close(page);
  return { ...found, bytes, requests };
}

const receiver = await Receiver.start({ JWT_SECRET: undefined });
await receiver.samples(CALLS);
const query = "q=%22wait%20a%20moment%20please%22&interruption_count.ge=1&limit=1";
const [{ call_id: id }] = (await receiver.get(`/api/calls?${query}`)).calls;
const long = longCall(await receiver.get(`/api/calls/${id}`));
await receiver.post("/call-history", long);
const browser = await open();
console.log(`| page | HTML, kB | sent in all, kB | elements | server, ms | first paint, ms | on a slow phone, ms |\n|---|---|---|---|---|---|---|`);
const pages = {
  [`${CALLS} calls, a page of 50`]: "/calls",
  [`${CALLS} calls, a page of 500`]: "/calls?limit=500",
  "a call": `/calls/${id}`,
  [`a call of an hour, ${long.details.timeline.speech.length} turns`]: "/calls/long-call",
  [`numbers of ${CALLS} calls`]: "/numbers",
};
for (const [name, address] of Object.entries(pages)) {
  const loads = [];
  const slow = [];
  for (let n = 0; n < LOADS; n += 1) {
    loads.push(await load(browser, receiver.url + address, false));
    slow.push(await load(browser, receiver.url + address, true));
  }
  const of = (all, key) => median(all.map((one) => one[key]));
  const kB = (key) => (of(loads, key) / 1000).toFixed(0);
  const row = [name, kB("html"), kB("bytes"), of(loads, "elements"), of(loads, "server").toFixed(0), of(loads, "paint").toFixed(0), of(slow, "paint").toFixed(0)];
  console.log(`| ${row.join(" | ")} |`);
}
await browser.close();
await receiver.stop();
