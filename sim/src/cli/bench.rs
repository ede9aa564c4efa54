//! `cargo sim bench`: how fast the simulator is, by processor time.

use std::process::ExitCode;

use clap::Args;
use plimsoll_sim::check::Checks;
use plimsoll_sim::plan::Plan;
use plimsoll_sim::run::{Watch, run};
use plimsoll_sim::{Config, World, swarm};
use rustix::time::{ClockId, clock_gettime};

use super::Result;

/// Measures the simulator's speed.
#[derive(Args)]
pub(crate) struct Bench {
    /// Seeds of the mixed swarm to run
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// Also fleets of 200, 500 and 1,000 nodes, for two seconds each: minutes
    #[arg(long)]
    big: bool,
}

/// The fleet that the speed is told for: 16 nodes, 32 pods, 50 requests a second at each node.
fn reference() -> Config {
    let slots_busy = 16.0 * 50.0 * 22.25e-3;
    Config { nodes: 16, pods: 32, load: slots_busy / 32.0, ..Config::default() }
}

struct Line {
    inputs: u64,
    node_hours: f64,
    cpu_s: f64,
}

impl Bench {
    pub(crate) fn main(&self) -> Result {
        say!("{:<44}{:>12}{:>10}{:>14}{:>16}", "", "inputs", "CPU s", "inputs/CPU-s", "node-h/CPU-s");
        let plan = Plan::new("steady", reference(), 60_000);
        show("16 nodes, 32 pods, 50 req/s each, checked", &measured(&plan, &mut Checks::new(&plan)));
        show("the same without checkers", &measured(&plan, &mut Vec::new()));
        self.swarm();
        if self.big {
            for (nodes, pods) in [(200, 100), (500, 250), (1000, 500)] {
                let config = Config { nodes, pods, load: 0.7, ..Config::default() };
                let mut plan = Plan::new("steady", config, 2000);
                plan.ending.quiet_ms = 0;
                show(&format!("{nodes} nodes, {pods} pods, load 0.7"), &measured(&plan, &mut Vec::new()));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn swarm(&self) {
        let mut sum = Line { inputs: 0, node_hours: 0.0, cpu_s: 0.0 };
        for seed in 0..self.seeds {
            let plan = swarm::plan(seed);
            let line = measured(&plan, &mut Checks::new(&plan));
            sum.inputs += line.inputs;
            sum.node_hours += line.node_hours;
            sum.cpu_s += line.cpu_s;
        }
        show(&format!("mixed swarm, seeds 0..{}, checked", self.seeds), &sum);
        say!("{:<44}{:>52.1} seeds/CPU-s", "", self.seeds as f64 / sum.cpu_s);
    }
}

fn show(what: &str, line: &Line) {
    let Line { inputs, node_hours, cpu_s } = line;
    let (speed, hours) = (*inputs as f64 / cpu_s, node_hours / cpu_s);
    say!("{what:<44}{inputs:>12}{cpu_s:>10.2}{speed:>14.0}{hours:>16.2}");
}

fn measured(plan: &Plan, watch: &mut dyn Watch) -> Line {
    let before = cpu_s();
    let world: World = run(plan, watch);
    let node_hours = world.now().as_nanos() as f64 / 3.6e12 * plan.world.nodes as f64;
    Line { inputs: world.inputs, node_hours, cpu_s: cpu_s() - before }
}

/// Processor time of this process: other programs on the machine do not show in it.
fn cpu_s() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}
