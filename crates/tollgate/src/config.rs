//! The policy file: text in, a [`Config`] out, or every mistake in it with its place and remedy.
//!
//! The file is first a tree of nodes that know where they stand. Readers walk it in the order of the format's
//! documentation, ask all their questions, and leave a mistake wherever the answer is not what was expected; so one run
//! reports all of them. What comes out holds valid things only.
//!
//! ```
//! use tollgate::config::{Surroundings, read};
//!
//! let source = "rules:\n  - name: login\n    limit: 5/fortnight\n";
//! let mistakes = read(source, &Surroundings::none()).unwrap_err();
//! assert_eq!((mistakes[0].line, mistakes[0].column), (3, 14));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// From text to tree.
mod budget;
mod build;
mod node;
mod syntax;
mod unclosed;
mod variables;

// Questions to the tree, and what is said of wrong answers.
mod excerpt;
mod mistake;
mod read;
mod spelling;

// What the parts of the file mean.
mod answer;
mod conditions;
mod listener;
mod proxies;
mod rule;
mod store;
mod upstream;
mod warnings;

use std::fmt;

pub use listener::{Listener, ListenerLimits, NO_UPSTREAM, ProxyVersion, Timeouts};
pub use mistake::{Mistake, Severity};
pub use store::{SharedStore, StoreConfig};
pub use upstream::{Upstream, UpstreamError};

use self::{
    mistake::Mistakes,
    node::Node,
    read::{Field, Fields},
};
use crate::{
    clock::Clock,
    headers::{Dialect, Dialects},
    limiter::Limiter,
    policy::Policy,
    request::Source,
    store::memory::MemoryStore,
};

/// What a policy file says.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; none if the file leaves that out.
    pub listeners: Vec<Listener>,
    /// The rules, and who may speak for a client.
    pub policy: Policy,
    /// Where the rules count.
    pub store: StoreConfig,
}

/// What a policy file may ask its surroundings for; the engine itself reads neither files nor the environment.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The text of a file that the policy names, relative to the policy's own, or why it cannot be read.
    pub file: &'a dyn Fn(&str) -> Result<String, String>,
    /// An environment variable, if it is set.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// What is wrong with the URL of a shared store, which whoever connects to it knows best.
    pub store_url: &'a dyn Fn(&str) -> Result<(), String>,
}

impl Surroundings<'_> {
    /// No files, no variables and no shared store.
    pub fn none() -> Self {
        Self {
            file: &|_| Err("there are no files here".to_owned()),
            variable: &|_| None,
            store_url: &|_| Err("there is no shared store here, expected memory".to_owned()),
        }
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surroundings")
    }
}

/// Reads a policy file: what it says, with warnings about what looks wrong but is valid.
///
/// # Errors
///
/// Every mistake in the file, warnings among them, in the order of their places.
pub fn read(source: &str, surroundings: &Surroundings<'_>) -> Result<(Config, Vec<Mistake>), Vec<Mistake>> {
    let mistakes = Mistakes::default();
    let config = Node::parse(source, surroundings.variable, &mistakes).and_then(|root| {
        let root = Field { name: "the file", node: &root, mistakes: &mistakes };
        policy_file(root, surroundings)
    });
    match config {
        Some(config) if !mistakes.has_errors() => Ok((config, mistakes.finish())),
        _ => Err(mistakes.finish()),
    }
}

impl Limiter<MemoryStore> {
    /// Counts by the rules of a policy file, whose text this is, in memory on the system's clock. What it says of listeners is
    /// for proxies, and a store that it shares with others for those who [connect](crate::store::Stores::sharing) to it.
    ///
    /// ```
    /// use tollgate::{config::Surroundings, limiter::Limiter};
    ///
    /// let limiter = Limiter::from_policy("rules: [{ name: api, limit: 5/minute }]", &Surroundings::none())?;
    /// assert!(limiter.named("api").is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Every mistake in the file.
    pub fn from_policy(source: &str, surroundings: &Surroundings<'_>) -> Result<Self, WrongPolicy> {
        let (config, _) = read(source, surroundings).map_err(WrongPolicy)?;
        Ok(Self::new(config.policy, MemoryStore::new(config.store.counters, Clock::system())))
    }
}

