// web/upload-words.js, previews.js, scanner.js: each state and refusal has words in every language, and a preview loads
// no more than it needs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { en } from "../../web/en.js";
import { fr } from "../../web/fr.js";
import { setLanguage } from "../../web/i18n.js";
import { averageColour, clockOf, filmHeightOf, frameOf, variantFor } from "../../web/previews.js";
import { Scanner } from "../../web/scanner.js";
import { canRetry, refusalText, stateText } from "../../web/upload-words.js";

globalThis.localStorage ??= { setItem() {}, getItem: () => null };
globalThis.document ??= { documentElement: {} };

/** The codes that the server documents. */
const DOCUMENTED = readFileSync(new URL("../../docs/openapi.yaml", import.meta.url), "utf8")
    .match(/^    FileReason:\n(?:.*\n)*?      enum:\n((?: +- .*\n)+)/m)[1]
    .match(/\w+/g);
/** What the server says beside its codes. */
const FOUND = {
    media_type: "application/zip",
    extension: "png",
    declared_type: "image/x-odd",
    width: 99_999,
    height: 9,
    virus: "Eicar-Signature",
};

test("each refusal has its own words in every language, with what the server found", () => {
    assert.ok(DOCUMENTED.length >= 20);
    for (const [language, texts] of Object.entries({ en, fr })) {
        setLanguage(language);
        const shown = DOCUMENTED.map((reason) => {
            const code = reason === "too_large" ? reason : "failed"; // also refused without asking the server
            return refusalText({ code, message: "The moon is full.", details: { ...FOUND, reason } }, 100_000_000);
        });
        assert.equal(new Set(shown).size, DOCUMENTED.length, language);
        for (const text of shown) assert.ok(!/[{}]|undefined|moon/.test(text) && text !== texts.upload_failed, text);
        const of = (reason) => shown[DOCUMENTED.indexOf(reason)];
        assert.match(of("wrong_extension"), /\.png.*application\/zip/);
        assert.match(of("wrong_type"), /image\/x-odd.*application\/zip/);
        assert.match(of("too_many_pixels"), /99999 × 9/);
        assert.match(of("virus_found"), /Eicar-Signature/);
        assert.match(of("too_large"), /100\sM[Bo]/);
        assert.equal(refusalText({ code: "too_large", status: 413 }, Infinity), texts.error_file_too_large);
        const unknown = { code: "failed", message: "The moon is full.", details: { reason: "full_moon" } };
        assert.equal(refusalText(unknown), language === "en" ? "The moon is full." : texts.upload_failed);
        assert.equal(refusalText({ code: "expired" }), texts.upload_expired);
        assert.equal(refusalText({ code: "infected" }), texts.upload_infected);
        for (const code of ["muted", "not_member", "unreachable"])
            assert.equal(
                refusalText({ code, status: code === "unreachable" ? 0 : 403, message: texts[`error_${code}`] }),
                texts[`error_${code}`],
            );
    }
    setLanguage("en");
});

test("each state of an upload has words in every language", () => {
    const states = ["waiting", "restoring", "running", "retrying", "paused", "checking", "ready", "lost", "failed"];
    const error = { code: "unreachable", status: 0, message: "away" };
    for (const language of ["en", "fr"]) {
        setLanguage(language);
        const about = { sizeMax: 9, scanner: undefined };
        const shown = states.map((state) => stateText({ state, size: 200, sent: 100, error }, about));
        assert.equal(new Set(shown).size, states.length);
        assert.ok(
            shown.every((text) => text.length > 5 && !/[{}]|upload_/.test(text)),
            shown.join("\n"),
        );
        const waits = stateText({ state: "checking", size: 1, sent: 1 }, { ...about, scanner: "failing" });
        assert.equal(waits, (language === "en" ? en : fr).upload_scanner_fails);
    }
    setLanguage("en");
});

test("only what another attempt can change is offered again", () => {
    const failed = (code, reason) => canRetry({ state: "failed", file: {}, error: { code, details: { reason } } });
    assert.ok(failed("quota_exceeded", "user_quota") && failed("muted") && failed("storage_unavailable", "disk_full"));
    assert.ok(!failed("too_large") && !failed("too_large", "too_large") && !failed("forbidden", "uploads_off"));
    assert.ok(!canRetry({ state: "failed", file: undefined, error: { code: "muted" } }));
    assert.ok(!canRetry({ state: "running", file: {} }));
});

