/** What the server's page says, by language: the static page's words, and its own. */
import { LANGUAGES as PAGE, type Dictionary } from "../page/words.js";

const en = {
  title: "numclip: live",
  tagline: "Ages from this server's sources, and from your own camera",
  preview: "The source's newest picture with its boxes",
  opening: "Loading…",
  noSource: "This server reads no source",
  noSourceText: "Your own camera can be one. Press its button below.",
  tokenAsked: "This server asks for a token",
  tokenOwner: "The server's owner has it.",
  tokenWrong: "That is not the token. Try again.",
  token: "Token",
  open: "Open",
  sources: "Sources",
  own: "Your camera",
  private: "Your camera's pictures go to this server. It reads them and keeps none. Nobody else sees them.",
  dropped: "Dropped frames",
  state: "State",
  hour: "The last hour, by age",
  word: "Word",
  count: "People",
  minutes: "60 minutes",
  events: "Events",
  noEvents: "None so far.",
  serverFault: "The server does not answer as expected",
  serverLost: "The connection was lost, or too many cameras are connected. Try again.",
  states: { starting: "starting", live: "live", stalled: "stalled", ended: "ended", failed: "failed", resumed: "resumed" },
  cameraNone: ["No camera found", "Connect a camera and try again."] as [string, string],
  cameraRefused: ["The camera is not allowed", "Allow the camera for this page in the address bar, then try again."] as [string, string],
};

type Own = typeof en;

const de: Own = {
  title: "numclip: live",
  tagline: "Alter aus den Quellen dieses Servers und aus der eigenen Kamera",
  preview: "Das neueste Bild der Quelle mit Rahmen um die Gesichter",
  opening: "Wird geladen…",
  noSource: "Dieser Server liest keine Quelle",
  noSourceText: "Deine eigene Kamera kann eine sein. Drücke unten auf ihren Knopf.",
  tokenAsked: "Dieser Server verlangt ein Token",
  tokenOwner: "Der Betreiber des Servers hat es.",
  tokenWrong: "Das ist nicht das Token. Versuche es noch einmal.",
  token: "Token",
  open: "Öffnen",
  sources: "Quellen",
  own: "Deine Kamera",
  private: "Die Bilder deiner Kamera gehen an diesen Server. Er liest sie und behält keines. Niemand sonst sieht sie.",
  dropped: "Verworfene Bilder",
  state: "Zustand",
  hour: "Die letzte Stunde, nach Alter",
  word: "Wort",
  count: "Personen",
  minutes: "60 Minuten",
  events: "Ereignisse",
  noEvents: "Bisher keine.",
  serverFault: "Der Server antwortet nicht wie erwartet",
  serverLost: "Die Verbindung ging verloren, oder zu viele Kameras sind verbunden. Versuche es noch einmal.",
  states: { starting: "startet", live: "live", stalled: "stockt", ended: "beendet", failed: "ausgefallen", resumed: "läuft wieder" },
  cameraNone: ["Keine Kamera gefunden", "Schließe eine Kamera an und versuche es noch einmal."],
  cameraRefused: ["Die Kamera ist nicht erlaubt", "Erlaube sie in der Adressleiste für diese Seite und versuche es noch einmal."],
};

const fr: Own = {
  title: "numclip : en direct",
  tagline: "Des âges depuis les sources de ce serveur et depuis votre propre caméra",
  preview: "L’image la plus récente de la source, avec ses cadres",
  opening: "Chargement…",
  noSource: "Ce serveur ne lit aucune source",
  noSourceText: "Votre propre caméra peut en être une. Appuyez sur son bouton ci-dessous.",
  tokenAsked: "Ce serveur demande un jeton",
  tokenOwner: "Le propriétaire du serveur le possède.",
  tokenWrong: "Ce n’est pas le jeton. Réessayez.",
  token: "Jeton",
  open: "Ouvrir",
  sources: "Sources",
  own: "Votre caméra",
  private: "Les images de votre caméra vont à ce serveur. Il les lit et n’en garde aucune. Personne d’autre ne les voit.",
  dropped: "Images perdues",
  state: "État",
  hour: "La dernière heure, par âge",
  word: "Mot",
  count: "Personnes",
  minutes: "60 minutes",
  events: "Événements",
  noEvents: "Aucun pour l’instant.",
  serverFault: "Le serveur ne répond pas comme prévu",
  serverLost: "La connexion a été perdue, ou trop de caméras sont connectées. Réessayez.",
  states: { starting: "démarrage", live: "en direct", stalled: "bloqué", ended: "terminé", failed: "en panne", resumed: "repris" },
  cameraNone: ["Aucune caméra", "Branchez une caméra et réessayez."],
  cameraRefused: ["La caméra n’est pas autorisée", "Autorisez-la pour cette page dans la barre d’adresse, puis réessayez."],
};

export type LiveDictionary = Dictionary & Omit<Own, "cameraNone" | "cameraRefused">;

export const LANGUAGES: Readonly<Record<string, LiveDictionary>> = {
  en: together(PAGE.en, en), de: together(PAGE.de, de), fr: together(PAGE.fr, fr),
};

function together(page: Dictionary, { cameraNone, cameraRefused, ...own }: Own): LiveDictionary {
  return { ...page, ...own, problems: { ...page.problems, "camera-none": cameraNone, "camera-refused": cameraRefused } };
}
