//! The names of the groups that a request is for.

use crate::config::{DirectoryConfig, Options};
use crate::request::Request;
use crate::selectors::GroupRule;
use crate::variables::{self, Variables};
use crate::{log, mapping};
use manifold::{Code, GroupName, Level};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The process group: the dispatch script's, the option's, the directive's, or httpd's own
/// processes.
pub(crate) fn process_group(
    r: Request<'_>,
    dispatched: Option<&GroupRule>,
    options: &Options,
    config: &DirectoryConfig,
    variables: &Variables<'_>,
) -> GroupName {
    match (dispatched, &options.process_group, &config.process_group) {
        (Some(rule), _, _) => {
            resolve(r, rule, "process_group() of WSGIDispatchScript: ", variables)
        }
        (None, Some(rule), _) => resolve(r, rule, "process-group=", variables),
        (None, None, Some(rule)) => resolve(r, rule, "WSGIProcessGroup ", variables),
        (None, None, None) => GroupName::default(),
    }
}

/// The application group: the dispatch script's, the option's, the directive's, or one for each
/// script's URL.
pub(crate) fn application_group(
    r: Request<'_>,
    dispatched: Option<&GroupRule>,
    options: &Options,
    config: &DirectoryConfig,
    variables: &Variables<'_>,
) -> GroupName {
    match (dispatched, &options.application_group, &config.application_group) {
        (Some(rule), _, _) => {
            resolve(r, rule, "application_group() of WSGIDispatchScript: ", variables)
        }
        (None, Some(rule), _) => resolve(r, rule, "application-group=", variables),
        (None, None, Some(rule)) => resolve(r, rule, "WSGIApplicationGroup ", variables),
        (None, None, None) => resolve(r, &GroupRule::Resource, "", variables),
    }
}

/// What a rule means for this request; `said_by` stands before it in the configuration.
pub(crate) fn resolve(
    r: Request<'_>,
    rule: &GroupRule,
    said_by: &str,
    variables: &Variables<'_>,
) -> GroupName {
    match rule {
        GroupRule::Fixed(name) => name.clone(),
        GroupRule::Server => GroupName::new(&variables::server(r)),
        GroupRule::Host => GroupName::new(&variables::host(r)),
        GroupRule::Resource => {
            let mut path = variables.script_name().to_vec();
            if !mapping::case_sensitive(r) {
                path.make_ascii_lowercase();
            }
            GroupName::new(&[&variables::server(r)[..], b"|", &path[..]].concat())
        }
        GroupRule::Environment(name) => match variables::environment(r, name) {
            // What a variable says is expanded once more, but not to another variable.
            Some(value) => match GroupRule::parse(&value) {
                GroupRule::Environment(_) => GroupName::new(&value),
                rule => resolve(r, &rule, said_by, variables),
            },
            None => {
                if UNDEFINED.is_new(name) {
                    log::request(r, Level::Warning, &undefined(name, said_by));
                }
                GroupName::new(&[b"%{ENV:", &name[..], b"}"].concat())
            }
        },
    }
}

fn undefined(name: &[u8], said_by: &str) -> String {
    let name = String::from_utf8_lossy(name);
    format!(
        "{}: {said_by}%{{ENV:{name}}}: the request has no note and no variable '{name}', nor has \
         httpd, so this text itself is the group's name; set it (SetEnv, SetEnvIf, RewriteRule \
         with E=), or name the group (said once for each variable)",
        Code::UndefinedVariable
    )
}

/// The variables that a line of the log has named as undefined.
static UNDEFINED: Seen = Seen { names: Mutex::new(BTreeSet::new()) };

/// Names that were met in this process. They come from the configuration, which .htaccess files
/// make endless, so there is a limit, and beyond it none counts as new.
struct Seen {
    names: Mutex<BTreeSet<Vec<u8>>>,
}

impl Seen {
    const LIMIT: usize = 100;

    /// Whether a name was not met before.
    fn is_new(&self, name: &[u8]) -> bool {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.len() < Self::LIMIT && !names.contains(name) && names.insert(name.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_new_once_and_there_is_an_end_to_new_ones() {
        let seen = Seen { names: Mutex::default() };
        let news = |round: &str| {
            let names = (0..2 * Seen::LIMIT).map(|i| format!("{round}{i}"));
            names.filter(|name| seen.is_new(name.as_bytes())).count()
        };
        assert!(seen.is_new(b"A") && !seen.is_new(b"A") && seen.is_new(b"B"));
        assert_eq!([news("x"), news("x"), news("y")], [Seen::LIMIT - 2, 0, 0]);
    }
}
