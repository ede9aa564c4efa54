//! `plimsoll drain`: asks a node to drain, and waits until nothing is open there any more. What a preStop hook or a deployment
//! script calls before it ends the process.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde::Deserialize;
use tokio::time::sleep;

use super::ask::{Admin, AdminArgs};
use super::{Failure, print, say};
use crate::driver::clock;

/// How often the node is asked how far it is. It answers from memory.
const EVERY: Duration = Duration::from_millis(100);
/// A day: nobody waits longer, and clocks take it.
const LONGEST_S: f64 = 86_400.0;

#[derive(Args, Debug)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// How long to wait until nothing is open there any more, seconds; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    timeout_s: f64,
    /// Print the JSON that the node answered last
    #[arg(long)]
    json: bool,
}

/// What a node says of its drain. Fields that a newer one adds are ignored.
#[derive(Deserialize)]
struct Progress {
    stage: String,
    in_flight: u64,
}

pub(super) fn run(args: &DrainArgs) -> Result<(), Failure> {
    if !(0.0..=LONGEST_S).contains(&args.timeout_s) {
        let problem = format!("--timeout-s `{}` is out of range; write 0 to {LONGEST_S}", args.timeout_s);
        return Err(Failure::bad_input(problem));
    }
    let admin = Admin::new(&args.admin)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::at_run_time)?;
    runtime.block_on(drain(&admin, Duration::from_secs_f64(args.timeout_s), args.json))
}

async fn drain(admin: &Admin, patience: Duration, json: bool) -> Result<(), Failure> {
    let begun = clock::now();
    let mut body = admin.ask(Method::POST, "/v1/drain").await?;
    let mut told = None;
    loop {
        let Progress { stage, in_flight } = admin.read(&body)?;
        let took = clock::now().since(begun);
        let is_drained = stage == "drained";
        if is_drained || patience.is_zero() {
            let seconds = took.as_secs_f64();
            match (json, is_drained) {
                (true, _) => print(&body),
                (false, true) => print(&format!("drained in {seconds:.1} s: nothing is open; SIGTERM ends the node")),
                (false, false) => print(&format!("{stage}, {in_flight} requests in flight")),
            }
            return Ok(());
        }
        if took >= patience {
            return Err(Failure::at_run_time(format!(
                "{in_flight} requests are still in flight after {} s; the node cuts what is open after its front.drain_s, or wait longer with --timeout-s",
                patience.as_secs_f64()
            )));
        }
        if told.replace(in_flight) != Some(in_flight) {
            say(&format!("{stage}, {in_flight} requests in flight"));
        }
        sleep(EVERY).await;
        body = admin.ask(Method::GET, "/v1/drain").await?;
    }
}
