//! What the interpreter of an application group is to be like: what holds for all of them, blocks
//! about some, and the rule by which one outweighs the other.
//!
//! For each option by itself the most specific block that says something about it decides, which
//! is the one with the most selectors; of equally specific ones the later. What holds for all is
//! the weakest. Directories of `sys.path` are added up instead.
#![forbid(unsafe_code)]

use crate::{GroupName, Settings, paths};
use cpython_sys::CAN_END_INTERPRETERS;
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

/// What is said about interpreters. `None` leaves an option to what is less specific.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InterpreterOptions {
    /// What GIL the interpreter gets.
    pub gil: Option<OwnGil>,
    /// How many interpreters an application group has in each process.
    pub replicas: Option<NonZeroUsize>,
    /// After how many requests an interpreter is replaced by a fresh one.
    pub maximum_requests: Option<NonZeroU64>,
    /// After how many seconds a thread that wants the GIL asks for it, `sys.setswitchinterval()`.
    pub switch_interval: Option<f64>,
    /// How many requests may wait for the application group.
    pub queue_limit: Option<usize>,
    /// Directories that come first on `sys.path`, with what their `.pth` files name.
    #[serde(with = "paths::list")]
    pub python_path: Vec<PathBuf>,
    /// Whether `sys.stdin` raises on use.
    pub restrict_stdin: Option<bool>,
    /// Whether `sys.stdout` raises on use.
    pub restrict_stdout: Option<bool>,
    /// Whether registrations of signal handlers are ignored.
    pub restrict_signal: Option<bool>,
}

/// What GIL the interpreter of an application group gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gil {
    /// One of its own (PEP 684).
    Own,
    /// The main interpreter's, as in all Pythons before 3.12.
    Shared,
}

impl Default for Gil {
    /// The best that this Python can do.
    fn default() -> Self {
        if cpython_sys::OWN_GIL_IS_SAFE { Self::Own } else { Self::Shared }
    }
}

/// Whether the interpreter of an application group has a GIL of its own: `WSGIPerInterpreterGIL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnGil {
    /// Where this Python can and the application's code does without what that excludes.
    #[default]
    Auto,
    /// Wherever this Python can, whatever the application's code needs.
    On,
    /// Never.
    Off,
}

impl OwnGil {
    /// What an interpreter starts with.
    fn gil(self) -> Gil {
        match self {
            Self::Auto | Self::On => Gil::default(),
            Self::Off => Gil::Shared,
        }
    }
}

/// A block of options about some interpreters. A selector that is left out matches any group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptionsBlock {
    /// The process group that it is about.
    pub process_group: Option<GroupName>,
    /// The application group that it is about.
    pub application_group: Option<GroupName>,
    /// What it says.
    pub options: InterpreterOptions,
}

/// All that is said about interpreters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptionsTable {
    /// What holds for all of them.
    pub base: InterpreterOptions,
    /// The blocks, in the order of the configuration.
    pub blocks: Vec<OptionsBlock>,
}

/// What holds for one interpreter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) gil: Gil,
    /// The GIL is not to be changed, whatever the application's code needs.
    pub(crate) gil_is_pinned: bool,
    pub(crate) replicas: usize,
    pub(crate) maximum_requests: Option<NonZeroU64>,
    pub(crate) switch_interval: Option<SwitchInterval>,
    pub(crate) queue_limit: Option<usize>,
    /// Lists of directories, each of which is put before what is there; the least specific first.
    pub(crate) python_path: Vec<Vec<PathBuf>>,
    pub(crate) restrict_stdin: bool,
    pub(crate) restrict_stdout: bool,
    pub(crate) restrict_signal: bool,
}

/// The switch interval of one interpreter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SwitchInterval {
    pub(crate) seconds: f64,
    /// It is meant for this application group, and not for others that share its GIL.
    pub(crate) for_group: bool,
}

