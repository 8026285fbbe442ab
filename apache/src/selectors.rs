//! What selects a name for a request: the name itself, or a form such as `%{SERVER}` that a request
//! gives its value. What the values are is in [`crate::naming`].

use manifold::GroupName;

/// How the callable of a script file is found for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallableRule {
    /// This name.
    Fixed(Vec<u8>),
    /// `%{ENV:name}`: the value of a note or variable.
    Environment(Vec<u8>),
}

impl CallableRule {
    /// What WSGICallableObject means.
    pub(crate) fn parse(value: &[u8]) -> Self {
        match environment_form(value) {
            Some(name) => Self::Environment(name.to_vec()),
            // Another form is none: it falls back to the default, as a name it could never be.
            None if value.starts_with(b"%") => Self::Fixed(DEFAULT_CALLABLE.to_vec()),
            None => Self::Fixed(value.to_vec()),
        }
    }
}

/// The callable of a script file where nothing says otherwise.
pub(crate) const DEFAULT_CALLABLE: &[u8] = b"application";

/// The name in `%{ENV:name}`.
fn environment_form(value: &[u8]) -> Option<&[u8]> {
    let name = value.strip_prefix(b"%{ENV:")?.strip_suffix(b"}")?;
    (!name.is_empty()).then_some(name)
}

/// How the name of a group is found for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupRule {
    /// This name, whatever the request. `%{GLOBAL}` is the empty one.
    Fixed(GroupName),
    /// `%{SERVER}`: ServerName and port.
    Server,
    /// `%{HOST}`: the host the client asked for, and port.
    Host,
    /// `%{RESOURCE}`: as `%{SERVER}`, and SCRIPT_NAME.
    Resource,
    /// `%{ENV:name}`: the value of a note or variable.
    Environment(Vec<u8>),
}

impl Default for GroupRule {
    /// `%{GLOBAL}`.
    fn default() -> Self {
        Self::Fixed(GroupName::default())
    }
}

impl GroupRule {
    /// What an option of a hook script means: for those, `%{RESOURCE}` and `%{ENV:name}` are no
    /// forms but names.
    pub(crate) fn parse_for_hook(value: &[u8]) -> Self {
        match Self::parse(value) {
            Self::Resource | Self::Environment(_) => Self::Fixed(GroupName::new(value)),
            rule => rule,
        }
    }

    /// What a directive or option means. A form is recognised as a whole value only; anything else
    /// is a name.
    pub(crate) fn parse(value: &[u8]) -> Self {
        match value {
            b"%{GLOBAL}" => Self::Fixed(GroupName::default()),
            b"%{SERVER}" => Self::Server,
            b"%{HOST}" => Self::Host,
            b"%{RESOURCE}" => Self::Resource,
            _ => match environment_form(value) {
                Some(name) => Self::Environment(name.to_vec()),
                None => Self::Fixed(GroupName::new(value)),
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values that may be forms, or nearly.
    pub(crate) fn value() -> impl Strategy<Value = Vec<u8>> {
        let form = prop::sample::select(
            ["%{GLOBAL}", "%{SERVER}", "%{HOST}", "%{RESOURCE}", "%{ENV:G}", "%{ENV:}", "%", ""]
                .as_slice(),
        );
        let near =
            ("[ %a]?", form, "[ }a]?").prop_map(|(before, form, after)| before + form + &after);
        prop_oneof![near.prop_map(String::into_bytes), any::<Vec<u8>>()]
    }

    proptest! {
        #[test]
        fn only_a_whole_value_is_a_form(value in value()) {
            let variable = value.strip_prefix(b"%{ENV:").and_then(|rest| rest.strip_suffix(b"}"));
            let wanted = match (&value[..], variable) {
                (b"%{GLOBAL}", _) => GroupRule::Fixed(GroupName::new(b"")),
                (b"%{SERVER}", _) => GroupRule::Server,
                (b"%{HOST}", _) => GroupRule::Host,
                (b"%{RESOURCE}", _) => GroupRule::Resource,
                (_, Some(name)) if !name.is_empty() => GroupRule::Environment(name.to_vec()),
                (name, _) => GroupRule::Fixed(GroupName::new(name)),
            };
            prop_assert_eq!(GroupRule::parse(&value), wanted);
        }

        #[test]
        fn a_callable_is_a_name_a_variable_or_the_default(value in value()) {
            match CallableRule::parse(&value) {
                CallableRule::Environment(name) => {
                    prop_assert!(!name.is_empty());
                    prop_assert_eq!([b"%{ENV:", &name[..], b"}"].concat(), value);
                }
                CallableRule::Fixed(name) if value.starts_with(b"%") => {
                    prop_assert_eq!(name, DEFAULT_CALLABLE);
                    let variable = value.strip_prefix(b"%{ENV:").and_then(|rest| rest.strip_suffix(b"}"));
                    prop_assert!(variable.is_none_or(<[u8]>::is_empty));
                }
                CallableRule::Fixed(name) => prop_assert_eq!(name, value),
            }
        }
    }

    #[test]
    fn forms_are_exact() {
        let fixed = |name: &[u8]| GroupRule::Fixed(GroupName::new(name));
        assert!(matches!(GroupRule::parse(b"%{GLOBAL}"), GroupRule::Fixed(name) if name.is_main()));
        assert_eq!(GroupRule::parse(b"%{server}"), fixed(b"%{server}"));
        assert_eq!(GroupRule::parse(b"my%{SERVER}"), fixed(b"my%{SERVER}"));
        assert_eq!(GroupRule::parse(b"%{ENV:}"), fixed(b"%{ENV:}"));
        assert_eq!(CallableRule::parse(b"%{SERVER}"), CallableRule::Fixed(b"application".to_vec()));
        assert_eq!(GroupRule::parse_for_hook(b"%{GLOBAL}"), GroupRule::default());
        assert_eq!(GroupRule::parse_for_hook(b"%{HOST}"), GroupRule::Host);
        assert_eq!(GroupRule::parse_for_hook(b"%{ENV:G}"), fixed(b"%{ENV:G}"));
        assert_eq!(GroupRule::parse_for_hook(b"%{RESOURCE}"), fixed(b"%{RESOURCE}"));
    }
}
