//! One rule: whom it concerns, what it counts by, how much may pass, and what a denial looks like.

use std::iter;

use crate::{
    algorithm::packed::is_narrow,
    answer::OnLimit,
    client::Subnets,
    headers::{Dialects, Members},
    key::{Part, PartError, Prefixes},
    policy::{Choice, Conditions, Sharing},
    quota::{Algorithm, Limits, LimitsError, MAX_AMOUNT, MAX_LIMITS, Quota, QuotaError},
    request::{Seen, Source},
};

/// One rule of a policy.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name: `[A-Za-z][A-Za-z0-9_.-]*`, not ending in a dot and digits, unique in the policy ignoring case.
    pub name: String,
    /// Which requests it concerns.
    pub matcher: Conditions,
    /// Which of them it neither limits nor counts.
    pub except: Vec<Conditions>,
    /// What is counted apart.
    pub by: Vec<Part>,
    /// How much may pass.
    pub quotas: Quotas,
    /// Another limit for some; the first that fits.
    pub overrides: Vec<Override>,
    /// Units that one request takes.
    pub cost: Cost,
    /// Which answers stay on the bill.
    pub count: Count,
    /// Whether it denies or only reports.
    pub mode: Mode,
    /// Where it counts when instances share a store.
    pub sharing: Sharing,
    /// The header dialects that tell of it.
    pub dialects: Dialects,
    /// What a denied request is answered.
    pub on_limit: OnLimit,
}

impl Rule {
    /// A rule for every request, counted by client, that answers as rules do by default.
    ///
    /// # Errors
    ///
    /// A limit that the algorithm cannot count.
    pub fn new(name: &str, limits: &Limits, algorithm: Option<Algorithm>) -> Result<Self, QuotaError> {
        Ok(Self {
            name: name.to_owned(),
            matcher: Conditions::default(),
            except: Vec::new(),
            by: vec![Part::Client(Prefixes::default())],
            quotas: Quotas::new(name, limits, algorithm)?,
            overrides: Vec::new(),
            cost: Cost::Fixed(1),
            count: Count::All,
            mode: Mode::Enforce,
            sharing: Sharing::default(),
            dialects: Dialects::default(),
            on_limit: OnLimit::default(),
        })
    }

    /// The same, from a limit string or from limits made in code, by the algorithm that they imply.
    ///
    /// ```
    /// use tollgate::policy::Rule;
    ///
    /// let upload = Rule::of("upload", "5/hour")?.guests_only().methods(["POST"]).by(["client", "route"])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A limit string that is none, or that no algorithm counts, or too many limits put together in code.
    pub fn of<L>(name: &str, limits: L) -> Result<Self, LimitsError>
    where
        L: TryInto<Limits>,
        LimitsError: From<L::Error>,
    {
        let limits = limits.try_into()?;
        match limits.as_slice().len() {
            n if n > MAX_LIMITS => Err(LimitsError::TooMany(n)),
            _ => Ok(Self::new(name, &limits, None)?),
        }
    }

    /// Counts with this algorithm, in place of the one that the limits imply.
    ///
    /// ```
    /// use tollgate::{policy::Rule, quota::Algorithm};
    ///
    /// let rule = Rule::of("api", "100/minute")?.counting_with(Algorithm::SlidingLog)?;
    /// assert_eq!(rule.quotas.algorithm(), Algorithm::SlidingLog);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A limit that it cannot count.
    pub fn counting_with(mut self, algorithm: Algorithm) -> Result<Self, QuotaError> {
        let limits = self.quotas.iter().map(|(_, quota)| *quota.limit()).collect();
        self.quotas = Quotas::new(&self.name, &limits, Some(algorithm))?;
        Ok(self)
    }

