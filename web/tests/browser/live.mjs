// The server's page, as the visitor sees it.
// options: url, state (source, camera, login, double, change, lost), token, ms, folder and name (for the screenshot), viewport, dark, axe, clip, language,
// relay (WebRTC may use a relay alone, and there is none)
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { axeFaults, inBrowser, options, sleep } from "./browser.mjs";

const hasAge = () => /\d/.test(document.querySelector(".person .age")?.textContent ?? "");

const steps = {
  async source(page) {
    await page.waitForFunction(hasAge, { timeout: 60_000 });
    await page.waitForFunction(() => document.getElementById("preview").naturalWidth > 0, { timeout: 20_000 });
    await page.waitForFunction(() => document.querySelectorAll("#crowd tbody tr").length > 0, { timeout: 20_000 });
  },
  async camera(page) {
    await page.waitForFunction(() => document.documentElement.dataset.mode !== undefined, { timeout: 20_000 });
    await page.evaluate(measure);
    await page.click("#own");
    await page.waitForFunction(hasAge, { timeout: 60_000 });
  },
  async double(page) {
    await page.waitForFunction(() => document.documentElement.dataset.mode !== undefined, { timeout: 20_000 });
    await page.click("#own", { count: 2 });
    await page.waitForFunction(hasAge, { timeout: 60_000 });
  },
  async change(page) {
    await steps.source(page);
    await page.click("#own"); // the permission takes a second, see slowCamera
    await page.click("#sources button");
    await page.waitForFunction(() => globalThis.streams.length > 0, { timeout: 20_000 });
    await page.waitForFunction(hasAge, { timeout: 60_000 });
  },
  async lost(page) {
    const said = (text) => page.waitForFunction((t) => document.getElementById("fact-state").textContent === t, { timeout: 60_000 }, text);
    await steps.source(page);
    for (const [number, text] of ["Connection to the server lost", "live"].entries()) {
      writeFileSync(join(options.folder, `step-${number}`), ""); // the test stops the server, and starts it again
      await said(text);
      if (number > 0) await page.waitForFunction(hasAge, { timeout: 60_000 });
      else globalThis.whileLost = await page.evaluate(() => document.getElementById("people").innerText);
    }
  },
  async login(page) {
    await page.waitForSelector("#login:not([hidden])", { timeout: 20_000 });
    await page.type("#token", "not the token at all");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.getElementById("login-text").textContent.includes("is wrong"), { timeout: 20_000 });
    if (!options.token) return;
    await page.$eval("#token", (input) => (input.value = ""));
    await page.type("#token", options.token);
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.documentElement.dataset.mode !== "login", { timeout: 20_000 });
  },
};

/** In the page: when each of the camera's pictures was first on the screen, and how long after that its result was. The picture's
 * number is drawn into it as 10 squares, white for 1. */
function measure() {
  const canvas = new OffscreenCanvas(10, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const numberIn = (picture, width) => {
    const square = (16 * width) / 640;
    let number = 0;
    for (let bit = 0; bit < 10; bit++) {
      context.drawImage(picture, bit * square + square / 4, square / 4, square / 2, square / 2, 0, 0, 1, 1);
      if (context.getImageData(0, 0, 1, 1).data[1] > 127) number |= 1 << bit;
    }
    return number;
  };
  const firstMs = new Map();
  globalThis.measured = [];
  const video = document.getElementById("video");
  const look = () => {
    const now = performance.now();
    const number = numberIn(video, video.videoWidth);
    if (now - (firstMs.get(number) ?? -Infinity) > 3000) firstMs.set(number, now);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  document.addEventListener("numclip", ({ detail: { result, picture } }) => {
    if (picture === undefined) return; // over WebRTC nobody knows which picture a result is of
    const first = firstMs.get(numberIn(picture, picture.width));
    if (first !== undefined && result.faces.some(({ value }) => value !== null)) globalThis.measured.push(performance.now() - first);
  });
}

/** In the page: a visitor who takes a second to allow the camera. globalThis.streams has the opened ones. */
function slowCamera() {
  globalThis.streams = [];
  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wish) => {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const stream = await real(wish);
    globalThis.streams.push(stream);
    return stream;
  };
}

function relayAlone() {
  const Real = globalThis.RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Real {
    constructor() {
      super({ iceTransportPolicy: "relay" });
    }
  };
}

await inBrowser(async (page) => {
  if (options.dark) await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  if (options.relay) await page.evaluateOnNewDocument(relayAlone);
  if (["double", "change"].includes(options.state)) await page.evaluateOnNewDocument(slowCamera);
  await page.goto(options.url);
  if (options.language) await page.select("#language", options.language);
  await steps[options.state](page);
  await sleep(options.ms ?? 0);
  if (options.folder) await page.screenshot({ path: join(options.folder, `${options.name}.png`), fullPage: true });
  const faults = options.axe ? await axeFaults(page) : [];
  const shown = await page.evaluate(() => ({
    mode: document.documentElement.dataset.mode,
    people: [...document.querySelectorAll(".person")].map((person) => person.innerText),
    state: document.getElementById("fact-state").textContent,
    sources: [...document.querySelectorAll("#sources button")].map((button) => button.textContent),
    crowd: [...document.querySelectorAll("#crowd tbody tr")].map((row) => [row.children[0].textContent, Number(row.children[1].textContent)]),
    bars: [...document.querySelectorAll("#crowd .bars i")].filter((bar) => bar.clientHeight > 0).length,
    events: [...document.querySelectorAll("#events li")].map((item) => item.textContent),
    cookie: document.cookie,
    link: document.documentElement.dataset.link,
    language: document.documentElement.lang,
    text: document.body.innerText,
    wide: document.documentElement.scrollWidth > innerWidth,
    measured: globalThis.measured ?? [],
    open: (globalThis.streams ?? []).map((stream) => stream.active),
  }));
  return { ...shown, faults, whileLost: globalThis.whileLost };
});
