//! Who brings which limits to a call: names into places in the list, and limits with a maximum of their own.
//!
//! A maximum of one's own makes a limit of one's own: the same in all but its id and its maximum. So its count stays when
//! that maximum changes, and who has it is not counted with the others.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use http::HeaderName;
use siphasher::sip::SipHasher24;
use tidegate_model::{LimitId, Permits};
use tidegate_policy::defaults::{MAX_LISTED, MAX_OWN_MAXIMA, MOST_COST};
use tidegate_policy::{Attached, Cost, Dimension, Limit};

use super::{Names, Report, header};
use crate::decode::short;
use crate::document::LimitRef;
use crate::path::Path;

/// The document's limits, and behind them those with a maximum of somebody's own.
pub(super) struct Limits<'a> {
    names: &'a Names<'a>,
    listed: usize,
    built: RefCell<Vec<Option<Arc<Limit>>>>,
    ids: RefCell<HashSet<LimitId>>,
}

/// A limit that somebody brings: its place in the list, and that of the listed limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brought {
    pub(super) limit: usize,
    pub(super) base: usize,
}

/// Who may have a maximum of his own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner<'a> {
    Tenant(&'a str),
    Team(&'a str, &'a str),
    Consumer(&'a str, &'a str),
    Plan(&'a str),
    Offer(&'a str, &'a str),
}

impl<'a> Limits<'a> {
    pub(super) fn new(names: &'a Names<'a>, built: Vec<Option<Arc<Limit>>>) -> Self {
        let ids = built.iter().flatten().map(|limit| limit.id).collect();
        Self { names, listed: built.len(), built: RefCell::new(built), ids: RefCell::new(ids) }
    }

    /// By place.
    pub(super) fn into_list(self) -> Vec<Arc<Limit>> {
        self.built.into_inner().into_iter().flatten().collect()
    }

    /// As the document lists it.
    pub(super) fn listed(&self, name: &str) -> Option<Arc<Limit>> {
        self.built.borrow().get(self.names.place(name)?).cloned().flatten()
    }

    /// A list of names.
    pub(super) fn named(&self, names: &[String], path: &Path<'_>, report: &Report<'_>) -> Vec<Brought> {
        few(names.len(), path, report);
        self.names.find_all(names, path, report).into_iter().map(|base| Brought { limit: base, base }).collect()
    }

    /// A list in which some may have a maximum of their own.
    pub(super) fn owned(
        &self,
        refs: &[LimitRef],
        owner: Owner<'_>,
        path: &Path<'_>,
        report: &Report<'_>,
    ) -> Vec<Brought> {
        few(refs.len(), path, report);
        let mut list: Vec<Brought> = Vec::new();
        for (i, reference) in refs.iter().enumerate() {
            let item = path.item(i);
            let field = item.field("limit");
            let place = if reference.max().is_some() { &field } else { &item };
            let Some(base) = self.names.find(reference.name(), place, report) else { continue };
            if list.iter().any(|known| known.base == base) {
                report.error(place, format!("`{}` is named twice here", short(reference.name())));
                continue;
            }
            let limit = match reference.max() {
                None => Some(base),
                Some(max) => self.own(base, max, owner, &item.field("max"), report),
            };
            list.extend(limit.map(|limit| Brought { limit, base }));
        }
        list
    }

    fn own(&self, base: usize, max: u64, owner: Owner<'_>, path: &Path<'_>, report: &Report<'_>) -> Option<usize> {
        let mut built = self.built.borrow_mut();
        let limit = built.get(base)?.clone()?;
        let most = limit.most_max();
        if max == 0 || max > most.0 {
            report.hinted(path, format!("a maximum is 1 to {most}"), "leave it out for the limit's own");
            return None;
        }
        if let Some(hint) = owner.unfit(&limit) {
            let reason =
                format!("`{}` counts others together with these: they would no longer be part of it", limit.name);
            report.hinted(path, reason, hint);
            return None;
        }
        if built.len() - self.listed >= MAX_OWN_MAXIMA {
            report.hinted(path, format!("at most {MAX_OWN_MAXIMA} maxima of their own"), "make plans of them");
            return None;
        }
        let id = owner.id(limit.id);
        if !self.ids.borrow_mut().insert(id) {
            // The owner is named twice in the document, which is told there.
            return None;
        }
        built.push(Some(Arc::new(Limit { id, max: Permits(max), ..(*limit).clone() })));
        Some(built.len() - 1)
    }

    /// As a list of the snapshot. `known`: does who holds the list say this part of a scope alone?
    pub(super) fn attached(&self, list: &[Brought], known: impl Fn(&Dimension) -> bool) -> Vec<Attached> {
        let built = self.built.borrow();
        let fixed = |at: usize| built[at].as_ref().is_some_and(|limit| limit.per.iter().all(&known));
        list.iter().map(|of| Attached::new(of.limit, of.base, fixed(of.limit))).collect()
    }

    /// What calls cost, by place in the list.
    pub(super) fn weights(
        &self,
        weights: &BTreeMap<String, u64>,
        path: &Path<'_>,
        report: &Report<'_>,
    ) -> Vec<(usize, Permits)> {
        let list = weights.iter().filter_map(|(name, weight)| {
            let base = self.names.find(name, &path.field(name), report)?;
            let cost = match self.built.borrow().get(base).and_then(|limit| Some(limit.as_ref()?.cost.clone())) {
                Some(Cost::Fixed(cost)) => cost.0,
                _ => 1, // Only whether it is counted means anything.
            };
            if weight.saturating_mul(cost) > MOST_COST.0 {
                let reason = format!("at most {}: a call costs at most {MOST_COST} at once", MOST_COST.0 / cost.max(1));
                report.error(&path.field(name), reason);
            }
            Some((base, Permits(*weight)))
        });
        list.collect()
    }
}

impl Owner<'_> {
    /// Why this limit can have no maximum of the owner's own: what to write instead. With one, the owner's calls are counted
    /// apart, which must not take them out of a count they share with others.
    fn unfit(self, limit: &Limit) -> Option<&'static str> {
        use Dimension as D;
        let has = |fit: fn(&D) -> bool| limit.per.iter().any(fit);
        match self {
            Self::Consumer(..) => {
                let fit = has(|part| matches!(part, D::Consumer | D::Key | D::EndUser));
                (!fit).then_some("give it to a limit `per: [consumer]`")
            }
            Self::Team(..) => {
                let fit = has(|part| matches!(part, D::Team | D::Consumer | D::Key | D::EndUser));
                (!fit).then_some("give it to a limit `per: [team]`")
            }
            Self::Tenant(_) => limit.per.is_empty().then_some("give it to a limit `per: [tenant]`"),
            Self::Plan(_) | Self::Offer(..) => {
                let fit = has(|part| {
                    matches!(part, D::Team | D::Consumer | D::Key | D::EndUser | D::Ip(_) | D::Header(_) | D::Claim(_))
                });
                (!fit).then_some("give it to a limit `per: [consumer]`")
            }
        }
    }

    /// Stable over releases and machines, as the ids of limits are.
    fn id(self, base: LimitId) -> LimitId {
        let (kind, parts) = match self {
            Self::Tenant(name) => ("tenant", [name, ""]),
            Self::Team(tenant, name) => ("team", [tenant, name]),
            Self::Consumer(tenant, name) => ("consumer", [tenant, name]),
            Self::Plan(name) => ("plan", [name, ""]),
            Self::Offer(product, plan) => ("offer", [product, plan]),
        };
        let text = format!("own\0{}\0{kind}\0{}\0{}", base.0, parts[0], parts[1]);
        LimitId(SipHasher24::new_with_key(b"tidegate limit 1").hash(text.as_bytes()))
    }
}

