//! The account of a ring: what its entries hold, encodings included.
#![allow(clippy::unwrap_used)]

use fanway_protocol::Payload;
use proptest::prelude::*;

use super::tests::channel;
use super::*;
use crate::encoding::Encoder;

/// Encoder of so many bytes for each entry.
struct Filler(usize);

impl Encoder for Filler {
    fn encode(&self, _channel: &Channel, _entry: &Entry, out: &mut Vec<u8>) {
        out.resize(self.0, b'1');
    }
}

const ENCODED: [usize; 3] = [0, 100, 3000];

fn encodings(local: &LocalChannel) -> [EncodingId; 3] {
    let encodings = &local.shared.encodings;
    ENCODED.map(|bytes| encodings.intern(bytes.to_string(), || Box::new(Filler(bytes))).unwrap())
}

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    /// Of an entry that was pushed once: the ring may have dropped it.
    Encode(prop::sample::Index, usize),
    /// Those that were pushed before this one.
    Evict(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0_usize..3000).prop_map(Act::Push),
        4 => (any::<prop::sample::Index>(), 0_usize..3).prop_map(|(at, encoding)| Act::Encode(at, encoding)),
        1 => any::<prop::sample::Index>().prop_map(Act::Evict),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The account of a ring is what its entries hold, encodings included, and nothing stays in it that went.
    #[test]
    fn the_ring_accounts_for_what_it_holds(acts in prop::collection::vec(act(), 1..80)) {
        let (local, start) = (channel(), Instant::now());
        let (ids, held) = (encodings(&local), local.shared.metrics.ring_bytes.clone());
        let mut pushed: Vec<(Arc<Entry>, [bool; 3])> = Vec::new();
        for act in acts {
            match act {
                Act::Push(size) => {
                    let data = Payload::Json(vec![b'1'; size].into());
                    let publication = Arc::new(Publication { data, ..Publication::default() });
                    let received = start + Duration::from_secs(pushed.len() as u64);
                    let entry = Entry::publication(publication, None, false, received);
                    local.push(&local.state(), entry, &mut Marked::default());
                    let entry = local.ring().get(pushed.len() as u64).cloned().unwrap();
                    pushed.push((entry, [false; 3]));
                }
                Act::Encode(at, encoding) if !pushed.is_empty() => {
                    let at = at.index(pushed.len());
                    let (entry, made) = &mut pushed[at];
                    made[encoding] = true;
                    let bytes = local.encoded(entry, Some(at as u64), ids[encoding]);
                    prop_assert_eq!(bytes.len(), ENCODED[encoding]);
                }
                Act::Evict(at) if !pushed.is_empty() => {
                    local.evict(start + Duration::from_secs(at.index(pushed.len()) as u64), true);
                }
                Act::Encode(..) | Act::Evict(_) => {}
            }
            let tail = local.ring().tail() as usize;
            let cost = |(entry, made): &(Arc<Entry>, [bool; 3])| {
                let made = ENCODED.iter().zip(made).filter(|(_, made)| **made);
                entry.published_cost() + made.map(|(bytes, _)| bytes).sum::<usize>()
            };
            let expected: usize = pushed[tail..].iter().map(cost).sum();
            prop_assert_eq!((local.ring().bytes(), held.get()), (expected, expected as i64));
        }
        local.evict(start + Duration::from_secs(1000), true);
        prop_assert_eq!((local.ring().bytes(), held.get()), (0, 0));
    }
}

#[test]
fn threads_that_encode_while_entries_come_and_go_leave_nothing_in_the_account() {
    let (local, start) = (channel(), Instant::now());
    let (ids, held) = (encodings(&local), local.shared.metrics.ring_bytes.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..2000 {
                let received = start + Duration::from_millis(n);
                let entry = Entry::publication(Arc::default(), None, false, received);
                local.push(&local.state(), entry, &mut Marked::default());
            }
        });
        for turn in 0..2 {
            let (local, ids) = (&local, &ids);
            scope.spawn(move || {
                let mut next = 0;
                while next < 2000 {
                    let (seq, entry) = {
                        let ring = local.ring();
                        let seq = ring.tail().max(next);
                        (seq, ring.get(seq).cloned())
                    };
                    let Some(entry) = entry else { continue };
                    for at in 0..ids.len() {
                        local.encoded(&entry, Some(seq), ids[(at + turn) % ids.len()]);
                    }
                    next = seq + 1;
                }
            });
        }
    });
    let expected: usize = local.ring().from(0).map(|entry| entry.published_cost() + 3100).sum();
    assert_eq!((local.ring().bytes(), held.get()), (expected, expected as i64));
    local.trim(start + Duration::from_secs(1000));
    assert_eq!((local.ring().bytes(), held.get()), (0, 0));
}
