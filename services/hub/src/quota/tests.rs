#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::buckets::{SHARD_SUBJECTS, SHARDS};
use super::*;

fn user(name: &str) -> Identity {
    Identity { user: name.into(), ..Identity::default() }
}

/// Buckets of users with one limit, and the user ann's.
fn quotas(kind: Kind, rate: Option<Rate>) -> (Quotas, Payer, Instant) {
    let start = Instant::now();
    let quotas = with_rates(Rates::default().with(kind, rate), start);
    let ann = quotas.payer(&user("ann"), None);
    (quotas, ann, start)
}

fn with_rates(rates: Rates, start: Instant) -> Quotas {
    Quotas {
        users: Buckets::new(rates),
        addresses: Buckets::new(rates),
        ..Quotas::new(&QuotaSettings::default(), &Limits::default(), start)
    }
}

fn waits(limited: Result<(), Limited>) -> Option<Duration> {
    limited.err().map(|limited| limited.wait)
}

/// Sweeps every shard once.
fn sweep_all(quotas: &Quotas, now: Instant) {
    (0..SHARDS).for_each(|_| quotas.sweep(now));
}

#[test]
fn the_burst_passes_then_the_rate() {
    let (quotas, ann, start) = quotas(Kind::Connects, Rate::new(2, 3));
    let take = |at: u64| waits(quotas.take(ann, Kind::Connects, 1, start + Duration::from_millis(at)));
    assert_eq!([take(0), take(0), take(0)], [None; 3]);
    assert_eq!(take(0), Some(Duration::from_millis(500)));
    assert_eq!(take(499), Some(Duration::from_millis(1)));
    assert_eq!(take(500), None, "the refusals took nothing");
    assert_eq!(take(500), Some(Duration::from_millis(500)));
    assert_eq!(take(0), Some(Duration::from_millis(1000)), "an earlier time brings nothing");
}

#[test]
fn a_debt_is_paid_before_anything_passes() {
    let (quotas, ann, start) = quotas(Kind::Commands, Rate::new(10, 5));
    let charge = |n, at: u64| {
        quotas.charge(ann, Kind::Commands, n, start + Duration::from_millis(at)).map(|limited| limited.wait)
    };
    assert_eq!(charge(5, 0), None, "the burst");
    assert_eq!(charge(3, 0), Some(Duration::from_millis(300)));
    // Connections that share the bucket: each of them adds to the debt.
    assert_eq!(charge(3, 0), Some(Duration::from_millis(600)));
    assert_eq!(charge(1, 600), Some(Duration::from_millis(100)));
    assert_eq!(charge(1, 800), None);
    let debt = |at: u64| quotas.debt(ann, &CHARGED, start + Duration::from_millis(at)).map(|limited| limited.wait);
    assert_eq!(
        (debt(0), debt(600), debt(800)),
        (Some(Duration::from_millis(800)), Some(Duration::from_millis(200)), None)
    );
    assert_eq!(charge(1000, 10_000), Some(Duration::from_millis(99_500)), "more than the burst is not cut");
}

#[test]
fn users_kinds_and_addresses_share_nothing() {
    let rates = Rates::default().with(Kind::Connects, Rate::new(1, 1)).with(Kind::NewChannels, Rate::new(1, 1));
    let now = Instant::now();
    let quotas = with_rates(rates, now);
    let address = quotas.address([192, 0, 2, 1].into());
    let payers = [
        quotas.payer(&user("ann"), Some(address)),
        quotas.payer(&user("bob"), Some(address)),
        quotas.payer(&Identity::anonymous(), Some(address)),
    ];
    for payer in payers {
        for kind in [Kind::Connects, Kind::NewChannels] {
            assert_eq!(quotas.take(payer, kind, 1, now), Ok(()), "{payer:?} {kind:?}");
            let label = quotas.take(payer, kind, 1, now).unwrap_err().label;
            assert!(LABELS.contains(&label), "{label}");
        }
    }
    assert_eq!(quotas.subjects(), 3);
    assert_eq!(quotas.payer(&user("ann"), None), payers[0], "whichever connection asks");
}

