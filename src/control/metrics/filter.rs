//! Matches of the content filter by rule. The number of labels is bounded; see [`Tallies`].

use super::families::{family, sample};
use crate::chat::filter::tally::Tallies;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};

const NAME: &str = "chat_server_filter_matches_total";
const HELP: &str = "Texts that match a rule of the content filter, by rule and action.";

pub(super) struct FilterMatches {
    tallies: Tallies,
    desc: Desc,
}

impl FilterMatches {
    pub(super) fn new(tallies: Tallies) -> Result<Self, prometheus::Error> {
        let labels = ["rule", "action"].map(str::to_owned).to_vec();
        let desc = Desc::new(NAME.to_owned(), HELP.to_owned(), labels, std::collections::HashMap::new())?;
        Ok(Self { tallies, desc })
    }
}

impl Collector for FilterMatches {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metrics = Vec::new();
        for (rule, tally) in self.tallies.all() {
            for (action, count) in tally.counts() {
                metrics.push(sample(&[("rule", &rule), ("action", action)], MetricType::COUNTER, count as f64));
            }
        }
        if metrics.is_empty() { Vec::new() } else { vec![family(NAME, HELP, MetricType::COUNTER, metrics)] }
    }
}
