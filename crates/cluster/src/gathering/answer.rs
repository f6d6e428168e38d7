//! What a node that is nobody's yet answers to the others.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{Endpoint, Incoming};

use super::secret::Secret;
use super::word::Word;
use super::{Ask, Call, Said};
use crate::codec;
use crate::transport::listener;

/// Callers at a time; the others wait to be accepted.
const CALLERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn forever(endpoint: &Endpoint, word: &Word<'_>, secret: &Secret) {
    let mut callers = FuturesUnordered::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept(), if callers.len() < CALLERS => match incoming {
                Some(incoming) => callers.push(one(incoming, word, secret)),
                None => return,
            },
            Some(()) = callers.next() => {}
        }
    }
}

async fn one(incoming: Incoming, word: &Word<'_>, secret: &Secret) {
    let answered = async {
        let (connection, _) = listener::shake(incoming).await?;
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let frame = receive.read_to_end(listener::JOIN_FRAME).await.ok()?;
        listener::reply(&mut send, &codec::encode(&said(&frame, word, secret))).await.ok()?;
        _ = connection.closed().await; // The caller closes when it has read the answer.
        Some(())
    };
    _ = tokio::time::timeout(PATIENCE, answered).await;
}

fn said(frame: &[u8], word: &Word<'_>, secret: &Secret) -> Said {
    let call = match codec::decode::<Call>(frame) {
        Ok(call) if secret.is_proven_by(&call.proof) => call,
        Ok(_) => return Said::Refused("another cluster secret".into()),
        Err(error) => return Said::Refused(format!("the call is malformed: {error}")),
    };
    match call.ask {
        Ask::WhoAreYou => Said::Fresh { id: word.me(), promised: word.promised() },
        Ask::YourWord(candidate) => match word.give(&candidate) {
            Ok(()) => Said::Promised,
            Err(other) => Said::Taken(other),
        },
        Ask::TakeBack { id } => {
            word.take_back(&id);
            Said::Fresh { id: word.me(), promised: word.promised() }
        }
    }
}
