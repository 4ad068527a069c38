//! For tests: the naive reference models of the algorithms, and the conformance suite that any store can run.

