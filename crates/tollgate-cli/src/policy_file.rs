//! Reads a policy file from disk, with the files it names and the variables it asks for.

use std::{
    cell::RefCell,
    fs::{self, File, FileType},
    io::{self, Read},
    path::Path,
};

use tollgate::config::{self, Config, Mistake, Severity, Surroundings};
use tollgate_redis::StoreUrl;

use crate::{Failure, watched::Watched};

/// The most that any file is read of; policies and lists of addresses are far smaller.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A policy file that was understood.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What looks wrong in it.
    pub(crate) warnings: Vec<Mistake>,
    /// Its name and text, to show a warning in its place.
    pub(crate) source: Source,
}

/// A policy file that was not.
pub(crate) struct Mistaken {
    pub(crate) mistakes: Vec<Mistake>,
    source: Source,
}

impl Mistaken {
    /// Everything that is or looks wrong.
    pub(crate) fn show(&self) -> String {
        self.show_those(|_| true)
    }

    /// What alone is the reason that the file cannot be used.
    fn show_errors(&self) -> String {
        self.show_those(|mistake| mistake.severity == Severity::Error)
    }

    fn show_those(&self, shown: impl Fn(&Mistake) -> bool) -> String {
        let errors = self.mistakes.iter().filter(|mistake| mistake.severity == Severity::Error).count();
        let plural = if errors == 1 { "" } else { "s" };
        let shown = self.mistakes.iter().filter(|mistake| shown(mistake)).map(|mistake| self.source.show(mistake));
        format!("{}\n\n{}: {errors} mistake{plural}", shown.collect::<Vec<_>>().join("\n\n"), self.source.name)
    }
}

/// A text that mistakes point into.
pub(crate) struct Source {
    pub(crate) name: String,
    text: String,
}

impl Source {
    pub(crate) fn show(&self, mistake: &Mistake) -> String {
        mistake.render(&self.name, &self.text)
    }
}

/// Whether a policy is read for the first time, when it can also come from a pipe, as in `serve <(…)`; later nobody may be
/// writing there, and to open it would wait for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    First,
    Again,
}

/// Reads a file that must be right.
pub(crate) fn config(path: &Path) -> Result<Loaded, Failure> {
    config_to_watch(path, Reading::First).1
}

/// The same, and all files that were read for it, whatever came of it.
pub(crate) fn config_to_watch(path: &Path, reading: Reading) -> (Vec<Watched>, Result<Loaded, Failure>) {
    let files = RefCell::default();
    let read = read_noting(path, reading, &files);
    let config = read.and_then(|read| read.map_err(|mistaken| Failure::Wrong(mistaken.show_errors())));
    (files.into_inner(), config)
}

/// Reads a file, or standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<Result<Loaded, Mistaken>, Failure> {
    read_noting(path, Reading::First, &RefCell::default())
}

/// The same, noting each file that is read for it.
fn read_noting(
    path: &Path,
    reading: Reading,
    files: &RefCell<Vec<Watched>>,
) -> Result<Result<Loaded, Mistaken>, Failure> {
    let name = path.display().to_string();
    let text = match path == Path::new("-") {
        true => read_text(io::stdin()).map_err(|error| reason(&error)),
        false => read_file(path, reading, files),
    };
    let text = text.map_err(|why| Failure::Wrong(format!("error: {name}: {why}")))?;
    let source = Source { name, text };
    let named_file = |relative: &str| {
        let beside = path.parent().unwrap_or(Path::new("")).join(relative);
        read_file(&beside, Reading::Again, files)
    };
    let store_url = |url: &str| url.parse::<StoreUrl>().map(|_| ()).map_err(|error| error.to_string());
    let surroundings =
        Surroundings { file: &named_file, variable: &|name| std::env::var(name).ok(), store_url: &store_url };
    Ok(match config::read(&source.text, &surroundings) {
        Ok((config, warnings)) => Ok(Loaded { config, warnings, source }),
        Err(mistakes) => Err(Mistaken { mistakes, source }),
    })
}

/// Reads a file, noted as it is just before.
fn read_file(path: &Path, reading: Reading, files: &RefCell<Vec<Watched>>) -> Result<String, String> {
    let mut file = Watched::new(path);
    let text = open(path, reading).and_then(read_text);
    file.could_not_be_read = text.as_ref().is_err_and(is_of_the_system);
    files.borrow_mut().push(file);
    text.map_err(|error| reason(&error))
}

fn open(path: &Path, reading: Reading) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    // A pipe could keep us waiting for ever, and a device has no end.
    if kind.is_file() || reading == Reading::First && can_be_read_once(kind) {
        return File::open(path);
    }
    let found = if kind.is_dir() { "a directory" } else { "a pipe, a socket or a device" };
    Err(io::Error::other(format!("{found}, not a regular file: put a file in its place")))
}

#[cfg(unix)]
fn can_be_read_once(kind: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    kind.is_fifo() || kind.is_char_device()
}

#[cfg(not(unix))]
fn can_be_read_once(kind: FileType) -> bool {
    !kind.is_dir()
}

fn read_text(reader: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let read = reader.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_FILE_BYTES) {
        return Err(io::Error::other(format!("larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    Ok(text)
}

/// Whether it says nothing of the file itself, which another time can be read as it is; a missing one is seen when it comes.
fn is_of_the_system(error: &io::Error) -> bool {
    error.raw_os_error().is_some() && error.kind() != io::ErrorKind::NotFound
}

pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        io::ErrorKind::InvalidData => "not text in UTF-8".to_owned(),
        _ => error.to_string(),
    }
}
