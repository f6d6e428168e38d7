//! Endpoints that are found and not written down: SRV records and files of this node. (A and AAAA records are `names`.)
//!
//! Whatever was found last holds while nothing better is found: DNS that fails, a file that is gone or bad.

mod file;
mod srv;

use std::time::Duration;

use tidegate_policy as policy;

use crate::BoxError;
use crate::endpoint::Address;
use crate::names::Names;

pub(crate) use file::Files;

/// Endpoints kept of one source.
const MOST: usize = 1_000;

/// Where endpoints are found, as a key that outlives documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Srv { https: bool, name: String },
    File(String),
}

/// Endpoints with their weights, sorted, each once; and how long they are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) endpoints: Vec<(Address, u32)>,
    pub(crate) good_for: Duration,
}

impl Source {
    pub(crate) fn of(endpoint: &policy::Endpoint) -> Option<Self> {
        match endpoint {
            policy::Endpoint::Srv { https, name } => Some(Self::Srv { https: *https, name: name.clone() }),
            policy::Endpoint::File { path } => Some(Self::File(path.clone())),
            policy::Endpoint::Url { .. } | policy::Endpoint::Dns { .. } => None,
        }
    }

    /// For people.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Srv { name, .. } => name,
            Self::File(path) => path,
        }
    }

    /// `Ok(None)`: as before.
    pub(crate) async fn look(&self, names: &Names, files: &Files) -> Result<Option<Found>, BoxError> {
        match self {
            Self::Srv { https, name } => srv::look(names, name, *https).await.map(Some),
            Self::File(path) => files.look(path).await,
        }
    }
}

fn tidy(mut endpoints: Vec<(Address, u32)>) -> Vec<(Address, u32)> {
    endpoints.sort_by(|(a, _), (b, _)| (&a.host, a.ip, a.port, a.https).cmp(&(&b.host, b.ip, b.port, b.https)));
    endpoints.dedup_by(|(later, more), (first, weight)| {
        let twice = later == first;
        if twice {
            *weight = weight.saturating_add(*more);
        }
        twice
    });
    endpoints
}
