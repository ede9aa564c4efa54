//! `cargo sim run --seed 7 --nodes 4 --pods 8 --load 0.8 --seconds 60 --policies round_robin,plimsoll`

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use plimsoll::pick::PolicyKind;
use plimsoll_sim::report::Report;
use plimsoll_sim::{Config, Costs};

/// Plimsoll's core under a virtual clock: what a fleet of your shape would see. The same seed gives the same run.
#[derive(Parser)]
#[command(name = "cargo sim", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play one trace through each policy and print a row for each
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// Decides everything left to chance
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Callers
    #[arg(long, default_value_t = 4, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    nodes: usize,
    /// Pods
    #[arg(long, default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pods: usize,
    /// Requests a pod runs at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: u32,
    /// Share of what the pods can do, above 0 and below 1
    #[arg(long, default_value_t = 0.8, value_parser = share)]
    load: f64,
    /// Length of the run, in virtual time
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// plimsoll, least_cost, least_in_flight, p2c, round_robin, random
    #[arg(long, visible_alias = "policy", value_delimiter = ',', default_value = "plimsoll")]
    policies: Vec<PolicyKind>,
    /// Share of datagrams lost between nodes, below 1
    #[arg(long, default_value_t = 0.0, value_parser = loss)]
    loss: f64,
    /// Least time between nodes, one way, µs
    #[arg(long, default_value_t = 200)]
    delay_us: u64,
    /// At most this more, µs
    #[arg(long, default_value_t = 800)]
    jitter_us: u64,
    /// Gossip budget per node, bit/s
    #[arg(long, default_value_t = 1_000_000)]
    budget_bits: u64,
    /// Where costs come from
    #[arg(long, value_enum, default_value = "learned")]
    costs: From,
}

#[derive(Clone, Copy, ValueEnum)]
enum From {
    /// From bytes and served requests, as in production
    Learned,
    /// Known exactly
    Given,
}

fn main() {
    let Command::Run(run) = Cli::parse().command;
    println!("{}", Report::heading());
    for policy in &run.policies {
        println!("{}", Report::of(run.config(*policy), run.load, Duration::from_secs(run.seconds)).row());
    }
}

impl Run {
    fn config(&self, policy: PolicyKind) -> Config {
        let mut config = Config {
            policy,
            seed: self.seed,
            nodes: self.nodes,
            pods: self.pods,
            slots: self.slots,
            budget_bits: self.budget_bits,
            costs: match self.costs {
                From::Learned => Costs::Learned,
                From::Given => Costs::Given,
            },
            ..Config::default()
        };
        config.link.loss = self.loss;
        config.link.delay = Duration::from_micros(self.delay_us);
        config.link.jitter = Duration::from_micros(self.jitter_us);
        config
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("a number above 0 and below 1: at 1 queues grow without end".into()),
    }
}

fn loss(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(loss) if (0.0..1.0).contains(&loss) => Ok(loss),
        _ => Err("a number from 0 to below 1".into()),
    }
}