/// The most specific first: of two that bring one limit, the first does.
pub(super) fn merged(lists: &[&[Brought]]) -> Vec<Brought> {
    let mut merged: Vec<Brought> = Vec::new();
    for brought in lists.iter().copied().flatten() {
        if !merged.iter().any(|known| known.base == brought.base) {
            merged.push(*brought);
        }
    }
    merged
}

/// The header end users are named in.
pub(super) fn end_user(name: Option<&String>, path: &Path<'_>, report: &Report<'_>) -> Option<HeaderName> {
    let name = header::name(name?, path, report)?;
    if header::is_secret(name.as_str()) {
        report.hinted(path, format!("`{name}` carries a credential"), "name a header such as `x-end-user`");
    }
    Some(name)
}

fn few(count: usize, path: &Path<'_>, report: &Report<'_>) {
    if count > MAX_LISTED {
        report.error(path, format!("at most {MAX_LISTED} limits"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_for_ever_and_every_owner_has_another() {
        // A change here resets every counter of every cluster that upgrades.
        assert_eq!(Owner::Consumer("default", "acme").id(LimitId(7)).to_string(), "cca81206708213f1");
        let owners = [
            Owner::Consumer("a", "b"),
            Owner::Consumer("b", "a"),
            Owner::Team("a", "b"),
            Owner::Offer("a", "b"),
            Owner::Plan("a"),
            Owner::Tenant("a"),
        ];
        let ids: HashSet<LimitId> = owners.iter().flat_map(|owner| [1, 2].map(|id| owner.id(LimitId(id)))).collect();
        assert_eq!(ids.len(), 12);
    }
}
