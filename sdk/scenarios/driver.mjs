// Lets the scenario runner use the JavaScript SDK: commands as lines of JSON on standard input, reports on standard
// output. driver.py is its twin; run.py has the protocol.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { Session, VezaClient } from "../js/index.js";
import { FileStore } from "../js/node/file-store.js";

const { WebSocket } = createRequire(`${process.argv[2]}/`)("ws");

/** Characters of a text that are reported. */
const SHOWN = 40;

let client;
/** While the application is paused: resolves when it goes on. */
let pause;
let goOn;

function report(line) {
    process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** The beginning of a text; a character is a code point, as in Python. */
function shown(content = "") {
    return [...content].slice(0, SHOWN).join("");
}

const commands = {
    start({ base_url, tokens, store, format, events_max }) {
        const onTokens = (renewed) => report({ tokens: renewed });
        const session = new Session({ baseUrl: base_url, tokens, onTokens });
        client = new VezaClient({
            session,
            WebSocket,
            format,
            store: new FileStore(store),
            ...(events_max ? { eventsMax: events_max } : {}),
        });
        client.on("state", ({ name, code, reason }) => report({ state: name, code, reason }));
        client.on("gone", ({ conversation_id }) => report({ gone: conversation_id }));
        client.on("sent", ({ message, ack }) => report({ sent: message.content, seq: ack.seq }));
        client.on("refused", ({ message, error }) => report({ refused: message.content, code: error.code }));
        handle(client.events());
        client.connect();
    },
    send({ conversation_id, content }) {
        const unsent = client.unsent;
        client.send({ conversation_id, content }).catch(({ code }) => {
            if (code === "outbox_full") report({ failed: content, code });
        });
        if (client.unsent > unsent) report({ accepted: content });
    },
    async request({ tag, type, data }) {
        try {
            report({ tag, ack: await client.request(type, data) });
        } catch (error) {
            report({ tag, code: error.code });
        }
    },
    pause() {
        pause ??= new Promise((resolve) => (goOn = resolve));
    },
    go_on() {
        goOn?.();
        pause = undefined;
    },
    close() {
        client.close();
    },
};

/** The application: it handles one event after the other. */
async function handle(events) {
    for await (const { type, data } of events) {
        if (pause) await pause;
        if (type === "reset") {
            const read = [];
            for await (const message of client.history(data.conversation_id)) read.push(shown(message.content));
            report({ event: type, in: data.conversation_id, seq: data.last_seq, read });
        } else
            report({
                event: type,
                in: data.conversation_id,
                seq: data.seq,
                content: shown(data.content),
                at: data.created_at,
            });
    }
    process.exit(0);
}

for await (const line of createInterface({ input: process.stdin })) {
    const { do: name, ...data } = JSON.parse(line);
    commands[name](data);
}
