//! A client's HTTP/1.1 connection, one exchange after the other (RFC 9112 § 9). It is polled by the task of its connection, and
//! what has the request is polled by it: bytes go from socket to upstream and back in one turn of the scheduler.
//!
//! ```text
//! head ─> asked ─> answering ─> head …           the answer's body is pulled as the socket takes it
//!           │         │  └────> the rest of a request that somebody still reads
//!           └─────────┴───────> closing: what is said goes out, what still comes is thrown away
//! ```

mod answer;
mod crossing;
mod pump;
mod upload;

use std::future::Future;
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tidegate_http1::{Bad, Decoder, Encoder, Head, Heads, Outbox, Unsent, poll_send};
use tidegate_upstream::interim;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::oneshot;
use tracing::debug;

use self::answer::{Extent, Turn};
use self::upload::Lane;
use crate::connection::{Client, Cut, Room};
use crate::linger::{LINGER, Linger};
use crate::malformed;
use crate::received::Received;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::request::{self, Begun, Serving};

pub(crate) use crossing::{Crossed, Crossing, Offer};
pub(crate) use upload::Upload;

/// Read at once; more where more comes.
const READ: usize = 8 << 10;
/// While a request is worked on, so much of what follows it is read: that its client leaves is seen behind that.
const AHEAD: usize = READ;
/// So often a connection goes on before others have their turn.
const TURNS: usize = 16;

pub(crate) struct Machine<S, F: Future + Send + 'static, G> {
    /// `None`: another protocol is spoken on it now, by somebody else.
    socket: Option<S>,
    /// Read, and nobody's yet.
    bytes: BytesMut,
    /// So many of them were there when they were no whole head.
    looked: usize,
    /// Read at once.
    room: usize,
    /// More than that was made room for.
    grown: bool,
    out: Outbox,
    /// Something that is written may wait within TLS.
    unflushed: bool,
    /// The socket took nothing more when it was given something last.
    full: bool,
    at: At<F>,
    turn: Turn,
    /// The body of the request, as long as it comes.
    lane: Option<Lane>,
    /// Who is given the connection once the answer says so.
    crossing: Option<oneshot::Sender<Crossed>>,
    /// No request is taken any more.
    leaving: bool,
    /// The client said, or may say, what nobody reads.
    unread: bool,
    /// Nothing that comes is of any meaning, not even that nothing comes.
    deaf: bool,
    shut: bool,
    linger: Option<Linger>,
    client: Arc<Client>,
    work: (Room<F>, G),
}

enum At<F: Future + Send + 'static> {
    /// Between requests, or within a head.
    Head,
    Asked(Serving<F>),
    Answering(Reply, Encoder),
    /// The answer is out, and the request is still read.
    Asking,
    Closing,
}

/// Nothing of it is pinned where it lies.
impl<S, F: Future + Send + 'static, G> Unpin for Machine<S, F, G> {}

/// How a step ended.
enum Step {
    On,
    Over,
}

