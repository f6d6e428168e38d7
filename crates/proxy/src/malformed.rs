//! Answers on sockets where no request could be read: what is no head, heads that never end,
//! connections beyond the bound. Written by hand, recorded like any other refusal.

use bytes::Bytes;
use http::StatusCode;
use tidegate_telemetry::Record;

use crate::connection::Client;
use crate::refusal::Refusal;
use crate::request_id::RequestId;

/// The whole answer, and its request id. The connection ends with it.
pub(crate) fn answer(refusal: &Refusal, date: &str) -> (Bytes, RequestId) {
    let (line, id) = (refusal.line(), RequestId::new());
    let body = line.body(id.as_str());
    let reason = line.status.canonical_reason().unwrap_or("Refused");
    let later = line.status == StatusCode::SERVICE_UNAVAILABLE;
    let retry = if later { "retry-after: 1\r\n" } else { "" };
    let text = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\
         x-request-id: {}\r\n{retry}{date}\r\n{body}",
        line.status.as_str(),
        body.len(),
        id.as_str(),
    );
    (text.into(), id)
}

/// The answer, with its record already written: nobody waits for its last byte.
pub(crate) fn recorded(refusal: &Refusal, client: &Client, date: &str) -> Bytes {
    let (answer, id) = answer(refusal, date);
    let mut record = Record::begin(client.local.here(&client.gate).scene.clone(), tidegate_clock::boot());
    record.request_id = Some(id.value());
    record.client = Some(client.address);
    record.tls = client.tls;
    record.status = refusal.line().status.as_u16();
    record.refusal = Some(refusal.code());
    record.finish();
    answer
}
