//! What one core keeps to itself: the connections that one runtime accepts count references and requests here, so that
//! no request writes where the requests of other cores write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use tidegate_telemetry::Scene;

use crate::gate::Gate;

/// One per listener and runtime.
#[derive(Debug)]
pub(crate) struct Local {
    /// Of the snapshot that the last request saw.
    scene: ArcSwap<Scene>,
    /// Its place in the counts of requests.
    lane: usize,
}

impl Local {
    pub(crate) fn new(gate: &Gate) -> Arc<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let scene = Scene::new(&gate.telemetry, gate.snapshot.load_full());
        Arc::new(Self { scene: ArcSwap::new(scene), lane: NEXT.fetch_add(1, Relaxed) })
    }

    /// The policy as it is published now.
    pub(crate) fn scene(&self, gate: &Gate) -> Arc<Scene> {
        let (published, known) = (gate.snapshot.load(), self.scene.load());
        if Arc::ptr_eq(&published, known.snapshot()) {
            return Arc::clone(&known);
        }
        let scene = Scene::new(&gate.telemetry, Arc::clone(&published));
        self.scene.store(Arc::clone(&scene));
        scene
    }

    /// One more request, unless the node has as many as it may.
    pub(crate) fn begin(&self, gate: &Gate) -> bool {
        gate.in_flight.begin(self.lane, gate.bounds.in_flight)
    }

    /// A request that was let in is over.
    pub(crate) fn end(&self, gate: &Gate) {
        gate.in_flight.end(self.lane);
    }
}
