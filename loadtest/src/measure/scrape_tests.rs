//! Differences of pages as the server writes them.

use super::*;
use std::fmt::Write;

fn page(scale: u64) -> String {
    let mut text = String::from(
        "# HELP chat_server_commit_batch_mutations Mutations in one commit.\n\
         # TYPE chat_server_commit_batch_mutations histogram\n",
    );
    for (shard, share) in [(0, 1), (1, 3)] {
        let count = |cumulative: u64| cumulative * share * scale;
        for (bound, cumulative) in [("1", 10), ("8", 50), ("64", 99), ("+Inf", 100)] {
            writeln!(text, "{BATCH_SIZE}_bucket{{shard=\"{shard}\",le=\"{bound}\"}} {}", count(cumulative)).unwrap();
        }
        writeln!(text, "{BATCH_SIZE}_sum{{shard=\"{shard}\"}} {}", count(1_200)).unwrap();
        writeln!(text, "{BATCH_SIZE}_count{{shard=\"{shard}\"}} {}", count(100)).unwrap();
        for (stage, bound) in [("ack", "0.004"), ("decode", "0.000002"), ("my_stage", "0.5")] {
            for (bound, cumulative) in [(bound, 90), ("1", 100), ("+Inf", 100)] {
                let count = count(cumulative);
                writeln!(text, "{STAGES}_bucket{{shard=\"{shard}\",stage=\"{stage}\",le=\"{bound}\"}} {count}")
                    .unwrap();
            }
        }
    }
    writeln!(text, "{ENCODINGS}{{format=\"json\"}} {}", 500 * scale).unwrap();
    writeln!(text, "{ENCODINGS}{{format=\"msgpack\"}} {}", 20 * scale).unwrap();
    writeln!(text, "{EVENTS} {}", 500 * scale).unwrap();
    text
}

fn parsed(text: &str) -> Scrape {
    Scrape::parse(text).unwrap()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9 * b.abs().max(1.0)
}

#[test]
fn adds_shards_and_subtracts_the_earlier_page() {
    let side = parsed(&page(3)).since(&parsed(&page(1))).unwrap();
    assert_eq!(side.batches, 800);
    assert_eq!(side.batched_mutations, 9_600);
    assert!(close(side.batch_size["mean"], 12.0));
    assert!(close(side.batch_size["p50"], 8.0));
    assert!(close(side.batch_size["p90"], 64.0));
    // The 99.9th is above every bound, so the last finite bound is the best estimate.
    assert!(close(side.batch_size["p99_9"], 64.0));
    assert!(side.commit_us.is_empty(), "this page has no commit times");
    assert!(close(side.encodes_per_event.unwrap(), 1.0));
}

#[test]
fn lists_stages_in_the_order_of_a_message() {
    let side = parsed(&page(2)).since(&parsed(&page(1))).unwrap();
    let names: Vec<&str> = side.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["decode", "ack", "my_stage"]);
    assert_eq!(side.stages[0].count, 400);
    assert!(close(side.stages[0].p50_us, 2.0));
    assert!(close(side.stages[0].p99_us, 1_000_000.0));
}

#[test]
fn counts_from_zero_after_a_restart() {
    let side = parsed(&page(2)).since(&parsed(&page(5))).unwrap();
    assert_eq!(side.batches, 800);
}

#[test]
fn reads_no_figures_from_another_servers_page() {
    let page = "# TYPE up gauge\nup 1\nprocess_cpu_seconds_total 12.5 1700000000000\n";
    assert!(parsed(page).since(&Scrape::default()).is_none());
    assert!(parsed("").since(&Scrape::default()).is_none());
}

#[test]
fn a_quiet_server_has_counts_of_zero_and_no_percentiles() {
    let side = parsed(&page(1)).since(&parsed(&page(1))).unwrap();
    assert_eq!(side.batches, 0);
    assert!(side.batch_size.is_empty());
    assert_eq!(side.encodes_per_event, None);
}

#[test]
fn labels_are_unquoted() {
    let (name, labels, value) = parse_line(r#"a:b_1{x="q\"u\\o\nte}", y = "ü,=" ,} +Inf"#).unwrap();
    assert_eq!(name, "a:b_1");
    assert_eq!(labels["x"], "q\"u\\o\nte}");
    assert_eq!(labels["y"], "ü,=");
    assert!(value.is_infinite());
    assert!(parse_line("x NaN").unwrap().2.is_nan());
}

#[test]
fn refuses_a_bad_metric_with_its_line() {
    for line in [
        "<html>",
        "name",
        "name{",
        "name{a} 1",
        "name{a=b} 1",
        "name{a=\"b} 1",
        "name{a=\"\\x\"} 1",
        "name{a=\"b\"c=\"d\"} 1",
        "name one",
        "name 1 soon",
        "name 1 2 3",
        "9name 1",
        "a_bucket{le=\"x\"} 1",
        "a_bucket 1",
    ] {
        let error = Scrape::parse(&format!("# a comment\n\n{line}\n")).unwrap_err();
        assert!(matches!(&error, ScrapeError::Line { line: 3, .. }), "{line}: {error:?}");
    }
}

#[test]
fn adds_the_series_of_a_metric_that_have_a_label() {
    let page = "m{shard=\"0\",outcome=\"committed\"} 3\nm{shard=\"1\",outcome=\"committed\"} 4\n\
                m{shard=\"1\",outcome=\"refused\"} 50\nplain 0.25\n";
    let page = parsed(page);
    assert_eq!(page.sum("m", Some(("outcome", "committed"))), Some(7.0));
    assert_eq!(page.sum("m", None), Some(57.0));
    assert_eq!(page.sum("plain", None), Some(0.25));
    assert_eq!((page.sum("m", Some(("outcome", "lost"))), page.sum("none", None)), (None, None));
}
