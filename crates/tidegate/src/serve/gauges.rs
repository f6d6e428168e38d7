//! Facts of other crates for `/metrics`, read when somebody asks.

use std::sync::Arc;

use tidegate_cluster::Cluster;
use tidegate_proxy::Gate;

use super::effect::Effect;

pub(super) fn register(gate: &Arc<Gate>, cluster: &Cluster, effect: &Arc<Effect>) {
    let _unused = (gate, cluster, effect);
}
