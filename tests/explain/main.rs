//! `regent explain`: as functions, and as a command with its exit codes.

mod advice;
mod check;
mod command;
mod printing;
mod vectors;
mod world;
