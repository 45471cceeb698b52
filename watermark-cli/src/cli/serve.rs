//! Arguments of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Detection as a service: profiles and keys belong to the server.
///
/// Listens on the loopback interface unless the configuration allows more, and speaks plain HTTP: put a proxy
/// with TLS before it. Prints one JSON line with its address on standard output when it is ready, and
/// logs one JSON line a request on standard error, without text, key or token. SIGHUP, or a change of
/// any file that it was made from, loads configuration, keys and cohorts again; a bad one is logged and the
/// old one stays. SIGTERM and SIGINT end it after the requests at hand.
#[derive(Args)]
pub(crate) struct Serve {
    /// Marks, tokens and limits.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: PathBuf,
    /// Address and port, in place of the configuration's; port 0 takes a free one [default:
    /// 127.0.0.1:8737].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Open everything, run the known-answer test, and stop there.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
