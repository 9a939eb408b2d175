// A first visit, a second one, and one without a network. options: url, clip
import { inBrowser, modelReady, options, sleep } from "./browser.mjs";

await inBrowser(async (page) => {
  const client = await page.createCDPSession();
  await client.send("Network.enable");
  const asked = [];
  client.on("Network.requestWillBeSent", ({ requestId, request }) => asked.push({ requestId, url: request.url, by: "network" }));
  client.on("Network.responseReceived", ({ requestId, response }) => {
    const request = asked.find((one) => one.requestId === requestId);
    if (request && (response.fromServiceWorker || response.fromDiskCache)) request.by = "kept";
  });
  client.on("Network.requestServedFromCache", ({ requestId }) => {
    const request = asked.find((one) => one.requestId === requestId);
    if (request) request.by = "kept";
  });
  const agesIn = async () => {
    await page.click("#start");
    await page.waitForSelector(".person .word", { timeout: 60_000 });
    await page.waitForFunction(() => /\d/.test(document.querySelector(".person .age")?.textContent ?? ""), { timeout: 60_000 });
  };

  await page.goto(options.url);
  await modelReady(page);
  await page.waitForFunction(() => document.documentElement.dataset.offline === "ready", { timeout: 60_000 });
  const paintMs = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  const loaded = asked.length;
  await agesIn();
  await sleep(3000);
  const whileLive = asked.slice(loaded).map(({ url }) => url);

  asked.length = 0;
  await fetch(`${options.url}second-visit`); // a marker in the server's list of requests
  await page.goto(options.url);
  await modelReady(page);
  const started = Date.now();
  await agesIn();
  const firstAgeMs = Date.now() - started;
  const second = asked.filter(({ by, url }) => by === "network" && url.startsWith("http")).map(({ url }) => url);

  await sleep(2000);
  await fetch(`${options.url}second-visit-over`);
  await page.setOfflineMode(true);
  await page.goto(options.url);
  await modelReady(page);
  await agesIn();
  const isolated = await page.evaluate(() => crossOriginIsolated);
  return { paintMs, whileLive, second, firstAgeMs, offline: "ages", isolated };
});
