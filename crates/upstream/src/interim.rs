//! Informational answers (1xx, RFC 9110 § 15.2) on their way to the client: whoever polls a call for its client listens meanwhile.
//! What is asked for in a task of its own, for nobody or for several, has no listener, and they end there.

use std::cell::{Cell, RefCell};

use http::header::LINK;
use http::{HeaderMap, HeaderValue, StatusCode};

/// Bytes of `Link` fields that wait for who listens; more are left out.
const MOST: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ear {
    Nobodys,
    Listens,
    Heard,
}

thread_local! {
    static EAR: Cell<Ear> = const { Cell::new(Ear::Nobodys) };
    static HEARD: RefCell<Vec<Interim>> = const { RefCell::new(Vec::new()) };
}

/// What is told of one: its status and its `Link` fields, which are what hints are made of (RFC 8297 § 2). Other fields could say
/// what the answer itself is not allowed to.
#[derive(Debug)]
pub struct Interim {
    pub status: StatusCode,
    pub links: Vec<HeaderValue>,
}

/// From now until [`heard`] it is told here what comes; only calls with [`Call::interim`](crate::Call::interim) tell.
#[inline]
pub fn listen() {
    EAR.set(Ear::Listens);
}

/// What came since [`listen`].
#[inline]
pub fn heard() -> Vec<Interim> {
    if EAR.replace(Ear::Nobodys) == Ear::Heard { HEARD.take() } else { Vec::new() }
}

#[cold]
pub(crate) fn tell(status: StatusCode, headers: &HeaderMap) {
    let before = EAR.get();
    // 100 answers what we asked, not what the client did.
    if before == Ear::Nobodys || status == StatusCode::CONTINUE {
        return;
    }
    EAR.set(Ear::Heard);
    HEARD.with_borrow_mut(|heard| {
        if before == Ear::Listens {
            heard.clear(); // Of a poll that did not end.
        }
        let mut waiting: usize = heard.iter().flat_map(|interim| &interim.links).map(HeaderValue::len).sum();
        let fits = |link: &&HeaderValue| {
            waiting += link.len();
            waiting <= MOST
        };
        heard.push(Interim { status, links: headers.get_all(LINK).iter().take_while(fits).cloned().collect() });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint() {
        tell(StatusCode::EARLY_HINTS, &HeaderMap::from_iter([(LINK, HeaderValue::from_static("</a>"))]));
    }

    #[test]
    fn whoever_listens_hears_what_is_told_meanwhile_and_nothing_else() {
        let told = || heard().iter().map(|it| (it.status.as_u16(), it.links.len())).collect::<Vec<_>>();
        hint();
        listen();
        assert_eq!(told(), []);
        listen();
        tell(StatusCode::CONTINUE, &HeaderMap::new());
        hint();
        tell(StatusCode::PROCESSING, &HeaderMap::new());
        assert_eq!(told(), [(103, 1), (102, 0)]);
        hint();
        assert_eq!(told(), []);
        // Whose polling broke off never hears what was told; the next hears his own.
        listen();
        hint();
        listen();
        hint();
        assert_eq!(told(), [(103, 1)]);
        listen();
        let long = HeaderValue::try_from("a".repeat(MOST / 2)).expect("a value");
        (0..3).for_each(|_| tell(StatusCode::EARLY_HINTS, &HeaderMap::from_iter([(LINK, long.clone())])));
        assert_eq!(told(), [(103, 1), (103, 1), (103, 0)]);
    }
}
