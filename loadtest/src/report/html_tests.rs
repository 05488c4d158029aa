//! The page is complete, loads nothing, and its data cannot leave its element.

use super::*;
use crate::report::fixtures;

fn two_runs() -> String {
    Page::of_runs(&[fixtures::run("before", 2.0), fixtures::broken("after")]).unwrap().into_html().unwrap()
}

/// The embedded data of a page.
fn data_of(html: &str) -> Value {
    let (_, after) = html.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    let (json, _) = after.split_once("</script>").unwrap();
    serde_json::from_str(json).unwrap()
}

fn systems() -> Vec<SystemRuns> {
    let rounds = |slowness: [f64; 3]| slowness.map(|slowness| fixtures::run("rooms-10", slowness)).to_vec();
    let mut theirs = rounds([2.0, 2.2, 1.8]);
    for run in &mut theirs {
        run.system.name = "Mosquitto".to_owned();
        run.system.durability = "none".to_owned();
        run.server = None;
    }
    vec![
        SystemRuns { system: "Veza Chat Server".to_owned(), runs: rounds([1.0, 1.1, 0.9]) },
        SystemRuns { system: "Mosquitto".to_owned(), runs: theirs },
    ]
}

#[test]
fn loads_nothing_from_elsewhere() {
    for html in [two_runs(), Page::of_systems(&systems()).unwrap().into_html().unwrap()] {
        for external in ["http://", "https://", "src=", "@import", "url(", "//cdn", "<link rel=\"stylesheet\""] {
            assert!(!html.contains(external), "{external} is in the page");
        }
        assert!(html.contains("default-src 'none'"), "the content policy forbids the rest");
        assert!(!html.contains("{{"), "a placeholder was left");
    }
}

#[test]
fn escapes_data_so_that_it_cannot_end_its_element() {
    let html = two_runs();
    // The template's own two script elements, and not the one in a violation's sample.
    assert_eq!(html.matches("</script>").count(), 2);
    let sample = data_of(&html)["runs"][1]["violations"][0]["samples"][0].as_str().unwrap().to_owned();
    assert!(sample.ends_with("</script><b>"), "the sample is still there: {sample}");
    let titled = Page::of_runs(&[fixtures::run("<img onerror=x>", 1.0)]).unwrap().into_html().unwrap();
    assert!(titled.contains("<title>&lt;img onerror=x&gt;"));
}

#[test]
fn keeps_placeholders_in_the_data() {
    let html = Page::of_runs(&[fixtures::run("{{script}} {{data}}", 1.0)]).unwrap().into_html().unwrap();
    assert_eq!(data_of(&html)["title"], "{{script}} {{data}}");
}

#[test]
fn puts_curves_timeline_and_figures_of_every_run_on_the_page() {
    let data = data_of(&two_runs());
    for run in 0..2 {
        let curves = data["runs"][run]["curves"].as_array().unwrap();
        let keys: Vec<&str> = curves.iter().map(|curve| curve["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["ack", "delivery", "class_small", "operation_log_in"]);
        assert!(curves.iter().all(|curve| curve["points"].as_array().unwrap().len() > 50));
        assert_eq!(data["runs"][run]["timeline"].as_array().unwrap().len(), 60);
    }
    let acked = &data["headlines"][0];
    assert_eq!(acked["cells"][0]["text"], "1,000");
    assert_eq!(acked["cells"][1]["text"], "1,250");
    assert_eq!(acked["cells"][1]["ratio"], "1.25×");
    assert_eq!(acked["cells"][1]["verdict"], "better");
    let rate = data["settings"].as_array().unwrap().iter().find(|s| s["name"] == "scenario.load.rate_per_s").unwrap();
    assert_eq!(rate["differs"], true);
}

#[test]
fn shows_medians_ranges_and_durability_of_a_comparison() {
    let data = data_of(&Page::of_systems(&systems()).unwrap().into_html().unwrap());
    let comparison = &data["comparison"];
    assert_eq!(comparison["systems"][0]["durable"], true);
    assert_eq!(comparison["systems"][1]["durable"], false);
    let acked = comparison["rows"].as_array().unwrap().iter().find(|row| row["key"] == "acked_per_s").unwrap();
    assert_eq!(acked["cells"][0]["text"], "2,000");
    assert_eq!(acked["cells"][0]["range"][2], "1,818–2,222");
    assert_eq!(data["runs"][1]["label"], "Mosquitto");
}

#[test]
fn writes_a_page_for_an_empty_run() {
    let data = data_of(&Page::of_runs(&[RunResult::default()]).unwrap().into_html().unwrap());
    assert_eq!(data["runs"].as_array().unwrap().len(), 1);
}
