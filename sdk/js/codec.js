// The two formats of a frame. Both have the same maps and keys; a connection keeps the one that its subprotocol names.

import { decode, encode } from "./msgpack.js";

const utf8 = new TextEncoder();

/** Format → its subprotocol, and functions from a frame to what a WebSocket sends and back. */
export const FORMATS = {
    json: {
        subprotocol: "veza.v1.json",
        encode: JSON.stringify,
        decode: (frame) => JSON.parse(frame),
        size: (encoded) => utf8.encode(encoded).length,
    },
    msgpack: {
        subprotocol: "veza.v1.msgpack",
        encode,
        decode: (frame) => decode(new Uint8Array(frame)),
        size: (encoded) => encoded.length,
    },
};
