// Build the outputs of this folder: dist/lib (the npm package), dist/site (the static page, to which `numclip web` adds model
// files), and ../server/dist/page (the page of `numclip serve`). Run: node build.mjs
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const runtime = join(dirname(createRequire(import.meta.url).resolve("onnxruntime-web/wasm")));
const common = { bundle: true, format: "esm", target: "es2022", charset: "utf8", logLevel: "warning", absWorkingDir: here };

rmSync(join(here, "dist"), { recursive: true, force: true });

// The package: the worker imports onnxruntime-web, which the user's bundler resolves.
const lib = join(here, "dist/lib");
await build({
  ...common, entryPoints: { index: "src/index.ts", worker: "src/worker.ts" }, outdir: lib,
  external: ["onnxruntime-web", "onnxruntime-web/*"],
});
const tsc = [join(here, "node_modules/typescript/bin/tsc"), "-p", join(here, "tsconfig.lib.json")];
execFileSync(process.execPath, tsc, { stdio: "inherit" });

// The page: a few bundled files. onnxruntime-web's two files are not bundled, because its threads start from them.
const site = join(here, "dist/site");
const paged = { ...common, minify: true, outdir: site, conditions: ["onnxruntime-web-use-extern-wasm"] };
await build({ ...paged, splitting: true, chunkNames: "shared", entryPoints: { app: "page/main.ts", bench: "bench/bench.ts", numclip: "src/index.ts" } });
await build({ ...paged, entryPoints: { worker: "src/worker.ts" } });
await build({ ...common, format: "iife", outdir: site, entryPoints: { sw: "page/sw.ts" } });
cpSync(join(here, "page/static"), site, { recursive: true });
for (const file of ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]) {
  copyFileSync(join(runtime, file), join(site, file));
}

// The page of `numclip serve`, in the server's folder, so that it ships with the server; it shares design and code.
const live = join(here, "../server/dist/page");
rmSync(join(here, "../server/dist"), { recursive: true, force: true });
await build({ ...common, minify: true, outdir: live, entryPoints: { live: "live/main.ts" } });
cpSync(join(here, "live/static"), live, { recursive: true });
for (const file of ["app.css", "icon.svg"]) copyFileSync(join(here, "page/static", file), join(live, file));
console.log(`dist/lib, dist/site and the server's page (app.js ${(statSync(join(site, "app.js")).size / 1e3).toFixed(0)} kB)`);
