//! A connection of its own for each runtime that asks Redis.
//!
//! A connection lives on the runtime that opened it. Requests of another are woken over there and back, two threads for
//! one answer; that costs more than the answer. So a runtime that asks gets a connection of its own, opened in the
//! background; until it stands, and where it cannot be had, the shared one serves. They belong to a
//! [`Link`](super::link::Link) and go with it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::runtime::{Handle, Id};
use tokio::time::timeout;

use super::link::{Target, Wire};

/// One for each core, and some more.
const MOST: usize = 64;
const CONNECT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Near {
    /// Where the shared connection lives, and needs none beside it.
    home: Id,
    places: RwLock<Vec<(Id, Place)>>,
}

#[derive(Debug)]
enum Place {
    /// Also when it came to nothing.
    Opening,
    Open(Box<MultiplexedConnection>),
}

impl Near {
    /// Beside a connection of the runtime this is called on.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { home: Handle::current().id(), places: RwLock::default() })
    }

    /// That of the runtime this is called on, if it stands.
    pub(crate) fn here(self: &Arc<Self>, target: &Arc<Target>) -> Option<Wire> {
        let id = Handle::current().id();
        if id == self.home {
            return None;
        }
        let known = {
            let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
            places.iter().find(|(of, _)| *of == id).map(|(_, place)| match place {
                Place::Opening => None,
                Place::Open(connection) => Some(Wire::Direct((**connection).clone())),
            })
        };
        known.unwrap_or_else(|| {
            if self.begin(id) {
                tokio::spawn(Arc::clone(self).open(id, Arc::clone(target)));
            }
            None
        })
    }

    /// It failed: the shared one serves, until another stands.
    pub(crate) fn lost(&self) {
        let id = Handle::current().id();
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places.retain(|(of, place)| *of != id || matches!(place, Place::Opening));
    }

    fn begin(&self, id: Id) -> bool {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = places.len() < MOST && places.iter().all(|(of, _)| *of != id);
        if is_new {
            places.push((id, Place::Opening));
        }
        is_new
    }

    async fn open(self: Arc<Self>, id: Id, target: Arc<Target>) {
        let opened = timeout(CONNECT * 2, async {
            let connection = target.one_more(CONNECT).await?;
            let mut wire = Wire::Direct(connection.clone());
            wire.query(&redis::cmd("PING")).await.ok()?;
            Some(connection)
        });
        let Ok(Some(connection)) = opened.await else { return };
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, place)) = places.iter_mut().find(|(of, _)| *of == id) {
            *place = Place::Open(Box::new(connection));
        }
    }
}
