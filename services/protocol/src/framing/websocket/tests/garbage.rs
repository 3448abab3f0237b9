//! Millions of bytes that nobody meant: no panic, bounded memory, and the same verdict however they are cut.

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use super::*;

const LIMITS: Limits = Limits { max_message_bytes: 5000, max_fragments: 8, binary: true };

/// Feeds a stream in random reads and checks the bound on memory after each.
fn decode_randomly(rng: &mut SmallRng, bytes: &[u8]) -> (Vec<Seen>, Option<Fault>) {
    let mut decoder = Decoder::new(LIMITS);
    let (mut seen, mut fault) = (Vec::new(), None);
    let mut rest = bytes;
    while !rest.is_empty() {
        let longest = *[3, 50, 3000].choose(rng).unwrap();
        let (now, later) = rest.split_at(rng.random_range(1..=longest).min(rest.len()));
        let (events, failed) = feed(&mut decoder, now);
        seen.extend(events);
        fault = fault.or(failed);
        assert!(decoder.held_bytes() <= LIMITS.max_message_bytes + 125 + 300, "{} bytes held", decoder.held_bytes());
        rest = later;
    }
    if !decoder.in_progress() {
        assert_eq!(decoder.held_bytes(), 0);
    }
    (seen, fault)
}

fn same_however_cut(rng: &mut SmallRng, bytes: &[u8]) -> (Vec<Seen>, Option<Fault>) {
    let whole = decode(LIMITS, bytes, usize::MAX);
    for _ in 0..2 {
        assert_eq!(decode_randomly(rng, bytes), whole);
    }
    whole
}

#[test]
fn noise() {
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..20_000 {
        let mut bytes = vec![0; rng.random_range(1..100)];
        rng.fill(bytes.as_mut_slice());
        same_however_cut(&mut rng, &bytes);
    }
}

/// Frames that are mostly right, so that the stream gets far: random headers and lengths, text that is mostly text, a bit flipped now and then.
#[test]
fn nearly_right_streams() {
    let mut rng = SmallRng::seed_from_u64(2);
    let (mut total, mut events, mut faults) = (0, 0, std::collections::BTreeSet::new());
    for _ in 0..3000 {
        let mut bytes = Vec::new();
        let mut open = false;
        for _ in 0..rng.random_range(1..40) {
            let right = if open { CONTINUATION } else { TEXT };
            let opcode = *[right, right, right, right, PING, PONG].choose(&mut rng).unwrap();
            let opcode = if rng.random_bool(0.01) { rng.random_range(0..16) } else { opcode };
            let control = opcode >= CLOSE;
            let fin = control || rng.random_bool(0.5);
            open = if control { open } else { !fin };
            let longest = if control { 125 } else { *[0, 10, 130, 2000].choose(&mut rng).unwrap() };
            let mut payload: Vec<u8> =
                "a\u{e4}\u{20ac}\u{1f4a9}".bytes().cycle().take(rng.random_range(0..=longest)).collect();
            if rng.random_bool(0.95) {
                let whole = payload.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
                payload.truncate(whole);
            }
            bytes.extend(masked_frame(if fin { FIN | opcode } else { opcode }, rng.random(), &payload));
        }
        if rng.random_bool(0.3) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
        if rng.random_bool(0.1) {
            bytes.extend(frame(FIN | CLOSE, &close_payload(rng.random_range(900..5100), b"reason")));
        }
        total += bytes.len();
        let (seen, fault) = same_however_cut(&mut rng, &bytes);
        events += seen.len();
        faults.extend(fault.map(Fault::metric_label));
    }
    // The test is worth something only if the streams get far and break in many ways.
    assert!(total > 10_000_000, "only {total} bytes");
    assert!(events > 5000, "only {events} events");
    assert!(faults.len() >= 8, "only {faults:?}");
}
