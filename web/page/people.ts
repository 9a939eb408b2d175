/** The list of faces next to the picture, and its text for screen readers. */
import type { Face } from "../src/index.js";
import { SIGNS } from "./overlay.js";
import { type Dictionary, fill } from "./words.js";

/** Show the faces as a list; elements are reused for the next result. edges: bin edges of the task. */
export function showPeople(list: HTMLElement, faces: readonly Face[], words: Dictionary, edges: readonly number[]): void {
  while (list.children.length > faces.length) list.lastElementChild?.remove();
  while (list.children.length < faces.length) list.append(newPerson(edges));
  faces.forEach((face, i) => showPerson(list.children[i] as HTMLElement, face, words, edges));
}

function newPerson(edges: readonly number[]): HTMLElement {
  const item = part("li", "person");
  const text = part("div", "text");
  text.append(part("div", "word"), part("div", "range"));
  const scale = part("div", "scale");
  scale.setAttribute("aria-hidden", "true");
  scale.append(part("i", "band"), part("i", "dot"));
  const [low, high] = [edges[0], edges[edges.length - 1]];
  for (let at = low; at <= high; at += (high - low) / 5) {
    const tick = part("small", "tick");
    tick.textContent = String(Math.round(at));
    tick.style.left = `${(100 * (at - low)) / (high - low)}%`;
    scale.append(tick);
  }
  item.append(part("div", "age"), text, part("span", "chip"), scale);
  return item;
}

function part(tag: string, name: string): HTMLElement {
  const element = document.createElement(tag);
  element.className = name;
  return element;
}

function showPerson(item: HTMLElement, face: Face, words: Dictionary, edges: readonly number[]): void {
  const [age, text, chip, scale] = item.children as unknown as HTMLElement[];
  const [word, range] = text.children as unknown as HTMLElement[];
  set(age, face.value === null ? "–" : String(Math.round(face.value)));
  set(word, face.value === null ? words.reasons[face.reason ?? "waiting"] : translated(face, words));
  set(range, face.low === null || face.high === null ? "" : fill(words.between, endsOf(face)));
  chip.hidden = face.gate === null;
  if (face.gate) {
    chip.className = `chip ${face.gate.answer}`;
    set(chip, `${SIGNS[face.gate.answer]} ${words[face.gate.answer]}`);
  }
  scale.hidden = face.value === null;
  const [low, high] = [edges[0], edges[edges.length - 1]];
  const place = (value: number) => `${(100 * (Math.min(Math.max(value, low), high) - low)) / (high - low)}%`;
  const [band, dot] = scale.children as unknown as HTMLElement[];
  band.hidden = face.low === null;
  band.style.left = place(face.low ?? 0);
  band.style.right = `calc(100% - ${place(face.high ?? 0)})`;
  dot.style.left = place(face.value ?? 0);
}

/** The text of a result for screen readers. */
export function summary(faces: readonly Face[], words: Dictionary): string {
  if (faces.length === 0) return words.noFace;
  const head = faces.length === 1 ? words.oneFace : fill(words.faces, { n: faces.length });
  return head + faces.map((face) => {
    if (face.value === null) return words.reasons[face.reason ?? "waiting"];
    const ends = face.low === null ? { low: "?", high: "?" } : endsOf(face);
    const said = fill(words.spoken, { age: Math.round(face.value), word: translated(face, words), ...ends });
    return face.gate ? `${words[face.gate.answer]}, ${said}` : said;
  }).join("; ");
}

function translated(face: Face, words: Dictionary): string {
  return words.words[face.word ?? ""] ?? face.word ?? "";
}

function endsOf(face: Face): { low: number; high: number; level: number } {
  return { low: Math.round(face.low ?? 0), high: Math.round(face.high ?? 0), level: Math.round(100 * (face.level ?? 0)) };
}

function set(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