#[test]
fn anonymous_clients_are_not_one_user() {
    let (quotas, _, now) = quotas(Kind::Connects, Rate::new(1, 1));
    let nobody = quotas.payer(&Identity::anonymous(), None);
    assert_eq!(nobody, Payer::Anonymous);
    assert!((0..100).all(|_| quotas.take(nobody, Kind::Connects, 1, now).is_ok()));
    assert_eq!(quotas.charge(nobody, Kind::Connects, 100, now), None);
    assert_eq!(quotas.subjects(), 0);
}

/// They could fill Redis together.
#[test]
fn anonymous_clients_have_so_many_new_channels_together() {
    let now = Instant::now();
    let anonymous = AnonymousQuotas { new_channel_rate: 1, new_channel_burst: 3 };
    let settings = QuotaSettings { anonymous, ..QuotaSettings::default() };
    let quotas = Quotas::new(&settings, &Limits::default(), now);
    let nobody = quotas.payer(&Identity::anonymous(), None);
    assert_eq!(quotas.take(nobody, Kind::NewChannels, 3, now), Ok(()));
    assert_eq!(quotas.take(nobody, Kind::NewChannels, 1, now).unwrap_err().label, "anonymous_new_channels");
    assert_eq!(quotas.take(Payer::Nobody, Kind::NewChannels, 9, now), Ok(()), "what is not their choice");
}

#[test]
fn an_address_pays_for_the_beginning_of_any_session() {
    let rates = Rates::default().with(Kind::Connects, Rate::new(1, 3)).with(Kind::Commands, Rate::new(1, 1));
    let now = Instant::now();
    let quotas = with_rates(rates, now);
    let payer = quotas.payer(&Identity::anonymous(), Some(quotas.address([192, 0, 2, 1].into())));
    for kind in [Kind::Polls, Kind::Streams, Kind::Connects] {
        assert_eq!(quotas.take(payer, kind, 1, now), Ok(()));
    }
    assert_eq!(quotas.take(payer, Kind::Polls, 1, now).unwrap_err().label, "address_connects");
    assert!((0..9).all(|_| quotas.charge(payer, Kind::Commands, 1, now).is_none()), "for the rest its connections pay");
}

