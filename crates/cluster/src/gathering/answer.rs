//! What a node that is nobody's yet answers to the others.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{Endpoint, Incoming};

use super::secret::Secret;
use super::{Ask, Call, Me, Said};
use crate::codec;
use crate::transport::listener;
use crate::transport::strangers::{Place, Strangers};

/// Callers at a time.
const CALLERS: usize = 128;
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn forever(endpoint: &Endpoint, me: &Me<'_>, secret: &Secret) {
    let strangers = Strangers::default();
    let mut callers = FuturesUnordered::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                let Some(incoming) = listener::let_in(incoming, callers.len(), CALLERS) else { continue };
                if let Some(place) = strangers.enter(incoming.remote_address().ip()) {
                    callers.push(one(incoming, place, me, secret));
                } else {
                    incoming.refuse();
                }
            }
            Some(()) = callers.next() => {}
        }
    }
}

async fn one(incoming: Incoming, _place: Place, me: &Me<'_>, secret: &Secret) {
    let answered = async {
        let (connection, _) = listener::shake(incoming).await?;
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let frame = receive.read_to_end(listener::JOIN_FRAME).await.ok()?;
        listener::reply(&mut send, &codec::encode(&said(&frame, me, secret))).await.ok()?;
        _ = connection.closed().await; // The caller closes when it has read the answer.
        Some(())
    };
    _ = tokio::time::timeout(PATIENCE, answered).await;
}

fn said(frame: &[u8], me: &Me<'_>, secret: &Secret) -> Said {
    let call = match codec::decode::<Call>(frame) {
        Ok(call) if secret.is_proven_by(&call.proof) => call,
        Ok(_) => return Said::Refused("another cluster secret".into()),
        Err(error) => return Said::Refused(format!("the call is malformed: {error}")),
    };
    match call.ask {
        Ask::WhoAreYou => Said::Fresh(me.fresh()),
        Ask::YourWord(candidate) => match me.word.give(&candidate) {
            Ok(()) => Said::Promised { by: me.word.me() },
            Err(other) => Said::Taken(other),
        },
        Ask::TakeBack { id, attempt } => {
            me.word.take_back(&id, Some(attempt));
            Said::Fresh(me.fresh())
        }
    }
}
