// web/upload-words.js, previews.js, scanner.js: each state and refusal has words in every language, and a preview loads
// no more than it needs.

import assert from "node:assert/strict";
import test from "node:test";
import { en } from "../../web/en.js";
import { fr } from "../../web/fr.js";
import { setLanguage } from "../../web/i18n.js";
import { averageColour, clockOf, filmHeightOf, frameOf, variantFor } from "../../web/previews.js";
import { Scanner } from "../../web/scanner.js";
import { canRetry, refusalText, said, stateText } from "../../web/upload-words.js";

globalThis.localStorage ??= { setItem() {}, getItem: () => null };
globalThis.document ??= { documentElement: {} };

/** The server's sentences, and the codes of their requests; a refusal of the check has no status. */
const REFUSALS = [
    [503, "storage_unavailable", "The server's disk is full. Nothing was lost: continue the upload later."],
    [503, "storage_unavailable", "The server's disk cannot be used now. Try again later."],
    [500, "internal", "The server has lost bytes of this file. Upload it again."],
    [413, "quota_exceeded", "Your files would take more than your share. Delete some of them."],
    [413, "quota_exceeded", "The files of this server would take more than they may. Ask an administrator."],
    [429, "rate_limited", "You have too many unfinished uploads. Finish or delete some of them."],
    [429, "rate_limited", "You have uploaded too many files within an hour. Wait a while."],
    [403, "forbidden", "This feature is switched off on this server (features.file_uploads)."],
    [undefined, "failed", "This server does not accept files of type application/zip."],
    [undefined, "failed", "The name ends with .png, but the content is application/zip, not image/png."],
    [undefined, "failed", "The file was sent as image/png, but its content is text/html."],
    [undefined, "failed", "The picture has 99999 × 9 pixels. At most 100000000 are allowed, and 65535 on a side."],
    [undefined, "failed", "The content has another SHA-256 than you gave. Upload it again."],
    [undefined, "infected", "A virus was found: Eicar-Signature."],
];

test("each refusal has its own words in every language, with what the server found", () => {
    for (const [language, texts] of Object.entries({ en, fr })) {
        setLanguage(language);
        const shown = REFUSALS.map(([status, code, message]) => refusalText({ status, code, message }, 100_000_000));
        assert.equal(new Set(shown).size, REFUSALS.length, language);
        for (const [at, text] of shown.entries()) {
            const { key } = said(REFUSALS[at][2]) ?? assert.fail(REFUSALS[at][2]);
            assert.ok(key in texts, key);
            assert.ok(!/[{}]|undefined/.test(text), text);
            if (language === "fr") assert.notEqual(text, REFUSALS[at][2]);
        }
        assert.match(shown[9], /\.png.*application\/zip/);
        assert.match(shown.at(-1), /Eicar-Signature/);
        assert.match(refusalText({ code: "too_large", status: 413, message: "size: …" }, 100_000_000), /100\sM[Bo]/);
        assert.equal(refusalText({ code: "too_large", status: 413 }, Infinity), texts.error_file_too_large);
        const unknown = { code: "failed", message: "The moon is full." };
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
    const failed = (code, message = "") => canRetry({ state: "failed", file: {}, error: { code, message } });
    assert.ok(failed("quota_exceeded") && failed("muted") && failed("storage_unavailable"));
    assert.ok(!failed("too_large") && !failed("forbidden", REFUSALS[7][2]));
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
