//! The policy file read again while `serve` runs: on SIGHUP and, with `--watch`, when it has changed. What it says takes over
//! as a whole, or nothing does and the log says why.

use std::{
    path::Path,
    sync::mpsc::{self, RecvTimeoutError, TrySendError},
    thread,
};

use anyhow::Context as _;
use tollgate::config::Config;
use tollgate_server::{ReloadError, Reloader};
use tracing::{error, info, warn};

use crate::{
    Failure,
    args::Serve,
    changes,
    policy_file::Reading,
    serve::{self, Read},
    watched::{LOOKED_EVERY, Watched, have_changed},
};

/// Begins to watch, if that is asked for. What comes back is to be called on SIGHUP.
pub(crate) fn start(
    serve: Serve,
    running: Running,
    reloader: Reloader,
) -> Result<impl FnMut() + Send + 'static, Failure> {
    // One wish is as good as many.
    let (wish, wishes) = mpsc::sync_channel(1);
    let mut reload = Reload { serve, running, reloader };
    let work = move || {
        while let Some(is_wanted) = wait(&wishes, &mut reload) {
            if is_wanted {
                reload.try_once();
            }
        }
    };
    thread::Builder::new().name("reload".to_owned()).spawn(work).context("the thread that reloads")?;
    Ok(move || match wish.try_send(()) {
        Ok(()) | Err(TrySendError::Full(())) => {}
        Err(TrySendError::Disconnected(())) => error!("SIGHUP: nobody is left who could read the policy again"),
    })
}

/// Whether a reload is wanted; none when nobody can want one any more.
fn wait(wishes: &mpsc::Receiver<()>, reload: &mut Reload) -> Option<bool> {
    if !reload.serve.watch {
        return wishes.recv().ok().map(|()| true);
    }
    match wishes.recv_timeout(LOOKED_EVERY) {
        Ok(()) => Some(true),
        Err(RecvTimeoutError::Timeout) => Some(have_changed(&mut reload.running.files)),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// What is in force, and what it was read from.
pub(crate) struct Running {
    pub(crate) config: Config,
    /// What looks wrong in it, and has been told.
    pub(crate) warnings: Vec<String>,
    pub(crate) files: Vec<Watched>,
}

struct Reload {
    serve: Serve,
    running: Running,
    reloader: Reloader,
}

impl Reload {
    fn try_once(&mut self) {
        let Err(failure) = self.once() else { return };
        if let Some(why) = failure.reason() {
            error!("not reloaded, everything stays as it was: {why}");
        }
    }

    fn once(&mut self) -> Result<(), Failure> {
        if self.serve.limit.is_some() {
            return Err(Failure::Wrong("SIGHUP, but with --limit there is no policy file to read again".to_owned()));
        }
        if self.serve.file.as_deref() == Some(Path::new("-")) {
            return Err(Failure::Wrong("SIGHUP, but standard input cannot be read again".to_owned()));
        }
        let (files, read) = serve::read(&self.serve, Reading::Again);
        // A mistake is told once, and again when there is another file.
        self.running.files = files;
        let Read { config, warnings, .. } = read?;
        let changes = changes::between(&self.running.config, &config);

        match self.reloader.reload(config.listeners.clone(), config.policy.clone()) {
            Ok(()) => {}
            Err(ReloadError::Ending) => return Ok(()),
            Err(ReloadError::Bind(error)) => return Err(Failure::CouldNot(error.into())),
        }
        info!(changes = changes.len(), "reloaded: {}", changes::sentence(&changes));
        for warning in warnings.iter().filter(|warning| !self.running.warnings.contains(warning)) {
            warn!("{warning}");
        }
        if config.listeners != self.running.config.listeners {
            serve::make_room_for_connections(&config.listeners);
        }
        // The store is the one that was opened at the start.
        let store = self.running.config.store.clone();
        (self.running.config, self.running.warnings) = (Config { store, ..config }, warnings);
        Ok(())
    }
}
