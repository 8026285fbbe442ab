//! The WSGI side of a request (PEP 3333): what an application is given, and what becomes of what
//! it returns. Everything here runs on interpreter threads.
//!
//! - [`residents`]: what an interpreter keeps from one request to the next.
//! - [`script`]: loading a script and finding its callable.
//! - [`environ`]: the dictionary an application is called with; [`shapes`]: made from an earlier one.
//! - [`request`]: `start_response` and `write`.
//! - [`input`]: the request body, `wsgi.input`.
//! - [`errors`]: the streams `wsgi.errors`, `sys.stderr` and `sys.stdout`.
//! - [`extensions`]: which extension modules may be loaded.
//! - [`file`]: the file behind a `wsgi.file_wrapper`.
//! - [`running`]: which requests run, and what the module `mod_wsgi` asks.
//! - [`search_path`]: what the configuration puts on `sys.path`.
//! - [`serve`]: calling the application and sending what it returns.
//! - [`hook`]: calling functions of a hook script.

mod environ;
mod errors;
mod extensions;
mod file;
mod hook;
mod input;
mod request;
mod residents;
mod running;
mod script;
mod search_path;
mod serve;
mod shapes;

pub(crate) use environ::now;
pub use residents::COMPATIBLE_VERSION;
pub(crate) use residents::{Residents, module};
pub(crate) use script::STARTUP;
pub(crate) use serve::{Served, fail, serve};