#[test]
fn an_address_counts_by_its_network() {
    let quotas = Quotas::new(&QuotaSettings::default(), &Limits::default(), Instant::now());
    let subject = |address: &str| quotas.address(address.parse().unwrap());
    assert_eq!(subject("2001:db8:1:2::1"), subject("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(subject("2001:db8:1:2::1"), subject("2001:db8:1:3::1"));
    assert_eq!(subject("::ffff:192.0.2.1"), subject("192.0.2.1"));
    assert_ne!(subject("192.0.2.2"), subject("192.0.2.1"));
}

#[test]
fn a_kind_without_a_rate_has_no_bucket() {
    let (quotas, ann, now) = quotas(Kind::Connects, Rate::new(0, 5));
    assert!(quotas.take(ann, Kind::Connects, u32::MAX, now).is_ok());
    assert_eq!(quotas.charge(ann, Kind::Connects, u32::MAX, now), None);
    assert_eq!(quotas.subjects(), 0);
    let unlimited = Quotas::new(&QuotaSettings::unlimited(), &Limits::default(), now);
    assert!(unlimited.take(ann, Kind::Polls, u32::MAX, now).is_ok());
    assert_eq!(unlimited.subjects(), 0);
}

/// Who raises what one connection may do need not raise this too.
#[test]
fn a_user_may_do_what_one_connection_may() {
    let (now, wide) = (Instant::now(), Limits { command_rate: 5000, command_burst: 9000, ..Limits::default() });
    let quotas = Quotas::new(&QuotaSettings::default(), &wide, now);
    let ann = quotas.payer(&user("ann"), None);
    assert_eq!(quotas.charge(ann, Kind::Commands, 9000, now), None);
    let pause = quotas.charge(ann, Kind::Commands, 5000, now).unwrap().wait;
    assert_eq!(pause, Duration::from_secs(1));
}

#[test]
fn more_than_the_burst_passes_when_the_bucket_is_full() {
    let (quotas, ann, start) = quotas(Kind::PublishedBytes, Rate::new(100, 1000));
    let take = |n, at| waits(quotas.take(ann, Kind::PublishedBytes, n, start + Duration::from_secs(at)));
    assert_eq!(take(5000, 0), None);
    assert_eq!(take(5000, 0), Some(Duration::from_secs(10)));
    assert_eq!(take(5000, 10), None);
    assert_eq!(take(0, 10), None, "nothing always passes");
}

#[test]
fn full_buckets_are_swept_and_their_memory_given_back() {
    let (quotas, _, start) = quotas(Kind::Commands, Rate::new(1, 10));
    for name in 0..20_000 {
        let payer = quotas.payer(&user(&name.to_string()), None);
        assert_eq!(quotas.take(payer, Kind::Commands, 5, start), Ok(()));
    }
    let before = quotas.users.bytes();
    sweep_all(&quotas, start + Duration::from_millis(4999));
    assert_eq!(quotas.subjects(), 20_000);
    sweep_all(&quotas, start + Duration::from_millis(5000));
    assert_eq!(quotas.subjects(), 0);
    assert!(quotas.users.bytes() < before / 100, "{} of {before} bytes", quotas.users.bytes());
}

#[test]
fn a_hundred_thousand_users_with_all_buckets_in_use_cost_less_than_10_mb() {
    let now = Instant::now();
    let quotas = Quotas::new(&QuotaSettings::default(), &Limits::default(), now);
    let used = [
        Kind::Connects,
        Kind::Commands,
        Kind::Publishes,
        Kind::PublishedBytes,
        Kind::NewChannels,
        Kind::Polls,
        Kind::Streams,
    ];
    for name in 0..100_000 {
        let payer = quotas.payer(&user(&name.to_string()), None);
        used.iter().for_each(|kind| assert_eq!(quotas.take(payer, *kind, 1, now), Ok(())));
    }
    assert_eq!(quotas.subjects(), 100_000);
    assert!(quotas.users.bytes() <= 10_000_000, "{} bytes", quotas.users.bytes());
}

#[test]
fn the_number_of_subjects_is_bounded() {
    let (quotas, _, now) = quotas(Kind::Polls, Rate::new(1, 1));
    let most = SHARDS * SHARD_SUBJECTS;
    for name in 0..most + most / 4 {
        let payer = quotas.payer(&user(&name.to_string()), None);
        assert_eq!(quotas.take(payer, Kind::Polls, 1, now), Ok(()));
    }
    assert!(quotas.subjects() <= most);
    assert!(quotas.users.bytes() <= 20_000_000, "{} bytes", quotas.users.bytes());
}

#[test]
fn connections_on_many_threads_share_one_bucket() {
    let (quotas, ann, start) = quotas(Kind::Publishes, Rate::new(1, 1000));
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..500 {
                    if quotas.take(ann, Kind::Publishes, 1, start).is_ok() {
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
        let (quotas, ann, start) = quotas(Kind::Commands, Rate::new(per_second, burst));
        let mut micros = 0;
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (pause, n, obeys) in takes {
            micros += pause;
            let mut now = start + Duration::from_micros(micros);
            let mut wait = waits(quotas.take(ann, Kind::Commands, n, now));
            if let (Some(advised), true) = (wait, obeys) {
                micros += u64::try_from(advised.as_micros()).unwrap() + 1;
                now = start + Duration::from_micros(micros);
                wait = waits(quotas.take(ann, Kind::Commands, n, now));
                prop_assert_eq!(wait, None);
            }
            if wait.is_none() {
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

    /// Connections that share a bucket and pause as asked are held to the rate together, but for one charge of each.
    #[test]
    fn charges_of_many_connections_stay_within_the_rate(
        (per_second, burst) in (1_u32..500, 1_u32..100),
        charges in prop::collection::vec(1_u32..20, 2..16),
    ) {
        let (quotas, ann, start) = quotas(Kind::Commands, Rate::new(per_second, burst));
        let (end, mut spent) = (Duration::from_secs(20), 0_u64);
        let mut ready = vec![Duration::ZERO; charges.len()];
        loop {
            let next = (0..ready.len()).min_by_key(|at| ready[*at]).unwrap();
            let now = ready[next];
            if now >= end {
                break;
            }
            spent += u64::from(charges[next]);
            let pause = quotas.charge(ann, Kind::Commands, charges[next], start + now);
            ready[next] = now + pause.map_or(Duration::from_millis(1), |limited| limited.wait);
        }
        let once: u32 = charges.iter().sum();
        let most = u64::from(burst + once) + 20 * u64::from(per_second);
        prop_assert!(spent <= most, "{} of {}", spent, most);
    }
}
