//! Reads a policy file from disk, with the files it names and the variables it asks for.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use tollgate::config::{Config, Mistake, Severity, Surroundings, read};

use crate::Failure;

/// The most that any file is read of; policies and lists of addresses are far smaller.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A policy file that was understood.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What looks wrong in it, ready to be shown.
    pub(crate) warnings: Vec<String>,
}

/// A policy file that was not.
pub(crate) struct Mistaken {
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) shown: String,
}

/// Reads a file that must be right.
pub(crate) fn config(path: &Path) -> Result<Loaded, Failure> {
    policy_file(path)?.map_err(|mistaken| Failure::Wrong(mistaken.shown))
}

/// Reads a file, or standard input for `-`.
pub(crate) fn policy_file(path: &Path) -> Result<Result<Loaded, Mistaken>, Failure> {
    let name = path.display().to_string();
    let source = read_text(path).map_err(|why| Failure::Wrong(format!("error: {name}: {why}")))?;
    let file = |relative: &str| {
        let beside = path.parent().unwrap_or(Path::new("")).join(relative);
        // A pipe could keep us waiting for ever, and a device has no end.
        if beside.exists() && !beside.is_file() {
            return Err("not a regular file".to_owned());
        }
        read_text(&beside)
    };
    let surroundings = Surroundings { file: &file, variable: &|name| std::env::var(name).ok() };
    let show = |mistakes: &[Mistake]| mistakes.iter().map(|mistake| mistake.render(&name, &source)).collect::<Vec<_>>();
    Ok(match read(&source, &surroundings) {
        Ok((config, warnings)) => Ok(Loaded { config, warnings: show(&warnings) }),
        Err(mistakes) => {
            let errors = mistakes.iter().filter(|mistake| mistake.severity == Severity::Error).count();
            let plural = if errors == 1 { "" } else { "s" };
            let shown = format!("{}\n\n{name}: {errors} mistake{plural}", show(&mistakes).join("\n\n"));
            Err(Mistaken { mistakes, shown })
        }
    })
}

fn read_text(path: &Path) -> Result<String, String> {
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(|error| reason(&error))?)
    };
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