    /// Counts by these words: `client`, `route`, `header:X-Key`, … None: one counter for everybody.
    ///
    /// # Errors
    ///
    /// A word that is none of them.
    pub fn by<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Result<Self, PartError> {
        self.by = words.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Concerns only requests with one of these methods; `GET` includes `HEAD`.
    #[must_use]
    pub fn methods<'a>(mut self, methods: impl IntoIterator<Item = &'a str>) -> Self {
        self.matcher.method = Some(methods.into_iter().map(str::to_owned).collect());
        self
    }

    /// Concerns only requests of those who are not signed in.
    #[must_use]
    pub fn guests_only(mut self) -> Self {
        self.matcher.user = Some(false);
        self
    }

    /// Concerns only requests of those who are signed in, each of whom is counted by himself.
    #[must_use]
    pub fn users_only(mut self) -> Self {
        (self.matcher.user, self.by) = (Some(true), vec![Part::User]);
        self
    }

    /// Neither limits nor counts these clients.
    #[must_use]
    pub fn exempting(mut self, clients: Subnets) -> Self {
        self.except.push(Conditions { client: Some(clients), ..Conditions::default() });
        self
    }

    /// Takes so many units for each request, 1 at least.
    #[must_use]
    pub fn costing(mut self, cost: u64) -> Self {
        self.cost = Cost::Fixed(cost.max(1));
        self
    }

    /// Reports what it would deny, and denies nothing.
    #[must_use]
    pub fn in_shadow(mut self) -> Self {
        self.mode = Mode::Shadow;
        self
    }

    /// Counts so when instances share a store.
    #[must_use]
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// Is told of in headers of these dialects; `Retry-After` comes with every denial.
    #[must_use]
    pub fn telling(mut self, dialects: Dialects) -> Self {
        self.dialects = dialects;
        self
    }

    /// Answers so when it denies.
    #[must_use]
    pub fn answering(mut self, on_limit: OnLimit) -> Self {
        self.on_limit = on_limit;
        self
    }

    /// Has all quotas of the rule counted in one place, and told by its name.
    pub(crate) fn keep_together(&mut self) {
        let of_overrides = self.overrides.iter_mut().map(|other| &mut other.quotas);
        for quotas in iter::once(&mut self.quotas).chain(of_overrides) {
            quotas.members = Members::of_all(&self.name, &quotas.counted);
            quotas.sharing = self.sharing;
        }
        let all = || iter::once(&self.quotas).chain(self.overrides.iter().map(|other| &other.quotas));
        if all().any(Quotas::are_wide) {
            self.quotas.are_wide = true;
            self.overrides.iter_mut().for_each(|other| other.quotas.are_wide = true);
        }
    }

    /// Its own quotas, or those of the first override that fits.
    pub(super) fn choose(&self, seen: &Seen<'_>) -> Choice {
        let chosen = self.overrides.iter().position(|other| other.conditions.choose(seen));
        chosen.map_or(Choice::Own, Choice::Override)
    }
}

/// Another limit for requests that fit its conditions. The counter stays the same.
#[derive(Clone, Debug)]
pub struct Override {
    /// Who gets it.
    pub conditions: Conditions,
    /// How much they may.
    pub quotas: Quotas,
}

/// The quotas of a rule, which all hold, each with the identity of its counters. None: unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    algorithm: Algorithm,
    counted: Vec<(CounterId, Quota)>,
    /// What headers say of each, the same for every request.
    members: Vec<Members>,
    are_wide: bool,
    sharing: Sharing,
}

impl Quotas {
    /// The quotas of the rule `rule`, counted by `algorithm`, or by the one that limits like these imply.
    ///
    /// # Errors
    ///
    /// A limit that the algorithm cannot count.
    pub fn new(rule: &str, limits: &Limits, algorithm: Option<Algorithm>) -> Result<Self, QuotaError> {
        let algorithm = algorithm.unwrap_or_else(|| limits.default_algorithm());
        let mut counted: Vec<(CounterId, Quota)> = Vec::new();
        for limit in limits.as_slice() {
            let quota = Quota::new(*limit, algorithm)?;
            let is_equal = |other: &&(CounterId, Quota)| other.1.limit().window() == limit.window();
            let place = counted.iter().filter(is_equal).count();
            counted.push((CounterId::new(rule, &quota, place), quota));
        }
        let are_wide = !counted.iter().all(|(_, quota)| is_narrow(quota));
        let members = Members::of_all(rule, &counted);
        Ok(Self { algorithm, counted, members, are_wide, sharing: Sharing::default() })
    }

