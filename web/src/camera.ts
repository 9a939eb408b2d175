/** Cameras, with a separate error for each reason why there is none. */
import { NumclipError } from "./errors.js";

export interface CameraOptions {
  deviceId?: string; // one of `cameras()`
  facing?: "user" | "environment"; // front or back camera, if there are both
  width?: number; // px, as close as the camera supports; default 1280
  height?: number; // px; default 720
}

/** Open a camera; the browser asks the visitor for permission. Throws NumclipError with the reason if that fails. */
export async function openCamera(options: CameraOptions = {}): Promise<MediaStream> {
  if (navigator.mediaDevices?.getUserMedia === undefined) {
    throw new NumclipError("insecure", "expected a page on https or localhost, because browsers allow cameras only there; open the page at such an address");
  }
  const { deviceId, facing, width = 1280, height = 720 } = options;
  const video: MediaTrackConstraints = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } };
  if (deviceId) video.deviceId = { exact: deviceId };
  else if (facing) video.facingMode = { ideal: facing };
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw cameraError(error as DOMException);
  }
}

/** List the cameras of this device; browsers show their names only after the visitor has allowed one. */
export async function cameras(): Promise<MediaDeviceInfo[]> {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "videoinput");
}

function cameraError({ name, message }: DOMException): NumclipError {
  if (name === "NotFoundError" || name === "OverconstrainedError") {
    return new NumclipError("camera-none", "expected a camera, found none; connect one, or choose a picture");
  }
  if (name === "NotAllowedError" || name === "SecurityError") {
    return new NumclipError("camera-refused", "camera access was denied; allow it in the browser's address bar and try again");
  }
  return new NumclipError("camera-busy", `the camera does not start (${message || name}); close other programs that use it`);
}
