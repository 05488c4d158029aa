// How a file is shown before it is loaded, and what of it is loaded: the frame, the placeholder's colour, the smallest
// variant that is large enough. Pure.

/** Types that the server lets browsers show as pictures. */
export const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"]);
export const WIDTH_PX_MAX = 380;
const HEIGHT_PX_MAX = 300;
/** A smaller picture gets a larger frame, which can be clicked. */
const SIDE_PX_MIN = 44;
/** Sharper screens get the pixels of this one: a preview is no photo print. */
const RATIO_MAX = 2;
/** The digits of a blurhash. */
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";

/** The size in which a picture is shown: its own, at most that of the frame. */
export function frameOf({ width, height }) {
    if (!(width > 0 && height > 0)) return { width: 240, height: 180 };
    const scale = Math.min(1, WIDTH_PX_MAX / width, HEIGHT_PX_MAX / height);
    const side = (length) => Math.max(SIDE_PX_MIN, Math.round(length * scale));
    return { width: side(width), height: side(height) };
}

/** The height of a film that is as wide as a player; 16:9 if its size is unknown. */
export function filmHeightOf({ width, height }) {
    if (!(width > 0 && height > 0)) return Math.round((WIDTH_PX_MAX * 9) / 16);
    return Math.min(HEIGHT_PX_MAX, Math.max(SIDE_PX_MIN, Math.round((WIDTH_PX_MAX * height) / width)));
}

/**
 * The variant that is loaded for a frame; undefined for the file itself. An animated picture moves, unless the user
 * wants less motion (`isCalm`).
 */
export function variantFor({ variants = [], animated, media_type }, frame, { ratio = 1, isCalm = false } = {}) {
    if (animated && !isCalm && media_type?.startsWith("image/")) return undefined;
    const pictures = variants.filter((one) => one.url && one.width > 0 && one.height > 0 && isShown(one));
    pictures.sort((a, b) => a.width * a.height - b.width * b.height);
    const scale = ({ width, height }) => Math.max(width / frame.width, height / frame.height);
    const wanted = Math.min(Math.max(ratio, 1), RATIO_MAX);
    const largest = pictures.at(-1);
    return pictures.find((one) => scale(one) >= wanted) ?? (largest && scale(largest) >= 1 ? largest : undefined);
}

function isShown({ media_type }) {
    return media_type === undefined || PICTURES.has(media_type);
}

/** The average colour that a blurhash begins with (https://github.com/woltapp/blurhash), in CSS. */
export function averageColour(blurhash) {
    const digits = [...(blurhash ?? "").slice(2, 6)].map((digit) => DIGITS.indexOf(digit));
    if (digits.length < 4 || digits.includes(-1)) return "";
    const value = digits.reduce((sum, digit) => sum * 83 + digit, 0);
    return value < 1 << 24 ? `rgb(${value >> 16} ${(value >> 8) & 255} ${value & 255})` : "";
}

/** A length of sound or film: "3:05", "1:02:03". */
export function clockOf(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    const parts = [Math.floor(whole / 3_600), Math.floor(whole / 60) % 60, whole % 60];
    const shown = parts[0] > 0 ? parts : parts.slice(1);
    return shown.map((part, at) => (at === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}