impl OptionsBlock {
    fn matches(&self, process_group: &GroupName, application_group: &GroupName) -> bool {
        self.process_group.as_ref().is_none_or(|name| name == process_group)
            && self.application_group.as_ref().is_none_or(|name| name == application_group)
    }

    /// How many selectors it has.
    fn specificity(&self) -> usize {
        usize::from(self.process_group.is_some()) + usize::from(self.application_group.is_some())
    }
}

impl OptionsTable {
    /// What holds for the interpreter of an application group, in a process of a process group.
    pub(crate) fn resolve(
        &self,
        process_group: &GroupName,
        application_group: &GroupName,
    ) -> Resolved {
        let matches = |block: &&OptionsBlock| block.matches(process_group, application_group);
        let mut blocks: Vec<_> = self.blocks.iter().filter(matches).collect();
        // A stable sort: equally specific blocks keep the order of the configuration.
        blocks.sort_by_key(|block| block.specificity());
        let for_all = |seconds| SwitchInterval { seconds, for_group: false };
        let base = &self.base;
        let mut own_gil = base.gil.unwrap_or_default();
        let mut resolved = Resolved {
            gil: Gil::default(),
            gil_is_pinned: false,
            replicas: base.replicas.map_or(1, NonZeroUsize::get),
            maximum_requests: base.maximum_requests,
            switch_interval: base.switch_interval.map(for_all),
            queue_limit: base.queue_limit,
            python_path: Vec::new(),
            restrict_stdin: base.restrict_stdin.unwrap_or(false),
            restrict_stdout: base.restrict_stdout.unwrap_or(false),
            restrict_signal: base.restrict_signal.unwrap_or(true),
        };
        let mut add_path = |paths: &Vec<PathBuf>| {
            if !paths.is_empty() {
                resolved.python_path.push(paths.clone());
            }
        };
        add_path(&base.python_path);
        blocks.iter().for_each(|block| add_path(&block.options.python_path));
        for block in blocks {
            let options = &block.options;
            let for_group = block.application_group.is_some();
            let interval =
                options.switch_interval.map(|seconds| SwitchInterval { seconds, for_group });
            replace(&mut own_gil, options.gil);
            replace(&mut resolved.replicas, options.replicas.map(NonZeroUsize::get));
            replace(&mut resolved.maximum_requests, options.maximum_requests.map(Some));
            replace(&mut resolved.switch_interval, interval.map(Some));
            replace(&mut resolved.queue_limit, options.queue_limit.map(Some));
            replace(&mut resolved.restrict_stdin, options.restrict_stdin);
            replace(&mut resolved.restrict_stdout, options.restrict_stdout);
            replace(&mut resolved.restrict_signal, options.restrict_signal);
        }
        resolved.gil = own_gil.gil();
        resolved.gil_is_pinned = own_gil != OwnGil::Auto;
        resolved
    }

    /// Whether an interpreter of a process of this process group may share the main one's GIL.
    pub(crate) fn any_shares(&self, process_group: &GroupName) -> bool {
        let of_this_process = self
            .blocks
            .iter()
            .filter(|block| block.process_group.as_ref().is_none_or(|name| name == process_group));
        let said = of_this_process.into_iter().filter_map(|block| block.options.gil);
        let mut all = std::iter::once(self.base.gil.unwrap_or_default()).chain(said);
        all.any(|own| own.gil() == Gil::Shared)
    }
}

