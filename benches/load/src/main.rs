//! Plays a recording against nodes or pods, and writes what became of every request.
//!
//! Beside sending each node's requests to that node it can choose pods itself, which the product never does this way:
//! `fewest` knows at every moment exactly how many requests each pod has, because one thread chooses for all. No gossip
//! can know more, so it is what counting could reach at best. `turns` is what callers do who know nothing.

mod streams;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser;
use plimsoll_load::{Carrier, Choice, Client, Settings, client, play};
use plimsoll_proto::inference::ModelInferRequest;
use streams::Streams;
use tonic::Status;

/// Play a recording against nodes or pods; print a line of JSON
#[derive(Parser, Debug)]
struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Where requests go, such as http://127.0.0.1:8001; repeat for more
    #[arg(long, value_name = "URL", required = true)]
    target: Vec<String>,
    /// How one of them is chosen
    #[arg(long, value_enum, default_value_t = Choice::Node)]
    choose: Choice,
    /// Send them in so many streams to each target, which stay open, instead of one by one
    #[arg(long, value_name = "COUNT")]
    streams: Option<NonZeroUsize>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
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

async fn run(args: Args) -> Result<String, Box<dyn std::error::Error>> {
    let clients = args.target.iter().map(|url| client(url)).collect::<Result<_, _>>()?;
    let played = match args.streams {
        Some(each) => play(Streams::open(clients, each.get()), args.choose, &args.settings).await?,
        None => play(Clients(clients), args.choose, &args.settings).await?,
    };
    played.write(&args.settings.out)?;
    Ok(played.summary())
}

/// One connection to each target.
struct Clients(Vec<Client>);

impl Carrier for Clients {
    fn targets(&self) -> usize {
        self.0.len()
    }

    async fn infer(&self, target: usize, request: ModelInferRequest) -> Result<(), Status> {
        self.0[target].clone().model_infer(request).await.map(drop)
    }
}
