//! What a change of the document changes, by name, and what it does to counters.

mod counts;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::compile::is_secret_header;
use crate::document::{CatalogueRow, Document};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub verb: Verb,
    /// `limits`, `routes`, …
    pub family: &'static str,
    /// The object's name; a consumer's and a team's is `tenant/name`. Empty for families that are one object.
    pub name: String,
    /// The field that changed: `timeouts.connect`. Empty when the whole object came or went.
    pub field: String,
    /// Values as in the document; credentials are masked.
    pub from: Option<Value>,
    pub to: Option<Value>,
    pub counters: Option<Counters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Added,
    Removed,
    Changed,
}

/// What a change does to a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counters {
    /// What was admitted in the running window still counts.
    Kept,
    /// A new limit that starts empty; the old one drains under its old rule.
    StartsEmpty,
    /// The limit is gone; what it counted drains.
    Drains,
    /// Calls are counted on another counter from then on; what the one before counted stays there.
    Elsewhere,
}

/// From `old` to `new`; empty when they mean the same.
#[must_use]
pub fn diff(old: &Document, new: &Document) -> Vec<Change> {
    let Document {
        version: _,
        secrets,
        consumers,
        issuers,
        tenants,
        teams,
        plans,
        products,
        limits,
        upstreams,
        providers,
        models,
        catalogue,
        routes,
        certificates,
        acme,
        listeners,
        compression,
        telemetry,
        cache,
        alerts,
        backups,
    } = new;
    let mut changes = Vec::new();
    let mut family =
        |name, old: Vec<(String, Value)>, new: Vec<(String, Value)>| compare(name, &old, &new, &mut changes);
    family("secrets", named(&old.secrets, |s| s.name.clone()), named(secrets, |s| s.name.clone()));
    let consumer = |c: &crate::document::ConsumerEntry| in_tenant(&c.tenant, &c.name);
    family("consumers", named(&old.consumers, consumer), named(consumers, consumer));
    family("issuers", named(&old.issuers, |i| i.name.clone()), named(issuers, |i| i.name.clone()));
    family("tenants", named(&old.tenants, |t| t.name.clone()), named(tenants, |t| t.name.clone()));
    let team = |t: &crate::document::TeamRule| in_tenant(&t.tenant, &t.name);
    family("teams", named(&old.teams, team), named(teams, team));
    family("products", named(&old.products, |p| p.name.clone()), named(products, |p| p.name.clone()));
    family("plans", named(&old.plans, |p| p.name.clone()), named(plans, |p| p.name.clone()));
    family("limits", named(&old.limits, |l| l.name.clone()), named(limits, |l| l.name.clone()));
    family("upstreams", named(&old.upstreams, |u| u.name.clone()), named(upstreams, |u| u.name.clone()));
    family("providers", named(&old.providers, |p| p.name.clone()), named(providers, |p| p.name.clone()));
    family("models", named(&old.models, |m| m.name.clone()), named(models, |m| m.name.clone()));
    family("catalogue", named(&old.catalogue, CatalogueRow::key), named(catalogue, CatalogueRow::key));
    family("routes", named(&old.routes, |r| r.name.clone()), named(routes, |r| r.name.clone()));
    family("certificates", named(&old.certificates, |c| c.name.clone()), named(certificates, |c| c.name.clone()));
    family("acme", named(old.acme.as_slice(), |_| String::new()), named(acme.as_slice(), |_| String::new()));
    family(
        "listeners",
        named(old.listeners.as_slice(), |_| String::new()),
        named(listeners.as_slice(), |_| String::new()),
    );
    family(
        "compression",
        named(old.compression.as_slice(), |_| String::new()),
        named(compression.as_slice(), |_| String::new()),
    );
    family(
        "telemetry",
        named(old.telemetry.as_slice(), |_| String::new()),
        named(telemetry.as_slice(), |_| String::new()),
    );
    family("cache", named(old.cache.as_slice(), |_| String::new()), named(cache.as_slice(), |_| String::new()));
    family("alerts", named(old.alerts.as_slice(), |_| String::new()), named(alerts.as_slice(), |_| String::new()));
    family("backups", named(old.backups.as_slice(), |_| String::new()), named(backups.as_slice(), |_| String::new()));
    order_of_routes(old, new, &mut changes);
    for change in &mut changes {
        change.counters = counts::effect(change, old, new);
    }
    changes
}

fn in_tenant(tenant: &str, name: &str) -> String {
    format!("{tenant}/{name}")
}

fn named<T: Serialize>(list: &[T], name: impl Fn(&T) -> String) -> Vec<(String, Value)> {
    // Serialising our own types to a value cannot fail: string keys, no foreign impls.
    list.iter().map(|item| (name(item), serde_json::to_value(item).unwrap_or_default())).collect()
}

