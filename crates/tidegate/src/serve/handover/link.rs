//! What the two processes say once the folder changes hands: frames of the cluster's codec behind their length. The one that
//! finishes asks; the one that serves answers.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_cluster::codec;
use tidegate_model::NodeId;
use tidegate_quota::protocol::{Batch, Reply};
use tidegate_state::Command;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::ways::Ways;

/// Questions worked on at a time; more are told so.
const AT_A_TIME: usize = 1_024;

/// Append only, as all that the codec writes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// Of the new process: give me the folder.
    Take,
    /// Of the old one: it is closed.
    Yours,
    /// Of the old one: that took too long; end.
    Back,
    /// Of the new one: ready.
    Serving,
    Ask(u64, Question),
    Answer(u64, Result<Told, String>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    Exchange(Batch),
    Propose(Box<Command>),
    /// For that node, as the owner of keys.
    Errands(NodeId, Vec<u8>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    Reply(Reply),
    Done,
    Errands(Vec<u8>),
}

/// Both directions of one connection.
pub(in super::super) struct Frames {
    incoming: mpsc::Receiver<Message>,
    outgoing: OwnedWriteHalf,
}

impl Frames {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (read, outgoing) = stream.into_split();
        let (send, incoming) = mpsc::channel(64);
        tokio::spawn(async move {
            if let Err(error) = read_all(read, send).await
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                tracing::warn!(%error, "the other process of this node cannot be understood");
            }
        });
        Self { incoming, outgoing }
    }

    pub(super) async fn send(&mut self, message: &Message) -> io::Result<()> {
        let frame = codec::encode(message);
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.outgoing.write_all(&length.to_be_bytes()).await?;
        self.outgoing.write_all(&frame).await
    }

    /// `None`: the other process has ended. Nothing is lost if this is dropped.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.incoming.recv().await
    }
}

async fn read_all(mut from: OwnedReadHalf, to: mpsc::Sender<Message>) -> io::Result<()> {
    loop {
        let length = from.read_u32().await? as usize;
        if length > codec::MAX_FRAME {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut frame = vec![0; length];
        from.read_exact(&mut frame).await?;
        if to.send(codec::decode(&frame)?).await.is_err() {
            return Ok(());
        }
    }
}

/// To the process that serves now.
#[derive(Clone)]
pub(in super::super) struct Answers(mpsc::Sender<(Question, Asker)>);

type Asker = oneshot::Sender<Result<Told, String>>;

impl Answers {
    pub(super) fn over(frames: Frames) -> Self {
        let (send, questions) = mpsc::channel(AT_A_TIME);
        tokio::spawn(carry(frames, questions));
        Self(send)
    }

    pub(super) async fn ask(&self, question: Question) -> Result<Told, String> {
        let (send, answer) = oneshot::channel();
        let gone = "the process that took over has ended";
        self.0.send((question, send)).await.map_err(|_| gone)?;
        answer.await.map_err(|_| gone)?
    }
}

async fn carry(mut frames: Frames, mut questions: mpsc::Receiver<(Question, Asker)>) {
    let (mut number, mut open) = (0, HashMap::new());
    loop {
        tokio::select! {
            message = frames.next() => match message {
                Some(Message::Answer(number, told)) => {
                    if let Some(asker) = open.remove(&number) {
                        let _gave_up = Asker::send(asker, told);
                    }
                }
                Some(_) => {}
                None => return,
            },
            Some((question, asker)) = questions.recv() => {
                // Who gave up is not answered: what is open has the bound of those who ask.
                open.retain(|_, asker: &mut Asker| !asker.is_closed());
                number += 1;
                open.insert(number, asker);
                if frames.send(&Message::Ask(number, question)).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}

/// Answers the process that was here before, until it ends.
pub(in super::super) async fn serve(mut frames: Frames, ways: Arc<Ways>) {
    let mut working = JoinSet::new();
    loop {
        let answer = tokio::select! {
            message = frames.next() => match message {
                Some(Message::Ask(number, _)) if working.len() >= AT_A_TIME => (number, Err("too many questions".into())),
                Some(Message::Ask(number, question)) => {
                    let ways = Arc::clone(&ways);
                    working.spawn(async move { (number, ways.ask(question).await) });
                    continue;
                }
                Some(_) => continue,
                None => break,
            },
            Some(Ok(answer)) = working.join_next() => answer,
        };
        if frames.send(&Message::Answer(answer.0, answer.1)).await.is_err() {
            break;
        }
    }
    tracing::info!("the process that was here before has ended");
}
