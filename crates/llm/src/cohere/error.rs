//! `{"id","message"}`; OpenAI's reader understands it.

use crate::json::Object;
use crate::meaning::Error;

pub(crate) fn render_error(error: &Error) -> Vec<u8> {
    Object::new().with("message", error.message.as_str()).bytes()
}
