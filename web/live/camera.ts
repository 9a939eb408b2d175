/** The browser's camera as a source of the server: it sends pictures over a WebSocket, the newest one whenever the server is free. */
import type { EventLine, ResultLine } from "./messages.js";

export const WIDEST_PX = 640; // maximum width of a sent picture
const QUALITY = 0.8;
const AT_A_TIME = 2; // pictures in flight: one is read while the next is sent

/** A picture in flight, and its result. */
export interface Sent {
  readonly line: ResultLine;
  readonly picture: ImageBitmap; // the sent picture; closed when the handler returns
  readonly latencyMs: number; // from the capture to the result's arrival
}

/** Sends a playing video's pictures until `close`. */
export class CameraLink {
  private readonly socket: WebSocket;
  private readonly waiting = new Map<number, { picture: ImageBitmap; capturedMs: number }>();
  private readonly canvas = document.createElement("canvas");
  private sent = 0;
  private encoding = false;
  private over = false;

  /** ended: gets the server's reason, or "" if the connection was lost. */
  constructor(
    private readonly video: HTMLVideoElement,
    private readonly shown: (sent: Sent) => void,
    private readonly ended: (reason: string) => void,
  ) {
    this.socket = new WebSocket(new URL("v1/camera", location.href.replace(/^http/, "ws")));
    this.socket.onopen = () => this.next();
    this.socket.onmessage = ({ data }) => this.take(JSON.parse(String(data)) as ResultLine | EventLine);
    this.socket.onclose = ({ reason }) => this.end(reason);
  }

  /** Stop sending. */
  close(): void {
    this.over = true;
    this.socket.close();
    this.forget(this.sent);
  }

  private end(reason: string): void {
    if (this.over) return;
    this.close();
    this.ended(reason);
  }

  private next(): void {
    if (this.over) return;
    this.video.requestVideoFrameCallback(() => {
      this.next();
      if (!this.encoding && this.waiting.size < AT_A_TIME && this.socket.readyState === WebSocket.OPEN) void this.send();
    });
  }

  private async send(): Promise<void> {
    this.encoding = true;
    const capturedMs = performance.now();
    const scale = Math.min(1, WIDEST_PX / this.video.videoWidth);
    [this.canvas.width, this.canvas.height] = [this.video.videoWidth * scale, this.video.videoHeight * scale].map(Math.round);
    this.canvas.getContext("2d")?.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    const [picture, jpeg] = await Promise.all([
      createImageBitmap(this.canvas),
      new Promise<Blob | null>((resolve) => this.canvas.toBlob(resolve, "image/jpeg", QUALITY)),
    ]);
    this.encoding = false;
    if (this.over || jpeg === null) return picture.close();
    this.waiting.set(this.sent++, { picture, capturedMs });
    this.socket.send(jpeg);
  }

  private take(line: ResultLine | EventLine): void {
    if ("event" in line) return this.end(line.reason);
    const sent = this.waiting.get(line.frame);
    if (sent !== undefined) this.shown({ line, picture: sent.picture, latencyMs: performance.now() - sent.capturedMs });
    this.forget(line.frame);
  }

  /** Results arrive in order: older pictures without one were dropped. */
  private forget(upTo: number): void {
    for (const [frame, { picture }] of this.waiting) {
      if (frame > upTo) continue;
      picture.close();
      this.waiting.delete(frame);
    }
  }
}
