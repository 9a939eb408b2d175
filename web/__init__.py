"""numclip in the browser: the TypeScript library and page, and the functions that write and serve the static site."""
