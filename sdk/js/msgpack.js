// The part of MessagePack that the protocol uses: maps with text keys, lists, text, bytes, numbers, booleans and nil.
//
// https://github.com/msgpack/msgpack/blob/master/spec.md. Integers are written in their shortest form, and never as
// floats, because the server distinguishes 1 from 1.0. The protocol's integers are below 2^53, so a Number holds them
// exactly. Deliberately absent: extension types (read as {extension, bytes}, never written) and BigInt.

const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true });
/** The server refuses deeper values, and the stack is finite. */
const NESTING_MAX = 64;

/** Encodes a value. Entries whose value is undefined are left out, as in JSON. */
export function encode(value) {
    const writer = new Writer();
    writer.value(value, 0);
    return writer.bytes.subarray(0, writer.length);
}

/** Decodes bytes; throws a RangeError or TypeError when they are not exactly one value. */
export function decode(bytes) {
    const reader = new Reader(bytes);
    const value = reader.value(0);
    if (reader.at !== bytes.byteLength) throw new RangeError("more bytes follow the MessagePack value");
    return value;
}

class Writer {
    bytes = new Uint8Array(256);
    view = new DataView(this.bytes.buffer);
    length = 0;

    /** Reserves `count` bytes and returns their offset. */
    room(count) {
        const at = this.length;
        this.length += count;
        if (this.length > this.bytes.length) {
            const larger = new Uint8Array(Math.max(this.length, this.bytes.length * 2));
            larger.set(this.bytes);
            this.bytes = larger;
            this.view = new DataView(larger.buffer);
        }
        return at;
    }

    byte(value) {
        const at = this.room(1);
        this.bytes[at] = value;
    }

    /** Writes a marker and a big-endian number of `size` bytes. */
    sized(marker, size, value) {
        const at = this.room(1 + size);
        this.bytes[at] = marker;
        if (size === 1) this.view.setUint8(at + 1, value);
        else if (size === 2) this.view.setUint16(at + 1, value);
        else this.view.setUint32(at + 1, value);
    }

    /** Writes a length: within `fixed` below `fixedMax`, otherwise after the marker for 8 (if any), 16 or 32 bits. */
    head(length, fixed, fixedMax, [m8, m16, m32]) {
        if (length < fixedMax) this.byte(fixed | length);
        else if (m8 && length < 0x100) this.sized(m8, 1, length);
        else if (length < 0x10000) this.sized(m16, 2, length);
        else this.sized(m32, 4, length);
    }

    raw(bytes) {
        const at = this.room(bytes.length);
        this.bytes.set(bytes, at);
    }

    value(value, depth) {
        if (depth > NESTING_MAX) throw new RangeError("nested too deeply");
        if (value === null || value === undefined) this.byte(0xc0);
        else if (value === false) this.byte(0xc2);
        else if (value === true) this.byte(0xc3);
        else if (typeof value === "number") this.number(value);
        else if (typeof value === "string") {
            const bytes = utf8.encode(value);
            this.head(bytes.length, 0xa0, 32, [0xd9, 0xda, 0xdb]);
            this.raw(bytes);
        } else if (value instanceof Uint8Array) {
            this.head(value.length, 0, 0, [0xc4, 0xc5, 0xc6]);
            this.raw(value);
        } else if (Array.isArray(value)) {
            this.head(value.length, 0x90, 16, [0, 0xdc, 0xdd]);
            for (const item of value) this.value(item, depth + 1);
        } else if (typeof value === "object") {
            const entries = Object.entries(value).filter(([, item]) => item !== undefined);
            this.head(entries.length, 0x80, 16, [0, 0xde, 0xdf]);
            for (const [key, item] of entries) {
                this.value(key, depth + 1);
                this.value(item, depth + 1);
            }
        } else throw new TypeError(`MessagePack has no ${typeof value}`);
    }

