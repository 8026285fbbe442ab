//! The module in a real httpd: each test writes a configuration, starts a server with it on a
//! loopback port of its own, and asks it something. A test's name is the promise it keeps.
//!
//! `harness` says what these tests need around them and how to choose another httpd or Python;
//! the applications are in `tests/apps`.

mod harness;

mod aliases;
mod applications;
mod bad_input;
mod bodies;
mod contract;
mod directives;
mod disconnect;
mod environ;
mod errors;
mod groups;
mod hooks;
mod htaccess;
mod input;
mod life;
mod limits;
mod mpms;
mod nesting;
mod output;
mod python;
mod recursion;
mod reloading;
mod selection;
mod start_response;
