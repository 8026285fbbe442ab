//! Hook scripts: Python functions that httpd asks in earlier phases of a request. They decide about
//! access, users, groups, and where a request is served.
//!
//! A script runs in an application group of its own choice in httpd's own process, like a request:
//! httpd's thread hands over a job and waits. What cannot be asked, fails, or answers what it may
//! not, **refuses**; no failure ever lets anybody in.
//!
//! - `access`: WSGIAccessScript.
//! - `authn`: WSGIAuthUserScript, for `AuthBasicProvider wsgi` and `AuthDigestProvider wsgi`.
//! - `authz`: WSGIAuthGroupScript, for `Require wsgi-group`.
//! - `dispatch`: WSGIDispatchScript.
//! - `tls`: what scripts may ask about the connection's encryption.

mod access;
mod authn;
mod authz;
pub(crate) mod dispatch;
mod tls;

use crate::config::{DirectoryConfig, HookScript};
use crate::handler::{Asked, severity};
use crate::nesting::Nesting;
use crate::request::Request;
use crate::variables::Variables;
use crate::{child, log, naming, signals};
use httpd_sys::*;
use manifold::{
    Answer, Call, Code, Event, Job, Level, Outcome, Peer, Refusal, Reload, Reply, Task, Value,
};
use std::sync::Arc;

/// Registers what httpd calls.
pub(crate) fn register(pool: *mut apr_pool_t) {
    access::register();
    authn::register(pool);
    authz::register(pool);
}

/// A hook script could not answer, which has been logged, for this reason.
struct Failed(Code);

/// Calls a function of a script that decides about access.
fn ask(
    r: Request<'_>,
    config: &DirectoryConfig,
    hook: &HookScript,
    call: Call,
) -> Result<Value, Failed> {
    let function = call.function;
    let mut values = {
        let environment = Environment::of(r);
        let variables = Variables::of(r, false);
        environment.withhold_authorization();
        call_functions(r, config, hook, vec![call], &variables, |job| {
            variables.fill_for_hook(job);
        })?
    };
    values.pop().ok_or_else(|| {
        let text = format!("{}: {} has no result", Code::Internal, function.to_string_lossy());
        log::request(r, Level::Error, &text);
        Failed(Code::Internal)
    })
}

/// Calls functions of a script one after the other, with the environ that `fill` makes; one result
/// for each.
fn call_functions(
    r: Request<'_>,
    config: &DirectoryConfig,
    hook: &HookScript,
    calls: Vec<Call>,
    variables: &Variables<'_>,
    fill: impl FnOnce(&mut Job),
) -> Result<Vec<Value>, Failed> {
    let group = naming::resolve(r, &hook.application_group, "application-group=", variables);
    let asked = Asked { script: &hook.script, group: Some(&group) };
    let refused = |refusal: Refusal| {
        log::request(r, severity(&refusal), &format!("{refusal}{asked}"));
        Failed(refusal.code)
    };
    let runtime = child::runtime_for_hooks().map_err(refused)?;
    let nesting = Nesting::enter();
    let _held = signals::hold();
    let conversation = runtime
        .dispatch(&group, nesting.patience(r), |job| {
            fill(job);
            job.task = Task::Call(calls);
            job.https = tls::is_https(r);
            job.script = Some(Arc::clone(&hook.script));
            job.reload = config.script_reloading.unwrap_or(Reload::Module);
            job.look_at_script(None);
            job.verbosity = log::request_verbosity(r);
        })
        .map_err(refused)?;
    loop {
        match signals::next(&conversation) {
            Event::Reply(Reply::Returned(values)) => return Ok(values),
            Event::Reply(Reply::Log(entry)) => log::entry(r, &entry),
            Event::Reply(Reply::AskVariable(name)) => {
                conversation.answer(Answer::Variable(tls::variable(r, &name)));
            }
            // A hook has no request body, and no response: that it sends one says that it failed.
            Event::Reply(Reply::Ask { .. }) => conversation.answer(Answer::Failed),
            Event::Reply(Reply::Response(part)) => {
                return Err(Failed(match part.end {
                    Some(Outcome::Failed(code)) => code,
                    _ => Code::Internal,
                }));
            }
            Event::Failed(refusal) => return Err(refused(refusal)),
        }
    }
}

/// Logs that a function returned what it may not.
fn refuse_result(r: Request<'_>, hook: &HookScript, function: &str, value: &Value, wanted: &str) {
    let text = format!(
        "{}: {function}() of script '{}' returned {}; it has to return {wanted}",
        Code::HookResult,
        hook.script.path().display(),
        value.describe()
    );
    log::request(r, Level::Error, &text);
}

/// Logs that a script is asked for and none is named.
fn refuse_missing(r: Request<'_>, directive: &str, asked_by: &str) {
    let text = format!(
        "{}: '{asked_by}' asks a script, and none is named here; name one by {directive}",
        Code::HookMissing
    );
    log::request(r, Level::Error, &text);
}

/// A table of variables that only a hook script sees. What CGI programs see is made late in a
/// request; made early, client's headers would become variables that `Require env` and others
/// believe.
struct Environment<'r> {
    r: Request<'r>,
    saved: *mut apr_table_t,
}

impl<'r> Environment<'r> {
    /// From now on, and until this is dropped, the request's table is a copy.
    fn of(r: Request<'r>) -> Self {
        let saved = r.record().subprocess_env;
        // SAFETY: the request's pool and table live as long as the request.
        let copy = unsafe { apr_table_copy(r.pool(), saved) };
        r.update(|record| record.subprocess_env = copy);
        Self { r, saved }
    }

    /// Takes credentials out, which `CGIPassAuth` or `SetEnvIf` may have put in.
    fn withhold_authorization(&self) {
        for name in [c"HTTP_AUTHORIZATION", c"HTTP_PROXY_AUTHORIZATION"] {
            // SAFETY: the copy lives as long as the request, and the name is a literal.
            unsafe { apr_table_unset(self.r.record().subprocess_env, name.as_ptr()) };
        }
    }
}

impl Drop for Environment<'_> {
    fn drop(&mut self) {
        self.r.update(|record| record.subprocess_env = self.saved);
    }
}
