// The compiler reads this file in a test: the types fit what an application writes. It is not part of the package.

import { Session, VezaClient, type Message } from "./index.js";
import { FileStore } from "./node/file-store.js";

const credentials = { login: "ada", password: "correct-horse-ada" };
const session = await Session.signIn({ baseUrl: "http://127.0.0.1:8080", credentials });
const client = new VezaClient({ session, store: new FileStore("/tmp/ada.jsonl") });
client.on("state", (state) => state.name === "waiting" && console.log(state.retryAt));
client.on("refused", ({ message, error }) => console.log(message.client_message_id, error.code));
const events = client.events();
client.connect();
const { conversation } = await client.request("create_conversation", { kind: "public_room", name: "lobby" });
const ack = await client.send({ conversation_id: conversation.id, content: "Hello" });
const seq: number = ack.seq;
for await (const event of events) {
    if (event.type === "message_created") {
        const message: Message = event.data;
        console.log(message.sender.username, message.content, message.reactions[0]?.count, seq);
    } else if (event.type === "reset") {
        for await (const message of client.history(event.data.conversation_id)) console.log(message.seq);
    }
}
// @ts-expect-error a kind that does not exist
await client.request("create_conversation", { kind: "club" });
// @ts-expect-error a command that does not exist
await client.request("send_letter", {});
// @ts-expect-error a field is missing
await client.send({ content: "Hello" });
