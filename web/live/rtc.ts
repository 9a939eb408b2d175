/** The browser's camera over WebRTC: video is sent by WHIP (RFC 9725), and results arrive as server-sent events. */
import { WIDEST_PX } from "./camera.js";
import type { EventLine, SizedLine } from "./messages.js";

const OPEN_MS = 6000; // timeout for the first result
const MOST_BITS_PER_S = 2_000_000;

/** Sends a camera's video until `close`. */
export class RtcLink {
  private readonly peer = new RTCPeerConnection(); // without a STUN or TURN server
  private readonly patience: ReturnType<typeof setTimeout>;
  private session: string | null = null;
  private events: EventSource | null = null;
  private began = false;
  private over = false;

  /** ended: gets the server's reason, or "" if the connection was lost; and whether there was a result before. */
  constructor(
    stream: MediaStream,
    private readonly shown: (line: SizedLine) => void,
    private readonly ended: (reason: string, began: boolean) => void,
  ) {
    this.patience = setTimeout(() => this.end(""), OPEN_MS);
    this.open(stream).catch(() => this.end(""));
  }

  /** Stop sending. */
  close(): void {
    this.over = true;
    clearTimeout(this.patience);
    this.events?.close();
    this.peer.close();
    if (this.session !== null) void fetch(this.session, { method: "DELETE", keepalive: true }).catch(() => undefined);
    this.session = null;
  }

  private end(reason: string): void {
    if (this.over) return;
    this.close();
    this.ended(reason, this.began);
  }

  private async open(stream: MediaStream): Promise<void> {
    const [track] = stream.getVideoTracks();
    const scaleResolutionDownBy = Math.max(1, (track.getSettings().width ?? WIDEST_PX) / WIDEST_PX);
    this.peer.addTransceiver(track, {
      direction: "sendonly", streams: [stream], sendEncodings: [{ scaleResolutionDownBy, maxBitrate: MOST_BITS_PER_S }],
    });
    await this.peer.setLocalDescription();
    // The offer has no candidates: the server learns the sender's address from the arriving video.
    const init = { method: "POST", headers: { "Content-Type": "application/sdp" }, body: this.peer.localDescription?.sdp };
    const answer = await fetch("v1/camera", init);
    if (!answer.ok) return this.end(((await answer.json()) as { detail: string }).detail);
    this.session = new URL(answer.headers.get("Location") ?? "", answer.url).href;
    if (this.over) return this.close();
    await this.peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    this.events = new EventSource(`${this.session}/results`);
    this.events.onmessage = ({ data }) => this.take(JSON.parse(String(data)) as SizedLine | EventLine);
    this.events.onerror = () => this.end("");
  }

  private take(line: SizedLine | EventLine): void {
    if ("event" in line) return this.end(line.reason);
    this.began = true;
    clearTimeout(this.patience);
    this.shown(line);
  }
}
