//! One connection to a Redis, for all that a node asks at the same time; and what can be wrong with it, in words.
//!
//! The socket is this node's own, so that its end is known when it comes and not with the next command, and so that TLS is the
//! one of all other connections. Nothing waits here for longer than [`CONNECT`] or [`ANSWER`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError, ScriptInvocation,
    ServerErrorKind,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::RedisAddress;
use crate::config::one_line;
use crate::driver::tcp;
use crate::driver::tls::TlsError;
use crate::driver::tls::pods::{ClientTls, Wanted, server_name};
use crate::driver::watched::Text;
use crate::observe::PodTls;

/// How long a connection may take, with TLS and AUTH. A process that is stopped takes connections all the same, by its kernel: this
/// is how often a Redis in that state is tried, and with the pause between two tries must stay below two seconds.
const CONNECT: Duration = Duration::from_secs(1);
/// How long what no request waits for may take: over it, the connection is as good as none.
const ANSWER: Duration = Duration::from_secs(1);
/// A machine that acknowledges nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(12);

/// A Redis, and how to be let in.
#[derive(Clone)]
pub(crate) struct Server {
    address: RedisAddress,
    password_file: Option<PathBuf>,
    tls: Option<(ClientTls, ServerName<'static>)>,
}

/// Why there is no connection, or no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The password's file cannot be read.
    #[error("{0}")]
    Password(String),
    /// It cannot be reached.
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    /// It does not answer in time.
    #[error("does not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// It says no, or something else than was asked.
    #[error("{}", said(.0))]
    Refused(RedisError),
    /// It closed the connection.
    #[error("closed the connection")]
    Closed,
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> LinkError {
        if error.is_connection_dropped() { LinkError::Closed } else { LinkError::Refused(error) }
    }
}

/// What an error of Redis's means for whoever runs it.
fn said(error: &RedisError) -> String {
    let advice = match error.kind() {
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::ClusterDown) => {
            "this is a cluster, which does not fit: name a Redis that stands alone"
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
            "this is a replica: name the master"
        }
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "it will be back when it has loaded its data",
        ErrorKind::AuthenticationFailed => "check the user and the password file",
        _ => match error.code() {
            Some("OOM") => "its memory is full: raise its maxmemory",
            Some("WRONGTYPE") => "something else stands at its keys: give this fleet a prefix of its own",
            Some("NOAUTH" | "WRONGPASS" | "NOPERM") => "check the user and the password file",
            _ => "",
        },
    };
    let text = one_line(&error.to_string());
    let text = text.chars().take(300).collect::<String>();
    if advice.is_empty() { format!("says: {text}") } else { format!("says: {text} ({advice})") }
}

impl Server {
    /// The Redis at `address`.
    ///
    /// # Errors
    /// [`TlsError`] where a certificate cannot be used.
    pub(crate) fn new(
        address: RedisAddress,
        password_file: Option<PathBuf>,
        (ca_file, shows): (Option<PathBuf>, Option<(PathBuf, PathBuf)>),
    ) -> Result<Server, TlsError> {
        let (cert_file, key_file) = shows.unzip();
        let files = PodTls { ca_file, cert_file, key_file, server_name: None };
        let secured = || Ok::<_, TlsError>((ClientTls::of(&files)?, server_name(&address.host)?));
        let tls = address.tls.then(secured).transpose()?;
        Ok(Server { address, password_file, tls })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &RedisAddress {
        &self.address
    }

    /// A fresh connection.
    pub(crate) async fn connect(&self) -> Result<Link, LinkError> {
        timeout(CONNECT, self.connected()).await.map_err(|_| LinkError::Late(CONNECT))?
    }

    async fn connected(&self) -> Result<Link, LinkError> {
        let RedisAddress { host, port, user, database, .. } = &self.address;
        let mut info = RedisConnectionInfo::default().set_db(i64::from(*database));
        if let Some(user) = user {
            info = info.set_username(user);
        }
        if let Some(path) = &self.password_file {
            let text = Text::read(path).map_err(|error| LinkError::Password(error.to_string()))?;
            info = info.set_password(String::from_utf8_lossy(text.bytes.trim_ascii()));
        }
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(LinkError::Unreachable)?;
        tcp::prepare(&stream, SILENCE).map_err(LinkError::Unreachable)?;
        match &self.tls {
            None => Link::over(stream, &info).await,
            Some((tls, name)) => {
                let stream = tls.connect(stream, name.clone(), Wanted::Plain).await.map_err(LinkError::Unreachable)?;
                Link::over(stream, &info).await
            }
        }
    }
}

/// A connection. It ends with this, for all who use it.
pub(crate) struct Link {
    connection: MultiplexedConnection,
    reader: JoinHandle<()>,
    closed: watch::Receiver<()>,
}

impl Link {
    async fn over<S>(stream: S, info: &RedisConnectionInfo) -> Result<Link, LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Who waits, and for how long, is decided by who asks.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(info, stream, config).await;
        let (connection, reads) = made?;
        let (alive, closed) = watch::channel(());
        let reader = tokio::spawn(async move {
            reads.await;
            drop(alive);
        });
        Ok(Link { connection, reader, closed })
    }

    /// To ask by.
    pub(crate) fn connection(&self) -> &MultiplexedConnection {
        &self.connection
    }

    /// Returns when Redis has closed it.
    pub(crate) async fn closed(&self) {
        // Nobody sends: it fails when the reader is gone.
        let _ = self.closed.clone().changed().await;
    }

    /// The answer to `command`, in time.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, LinkError> {
        let mut connection = self.connection.clone();
        let answer = command.query_async(&mut connection);
        let answer = timeout(ANSWER, answer).await.map_err(|_| LinkError::Late(ANSWER))?;
        answer.map_err(LinkError::from)
    }
}

impl Link {
    /// The answer to a script, in time.
    pub(crate) async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, LinkError> {
        let mut connection = self.connection.clone();
        let answer =
            timeout(ANSWER, script.invoke_async(&mut connection)).await.map_err(|_| LinkError::Late(ANSWER))?;
        answer.map_err(LinkError::from)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
