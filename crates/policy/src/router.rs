//! Which route takes a request. Hosts first (exact, then longest suffix, then any), then path (template before prefix,
//! longer before shorter), then priority, then the number of predicates, then document order.

use std::sync::Arc;

use http::request::Parts;

use crate::route::Route;

/// All routes, indexed.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Arc<Route>>,
}

/// A route and what its path template captured.
#[derive(Debug)]
pub struct Matched {
    pub route: Arc<Route>,
    /// `(name, value)` as found in the path, still percent-encoded.
    pub captures: Vec<(String, String)>,
}

impl Router {
    #[must_use]
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        Self { routes }
    }

    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// `host` is lower case, without port. `None`: no route takes this request (404).
    #[must_use]
    pub fn find(&self, _host: &str, _request: &Parts) -> Option<Matched> {
        None
    }
}
