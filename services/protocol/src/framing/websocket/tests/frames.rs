//! One test per thing that a client may do, rightly or wrongly.

use super::*;

/// Streams that end in a fault, and what came before it.
#[track_caller]
fn refused(bytes: &[u8], fault: Fault, code: u16) {
    let (_, seen) = decode_both(limits(1000), bytes);
    assert_eq!(seen, Some(fault), "{bytes:02x?}");
    assert_eq!(fault.close_code(), code);
}

#[track_caller]
fn accepted(bytes: &[u8], expected: &[Seen]) {
    assert_eq!(decode_both(limits(100_000), bytes), (expected.to_vec(), None), "{bytes:02x?}");
}

#[test]
fn whole_messages() {
    accepted(&frame(FIN | TEXT, b""), &[text("")]);
    accepted(&frame(FIN | TEXT, b"hello"), &[text("hello")]);
    accepted(&frame(FIN | BINARY, &[0, 255]), &[Seen::Binary(vec![0, 255])]);
    for len in [125, 126, 127, 128, 65_535, 65_536, 65_537] {
        accepted(&frame(FIN | TEXT, "x".repeat(len).as_bytes()), &[text(&"x".repeat(len))]);
    }
}

#[test]
fn several_frames_in_one_read() {
    let stream =
        [frame(FIN | TEXT, b"one"), frame(FIN | PING, b"p"), frame(FIN | TEXT, b"two"), frame(FIN | PONG, b"")];
    accepted(&stream.concat(), &[text("one"), Seen::Ping(b"p".into()), text("two"), Seen::Pong(vec![])]);
}

#[test]
fn fragments_with_control_frames_between() {
    let stream = [
        frame(TEXT, "gr\u{fc}".as_bytes()),
        frame(FIN | PING, b"one"),
        frame(CONTINUATION, b""),
        frame(FIN | PONG, b"two"),
        frame(FIN | CONTINUATION, b"n"),
        frame(BINARY, b"a"),
        frame(FIN | CONTINUATION, b"b"),
    ];
    let expected =
        [Seen::Ping(b"one".into()), Seen::Pong(b"two".into()), text("gr\u{fc}n"), Seen::Binary(b"ab".into())];
    accepted(&stream.concat(), &expected);
}

#[test]
fn close_is_reported_and_what_follows_is_ignored() {
    let after = frame(FIN | TEXT, b"late");
    let closes = [
        (vec![], Seen::Close(None, String::new())),
        (close_payload(1000, b""), Seen::Close(Some(1000), String::new())),
        (close_payload(3000, b"bye"), Seen::Close(Some(3000), "bye".into())),
        (close_payload(3008, "gr\u{fc}n".as_bytes()), Seen::Close(Some(3008), "gr\u{fc}n".into())),
        (close_payload(4999, &[b'r'; 123]), Seen::Close(Some(4999), "r".repeat(123))),
    ];
    for (payload, expected) in closes {
        accepted(&[frame(FIN | CLOSE, &payload), after.clone(), vec![0xFF; 30]].concat(), &[expected]);
    }
    let inside_message = [frame(TEXT, b"half"), frame(FIN | CLOSE, b""), frame(FIN | CONTINUATION, b"x")].concat();
    accepted(&inside_message, &[Seen::Close(None, String::new())]);
}

#[test]
fn close_codes() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        accepted(&frame(FIN | CLOSE, &close_payload(code, b"")), &[Seen::Close(Some(code), String::new())]);
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        refused(&frame(FIN | CLOSE, &close_payload(code, b"")), Fault::BadClose, 1002);
    }
    refused(&frame(FIN | CLOSE, &[3]), Fault::BadClose, 1002);
    refused(&frame(FIN | CLOSE, &close_payload(1000, &[0xC0, 0xAF])), Fault::InvalidUtf8, 1007);
    refused(
        &frame(FIN | CLOSE, &close_payload(1000, "\u{20ac}".as_bytes().split_last().unwrap().1)),
        Fault::InvalidUtf8,
        1007,
    );
}

