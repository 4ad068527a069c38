//! `tollgate serve`.
use crate::{Failure, args::Serve};
pub(crate) fn run(_: Serve) -> Result<(), Failure> { Ok(()) }
