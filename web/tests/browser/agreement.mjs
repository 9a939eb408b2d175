// Read the same frames as Python with the library. options: url, frames (number of pictures frames/N.png), fps, timesS (of the
// frames; default: evenly spaced)
import { inBrowser, options } from "./browser.mjs";

await inBrowser(async (page) => {
  await page.goto(options.url);
  return page.evaluate(async ({ frames, fps, timesS }) => {
    const { load } = await import("./numclip.js");
    const site = await (await fetch("site.json")).json();
    const runtime = { mjs: "ort-wasm-simd-threaded.mjs", wasm: "ort-wasm-simd-threaded.wasm" };
    const model = await load(site.model, { finder: site.finder, runtime, threads: 1 });
    async function* pictures() {
      for (let frame = 0; frame < frames; frame++) {
        yield { picture: await (await fetch(`frames/${frame}.png`)).blob(), timeS: timesS?.[frame] ?? frame / fps };
      }
    }
    const results = [];
    for await (const { faces } of model.stream(pictures())) {
      results.push(faces.map(({ box, track, value, low, high, fresh, reason }) => ({ box, track, value, low, high, fresh, reason })));
    }
    return { results };
  }, options);
});
