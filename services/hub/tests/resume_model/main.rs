//! Exhaustive searches of a small fleet: two Redis servers with asynchronous replication, two nodes, one client that
//! moves between them. The nodes run the real sequencer and the real decision of a resume.
//!
//! In every state that any order of the faults can lead to: the client got each publication's true successor or was told
//! of a gap, no gap was declared where the log read held everything, and when the faults end, the client reaches the top.
//! The second half leaves out one rule at a time and shows that the search then finds what goes wrong.
//!
//! The budgets are small and every search must end by itself: `cargo test --profile ci -p fanway-hub --test resume_model`.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod client;
mod fleet;
mod redis;
mod setup;
mod world;

use std::time::Instant;

use fanway_hub::HoldLimit;
use fleet::{CONVERGES, Fleet, Met, NO_FALSE_GAP, NO_SILENT_GAP, TOLD};
use setup::{Kind, Rule, Setup};
use stateright::{Checker, HasDiscoveries, Model};

/// Far beyond what these searches generate: one that comes here is not exhaustive.
const BOUND: usize = 20_000_000;

/// The kinds of clients that are safe.
const KINDS: [Kind; 3] = [Kind::Follows, Kind::Resubscribes, Kind::Adopts];

fn search(setup: Setup, until: HasDiscoveries) -> impl Checker<Fleet> {
    let began = Instant::now();
    let builder = Fleet::new(setup.clone()).checker().target_state_count(BOUND);
    let checker = builder.finish_when(until).spawn_bfs().join();
    let (unique, generated, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{unique} states, {generated} generated, depth {depth}, {:.1?}: {setup:?}", began.elapsed());
    checker
}

/// No faults but one move, and two publications: enough for one to be lost and one to come after it.
fn two(kind: Kind) -> Setup {
    Setup { publishes: 2, ..Setup::new(kind) }
}

/// Searches everything and finds nothing wrong. Returns what was met on the way.
fn holds(setup: Setup) -> Met {
    let checker = search(setup.clone(), HasDiscoveries::AnyFailures);
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        panic!("violated: {property} in {setup:?}\n{:#?}", path.into_actions());
    }
    assert!(checker.state_count() < BOUND, "not exhaustive: {setup:?}");
    checker.model().met()
}

/// Finds a violation of the property.
fn fails(property: &'static str, setup: Setup) {
    let checker = search(setup.clone(), HasDiscoveries::AnyOf([property].into()));
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("no violation of {property:?} was found in {setup:?}"));
    println!("{property}: {:?}", path.into_actions());
}

#[test]
fn failover_to_a_lagging_replica() {
    for kind in KINDS {
        let setup = Setup { failovers: 1, lossy: true, ..Setup::new(kind) };
        holds(Setup { publishes: 2, kills: 1, drops: 1, ..setup.clone() });
        holds(Setup { publishes: 2, cold: true, ..setup.clone() });
        holds(Setup { publishes: 2, retention: 1, ..setup });
    }
    let setup = Setup { failovers: 1, lossy: true, kills: 1, ..Setup::new(Kind::Follows) };
    assert_eq!(holds(setup), Met { served: true, paged: false, over_epochs: true, retry: true, gap: true });
}

#[test]
fn two_failovers_and_back() {
    let setup = Setup { failovers: 2, lossy: true, ..two(Kind::Resubscribes) };
    holds(setup.clone());
    holds(Setup { kind: Kind::Follows, keeps_connections: true, ..setup });
}

/// Nothing is lost, so nobody may be told of a gap at all.
#[test]
fn planned_failover() {
    for kind in KINDS {
        let setup = Setup { planned: true, ..Setup::new(kind) };
        for setup in [
            Setup { failovers: 2, partial: true, moves: 2, ..setup.clone() },
            Setup { failovers: 1, kills: 1, ..setup.clone() },
        ] {
            let met = holds(setup);
            assert!(met.over_epochs && !met.gap, "{met:?}");
        }
    }
}

#[test]
fn old_primary_goes_on_unaware() {
    for kind in KINDS {
        let setup = Setup { stale: true, ..Setup::new(kind) };
        holds(Setup { publishes: 2, failovers: 1, ..setup.clone() });
    }
    let twice = Setup { failovers: 2, stale: true, lossy: true, planned: true, switchback: true, ..two(Kind::Follows) };
    holds(twice);
}

#[test]
fn log_is_lost() {
    for kind in [Kind::Follows, Kind::Resubscribes] {
        holds(Setup { flushes: 1, failovers: 1, lossy: true, ..two(kind) });
    }
    holds(Setup { publishes: 2, flushes: 1, kills: 1, drops: 1, ..Setup::new(Kind::Follows) });
}