#[test]
fn unmasked() {
    refused(&[FIN | TEXT, 0x05, b'h', b'e', b'l', b'l', b'o'], Fault::Unmasked, 1002);
    refused(&[FIN | PING, 0x00], Fault::Unmasked, 1002);
}

#[test]
fn reserved_bits_and_opcodes() {
    for bit in [0x40, 0x20, 0x10] {
        for opcode in [TEXT, BINARY, CONTINUATION, PING, CLOSE] {
            refused(&frame(FIN | bit | opcode, b"x"), Fault::ReservedBit, 1002);
        }
    }
    for opcode in (3..=7).chain(0xB..=0xF) {
        refused(&frame(FIN | opcode, b""), Fault::ReservedOpcode, 1002);
        refused(&frame(opcode, b"x"), Fault::ReservedOpcode, 1002);
    }
}

#[test]
fn malformed_control_frames() {
    for opcode in [PING, PONG, CLOSE] {
        refused(&frame(opcode, b"x"), Fault::ControlFragmented, 1002);
        refused(&frame(FIN | opcode, &[b'x'; 126]), Fault::ControlTooLong, 1002);
        refused(&announce(FIN | opcode, 70_000), Fault::ControlTooLong, 1002);
    }
    accepted(&frame(FIN | PING, &[b'x'; 125]), &[Seen::Ping(vec![b'x'; 125])]);
}

#[test]
fn continuations_out_of_place() {
    refused(&frame(CONTINUATION, b"x"), Fault::UnexpectedContinuation, 1002);
    refused(&frame(FIN | CONTINUATION, b"x"), Fault::UnexpectedContinuation, 1002);
    let done = [frame(TEXT, b"a"), frame(FIN | CONTINUATION, b"b"), frame(FIN | CONTINUATION, b"c")].concat();
    refused(&done, Fault::UnexpectedContinuation, 1002);
    for opcode in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        refused(&[frame(TEXT, b""), frame(opcode, b"x")].concat(), Fault::ExpectedContinuation, 1002);
    }
}

