//! Exhaustive searches of a small fleet for silent gaps, duplicates, false gaps, and clients left behind.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod client;
mod fleet;
mod redis;
mod setup;
mod world;

use std::time::Instant;

use fleet::{CONVERGES, Fleet, NO_FALSE_GAP, NO_SILENT_GAP};
use setup::{Kind, Rule, Setup};
use stateright::{Checker, HasDiscoveries, Model};

const BOUND: usize = 30_000_000;

fn holds(name: &str, setup: Setup) {
    let began = Instant::now();
    let checker = Fleet::new(setup.clone())
        .checker()
        .target_state_count(BOUND)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{name:40} {:8} states {:8} generated depth {:3} {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    for (property, path) in checker.discoveries() {
        panic!("{name}: {property}: {:?}", path.into_actions());
    }
    assert!(checker.state_count() < BOUND);
}

#[test]
fn probe() {
    for kind in [Kind::Follows, Kind::Resubscribes, Kind::Adopts] {
        let base = Setup::new(kind);
        let name = |n: &str| format!("{kind:?} {n}");
        holds(&name("lossy"), Setup { failovers: 1, lossy: true, ..base.clone() });
        holds(&name("lossy kill"), Setup { failovers: 1, lossy: true, kills: 1, ..base.clone() });
        holds(&name("lossy drop"), Setup { failovers: 1, lossy: true, drops: 1, ..base.clone() });
        holds(&name("planned2"), Setup { failovers: 2, planned: true, ..base.clone() });
        holds(&name("planned2 part"), Setup { failovers: 2, planned: true, partial: true, ..base.clone() });
        holds(&name("lossy2"), Setup { failovers: 2, lossy: true, ..base.clone() });
        holds(&name("stale"), Setup { failovers: 1, stale: true, ..base.clone() });
        holds(&name("stale switchback"), Setup { failovers: 2, stale: true, switchback: true, ..base.clone() });
        holds(&name("flush kill drop"), Setup { flushes: 1, drops: 1, kills: 1, ..base.clone() });
        holds(&name("restart"), Setup { restarts: 1, ..base.clone() });
        holds(&name("retention1 lossy"), Setup { failovers: 1, lossy: true, retention: 1, ..base.clone() });
        holds(
            &name("slow drop kill"),
            Setup { slow_reads: true, hold_limit: 1, drops: 1, kills: 1, read_limit: 1, ..base.clone() },
        );
        holds(
            &name("slow lossy"),
            Setup { slow_reads: true, hold_limit: 1, failovers: 1, lossy: true, read_limit: 1, ..base.clone() },
        );
        holds(&name("cold lossy"), Setup { failovers: 1, lossy: true, cold: true, ..base.clone() });
    }
    let _ = (CONVERGES, NO_FALSE_GAP, NO_SILENT_GAP, Rule::Seam);
}
