//! Any stream of frames, cut into reads in any way, gives the same events, and holds no more than it should.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// A message or control frame that a client sends.
#[derive(Clone, Debug)]
enum Sent {
    /// A message, where to cut it into fragments, and a ping after each of them or not.
    Message { seen: Seen, cuts: Vec<Index>, pings: Vec<bool> },
    /// A control frame.
    Control(Seen),
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..8), vec(any::<u8>(), 0..400), vec(any::<u8>(), 60_000..70_000)]
}

fn message() -> impl Strategy<Value = Seen> {
    prop_oneof![
        "\\PC{0,20}".prop_map(Seen::Text),
        "(\\PC{20}){0,30}".prop_map(Seen::Text),
        payload().prop_map(Seen::Binary),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let control =
        prop_oneof![vec(any::<u8>(), 0..=125).prop_map(Seen::Ping), vec(any::<u8>(), 0..=125).prop_map(Seen::Pong)];
    prop_oneof![
        3 => (message(), vec(any::<Index>(), 0..5), vec(any::<bool>(), 5))
            .prop_map(|(seen, cuts, pings)| Sent::Message { seen, cuts, pings }),
        1 => control.prop_map(Sent::Control),
    ]
}

/// The frames of what is sent, and the events they must give.
fn encode(sent: &[Sent], masks: &mut impl Iterator<Item = [u8; 4]>) -> (Vec<u8>, Vec<Seen>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    let mut put = |first: u8, payload: &[u8]| bytes.extend(masked_frame(first, masks.next().unwrap(), payload));
    for sent in sent {
        match sent {
            Sent::Control(seen) => {
                match seen {
                    Seen::Ping(payload) => put(FIN | PING, payload),
                    Seen::Pong(payload) => put(FIN | PONG, payload),
                    other => panic!("not a control frame: {other:?}"),
                }
                expected.push(seen.clone());
            }
            Sent::Message { seen, cuts, pings } => {
                let (opcode, payload) = match seen {
                    Seen::Text(text) => (TEXT, text.as_bytes()),
                    Seen::Binary(bytes) => (BINARY, bytes.as_slice()),
                    other => panic!("not a message: {other:?}"),
                };
                let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
                ends.sort_unstable();
                let mut start = 0;
                for (index, end) in ends.into_iter().enumerate() {
                    put(if index == 0 { opcode } else { CONTINUATION }, &payload[start..end]);
                    start = end;
                    if pings[index] {
                        put(FIN | PING, &[index as u8]);
                        expected.push(Seen::Ping(vec![index as u8]));
                    }
                }
                put(FIN | if cuts.is_empty() { opcode } else { CONTINUATION }, &payload[start..]);
                expected.push(seen.clone());
            }
        }
    }
    (bytes, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn events_do_not_depend_on_the_reads(
        sent in vec(sent(), 0..8),
        masks in vec(any::<[u8; 4]>(), 1..20),
        reads in vec(prop_oneof![1..4usize, 1..200usize, 1..20_000usize], 1..20),
    ) {
        let (bytes, expected) = encode(&sent, &mut masks.into_iter().cycle());
        let mut decoder = Decoder::new(limits(100_000));
        let mut seen = Vec::new();
        let mut rest = bytes.as_slice();
        for read in reads.into_iter().cycle() {
            if rest.is_empty() { break }
            let (now, later) = rest.split_at(read.min(rest.len()));
            let (events, fault) = feed(&mut decoder, now);
            prop_assert_eq!(fault, None);
            seen.extend(events);
            rest = later;
        }
        prop_assert_eq!(&seen, &expected);
        prop_assert!(!decoder.in_progress());
        prop_assert_eq!(decoder.held_bytes(), 0);
        prop_assert_eq!(decode(limits(100_000), &bytes, usize::MAX).0, expected);
    }
}
