// The two pictures of the README, made anew: `make pictures`.

import path from "node:path";

import { DESKTOP, close, open, reader } from "./browser.mjs";
import { addresses, filled } from "./pages.mjs";

const FOLDER = path.resolve("../../docs/pictures");

const receiver = await filled();
const browser = await open();
const page = await reader(browser, { viewport: DESKTOP });
const { call } = await addresses(receiver);
for (const [name, address] of Object.entries({ calls: "/calls", call })) {
  await page.goto(receiver.url + address);
  await page.screenshot({ path: path.join(FOLDER, `${name}.png`) });
}
await close(page);
await browser.close();
await receiver.stop();
