"""The browser: the TypeScript library and page in this folder, and the commands that write and serve the static site."""
