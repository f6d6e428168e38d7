//! What is compressed on its way to clients.

use tidegate_coding::Coding;
use tidegate_policy::{Compression, MediaTypes};

use super::Report;
use crate::decode::short;
use crate::document::{Algorithm, CompressionRule};
use crate::path::Path;
use crate::units::Size;

const MAX_TYPES: usize = 256;
const LARGEST: u64 = 1 << 30;

/// `None`: nothing.
pub(super) fn compile(rule: &CompressionRule, path: &Path<'_>, report: &Report<'_>) -> Option<Compression> {
    let CompressionRule { algorithms, min_size, types } = rule;
    let algorithms = match algorithms {
        None => Compression::ALGORITHMS.to_vec(),
        Some(named) => self::algorithms(named, &path.field("algorithms"), report),
    };
    let min_size = min_size.map_or(Compression::MIN_SIZE, |Size(bytes)| bytes);
    if min_size > LARGEST {
        report.error(&path.field("min_size"), "at most 1GiB");
    }
    let types = match types {
        None => Compression::usual_types(),
        Some(named) => self::types(named, &path.field("types"), report),
    };
    (!algorithms.is_empty()).then_some(Compression { algorithms, min_size, types })
}

fn algorithms(named: &[Algorithm], list: &Path<'_>, report: &Report<'_>) -> Vec<Coding> {
    for (i, algorithm) in named.iter().enumerate() {
        if named[..i].contains(algorithm) {
            report.error(&list.item(i), "is named twice");
        }
    }
    let coding = |algorithm: &Algorithm| match algorithm {
        Algorithm::Zstd => Coding::Zstd,
        Algorithm::Br => Coding::Brotli,
        Algorithm::Gzip => Coding::Gzip,
    };
    named.iter().map(coding).collect()
}

fn types(named: &[String], list: &Path<'_>, report: &Report<'_>) -> Vec<MediaTypes> {
    if named.is_empty() {
        report.hinted(
            list,
            "no type at all",
            "leave it out for the usual ones, or write `algorithms: []` to compress nothing",
        );
    }
    if named.len() > MAX_TYPES {
        report.error(list, format!("at most {MAX_TYPES}"));
    }
    let one = |(i, text): (usize, &String)| {
        let types = MediaTypes::parse(text);
        if types.is_none() {
            let why = format!("`{}` is not a media type", short(text));
            report.hinted(&list.item(i), why, "write `application/json`, `text/*` or `application/*+json`");
        }
        types
    };
    named.iter().enumerate().filter_map(one).collect()
}
