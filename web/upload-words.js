// What the composer says about an upload: its state, and why it was refused, in the user's language. Pure.
//
// The server gives reasons as codes with what it found (`details` of refusals, `failure` of files), and as English
// sentences. A code that is unknown here shows the sentence in English; other languages say less.

import { bytesOf, explain, language, percentOf, t } from "./i18n.js";

/** The server's codes → the keys of our sentences. */
const REASONS = {
    uploads_off: "uploads_off",
    too_many_bytes: "refusal_changed",
    user_quota: "refusal_quota_user",
    server_quota: "refusal_quota_server",
    too_many_unfinished: "refusal_unfinished",
    too_many_uploads: "refusal_hourly",
    disk_full: "refusal_disk_full",
    disk_unavailable: "refusal_disk",
    store_unavailable: "refusal_store",
    bytes_lost: "refusal_lost_bytes",
    wrong_hash: "refusal_hash",
    type_not_allowed: "refusal_type",
    wrong_extension: "refusal_extension",
    wrong_type: "refusal_declared",
    too_many_pixels: "refusal_pixels",
    unreadable_picture: "refusal_unreadable",
    implausible: "refusal_implausible",
    virus_found: "refusal_virus",
    unscannable: "refusal_unscannable",
};
/** How an upload ends → the key of its text, if the server gives no reason. */
const ENDS = { infected: "upload_infected", expired: "upload_expired", failed: "upload_failed" };
/** Refusals that another attempt does not change. */
const FINAL = new Set(["too_large", "uploads_off"]);

/** The sentence for the reason that the server gives; nothing if it gives none that is known here. */
export function reasonText({ details }) {
    const known = REASONS[details?.reason];
    return known && t(known, { ...details, found: details.media_type, declared: details.declared_type });
}

/** Why an upload fails or waits. `sizeMax`: bytes that the server accepts in one file. */
export function refusalText(error, sizeMax) {
    const { code, message, status } = error;
    const known = reasonText(error);
    if (known) return known;
    if (code === "too_large" && Number.isFinite(sizeMax)) return t("refusal_too_large", { max: bytesOf(sizeMax) });
    if (code === "too_large") return t("error_file_too_large");
    if (status !== undefined) return explain(error);
    return (language() === "en" && message) || t(ENDS[code] ?? "upload_failed");
}

/** Whether a failed upload can be tried again. */
export function canRetry({ state, file, error }) {
    return state === "failed" && file !== undefined && !FINAL.has(error.details?.reason ?? error.code);
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
