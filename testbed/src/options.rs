//! How a server is started.

use std::path::PathBuf;

use crate::program;

/// How a server is started.
///
/// ```
/// use testbed::{Options, Server};
///
/// let server = Server::start(Options { password: Some("s3cret".to_owned()), ..Options::redis() });
/// # assert_eq!(server.command(&["PING"]).text(), "PONG");
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The program itself.
    pub program: PathBuf,
    /// More arguments, such as `--maxmemory` and `2mb`.
    pub arguments: Vec<String>,
    /// What clients must say to be let in.
    pub password: Option<String>,
    /// Whether it listens at a Unix socket as well.
    pub unix_socket: bool,
    /// What it shows to clients at a second port, where it speaks TLS.
    pub tls: Option<Tls>,
}

/// The files, in PEM, by which a server shows who it is.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Its certificate, and those up to the authority's.
    pub certificate: PathBuf,
    /// The key to it.
    pub key: PathBuf,
}

impl Options {
    /// Redis with nothing special.
    ///
    /// # Panics
    ///
    /// When there is no redis-server in `PATH`; the message says what to install.
    #[must_use]
    pub fn redis() -> Self {
        Self::of(program::redis())
    }

    /// Valkey with nothing special, where there is one: in `PATH`, or as the variable `TOLLGATE_VALKEY` says.
    /// The one that `scripts/test` installs speaks no TLS.
    #[must_use]
    pub fn valkey() -> Option<Self> {
        program::valkey().map(Self::of)
    }

    /// These with more arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    pub(crate) fn of(program: PathBuf) -> Self {
        Self { program, arguments: Vec::new(), password: None, unix_socket: false, tls: None }
    }
}
