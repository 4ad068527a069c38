//! Which programs there are on this machine.

use std::{env, path::PathBuf};

/// Names a `valkey-server` that is not in `PATH`.
const VALKEY: &str = "TOLLGATE_VALKEY";

/// The redis-server in `PATH`.
///
/// # Panics
///
/// When there is none; the message says what to install.
pub(crate) fn redis() -> PathBuf {
    in_path("redis-server").unwrap_or_else(|| {
        panic!(
            "redis-server is missing: run scripts/test, which installs it where it may, or install the package \
             redis-server (Debian, Ubuntu) or redis (Alpine, Arch, Fedora, Homebrew)"
        )
    })
}

/// The valkey-server named by `TOLLGATE_VALKEY`, or else the one in `PATH`.
pub(crate) fn valkey() -> Option<PathBuf> {
    match env::var_os(VALKEY).filter(|named| !named.is_empty()) {
        Some(named) => {
            let named = PathBuf::from(named);
            assert!(named.is_file(), "{VALKEY}: there is no file {}", named.display());
            Some(named)
        }
        None => in_path("valkey-server"),
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| file.is_file())
}
