// What a reader does: filter, open a call and its evidence, look at figures, compare, export, choose a zone.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";

import { close, open, reader } from "./browser.mjs";
import { COUNT, addresses, filled } from "./pages.mjs";

let receiver, browser, all;
before(async () => {
  // Posts need no signature.
  receiver = await filled({ JWT_SECRET: undefined });
  all = await addresses(receiver);
  browser = await open();
});
after(async () => {
  await browser?.close();
  await receiver?.stop();
});

const rows = (page) => page.locator(".calls tr:not(.day):has(td)");

// Forms and links work without a script: the same steps with and without.
for (const javaScriptEnabled of [true, false]) {
  describe(javaScriptEnabled ? "with JavaScript" : "without JavaScript", () => {
    let page;
    before(async () => (page = await reader(browser, { javaScriptEnabled })));
    after(() => close(page));

    test("a filter narrows the list, and its address is a link", async () => {
      await page.goto(receiver.url);
      await page.getByText(`${COUNT} in all`).waitFor();
      await page.getByLabel("Status").first().selectOption("failed or dropped");
      await page.getByRole("button", { name: "Show" }).click();
      const { total } = await receiver.get("/api/calls?status=failed,dropped&include_total=true&limit=1");
      await page.getByText(`${total} match`).waitFor();
      assert.equal(new URL(page.url()).search, "?status=failed,dropped");
      assert.equal(await rows(page).count(), total);
      await page.getByText("More conditions").click();
      await page.getByLabel("Reason").fill("agent_lost");
      await page.getByRole("button", { name: "Show" }).click();
      await page.waitForURL(/agent_lost/);
      assert.equal(await rows(page).filter({ hasNotText: "agent lost" }).count(), 0);
      await page.getByRole("link", { name: "Clear" }).click();
      await page.getByText(`${COUNT} in all`).waitFor();
    });

    test("older calls are a page away, and newer ones again", async () => {
      await page.goto(`${receiver.url}/calls`);
      const first = await rows(page).first().innerText();
      await page.getByRole("link", { name: "Older →" }).click();
      await page.waitForURL(/cursor=/);
      const older = page.url();
      await page.getByRole("link", { name: "← Newer" }).click();
      await page.waitForURL((url) => url.href !== older);
      assert.equal(await rows(page).first().innerText(), first);
    });

    test("a number of a call leads to the moments that made it", async () => {
      await page.goto(receiver.url + all["calls-filtered"].replace("failed,dropped", "completed"));
      await rows(page).first().locator("a").click();
      await page.getByRole("heading", { name: "Timeline" }).waitFor();
      await page.goto(receiver.url + all.call);
      await page.locator(".headlines a", { hasText: "interruptions" }).click();
      await page.waitForURL(/#m-interruptions$/);
      const moment = page.locator("#m-interruptions .moments a").first();
      await moment.click();
      await page.waitForURL(/#cut-/);
      const { hash } = new URL(page.url());
      assert.match(hash, /^#cut-\d+$/);
      const drawn = page.locator(`#picture ${hash}`);
      assert.equal(await drawn.evaluate((bar) => bar.matches(":target")), true);
      // And from the picture to the words.
      const words = await drawn.getAttribute("href");
      assert.equal(await page.locator(`#story ${words}`).count(), 1);
    });

    test("columns lead to their calls, and two filters stand side by side", async () => {
      await page.goto(`${receiver.url}/numbers`);
      const column = page.locator(".chart a.ok").last();
      const [, count] = (await column.getAttribute("aria-label")).match(/: (\d+) completed/);
      await page.goto(receiver.url + (await column.getAttribute("href")));
      await page.getByText(`${count} match`).waitFor();
      await page.goto(`${receiver.url}/numbers`);
      await page.getByText("Compare with another filter").click();
      const other = page.getByRole("group", { name: "The other filter" });
      await other.getByLabel("Business type").fill("clinic");
      await other.getByRole("button", { name: "Compare" }).click();
      await page.getByRole("heading", { name: "Side by side" }).waitFor();
      const cells = page.locator(".compared tbody tr").first().locator("td");
      assert.equal(await cells.first().innerText(), String(COUNT));
      const { total } = await receiver.get("/api/calls?business_type=clinic&include_total=true&limit=1");
      assert.equal(await cells.nth(1).innerText(), String(total));
      await page.getByRole("link", { name: "Show the first alone" }).click();
      await page.getByRole("link", { name: "Compare with the time before" }).click();
      await page.getByRole("heading", { name: "Side by side" }).waitFor();
    });

    test("a zone changes the times, and stays", async () => {
      const zoned = await reader(browser, { javaScriptEnabled });
      await zoned.goto(`${receiver.url}/calls?status=completed`);
      const time = zoned.locator(".c-time time").first();
      const [instant, utc] = [await time.getAttribute("datetime"), await time.innerText()];
      assert.equal(utc, instant.slice(11, 19));
      await zoned.getByRole("link", { name: "UTC" }).click();
      await zoned.getByLabel("Time zone").selectOption("Asia/Kolkata");
      await zoned.getByRole("button", { name: "Choose" }).click();
      await zoned.waitForURL(/status=completed&tz=Asia%2FKolkata$/);
      const later = new Date(Date.parse(instant) + 5.5 * 3_600_000).toISOString().slice(11, 19);
      const row = zoned.locator(`time[datetime="${instant}"]`);
      assert.equal(await row.innerText(), later);
      await zoned.goto(receiver.url + all.call);
      assert.match(await zoned.locator(".crumbs").innerText(), /Asia\/Kolkata/);
      await close(zoned);
    });

    test("an export has all calls that match", async () => {
      await page.goto(`${receiver.url}/calls?status=completed`);
      const { total } = await receiver.get("/api/calls?status=completed&include_total=true&limit=1");
      for (const [name, head] of [["CSV", 1], ["JSON lines", 0]]) {
        const waiting = page.waitForEvent("download");
        await page.getByRole("link", { name }).click();
        const text = await readFile(await (await waiting).path(), "utf8");
        assert.equal(text.trim().split("\n").length - head, total, name);
      }
    });
  });
}

test("the keyboard is enough", async () => {
  const page = await reader(browser);
  const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = () =>
    page.evaluate(() => {
      const at = document.activeElement;
      const box = at.getBoundingClientRect();
      const style = getComputedStyle(at);
      return {
        name: (at.ariaLabel || at.innerText || at.name || "").trim(),
        tag: at.tagName,
        inSight: box.bottom > 0 && box.top < innerHeight && box.width > 0,
        outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1,
      };
    });
  // Tabs on until something is focused; whatever is on the way can be seen.
  const reach = async (name) => {
    for (let tabs = 0; tabs < 80; tabs += 1) {
      await press("Tab");
      const at = await focused();
      assert.ok(at.inSight && at.outlined, `the focus cannot be seen: ${JSON.stringify(at)}`);
      if (at.name === name || at.name.startsWith(name)) return at;
    }
    return assert.fail(`${name} is not reached`);
  };
  await page.goto(`${receiver.url}/calls`);
  await reach("Skip to the content");
  await press("Enter");
  await reach("q");
  await page.keyboard.type("restaurant");
  await press("Enter");
  await page.waitForURL(/q=restaurant/);
  await page.getByText("match").first().waitFor();
  await page.goto(`${receiver.url}/calls`);
  const number = await page.locator(".c-number a").first().innerText();
  await reach(number);
  await press("Enter");
  await page.getByRole("heading", { name: "Timeline" }).waitFor();
  // The picture is one stop, scrolled by arrows; its bars are in words below.
  await reach("Timeline, can be scrolled");
  await page.goto(`${receiver.url}/numbers`);
  await reach("Compare with another filter");
  await press("Enter");
  assert.ok(await page.getByRole("button", { name: "Compare" }).isVisible());
  await close(page);
});

test("calls that are on come and go by themselves", async () => {
  const page = await reader(browser);
  await page.goto(`${receiver.url}/calls`);
  const event = {
    event: "call.started", call_id: "live-1", sequence: 1, time: new Date().toISOString(),
    room_name: "a-room-of-now", phone_number: "+15550109876", call_type: "inbound",
  };
  await receiver.post("/call-events", event);
  await page.getByRole("heading", { name: "On right now" }).waitFor();
  await page.getByText("a-room-of-now").waitFor();
  await receiver.post("/call-events", { ...event, event: "call.ended", sequence: 2 });
  await page.getByText("a-room-of-now").waitFor({ state: "detached" });

  // This call ends after the page was read, and before its stream is open.
  const short = { ...event, call_id: "live-2", room_name: "a-short-call" };
  await receiver.post("/call-events", short);
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  await page.route("**/now/stream", (route) => opened.then(() => route.continue()));
  const asked = page.waitForRequest("**/now/stream");
  await page.goto(`${receiver.url}/calls`);
  await asked;
  await page.getByText("a-short-call").waitFor();
  await receiver.post("/call-events", { ...short, event: "call.ended", sequence: 2 });
  open();
  await page.getByText("a-short-call").waitFor({ state: "detached" });
  await close(page);
});
