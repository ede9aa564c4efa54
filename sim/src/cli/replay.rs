//! `cargo sim replay`: a plan again, as a failure left it behind.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::swarm::{Played, play_in};
use plimsoll_sim::trace::Latest;
use plimsoll_sim::{Failure, World};

use super::record::Recorder;
use super::{Result, fail};

#[derive(Args)]
pub(crate) struct Replay {
    /// The plan
    plan: PathBuf,
    /// End after so many virtual milliseconds, whatever the plan says
    #[arg(long, value_name = "T")]
    until_ms: Option<u64>,
    /// Write everything that happens to this file, one line of JSON each
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Say what occurred, and more of what led to a failure
    #[arg(short, long)]
    verbose: bool,
}

/// So many records of the failing node and pod lead to a failure; with -v so many.
const LATEST: (usize, usize) = (12, 60);

impl Replay {
    pub(crate) fn main(&self) -> Result {
        let plan = Plan::read(&self.plan)?;
        let plan = self.until_ms.map_or(plan.clone(), |ms| plan.until(ms));
        let mut world = World::new(plan.world.clone());
        let recorder = Recorder::start(&mut world, self.trace.as_deref())?;
        let played = play_in(&mut world, &plan);
        recorder.finish(&mut world)?;
        print(&plan, &played, self.verbose);
        let Some(failure) = &played.failure else {
            say!("no rule was broken");
            return Ok(ExitCode::SUCCESS);
        };
        self.tell(&plan, failure);
        Ok(ExitCode::from(fail::code(failure)))
    }

    /// The failure, and what led to it: the same run again, which remembers whom to look at.
    fn tell(&self, plan: &Plan, failure: &Failure) {
        let most = if self.verbose { LATEST.1 } else { LATEST.0 };
        let latest = Latest::new(failure.node, failure.pod, most);
        let mut world = World::new(plan.world.clone());
        world.trace.listen(latest.listener());
        play_in(&mut world, plan);
        let of = |what: &str, k: Option<usize>| k.map(|k| format!(" {what}-{k}")).unwrap_or_default();
        say!("the last records of{}{}:", of("node", failure.node), of("pod", failure.pod));
        latest.records().iter().for_each(|record| say!("{record}"));
        say!("{}", fail::line(plan.world.seed, plan, failure, &self.plan));
    }
}

fn print(plan: &Plan, played: &Played, verbose: bool) {
    say!(
        "{}: {} nodes, {} pods, {} faults in {:.1} s: {} requests, {} inputs, trace {:016x}",
        plan.scenario,
        plan.world.nodes,
        plan.world.pods,
        plan.faults.len(),
        plan.lasts_ms() as f64 / 1e3,
        played.requests,
        played.inputs,
        played.trace
    );
    if verbose {
        fail::print_marks(&played.marks);
    }
}
