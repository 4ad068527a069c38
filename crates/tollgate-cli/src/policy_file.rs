//! Reads a policy file from disk, with the files it names and the variables it asks for.

use std::{
    cell::RefCell,
    fs::File,
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

/// Reads a file that must be right.
pub(crate) fn config(path: &Path) -> Result<Loaded, Failure> {
    config_to_watch(path).1
}

/// The same, and all files that were read for it, whatever came of it.
pub(crate) fn config_to_watch(path: &Path) -> (Vec<Watched>, Result<Loaded, Failure>) {
    let files = RefCell::new(vec![Watched::new(path)]);
    let read = read_noting(path, &|named| files.borrow_mut().push(Watched::new(named)));
    let config = read.and_then(|read| read.map_err(|mistaken| Failure::Wrong(mistaken.show_errors())));
    (files.into_inner(), config)
}

/// Reads a file, or standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<Result<Loaded, Mistaken>, Failure> {
    read_noting(path, &|_| {})
}

/// The same, noting each file that it names just before that is read.
fn read_noting(path: &Path, note: &dyn Fn(&Path)) -> Result<Result<Loaded, Mistaken>, Failure> {
    let name = path.display().to_string();
    let text = if path == Path::new("-") { read_text(io::stdin()) } else { read_file(path) };
    let text = text.map_err(|why| Failure::Wrong(format!("error: {name}: {why}")))?;
    let source = Source { name, text };
    let named_file = |relative: &str| {
        let beside = path.parent().unwrap_or(Path::new("")).join(relative);
        note(&beside);
        // A pipe could keep us waiting for ever, and a device has no end.
        if beside.exists() && !beside.is_file() {
            return Err("not a regular file".to_owned());
        }
        read_file(&beside)
    };
    let store_url = |url: &str| url.parse::<StoreUrl>().map(|_| ()).map_err(|error| error.to_string());
    let surroundings =
        Surroundings { file: &named_file, variable: &|name| std::env::var(name).ok(), store_url: &store_url };
    Ok(match config::read(&source.text, &surroundings) {
        Ok((config, warnings)) => Ok(Loaded { config, warnings, source }),
        Err(mistakes) => Err(Mistaken { mistakes, source }),
    })
}

fn read_file(path: &Path) -> Result<String, String> {
    read_text(File::open(path).map_err(|error| reason(&error))?)
}

fn read_text(reader: impl Read) -> Result<String, String> {
    let mut text = String::new();
    let read = reader.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| reason(&error))?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_FILE_BYTES) {
        return Err(format!("larger than {} MiB", MAX_FILE_BYTES >> 20));
    }
    Ok(text)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        io::ErrorKind::InvalidData => "not text in UTF-8".to_owned(),
        _ => error.to_string(),
    }
}
