//! Callers for the comparison: through an address (a pod, a proxy, a node), or with a balancer of their own inside.
//!
//! `infer` asks as fast as answers come, `play` plays a recording, `streams` holds streams open. Each prints a line of JSON.

mod latency;
mod p2c;
mod redis;
mod streams;
mod way;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use plimsoll_load::{Choice, Settings, play};

use latency::Load;
use way::{Callers, Way};

/// Ask pods for inferences through a balancer
#[derive(Parser, Debug)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// So many requests, so many at a time
    Infer {
        #[command(flatten)]
        way: Way,
        #[command(flatten)]
        load: Load,
    },
    /// A recording, each of its nodes a caller of its own
    Play {
        #[command(flatten)]
        way: Way,
        #[command(flatten)]
        settings: Settings,
    },
    /// Open streams that say nothing, and hold them until standard input ends
    Streams {
        /// Where to
        #[arg(long, value_name = "URL")]
        to: String,
        /// How many, all on one connection
        #[arg(long)]
        count: usize,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread asks and receives: what two of them tell each other is no balancer's cost.
fn run(command: Command) -> Result<String, Box<dyn std::error::Error>> {
    let runtime = match &command {
        Command::Play { .. } => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        match command {
            Command::Infer { way, load } => latency::run(Callers::new(&way).await?, &load).await,
            Command::Play { way, settings } => {
                let played = play(Callers::new(&way).await?, Choice::Node, &settings).await?;
                played.write(&settings.out)?;
                Ok(played.summary())
            }
            Command::Streams { to, count } => streams::hold(&to, count).await,
        }
    })
}
