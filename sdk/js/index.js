// A client of Veza Chat for pages and programs: it connects, reconnects, resumes, sends, and emits events in order.
//
//     import { Session, VezaClient } from "veza-client";
//     const session = await Session.signIn({ baseUrl, credentials: { login, password } });
//     const client = new VezaClient({ session });
//     client.connect();
//     await client.send({ conversation_id: "room_6", content: "Hello" });
//     for await (const { type, data } of client.events()) …
//
// docs/client-protocol.md has the rules that it follows; README.md beside this file has its interface.

export { VezaClient } from "./client.js";
export { CLOSE_CODES, ERROR_CODES, RETRIED } from "./codes.js";
export { VezaError, newKey } from "./errors.js";
export { Session } from "./session.js";
export { Journal, JournalStore, LocalStore } from "./store.js";
