use super::*;
use crate::wire::frames::PRIORITISED;

fn judge() -> Judge {
    let mut judge = Judge::new(&Bounds::default());
    let mut greeting = PREFACE.to_vec();
    greeting.extend(frame(kind::SETTINGS, 0, 0, b""));
    assert_eq!(judge.hear(&greeting, &|| 0), Found::Nothing);
    judge
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// How many of these, one by one, until it ends. `None`: more than a hundred thousand.
fn until_it_ends(judge: &mut Judge, frame: &[u8]) -> Option<(u32, &'static str)> {
    (1..100_000).find_map(|count| match judge.hear(frame, &|| 0) {
        Found::Ends(verdict, _) => Some((count, verdict.reason)),
        _ => None,
    })
}

#[test]
fn frames_that_bring_nothing_are_bounded() {
    let flood = |frame: Vec<u8>| until_it_ends(&mut judge(), &frame);
    for (name, frame, bound) in [
        ("ping", frame(kind::PING, 0, 0, &[0; 8]), 1_991),
        ("pong", frame(kind::PING, ACK, 0, &[0; 8]), 1_991),
        ("settings", frame(kind::SETTINGS, 0, 0, b""), 200),
        ("priority", frame(kind::PRIORITY, 0, 9, &[0; 5]), 1_991),
        ("window", frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 1_991),
        ("empty data", frame(kind::DATA, 0, 1, b""), 1_991),
        ("padding", frame(kind::DATA, PADDED, 1, b"\0"), 1_991),
        ("unknown", frame(0x77, 0, 0, b"?"), 1_991),
        ("continuation", frame(kind::CONTINUATION, 0, 1, b""), 1_991),
    ] {
        assert_eq!(flood(frame), Some((bound, "control_flood")), "{name}");
    }
    assert_eq!(flood(frame(kind::RST_STREAM, 0, 1, &[0; 4])), Some((501, "reset_flood")));
}

#[test]
fn they_come_again_with_time() {
    let mut judge = judge();
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    for count in 0..20_000 {
        assert_eq!(judge.hear(&ping, &|| count * 5), Found::Nothing, "{count}");
    }
    let faster = (1..100_000).find(|count| judge.hear(&ping, &|| 100_000 + count * 4) != Found::Nothing);
    assert!(faster.is_some());
}

#[test]
fn windows_are_paid_for_by_what_was_sent_through_them() {
    let mut judge = judge();
    let (window, ping) = (frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]), frame(kind::PING, 0, 0, &[0; 8]));
    for _ in 0..50_000 {
        judge.say(&frame(kind::DATA, 0, 1, b"twelve bytes"));
        for frame in [&window, &window, &ping] {
            assert_eq!(judge.hear(frame, &|| 0), Found::Nothing);
        }
    }
    for _ in 0..10_000 {
        judge.say(&frame(kind::DATA, 0, 1, &[0; 16 << 10]));
        for _ in 0..32 {
            assert_eq!(judge.hear(&window, &|| 0), Found::Nothing);
        }
    }
    let by_single_bytes = (1..1_000_000).find(|_| {
        judge.say(&frame(kind::DATA, 0, 1, b"1"));
        judge.hear(&window, &|| 0) != Found::Nothing
    });
    assert!(by_single_bytes.is_some());
}

#[test]
fn streams_given_up_are_paid_for_by_those_that_were_answered() {
    let mut judge = judge();
    let reset = frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    for _ in 0..10_000 {
        judge.say(&frame(kind::HEADERS, END_HEADERS, 1, b"\x88"));
        judge.say(&frame(kind::DATA, END_STREAM, 1, b""));
        assert_eq!(judge.hear(&reset, &|| 0), Found::Nothing);
    }
    assert_eq!(until_it_ends(&mut judge, &reset), Some((500, "reset_flood")));
}

#[test]
fn it_ends_between_two_frames_however_they_are_cut() {
    let mut bytes = Vec::new();
    for _ in 0..3_000 {
        bytes.extend(frame(kind::PING, 0, 0, &[0; 8]));
    }
    for size in [1, 7, 16, 17, 18, 1_000, bytes.len()] {
        let (mut judge, mut passed) = (judge(), 0);
        let place = bytes.chunks(size).find_map(|piece| match judge.hear(piece, &|| 0) {
            Found::Ends(_, place) => Some(passed + place),
            _ => {
                passed += piece.len();
                None
            }
        });
        assert_eq!(place.map(|place| place % 17), Some(0), "pieces of {size}");
    }
}

