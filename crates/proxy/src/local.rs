//! What one core keeps to itself: the connections that one runtime accepts count references and requests here, so that
//! no request writes where the requests of other cores write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use tidegate_policy::Snapshot;
use tidegate_telemetry::Scene;

use crate::familiar::Familiar;
use crate::gate::Gate;

/// One per listener and runtime.
#[derive(Debug)]
pub(crate) struct Local {
    /// For the snapshot that the last request saw.
    here: ArcSwap<Here>,
    /// Its place in the counts of requests.
    lane: usize,
}

/// What belongs to one snapshot.
#[derive(Debug)]
pub(crate) struct Here {
    pub(crate) scene: Arc<Scene>,
    pub(crate) familiar: Familiar,
}

impl Here {
    fn new(gate: &Gate, snapshot: Arc<Snapshot>) -> Arc<Self> {
        Arc::new(Self { scene: Scene::new(&gate.telemetry, snapshot), familiar: Familiar::new() })
    }
}

impl Local {
    pub(crate) fn new(gate: &Gate) -> Arc<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let here = Here::new(gate, gate.snapshot.load_full());
        Arc::new(Self { here: ArcSwap::new(here), lane: NEXT.fetch_add(1, Relaxed) })
    }

    /// The policy as it is published now.
    pub(crate) fn here(&self, gate: &Gate) -> Arc<Here> {
        let (published, known) = (gate.snapshot.load(), self.here.load());
        if Arc::ptr_eq(&published, known.scene.snapshot()) {
            return Arc::clone(&known);
        }
        let here = Here::new(gate, Arc::clone(&published));
        self.here.store(Arc::clone(&here));
        here
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
