//! What stamps say: the worst window by the judge of `tidegate quota verify`, and how much of a limit was used.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tidegate_model::{LimitId, Nanos, Subject};
use tidegate_quota::evidence::{Evidence, RECORD_BYTES, Record};

/// Of one limit.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// The fullest window of any key over the limit.
    pub(super) worst: f64,
    pub(super) permits: u64,
    /// Of the key with the most permits, in order.
    busiest: Vec<Nanos>,
}

impl Judged {
    /// Of the most that the limit allows from `from` on, in as many whole windows as end by `to`.
    pub(super) fn utilisation(&self, max: u64, window: Duration, from: Nanos, to: Nanos) -> Option<f64> {
        let window = u64::try_from(window.as_nanos()).ok().filter(|window| *window > 0)?;
        let windows = to.0.saturating_sub(from.0) / window;
        let until = from.0 + windows * window;
        let inside = self.busiest.iter().filter(|at| at.0 > from.0 && at.0 <= until).count();
        (windows > 0).then(|| inside as f64 / (max * windows) as f64)
    }
}

/// By the limit's name.
pub(super) fn judge(files: &[PathBuf]) -> Result<HashMap<String, Judged>> {
    let mut evidence = Evidence::default();
    let mut permits: BTreeMap<LimitId, HashMap<Subject, Vec<Nanos>>> = BTreeMap::new();
    for path in files {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let facts = evidence.read(&bytes).map_err(|why| anyhow!("{} {}", path.display(), why.0))?;
        ensure!(facts.damaged == 0, "{}: {} records are damaged", path.display(), facts.damaged);
        for record in bytes.get(RECORD_BYTES..).unwrap_or_default().as_chunks::<RECORD_BYTES>().0 {
            if let Some(Record::Permit { at, key, .. }) = Record::decode(record) {
                permits.entry(key.limit).or_default().entry(key.subject).or_default().push(at);
            }
        }
    }
    let mut judged = HashMap::new();
    for finding in evidence.judge() {
        let keys = permits.remove(&finding.limit).unwrap_or_default();
        let mut busiest = keys.into_values().max_by_key(Vec::len).unwrap_or_default();
        busiest.sort_unstable();
        let one = Judged { worst: finding.worst_ratio, permits: finding.permits, busiest };
        judged.insert(finding.name, one);
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Incarnation, NodeId, Permits};
    use tidegate_quota::evidence::{RequestMark, header, short_name};
    use tidegate_quota::protocol::Key;

    use super::*;

    #[test]
    fn windows_are_judged_over_all_files_and_use_is_counted_of_whole_windows() {
        let folder = crate::process::Folder::fresh("verdict").unwrap();
        let second = 1_000_000_000;
        let limit = LimitId(4);
        let file = |node: u64, stamps: &[u64]| {
            let at = Nanos(0);
            let mut bytes = header(NodeId(node), Incarnation(u128::from(node))).to_vec();
            bytes.extend(Record::Name { at, limit, name: short_name("a") }.encode());
            bytes.extend(Record::Policy { at, limit, max: Permits(2), window: Nanos(second) }.encode());
            for at in stamps {
                let key = Key { limit, subject: Subject(1) };
                let permit = Record::Permit { at: Nanos(*at), key, cost: Permits(1), request: RequestMark(0) };
                bytes.extend(permit.encode());
            }
            let path = folder.path.join(node.to_string());
            fs::write(&path, bytes).unwrap();
            path
        };
        let files = [file(1, &[second + 1, 2 * second + 1]), file(2, &[second + 2, second + 3])];
        let judged = judge(&files).unwrap().remove("a").unwrap();
        assert_eq!((judged.worst, judged.permits), (1.5, 4));
        let used = |from, to| judged.utilisation(2, Duration::from_secs(1), Nanos(from), Nanos(to));
        assert_eq!(used(second, second * 3 + 5), Some(1.0));
        assert_eq!(used(second, second * 2), Some(1.5));
        assert_eq!(used(second, second + 9), None);
    }
}
