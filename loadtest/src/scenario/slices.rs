//! Measurements in slices: all that is compared is open at once, and each gets a share of the work in turn, so that
//! whatever else the machine does meets all alike.

use anyhow::Context;

use super::environment::Environment;
use super::{Stage, files, raise_file_limit};
use crate::rounds::{self, Case, Measured, Outcome};
use crate::subject::Layout;

/// A measurement that is open and does its work in slices.
pub(super) trait Sliced: Sized {
    /// Does slice `number`, from 0, of `slices`.
    fn slice(&mut self, environment: &mut Environment<'_>, number: u64, slices: u64) -> anyhow::Result<()>;

    /// Closes what is open and returns the result.
    fn finish(self, environment: &mut Environment<'_>) -> anyhow::Result<Measured>;
}

/// The share of slice `number` of `slices`; the first ones have what does not divide.
pub(super) fn share(all: u64, number: u64, slices: u64) -> u64 {
    all / slices + u64::from(number < all % slices)
}

impl Stage<'_> {
    /// Compares as [`Stage::compare`] does, in slices if `--slices` asks for it.
    pub(super) fn compare_in_slices<M: Sliced>(
        &self,
        title: String,
        layout: Layout,
        open: impl Fn(&mut Environment<'_>) -> anyhow::Result<M>,
    ) -> anyhow::Result<Outcome> {
        self.cases_in_slices(title, &self.contestants(layout)?, |environment, ()| open(environment))
    }

    /// Measures cases, in slices if `--slices` asks for it.
    pub(super) fn cases_in_slices<P, M: Sliced>(
        &self,
        title: String,
        cases: &[Case<P>],
        open: impl Fn(&mut Environment<'_>, &P) -> anyhow::Result<M>,
    ) -> anyhow::Result<Outcome> {
        let slices = u64::from(self.common.slices);
        if slices == 1 {
            return self.cases(title, cases, |environment, parameters| {
                let mut measurement = open(environment, parameters)?;
                measurement.slice(environment, 0, 1)?;
                measurement.finish(environment)
            });
        }
        raise_file_limit(files(self.common) * cases.len() as u64)?;
        self.progress.say(&title);
        rounds::run(title, self.common.rounds, cases, |round, turns| {
            self.tell_round(round, "all in turn");
            let mut contestants: Vec<Option<(Environment<'_>, M)>> = cases.iter().map(|_| None).collect();
            for turn in turns {
                let mut environment = self.environment(&cases[*turn].spec)?;
                let measurement = open(&mut environment, &cases[*turn].parameters)?;
                contestants[*turn] = Some((environment, measurement));
            }
            for slice in 0..slices {
                for turn in there_and_back(turns, slice) {
                    self.check()?;
                    let (environment, measurement) = contestants[turn].as_mut().context("a case that is not open")?;
                    measurement.slice(environment, slice, slices)?;
                }
            }
            let finish = |contestant: Option<(Environment<'_>, M)>| {
                let (mut environment, measurement) = contestant.context("a case that is not open")?;
                measurement.finish(&mut environment)
            };
            contestants.into_iter().map(finish).collect()
        })
    }
}

/// The order of a slice: ABBA, so that a load that grows or fades meets all alike.
fn there_and_back(turns: &[usize], slice: u64) -> Vec<usize> {
    let mut turns = turns.to_vec();
    if slice % 2 == 1 {
        turns.reverse();
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (all, slices) in [(10, 3), (3, 10), (0, 4), (400, 20)] {
            assert_eq!((0..slices).map(|number| share(all, number, slices)).sum::<u64>(), all);
        }
    }

    #[test]
    fn turns_are_taken_there_and_back() {
        let orders: Vec<usize> = (0..4).flat_map(|slice| there_and_back(&[1, 0], slice)).collect();
        assert_eq!(orders, [1, 0, 0, 1, 1, 0, 0, 1]);
    }
}
