// Run the benchmark page as a person would. options: url (with its query), executable
import { inBrowser, options } from "./browser.mjs";

await inBrowser(async (page) => {
  await page.goto(options.url);
  await page.click("#measure");
  await page.waitForFunction(() => document.documentElement.dataset.bench, { timeout: 600_000 });
  return page.evaluate(() => ({
    outcome: document.documentElement.dataset.bench,
    state: document.getElementById("state").textContent,
    report: document.getElementById("report").textContent,
  }));
});
