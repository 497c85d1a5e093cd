// Every page in both themes, on a desktop and on a phone: accessible, within the window, without a complaint.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { PHONE, DESKTOP, close, findings, open, overflow, reader, shot } from "./browser.mjs";
import { addresses, filled } from "./pages.mjs";

let receiver, browser, all;
before(async () => {
  receiver = await filled();
  all = await addresses(receiver);
  browser = await open();
});
after(async () => {
  await browser?.close();
  await receiver?.stop();
});

for (const colorScheme of ["light", "dark"]) {
  for (const [device, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
    test(`every page is accessible and fits, ${colorScheme}, on a ${device}`, async () => {
      const page = await reader(browser, { colorScheme, viewport });
      for (const [name, address] of Object.entries(all)) {
        await page.goto(receiver.url + address);
        assert.ok(await page.title(), name);
        await shot(page, `${name}-${device}-${colorScheme}`);
        assert.deepEqual(await findings(page), [], name);
        assert.ok((await overflow(page)) <= 0, `${name} is wider than the window`);
      }
      const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const [red] = background.match(/\d+/g).map(Number);
      assert.equal(red > 128, colorScheme === "light", background);
      await close(page);
    });
  }
}

test("a demo says that it is one, and masks numbers", async () => {
  const demo = await filled({ CALL_HISTORY_RECEIVE_DEMO: "true" });
  const page = await reader(browser);
  await page.goto(demo.url);
  await page.getByText("This is a demo").waitFor();
  assert.match(await page.locator(".c-number a").first().innerText(), /^(\+15•+\d\d|web-\d+|unknown)$/);
  assert.equal(await page.getByRole("link", { name: "CSV" }).count(), 0);
  await shot(page, "demo");
  assert.deepEqual(await findings(page), []);
  await page.locator(".c-number a").first().click();
  await page.getByText("Every number, and the moments").waitFor();
  assert.equal(await page.getByRole("link", { name: /Delete/ }).count(), 0);
  await close(page);
  await demo.stop();
});

test("what these tests look for is found", async () => {
  const page = await reader(browser);
  await page.goto(`${receiver.url}/login`);
  await page.evaluate(() => {
    document.querySelector("label").remove();
    document.body.style.width = "2000px";
    console.error("something is wrong");
  });
  assert.ok((await findings(page)).some(({ id }) => id === "label"));
  assert.ok((await overflow(page)) > 0);
  await assert.rejects(close(page), /something is wrong/);
});
