//! What all nodes tell at this moment: their `/metrics`, and the cluster as each sees it.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tidegate_admin::wire::ClusterStatus;

use super::client::Client;

/// For a node that may be dead.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// One node, as it says itself.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) id: u64,
    pub(super) name: String,
    /// `None`: it did not answer, see `why`.
    pub(super) status: Option<ClusterStatus>,
    pub(super) metrics: Metrics,
    /// Its wall clock.
    pub(super) date: Option<SystemTime>,
    pub(super) why: Option<String>,
}

/// Asks every node that the status names, all at once.
pub(super) async fn all(client: &Client, status: &ClusterStatus) -> Vec<Told> {
    join_all(status.nodes.iter().map(|node| async {
        let (id, name) = (node.id, node.name.clone());
        let silent = |why: String| Told { id, name: name.clone(), why: Some(why), ..Told::default() };
        if node.admin.is_empty() {
            return silent("it tells nobody where its admin port is".to_owned());
        }
        // Whom we were pointed at is asked there: the address that it tells may be good within the cluster only.
        let there = if node.id == status.node_id { client.clone() } else { client.at(&node.admin) };
        match tokio::time::timeout(PATIENCE, one(&there)).await {
            Ok(Ok((status, metrics, date))) => {
                Told { id, name, status: Some(status), metrics: Metrics::read(&metrics), date, why: None }
            }
            Ok(Err(why)) => silent(why),
            Err(_) => silent(format!("{} did not answer within {} s", node.admin, PATIENCE.as_secs())),
        }
    }))
    .await
}

async fn one(client: &Client) -> Result<(ClusterStatus, String, Option<SystemTime>), String> {
    let status = client.get("/v1/cluster").await.map_err(|error| error.message())?;
    let (text, date) = client.text("/metrics").await.map_err(|error| error.message())?;
    Ok((status, text, date))
}

/// Samples of a scrape (the text format of Prometheus and OpenMetrics), in the order they came.
#[derive(Debug, Default, Clone)]
pub(super) struct Metrics(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

impl Metrics {
    pub(super) fn read(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// All samples of a metric.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// Their sum; `None`: there is no sample.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.of(name).map(|sample| sample.value).reduce(|a, b| a + b)
    }
}

/// `name{label="value",…} value`
fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = match line.find(['{', ' ']) {
        Some(at) => line.split_at(at),
        None => return None,
    };
    let (labels, value) = match rest.strip_prefix('{') {
        None => (Vec::new(), rest),
        Some(inside) => labels(inside)?,
    };
    let value = value.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((found, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in rest.char_indices() {
            match (escaped, c) {
                (false, '\\') => escaped = true,
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (true, 'n') => {
                    value.push('\n');
                    escaped = false;
                }
                (_, c) => {
                    value.push(c);
                    escaped = false;
                }
            }
        }
        found.push((name.to_owned(), value));
        text = &rest[end? + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels_and_what_is_no_sample_is_passed_over() {
        let text = "# TYPE a gauge\na 1\na{x=\"q\\\"}, y=\"} 2.5\nb_total{l=\"m\",n=\"o\"} 3 1700000000\nnonsense\nc{x=\"y 1\n\n# EOF";
        let metrics = Metrics::read(text);
        assert_eq!(metrics.sum("a"), Some(3.5));
        assert_eq!(metrics.of("a").nth(1).unwrap().label("x"), "q\"}, y=");
        let b = metrics.of("b_total").next().unwrap();
        assert_eq!((b.label("l"), b.label("n"), b.label("z"), b.value), ("m", "o", "", 3.0));
        assert_eq!(metrics.sum("c"), None);
    }
}
