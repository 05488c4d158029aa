// What the composer says about an upload: its state, and why it was refused, in the user's language. Pure.
//
// The server gives reasons as English sentences. Those that are known here are replaced by ours, so that every language
// has them. An unknown one is shown as it is in English; other languages say less.

import { bytesOf, explain, language, percentOf, t } from "./i18n.js";

/** Beginnings of the server's sentences → the key of ours. Named groups become values. */
const SAID = [
    [/^The server's disk is full\b/, "refusal_disk_full"],
    [/^The server's disk cannot be used\b/, "refusal_disk"],
    [/^The server has lost bytes\b/, "refusal_lost_bytes"],
    [/^Your files would take more\b/, "refusal_quota_user"],
    [/^The files of this server would take more\b/, "refusal_quota_server"],
    [/^You have too many unfinished uploads\b/, "refusal_unfinished"],
    [/^You have uploaded too many files\b/, "refusal_hourly"],
    [/\bfeatures\.file_uploads\b/, "uploads_off"],
    [/^This server does not accept files of type (?<found>\S+)\.$/, "refusal_type"],
    [/^The name ends with \.(?<extension>\S+), but the content is (?<found>\S+), not \S+$/, "refusal_extension"],
    [/^The file was sent as (?<declared>.+), but its content is (?<found>\S+)\.$/, "refusal_declared"],
    [/^The picture has (?<width>\d+) × (?<height>\d+) pixels\b/, "refusal_pixels"],
    [/^The content has another SHA-256\b/, "refusal_hash"],
    [/^A virus was found: (?<virus>.+)\.$/, "refusal_virus"],
];
/** How an upload ends → the key of its text, if the server gives no reason. */
const ENDS = { infected: "upload_infected", expired: "upload_expired", failed: "upload_failed" };
/** Refusals that another attempt does not change. */
const FINAL = new Set(["too_large", "uploads_off"]);

/** The key of our sentence for the server's, and its values. */
export function said(message = "") {
    for (const [pattern, key] of SAID) {
        const found = pattern.exec(message);
        if (found) return { key, values: found.groups ?? {} };
    }
    return undefined;
}

/** Why an upload fails or waits. `sizeMax`: bytes that the server accepts in one file. */
export function refusalText(error, sizeMax) {
    const { code, message, status } = error;
    if (code === "too_large" && Number.isFinite(sizeMax)) return t("refusal_too_large", { max: bytesOf(sizeMax) });
    if (code === "too_large") return t("error_file_too_large");
    const known = said(message);
    if (known) return t(known.key, known.values);
    if (status !== undefined) return explain(error);
    return (language() === "en" && message) || t(ENDS[code] ?? "upload_failed");
}

/** Whether a failed upload can be tried again. */
export function canRetry({ state, file, error }) {
    return (
        state === "failed" && file !== undefined && !FINAL.has(error.code) && said(error.message)?.key !== "uploads_off"
    );
}

export function shareOf({ sent, size }) {
    return size === 0 ? 0 : sent / size;
}

/** The state of an upload in words. `scanner`: see scanner.js. */
export function stateText(upload, { sizeMax, scanner }) {
    const { state, size, error } = upload;
    const values = { size: bytesOf(size), percent: percentOf(Math.floor(shareOf(upload) * 100) / 100) };
    if (state === "failed") return refusalText(error, sizeMax);
    if (state === "retrying" && error.status === 0) return t("upload_offline", values);
    if (state === "retrying") return t("upload_retrying", { ...values, why: refusalText(error, sizeMax) });
    if (state === "checking" && scanner === "failing") return t("upload_scanner_fails");
    return t(`upload_${state}`, values);
}
