//! The admin API over TLS: a token or a certificate opens it, and `plimsoll view` has either.

use std::path::Path;

use plimsoll::driver::admin::{Admin, Token};
use plimsoll::driver::drain::Drain;
use plimsoll::driver::metrics::Metrics;
use plimsoll::driver::tls::ServerTls;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::fake::Pod;
use super::fake::world::world;
use super::files;
use super::pki::Ca;

/// Kubernetes' probes have no certificate, people may have one or a token: each must get as far as it should.
#[tokio::test]
async fn a_token_or_a_certificate_opens_the_admin_api() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new(folder.path(), "ca");
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    let pod = Pod::start("a").await;
    let world = world(&[&pod], |_| {}).await;
    let tls = ServerTls::load(files(&ca.issue("node", "localhost")).client_ca(ca.path())).unwrap();
    let admin =
        Admin::new(world.node.clone(), Metrics::new(), Drain::new()).tls(tls).token(Token::load(&token).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(admin.serve(listener, std::future::pending()));

    let (ca_file, person) = (ca.path(), ca.issue("person", "person"));
    let view = async |ca_file: &Path, more: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command.args(["view", "--admin", &address, "--server-name", "localhost"]);
        let output = command.arg("--ca-file").arg(ca_file).args(more).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let flag = Path::new;
    let (code, said) = view(&ca_file, &[]).await;
    assert!(code == Some(1) && said.contains("401 Unauthorized"), "{said}");
    assert_eq!(view(&ca_file, &[flag("--token-file"), &token]).await.0, Some(0));
    assert_eq!(view(&ca_file, &[flag("--cert-file"), &person.cert, flag("--key-file"), &person.key]).await.0, Some(0));
    let other = Ca::new(folder.path(), "other");
    let (code, said) = view(&other.path(), &[flag("--token-file"), &token]).await;
    assert!(code == Some(1) && said.contains("UnknownIssuer"), "{said}");
    served.abort();
}