const variant = (kind, width, height, media_type = "image/webp") => ({
    kind,
    url: `/v/${kind}`,
    width,
    height,
    media_type,
});

test("a preview loads the smallest variant that is large enough", () => {
    const variants = [
        variant("thumb_large", 1200, 800),
        variant("thumb_small", 360, 240),
        variant("odd", 900, 600, "image/tiff"),
    ];
    const file = { media_type: "image/jpeg", width: 6000, height: 4000, variants };
    const kind = (frame, options) => variantFor(file, frame, options)?.kind;
    assert.equal(kind({ width: 300, height: 200 }), "thumb_small");
    assert.equal(kind(frameOf(file)), "thumb_large");
    assert.equal(kind(frameOf(file), { ratio: 4 }), "thumb_large", "more than two pixels a point are not loaded");
    assert.equal(
        kind({ width: 900, height: 600 }, { ratio: 2 }),
        "thumb_large",
        "large enough without extra sharpness",
    );
    assert.equal(kind({ width: 2000, height: 1500 }), undefined);
    assert.equal(variantFor({ media_type: "image/png" }, frameOf({})), undefined);
    assert.equal(variantFor({ media_type: "image/png", variants: [{ kind: "x", url: "/x" }] }, frameOf({})), undefined);
});

test("an animated picture moves unless the user wants less motion", () => {
    const file = { media_type: "image/gif", animated: true, variants: [variant("still", 400, 300)] };
    const frame = { width: 300, height: 225 };
    assert.equal(variantFor(file, frame), undefined);
    assert.equal(variantFor(file, frame, { isCalm: true }).kind, "still");
    assert.equal(variantFor({ ...file, media_type: "video/mp4" }, frame).kind, "still", "a film has its still");
});

test("frames keep the shape of their files", () => {
    assert.deepEqual(frameOf({ width: 900, height: 1600 }), { width: 169, height: 300 });
    assert.deepEqual(frameOf({ width: 20, height: 10 }), { width: 44, height: 44 });
    assert.deepEqual(frameOf({}), { width: 240, height: 180 });
    assert.deepEqual([{}, { width: 1920, height: 1080 }, { width: 9, height: 16 }].map(filmHeightOf), [214, 214, 300]);
});

test("a blurhash begins with its average colour", () => {
    // Digits 2 to 5 are the colour, in base 83: 16744448 = 29·83³ + 23·83² + 50·83 + 28 = 0xff8000.
    assert.equal(averageColour("LETNoS~~~~~~"), "rgb(255 128 0)");
    assert.equal(averageColour("000000"), "rgb(0 0 0)");
    assert.equal(averageColour("00~~~~"), "", "no colour");
    for (const wrong of [undefined, "", "L", "LEH", "LE H 6n"]) assert.equal(averageColour(wrong), "");
});

test("lengths are hours, minutes and seconds", () => {
    assert.deepEqual([0.4, 59.6, 185, 3_723].map(clockOf), ["0:00", "1:00", "3:05", "1:02:03"]);
});

test("the scanner is asked for once in a while, and unknown to those who may not see it", async () => {
    let [asked, changes] = [0, 0];
    let report = { status: "ok", checks: { antivirus: { status: "off" } } };
    const session = {
        request: async (method, path) => {
            assert.deepEqual([method, path], ["GET", "health"]);
            asked++;
            if (!report) throw new Error("unavailable");
            return report;
        },
    };
    const scanner = new Scanner(session, () => changes++);
    await scanner.look(1_000);
    await scanner.look(2_000);
    assert.deepEqual([scanner.state, asked, changes], ["off", 1, 1]);
    report = { status: "ok" };
    await scanner.look(100_000);
    assert.deepEqual([scanner.state, asked, changes], [undefined, 2, 2]);
    report = undefined;
    await scanner.look(200_000);
    assert.deepEqual([scanner.state, asked, changes], [undefined, 3, 2]);
});