/// What holds for the interpreters of a group of this process, and what of the configuration cannot be.
pub(crate) fn of_group(name: &GroupName, settings: &Settings) -> (Resolved, Vec<String>) {
    let (table, process_group) = (&settings.options, &settings.process_group);
    let mut notes = Vec::new();
    let mut options = table.resolve(process_group, name);
    if (name.is_main() || !CAN_END_INTERPRETERS) && options.maximum_requests.take().is_some() {
        let why = match name.is_main() {
            true => "it is the main interpreter, which lives as long as the process",
            false => "this version of Python cannot end an interpreter safely, 3.14 and later can",
        };
        notes.push(format!(
            "WSGIInterpreterMaximumRequests has no effect on application group '{name}': {why}"
        ));
    }
    let shares = match name.is_main() {
        true => table.any_shares(process_group),
        false => options.gil == Gil::Shared,
    };
    // CPython keeps the interval with the GIL.
    if shares && let Some(SwitchInterval { seconds, for_group: true }) = options.switch_interval {
        notes.push(format!(
            "WSGISwitchInterval {seconds} of a block for application group '{name}' is ignored: \
             its interpreter shares its GIL with others, and the interval is the GIL's; say it \
             for all, or WSGIPerInterpreterGIL On",
        ));
        options.switch_interval = None;
    }
    if options.replicas > 1 && (name.is_main() || options.gil == Gil::Shared) {
        let why = match name.is_main() {
            true => "it is the main interpreter, of which a process has one",
            false => "its interpreters would share one GIL, and so run one at a time",
        };
        notes.push(format!(
            "application group '{name}' has one replica and not {} (WSGIReplicas): {why}",
            options.replicas
        ));
        options.replicas = 1;
    }
    (options, notes)
}

