//! For tests: the naive reference models of the algorithms, and the conformance suite that any store can run.
//!
//! A [`model`] answers what the rules of an algorithm say, in the most obvious way and however slowly, without a line of
//! the engine's arithmetic. [`conformance`] holds a [`Store`](crate::store::Store) against the models and against
//! the promises of the contract that no single counter can show: all or none, shadow, looking, giving back, clearing.

pub mod conformance;
pub mod model;

pub(crate) mod dice;
