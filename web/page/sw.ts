/** The service worker: caches every file of the site, so that a second visit makes no request and works offline. */
declare const self: ServiceWorkerGlobalScope;

// `numclip web` replaces these two placeholders when it writes the site.
const VERSION = "__VERSION__";
const FILES = JSON.parse('["__FILES__"]') as string[];

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && new URL(event.request.url).origin === self.location.origin) {
    event.respondWith(answer(event.request));
  }
});

async function install(): Promise<void> {
  const cache = await caches.open(VERSION);
  // "reload" bypasses the browser's cache: an old copy must not become part of a new site.
  await Promise.all(FILES.map(async (file) => {
    const response = await fetch(new Request(file, { cache: "reload" }));
    if (!response.ok) throw new Error(`${file}: ${response.status}`);
    await cache.put(file, response);
  }));
  await self.skipWaiting();
}

async function activate(): Promise<void> {
  for (const name of await caches.keys()) if (name !== VERSION && name.startsWith("numclip-")) await caches.delete(name);
  await self.clients.claim();
}

async function answer(request: Request): Promise<Response> {
  const kept = await (await caches.open(VERSION)).match(request, { ignoreSearch: true });
  return kept ?? fetch(request);
}

export {};
