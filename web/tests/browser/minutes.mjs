// Run live video for a while: frame rate, rate of the library, memory. options: url, clip, seconds, everyMs, everyFrame
import { inBrowser, modelReady, options, sleep } from "./browser.mjs";

await inBrowser(async (page) => {
  await page.goto(options.url + (options.everyFrame ? "?every-frame" : ""));
  await modelReady(page);
  const client = await page.createCDPSession();
  await client.send("Performance.enable");
  await page.evaluate(() => {
    globalThis.counts = { results: 0, looks: 0, shown: 0, faces: 0 };
    document.addEventListener("numclip", ({ detail }) => {
      counts.results += 1;
      counts.looks += detail.looks;
      counts.faces += detail.faces.length;
      (counts.times ??= []).push(detail.timesMs);
      if (counts.times.length > 500) counts.times.shift();
    });
    const video = document.getElementById("video");
    const count = () => {
      counts.shown += 1;
      video.requestVideoFrameCallback(count);
    };
    video.requestVideoFrameCallback(count);
  });
  await page.click("#start");
  await page.waitForSelector(".person", { timeout: 60_000 });
  await sleep(5000);
  const memory = async () => {
    await client.send("HeapProfiler.collectGarbage");
    const bytes = await page.evaluate(() =>
      crossOriginIsolated && performance.measureUserAgentSpecificMemory ? performance.measureUserAgentSpecificMemory().then((m) => m.bytes) : null,
    );
    return { bytes, atS: (Date.now() - started) / 1000 };
  };
  const started = Date.now();
  const before = await page.evaluate(() => ({ ...counts }));
  const memories = [];
  while (Date.now() - started < options.seconds * 1000) {
    if (options.everyMs) memories.push(await memory());
    await sleep(Math.min(options.everyMs ?? 1000, options.seconds * 1000));
  }
  const seconds = (Date.now() - started) / 1000;
  const after = await page.evaluate(() => ({ ...counts }));
  const rate = (key) => (after[key] - before[key]) / seconds;
  const mean = (key) => after.times.reduce((sum, t) => sum + t[key], 0) / after.times.length;
  return {
    seconds, picturesPerS: rate("shown"), resultsPerS: rate("results"), looksPerS: rate("looks"), facesPerS: rate("faces"),
    findMs: mean("find"), cropMs: mean("crop"), modelMs: mean("model"), memories,
    threads: await page.$eval("#fact-threads", (e) => e.textContent),
  };
});
