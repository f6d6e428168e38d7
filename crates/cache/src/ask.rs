//! A request, as the cache sees it.

use std::sync::Arc;

use http::{HeaderMap, Method};
use tidegate_policy::{Cache as Policy, Partition};

use crate::rules::conditional;
use crate::rules::control::RequestControl;
use crate::rules::key::{self, Class, Home, Key, Parts, Url};

/// What `proxy` knows when it asks. Borrowed: most questions are answered at once.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub policy: &'a Arc<Policy>,
    pub tenant: &'a str,
    pub route: &'a str,
    /// Did the client speak TLS?
    pub secure: bool,
    /// Without port, as purges name it.
    pub host: &'a str,
    /// As the client sent it; without its port where that is the one the request came in by.
    pub authority: &'a str,
    pub own_port: bool,
    /// In the one spelling that is passed on ([`tidegate_policy::path::normalize`]).
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    /// Of a POST that may be cached; the route says how long it may be.
    pub body: Option<&'a [u8]>,
    /// Who asks, if we know.
    pub consumer: Option<&'a str>,
    /// `Authorization`, if it goes on to the origin.
    pub credentials: Option<&'a [u8]>,
}

/// Where to look and where to store.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) main: Key,
    /// For what is for this caller alone.
    pub(crate) own: Option<Key>,
    /// Does what comes back need to be for all, to be stored in `main`?
    pub(crate) authorized: bool,
}

impl Ask<'_> {
    /// `None`: the method is not cached.
    pub(crate) fn class(&self) -> Option<Class<'_>> {
        if *self.method == Method::GET || *self.method == Method::HEAD {
            return Some(Class::Read);
        }
        let limit = self.policy.post.filter(|_| *self.method == Method::POST)?;
        // What a condition or a range would mean here nobody says.
        let body = self.body.filter(|_| !conditional::is_conditional(self.headers))?;
        (body.len() as u64 <= limit).then_some(Class::Post { body })
    }

    pub(crate) fn control(&self) -> RequestControl {
        if self.policy.heed_clients { RequestControl::of(self.headers) } else { RequestControl::default() }
    }

    pub(crate) fn query(&self) -> Option<std::borrow::Cow<'_, str>> {
        match key::query(&self.policy.key.query, self.query) {
            None => self.query.map(Into::into),
            Some(query) if query.is_empty() => None,
            Some(query) => Some(query.into()),
        }
    }

    pub(crate) fn place(&self, class: Class<'_>) -> Place {
        let query = self.query();
        let url = Url { tenant: self.tenant, host: self.host, path: self.path, query: query.as_deref() };
        let digest = url.digest();
        let of = |home| {
            let (names, headers) = (&self.policy.key.headers[..], self.headers);
            Key::of(
                digest,
                &Parts {
                    route: self.route,
                    authority: self.authority,
                    own_port: self.own_port,
                    secure: self.secure,
                    class,
                    home,
                    names,
                    headers,
                },
            )
        };
        let caller = self.consumer.map(Home::Consumer);
        let credentials = self.credentials.map(Home::Credentials);
        match self.policy.partition {
            Partition::Consumer => {
                let home = caller.or(credentials).unwrap_or(Home::Consumer(""));
                Place { main: of(home), own: None, authorized: false }
            }
            Partition::Auto => {
                let home = caller.or(credentials);
                Place { main: of(Home::All), own: home.map(of), authorized: home.is_some() }
            }
            Partition::Tenant => {
                Place { main: of(Home::All), own: credentials.map(of), authorized: credentials.is_some() }
            }
        }
    }

    /// `host/path?query`
    pub(crate) fn url(&self) -> String {
        let query = self.query();
        Url { tenant: self.tenant, host: self.host, path: self.path, query: query.as_deref() }.text()
    }
}
