// The tables of a report, and the page that puts them together with the charts.
(() => {
    const {
        data,
        runs,
        many,
        visible,
        charts,
        fill,
        h,
        s,
        color,
        dot,
        three,
        micros,
        number,
        short,
        tick,
        bytes,
        chart,
        curve,
        overTime,
        line,
        latencyOverTime,
    } = report;

    const titles = [...new Map(runs.flatMap((run) => run.curves.map((one) => [one.key, one.title])))];

    const capital = (text) => text[0].toUpperCase() + text.slice(1);
    const sentences = (texts) =>
        h(
            "ul",
            {},
            texts.map((text) => h("li", {}, /[.!]$/.test(text) ? capital(text) : `${capital(text)}.`)),
        );
    function alerts() {
        const list = [];
        runs.forEach((run) => {
            const of = many ? `${run.label}: ` : "";
            if (run.violations.length > 0)
                list.push(
                    h(
                        "div",
                        { class: "alert bad", role: "alert" },
                        h("strong", {}, `${of}${run.violations_total} violations – this run failed`),
                        h(
                            "ul",
                            {},
                            run.violations.map((one) =>
                                h(
                                    "li",
                                    {},
                                    `${one.count} × ${one.meaning}`,
                                    one.samples.map((sample) => h("div", {}, h("code", {}, sample))),
                                ),
                            ),
                        ),
                    ),
                );
            const remarks = [...run.limits.map((text) => `The generator was the limit: ${text}`), ...run.notes];
            if (remarks.length > 0)
                list.push(h("div", { class: "alert warn" }, many && h("strong", {}, run.label), sentences(remarks)));
        });
        if (data.remarks.length > 0) list.push(h("div", { class: "alert warn" }, sentences(data.remarks)));
        return list;
    }

    function legend() {
        if (!many) return null;
        return h(
            "div",
            { class: "legend", role: "group", "aria-label": "Runs that the charts show" },
            runs.map((run, index) =>
                h(
                    "button",
                    {
                        type: "button",
                        "aria-pressed": "true",
                        title: `${run.system} ${run.started_at}`,
                        on: {
                            click: (event) => {
                                visible[index] = !visible[index];
                                event.currentTarget.setAttribute("aria-pressed", visible[index]);
                                charts.forEach((one) => one.draw());
                            },
                        },
                    },
                    dot(index),
                    run.label,
                ),
            ),
        );
    }

    const tiles = () =>
        h(
            "div",
            { class: "tiles" },
            data.headlines.map((row) =>
                h(
                    "section",
                    { class: "card tile" },
                    h("h3", {}, capital(row.name)),
                    many
                        ? row.cells.map(
                              (cell, run) =>
                                  cell &&
                                  h(
                                      "div",
                                      { class: "row" },
                                      dot(run),
                                      h("b", {}, cell.text),
                                      h("span", { class: `small soft ${cell.verdict}` }, cell.ratio),
                                  ),
                          )
                        : h("div", { class: "big" }, row.cells[0].text),
                ),
            ),
        );

    const heads = () => runs.map((run, index) => h("th", { scope: "col" }, many && dot(index), many ? run.label : ""));
    const scroll = (label, table) =>
        h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
    const cellOf = (cell, run) =>
        cell === null
            ? h("td", { class: "soft" }, "–", run > 0 && !data.comparison && h("span", { class: "ratio" }))
            : h(
                  "td",
                  { class: cell.best ? "best" : null },
                  cell.text,
                  cell.range && h("span", { class: "sub" }, cell.range[2]),
                  run > 0 && h("span", { class: `${cell.range ? "sub" : "ratio"} ${cell.verdict}` }, cell.ratio),
              );
    const rowOf = (row) => h("tr", {}, h("td", {}, row.name), row.cells.map(cellOf));
    const blank = () => h("th", { scope: "col" }, h("span", { class: "hidden" }, "figure"));
    // One run's figures are short lists; several runs' are one table, so that their columns stand below each other.
    const figures = () =>
        many
            ? h(
                  "section",
                  { class: "card wide stack" },
                  scroll(
                      "All figures",
                      h(
                          "table",
                          {},
                          h("thead", {}, h("tr", {}, blank(), heads())),
                          data.groups.map((group) =>
                              h(
                                  "tbody",
                                  {},
                                  h(
                                      "tr",
                                      { class: "group" },
                                      h("th", { scope: "rowgroup", colspan: runs.length + 1 }, group.title),
                                  ),
                                  group.rows.map(rowOf),
                              ),
                          ),
                      ),
                  ),
              )
            : h(
                  "div",
                  { class: "tables" },
                  data.groups.map((group) =>
                      h(
                          "section",
                          { class: "card" },
                          h("h3", {}, group.title),
                          h("table", {}, h("tbody", {}, group.rows.map(rowOf))),
                      ),
                  ),
              );

    function saturation() {
        const found = runs.map((run, index) => [run, index]).filter(([run]) => run.saturation !== null);
        if (found.length === 0) return null;
        const series = (key, name, style) =>
            found.map(([run, index]) => ({
                run: index,
                name,
                points: run.saturation.steps.map((step) => [step.planned_per_s, step[key]]),
                ...style,
            }));
        const options = { x: "linear", xText: (v) => `${short(v)}/s`, dots: true };
        return [
            h("h2", {}, "Search for the highest rate"),
            found.map(([run]) =>
                h(
                    "p",
                    { class: "soft lead" },
                    many ? `${run.label}: ` : "",
                    `${run.saturation.sustained} messages/s held`,
                    run.saturation.broke ? `; above it, ${run.saturation.broke}.` : ".",
                ),
            ),
            h(
                "div",
                { class: "charts" },
                chart(
                    "Acknowledged per second, by planned rate",
                    [],
                    { ...options, y: "zero", yText: short, value: number },
                    series("acked_per_s", "acked"),
                ),
                chart(
                    "Ack latency, by planned rate",
                    [
                        ["P99", null, 2.2],
                        ["P50", "1 4", 2],
                    ],
                    { ...options, y: "log", yText: tick, value: micros },
                    [...series("ack_p99_us", "P99", { width: 2.2 }), ...series("ack_p50_us", "P50", { dash: "1 4" })],
                ),
            ),
        ];
    }

    function comparison() {
        const found = data.comparison;
        if (!found) return null;
        const wanted = [
            "acked_per_s",
            "delivered_per_s",
            "delivered_per_cpu_s",
            "server_cpu_us_per_delivery",
            "ack_p50_us",
            "ack_p99_us",
            "delivery_p99_us",
            "server_bytes_per_connection",
        ];
        const whiskers = wanted
            .map((key) => found.rows.find((row) => row.key === key))
            .filter(Boolean)
            .map((row) => {
                const ranges = row.cells.filter(Boolean).map((cell) => cell.range),
                    max = Math.max(...ranges.map((r) => r[1])),
                    min = Math.min(...ranges.map((r) => r[0]));
                const logarithmic = min > 0 && max / min > 30;
                const place = (v) =>
                    100 *
                    (logarithmic ? Math.log(v / (min / 1.5)) / Math.log((max * 1.05) / (min / 1.5)) : v / (max * 1.05));
                return h(
                    "section",
                    { class: "card whisker" },
                    h(
                        "header",
                        {},
                        h("h3", {}, capital(row.name)),
                        h(
                            "span",
                            { class: "small soft" },
                            [
                                row.better === "higher" ? "more is better" : "less is better",
                                logarithmic ? "log scale" : "",
                            ]
                                .filter(Boolean)
                                .join(", "),
                        ),
                    ),
                    row.cells.map((cell, index) =>
                        h(
                            "div",
                            { class: "row", vars: { "--series": color(index) } },
                            h("span", { title: found.systems[index].name }, found.systems[index].name),
                            cell
                                ? h(
                                      "div",
                                      { class: "track", title: cell.range[2] },
                                      h("i", {
                                          vars: {
                                              left: `${place(cell.range[0])}%`,
                                              width: `${place(cell.range[1]) - place(cell.range[0])}%`,
                                          },
                                      }),
                                      h("b", {
                                          class: found.systems[index].durable ? "yes" : null,
                                          vars: { left: `${place(cell.value)}%` },
                                      }),
                                  )
                                : h("div", { class: "track" }),
                            h("span", {}, cell ? cell.text : "–"),
                        ),
                    ),
                );
            });
        return [
            h("h2", {}, "Systems compared"),
            h(
                "p",
                { class: "soft lead" },
                "Dots are medians of the rounds, bars reach from the lowest to the highest round. " +
                    "A filled dot: what was acknowledged survives a crash; a ring: it may not.",
            ),
            h("div", { class: "charts" }, whiskers),
        ];
    }

    function compared() {
        const found = data.comparison;
        const tag = (system) =>
            h(
                "span",
                { class: system.durable ? "tag yes" : "tag", title: `acks promise: ${system.durability}` },
                system.durable ? "durable" : `not durable: ${system.durability || "unknown"}`,
            );
        const facts = (name, of) =>
            h(
                "tr",
                {},
                h("td", {}, name),
                found.systems.map((system) => h("td", {}, of(system))),
            );
        return h(
            "section",
            { class: "card wide stack" },
            h("h3", {}, "The rounds' median, lowest–highest, and how many times the first system's"),
            scroll(
                "All figures",
                h(
                    "table",
                    {},
                    h(
                        "thead",
                        {},
                        h(
                            "tr",
                            {},
                            blank(),
                            found.systems.map((system, index) => h("th", { scope: "col" }, dot(index), system.name)),
                        ),
                    ),
                    h(
                        "tbody",
                        {},
                        facts("acknowledgements", tag),
                        facts("version", (system) => system.version || "–"),
                        facts("rounds", (system) => `${system.rounds}`),
                        found.rows.map(rowOf),
                    ),
                ),
            ),
        );
    }

    const settings = () =>
        h(
            "section",
            { class: "card wide stack settings" },
            scroll(
                "Scenario and machine",
                h(
                    "table",
                    {},
                    many && h("thead", {}, h("tr", {}, blank(), heads())),
                    h(
                        "tbody",
                        {},
                        data.settings.map((row) =>
                            h(
                                "tr",
                                { class: row.differs ? "differs" : null },
                                h("td", {}, row.name.replace(/^scenario\./, "").replace(/_/g, " ")),
                                row.values.map((value) => h("td", {}, value || "–")),
                            ),
                        ),
                    ),
                ),
            ),
        );

    const timed = [
        latencyOverTime("ack", "Ack latency over time"),
        latencyOverTime("delivery", "Delivery latency over time"),
        overTime(
            "Messages per second",
            [
                ["acknowledged", null, 2],
                ["planned", "2 4", 2],
            ],
            "zero",
            short,
            number,
            (timeline, run) => [
                ...line(run, timeline, "acked", "acked", {}),
                ...line(run, timeline, "planned", "planned", { dash: "2 4" }),
            ],
        ),
        overTime("Deliveries per second", [], "zero", short, number, (timeline, run) =>
            line(run, timeline, "delivered", "delivered", {}),
        ),
        overTime(
            "CPU, in cores",
            [
                ["server", null, 2],
                ["store", "6 4", 2],
                ["generator", "1 4", 2],
            ],
            "zero",
            short,
            three,
            (timeline, run) => [
                ...line(run, timeline, "server_cores", "server", {}),
                ...line(run, timeline, "store_cores", "store", { dash: "6 4" }),
                ...line(run, timeline, "generator_cores", "generator", { dash: "1 4" }),
            ],
        ),
        overTime(
            "Resident memory of the server",
            [],
            "binary",
            (v) => bytes(v).replace(/\.0+ /, " "),
            bytes,
            (timeline, run) => line(run, timeline, "server_rss_bytes", "", {}),
        ),
    ].filter(Boolean);
    const percentiles = titles.map(([key, title]) => curve(key, `${title}: percentiles`)).filter(Boolean);

    fill(document.getElementById("page"), { class: many ? null : "one" }, [
        h("p", { class: "over" }, data.comparison ? "Load test · comparison" : "Load test"),
        h("h1", {}, data.title),
        data.subtitle.map((text) => h("p", { class: "soft" }, text)),
        alerts(),
        legend(),
        data.comparison ? null : tiles(),
        comparison(),
        percentiles.length > 0 && [h("h2", {}, "Latency"), h("div", { class: "charts" }, percentiles)],
        saturation(),
        timed.length > 0 && [h("h2", {}, "Over time"), h("div", { class: "charts" }, timed)],
        h("h2", {}, "All figures"),
        data.comparison ? compared() : figures(),
        h("h2", {}, "Scenario and machine"),
        settings(),
        h(
            "footer",
            {},
            h(
                "p",
                {},
                "Half of all values are at most P50, 99 in 100 at most P99. In an open loop latencies count from " +
                    "the planned send time, so a server that stalls can't hide it by being sent less.",
            ),
            h("p", {}, `Made by ${data.made_by}.`),
        ),
    ]);

    const resized = new ResizeObserver((entries) => {
        for (const entry of entries) {
            const one = charts.find((candidate) => candidate.figure === entry.target),
                width = Math.round(entry.contentRect.width);
            if (one && one.width !== width) {
                one.width = width;
                one.draw();
            }
        }
    });
    charts.forEach((one) => {
        one.draw();
        resized.observe(one.figure);
    });
    document.addEventListener("keydown", (event) => {
        if (event.key === "Escape") charts.forEach((one) => one.draw());
    });
})();