impl<S, F, G> Machine<S, F, G>
where
    S: AsyncRead + AsyncWrite + Cut + Unpin + Send + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
    G: Fn(Begun) -> F + Copy + Send + 'static,
{
    /// `first`: what was read already.
    pub(crate) fn new(socket: S, first: Bytes, client: Arc<Client>, work: (Room<F>, G)) -> Self {
        Self {
            socket: Some(socket),
            bytes: BytesMut::from(first),
            looked: 0,
            room: READ,
            grown: false,
            out: Outbox::default(),
            unflushed: false,
            full: false,
            at: At::Head,
            turn: Turn::default(),
            lane: None,
            crossing: None,
            leaving: false,
            unread: false,
            deaf: false,
            shut: false,
            linger: None,
            client,
            work,
        }
    }

    /// No request is taken beyond the one that is under way, or on its way.
    pub(crate) fn finish_and_close(&mut self) {
        self.leaving = true;
        self.turn.stays = false;
    }

    /// Of a connection that is idle, or in the middle of a head: its socket, and what works for it.
    pub(crate) fn into_parts(self) -> (Option<S>, Bytes, (Room<F>, G)) {
        (self.socket, self.bytes.freeze(), self.work)
    }

    /// Ready: the connection is over.
    pub(crate) fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            match ready!(self.step(cx)) {
                Step::On => {}
                Step::Over => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match self.at {
            At::Head => self.poll_head(cx),
            At::Asked(_) => self.poll_asked(cx),
            At::Answering(..) => self.poll_answering(cx),
            At::Asking => self.poll_asking(cx),
            At::Closing => self.poll_closing(cx).map(|()| Step::Over),
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.leaving && self.bytes.is_empty() {
            return self.close();
        }
        let bounds = &self.client.gate.bounds;
        let most = Heads { bytes: bounds.head_bytes, fields: bounds.headers };
        match tidegate_http1::head(&mut self.bytes, &mut self.looked, most) {
            Ok(Some(head)) => {
                self.begin(head);
                return Poll::Ready(Step::On);
            }
            Ok(None) if self.bytes.is_empty() => {}
            Ok(None) => self.client.head_began(),
            Err(bad) => return self.refuse(bad),
        }
        match ready!(self.poll_read(cx)) {
            Ok(0) => {
                self.client.head_ended();
                self.close()
            }
            Ok(_) => Poll::Ready(Step::On),
            Err(why) => self.broke(&why),
        }
    }

    fn begin(&mut self, head: Head) {
        let Head { mut parts, body, stays, expects, upgrades, takes_trailers } = head;
        let old = parts.version == Version::HTTP_10;
        let head_alone = parts.method == Method::HEAD;
        self.turn = Turn { old, head_alone, takes_trailers, stays: stays && !self.leaving };
        (self.room, self.deaf) = (READ, false);
        if upgrades {
            let (send, offer) = crossing::offer();
            parts.extensions.insert(offer);
            self.crossing = Some(send);
        }
        let body = match body {
            None => Received::Nothing,
            Some(Decoder::Length(length)) if !expects && self.holds(length) => {
                let whole = self.bytes.split_to(length as usize).freeze();
                self.shrink();
                Received::Whole(whole)
            }
            Some(decoder) => {
                let (lane, upload) = upload::body(decoder, expects && !old);
                self.lane = Some(lane);
                Received::Upload(upload)
            }
        };
        let (room, go) = &self.work;
        let request = Request::from_parts(parts, body);
        self.at = At::Asked(request::serve(self.client.clone(), room, request, *go));
    }

    /// So many bytes of a body came with their head.
    fn holds(&self, length: u64) -> bool {
        usize::try_from(length).is_ok_and(|length| length <= self.bytes.len())
    }

    #[cold]
    fn refuse(&mut self, bad: Bad) -> Poll<Step> {
        let refusal = match bad {
            Bad::Malformed => Refusal::Malformed,
            Bad::TargetTooLong => Refusal::UriTooLong,
            Bad::TooLarge => Refusal::HeadersTooLarge,
            Bad::OtherVersion => Refusal::OtherVersion,
        };
        let mut date = Vec::new();
        answer::date(&mut date);
        let date = String::from_utf8(date).unwrap_or_default();
        let answer = malformed::recorded(&refusal, &self.client, &date);
        self.out.text().extend_from_slice(&answer);
        self.client.head_ended();
        self.unread = true;
        self.close()
    }

    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let At::Asked(serving) = &mut self.at else { return Poll::Ready(Step::On) };
            interim::listen();
            let answered = Pin::new(serving).poll(cx);
            // Who takes nothing misses some; HTTP/1.0 has none.
            for heard in interim::heard().iter().filter(|_| !self.turn.old) {
                if !self.out.is_full() {
                    answer::interim(self.out.text(), heard);
                }
            }
            if let Poll::Ready(answered) = answered {
                let Ok(response) = answered;
                self.answer(response);
                return Poll::Ready(Step::On);
            }
            match self.pump(cx) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(over) => return over,
            }
            if !self.out.is_empty() || self.unflushed {
                // That a body is wanted is said now; what comes of it is told by the socket.
                if let Poll::Ready(Err(why)) = self.poll_out(cx) {
                    return self.broke(&why);
                }
            }
            return self.watch(cx);
        }
    }

    /// Nothing is to be read now but that the client leaves; what it says ahead of that waits.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.lane.is_some() || self.deaf {
            return Poll::Pending;
        }
        while self.bytes.len() < AHEAD {
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Step::Over),
                Ok(_) => {}
                Err(why) => return self.broke(&why),
            }
        }
        Poll::Pending
    }

    fn answer(&mut self, response: Response<Reply>) {
        let (parts, reply) = response.into_parts();
        let extent = match (reply.is_end_stream(), reply.size_hint().exact()) {
            (true, _) => Extent::Empty,
            (false, Some(length)) => Extent::Exact(length),
            (false, None) => Extent::Unknown,
        };
        let encoder = answer::head(self.out.text(), &parts, extent, &mut self.turn);
        if parts.status != StatusCode::SWITCHING_PROTOCOLS {
            self.crossing = None;
        }
        self.at = At::Answering(reply, encoder);
    }

    fn poll_answering(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let At::Answering(reply, encoder) = &mut self.at else { return Poll::Ready(Step::On) };
            let Some(socket) = &mut self.socket else { return Poll::Ready(Step::Over) };
            let sent = poll_send(encoder, &mut self.out, reply, socket, cx);
            let to_the_end = matches!(encoder, Encoder::Close);
            self.gave(!self.out.is_empty());
            match sent {
                Poll::Ready(Ok(())) => match self.poll_flush(cx) {
                    Poll::Ready(Ok(())) => return self.answered(),
                    Poll::Ready(Err(why)) => return self.broke(&why),
                    Poll::Pending => {}
                },
                Poll::Ready(Err(Unsent::Wire(why))) => return self.broke(&why),
                Poll::Ready(Err(Unsent::Body(why))) => {
                    debug!(client = %self.client.address, %why, "an answer ended early");
                    // What was said of it shows that it is not whole; or else its end has to.
                    let _as_far_as_the_socket_takes_it = self.poll_out(cx);
                    if let Some(socket) = self.socket.as_ref().filter(|_| to_the_end) {
                        socket.cut();
                    }
                    return Poll::Ready(Step::Over);
                }
                Poll::Pending if !self.out.is_empty() => {}
                Poll::Pending => {
                    if let Poll::Ready(Err(why)) = self.poll_flush(cx) {
                        return self.broke(&why);
                    }
                }
            }
            match self.pump(cx) {
                Ok(true) => {}
                Ok(false) => return self.watch(cx),
                Err(over) => return over,
            }
        }
    }

    /// All of the answer is out.
    fn answered(&mut self) -> Poll<Step> {
        if let Some(crossing) = self.crossing.take() {
            // What is left of a request is not of the other protocol.
            if let (Some(socket), None) = (self.socket.take(), &self.lane) {
                let _nobody_wants_it = crossing.send(Crossed::own(mem::take(&mut self.bytes), socket));
            }
            return Poll::Ready(Step::Over);
        }
        self.at = At::Asking;
        Poll::Ready(Step::On)
    }

    fn poll_asking(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.lane.is_some() {
            if let Err(over) = self.pump(cx) {
                return over;
            }
            if self.lane.is_some() {
                return Poll::Pending; // Another task reads it.
            }
        }
        if !self.turn.stays {
            return self.close();
        }
        self.shrink();
        self.out.clear();
        (self.at, self.looked) = (At::Head, 0);
        Poll::Ready(Step::On)
    }

    fn close(&mut self) -> Poll<Step> {
        self.at = At::Closing;
        Poll::Ready(Step::On)
    }

    #[cold]
    fn broke(&self, why: &io::Error) -> Poll<Step> {
        debug!(client = %self.client.address, %why, "connection ended");
        Poll::Ready(Step::Over)
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.shuts();
        if !self.shut {
            if ready!(self.poll_out(cx)).is_err() {
                return Poll::Ready(());
            }
            let Some(socket) = &mut self.socket else { return Poll::Ready(()) };
            if ready!(Pin::new(socket).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.shut = true;
        }
        let unread = self.unread || !self.bytes.is_empty();
        let Some(socket) = self.socket.as_mut().filter(|_| unread) else { return Poll::Ready(()) };
        self.linger.get_or_insert_with(|| Linger::new(LINGER)).poll(socket, cx)
    }

    /// Ready: all that was said is out.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(())) };
        let sent = self.out.poll_write(socket, cx);
        self.gave(sent.is_pending());
        ready!(sent)?;
        self.poll_flush(cx)
    }

    /// The socket was given what there was. `full`: it does not take all. TLS takes some of it whether the socket does or not; but
    /// what it takes after it took nothing, the socket took.
    fn gave(&mut self, full: bool) {
        let (wrote, tls) = (mem::take(&mut self.out.wrote), self.client.tls.is_some());
        if wrote > 0 && (!tls || self.full) {
            self.client.wrote(Some(wrote));
        }
        self.unflushed |= wrote > 0 && tls;
        self.full = full;
        if full {
            self.client.wrote(None);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(())) };
        let flushed = Pin::new(socket).poll_flush(cx);
        self.unflushed = flushed.is_pending();
        self.client.wrote((!self.unflushed).then_some(0));
        flushed
    }

    /// No more room is kept than heads need. What is split off does not count as capacity, and is there even so.
    fn shrink(&mut self) {
        if self.bytes.is_empty() && mem::take(&mut self.grown) {
            self.bytes = BytesMut::new();
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(0)) };
        let most = self.client.gate.bounds.read_buffer.max(READ);
        let free = self.bytes.capacity() - self.bytes.len();
        if free < self.room / 2 {
            // What is promised is believed once as much has come.
            let certain = self.lane.as_ref().filter(|_| self.room > READ).map_or(0, |lane| lane.decoder.certain());
            let room = self.room.max(certain.min(most));
            self.grown |= room > 2 * READ;
            self.bytes.reserve(room);
        }
        let free = self.bytes.capacity() - self.bytes.len();
        let read = ready!(pin!(socket.read_buf(&mut self.bytes)).poll(cx))?;
        if read == free {
            self.room = (self.room * 2).min(most);
        }
        Poll::Ready(Ok(read))
    }
}
