//! The keys, and the order in which they are asked for: made beforehand, so that drawing them costs no contestant time.
//!
//! Each stands there as each contestant takes it, ready to be asked about: governor is not made to build a `String` for
//! every request, and we are not made to build a [`Key`]. What the latter costs is a figure of its own.

use tollgate::key::Key;

/// A kind of key, of which there are as many as one likes.
pub(crate) trait Numbered: Clone + Send + Sync {
    /// The key of this number: always the same, another for every number, and not in the order of the numbers.
    fn numbered(number: u64) -> Self;
}

impl Numbered for u64 {
    fn numbered(number: u64) -> Self {
        mix(number)
    }
}

/// A name of 24 bytes, as of a customer.
impl Numbered for String {
    fn numbered(number: u64) -> Self {
        format!("account:{:016x}", mix(number))
    }
}

/// A key as others count by it, and as we do.
#[derive(Clone)]
pub(crate) struct Ready<K> {
    pub(crate) plain: K,
    pub(crate) key: Key,
}

impl Numbered for Ready<u64> {
    fn numbered(number: u64) -> Self {
        let plain = u64::numbered(number);
        Self { plain, key: Key::of([plain.to_be_bytes()]) }
    }
}

impl Numbered for Ready<String> {
    fn numbered(number: u64) -> Self {
        let plain = String::numbered(number);
        Self { key: Key::of([&plain]), plain }
    }
}

/// How often which key is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Draw {
    /// Each as often as any other.
    Uniform,
    /// The n-th most frequent 1/n times as often as the first.
    Zipf,
}

impl Draw {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// `draws` of the first `keys` keys, the same in every run.
pub(crate) fn drawn<K: Numbered>(draw: Draw, keys: u64, draws: usize) -> Vec<K> {
    let dice = (0..draws as u64).map(|i| mix(!i));
    match draw {
        Draw::Uniform => dice.map(|die| K::numbered(die % keys)).collect(),
        Draw::Zipf => {
            let mut sum = 0.0;
            let sums = (1..=keys).map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            });
            let sums: Vec<f64> = sums.collect();
            let rank = |die: u64| sums.partition_point(|up_to| *up_to < unit(die) * sum) as u64;
            dice.map(|die| K::numbered(rank(die).min(keys - 1))).collect()
        }
    }
}

/// A die as a number from 0 to below 1.
fn unit(die: u64) -> f64 {
    (die >> 11) as f64 / (1_u64 << 53) as f64
}

/// Another number for every number, without an order that a cache or a hash could use (the last steps of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}