    /// The beginnings of the members in `RateLimit-Policy` and `RateLimit` of the quota at this place.
    pub(crate) fn members(&self, place: usize) -> &Members {
        &self.members[place]
    }

    /// Whether the memory store counts them outside its table, as numbers too large for a slot. Those of one rule are all
    /// counted in one place, for they can share counters.
    pub(crate) fn are_wide(&self) -> bool {
        self.are_wide
    }

    /// The same, counted where this says.
    #[must_use]
    pub fn shared(self, sharing: Sharing) -> Self {
        Self { sharing, ..self }
    }

    /// Where they are counted when instances share a store.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The algorithm of all of them.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The only one, if there is one.
    pub(crate) fn only(&self) -> Option<(CounterId, &Quota)> {
        if let [(id, quota)] = self.counted.as_slice() { Some((*id, quota)) } else { None }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.counted.len()
    }

    /// Whether everything may pass.
    pub fn is_empty(&self) -> bool {
        self.counted.is_empty()
    }

    /// Each quota with the identity of its counters, in the order written.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (CounterId, &Quota)> + ExactSizeIterator {
        self.counted.iter().map(|(id, quota)| (*id, quota))
    }
}

/// Which counter of a rule: the rule's name, the algorithm, the window and the place among equals.
///
/// A hash of these, so that it is the same in every process and after every reload: a changed amount or burst goes on
/// counting, anything else begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterId(u64);

impl CounterId {
    fn new(rule: &str, quota: &Quota, place: usize) -> Self {
        let limit = quota.limit();
        // A calendar month is not 30 days, so the unit belongs to the window; 60 minutes are an hour elsewhere.
        let calendar = match quota.algorithm() {
            Algorithm::CalendarWindow => limit.unit().name(),
            _ => "",
        };
        let text = format!("{rule}\n{}\n{}\n{calendar}\n{place}", quota.algorithm(), limit.window().as_millis());
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// The hash that it is.
    pub(crate) fn as_u64(self) -> u64 {
        self.0
    }

    /// A number for these counters with this quota, much the same as no other: the identity is a hash already.
    pub(crate) fn mixed_with(self, quota: &Quota) -> u64 {
        let amounts = quota.amount() ^ quota.capacity().rotate_left(32);
        (self.0 ^ amounts.wrapping_mul(0x9E37_79B9_7F4A_7C15)).rotate_left(29)
    }
}

/// Units that one request takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Always the same, at least 1.
    Fixed(u64),
    /// What a header says, at least 1; `default` if it is absent or no number.
    Header {
        /// The header.
        name: Source,
        /// The cost without it, at least 1.
        default: u64,
    },
}

impl Cost {
    pub(crate) fn of(&self, seen: &Seen<'_>) -> u64 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Header { name, default } => {
                seen.single(name).and_then(|value| whole_number(&value)).unwrap_or(*default)
            }
        }
        .max(1)
    }
}

/// A number in digits alone. One too large to be a cost is more than any quota allows.
fn whole_number(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value.trim_ascii()).ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX).min(MAX_AMOUNT + 1))
}

/// Which answers stay on the bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// Every request counts.
    All,
    /// Only requests that are answered with one of these status codes; the others are given back.
    Status(Vec<u16>),
}

/// Whether a rule denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It denies what exceeds its limit.
    Enforce,
    /// It is evaluated and reported, and never denies.
    Shadow,
}

impl Mode {
    /// Its name in a policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}
