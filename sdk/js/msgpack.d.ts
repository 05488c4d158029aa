/** Encodes a value as MessagePack. */
export function encode(value: unknown): Uint8Array;

/** Decodes exactly one value. */
export function decode(bytes: Uint8Array): unknown;