#[test]
fn lengths_in_too_long_a_form() {
    for (form, length) in
        [(126, vec![0, 125]), (126, vec![0, 0]), (127, vec![0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), (127, vec![0; 8])]
    {
        refused(&[vec![FIN | TEXT, 0x80 | form], length].concat(), Fault::BadLength, 1002);
    }
}

#[test]
fn announced_lengths_are_answered_at_once_and_allocate_nothing() {
    let announced = [
        (u64::MAX, Fault::BadLength, 1002),
        (1 << 63, Fault::BadLength, 1002),
        ((1 << 63) - 1, Fault::MessageTooLong, 1009),
        (1001, Fault::MessageTooLong, 1009),
    ];
    for (len, fault, code) in announced {
        for first in [FIN | TEXT, TEXT, FIN | BINARY] {
            refused(&[announce(first, len), vec![0; 4]].concat(), fault, code);
        }
    }
    let mut decoder = Decoder::new(limits(usize::MAX));
    let head = [announce(FIN | BINARY, (1 << 63) - 1), vec![0; 4 + 10]].concat();
    assert_eq!(feed(&mut decoder, &head), (vec![], None));
    assert!(decoder.held_bytes() < 300, "{} bytes held", decoder.held_bytes());
}

#[test]
fn messages_over_the_limit() {
    let (at, over) = ("x".repeat(1000), "x".repeat(1001));
    assert_eq!(decode_both(limits(1000), &frame(FIN | TEXT, at.as_bytes())), (vec![text(&at)], None));
    refused(&frame(FIN | TEXT, over.as_bytes()), Fault::MessageTooLong, 1009);

    let fragments = |last: usize| {
        [frame(TEXT, &[b'x'; 600]), frame(CONTINUATION, b""), frame(FIN | CONTINUATION, &vec![b'x'; last])].concat()
    };
    assert_eq!(decode_both(limits(1000), &fragments(400)), (vec![text(&at)], None));
    refused(&fragments(401), Fault::MessageTooLong, 1009);
    refused(
        &[frame(TEXT, &[b'x'; 600]), announce(CONTINUATION, (1 << 63) - 1), vec![0; 4]].concat(),
        Fault::MessageTooLong,
        1009,
    );
}

#[test]
fn floods_of_fragments() {
    let limits = Limits { max_fragments: 10, ..limits(1000) };
    let message = |continuations: usize, payload: &[u8]| {
        [
            frame(TEXT, payload),
            frame(CONTINUATION, payload).repeat(continuations - 1),
            frame(FIN | CONTINUATION, payload),
        ]
        .concat()
    };
    assert_eq!(decode_both(limits, &message(9, b"x")), (vec![text("xxxxxxxxxx")], None));
    assert_eq!(decode_both(limits, &message(10, b"x")), (vec![], Some(Fault::TooManyFragments)));
    assert_eq!(decode_both(limits, &message(10, b"")), (vec![], Some(Fault::TooManyFragments)));
    assert_eq!(decode(Limits::default(), &message(200_000, b""), 4096).1, Some(Fault::TooManyFragments));
    assert_eq!(Fault::TooManyFragments.close_code(), 1008);
}

#[test]
fn binary_where_only_text_is_spoken() {
    let limits = Limits { binary: false, ..limits(1000) };
    for first in [BINARY, FIN | BINARY] {
        let (seen, fault) = decode_both(limits, &[frame(FIN | TEXT, b"a"), announce(first, 900), vec![0; 4]].concat());
        assert_eq!((seen, fault), (vec![text("a")], Some(Fault::UnexpectedBinary)));
    }
    assert_eq!(Fault::UnexpectedBinary.close_code(), 1003);
}

/// Texts that are not UTF-8.
const NOT_UTF8: &[&[u8]] = &[
    b"\xED\xA0\x80",             // a surrogate
    b"\xED\xBF\xBF",             // the last one
    b"\xED\xA0\x80\xED\xB0\x80", // a pair of them
    b"\xC0\xAF",                 // `/` in two bytes
    b"\xC1\xBF",                 // DEL in two bytes
    b"\xE0\x80\xAF",             // `/` in three
    b"\xE0\x9F\xBF",             // the last that two bytes can say, in three
    b"\xF0\x80\x80\xAF",         // `/` in four
    b"\xF0\x8F\xBF\xBF",         // the last that three bytes can say, in four
    b"\xF4\x90\x80\x80",         // above U+10FFFF
    b"\xF5\x80\x80\x80",
    b"\xF8\x88\x80\x80\x80",
    b"\xFE",
    b"\xFF",
    b"\x80",     // a continuation byte alone
    b"\xC3\x28", // a beginning without its continuation
    b"\xE2\x82\x28",
    b"\xF0\x9F\x92\x28",
    b"\xE2\x82", // cut off at the end
    b"\xF0\x9F\x92",
    b"\xC3",
];

#[test]
fn text_that_is_not_utf8() {
    for bad in NOT_UTF8 {
        for before in ["", "a", "gr\u{fc}n", "\u{1f4a9}", &"x".repeat(200)] {
            let payload = [before.as_bytes(), bad].concat();
            refused(&frame(FIN | TEXT, &payload), Fault::InvalidUtf8, 1007);
            for cut in 0..=payload.len() {
                let (first, second) = payload.split_at(cut);
                let fragments =
                    [frame(TEXT, first), frame(FIN | PING, b""), frame(FIN | CONTINUATION, second)].concat();
                refused(&fragments, Fault::InvalidUtf8, 1007);
            }
            accepted(&frame(FIN | BINARY, &payload), &[Seen::Binary(payload.clone())]);
        }
    }
}

#[test]
fn text_that_is_utf8_however_it_is_cut() {
    for good in ["\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}", "\0", "\u{feff}x", "\u{fffe}"]
    {
        for first in 0..=good.len() {
            for second in first..=good.len() {
                let bytes = good.as_bytes();
                let parts = [
                    frame(TEXT, &bytes[..first]),
                    frame(CONTINUATION, &bytes[first..second]),
                    frame(FIN | CONTINUATION, &bytes[second..]),
                ];
                accepted(&parts.concat(), &[text(good)]);
            }
        }
    }
}

#[test]
fn wrong_text_fails_at_its_first_wrong_byte() {
    // Announced: a long text. The wrong byte is refused although most of the frame is still to come.
    let wrong_at =
        [(&b"ab\xC0"[..], 3), (b"ab\xED\xA0", 4), (b"ab\xF4\x90", 4), (b"ab\xE2\x82\x28", 5), (b"ab\xFF", 3)];
    for (payload, at) in wrong_at {
        for first in [FIN | TEXT, TEXT] {
            let mut decoder = Decoder::new(limits(1000));
            assert_eq!(feed(&mut decoder, &[announce(first, 900), vec![0; 4]].concat()), (vec![], None));
            for (index, byte) in payload.iter().enumerate() {
                let expected = (index + 1 == at).then_some(Fault::InvalidUtf8);
                assert_eq!(feed(&mut decoder, &[*byte]), (vec![], expected), "byte {index} of {payload:02x?}");
            }
        }
    }
}

#[test]
fn garbage_is_refused_at_once() {
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Fault::ReservedBit, 1002); // a TLS hello
    refused(b"GET / HTTP/1.1\r\n\r\n", Fault::ReservedBit, 1002);
    refused(b"\0\0\0\0", Fault::Unmasked, 1002);
}