#[test]
fn primary_restarts_from_an_older_snapshot() {
    for kind in KINDS {
        holds(Setup { restarts: 1, ..two(kind) });
    }
    holds(Setup { restarts: 1, failovers: 1, planned: true, ..two(Kind::Follows) });
}

/// Publications that a node has passed on and the log has lost: nobody who resumes from before them is served in silence,
/// and who has passed over the loss is told.
#[test]
fn a_lost_tail_is_told() {
    for kind in [Kind::Follows, Kind::Resubscribes] {
        let two = Setup { told: true, publishes: 2, ..Setup::new(kind) };
        assert!(holds(Setup { failovers: 1, lossy: true, ..two.clone() }).gap);
        holds(Setup { restarts: 1, ..two.clone() });
        holds(Setup { failovers: 1, stale: true, ..two.clone() });
        let met = holds(Setup { failovers: 1, planned: true, kills: 1, ..two });
        assert!(!met.gap, "{met:?}");
    }
    let follows = Setup { told: true, publishes: 2, ..Setup::new(Kind::Follows) };
    // Twice from one snapshot: the record of the loss is lost, too.
    holds(Setup { restarts: 2, ..follows.clone() });
    holds(Setup { failovers: 2, lossy: true, ..follows });
}

/// A client that asks for everything and names no epoch gets everything, or a gap.
#[test]
fn no_epoch() {
    for kind in [Kind::Resubscribes, Kind::Adopts] {
        let setup = Setup { nameless: true, ..two(kind) };
        holds(Setup { failovers: 1, lossy: true, kills: 1, ..setup.clone() });
        holds(Setup { failovers: 2, planned: true, ..setup.clone() });
        holds(Setup { failovers: 1, stale: true, publishes: 2, ..setup.clone() });
        holds(Setup { kills: 1, drops: 1, publishes: 2, ..setup.clone() });
        assert!(holds(Setup { publishes: 3, retention: 2, ..setup }).gap);
    }
    let setup = Setup { failovers: 1, lossy: true, nameless: true, ..Setup::new(Kind::Resubscribes) };
    let met = holds(setup);
    assert!(met.served && met.retry && met.gap, "{met:?}");
}

/// What a client missed comes in pages, and between two of them anything may happen.
#[test]
fn pages() {
    for kind in KINDS {
        let paged = Setup { page: 1, publishes: 2, ..Setup::new(kind) };
        holds(Setup { failovers: 1, lossy: true, retention: 2, moves: 2, ..paged.clone() });
        holds(Setup { failovers: 1, stale: true, ..paged.clone() });
        holds(Setup { flushes: 1, ..paged.clone() });
        let planned = Setup { publishes: 3, failovers: 2, planned: true, moves: 2, ..paged };
        let met = holds(planned);
        assert!(met.paged && met.over_epochs && !met.gap, "{met:?}");
    }
    let paged = Setup { page: 1, failovers: 1, lossy: true, ..Setup::new(Kind::Follows) };
    assert_eq!(holds(paged), Met { served: true, paged: true, over_epochs: true, retry: true, gap: true });
    let nameless = Setup { page: 1, nameless: true, failovers: 1, lossy: true, ..Setup::new(Kind::Resubscribes) };
    assert!(holds(nameless).paged);
}

/// The way to the nodes loses publications, the log does not: no gap but for retention.
#[test]
fn lossy_feed() {
    let setup = Setup { kills: 1, drops: 1, ..Setup::new(Kind::Follows) };
    assert!(!holds(Setup { moves: 2, ..setup.clone() }).gap);
    assert!(holds(Setup { publishes: 2, retention: 1, ..setup }).gap);
}

/// Repairs take their time, read one entry after the other, and the node holds one publication or none meanwhile, or those
/// without a byte.
#[test]
fn slow_repairs() {
    let hold = |publications, kib| HoldLimit { publications, kib };
    let slow =
        |kind, hold_limit| Setup { publishes: 2, slow_reads: true, read_limit: 1, hold_limit, ..Setup::new(kind) };
    for kind in KINDS {
        for hold_limit in [hold(1, 10), hold(10, 0)] {
            holds(Setup { failovers: 1, lossy: true, ..slow(kind, hold_limit) });
        }
    }
    for hold_limit in [hold(0, 10), hold(10, 0)] {
        let setup = slow(Kind::Follows, hold_limit);
        assert!(!holds(Setup { kills: 1, drops: 1, ..setup }).gap);
    }
}

