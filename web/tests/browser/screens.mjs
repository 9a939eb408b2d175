// Show the page in each state; return its text, a screenshot and axe's violations.
// options: url, state, folder and name (for the screenshot), viewport, dark, axe, clip, language, expect
import { join } from "node:path";

import { axeFaults, inBrowser, modelReady, options, sleep } from "./browser.mjs";

const steps = {
  async welcome(page) {
    await modelReady(page);
  },
  async live(page) {
    await page.click("#start");
    await page.waitForFunction(() => /\d/.test(document.querySelector(".person .age")?.textContent ?? ""), { timeout: 60_000 });
    const everybody = (people) => document.querySelectorAll(".person").length >= people;
    await page.waitForFunction(everybody, { timeout: 60_000 }, options.people ?? 1);
    await page.waitForFunction(() => /\d/.test(document.getElementById("spoken").textContent), { timeout: 60_000 });
    await sleep(1500);
  },
  async gate(page) {
    await steps.live(page);
    await page.select("#gate", "18");
    await page.waitForSelector(".person .chip:not([hidden])", { timeout: 60_000 });
    await sleep(1500);
  },
  async still(page) {
    await modelReady(page);
    const input = await page.$("#file");
    await input.uploadFile(options.picture);
    await page.waitForSelector(".person", { timeout: 60_000 });
    await sleep(300);
  },
  async early(page) {
    const mode = (name) => page.waitForFunction((m) => document.documentElement.dataset.mode === m, { timeout: 60_000 }, name);
    await page.click("#start");
    await mode("live");
    await (await page.$("#file")).uploadFile(options.picture);
    await mode("still");
    await page.evaluate(() => globalThis.loadModel());
    await page.waitForSelector(".person", { timeout: 60_000 });
    await sleep(1000);
  },
  async problem(page) {
    await page.waitForSelector("#start", { visible: true, timeout: 5000 }).then(() => page.click("#start")).catch(() => undefined);
    await page.waitForFunction(() => document.documentElement.dataset.mode === "problem", { timeout: 60_000 });
  },
  async badPicture(page) {
    await modelReady(page);
    const input = await page.$("#file");
    await input.uploadFile(options.picture);
    await page.waitForFunction(() => document.documentElement.dataset.mode === "problem", { timeout: 60_000 });
  },
  async unplugged(page) {
    await steps.live(page);
    const origin = new URL(options.url).origin;
    const client = await page.createCDPSession();
    await client.send("Browser.setPermission", { permission: { name: "camera" }, setting: "denied", origin });
    await page.waitForFunction(() => document.documentElement.dataset.mode === "problem", { timeout: 20_000 });
  },
};

/** In the page: the model's file is not asked for until globalThis.loadModel() is called. */
function slowModel() {
  const real = fetch;
  const wanted = new Promise((resolve) => (globalThis.loadModel = resolve));
  globalThis.fetch = async (...args) => {
    await wanted;
    return real(...args);
  };
}

await inBrowser(async (page, browser) => {
  if (options.state === "unplugged") {
    await browser.defaultBrowserContext().overridePermissions(new URL(options.url).origin, ["camera"]);
  }
  if (options.dark) await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  if (options.state === "early") await page.evaluateOnNewDocument(slowModel);
  await page.goto(options.url);
  await steps[options.state](page);
  if (options.folder) await page.screenshot({ path: join(options.folder, `${options.name}.png`) });
  const faults = options.axe ? await axeFaults(page) : [];
  const shown = await page.evaluate(() => ({
    mode: document.documentElement.dataset.mode ?? "welcome",
    code: document.getElementById("problem").dataset.code ?? null,
    title: document.getElementById("problem-title").textContent,
    detail: document.getElementById("problem-detail").textContent,
    people: [...document.querySelectorAll(".person")].map((person) => person.innerText),
    spoken: document.getElementById("spoken").textContent,
    threads: document.getElementById("fact-threads").textContent,
    note: document.getElementById("one-thread").hidden ? "" : document.getElementById("one-thread").textContent,
    wide: document.documentElement.scrollWidth > innerWidth,
  }));
  return { ...shown, faults };
});
