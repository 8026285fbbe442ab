//! The documentation does what it says: its pages are all in the site's list, its links lead somewhere, and its
//! blocks are accepted by the httpd, the Python and the shell that they are for. CONTRIBUTING.md says what the words
//! behind a block's language mean.

mod apache;
#[path = "../cli/harness.rs"]
#[allow(dead_code, reason = "the tests in tests/cli use the rest")]
mod harness;
mod links;
#[path = "../pages.rs"]
#[allow(dead_code, reason = "the tests in tests/httpd use the rest")]
mod pages;
#[path = "../../cli/src/port.rs"]
mod port;
mod programs;
mod scratch;
mod summary;
