// The client module of sdk/js, under the address that other pages use.

export * from "../sdk/js/index.js";
export * from "./msgpack.js";
