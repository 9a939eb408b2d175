/** Cameras, with one clear error for each way in which there is none. */
import { NumclipError } from "./errors.js";

export interface CameraOptions {
  deviceId?: string; // one of `cameras()`
  facing?: "user" | "environment"; // front or back, where there are both
  width?: number; // px, as near as the camera can; 1280 when not given
  height?: number; // 720 when not given
}

/** Open a camera; the browser asks the visitor once. Throws NumclipError saying why there is none. */
export async function openCamera(options: CameraOptions = {}): Promise<MediaStream> {
  if (navigator.mediaDevices?.getUserMedia === undefined) {
    throw new NumclipError("insecure", "expected https or localhost, browsers give cameras only there; open the page there");
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

/** The cameras of this device; their names are known once one of them was allowed. */
export async function cameras(): Promise<MediaDeviceInfo[]> {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "videoinput");
}

function cameraError({ name, message }: DOMException): NumclipError {
  if (name === "NotFoundError" || name === "OverconstrainedError") {
    return new NumclipError("camera-none", "expected a camera, this device has none; connect one, or choose a picture");
  }
  if (name === "NotAllowedError" || name === "SecurityError") {
    return new NumclipError("camera-refused", "the camera was refused; allow it in the browser's address bar and try again");
  }
  return new NumclipError("camera-busy", `the camera does not start (${message || name}); close other programs that use it`);
}
