// MessagePack of sdk/js, under the address that other pages use.

export * from "../sdk/js/msgpack.js";