fn compare(family: &'static str, old: &[(String, Value)], new: &[(String, Value)], changes: &mut Vec<Change>) {
    let by_name: std::collections::HashMap<&str, &Value> =
        old.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let kept: std::collections::HashSet<&str> = new.iter().map(|(name, _)| name.as_str()).collect();
    let whole = |verb, name: &str, from, to| Change {
        verb,
        family,
        name: name.to_owned(),
        field: String::new(),
        from,
        to,
        counters: None,
    };
    for (name, value) in old.iter().filter(|(name, _)| !kept.contains(name.as_str())) {
        changes.push(whole(Verb::Removed, name, Some(masked(value, "")), None));
    }
    for (name, value) in new {
        match by_name.get(name.as_str()) {
            None => changes.push(whole(Verb::Added, name, None, Some(masked(value, "")))),
            Some(before) => fields(family, name, String::new(), before, value, changes),
        }
    }
}

/// Maps are compared field by field, everything else as a whole.
fn fields(family: &'static str, name: &str, field: String, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let inner = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
            match (old.get(key), new.get(key)) {
                (Some(old), Some(new)) => fields(family, name, inner, old, new, changes),
                (old, new) => changes.push(one(family, name, inner, old, new)),
            }
        }
        return;
    }
    changes.push(one(family, name, field, Some(old), Some(new)));
}

fn one(family: &'static str, name: &str, field: String, from: Option<&Value>, to: Option<&Value>) -> Change {
    let last = field.rsplit('.').find(|part| !is_rule(part)).unwrap_or_default().to_owned();
    let mask = |value: &Value| masked(value, &last);
    Change {
        verb: Verb::Changed,
        family,
        name: name.to_owned(),
        from: from.map(mask),
        to: to.map(mask),
        field,
        counters: None,
    }
}

/// Texts under names like `authorization` are not shown; references to secrets and our own field names are.
fn masked(value: &Value, name: &str) -> Value {
    match value {
        Value::String(text)
            if name != "key" && is_secret_header(name) && crate::compile::references(text).is_empty() =>
        {
            Value::String("***".into())
        }
        Value::String(text) => Value::String(without_password(text)),
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.clone(), masked(value, if is_rule(key) { name } else { key }))).collect()
        }
        Value::Array(items) => items.iter().map(|item| masked(item, name)).collect(),
        other => other.clone(),
    }
}

/// `redis://user:***@host`: a password in a URL that is no reference is not shown.
fn without_password(text: &str) -> String {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, password) = authority.rsplit_once('@')?.0.split_once(':')?;
        let rest = &rest[user.len() + 1 + password.len()..];
        (!password.is_empty() && crate::compile::references(password).is_empty())
            .then(|| format!("{scheme}://{user}:***{rest}"))
    });
    parts.unwrap_or_else(|| text.to_owned())
}

/// `x-token: {exact: abc}`: the value is the header's, not `exact`'s.
fn is_rule(key: &str) -> bool {
    matches!(key, "exact" | "prefix" | "regex")
}

/// Among equals the first route wins, so their order is part of the document.
fn order_of_routes(old: &Document, new: &Document, changes: &mut Vec<Change>) {
    let names = |document: &Document| document.routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>();
    let (before, after) = (names(old), names(new));
    let (known, kept): (BTreeSet<&String>, BTreeSet<&String>) = (before.iter().collect(), after.iter().collect());
    let before: Vec<&String> = before.iter().filter(|name| kept.contains(name)).collect();
    let after: Vec<&String> = after.iter().filter(|name| known.contains(name)).collect();
    if let Some((_, moved)) = before.iter().zip(&after).find(|(before, after)| before != after) {
        changes.push(Change {
            verb: Verb::Changed,
            family: "routes",
            name: (*moved).clone(),
            field: "order".into(),
            from: None,
            to: None,
            counters: None,
        });
    }
}

/// `~ limits per-key: max 600 → 900 (keeps the count)`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.verb {
            Verb::Added => '+',
            Verb::Removed => '-',
            Verb::Changed => '~',
        };
        write!(f, "{sign} {}", self.family)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        if self.verb == Verb::Changed && (self.from.is_some() || self.to.is_some()) {
            write!(f, " {} → {}", shown(self.from.as_ref()), shown(self.to.as_ref()))?;
        }
        self.counters.map_or(Ok(()), |counters| write!(f, " ({counters})"))
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "(default)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "keeps the count",
            Self::StartsEmpty => "starts a new, empty limit; an old one drains",
            Self::Drains => "what it counted drains",
            Self::Elsewhere => "counts on another counter from then on",
        })
    }
}
