// What a text that begins with / means.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Commands, addressed, matching, parse } from "../../web/slash.js";

const COMMANDS = [
    { name: "weather", bot: { username: "sky" } },
    { name: "weather", bot: { username: "sun" } },
    { name: "web", bot: { username: "net" } },
];

test("a slash begins a command, and two a message", () => {
    assert.deepEqual(parse("/weather Lyon tomorrow"), { command: "weather", text: "Lyon tomorrow" });
    assert.deepEqual(parse("/weather@sky"), { command: "weather@sky", text: "" });
    assert.deepEqual(parse("/note one\ntwo"), { command: "note", text: "one\ntwo" });
    assert.deepEqual(parse("//weather"), { text: "/weather" });
    for (const text of ["/etc/hosts", "/", "/ x", "/Weather", "a /weather", "/é"]) {
        assert.deepEqual(parse(text), { text });
    }
});

test("completes the beginning of a command only", () => {
    assert.deepEqual(
        matching(COMMANDS, "/we").map(({ bot }) => bot.username),
        ["sky", "sun", "net"],
    );
    assert.deepEqual(matching(COMMANDS, "/web").length, 1);
    for (const before of ["", "we", "x /we", "/we ", "//we"]) assert.deepEqual(matching(COMMANDS, before), []);
});

test("names the bot where two have the same command", () => {
    assert.equal(addressed(COMMANDS, COMMANDS[1]), "/weather@sun");
    assert.equal(addressed(COMMANDS, COMMANDS[2]), "/web");
});

test("asks for the commands of a conversation once in a while", async () => {
    let asked = 0;
    const request = async () => {
        asked++;
        if (asked === 1) throw new Error("no connection");
        return { commands: COMMANDS };
    };
    const commands = new Commands({ request });
    assert.deepEqual(await commands.of("room_6", 0), []);
    assert.deepEqual(await commands.of("room_6", 29_999), []);
    assert.deepEqual(await commands.of("room_6", 30_000), COMMANDS);
    assert.equal(asked, 2);
});