/// What is wrong with a policy file, a line for each mistake: its line, its column, and what was expected.
#[derive(Clone, Debug)]
pub struct WrongPolicy(pub Vec<Mistake>);

impl fmt::Display for WrongPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.0.iter().filter(|mistake| mistake.severity == Severity::Error);
        for (i, Mistake { line, column, message, .. }) in errors.enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{line}:{column}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for WrongPolicy {}

fn policy_file(root: Field<'_>, surroundings: &Surroundings<'_>) -> Option<Config> {
    let mut file = root.fields("a policy file")?;
    let listeners = file.optional("listen").and_then(|field| listener::listeners(field, root.has("trusted_proxies")));
    let proxies = file.optional("trusted_proxies").map(|field| proxies::proxies(field, surroundings));
    let user = file.optional("user").map(|field| source(field, "header:NAME, cookie:NAME or query:NAME"));
    let store = file.optional("store").map(|field| store::store(field, surroundings));
    let dialects = file.optional("headers").map(dialects);
    let on_limit = file.optional("on_limit").map(|field| answer::on_limit(field, surroundings));

    let context = Context {
        surroundings,
        listeners: listeners.as_deref(),
        proxies: proxies.flatten().unwrap_or_default(),
        tells_users: user.is_some(),
        user: user.flatten(),
        dialects: dialects.flatten().unwrap_or_default(),
        on_limit: on_limit.flatten().unwrap_or_default(),
        store: store.flatten().unwrap_or_default(),
    };
    let except = file.optional("except").map(|field| conditions::exceptions(field, &context)).unwrap_or_default();
    let rules_field = file.required("rules");
    let rules = rules_field.and_then(|field| field.list(|item| rule::rule(item, &context)));
    rule::check_names(rules_field);
    file.finish();

    let rules = rules?;
    let rules_field = rules_field?;
    if rules_field.mistakes.has_errors() {
        // What is said of a whole policy would be false of one without its mistaken parts.
        return None;
    }
    warnings::warn(&rules, rules_field, &context);
    let Context { proxies, user, store, .. } = context;
    let policy =
        Policy::new(proxies, user, except.unwrap_or_default(), rules.into_iter().map(|read| read.rule).collect());
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => {
            rules_field.mistakes.at(rules_field.place(), error.to_string());
            return None;
        }
    };
    Some(Config { listeners: listeners.unwrap_or_default(), policy, store })
}

/// What the readers of rules need to know of the rest of the file.
struct Context<'a> {
    surroundings: &'a Surroundings<'a>,
    listeners: Option<&'a [Listener]>,
    proxies: crate::client::Proxies,
    user: Option<Source>,
    /// Whether the file has a `user:`, which may be mistaken.
    tells_users: bool,
    dialects: Dialects,
    on_limit: crate::answer::OnLimit,
    store: StoreConfig,
}

/// `header:NAME`, `cookie:NAME` or `query:NAME`.
fn source(field: Field<'_>, expected: &str) -> Option<Source> {
    let text = field.text()?;
    let source = text.parse().ok();
    if source.is_none() {
        field.wrong(format_args!("expected {expected}"));
    }
    source
}

fn dialects(field: Field<'_>) -> Option<Dialects> {
    let choices = Dialect::ALL.map(|dialect| (dialect.name(), dialect));
    let chosen = field.list_or_one(|item| item.one_of(&choices))?;
    let dialects = Dialects::new(chosen);
    if dialects.is_none() {
        let why = "headers: x-ratelimit and x-ratelimit-delta give X-RateLimit-Reset two meanings, choose one of them";
        field.mistakes.at(field.place(), why);
    }
    dialects
}

/// The text of `{ file: NAME }`, and the name, which messages about the text point at.
fn file_text<'a>(mut fields: Fields<'a>, surroundings: &Surroundings<'_>) -> Option<(Field<'a>, String)> {
    let name = fields.required("file");
    fields.finish();
    let name = name?;
    match (surroundings.file)(name.text()?) {
        Ok(text) => Some((name, text)),
        Err(why) => {
            name.wrong(why);
            None
        }
    }
}