fn replace<T>(value: &mut T, more_specific: Option<T>) {
    if let Some(more_specific) = more_specific {
        *value = more_specific;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group() -> impl Strategy<Value = GroupName> {
        prop_oneof![Just("a"), Just("b"), Just("")].prop_map(|name| GroupName::new(name.as_bytes()))
    }

    fn options() -> impl Strategy<Value = InterpreterOptions> {
        let own = [OwnGil::Auto, OwnGil::On, OwnGil::Off];
        let gil = proptest::option::of(proptest::sample::select(own.to_vec()));
        let interval = proptest::option::of((1_u8..9).prop_map(f64::from));
        let path = proptest::collection::vec((0_u8..5).prop_map(|n| n.to_string().into()), 0..3);
        let flag = || proptest::option::of(any::<bool>());
        let replicas = proptest::option::of((1_usize..9).prop_map(|n| n.try_into().unwrap()));
        let requests = proptest::option::of((1_u64..9).prop_map(|n| n.try_into().unwrap()));
        let queue = proptest::option::of(1_usize..9);
        let options = (gil, replicas, requests, interval, queue, path, flag(), flag(), flag());
        options.prop_map(|(gil, replicas, requests, interval, queue, path, a, b, c)| {
            InterpreterOptions {
                gil,
                replicas,
                maximum_requests: requests,
                switch_interval: interval,
                queue_limit: queue,
                python_path: path,
                restrict_stdin: a,
                restrict_stdout: b,
                restrict_signal: c,
            }
        })
    }

    fn block() -> impl Strategy<Value = OptionsBlock> {
        let selector = || proptest::option::of(group());
        (selector(), selector(), options()).prop_map(
            |(process_group, application_group, options)| OptionsBlock {
                process_group,
                application_group,
                options,
            },
        )
    }

    pub(crate) fn table() -> impl Strategy<Value = OptionsTable> {
        (options(), proptest::collection::vec(block(), 0..6))
            .prop_map(|(base, blocks)| OptionsTable { base, blocks })
    }

    /// The rule once more, for one option: of all that say something the heaviest, by selectors
    /// and then by place.
    fn decide<T>(
        table: &OptionsTable,
        (process, application): (&GroupName, &GroupName),
        option: impl Fn(&InterpreterOptions) -> Option<T>,
    ) -> Option<T> {
        let fits = |selector: &Option<GroupName>, name| selector.as_ref().is_none_or(|s| s == name);
        let mut said = vec![(0, 0, option(&table.base))];
        for (place, block) in table.blocks.iter().enumerate() {
            if fits(&block.process_group, process) && fits(&block.application_group, application) {
                let selectors = [&block.process_group, &block.application_group];
                let weight = selectors.iter().filter(|selector| selector.is_some()).count();
                said.push((weight, place + 1, option(&block.options)));
            }
        }
        said.retain(|(_, _, value)| value.is_some());
        said.into_iter().max_by_key(|(weight, place, _)| (*weight, *place))?.2
    }

    proptest! {
        #[test]
        fn the_most_specific_and_then_the_latest_decides_each_option_by_itself(
            table in table(), process in group(), application in group(),
        ) {
            let resolved = table.resolve(&process, &application);
            let groups = (&process, &application);
            let flag = |option: fn(&InterpreterOptions) -> Option<bool>| decide(&table, groups, option);
            let own = decide(&table, groups, |o| o.gil).unwrap_or_default();
            prop_assert_eq!((resolved.gil, resolved.gil_is_pinned), (own.gil(), own != OwnGil::Auto));
            let replicas = decide(&table, groups, |o| o.replicas).map_or(1, NonZeroUsize::get);
            prop_assert_eq!(resolved.replicas, replicas);
            prop_assert_eq!(resolved.maximum_requests, decide(&table, groups, |o| o.maximum_requests));
            prop_assert_eq!(
                resolved.switch_interval.map(|interval| interval.seconds),
                decide(&table, groups, |o| o.switch_interval)
            );
            prop_assert_eq!(resolved.queue_limit, decide(&table, groups, |o| o.queue_limit));
            prop_assert_eq!(resolved.restrict_stdin, flag(|o| o.restrict_stdin).unwrap_or(false));
            prop_assert_eq!(resolved.restrict_stdout, flag(|o| o.restrict_stdout).unwrap_or(false));
            prop_assert_eq!(resolved.restrict_signal, flag(|o| o.restrict_signal).unwrap_or(true));
        }

        #[test]
        fn every_list_of_directories_that_applies_is_there_once_and_the_heaviest_is_last(
            table in table(), process in group(), application in group(),
        ) {
            let resolved = table.resolve(&process, &application);
            let said = resolved.python_path.last().cloned();
            let list = |o: &InterpreterOptions| Some(o.python_path.clone()).filter(|p| !p.is_empty());
            prop_assert_eq!(said, decide(&table, (&process, &application), list));
            let applies = |block: &&OptionsBlock| block.matches(&process, &application);
            let lists = table.blocks.iter().filter(applies).filter_map(|block| list(&block.options));
            let expected = lists.chain(list(&table.base)).count();
            prop_assert_eq!(resolved.python_path.len(), expected);
            if let Some(base) = list(&table.base) {
                prop_assert_eq!(&resolved.python_path[0], &base);
            }
        }

        #[test]
        fn blocks_about_others_change_nothing(
            table in table(), process in group(), application in group(),
        ) {
            let mut fewer = table.clone();
            fewer.blocks.retain(|block| block.matches(&process, &application));
            prop_assert_eq!(
                fewer.resolve(&process, &application),
                table.resolve(&process, &application)
            );
        }

        #[test]
        fn an_interpreter_that_shares_its_gil_was_foretold(
            table in table(), process in group(), application in group(),
        ) {
            if table.resolve(&process, &application).gil == Gil::Shared {
                prop_assert!(table.any_shares(&process));
            }
        }
    }

    #[test]
    fn an_interval_is_the_groups_own_only_where_its_block_names_the_group() {
        let name = GroupName::new(b"a");
        let options = InterpreterOptions { switch_interval: Some(1.0), ..Default::default() };
        let mut table = OptionsTable { base: options.clone(), blocks: Vec::new() };
        let for_group = |table: &OptionsTable| {
            table.resolve(&GroupName::default(), &name).switch_interval.map(|it| it.for_group)
        };
        assert_eq!(for_group(&table), Some(false));
        let global = Some(GroupName::default());
        table.blocks.push(OptionsBlock {
            process_group: global,
            application_group: None,
            options: options.clone(),
        });
        assert_eq!(for_group(&table), Some(false));
        table.blocks.push(OptionsBlock {
            process_group: None,
            application_group: Some(name.clone()),
            options,
        });
        assert_eq!(for_group(&table), Some(true));
    }
}
