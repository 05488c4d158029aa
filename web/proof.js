// The proof of work that a registration may need: a nonce such that SHA-256 of `challenge:nonce` begins with zero bits.

/** Attempts between two pauses, in which the page can react. */
const SLICE = 4000;

/** Solves a challenge of GET /auth/register/challenge; undefined if no proof is needed. */
export async function solve({ challenge, difficulty }) {
    if (difficulty === 0) return undefined;
    const prefix = new TextEncoder().encode(`${challenge}:`);
    for (let nonce = 0; ; nonce++) {
        if (nonce % SLICE === SLICE - 1) await new Promise((done) => setTimeout(done));
        if (zeroBits(prefix, String(nonce)) >= difficulty) return { challenge, nonce: String(nonce) };
    }
}

function zeroBits(prefix, nonce) {
    const message = new Uint8Array(prefix.length + nonce.length);
    message.set(prefix);
    for (let at = 0; at < nonce.length; at++) message[prefix.length + at] = nonce.charCodeAt(at);
    const [first, second] = sha256(message);
    return first === 0 ? 32 + Math.clz32(second) : Math.clz32(first);
}

// FIPS 180-4. The browser's own SHA-256 is missing on pages without https, and answers too slowly for many short texts.
const isPrime = (n) => ![...Array(n).keys()].slice(2).some((divisor) => n % divisor === 0);
const PRIMES = [...Array(312).keys()].filter((n) => n > 1 && isPrime(n));
const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
const ROUNDS = Int32Array.from(PRIMES.slice(0, 64), (prime) => fraction(Math.cbrt(prime)));
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));

/** The digest of some bytes as eight numbers of 32 bits. */
export function sha256(message) {
    const padded = new DataView(new ArrayBuffer(((message.length + 72) >> 6) << 6));
    new Uint8Array(padded.buffer).set(message);
    padded.setUint8(message.length, 0x80);
    padded.setUint32(padded.byteLength - 4, message.length * 8);
    const hash = START.slice();
    const words = new Int32Array(64);
    const turn = (x, n) => (x >>> n) | (x << (32 - n));
    for (let block = 0; block < padded.byteLength; block += 64) {
        for (let at = 0; at < 16; at++) words[at] = padded.getInt32(block + 4 * at);
        for (let at = 16; at < 64; at++) {
            const [x, y] = [words[at - 15], words[at - 2]];
            const mixed = (turn(x, 7) ^ turn(x, 18) ^ (x >>> 3)) + (turn(y, 17) ^ turn(y, 19) ^ (y >>> 10));
            words[at] = words[at - 16] + words[at - 7] + mixed;
        }
        let [a, b, c, d, e, f, g, h] = hash;
        for (let at = 0; at < 64; at++) {
            const one = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[at] + words[at];
            const two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
        }
        [a, b, c, d, e, f, g, h].forEach((value, at) => (hash[at] += value));
    }
    return hash;
}
