//! Takes what waits to the collector of the time: spans and lines of the log as they come (`lane.rs`), metrics now and
//! then, each without waiting for the others.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tidegate_policy::Otlp;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::Collected;
use crate::export::Exporters;
use crate::partial::Partial;
use crate::transport::Transport;

/// What is on its way when the document names another collector has so long to be answered.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) type Changes = watch::Receiver<()>;
pub(crate) type Sent = Result<Option<Partial>, String>;

impl Collected {
    /// As long as this node runs: tells whatever collector the document of the time names. `connect`: the way to it.
    pub async fn tell_forever(self: Arc<Self>, connect: impl Fn(&Otlp) -> Result<Transport, String>) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(rules) = self.rules.load_full() {
                match self.exporters(&rules, &connect) {
                    Ok(exporters) => {
                        let spans = self.spans.tell(&exporters.spans, changes.clone());
                        let lines = async {
                            if rules.logs {
                                self.lines.lane().tell(&exporters.lines, changes.clone()).await;
                            }
                        };
                        tokio::join!(spans, lines, self.tell_metrics(&exporters, &rules, changes.clone()));
                    }
                    Err(why) => tracing::error!(%why, "the collector cannot be spoken to"),
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The last of a node that stops.
    pub async fn flush(&self, connect: impl Fn(&Otlp) -> Result<Transport, String>, within: Duration) {
        let Some(rules) = self.rules.load_full() else { return };
        let Ok(exporters) = self.exporters(&rules, &connect) else { return };
        let all = async {
            if let Some(metrics) = self.metrics.load_full().and_then(|metrics| metrics.read()) {
                let _best_effort = exporters.metrics.tell(&metrics).await;
            }
        };
        let things = async {
            let lines = async {
                if rules.logs {
                    self.lines.lane().flush(&exporters.lines).await;
                }
            };
            tokio::join!(all, self.spans.flush(&exporters.spans), lines)
        };
        let _best_effort = timeout(within, things).await;
    }

    fn exporters(
        &self,
        rules: &Otlp,
        connect: impl Fn(&Otlp) -> Result<Transport, String>,
    ) -> Result<Exporters, String> {
        Exporters::new(rules, &self.resource(rules), &connect(rules)?, &self.failed)
    }

    /// Until the rules are others.
    async fn tell_metrics(&self, exporters: &Exporters, rules: &Otlp, mut changes: Changes) {
        let mut due = Instant::now() + rules.interval;
        loop {
            tokio::select! {
                biased;
                _ = changes.changed() => return,
                () = tokio::time::sleep_until(due) => {}
            }
            due = Instant::now() + rules.interval;
            let Some(metrics) = self.metrics.load_full().and_then(|metrics| metrics.read()) else { continue };
            let sent = unless_changed(exporters.metrics.tell(&metrics), changes.clone()).await;
            say(&self.trouble, "metrics", &sent);
        }
    }
}

/// Once, until it works again: the metrics count the rest.
pub(crate) fn say(trouble: &AtomicBool, what: &'static str, sent: &Sent) {
    let had_trouble = trouble.swap(!matches!(sent, Ok(None)), Relaxed);
    match sent {
        Ok(None) if had_trouble => tracing::info!(what, "the collector takes what it is told again"),
        Ok(Some(Partial { refused, why })) if !had_trouble => {
            tracing::warn!(what, refused, why, "the collector does not take all it is told");
        }
        Err(why) if !had_trouble => tracing::warn!(what, why, "the collector does not take what it is told"),
        _ => {}
    }
}

/// Another collector does not wait for the one before.
pub(crate) async fn unless_changed(sending: impl Future<Output = Sent>, mut changes: Changes) -> Sent {
    let mut sending = std::pin::pin!(sending);
    tokio::select! {
        sent = &mut sending => return sent,
        _ = changes.changed() => {}
    }
    let late = timeout(GRACE, sending).await;
    late.unwrap_or_else(|_| Err("the document named another collector meanwhile".into()))
}
