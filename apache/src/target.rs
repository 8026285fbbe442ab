//! Which script answers a request: one registered as a handler, or the file it maps to.

use crate::config::{DirectoryConfig, Options};
use crate::request::Request;
use crate::selectors::{CallableRule, DEFAULT_CALLABLE};
use crate::{log, mapping, variables};
use httpd_sys::*;
use manifold::{Code, Level, Script};
use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{NulError, c_int};
use std::sync::Arc;

/// What answers a request.
pub(crate) struct Target<'c> {
    /// The script and its callable.
    pub(crate) script: Arc<Script>,
    /// The script once more, where it is a handler script.
    pub(crate) handler_script: Option<&'c Script>,
    /// What overrides the directives in scope.
    pub(crate) options: Cow<'c, Options>,
}

impl<'c> Target<'c> {
    /// The script that a request's handler stands for, or `None` where that is somebody else's.
    ///
    /// # Errors
    ///
    /// The status of a request for a script file that may not be run, which has been logged.
    pub(crate) fn of(r: Request<'c>, config: &'c DirectoryConfig) -> Result<Option<Self>, c_int> {
        match r.text(r.record().handler) {
            b"wsgi-script" | b"application/x-httpd-wsgi" => script_file(r, config).map(Some),
            name => Ok(config.handler(name).map(|handler| Self {
                script: if mapping::case_sensitive(r) {
                    Arc::clone(&handler.script)
                } else {
                    Arc::new(handler.script.case_insensitive())
                },
                handler_script: Some(&handler.script),
                options: Cow::Borrowed(&handler.options),
            })),
        }
    }
}

/// The script file that a request maps to, where it may be run.
fn script_file<'c>(r: Request<'c>, config: &'c DirectoryConfig) -> Result<Target<'c>, c_int> {
    let record = r.record();
    let path = r.text(record.filename);
    let refused = |status: u32, what: &str| {
        let path = String::from_utf8_lossy(path);
        log::request(r, Level::Error, &format!("{}: script '{path}' {what}", Code::ScriptRefused));
        Err(status as c_int)
    };
    let alias = mapping::alias_of(r);
    // SAFETY: httpd keeps the request alive for the hook.
    if alias.is_none() && unsafe { ap_allow_options(r.raw()) } & OPT_EXECCGI as c_int == 0 {
        let what = "may not be run: Options ExecCGI is off in its directory; switch it on, or use WSGIScriptAlias";
        return refused(HTTP_FORBIDDEN, what);
    }
    match record.finfo.filetype {
        APR_NOFILE => return refused(HTTP_NOT_FOUND, "does not exist, or cannot be looked at"),
        APR_DIR => return refused(HTTP_FORBIDDEN, "is a directory"),
        _ => {}
    }
    let options = alias.map_or_else(Cow::default, |alias| Cow::Borrowed(&alias.options));
    let name: Cow<'_, [u8]> = match (&options.callable, &config.callable) {
        (Some(name), _) => Cow::Borrowed(name),
        (None, Some(rule)) => callable(r, rule),
        (None, None) => Cow::Borrowed(DEFAULT_CALLABLE),
    };
    match recent_or_new(path, &name, mapping::case_sensitive(r)) {
        Ok(script) => Ok(Target { script, handler_script: None, options }),
        Err(_) => refused(HTTP_NOT_FOUND, "has a NUL byte in its name"),
    }
}

thread_local! {
    /// The script file that this thread has served last, and whether case counted in its path. The next
    /// request's is mostly the same, and to name its module takes an MD5.
    static RECENT: RefCell<Option<(Arc<Script>, bool)>> = const { RefCell::new(None) };
}

fn recent_or_new(path: &[u8], name: &[u8], case_counts: bool) -> Result<Arc<Script>, NulError> {
    RECENT.with_borrow_mut(|recent| {
        if let Some((latest, counted)) = recent
            && *counted == case_counts
            && latest.path_bytes() == path
            && latest.callable().to_bytes() == name
        {
            return Ok(Arc::clone(latest));
        }
        let script = Arc::new(script(path, name, case_counts)?);
        *recent = Some((Arc::clone(&script), case_counts));
        Ok(script)
    })
}

/// The script at a path, as the server of a request tells paths apart.
///
/// # Errors
///
/// Either text holds a NUL byte.
pub(crate) fn script_at(r: Request<'_>, path: &[u8], callable: &[u8]) -> Result<Script, NulError> {
    script(path, callable, mapping::case_sensitive(r))
}

fn script(path: &[u8], callable: &[u8], case_counts: bool) -> Result<Script, NulError> {
    let script = Script::new(path, callable)?;
    Ok(if case_counts { script } else { script.case_insensitive() })
}

/// The name that a rule means for this request.
pub(crate) fn callable<'c>(r: Request<'_>, rule: &'c CallableRule) -> Cow<'c, [u8]> {
    match rule {
        CallableRule::Fixed(name) => Cow::Borrowed(name),
        CallableRule::Environment(name) => {
            variables::environment(r, name).map_or(Cow::Borrowed(DEFAULT_CALLABLE), Cow::Owned)
        }
    }
}
