//! `regent explain`: as functions, and as a command with its exit codes. And what other commands make
//! of their arguments.

mod advice;
mod arguments;
mod check;
mod command;
mod printing;
mod vectors;
mod world;
