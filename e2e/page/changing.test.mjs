// What needs rights: the first login, logging in and out, deleting.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { close, findings, open, reader, shot } from "./browser.mjs";
import { PASSWORD, filled } from "./pages.mjs";

let browser;
before(async () => (browser = await open()));
after(() => browser?.close());

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? "with JavaScript" : "without JavaScript";

  test(`the link of the log sets the password, and the password opens the pages, ${how}`, async () => {
    const receiver = await filled({ CALL_HISTORY_RECEIVE_ADDR: "0.0.0.0:0" });
    const { link } = await receiver.logged("nobody can log in yet");
    const page = await reader(browser, { javaScriptEnabled });
    await page.goto(receiver.url);
    await page.getByText("There is no password yet").waitFor();
    await page.goto(link);
    if (javaScriptEnabled) assert.deepEqual(await findings(page), []);
    await shot(page, `first-run-${javaScriptEnabled}`);
    await page.getByLabel("Password, 12 characters or more").fill(PASSWORD);
    await page.getByLabel("The same again").fill(PASSWORD);
    await page.getByRole("button", { name: "Set it and log in" }).click();
    await page.getByRole("heading", { name: "Calls" }).waitFor();
    const [cookie] = (await page.context().cookies()).filter(({ name }) => name === "call_history");
    assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);

    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    await page.goto(`${receiver.url}/numbers?status=failed`);
    await page.getByLabel("Password, or a token").fill("not the password");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("This is not the password").waitFor();
    if (javaScriptEnabled) assert.deepEqual(await findings(page), []);
    await shot(page, `login-wrong-${javaScriptEnabled}`);
    await page.getByLabel("Password, or a token").fill(PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Numbers" }).waitFor();
    assert.match(page.url(), /\/numbers\?status=failed$/);

    // The command changes it, and ends the session.
    await receiver.command(["password"], "another long password\n");
    await page.goto(`${receiver.url}/calls`);
    await page.getByLabel("Password, or a token").fill("another long password");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Calls" }).waitFor();
    await close(page);
    await receiver.stop();
  });

  test(`a call is deleted, and then everything of a number, ${how}`, async () => {
    const receiver = await filled();
    const [frequent] = await often(receiver);
    const page = await reader(browser, { javaScriptEnabled });
    await page.goto(`${receiver.url}/calls?phone_number=${encodeURIComponent(frequent.number)}`);
    await page.getByText(`${frequent.calls} match`).waitFor();
    await page.locator(".c-number a").first().click();
    await page.getByRole("link", { name: "Delete this call" }).click();
    await page.getByRole("heading", { name: "Delete this call?" }).waitFor();
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("heading", { name: "Deleted: 1 call" }).waitFor();
    await page.reload();
    await page.getByRole("heading", { name: "Deleted: 1 call" }).waitFor();

    await page.goto(`${receiver.url}/calls?phone_number=${encodeURIComponent(frequent.number)}`);
    await page.getByText(`${frequent.calls - 1} match`).waitFor();
    await page.getByRole("link", { name: "Delete everything of this number" }).click();
    await page.getByText(`${frequent.calls - 1} calls of`).or(page.getByText(/\d+ calls?, /)).first().waitFor();
    await page.getByRole("link", { name: "Keep" }).click();
    await page.getByText(`${frequent.calls - 1} match`).waitFor();
    await page.getByRole("link", { name: "Delete everything of this number" }).click();
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("heading", { name: `Deleted: ${frequent.calls - 1} call` }).waitFor();
    await page.goto(`${receiver.url}/calls?phone_number=${encodeURIComponent(frequent.number)}`);
    await page.getByText("No call matches").waitFor();
    await close(page);
    await receiver.stop();
  });
}

// Numbers that called more than twice.
async function often(receiver) {
  const { groups } = await receiver.get("/api/stats?by=phone_number&of=count");
  const all = groups.map(({ phone_number: number, count: calls }) => ({ number, calls }));
  return all.filter(({ number, calls }) => number.startsWith("+") && calls > 2).sort((a, b) => b.calls - a.calls);
}
