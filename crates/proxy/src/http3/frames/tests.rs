use std::cell::Cell;

use super::*;

/// Pays ten times, and gathers 100 bytes.
struct Ten(Cell<u32>, Cell<isize>);

impl Purse for Ten {
    fn pays(&self) -> bool {
        self.0.set(self.0.get() + 1);
        self.0.get() <= 10
    }

    fn gathers(&self, bytes: isize) -> bool {
        self.1.set(self.1.get() + bytes);
        self.1.get() <= 100
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, u8::try_from(payload.len()).unwrap()][..], payload].concat()
}

/// `GET https a /`
fn head() -> Vec<u8> {
    frame(1, &[0, 0, 0xc0 | 17, 0xc0 | 23, 0x50, 1, b'a', 0xc0 | 1])
}

/// Whatever comes out, put together; `step` bytes come at a time, and then the end.
fn read(role: Role, bytes: &[u8], step: usize) -> Result<Vec<u8>, Fault> {
    let (mut frames, purse) = (Frames::new(role, 200), Ten(Cell::new(0), Cell::new(0)));
    let mut out = Vec::new();
    for part in bytes.chunks(step) {
        let mut part = Bytes::copy_from_slice(part);
        while let Some(piece) = frames.next(&mut part, &purse)? {
            out.extend(piece);
        }
        assert!(part.is_empty(), "all of it was taken");
    }
    frames.end()?;
    assert_eq!(purse.1.get(), 0, "nothing is counted that is gone");
    Ok(out)
}

fn request(frames: &[Vec<u8>]) -> Result<Vec<u8>, Fault> {
    let bytes = frames.concat();
    let whole = read(Role::Request, &bytes, usize::MAX);
    for step in 1..=bytes.len() {
        assert_eq!(read(Role::Request, &bytes, step), whole, "cut by {step}");
    }
    whole
}

fn code(fault: Result<Vec<u8>, Fault>) -> (bool, u64) {
    match fault {
        Err(Fault::Stream { code, .. }) => (false, code),
        Err(Fault::Connection { code, .. }) => (true, code),
        Ok(_) => (false, 0),
    }
}

#[test]
fn what_h3_would_trip_over_is_left_out() {
    let trailers = frame(1, &[0, 0, 0x21, b'x', 1, b'1']);
    let told = [head(), frame(0, b"body"), trailers.clone()];
    let with = [head(), frame(0x21, b"grease"), frame(0, b""), frame(0, b"body"), frame(0x40, b"")[..1].to_vec()];
    assert_eq!(request(&told), Ok(told.concat()));
    assert_eq!(code(request(&with)), (true, super::code::FRAME_ERROR), "a frame head that is cut off");
    let with = [head(), frame(0x21, b"grease"), frame(0, b""), frame(0, b"body"), trailers, frame(0x21, b"")];
    assert_eq!(request(&with), Ok(told.concat()));
}

#[test]
fn frames_come_where_they_may_and_whole() {
    use super::code::{FRAME_ERROR, FRAME_UNEXPECTED, MESSAGE_ERROR};
    let trailers = || frame(1, &[0, 0]);
    for (frames, wants) in [
        (vec![frame(0, b"x")], (true, FRAME_UNEXPECTED)),
        (vec![head(), trailers(), frame(0, b"x")], (true, FRAME_UNEXPECTED)),
        (vec![head(), trailers(), trailers()], (true, FRAME_UNEXPECTED)),
        (vec![frame(4, b"")], (true, FRAME_UNEXPECTED)),
        (vec![head(), frame(5, b"\0")], (true, FRAME_UNEXPECTED)),
        (vec![head(), frame(6, b"")], (true, FRAME_UNEXPECTED)),
        (vec![head(), frame(0, b"body")[..4].to_vec()], (true, FRAME_ERROR)),
        (vec![head()[..3].to_vec()], (true, FRAME_ERROR)),
        (vec![frame(1, &[0, 0, 0xc0 | 17, 0xc0 | 17])], (false, MESSAGE_ERROR)),
    ] {
        assert_eq!(code(request(&frames)), wants, "{frames:?}");
    }
}

#[test]
fn lengths_and_numbers_are_bounded() {
    use super::code::EXCESSIVE_LOAD;
    let long = [vec![1, 0x40, 201], vec![0; 201]].concat();
    assert_eq!(code(read(Role::Request, &long, usize::MAX)), (false, EXCESSIVE_LOAD));
    let slow = [vec![1, 0x40, 150], vec![0; 150]].concat();
    assert_eq!(code(read(Role::Request, &slow, 10)), (true, EXCESSIVE_LOAD), "more than all streams may gather");
    let flood = [head(), frame(0, b"").repeat(11)].concat();
    assert_eq!(code(read(Role::Request, &flood, 7)), (true, EXCESSIVE_LOAD));
}

#[test]
fn a_control_stream_has_rules_of_its_own() {
    use super::code::{FRAME_ERROR, FRAME_UNEXPECTED, ID_ERROR, MISSING_SETTINGS};
    let settings = || frame(4, &[6, 1]);
    let pushes = |most: u8| frame(0xd, &[most]);
    for (frames, wants) in [
        (vec![settings(), pushes(3), pushes(3), frame(7, &[0]), frame(0x21, b"x")], (false, 0)),
        (vec![frame(0x21, b"x"), settings()], (true, MISSING_SETTINGS)),
        (vec![settings(), pushes(3), pushes(2)], (true, ID_ERROR)),
        (vec![settings(), frame(3, &[0])], (true, ID_ERROR)),
        (vec![settings(), frame(0, b"x")], (true, FRAME_UNEXPECTED)),
        (vec![settings(), head()], (true, FRAME_UNEXPECTED)),
        (vec![settings(), frame(8, b"")], (true, FRAME_UNEXPECTED)),
        (vec![settings(), frame(7, &[0; 9])], (true, FRAME_ERROR)),
        (vec![settings(), frame(0xd, &[0, 0])], (true, FRAME_ERROR)),
    ] {
        let bytes = frames.concat();
        for step in [1, 2, usize::MAX] {
            assert_eq!(code(read(Role::Control, &bytes, step)), wants, "{frames:?}");
        }
    }
}