    number(value) {
        if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
            const at = this.room(9);
            this.bytes[at] = 0xcb;
            this.view.setFloat64(at + 1, value);
        } else if (value >= 0) {
            if (value < 0x80) this.byte(value);
            else if (value < 0x100) this.sized(0xcc, 1, value);
            else if (value < 0x10000) this.sized(0xcd, 2, value);
            else if (value < 0x100000000) this.sized(0xce, 4, value);
            else this.wide(0xcf, value);
        } else if (value >= -0x20) this.byte(0x100 + value);
        else if (value >= -0x80) this.sized(0xd0, 1, value);
        else if (value >= -0x8000) this.sized(0xd1, 2, value);
        else if (value >= -0x80000000) this.sized(0xd2, 4, value);
        else this.wide(0xd3, value);
    }

    wide(marker, value) {
        const at = this.room(9);
        this.bytes[at] = marker;
        this.view.setUint32(at + 1, Math.floor(value / 0x100000000)); // modulo 2^32: two's complement
        this.view.setUint32(at + 5, value >>> 0);
    }
}

class Reader {
    at = 0;

    constructor(bytes) {
        this.bytes = bytes;
        this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }

    /** Skips `count` bytes and returns their offset. */
    step(count) {
        const at = this.at;
        if (count > this.bytes.byteLength - at) throw new RangeError("the MessagePack value is cut off");
        this.at += count;
        return at;
    }

    u8 = () => this.view.getUint8(this.step(1));
    u16 = () => this.view.getUint16(this.step(2));
    u32 = () => this.view.getUint32(this.step(4));

    text(length) {
        const at = this.step(length);
        return text.decode(this.bytes.subarray(at, at + length));
    }

    binary(length) {
        const at = this.step(length);
        return this.bytes.slice(at, at + length);
    }

    list(length, depth) {
        const values = []; // not sized by the declared length, which may be a lie
        for (let n = 0; n < length; n++) values.push(this.value(depth + 1));
        return values;
    }

    map(length, depth) {
        const entries = [];
        for (let n = 0; n < length; n++) {
            const key = this.value(depth + 1);
            if (typeof key !== "string") throw new TypeError("a map's keys must be text");
            entries.push([key, this.value(depth + 1)]);
        }
        return Object.fromEntries(entries); // defines own properties, also one called __proto__
    }

    extension(length) {
        return { extension: this.view.getInt8(this.step(1)), bytes: this.binary(length) };
    }

    wide(high) {
        return high * 0x100000000 + this.u32();
    }

    value(depth) {
        if (depth > NESTING_MAX) throw new RangeError("nested too deeply");
        const marker = this.u8();
        if (marker < 0x80) return marker;
        if (marker < 0x90) return this.map(marker & 0x0f, depth);
        if (marker < 0xa0) return this.list(marker & 0x0f, depth);
        if (marker < 0xc0) return this.text(marker & 0x1f);
        if (marker >= 0xe0) return marker - 0x100;
        switch (marker) {
            case 0xc0:
                return null;
            case 0xc2:
                return false;
            case 0xc3:
                return true;
            case 0xc4:
                return this.binary(this.u8());
            case 0xc5:
                return this.binary(this.u16());
            case 0xc6:
                return this.binary(this.u32());
            case 0xc7:
                return this.extension(this.u8());
            case 0xc8:
                return this.extension(this.u16());
            case 0xc9:
                return this.extension(this.u32());
            case 0xca:
                return this.view.getFloat32(this.step(4));
            case 0xcb:
                return this.view.getFloat64(this.step(8));
            case 0xcc:
                return this.u8();
            case 0xcd:
                return this.u16();
            case 0xce:
                return this.u32();
            case 0xcf:
                return this.wide(this.u32());
            case 0xd0:
                return this.view.getInt8(this.step(1));
            case 0xd1:
                return this.view.getInt16(this.step(2));
            case 0xd2:
                return this.view.getInt32(this.step(4));
            case 0xd3:
                return this.wide(this.view.getInt32(this.step(4)));
            case 0xd4:
            case 0xd5:
            case 0xd6:
            case 0xd7:
            case 0xd8:
                return this.extension(1 << (marker - 0xd4));
            case 0xd9:
                return this.text(this.u8());
            case 0xda:
                return this.text(this.u16());
            case 0xdb:
                return this.text(this.u32());
            case 0xdc:
                return this.list(this.u16(), depth);
            case 0xdd:
                return this.list(this.u32(), depth);
            case 0xde:
                return this.map(this.u16(), depth);
            case 0xdf:
                return this.map(this.u32(), depth);
            default:
                throw new TypeError("0xc1 is no MessagePack value");
        }
    }
}
