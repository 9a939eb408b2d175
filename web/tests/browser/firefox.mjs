// Firefox: a still picture through the page, its fake camera, and a second visit without a network. options: url, picture
import { inBrowser, modelReady, options } from "./browser.mjs";

await inBrowser(async (page) => {
  await page.goto(options.url);
  await modelReady(page);
  const input = await page.$("#file");
  await input.uploadFile(options.picture);
  await page.waitForFunction(() => /\d/.test(document.querySelector(".person .age")?.textContent ?? ""), { timeout: 120_000 });
  const people = await page.evaluate(() => [...document.querySelectorAll(".person")].map((person) => person.innerText));
  await page.click("#stop");
  await page.click("#start");
  await page.waitForFunction(() => document.documentElement.dataset.mode === "live", { timeout: 60_000 });
  await page.waitForFunction(() => /\d/.test(document.getElementById("fact-latency").textContent), { timeout: 60_000 });
  const version = await page.evaluate(() => navigator.userAgent);
  return { people, live: true, version, isolated: await page.evaluate(() => crossOriginIsolated) };
});
