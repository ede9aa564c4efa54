//! `plimsoll view` and `plimsoll members`: one GET at the admin API of a running node.

use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::view;
use super::{Failure, print};
use crate::config::DEFAULT_ADMIN;

/// A node answers from memory; one that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// A view of 4096 pods and 100 peers is about this large.
const LARGEST: usize = 64 << 20;

#[derive(Args, Debug)]
pub(super) struct AskArgs {
    /// Admin address of the node
    #[arg(long, value_name = "ADDR", env = "PLIMSOLL_ADMIN", default_value = DEFAULT_ADMIN)]
    admin: String,
    /// Print the JSON that the node answered
    #[arg(long)]
    json: bool,
}

pub(super) fn view(args: &AskArgs) -> Result<(), Failure> {
    answer(args, "/v1/view", view::view)
}

pub(super) fn members(args: &AskArgs) -> Result<(), Failure> {
    answer(args, "/v1/members", view::members)
}

fn answer<T: DeserializeOwned>(args: &AskArgs, path: &str, table: impl Fn(T) -> String) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::at_run_time)?;
    let address = args.admin.trim_start_matches("http://").trim_end_matches('/');
    let unreachable = |reason: String| {
        let remedy = "is `plimsoll node` running there? name its admin address with --admin";
        Failure::at_run_time(format!("cannot ask the node at `{address}`: {reason}; {remedy}"))
    };
    let asked = async { tokio::time::timeout(PATIENCE, get(address, path)).await };
    let body = match runtime.block_on(asked) {
        Ok(answered) => answered.map_err(unreachable)?,
        Err(_) => return Err(unreachable(format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    if args.json {
        print(&body);
        return Ok(());
    }
    let value =
        serde_json::from_str(&body).map_err(|error| unreachable(format!("the answer is not a node's: {error}")))?;
    print(&table(value));
    Ok(())
}

async fn get(address: &str, path: &str) -> Result<String, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get(path)
        .header(HOST, address)
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?;
        match status {
            StatusCode::OK => String::from_utf8(body.to_bytes().into()).map_err(|error| error.to_string()),
            status => Err(format!("it answered {status} to {path}")),
        }
    };
    // The connection moves the bytes; it ends when the exchange drops the sender, or with an error that both see.
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(error.to_string()),
    }
}
