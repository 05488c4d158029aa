// The page: what arrives from the stream is kept here (five minutes), and drawn once per event.

import { Curves, known } from "./curves.js";
import { bytes, clock, count, duration, element, time, words } from "./format.js";
import { Heat } from "./heat.js";
import { Tiles } from "./series.js";
import { Stream } from "./stream.js";

const WINDOW_NAMES = { 10: "10 s", 60: "1 min", 300: "5 min", 0: "Start" };
const WINDOW_WORDS = { 10: "last 10 seconds", 60: "last minute", 300: "last 5 minutes", 0: "since the start" };
const TABLE_PERCENTS = [50, 90, 99, 99.9, 99.99];
const SHOWN_COUNTS = 8;

const $ = (id) => document.getElementById(id);
let hello;
let views;
let samples = [];
let now;
let windowIndex = 1;
let heatStage = 0;
let startedAt;

const stream = new Stream({
    hello(event) {
        if (startedAt !== undefined && Math.abs(event.started_at - startedAt) > 2000) {
            notice(`The server restarted at ${clock(event.started_at)}`);
        }
        startedAt = event.started_at;
        hello = event;
        samples = event.history;
        now = event.now;
        $("sign-in").hidden = true;
        $("content").hidden = false;
        views ??= build();
        draw();
    },
    second(event) {
        samples.push(event.sample);
        if (samples.length > hello.seconds) samples.shift();
        now = event;
        draw();
    },
    state(state, text) {
        $("connection").dataset.state = state;
        $("connection-text").textContent = text;
        $("content").classList.toggle("stale", state === "lost");
    },
    signIn(reason) {
        $("content").hidden = true;
        $("sign-in").hidden = false;
        $("sign-in-reason").textContent = sentence(reason ?? "the figures are for administrators");
        this.state("sign-in", "Not signed in");
        $("sign-in").elements.login.focus();
    },
});

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;

let noticeEnds;
function notice(text) {
    $("connection").title = text;
    $("about").dataset.notice = text;
    clearTimeout(noticeEnds);
    noticeEnds = setTimeout(() => delete $("about").dataset.notice, 60000);
}

$("sign-in").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { login, password, token } = event.target.elements;
    if (token.value.trim()) return stream.useToken(token.value.trim());
    try {
        await stream.signIn(login.value, password.value);
        password.value = "";
    } catch (error) {
        $("sign-in-reason").textContent = sentence(error.message);
    }
});
// With a token, name and password are not needed.
$("sign-in").elements.token.addEventListener("input", ({ target }) => {
    for (const name of ["login", "password"]) $("sign-in").elements[name].required = target.value.trim() === "";
});

function segments(parent, names, chosen, choose) {
    const group = `group-${parent.id}`;
    names.forEach((name, index) => {
        const input = element("input", {
            type: "radio",
            name: group,
            id: `${group}-${index}`,
            checked: index === chosen,
        });
        input.addEventListener("change", () => choose(index));
        parent.append(input, element("label", { for: input.id }, name));
    });
}

const column = (name) => hello.shard_columns.indexOf(name);
const sum = (sample, at) => sample.shards.reduce((total, shard) => total + shard[at], 0);
const rate = (sample, name) => (sum(sample, column(name)) * 1000) / sample.ms;

/** The value below which a share of a second's messages were, to a quarter of a power of two. */
function secondPercentile(sample, stage, share) {
    const flat = sample.heat[hello.heat_stages.indexOf(stage)];
    let total = 0;
    for (let at = 1; at < flat.length; at += 2) total += flat[at];
    let left = Math.ceil(total * share);
    for (let at = 0; at < flat.length; at += 2) {
        left -= flat[at + 1];
        if (left <= 0) return hello.row_bounds_ns[flat[at]];
    }
    return undefined;
}

function build() {
    segments(
        $("windows"),
        hello.windows.map((window) => WINDOW_NAMES[window]),
        windowIndex,
        (index) => {
            windowIndex = index;
            draw();
        },
    );
    segments($("heat-stages"), hello.heat_stages.map(words), heatStage, (index) => {
        heatStage = index;
        draw();
    });
    const curves = new Curves($("curves"), hello.stages, hello.percentiles);
    hello.stages.forEach((name, stage) => {
        const box = element("input", { type: "checkbox", checked: true, id: `show-${name}`, class: `stage-${name}` });
        const row = element(
            "tr",
            { id: `stage-${name}` },
            element("th", { scope: "row" }, box, element("label", { for: box.id }, words(name))),
        );
        for (let cell = 0; cell < TABLE_PERCENTS.length + 2; cell++) row.append(element("td"));
        box.addEventListener("change", () => row.classList.toggle("off", !curves.toggle(stage)));
        $("stages").tBodies[0].append(row);
    });
    // Why most of them began: in the order of `reasons`, see docs/observability.md.
    const reasons = ["at once", "gathered", "by the second", "full"];
    const commits = (sample) => {
        if (!sample.batches[0]) return "no commits";
        const most = sample.reasons.indexOf(Math.max(...sample.reasons));
        const share =
            sample.reasons[most] /
            Math.max(
                1,
                sample.reasons.reduce((all, some) => all + some, 0),
            );
        return `${count(sample.batches[0])} commits, ${Math.round(100 * share)} % ${reasons[most]}`;
    };
    const mean = (sample) => (sample.batches[0] ? sample.batches[1] / sample.batches[0] : undefined);
    const tiles = new Tiles($("tiles"), hello.seconds, [
        { id: "acked", title: "Acknowledged", unit: "/ s", value: (s) => rate(s, "committed"), format: count },
        { id: "delivered", title: "Deliveries", unit: "/ s", value: (s) => rate(s, "delivered"), format: count },
        { id: "ack-p99", title: "Ack, P99", unit: "", value: (s) => secondPercentile(s, "ack", 0.99), format: time },
        {
            id: "delivery-p99",
            title: "Delivery, P99",
            unit: "",
            value: (s) => secondPercentile(s, "delivery", 0.99),
            format: time,
        },
        { id: "connections", title: "Connections", unit: "", value: (s) => sum(s, 0), format: count },
        { id: "opened", title: "Connections opened", unit: "/ s", value: (s) => rate(s, "opened"), format: count },
        { id: "bytes-in", title: "Received", unit: "/ s", value: (s) => rate(s, "bytes_in"), format: bytes },
        { id: "bytes-out", title: "Sent", unit: "/ s", value: (s) => rate(s, "bytes_out"), format: bytes },
        { id: "batch", title: "Messages per commit", unit: "mean", value: mean, format: count, note: commits },
        { id: "refusals", title: "Refusals", unit: "/ s", value: (s) => rate(s, "refusals"), format: count },
    ]);
    const heads = [
        "Shard",
        "Connections",
        "Acked / s",
        "Deliveries / s",
        "To other shards / s",
        "Received / s",
        "Sent / s",
        "Last turn",
    ];
    $("shards").tHead.append(element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head))));
    return { curves, tiles, heat: new Heat($("heat"), hello.seconds, hello.row_bounds_ns) };
}