/// The same with one publication more: many minutes and some GiB. `cargo test --profile ci --workspace --test resume_model
/// -- --ignored`.
#[test]
#[ignore = "takes many minutes"]
fn three_publications() {
    for kind in KINDS {
        let three = Setup::new(kind);
        holds(Setup { failovers: 1, lossy: true, kills: 1, ..three.clone() });
        holds(Setup { failovers: 1, stale: true, ..three.clone() });
        holds(Setup { restarts: 1, ..three.clone() });
        holds(Setup { page: 1, failovers: 1, lossy: true, kills: 1, ..three.clone() });
        holds(Setup { failovers: 2, lossy: true, ..three });
    }
}

mod without {
    //! Each rule is needed: what happens without it.

    use super::*;

    fn without(rules: &'static [Rule]) -> Setup {
        Setup { without: rules, ..Setup::new(Kind::Follows) }
    }

    #[test]
    fn end_of_epoch() {
        fails(NO_SILENT_GAP, Setup { failovers: 1, lossy: true, ..without(&[Rule::EndOfEpoch]) });
    }

    #[test]
    fn reign() {
        fails(NO_SILENT_GAP, Setup { failovers: 1, lossy: true, ..without(&[Rule::Reign]) });
    }

    #[test]
    fn random_epoch() {
        fails(NO_SILENT_GAP, Setup { flushes: 1, ..without(&[Rule::RandomEpoch]) });
    }

    /// What happens to a loss that a node knows of.
    mod losses {
        use super::*;

        fn lossy(rules: &'static [Rule]) -> Setup {
            Setup { failovers: 1, lossy: true, ..without(rules) }
        }

        #[test]
        fn cut() {
            fails(TOLD, Setup { told: true, publishes: 2, ..lossy(&[Rule::Cut]) });
        }

        #[test]
        fn marker() {
            fails(TOLD, Setup { told: true, publishes: 2, ..lossy(&[Rule::Marker]) });
        }

        #[test]
        fn notice() {
            fails(TOLD, Setup { told: true, publishes: 2, ..lossy(&[Rule::Notice]) });
        }

        #[test]
        fn fork() {
            fails(NO_FALSE_GAP, lossy(&[Rule::Fork]));
        }

        #[test]
        fn start() {
            fails(NO_FALSE_GAP, lossy(&[Rule::Start]));
        }
    }

    #[test]
    fn seam() {
        fails(NO_SILENT_GAP, Setup { failovers: 1, lossy: true, ..without(&[Rule::Seam]) });
    }

    #[test]
    fn each_page() {
        fails(NO_SILENT_GAP, Setup { page: 1, failovers: 1, lossy: true, ..without(&[Rule::EachPage]) });
    }

    #[test]
    fn hold() {
        fails(NO_SILENT_GAP, without(&[Rule::Hold]));
    }

    #[test]
    fn periodic_check() {
        fails(CONVERGES, Setup { drops: 1, ..without(&[Rule::PeriodicCheck]) });
    }

    #[test]
    fn epoch_in_the_periodic_check() {
        fails(CONVERGES, Setup { flushes: 1, drops: 1, ..without(&[Rule::PeriodicEpoch]) });
    }

    /// The periodic check hides it, at the price of its period.
    #[test]
    fn subscribe_first() {
        fails(CONVERGES, Setup { kills: 1, ..without(&[Rule::SubscribeFirst, Rule::PeriodicCheck]) });
        holds(Setup { publishes: 2, kills: 1, ..without(&[Rule::SubscribeFirst]) });
    }

    /// Why clients that keep the epoch of their subscribe reply must subscribe again at a change of epoch.
    #[test]
    fn resubscription() {
        fails(NO_FALSE_GAP, Setup { failovers: 1, planned: true, ..Setup::new(Kind::Forgets) });
    }

    /// A limit, not a rule of ours: a log begun anew after a loss looks like the one that a client without an epoch knew.
    /// So every reply names an epoch.
    #[test]
    fn an_epoch() {
        fails(NO_SILENT_GAP, Setup { flushes: 1, nameless: true, ..without(&[]) });
    }

    /// A limit, not a rule of ours: an older copy of a log put back into a running server is not found out. Whoever
    /// restores one must delete the log's meta data.
    #[test]
    fn no_rollback_within_a_reign() {
        fails(NO_SILENT_GAP, Setup { restarts: 1, ..without(&[Rule::NoRollback]) });
    }
}
