/** The service worker: keeps every file of the site, so that a second visit asks nobody, and no network is needed. */
declare const self: ServiceWorkerGlobalScope;

// `numclip web` writes these two when it writes the site.
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
  // "reload" asks the host itself: an old copy in the browser's cache must not become part of a new site.
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
