//! What asks the admin API of a running node: `plimsoll view` and `plimsoll members` by one GET, and [`super::drain`].

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::view;
use super::{Failure, print};
use crate::config::DEFAULT_ADMIN;
use crate::driver::admin::access::token_in;
use crate::driver::tls::pods::{ClientTls, Wanted, server_name};
use crate::observe::PodTls;

/// A node answers from memory; one that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// A view of 4096 pods and 100 peers is about this large.
const LARGEST: usize = 64 << 20;

/// Where the admin API of a node is, and what opens it.
#[derive(Args, Debug)]
pub(super) struct AdminArgs {
    /// Admin address of the node, with https:// in front where it takes TLS
    #[arg(long, value_name = "ADDR", env = "PLIMSOLL_ADMIN", default_value = DEFAULT_ADMIN)]
    admin: String,
    /// File of the node's admin token, where it has one
    #[arg(long, value_name = "FILE", env = "PLIMSOLL_ADMIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the CA that the node's certificate comes from [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file of a certificate to show
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// The name in the node's certificate [default: the host of the address]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct AskArgs {
    #[command(flatten)]
    admin: AdminArgs,
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
    let admin = Admin::new(&args.admin)?;
    let body = runtime.block_on(admin.ask(Method::GET, path))?;
    match args.json {
        true => print(&body),
        false => print(&table(admin.read(&body)?)),
    }
    Ok(())
}

/// A node's admin API.
pub(super) struct Admin {
    address: String,
    bearer: Option<String>,
    tls: Option<(ClientTls, PodTls)>,
}

impl Admin {
    pub(super) fn new(args: &AdminArgs) -> Result<Admin, Failure> {
        let written = args.admin.trim_end_matches('/');
        let token = args.token_file.as_deref().map(token_in).transpose().map_err(Failure::bad_input)?;
        let mut settings = PodTls::default();
        settings.ca_file.clone_from(&args.ca_file);
        settings.cert_file.clone_from(&args.cert_file);
        settings.key_file.clone_from(&args.key_file);
        settings.server_name.clone_from(&args.server_name);
        let tls = match written.strip_prefix("https://") {
            Some(_) => Some((ClientTls::of(&settings).map_err(Failure::bad_input)?, settings)),
            None => None,
        };
        let address = written.trim_start_matches("http://").trim_start_matches("https://").to_owned();
        Ok(Admin { address, bearer: token.map(|token| format!("Bearer {token}")), tls })
    }

    /// The body of the answer.
    pub(super) async fn ask(&self, method: Method, path: &str) -> Result<String, Failure> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path)).await {
            Ok(answered) => answered.map_err(|reason| self.unreachable(&reason)),
            Err(_) => Err(self.unreachable(&format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    pub(super) fn read<T: DeserializeOwned>(&self, body: &str) -> Result<T, Failure> {
        serde_json::from_str(body).map_err(|error| self.unreachable(&format!("the answer is not a node's: {error}")))
    }

    fn unreachable(&self, reason: &str) -> Failure {
        let remedy = "is `plimsoll node` running there? name its admin address with --admin";
        Failure::at_run_time(format!("cannot ask the node at `{}`: {reason}; {remedy}", self.address))
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<String, String> {
        let stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        let Some((tls, settings)) = &self.tls else { return self.request(stream, method, path).await };
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let name = server_name(settings.server_name.as_deref().unwrap_or(host)).map_err(|error| error.to_string())?;
        let stream = tls.connect(stream, name, Wanted::Http1).await.map_err(|error| error.to_string())?;
        self.request(stream, method, path).await
    }

    async fn request<S>(&self, stream: S, method: Method, path: &str) -> Result<String, String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let request = Request::builder().method(method).uri(path).header(HOST, &self.address);
        let request = match &self.bearer {
            Some(bearer) => request.header(AUTHORIZATION, bearer),
            None => request,
        };
        let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body =
                Limited::new(response.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?;
            let body = String::from_utf8(body.to_bytes().into()).map_err(|error| error.to_string())?;
            match status {
                StatusCode::OK => Ok(body),
                status => Err(format!("it answered {status} to {path}{}", told(&body))),
            }
        };
        // The connection moves the bytes; it ends when the exchange drops the sender, or with an error that both see.
        tokio::select! {
            answer = exchange => answer,
            Err(error) = connection => Err(error.to_string()),
        }
    }
}

/// What a refusal says, behind a colon.
fn told(body: &str) -> String {
    let refusal: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let text = refusal.as_ref().and_then(|refusal| refusal["error"].as_str());
    text.map_or_else(String::new, |text| format!(": {}", crate::config::one_line(text)))
}
