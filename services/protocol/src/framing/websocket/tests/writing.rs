//! The server's frames, and the texts that go into them.

use super::super::{Opcode, close, frame};
use super::*;

#[test]
fn headers_have_the_shortest_form() {
    let cases: &[(usize, &[u8])] = &[
        (0, &[0x81, 0]),
        (125, &[0x81, 125]),
        (126, &[0x81, 126, 0, 126]),
        (0xFFFF, &[0x81, 126, 0xFF, 0xFF]),
        (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ];
    for (len, expected) in cases {
        let (header, written) = frame::header(Opcode::Text, *len);
        assert_eq!(&header[..written], *expected);
    }
}

#[test]
fn a_payload_written_in_place_makes_the_same_frame() {
    for len in [0, 1, 125, 126, 0xFFFF, 0x1_0000] {
        let payload = vec![b'x'; len];
        let (mut whole, mut in_place) = (b"before".to_vec(), b"before".to_vec());
        frame::write(&mut whole, Opcode::Text, &payload);
        frame::write_with(&mut in_place, Opcode::Text, |out| out.extend_from_slice(&payload));
        assert_eq!(in_place, whole, "{len}");
    }
}

#[test]
fn frames() {
    let mut out = Vec::new();
    frame::write(&mut out, Opcode::Text, b"hi");
    frame::write(&mut out, Opcode::Pong, b"");
    frame::write_close(&mut out, Some(3000), "bye");
    frame::write_close(&mut out, None, "not sent");
    assert_eq!(out, b"\x81\x02hi\x8A\x00\x88\x05\x0B\xB8bye\x88\x00");
}

#[test]
fn reasons_are_cut_at_a_character() {
    assert_eq!(close::cut_reason("short"), "short");
    assert_eq!(close::cut_reason(&"x".repeat(124)), "x".repeat(123));
    let wide = format!("{}\u{20ac}", "x".repeat(121));
    assert_eq!(close::cut_reason(&wide), "x".repeat(121));
    let mut out = Vec::new();
    frame::write_close(&mut out, Some(1000), &wide);
    assert_eq!(out[1], 123);
}

#[test]
fn faults_make_valid_close_frames() {
    let faults = [
        Fault::Unmasked,
        Fault::ReservedBit,
        Fault::ReservedOpcode,
        Fault::ControlTooLong,
        Fault::ControlFragmented,
        Fault::BadLength,
        Fault::UnexpectedContinuation,
        Fault::ExpectedContinuation,
        Fault::BadClose,
        Fault::InvalidUtf8,
        Fault::MessageTooLong,
        Fault::TooManyFragments,
        Fault::UnexpectedBinary,
    ];
    for fault in faults {
        assert!(close::is_sendable(fault.close_code()));
        assert_eq!(close::cut_reason(fault.reason()), fault.reason());
        assert!(serde_json::from_str::<serde_json::Value>(fault.reason()).is_err());
        assert!(
            fault.metric_label().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        );
    }
}
