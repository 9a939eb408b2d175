/** Boxes and labels over the picture. The gate's answers differ in colour, line style and sign, so colour is not essential. */
import type { Face, FrameResult } from "../src/index.js";
import type { Dictionary } from "./words.js";

const COLOURS = { yes: "#6cb8ff", no: "#ff9d5c", ask: "#ffffff", plain: "#8ea6ff" };
const DASHES = { yes: [], no: [10, 7], ask: [2, 6], plain: [] };
export const SIGNS = { yes: "✓", no: "✕", ask: "?" };

/** Draw one result over a picture fitted into the canvas, optionally mirrored. */
export function draw(canvas: HTMLCanvasElement, result: FrameResult | null, mirrored: boolean, words: Dictionary): void {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d");
  if (context === null) return;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  if (result === null) return;
  const scale = Math.min(width / result.width, height / result.height);
  const [left, top] = [(width - result.width * scale) / 2, (height - result.height * scale) / 2];
  for (const face of result.faces) {
    const [x0, y0, x1, y1] = face.box;
    const from = mirrored ? result.width - x1 : x0;
    drawFace(context, face, left + from * scale, top + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale, words, width, height);
  }
}

function drawFace(
  context: CanvasRenderingContext2D, face: Face, x: number, y: number, w: number, h: number, words: Dictionary, right: number, bottom: number,
): void {
  const look = face.gate?.answer ?? "plain";
  const corner = Math.min(14, w / 4);
  const outline = () => {
    context.beginPath();
    context.roundRect(x, y, w, h, corner);
    context.stroke();
  };
  context.lineCap = "round";
  context.setLineDash([]);
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.lineWidth = 6;
  outline();
  context.setLineDash(DASHES[look]);
  context.strokeStyle = COLOURS[look];
  context.lineWidth = 3;
  outline();
  context.setLineDash([]);

  const [large, small] = labelOf(face, words);
  const unit = Math.min(Math.max(w / 7, 13), 20);
  const [largeFont, smallFont] = [`700 ${unit * 1.25}px system-ui, sans-serif`, `500 ${unit * 0.78}px system-ui, sans-serif`];
  context.font = largeFont;
  const largeWidth = large ? context.measureText(large).width : 0;
  context.font = smallFont;
  const wide = Math.max(largeWidth, context.measureText(small).width) + unit * 1.1;
  const tall = (large ? unit * 1.5 : 0) + unit * 1.35;
  const labelX = Math.min(Math.max(x + w / 2 - wide / 2, 4), Math.max(4, right - wide - 4));
  const below = y + h + tall + 10 < bottom ? y + h + 6 : y + 6; // below the box, or inside it, if there is no room above
  const labelY = y - tall - 6 > 4 ? y - tall - 6 : below;
  context.fillStyle = "rgb(10 12 16 / 82%)";
  context.beginPath();
  context.roundRect(labelX, labelY, wide, tall, 9);
  context.fill();
  context.textAlign = "center";
  context.textBaseline = "middle";
  if (large) {
    context.font = largeFont;
    context.fillStyle = COLOURS[look] === COLOURS.plain ? "#fff" : COLOURS[look];
    context.fillText(large, labelX + wide / 2, labelY + unit * 0.98);
  }
  context.font = smallFont;
  context.fillStyle = "#e6e9f0";
  context.fillText(small, labelX + wide / 2, labelY + tall - unit * 0.75);
}

/** A face's two lines: the value or the gate's answer, and the word or the reason. */
function labelOf(face: Face, words: Dictionary): [string, string] {
  if (face.value === null) return ["", words.reasons[face.reason ?? "waiting"]];
  const word = words.words[face.word ?? ""] ?? face.word ?? "";
  const range = face.low === null || face.high === null ? "" : `${Math.round(face.low)}–${Math.round(face.high)}`;
  if (face.gate) return [`${SIGNS[face.gate.answer]} ${words[face.gate.answer]}`, [Math.round(face.value), range].join(" · ")];
  return [String(Math.round(face.value)), [range, word].filter(Boolean).join(" · ")];
}
