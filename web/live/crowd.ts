/** People in the last hour: a row per word with the number of people, and a bar for each five minutes. */

const MINUTES_PER_BAR = 5;

/** Show the number of people who appeared in each of the last 60 minutes, by word. words: translations by the model's word. */
export function showCrowd(
  body: HTMLElement, hour: Readonly<Record<string, readonly number[]>>, words: Readonly<Record<string, string>>,
): void {
  const rows = Object.entries(hour);
  const bars = rows.map(([, minutes]) => sums(minutes));
  const most = Math.max(1, ...bars.flat());
  while (body.children.length > rows.length) body.lastElementChild?.remove();
  while (body.children.length < rows.length) body.append(newRow());
  rows.forEach(([word], i) => {
    const [head, total, plot] = body.children[i].children as unknown as HTMLElement[];
    head.textContent = words[word] ?? word;
    total.textContent = String(bars[i].reduce((sum, many) => sum + many, 0));
    const drawn = plot.firstElementChild as HTMLElement;
    while (drawn.children.length < bars[i].length) drawn.append(document.createElement("i"));
    bars[i].forEach((many, at) => ((drawn.children[at] as HTMLElement).style.height = `${(100 * many) / most}%`));
  });
}

function sums(minutes: readonly number[]): number[] {
  const bars = Math.ceil(minutes.length / MINUTES_PER_BAR);
  return Array.from({ length: bars }, (_, i) =>
    minutes.slice(i * MINUTES_PER_BAR, (i + 1) * MINUTES_PER_BAR).reduce((sum, many) => sum + many, 0),
  );
}

function newRow(): HTMLElement {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  const plot = document.createElement("td");
  const bars = document.createElement("div");
  bars.className = "bars";
  bars.setAttribute("aria-hidden", "true");
  plot.append(bars);
  row.append(head, document.createElement("td"), plot);
  return row;
}
