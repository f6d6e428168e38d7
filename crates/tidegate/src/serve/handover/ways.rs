//! The way to the cluster of what outlives this process's part in it: leases of open requests, and what was used.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::{Cluster, Topic};
use tidegate_model::NodeId;
use tidegate_quota::protocol::{Batch, Key, Reply};
use tidegate_state::Command;
use tokio::sync::watch;

use super::link::{Answers, Question, Told};

/// An owner that is not known to be dead yet is asked in vain for no longer than this; the limiter has less patience.
const ERRANDS: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(in super::super) enum Way {
    Own(Cluster),
    /// There will be one.
    None,
    /// The process that took over.
    Next(Answers),
    /// The same process, which took its gate back.
    Again(Arc<Ways>),
}

pub(in super::super) struct Ways(watch::Sender<Way>);

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Told, String>> + Send + 'a>>;

impl Ways {
    pub(in super::super) fn own(cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Way::Own(cluster.clone()))))
    }

    pub(in super::super) fn lead(&self, way: Way) {
        self.0.send_replace(way);
    }

    /// Over the way of the moment, or the first one that there is. Not over two: what was sent may have arrived.
    pub(super) fn ask(&self, question: Question) -> Asked<'_> {
        Box::pin(async move {
            let mut changes = self.0.subscribe();
            let way = match changes.wait_for(|way| !matches!(way, Way::None)).await {
                Ok(way) => way.clone(),
                Err(_) => return Err("the node has stopped".into()), // Not reached: we hold the sender.
            };
            let over = async {
                match way {
                    Way::Own(cluster) => answer(&cluster, question).await,
                    Way::Next(answers) => answers.ask(question).await,
                    Way::Again(ways) => ways.ask(question).await,
                    Way::None => Err("there is no way".into()), // Not reached: it was waited for.
                }
            };
            tokio::select! {
                biased;
                done = over => done,
                _ = changes.changed() => Err("the node was handed over meanwhile".into()),
            }
        })
    }

    pub(in super::super) async fn exchange(&self, batch: Batch) -> Result<Reply, String> {
        match self.ask(Question::Exchange(batch)).await? {
            Told::Reply(reply) => Ok(reply),
            _ => Err("an answer to something else".into()),
        }
    }

    pub(in super::super) async fn propose(&self, command: Command) -> Result<(), String> {
        self.ask(Question::Propose(Box::new(command))).await.map(drop)
    }

    pub(in super::super) async fn errands(&self, to: NodeId, errands: Vec<u8>) -> Result<Vec<u8>, String> {
        match self.ask(Question::Errands(to, errands)).await? {
            Told::Errands(answer) => Ok(answer),
            _ => Err("an answer to something else".into()),
        }
    }

    /// Who has handed over is asked nothing: what it holds lapses, or goes back when it ends.
    pub(in super::super) async fn recalled(&self) -> Key {
        let mut changes = self.0.subscribe();
        loop {
            let way = changes.borrow_and_update().clone();
            if let Way::Own(cluster) = way {
                tokio::select! {
                    key = cluster.recalled() => return key,
                    _ = changes.changed() => {}
                }
            } else if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn answer(cluster: &Cluster, question: Question) -> Result<Told, String> {
    match question {
        Question::Exchange(batch) => cluster.exchange(batch).await.map(Told::Reply).map_err(|why| why.to_string()),
        Question::Propose(command) => {
            cluster.propose(*command).await.map(|_| Told::Done).map_err(|why| why.to_string())
        }
        Question::Errands(to, errands) => {
            cluster.tell(to, Topic::Permits, errands, ERRANDS).await.map(|answer| Told::Errands(answer.to_vec()))
        }
    }
}
