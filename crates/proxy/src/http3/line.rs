//! What the two halves of a request's stream, its body and its answer know of each other, and what all streams of a connection
//! share.

use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::frames::{Fault, Purse};
use super::{code, varint};
use crate::connection::Client;
use crate::wire::{Bucket, FRAME};

/// One request's stream.
#[derive(Debug)]
pub(super) struct Line {
    /// What a half that is dropped before its end is ended with.
    code: AtomicU64,
    /// Its request was read: the answer is ours.
    begun: AtomicBool,
    /// Its client gave it up, and that was counted.
    given_up: AtomicBool,
    pub(super) common: Arc<Common>,
}

/// One connection.
pub(super) struct Common {
    pub(super) client: Arc<Client>,
    pub(super) quic: quinn::Connection,
    control: Mutex<Bucket>,
    cancels: Mutex<Bucket>,
    /// Bytes of heads that have not ended.
    heads: AtomicIsize,
    /// Of these at most.
    most: isize,
}

/// A request may come with a frame or two about its priority.
const REQUEST_FRAMES: u32 = 6;
/// So many of the longest heads may be gathered at once.
const LONGEST_HEADS: usize = 16;

impl Line {
    pub(super) fn new(common: &Arc<Common>) -> Arc<Self> {
        let (begun, given_up) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { code: AtomicU64::new(code::REQUEST_INCOMPLETE), begun, given_up, common: Arc::clone(common) })
    }

    pub(super) fn begins(&self) {
        self.begun.store(true, Relaxed);
        self.code.store(code::NO_ERROR, Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Relaxed)
    }

    /// Whatever is dropped from now on is ended so.
    pub(super) fn ends_with(&self, code: u64) {
        self.code.store(code, Relaxed);
    }

    pub(super) fn code(&self) -> u64 {
        self.code.load(Relaxed)
    }

    /// Its client gave it up before it was answered.
    pub(super) fn is_given_up(&self) {
        if !self.given_up.swap(true, Relaxed) && !self.common.may_cancel() {
            self.common.fails("reset_flood", code::EXCESSIVE_LOAD, "too many requests are given up");
        }
    }

    /// Of this stream, or of all.
    pub(super) fn fails(&self, fault: Fault) {
        match fault {
            Fault::Stream { code, .. } => self.ends_with(code),
            Fault::Connection { code, why } => self.common.fails(reason(code, why), code, why),
        }
    }
}

/// As the metrics call it.
pub(super) fn reason(code: u64, why: &'static str) -> &'static str {
    match code {
        code::EXCESSIVE_LOAD if why == "control_flood" => "control_flood",
        code::EXCESSIVE_LOAD => "enhance_your_calm",
        code::FRAME_ERROR => "frame_size_error",
        _ => "protocol_error",
    }
}

impl Common {
    pub(super) fn new(client: Arc<Client>, quic: quinn::Connection) -> Arc<Self> {
        let bounds = &client.gate.bounds;
        let control = Bucket::new(bounds.h2_control_frames, bounds.h2_control_rate, bounds.h2_control_frames);
        let cancels = Bucket::new(bounds.h2_cancels, bounds.h2_cancel_rate, bounds.h2_cancels);
        let most = bounds.head_bytes.saturating_mul(LONGEST_HEADS).cast_signed();
        let (control, cancels) = (Mutex::new(control), Mutex::new(cancels));
        Arc::new(Self { client, quic, control, cancels, heads: AtomicIsize::new(0), most })
    }

    /// It did what ends the connection.
    pub(super) fn fails(&self, reason: &'static str, code: u64, why: &str) {
        self.client.is_at_fault(reason);
        self.quic.close(varint(code), why.as_bytes());
    }

    pub(super) fn is_asked(&self) {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).earn(REQUEST_FRAMES * FRAME);
    }

    pub(super) fn answered(&self) {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner).earn(FRAME);
    }

    fn may_cancel(&self) -> bool {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner).take(FRAME, &|| self.client.now())
    }
}

impl Purse for Common {
    fn pays(&self) -> bool {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).take(FRAME, &|| self.client.now())
    }

    fn gathers(&self, bytes: isize) -> bool {
        self.heads.fetch_add(bytes, Relaxed).saturating_add(bytes) <= self.most
    }
}

impl std::fmt::Debug for Common {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Common").field("client", &self.client.address).finish_non_exhaustive()
    }
}
