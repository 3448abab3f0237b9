#![allow(clippy::unwrap_used)]

use std::thread;

use proptest::prelude::*;

use super::*;

fn quotas(kind: Kind, rate: Rate) -> (Quotas, Instant) {
    let start = Instant::now();
    (Quotas::new(Rates::default().with(kind, Some(rate)), start), start)
}

/// Sweeps every shard once.
fn sweep_all(quotas: &Quotas, now: Instant) {
    (0..SHARDS).for_each(|_| quotas.sweep(now));
}

#[test]
fn the_burst_passes_then_the_rate() {
    let (quotas, start) = quotas(Kind::Connects, Rate::new(2, 3));
    let user = quotas.user("ann").unwrap();
    let take = |at: u64| quotas.take(Kind::Connects, user, 1, start + Duration::from_millis(at));
    assert_eq!([take(0), take(0), take(0)], [Taken::Yes; 3]);
    assert_eq!(take(0), Taken::Wait(Duration::from_millis(500)));
    assert_eq!(take(499), Taken::Wait(Duration::from_millis(1)));
    assert_eq!(take(500), Taken::Yes, "the refusals took nothing");
    assert_eq!(take(500), Taken::Wait(Duration::from_millis(500)));
    assert_eq!(take(0), Taken::Wait(Duration::from_millis(1000)), "an earlier time brings nothing");
}

#[test]
fn users_kinds_and_addresses_share_nothing() {
    let one = Some(Rate::new(1, 1));
    let rates = Rates::default().with(Kind::Polls, one).with(Kind::Streams, one);
    let now = Instant::now();
    let quotas = Quotas::new(rates, now);
    let (ann, bob) = (quotas.user("ann").unwrap(), quotas.user("bob").unwrap());
    let address = quotas.address([192, 0, 2, 1].into());
    for subject in [ann, bob, address] {
        for kind in [Kind::Polls, Kind::Streams] {
            assert_eq!(quotas.take(kind, subject, 1, now), Taken::Yes);
            assert_ne!(quotas.take(kind, subject, 1, now), Taken::Yes);
        }
    }
    assert_eq!(quotas.len(), 6);
    assert_eq!(quotas.user("ann"), Some(ann), "whichever connection asks");
    assert_eq!(quotas.user(""), None, "anonymous clients are not one user");
}

#[test]
fn an_address_counts_by_its_network() {
    let quotas = Quotas::new(Rates::default(), Instant::now());
    let subject = |address: &str| quotas.address(address.parse().unwrap());
    assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
    assert_eq!(subject("::ffff:192.0.2.1"), subject("192.0.2.1"));
    assert_ne!(subject("192.0.2.2"), subject("192.0.2.1"));
}

#[test]
fn a_kind_without_a_rate_has_no_bucket() {
    let now = Instant::now();
    let quotas = Quotas::new(Rates::default(), now);
    let user = quotas.user("ann").unwrap();
    assert!(Kind::ALL.into_iter().all(|kind| quotas.take(kind, user, u32::MAX, now) == Taken::Yes));
    assert!(quotas.is_empty());
}

#[test]
fn more_than_the_burst_passes_when_the_bucket_is_full() {
    let (quotas, start) = quotas(Kind::PublishedBytes, Rate::new(100, 1000));
    let user = quotas.user("ann").unwrap();
    let take = |n, at| quotas.take(Kind::PublishedBytes, user, n, start + Duration::from_secs(at));
    assert_eq!(take(5000, 0), Taken::Yes);
    assert_eq!(take(5000, 0), Taken::Wait(Duration::from_secs(10)));
    assert_eq!(take(5000, 10), Taken::Yes);
    assert_eq!(take(0, 10), Taken::Yes, "nothing always passes");
}

#[test]
fn a_full_bucket_is_swept_and_its_memory_given_back() {
    let (quotas, start) = quotas(Kind::Commands, Rate::new(1, 10));
    for user in 0..20_000 {
        let user = quotas.user(&user.to_string()).unwrap();
        assert_eq!(quotas.take(Kind::Commands, user, 5, start), Taken::Yes);
    }
    let before = quotas.bytes();
    sweep_all(&quotas, start + Duration::from_millis(4999));
    assert_eq!(quotas.len(), 20_000);
    sweep_all(&quotas, start + Duration::from_millis(5000));
    assert!(quotas.is_empty());
    assert!(quotas.bytes() < before / 100, "{} of {before} bytes", quotas.bytes());
}

#[test]
fn a_hundred_thousand_users_cost_less_than_10_mb() {
    let rates = Kind::ALL.into_iter().fold(Rates::default(), |rates, kind| rates.with(kind, Some(Rate::new(1, 9))));
    let now = Instant::now();
    let quotas = Quotas::new(rates, now);
    // A client connects, sends commands, and publishes.
    let used = [Kind::Connects, Kind::Commands, Kind::Publishes, Kind::PublishedBytes];
    for user in 0..100_000 {
        let user = quotas.user(&user.to_string()).unwrap();
        used.iter().for_each(|kind| assert_eq!(quotas.take(*kind, user, 1, now), Taken::Yes));
    }
    assert_eq!(quotas.len(), 400_000);
    assert!(quotas.bytes() <= 10_000_000, "{} bytes", quotas.bytes());
}

#[test]
fn the_number_of_buckets_is_bounded() {
    let (quotas, now) = quotas(Kind::Polls, Rate::new(1, 1));
    let most = SHARDS * SHARD_BUCKETS;
    for user in 0..most + most / 4 {
        quotas.take(Kind::Polls, Subject(user as u64), 1, now);
    }
    assert!(quotas.len() <= most);
    assert!(quotas.bytes() <= 18_000_000, "{} bytes", quotas.bytes());
}

#[test]
fn connections_on_many_threads_share_one_bucket() {
    let (quotas, start) = quotas(Kind::Publishes, Rate::new(1, 1000));
    let user = quotas.user("ann").unwrap();
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..500 {
                    if quotas.take(Kind::Publishes, user, 1, start) == Taken::Yes {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                    quotas.sweep(start);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 1000);
}

proptest! {
    /// Never more than the burst and what came back, whatever the pauses and sweeps; and whoever waits passes.
    #[test]
    fn no_interval_passes_more_than_burst_and_rate(
        (per_second, burst) in (1_u32..2000, 1_u32..500),
        takes in prop::collection::vec((0_u64..400_000, 1_u32..60, any::<bool>()), 1..200),
    ) {
        let (quotas, start) = quotas(Kind::Commands, Rate::new(per_second, burst));
        let user = quotas.user("ann").unwrap();
        let mut micros = 0;
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (pause, n, waits) in takes {
            micros += pause;
            let mut now = start + Duration::from_micros(micros);
            let mut taken = quotas.take(Kind::Commands, user, n, now);
            if let (Taken::Wait(wait), true) = (taken, waits) {
                micros += u64::try_from(wait.as_micros()).unwrap() + 1;
                now = start + Duration::from_micros(micros);
                taken = quotas.take(Kind::Commands, user, n, now);
                prop_assert_eq!(taken, Taken::Yes);
            }
            if taken == Taken::Yes {
                passed.push((micros, n.min(burst).into()));
            }
            sweep_all(&quotas, now);
        }
        for (from, (began, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (at, n) in &passed[from..] {
                sum += n * 1_000_000;
                let most = u64::from(burst) * 1_000_000 + (at - began) * u64::from(per_second);
                prop_assert!(sum <= most, "{} of {} millionths in {} us", sum, most, at - began);
            }
        }
    }
}
