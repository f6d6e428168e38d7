//! All scenes in one table, and what is wanted of them: read from what was kept, so that it is whole after any run.

use serde_json::{Value, json};

use super::contender::Kind;
use super::scene;
use crate::shared::report::{Report, Section};

const COLUMNS: &[&str] = &[
    "CPU µs per request",
    "nginx",
    "haproxy",
    "caddy",
    "envoy",
    "hyper, empty",
    "tidegate",
    "tidegate, full policy",
    "tidegate × nginx",
    "× hyper",
];

pub(super) fn of(report: &Report) -> Section {
    let how = "At saturation, user + system, one worker each. A dash: not measured.".to_owned();
    let mut section = Section::new("At a glance", how, COLUMNS);
    for scene in &scene::ALL {
        let rows = report.rows(scene.name);
        if rows.is_null() {
            continue;
        }
        let micros = |kind: Kind| number(row(rows, kind.name()), "micros");
        let mut cells = vec![format!("`{}`", scene.name)];
        cells.extend(Kind::ALL.map(|kind| shown(micros(kind), 1)));
        let ours = micros(if scene.name == "policy" { Kind::TidegateFull } else { Kind::Tidegate });
        let against = |kind: Kind| Some(ours? / micros(kind)?);
        cells.extend([shown(against(Kind::Nginx), 2), shown(against(Kind::Hyper), 2)]);
        section.row(
            cells,
            json!({"scene": scene.name, "against_nginx": against(Kind::Nginx), "against_hyper": against(Kind::Hyper)}),
        );
    }
    section
}

/// Each of the bounds, and what was measured.
pub(super) fn reach(report: &Report) -> Section {
    let how = "Ratios of the medians; the policy's is tidegate's full policy against bare nginx.".to_owned();
    let mut section = Section::new("What is reached", how, &["wanted", "is", "reached"]);
    let micros = |scene: &str, kind: Kind| number(row(report.rows(scene), kind.name()), "micros");
    let ratio = |scene: &str, ours: Kind, other: Kind| Some(micros(scene, ours)? / micros(scene, other)?);
    let idle = |field: &str| number(row(report.rows("idle"), Kind::Tidegate.name()), field);
    let mut tell = |wanted: String, is: Option<f64>, most: f64| {
        let reached = is.map_or("not measured", |is| if is <= most { "yes" } else { "no" });
        section.row(
            vec![wanted.clone(), shown(is, 2), reached.to_owned()],
            json!({"wanted": wanted, "is": is, "most": most, "reached": is.map(|is| is <= most)}),
        );
    };
    tell("bare ≤ 1.2 × nginx (`h1`)".to_owned(), ratio("h1", Kind::Tidegate, Kind::Nginx), 1.2);
    tell("bare ≤ 1.0 × empty hyper (`h1`)".to_owned(), ratio("h1", Kind::Tidegate, Kind::Hyper), 1.0);
    let policy = ratio("policy", Kind::TidegateFull, Kind::Nginx);
    tell("full policy ≤ 1.4 × nginx bare (`policy`)".to_owned(), policy, 1.4);
    for scene in ["h2", "tls", "h2-tls", "tls-new", "tls-resumed"] {
        tell(format!("≤ 1.2 × nginx (`{scene}`)"), ratio(scene, Kind::Tidegate, Kind::Nginx), 1.2);
    }
    let routes = number(row(report.rows("routes"), Kind::Tidegate.name()), "ratio");
    tell("10,000 routes ≤ 1.05 × one (`routes`)".to_owned(), routes, 1.05);
    tell("idle connection ≤ 16 KiB".to_owned(), idle("clear_kib"), 16.0);
    tell("idle connection, TLS ≤ 40 KiB".to_owned(), idle("tls_kib"), 40.0);
    section
}

fn row<'a>(rows: &'a Value, name: &str) -> Option<&'a Value> {
    rows.as_array()?.iter().find(|row| row["name"] == name)
}

fn number(row: Option<&Value>, field: &str) -> Option<f64> {
    row?[field].as_f64()
}

fn shown(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"))
}
