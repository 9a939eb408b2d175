// Open a browser for the tests. Each script here acts in a real browser and prints one JSON object, which tests/web checks.
//     node SCRIPT.mjs '{"url": …, …}'
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

import puppeteer from "puppeteer-core";

export const options = JSON.parse(process.argv[2] ?? "{}");

const CHROMIUM_FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-default-apps", "--mute-audio",
];

/** Run `act(page, browser)` in a fresh browser and print what it returns. options: executable, browser, camera, profile. */
export async function inBrowser(act) {
  const profile = options.profile ?? mkdtempSync(join(tmpdir(), "numclip-browser-"));
  const firefox = options.browser === "firefox";
  const args = firefox ? ["--headless"] : [...CHROMIUM_FLAGS];
  if (!firefox && options.camera !== "none") {
    args.push("--use-fake-device-for-media-stream");
    if (options.camera !== "refused") args.push("--use-fake-ui-for-media-stream");
    if (options.clip) args.push(`--use-file-for-fake-video-capture=${options.clip}`);
  }
  const browser = await puppeteer.launch({
    browser: options.browser ?? "chrome", executablePath: options.executable, userDataDir: profile, args,
    headless: true, defaultViewport: options.viewport ?? { width: 1280, height: 860 }, protocolTimeout: 900_000,
    ...(firefox && { extraPrefsFirefox: { "media.navigator.streams.fake": true, "media.navigator.permission.disabled": true } }),
  });
  const said = [];
  try {
    const page = (await browser.pages())[0] ?? (await browser.newPage());
    page.on("console", (message) => ["error", "warn"].includes(message.type()) && said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    const result = await act(page, browser);
    process.stdout.write(JSON.stringify({ ...result, said }));
  } finally {
    await browser.close();
    if (!options.profile) rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
  }
}

/** Wait until the page's model is loaded. */
export function modelReady(page) {
  return page.waitForFunction(() => document.documentElement.dataset.model === "ready", { timeout: 60_000 });
}

/** The violations that axe finds in the current page. */
export async function axeFaults(page) {
  await page.evaluate(readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8"));
  return page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document);
    return violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, where: nodes.map((node) => node.html.slice(0, 200)) }));
  });
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
