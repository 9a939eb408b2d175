/** The texts of the server's page, by language: those of the static page and its own. */
import { LANGUAGES as PAGE, type Dictionary } from "../page/words.js";

const en = {
  title: "numclip: live",
  tagline: "Age estimates from this server's sources and from your own camera",
  preview: "The source's newest picture, with a box around each face",
  opening: "Loading…",
  noSource: "This server has no sources",
  noSourceText: "You can use your own camera: press its button below.",
  tokenAsked: "This server requires a token",
  tokenOwner: "The server's owner can give it to you.",
  tokenWrong: "The token is wrong. Try again.",
  token: "Token",
  open: "Open",
  sources: "Sources",
  own: "Your camera",
  private: "Your camera's pictures are sent to this server. It does not store them or show them to anyone else.",
  dropped: "Dropped frames",
  state: "State",
  hour: "The last hour, by age",
  word: "Word",
  count: "People",
  minutes: "60 minutes",
  events: "Events",
  noEvents: "No events so far.",
  serverFault: "The server gave an unexpected response",
  connectionLost: "Connection to the server lost",
  serverLost: "The connection was lost, or too many cameras are connected. Try again.",
  states: { starting: "starting", live: "live", stalled: "stalled", ended: "ended", failed: "failed", resumed: "resumed" },
  cameraNone: ["No camera found", "Connect a camera and try again."] as [string, string],
  cameraRefused: ["Camera access is blocked", "Allow the camera for this page in the address bar, then try again."] as [string, string],
};

type Own = typeof en;

const de: Own = {
  title: "numclip: live",
  tagline: "Altersschätzung mit den Quellen dieses Servers und mit der eigenen Kamera",
  preview: "Das neueste Bild der Quelle mit Rahmen um die Gesichter",
  opening: "Wird geladen…",
  noSource: "Dieser Server hat keine Quellen",
  noSourceText: "Du kannst deine eigene Kamera benutzen: Drücke unten auf ihren Knopf.",
  tokenAsked: "Dieser Server verlangt ein Token",
  tokenOwner: "Der Betreiber des Servers kann es dir geben.",
  tokenWrong: "Das Token ist falsch. Versuche es noch einmal.",
  token: "Token",
  open: "Öffnen",
  sources: "Quellen",
  own: "Deine Kamera",
  private: "Die Bilder deiner Kamera werden an diesen Server gesendet. Er speichert sie nicht und zeigt sie niemandem.",
  dropped: "Verworfene Bilder",
  state: "Zustand",
  hour: "Die letzte Stunde, nach Alter",
  word: "Wort",
  count: "Personen",
  minutes: "60 Minuten",
  events: "Ereignisse",
  noEvents: "Bisher keine Ereignisse.",
  serverFault: "Der Server hat unerwartet geantwortet",
  connectionLost: "Verbindung zum Server verloren",
  serverLost: "Die Verbindung ging verloren, oder zu viele Kameras sind verbunden. Versuche es noch einmal.",
  states: { starting: "startet", live: "live", stalled: "stockt", ended: "beendet", failed: "ausgefallen", resumed: "läuft wieder" },
  cameraNone: ["Keine Kamera gefunden", "Schließe eine Kamera an und versuche es noch einmal."],
  cameraRefused: ["Der Kamerazugriff ist blockiert", "Erlaube die Kamera in der Adressleiste für diese Seite und versuche es noch einmal."],
};

const fr: Own = {
  title: "numclip : en direct",
  tagline: "Estimation de l’âge avec les sources de ce serveur et avec votre propre caméra",
  preview: "L’image la plus récente de la source, avec un cadre autour de chaque visage",
  opening: "Chargement…",
  noSource: "Ce serveur n’a aucune source",
  noSourceText: "Vous pouvez utiliser votre propre caméra : appuyez sur son bouton ci-dessous.",
  tokenAsked: "Ce serveur demande un jeton",
  tokenOwner: "Le propriétaire du serveur peut vous le donner.",
  tokenWrong: "Le jeton est incorrect. Réessayez.",
  token: "Jeton",
  open: "Ouvrir",
  sources: "Sources",
  own: "Votre caméra",
  private: "Les images de votre caméra sont envoyées à ce serveur. Il ne les conserve pas et ne les montre à personne d’autre.",
  dropped: "Images perdues",
  state: "État",
  hour: "La dernière heure, par âge",
  word: "Mot",
  count: "Personnes",
  minutes: "60 minutes",
  events: "Événements",
  noEvents: "Aucun événement pour l’instant.",
  serverFault: "Le serveur a donné une réponse inattendue",
  connectionLost: "Connexion au serveur perdue",
  serverLost: "La connexion a été perdue, ou trop de caméras sont connectées. Réessayez.",
  states: { starting: "démarrage", live: "en direct", stalled: "bloqué", ended: "terminé", failed: "en panne", resumed: "repris" },
  cameraNone: ["Aucune caméra", "Branchez une caméra et réessayez."],
  cameraRefused: ["L’accès à la caméra est bloqué", "Autorisez la caméra pour cette page dans la barre d’adresse, puis réessayez."],
};

export type LiveDictionary = Dictionary & Omit<Own, "cameraNone" | "cameraRefused">;

export const LANGUAGES: Readonly<Record<string, LiveDictionary>> = {
  en: together(PAGE.en, en), de: together(PAGE.de, de), fr: together(PAGE.fr, fr),
};

function together(page: Dictionary, { cameraNone, cameraRefused, ...own }: Own): LiveDictionary {
  return { ...page, ...own, problems: { ...page.problems, "camera-none": cameraNone, "camera-refused": cameraRefused } };
}
