//! Declarations from the headers of Apache httpd and APR, and by hand what C has as macros.
//!
//! Nothing here knows what a WSGI application is. Every function is as safe as its C original:
//! see httpd's headers for who may call it and when.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    unreachable_pub,
    clippy::all,
    clippy::missing_safety_doc,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    reason = "generated from C headers, with C's names"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/httpd.rs"));
}

mod brigade;
mod command;
mod record;

pub use bindings::*;
pub use brigade::{append_bucket, init_bucket, insert_bucket_after};
pub use command::{Command, CommandTable, RawArgs};
pub use record::{ModuleNames, ModuleRecord};
