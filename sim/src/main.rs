//! `cargo sim run --seed 7 --nodes 4 --pods 8 --load 0.8 --seconds 60 --policies round_robin,plimsoll`

use std::process::ExitCode;
use std::time::Duration;

use plimsoll::pick::PolicyKind;
use plimsoll_sim::report::Report;
use plimsoll_sim::{Config, Costs};

const USAGE: &str = "\
usage: cargo sim run [flags]
  --seed N          decides everything left to chance (7)
  --nodes N         callers (4)
  --pods N          pods (8)
  --slots N         requests a pod runs at once (1)
  --load X          share of what the pods can do (0.8)
  --seconds N       how long (60)
  --policy NAME     or --policies A,B,..  plimsoll, least_cost, least_in_flight, p2c, round_robin, random
  --loss X          share of datagrams lost between nodes (0)
  --delay-us N      least time between nodes, one way (200)
  --jitter-us N     at most this more (800)
  --budget-bits N   gossip budget per node, bit/s (1000000)
  --costs HOW       learned (from bytes, as in production) or given";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match parse(&args) {
        Ok(run) => {
            println!("{}", Report::heading());
            for policy in run.policies {
                let config = Config { policy, ..run.config.clone() };
                println!("{}", Report::of(config, run.load, run.span).row());
            }
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

struct Run {
    config: Config,
    policies: Vec<PolicyKind>,
    load: f64,
    span: Duration,
}

fn parse(args: &[String]) -> Result<Run, String> {
    let [command, flags @ ..] = args else { return Err("what to do?".into()) };
    if command != "run" {
        return Err(format!("there is no command `{command}`"));
    }
    let mut run = Run {
        config: Config::default(),
        policies: vec![PolicyKind::Plimsoll],
        load: 0.8,
        span: Duration::from_secs(60),
    };
    for pair in flags.chunks(2) {
        let [flag, value] = pair else { return Err(format!("`{}` needs a value", pair[0])) };
        set(&mut run, flag, value)?;
    }
    Ok(run)
}

fn set(run: &mut Run, flag: &str, value: &str) -> Result<(), String> {
    let config = &mut run.config;
    match flag {
        "--seed" => config.seed = number(value)?,
        "--nodes" => config.nodes = number(value)?,
        "--pods" => config.pods = number(value)?,
        "--slots" => config.slots = number(value)?,
        "--load" => run.load = number(value)?,
        "--seconds" => run.span = Duration::from_secs(number(value)?),
        "--loss" => config.link.loss = number(value)?,
        "--delay-us" => config.link.delay = Duration::from_micros(number(value)?),
        "--jitter-us" => config.link.jitter = Duration::from_micros(number(value)?),
        "--budget-bits" => config.budget_bits = number(value)?,
        "--costs" => {
            config.costs = match value {
                "learned" => Costs::Learned,
                "given" => Costs::Given,
                _ => return Err(format!("`{value}` is neither learned nor given")),
            }
        }
        "--policy" | "--policies" => {
            let policies: Result<_, _> = value.split(',').map(str::parse::<PolicyKind>).collect();
            run.policies = policies.map_err(|unknown| unknown.to_string())?;
        }
        _ => return Err(format!("there is no flag `{flag}`")),
    }
    Ok(())
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{value}` is no number"))
}
