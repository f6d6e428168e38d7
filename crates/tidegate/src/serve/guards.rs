//! Guards of the node: how much memory it uses of what it may, and how many descriptors clients may bring it to. What is done
//! about it is the proxy's matter.

mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tidegate_proxy::Gate;
use tidegate_telemetry::Kind;
use tracing::{info, warn};

use self::memory::Meter;
use super::gauges::labelled;
use crate::process;

const EVERY: Duration = Duration::from_millis(100);
/// Percent of the bound above which one more class is refused, and how far below it is served again.
const ABOVE: [u64; 4] = [80, 86, 92, 96];
const BELOW: u64 = 3;

/// What was measured last.
#[derive(Debug, Default)]
struct Measured {
    used: AtomicU64,
    bound: AtomicU64,
}

/// `memory`: what the node may use, as it was told.
pub(super) fn start(gate: &Arc<Gate>, memory: Option<u64>) {
    let descriptors = bound_descriptors(gate);
    let measured = Arc::new(Measured::default());
    tell(gate, &measured, descriptors);
    match Meter::find(memory) {
        Some(meter) => drop(tokio::spawn(watch(Arc::clone(gate), meter, measured))),
        None => warn!("how much memory there is cannot be told: it is not guarded"),
    }
}

/// A quarter is kept for upstreams, and what the cluster, the admin port and disks need.
fn bound_descriptors(gate: &Gate) -> usize {
    let Some(most) = process::most_descriptors() else { return 0 };
    let ours = (most / 16).clamp(16, 256);
    tidegate_upstream::bound_descriptors(most.saturating_sub(ours));
    let clients = most.saturating_sub(ours + most / 4).max(1);
    gate.pressure.bound_descriptors(clients);
    if most < 4_096 {
        warn!(most, clients, "few file descriptors: raise the limit (ulimit -n, LimitNOFILE=)");
    }
    clients
}

async fn watch(gate: Arc<Gate>, meter: Meter, measured: Arc<Measured>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = 0;
    loop {
        tick.tick().await;
        let Some((used, bound)) = meter.read() else { continue };
        measured.used.store(used, Relaxed);
        measured.bound.store(bound, Relaxed);
        let classes = classes(used, bound, before);
        if classes > 0 {
            crate::allocator::give_back();
        }
        if classes != before {
            if classes > before {
                warn!(used, bound, classes, "memory runs short: the lowest classes of requests are refused");
            } else {
                info!(used, bound, classes, "memory comes free");
            }
            gate.pressure.shed(classes);
            before = classes;
        }
    }
}

/// How many classes are refused.
fn classes(used: u64, bound: u64, before: u8) -> u8 {
    let percent = used.saturating_mul(100) / bound.max(1);
    let refused = |at: usize| percent >= ABOVE[at].saturating_sub(if at < usize::from(before) { BELOW } else { 0 });
    u8::try_from((0..ABOVE.len()).take_while(|at| refused(*at)).count()).unwrap_or(0)
}

fn tell(gate: &Arc<Gate>, measured: &Arc<Measured>, descriptors: usize) {
    let telemetry = &gate.telemetry;
    type Pick = fn(&Measured) -> &AtomicU64;
    let of_memory: [(&str, &str, Pick); 2] = [
        ("memory_used_bytes", "Memory that counts against the bound", |m| &m.used),
        ("memory_bound_bytes", "Memory that this node may use", |m| &m.bound),
    ];
    for (name, help, pick) in of_memory {
        let it = Arc::clone(measured);
        telemetry.register(name, help, Kind::Gauge, move || vec![labelled(&[], pick(&it).load(Relaxed))]);
    }
    let it = Arc::clone(gate);
    let help = "Classes of requests refused for want of memory, from the lowest up; 4: all";
    telemetry.register("memory_shedding", help, Kind::Gauge, move || vec![labelled(&[], it.pressure.sheds().into())]);
    let it = Arc::clone(gate);
    telemetry.register("memory_shed", "Requests refused for want of memory", Kind::Counter, move || {
        it.pressure.refused().iter().map(|(class, count)| labelled(&[("class", class.name())], *count)).collect()
    });
    let help = "Open descriptors that clients may bring this node to; 0: not known";
    telemetry.register("descriptors_bound", help, Kind::Gauge, move || vec![labelled(&[], descriptors as u64)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_after_the_other_is_refused_and_comes_back_a_little_later() {
        let rises: Vec<u8> = [79, 80, 86, 91, 92, 96, 120].iter().map(|used| classes(*used, 100, 0)).collect();
        assert_eq!(rises, [0, 1, 2, 2, 3, 4, 4]);
        let falls: Vec<u8> = [(95, 4), (92, 4), (89, 3), (88, 3), (77, 1), (76, 1)]
            .iter()
            .map(|(used, before)| classes(*used, 100, *before))
            .collect();
        assert_eq!(falls, [4, 3, 3, 2, 1, 0]);
    }
}
