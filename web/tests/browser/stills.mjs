// Read still pictures with the library, with a gate. options: url, pictures (number of frames/N.png), gate
import { inBrowser, options } from "./browser.mjs";

await inBrowser(async (page) => {
  await page.goto(options.url);
  return page.evaluate(async ({ pictures, gate }) => {
    const { load } = await import("./numclip.js");
    const site = await (await fetch("site.json")).json();
    const runtime = { mjs: "ort-wasm-simd-threaded.mjs", wasm: "ort-wasm-simd-threaded.wasm" };
    const model = await load(site.model, { finder: site.finder, runtime });
    const results = [];
    for (let n = 0; n < pictures; n++) {
      const { faces } = await model.read(await (await fetch(`frames/${n}.png`)).blob(), { gate });
      results.push(faces.map(({ box, value, low, high, reason, gate }) => ({ box, value, low, high, reason, answer: gate?.answer ?? null, p: gate?.p ?? null })));
    }
    return { results };
  }, options);
});
