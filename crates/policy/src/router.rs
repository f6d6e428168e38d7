//! Which route takes a request, found without looking at the others.
//!
//! Hosts first: exact, then the longest `*.suffix`, then routes for any host. Then the path: templates before prefixes
//! and `{*rest}`; both segment by segment from the left, literal before `{name}` (more literal characters first), so
//! that of two prefixes the longer one wins, and `{*rest}` before a prefix of the same length. Then, among routes of
//! the same path: priority, the number of predicates, document order. When a predicate (method, header, query) of the
//! best route fails, the next best is tried, down to the prefix `/*` of any host.
//!
//! Paths are matched as [`crate::path::normalize`] spells them; repeated slashes count as one, `%2F` is no slash, and
//! `/a` and `/a/` differ. Nothing is allocated unless the path had to be respelled or captured more than two values.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method, header};

use crate::path::{self, Template};
use crate::route::{HostPattern, PathPattern, Route};

mod predicate;
mod tree;

pub use tree::Captured;
use tree::{Captures, Leaf, Tree};

/// All routes, indexed.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Arc<Route>>,
    exact: HashMap<Box<str>, Tree>,
    /// Keyed by `.example.com`.
    suffix: HashMap<Box<str>, Tree>,
    any: Tree,
}

/// A route and what its path template captured.
#[derive(Debug)]
pub struct Matched<'r> {
    pub route: &'r Arc<Route>,
    /// Its place in [`Router::routes`].
    pub at: usize,
    pub captures: Captured<'r>,
    /// The path that was matched, where it is not spelled as sent: pass this on, not what was sent.
    pub path: Option<String>,
    /// Was a route on the way that asks for a header? Then the same target may lead elsewhere the next time.
    pub by_headers: bool,
}

impl Router {
    /// A route whose pattern cannot be parsed matches nothing; `config` refuses such documents.
    #[must_use]
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let mut order: Vec<usize> = (0..routes.len()).collect();
        // Leaves keep the order in which they are filled.
        order.sort_by_key(|&i| (std::cmp::Reverse(routes[i].priority), std::cmp::Reverse(routes[i].predicates())));
        let mut router = Self::default();
        for index in order {
            router.insert(index, &routes[index]);
        }
        router.routes = routes;
        router
    }

    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// `host` is lower case, without port. `None`: no route takes this request (404, or 405 when
    /// [`Router::allowed_methods`] names some).
    #[must_use]
    pub fn find<'r>(&'r self, host: &str, request: &Parts) -> Option<Matched<'r>> {
        let path = path::normalize(request.uri.path());
        let method = asked_method(request);
        let mut by_headers = false;
        let mut fits = |leaf: &Leaf| {
            let route = &self.routes[leaf.route()];
            route.fetch();
            by_headers |= !route.headers.is_empty();
            predicate::method(route, &request.method, method) && predicate::others(route, request)
        };
        let mut captures = Captures::default();
        let mut trees = self.trees(host);
        let (tree, leaf) =
            trees.find_map(|tree| Some((tree, tree.find(&path, &mut captures, &mut |leaf| fits(leaf))?)))?;
        let captured = captures.of(tree.names(leaf));
        let respelled = match path {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(path),
        };
        Some(Matched {
            route: &self.routes[leaf.route()],
            at: leaf.route(),
            captures: captured,
            path: respelled,
            by_headers,
        })
    }

    /// After [`Router::find`] found nothing: the methods that would have been taken. Empty: 404; else 405 and `Allow`.
    #[must_use]
    pub fn allowed_methods(&self, host: &str, request: &Parts) -> Vec<Method> {
        let path = path::normalize(request.uri.path());
        let mut allowed = Vec::new();
        for tree in self.trees(host) {
            tree.find(&path, &mut Captures::default(), &mut |leaf| {
                let route = &self.routes[leaf.route()];
                if predicate::others(route, request) {
                    predicate::add_methods(route, &mut allowed);
                }
                false
            });
        }
        allowed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        allowed
    }

    /// The trees that know `host`, best first.
    fn trees<'r, 'h>(&'r self, host: &'h str) -> impl Iterator<Item = &'r Tree> + use<'r, 'h> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let dots = if self.suffix.is_empty() { "" } else { host };
        // From the left, so the longest suffix comes first; a dot in front has no label before it.
        let suffixes = dots.match_indices('.').filter(|&(at, _)| at > 0);
        self.exact
            .get(host)
            .into_iter()
            .chain(suffixes.filter_map(|(at, _)| self.suffix.get(&host[at..])))
            .chain(std::iter::once(&self.any))
    }

    fn insert(&mut self, index: usize, route: &Route) {
        let (template, prefix) = match &route.path {
            PathPattern::Template(text) => (Template::parse(text), false),
            PathPattern::Prefix(text) => (Template::parse_prefix(text), true),
        };
        let Ok(template) = template else { return };
        if route.hosts.is_empty() {
            self.any.insert(&template, prefix, index);
        }
        for host in route.hosts.iter() {
            let tree = match host {
                HostPattern::Exact(name) => self.exact.entry(name.as_str().into()).or_default(),
                HostPattern::Suffix(name) => self.suffix.entry(name.as_str().into()).or_default(),
            };
            tree.insert(&template, prefix, index);
        }
    }
}

/// The method a preflight asks about (Fetch § 3.2.2); a route with `cors` takes its preflights.
fn asked_method(request: &Parts) -> Option<&[u8]> {
    let headers: &HeaderMap = &request.headers;
    if request.method != Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
        return None;
    }
    headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).map(|value| value.as_bytes())
}
