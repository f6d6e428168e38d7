//! In which order the deployments of a model are asked.

use smallvec::SmallVec;
use tidegate_policy::{Deployment, Model};

/// More are not asked for one call.
const MOST: usize = 8;

pub(super) type Order<'a> = SmallVec<[&'a Deployment; 4]>;

/// The highest priority first; among equals drawn by weight, those of weight 0 at last. `draw`: any number.
pub(super) fn order(model: &Model, mut draw: impl FnMut() -> u64) -> Order<'_> {
    let mut order = Order::new();
    for equals in model.deployments.chunk_by(|a, b| a.priority == b.priority) {
        let mut left: Order<'_> = equals.iter().collect();
        while !left.is_empty() {
            let total: u64 = left.iter().map(|deployment| u64::from(deployment.weight)).sum();
            let mut at = draw().checked_rem(total).unwrap_or(0);
            let drawn = left.iter().position(|deployment| {
                let weight = u64::from(deployment.weight);
                let found = at < weight;
                at = at.saturating_sub(weight);
                found
            });
            order.push(left.remove(drawn.unwrap_or(0)));
        }
    }
    order.truncate(MOST);
    order
}
