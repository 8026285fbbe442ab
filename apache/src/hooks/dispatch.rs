//! WSGIDispatchScript: which processes, which interpreter and which callable serve a request.

use super::{Failed, call_functions, refuse_result};
use crate::config::{DirectoryConfig, HookScript};
use crate::request::Request;
use crate::selectors::{CallableRule, GroupRule};
use crate::target::{self, Target};
use crate::variables::Variables;
use httpd_sys::HTTP_INTERNAL_SERVER_ERROR;
use manifold::{Call, Code, Script, Value};
use std::ffi::{CStr, c_int};
use std::sync::Arc;

/// What a dispatch script has said, each only where it overrides the configuration.
#[derive(Default)]
pub(crate) struct Dispatched {
    pub(crate) process_group: Option<GroupRule>,
    pub(crate) application_group: Option<GroupRule>,
    /// The script, with the callable that is to answer.
    pub(crate) script: Option<Arc<Script>>,
}

const FUNCTIONS: [&CStr; 3] = [c"process_group", c"application_group", c"callable_object"];

/// Asks the dispatch script in scope, if there is one.
///
/// # Errors
///
/// It could not be asked, or says what cannot be, which has been logged.
pub(crate) fn dispatch(
    r: Request<'_>,
    config: &DirectoryConfig,
    target: &Target<'_>,
    variables: &Variables<'_>,
) -> Result<Dispatched, c_int> {
    let Some(hook) = &config.dispatch_script else { return Ok(Dispatched::default()) };
    let call = |function| Call { function, optional: true, ..Call::default() };
    let calls = FUNCTIONS.map(call).into();
    let values = call_functions(r, config, hook, calls, variables, |job| {
        variables.fill_for_dispatch(job, target.handler_script);
    });
    let names = values.and_then(|values| {
        let names = FUNCTIONS.into_iter().zip(values);
        names.map(|(function, value)| name(r, hook, function, value)).collect::<Result<Vec<_>, _>>()
    });
    let Ok(Ok([process_group, application_group, callable])) = names.map(<[_; 3]>::try_from) else {
        return Err(HTTP_INTERNAL_SERVER_ERROR as c_int);
    };
    let script = callable.map(|name| {
        let name = target::callable(r, &CallableRule::parse(&name)).into_owned();
        target.script.with_callable(&name).map(Arc::new)
    });
    Ok(Dispatched {
        process_group: process_group.map(|name| GroupRule::parse(&name)),
        application_group: application_group.map(|name| GroupRule::parse(&name)),
        // Neither a checked name nor a variable of httpd's has a NUL byte.
        script: script.transpose().map_err(|_| HTTP_INTERNAL_SERVER_ERROR as c_int)?,
    })
}

/// The name that a function has returned, if any.
fn name(
    r: Request<'_>,
    hook: &HookScript,
    function: &CStr,
    value: Value,
) -> Result<Option<Vec<u8>>, Failed> {
    match value {
        Value::None => Ok(None),
        Value::Text(name) | Value::Bytes(name) if !name.contains(&0) => Ok(Some(name)),
        other => {
            let wanted = "None, or a name as str or bytes without NUL";
            refuse_result(r, hook, &function.to_string_lossy(), &other, wanted);
            Err(Failed(Code::HookResult))
        }
    }
}
