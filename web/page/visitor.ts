/** The visitor's language and theme on both pages: at first those of the browser, then the chosen ones, which are remembered. */

/** Fields that every dictionary has. */
interface Titled {
  readonly name: string; // the language's own name
  readonly title: string; // the page's title
}

/** Write the page in the visitor's language, now and after each choice. Elements name their text by `data-t` and their label by
 * `data-t-label`. changed: gets the words, for texts that the page writes itself. */
export function setUpLanguage<D extends Titled>(dictionaries: Readonly<Record<string, D>>, changed: (words: D) => void): void {
  const offered = Object.keys(dictionaries);
  let language = languageOf([remembered("language") ?? "", ...navigator.languages], offered);
  const list = document.getElementById("language") as HTMLSelectElement;
  for (const [tag, { name }] of Object.entries(dictionaries)) list.append(new Option(name, tag, false, tag === language));
  const write = () => {
    const words = dictionaries[language];
    const sentences = words as unknown as Record<string, string>;
    document.documentElement.lang = language;
    document.title = words.title;
    for (const element of document.querySelectorAll<HTMLElement>("[data-t]")) {
      element.textContent = sentences[element.dataset.t ?? ""];
    }
    for (const element of document.querySelectorAll<HTMLElement>("[data-t-label]")) {
      element.setAttribute("aria-label", sentences[element.dataset.tLabel ?? ""]);
    }
    changed(words);
  };
  list.onchange = () => {
    language = list.value;
    remember("language", language);
    write();
  };
  write();
}

/** Set up the button for the light or dark theme. */
export function setUpTheme(): void {
  const root = document.documentElement;
  const chosen = remembered("theme");
  if (chosen) root.dataset.theme = chosen;
  (document.getElementById("theme") as HTMLElement).onclick = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember("theme", root.dataset.theme);
  };
}

/** The first preferred language that is offered, else English. */
export function languageOf(wanted: readonly string[], offered: readonly string[]): string {
  return wanted.map((tag) => tag.split("-")[0].toLowerCase()).find((tag) => offered.includes(tag)) ?? "en";
}

function remembered(key: string): string | null {
  try {
    return localStorage.getItem(`numclip.${key}`);
  } catch {
    return null; // storage may be forbidden; then nothing is remembered
  }
}

function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`numclip.${key}`, value);
  } catch {
    return;
  }
}
