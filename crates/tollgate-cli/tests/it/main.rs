//! The real binary, driven as a person or a script would: arguments, files, sockets, signals and exit codes.

mod answering;
mod check;
mod command;
mod load;
mod reload;
mod replay;
mod serve;
mod serving;
mod shared;
mod tcp;
mod vectors;
