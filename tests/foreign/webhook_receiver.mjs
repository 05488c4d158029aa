// npm's `standardwebhooks`: receives webhooks and verifies them, as webhook_receiver.py does.
// Arguments: the folder with the package.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { Webhook } = createRequire(`${process.argv[2]}/`)("standardwebhooks");
let webhook;

const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const line = { path: request.url, id: request.headers["webhook-id"] };
    try {
        line.event = webhook.verify(Buffer.concat(chunks).toString("utf8"), request.headers);
        response.statusCode = 204;
    } catch (error) {
        line.refused = String(error);
        response.statusCode = 400;
    }
    console.log(JSON.stringify(line));
    response.end();
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
createInterface({ input: process.stdin }).once("line", (secret) => {
    webhook = new Webhook(secret);
    console.log("ready");
});