#[test]
fn the_first_frame_has_to_be_settings() {
    for (kind, flags, payload) in
        [(kind::PING, 0, &[0; 8][..]), (kind::HEADERS, 5, b"\x82"), (kind::SETTINGS, ACK, b"")]
    {
        let mut judge = Judge::new(&Bounds::default());
        let bytes = [PREFACE, &frame(kind, flags, 0, payload)].concat();
        assert_eq!(judge.hear(&bytes, &|| 0), Found::Ends(PROTOCOL, PREFACE.len()));
    }
}

#[test]
fn frames_of_the_wrong_size_and_settings_out_of_range_get_their_own_code() {
    for (kind, flags, length) in [
        (kind::PING, 0, 7),
        (kind::PRIORITY, 0, 4),
        (kind::RST_STREAM, 0, 5),
        (kind::WINDOW_UPDATE, 0, 3),
        (kind::SETTINGS, 0, 5),
        (kind::SETTINGS, ACK, 6),
        (kind::GOAWAY, 0, 4),
    ] {
        assert_eq!(judge().hear(&frame(kind, flags, 1, &vec![0; length]), &|| 0), Found::Named(FRAME_SIZE), "{kind}");
    }
    let settings = frame(kind::SETTINGS, 0, 0, b"\0\x03\0\0\0\0\0\x04\x80\0\0\0");
    assert_eq!(judge().hear(&settings, &|| 0), Found::Named(FLOW_CONTROL));
    for cut in 1..settings.len() {
        let mut judge = judge();
        let found = [judge.hear(&settings[..cut], &|| 0), judge.hear(&settings[cut..], &|| 0)];
        assert!(found.contains(&Found::Named(FLOW_CONTROL)), "cut at {cut}");
    }
}

#[test]
fn goaway_is_renamed_only_when_it_names_an_error() {
    let judge = judge();
    for (code, expected) in [(1, 6), (0, 0)] {
        let mut bytes =
            [frame(kind::PING, ACK, 0, &[0; 8]), frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, code])].concat();
        judge.rename(&mut bytes, 6);
        assert_eq!(
            bytes,
            [frame(kind::PING, ACK, 0, &[0; 8]), frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, expected])].concat()
        );
    }
}

#[test]
fn a_pseudo_field_among_trailers_ends_it() {
    let trailers = |flags: u8, block: &[u8]| {
        let mut judge = judge();
        assert_eq!(judge.hear(&frame(kind::HEADERS, END_HEADERS, 1, b"\x82\x86\x84"), &|| 0), Found::Nothing);
        judge.hear(&frame(kind::HEADERS, END_STREAM | END_HEADERS | flags, 1, block), &|| 0)
    };
    let bad: &[(u8, &[u8])] = &[
        (0, b"\x82"),
        (0, b"\x01\x03foo"),
        (0, b"\0\x05:path\x01/"),
        (0, b"\x40\x04grpc\x01x\x44\x01/"),
        (0, b"\0\x84\xb9\x58\xd3\x3f\x01/"), // `:path` in Huffman's code.
        (PADDED, b"\x02\x82zz"),
        (PRIORITISED, b"\0\0\0\0\x10\x82"),
    ];
    for (flags, block) in bad {
        assert_eq!(trailers(*flags, block), Found::Ends(PROTOCOL, 0), "{block:?}");
    }
    let good: &[(u8, &[u8])] = &[
        (0, b"\0\x0bgrpc-status\x010"),
        (0, b"\xbe"),
        (0, b"\x7f\x01\x010"),
        (PADDED, b"\x01\0\x01a\x01b\x82"),
        (0, b"\0\x7f\xff\xff\xff\xff\xff\xff"),
        (0, b"\x20"),
    ];
    for (flags, block) in good {
        assert_eq!(trailers(*flags, block), Found::Nothing, "{block:?}");
    }
}
