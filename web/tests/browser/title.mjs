// Wait until a page sets its title. options: url
import { inBrowser, options } from "./browser.mjs";

await inBrowser(async (page) => {
  await page.goto(options.url);
  await page.waitForFunction(() => document.title !== "", { timeout: 120_000 });
  return { title: await page.title() };
});
