//! The command line, as people use it: the real program, a real httpd, a real Python, and curl.

mod check;
mod django_command;
mod doctor;
mod harness;
mod install;
mod options;
#[path = "../../cli/src/port.rs"]
mod port;
mod serve;
mod setup;