function draw() {
    const failing = now.health.filter(({ ok }) => !ok);
    $("connection").dataset.state = failing.length ? "failing" : "live";
    $("connection-text").textContent = failing.length
        ? `Not ready: ${failing.map(({ name }) => name).join(", ")}`
        : "Live";
    const count = now.silences_ms.length;
    $("about").textContent =
        $("about").dataset.notice ??
        `Version ${hello.version}, up ${duration(now.uptime_ms)}, ${count} shard${count === 1 ? "" : "s"}`;
    const summaries = now.summaries[windowIndex];
    $("stages-window").textContent = WINDOW_WORDS[hello.windows[windowIndex]];
    views.tiles.draw(samples);
    views.curves.draw(summaries);
    views.heat.draw(samples, heatStage);
    drawStages(summaries);
    drawShards();
    drawHealth();
    const length = hello.windows[windowIndex];
    for (const small of document.querySelectorAll(".in-window")) small.textContent = WINDOW_WORDS[length];
    drawCounts($("errors"), hello.error_codes, "errors", length);
    drawCounts($("closed"), hello.close_reasons, "closed", length);
}

function drawStages(summaries) {
    summaries.forEach(([total, ...values], stage) => {
        const cells = $(`stage-${hello.stages[stage]}`).cells;
        TABLE_PERCENTS.forEach((percent, at) => {
            const enough = total > 0 && known(total, percent);
            cells[at + 1].textContent = enough ? time(values[hello.percentiles.indexOf(percent * 1000)]) : "–";
        });
        cells[TABLE_PERCENTS.length + 1].textContent = total > 0 ? time(values.at(-1)) : "–";
        cells[TABLE_PERCENTS.length + 2].textContent = count(total);
    });
}

function drawShards() {
    const length = hello.windows[windowIndex] || hello.seconds;
    const recent = samples.slice(-length);
    $("shards-window").textContent = `mean of the ${WINDOW_WORDS[length]}`;
    const seconds = recent.reduce((total, { ms }) => total + ms, 0) / 1000 || 1;
    const names = ["committed", "delivered", "cross_core", "bytes_in", "bytes_out"];
    const rows = now.silences_ms.map((silence, shard) => {
        const rates = names.map(
            (name) => recent.reduce((total, s) => total + s.shards[shard][column(name)], 0) / seconds,
        );
        return { figures: [recent.at(-1)?.shards[shard][0] ?? 0, ...rates], silence };
    });
    const formats = [count, count, count, count, bytes, bytes];
    const most = formats.map((_, at) => Math.max(1e-9, ...rows.map(({ figures }) => figures[at])));
    const body = rows.map(({ figures, silence }, shard) => {
        const cells = figures.map((value, at) => {
            const bar = element("span", { class: "bar" });
            bar.style.width = `${(100 * value) / most[at]}%`;
            return element("td", {}, element("span", {}, formats[at](value)), bar);
        });
        const late = silence > 1000;
        return element(
            "tr",
            {},
            element("th", { scope: "row" }, String(shard)),
            ...cells,
            element("td", { class: late ? "late" : "" }, silence < 1000 ? `${silence}\u2009ms` : duration(silence)),
        );
    });
    $("shards").tBodies[0].replaceChildren(...body);
}

function drawHealth() {
    $("health").replaceChildren(
        ...now.health.map(({ name, ok, reason }) =>
            element(
                "li",
                { "data-ok": String(ok) },
                element("span", { class: "dot", "aria-hidden": "true" }),
                element("strong", {}, words(name)),
                element("span", {}, ok ? "well" : (reason ?? "failing")),
            ),
        ),
    );
}

function drawCounts(table, names, what, length) {
    const totals = new Map();
    if (length === 0) now[what].forEach((n, at) => totals.set(at, n));
    for (const sample of length ? samples.slice(-length) : []) {
        for (const [at, n] of sample[what]) totals.set(at, (totals.get(at) ?? 0) + n);
    }
    const rows = [...totals]
        .filter(([, n]) => n > 0)
        .sort((a, b) => b[1] - a[1])
        .slice(0, SHOWN_COUNTS);
    const none = element("tr", {}, element("td", { class: "none" }, "None"));
    table.tBodies[0].replaceChildren(
        ...(rows.length === 0
            ? [none]
            : rows.map(([at, n]) =>
                  element("tr", {}, element("th", { scope: "row" }, words(names[at])), element("td", {}, count(n))),
              )),
    );
}

stream.start();