#[test]
fn nothing_is_held_between_messages() {
    let mut decoder = Decoder::new(limits(100_000));
    assert!(size_of::<Decoder>() <= 32);
    let message = frame(FIN | TEXT, &[b'x'; 50_000]);
    for cut in [1, 2, 5, 8, 1000, message.len() - 1] {
        let (first, second) = message.split_at(cut);
        assert_eq!(feed(&mut decoder, first), (vec![], None));
        assert!(decoder.in_progress());
        assert!(decoder.held_bytes() <= 2 * cut + 300, "{} bytes held after {cut}", decoder.held_bytes());
        assert_eq!(feed(&mut decoder, second).0.len(), 1);
        assert!(!decoder.in_progress());
        assert_eq!(decoder.held_bytes(), 0);
    }
    // The end of a long message and the beginning of the next in one read: the long one is let go.
    let (first, second) = message.split_at(100);
    feed(&mut decoder, first);
    assert_eq!(feed(&mut decoder, &[second, &frame(TEXT, b"half")].concat()).0.len(), 1);
    assert!(decoder.in_progress());
    assert!(decoder.held_bytes() < 300, "{} bytes held", decoder.held_bytes());
    // A ping in two reads inside a message is let go, too.
    let held = decoder.held_bytes();
    let ping = frame(FIN | PING, &[b'p'; 100]);
    feed(&mut decoder, &ping[..50]);
    assert_eq!(feed(&mut decoder, &ping[50..]).0.len(), 1);
    assert_eq!(decoder.held_bytes(), held);
    feed(&mut decoder, &frame(FIN | CLOSE, b""));
    assert_eq!(decoder.held_bytes(), 0, "after the close frame");
}

#[test]
fn a_whole_message_is_delivered_where_it_lies() {
    let mut decoder = Decoder::new(Limits::default());
    let mut buffer = frame(FIN | TEXT, b"in place");
    let range = buffer.as_ptr_range();
    let mut input = buffer.as_mut_slice();
    let Ok(Some(Event::Text(text))) = decoder.next(&mut input) else { panic!("no text") };
    assert_eq!(text, "in place");
    assert!(range.contains(&text.as_ptr()));
    assert_eq!(decoder.held_bytes(), 0);
}
