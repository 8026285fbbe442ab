//! The module in a real httpd: each test writes a configuration, starts a server with it on a
//! loopback port of its own, and asks it something. A test's name is the promise it keeps.
//!
//! `harness` says what these tests need around them and how to choose another httpd or Python;
//! the applications are in `tests/apps`.

mod harness;
#[path = "../pages.rs"]
#[allow(dead_code, reason = "the tests in tests/docs use the rest")]
mod pages;
#[path = "../peer.rs"]
#[allow(dead_code, reason = "the tests in tests/runtime use the rest")]
mod peer;
#[path = "../../cli/src/port.rs"]
mod port;

mod aliases;
mod applications;
mod bad_input;
mod bodies;
mod chunked;
mod clients;
mod compatibility;
mod contexts;
mod contract;
mod daemon;
mod daemon_directive;
mod daemon_identity;
mod directives;
mod disconnect;
mod environ;
mod error_override;
mod errors;
mod events;
mod file_wrapper;
mod groups;
mod head;
mod hooks;
mod hop_by_hop;
mod htaccess;
mod input;
mod interpreter_options;
mod isolation;
mod life;
mod limits;
mod logging;
mod mapping;
mod metrics;
mod misbehaviour;
mod modes;
mod module;
mod mpms;
mod nesting;
mod output;
mod preload;
mod prometheus;
mod proxies;
mod python;
mod quick_starts;
mod recursion;
mod reloading;
mod reloading_groups;
mod replacement;
mod replicas;
mod request_timeout;
mod runtime_directives;
mod scaling_out;
mod scheduling;
mod selection;
mod slow_readers;
mod slow_requests;
mod start_response;
mod status;
mod tls;
mod treatment;
