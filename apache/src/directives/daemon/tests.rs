use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::num::NonZero;

/// The group `x` with the options of this line, and the remarks.
fn line(text: &str) -> Result<(ProcessGroup, Vec<String>), String> {
    let mut group = ProcessGroup::new(GroupName::new(b"x"));
    let remarks = read(Words::new(text.as_bytes()), &mut group)?;
    Ok((group, remarks))
}

/// The same, where nothing is to be remarked.
#[track_caller]
fn parsed(text: &str) -> ProcessGroup {
    let (group, remarks) = line(text).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
    assert_eq!(remarks, [""; 0], "{text}");
    group
}

/// It is refused in one line that has all of these words.
#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let refusal = line(text).expect_err(text);
    for word in [&["WSGIDaemonProcess: "], words].concat() {
        assert!(refusal.contains(word), "{text}: it lacks {word:?}: {refusal}");
    }
    assert_eq!(refusal.lines().count(), 1, "{refusal}");
}

/// Some user who is not root, and some group that is not root's.
fn somebody() -> (User, Group) {
    let user = (1..).find_map(|number| User::from_uid(Uid::from_raw(number)).unwrap());
    let group = (1..).find_map(|number| Group::from_gid(Gid::from_raw(number)).unwrap());
    (user.unwrap(), group.unwrap())
}

/// A number that nobody has.
fn nobody() -> u32 {
    let unknown = |number: &u32| User::from_uid(Uid::from_raw(*number)).unwrap().is_none();
    (3_000_000_000..).find(unknown).unwrap()
}

/// Two values for each option that says something, each of which changes a group of the other.
fn samples() -> Vec<(&'static str, [String; 2])> {
    let (user, group) = somebody();
    let (user, group) = (user.name, group.name);
    let mut samples: Vec<_> = [
        ("processes", ["2", "3"]),
        ("threads", ["0", "65533"]),
        ("replicas", ["7", "1024"]),
        ("worker", ["/usr/bin/w", "'/a b'"]),
        ("display-name", ["%{GROUP}", "a"]),
        ("group", [&group, "#4000000000"]),
        ("supplementary-groups", ["#1,#2", &group]),
        ("home", ["/", "'/a b'"]),
        ("chroot", ["/", "'/a b'"]),
        ("umask", ["0022", "77"]),
        ("python-home", ["/venv", "relative"]),
        ("python-path", ["/a:/b", "/c"]),
        ("python-eggs", ["/eggs", "/more"]),
        ("lang", ["C", "en_US.UTF-8"]),
        ("locale", ["C", "en_US.UTF-8"]),
        ("switch-interval", ["0.5", "1e-6"]),
        ("stack-size", ["262144", "2147483647"]),
        ("cpu-time-limit", ["1", "2147483647"]),
        ("cpu-priority", ["5", "-5"]),
        ("memory-limit", ["1", "9223372036854775807"]),
        ("virtual-memory-limit", ["1", "9223372036854775807"]),
        ("socket-user", [&user, "#0"]),
        ("listen-backlog", ["0", "2147483647"]),
        ("send-buffer-size", ["512", "2147483647"]),
        ("receive-buffer-size", ["512", "2147483647"]),
        ("maximum-requests", ["1", "9223372036854775807"]),
        ("restart-interval", ["1", "2147483647"]),
        ("header-buffer-size", ["8192", "2147483647"]),
        ("response-buffer-size", ["65536", "2147483647"]),
        ("response-flush-delay", ["0", "2147483647"]),
        ("server-metrics", ["On", "Off"]),
    ]
    .map(|(name, values)| (name, values.map(str::to_owned)))
    .to_vec();
    let times = OPTIONS.iter().filter(|(_, how)| matches!(how, Seconds(_)));
    let times = times.map(|(name, _)| (*name, ["7", "2147483647"].map(str::to_owned)));
    samples.extend(times.filter(|(name, _)| *name != "restart-interval"));
    samples.push(("user", [user.clone(), format!("#{}", somebody().0.uid)]));
    samples.push(("script-user", [user, "root".to_owned()]));
    samples.push(("script-group", [group, "#0".to_owned()]));
    samples
}

/// What is not accepted.
const WRONG: &[(&str, &[&str])] = &[
    ("processes", &["0", "-1", "65537", "many", "''"]),
    ("threads", &["-1", "65534", "''"]),
    ("replicas", &["0", "-1", "1025", "3x", "automatic", "''"]),
    ("worker", &["manifold-worker", "./w", "''"]),
    ("display-name", &[]),
    ("user", &["''", "root", "#0", "#", "#x", "#+1", "#-1", "#4294967295", "no.such.user"]),
    ("group", &["''", "#", "#x", "#4294967295", "no.such.group"]),
    ("supplementary-groups", &["''", "#1,", ",", "'#1 ,#2'", "#1,no.such.group"]),
    ("home", &["srv", "./srv", "''"]),
    ("chroot", &["srv", "''"]),
    ("umask", &["''", "-1", "+22", "8", "0o22", "022x", "10000", "rwx"]),
    ("python-home", &[]),
    ("python-path", &[]),
    ("python-eggs", &[]),
    ("lang", &[]),
    ("locale", &[]),
    ("switch-interval", &["''", "0", "-1", "nan", "inf", "5s", "4001", "0.0000001"]),
    ("stack-size", &["0", "-1", "262143", "2147483648", "big", "''"]),
    ("cpu-time-limit", &["-1", "2147483648", "''"]),
    ("cpu-priority", &["2147483648", "''"]),
    ("memory-limit", &["-1", "''"]),
    ("virtual-memory-limit", &["-1", "''"]),
    ("socket-user", &["''", "#", "#4294967295", "no.such.user"]),
    ("listen-backlog", &["-1", "2147483648", "''"]),
    ("send-buffer-size", &["-1", "1", "511", "2147483648", "''"]),
    ("receive-buffer-size", &["-1", "1", "511", "''"]),
    ("maximum-requests", &["-1", "''"]),
    ("restart-interval", &["-1", "''"]),
    ("header-buffer-size", &["-1", "1", "8191", "''"]),
    ("response-buffer-size", &["-1", "1", "65535", "''"]),
    ("response-flush-delay", &["-1", "''"]),
    ("server-metrics", &["''", "perhaps", "1"]),
    ("script-user", &["''", "#", "#x", "no.such.user"]),
    ("script-group", &["''", "#", "#x", "no.such.group"]),
];

#[test]
fn every_option_goes_to_a_place_of_its_own() {
    let known: BTreeSet<_> = OPTIONS.iter().map(|(name, _)| *name).collect();
    let sampled: BTreeSet<_> = samples().iter().map(|(name, _)| *name).collect();
    assert_eq!(
        (known.len(), sampled),
        (OPTIONS.len(), known),
        "each has a sample, and is there once"
    );

    let mut seen = vec![("nothing".to_owned(), parsed(""))];
    for (name, [one, other]) in samples() {
        for value in [one, other] {
            let said = format!("{name}={value}");
            let group = parsed(&said);
            let same = seen.iter().find(|(_, other)| *other == group);
            // Two ways to write one user, and a default.
            let may = name == "user" || said == "server-metrics=Off";
            assert!(same.is_none() || may, "{said} is the same as {}", same.unwrap().0);
            seen.push((said, group));
        }
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_option_and_what_is_accepted() {
    for (name, values) in WRONG {
        let accepted = OPTIONS.iter().find(|(known, _)| known == name).unwrap().1.accepts();
        for value in *values {
            let shown = format!("'{}' is not {accepted} ({name}=)", value.trim_matches('\''));
            refused(&format!("{name}={value}"), &[&shown]);
        }
    }
    for (name, how) in OPTIONS.iter().filter(|(_, how)| matches!(how, Seconds(_))) {
        for value in ["-1", "2147483648", "99999999999999999999", "''"] {
            let accepted = "a number of seconds from 0 to 2147483647";
            assert_eq!(how.accepts(), accepted);
            refused(&format!("{name}={value}"), &[accepted, &format!("({name}=)")]);
        }
    }
    let unknown = format!("#{}", nobody());
    refused(&format!("user={unknown}"), &[&unknown, "(user=)"]);
    refused(&format!("script-user={unknown}"), &[&unknown, "(script-user=)"]);
    refused("script-group=#3999999999", &["(script-group=)"]);
    let many = vec!["#1"; MOST_GROUPS].join(",");
    assert_eq!(
        parsed(&format!("supplementary-groups={many}")).identity.supplementary.unwrap().len(),
        65_535
    );
    refused(&format!("supplementary-groups={many},#1"), &["up to 65535 groups"]);
}

#[test]
fn what_is_no_option_is_refused_with_the_list_of_those_there_are() {
    let all = ["accepted are processes=", "restart-interval=", "server-metrics="];
    for word in
        ["restart-on-touch=1", "reload=On", "autoscale=2", "Processes=2", "request_timeout=1"]
    {
        let name = format!("'{}' is not an option;", word.split('=').next().unwrap());
        refused(word, &[&[&name[..]], &all[..]].concat());
    }
    for word in ["processes", "=2"] {
        let shown = format!("'{word}' is not an option (name=value)");
        refused(word, &[&[&shown[..]], &all[..]].concat());
    }
    refused("processes =2", &["'processes'"]);
}

#[test]
fn defaults_are_those_of_mod_wsgi() {
    let group = parsed("");
    assert_eq!((group.processes.get(), group.multiprocess, group.threads), (1, false, 15));
    assert_eq!(group.socket.backlog, 100);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let timeouts = group.timeouts;
    assert_eq!(timeouts.deadlock, seconds(300));
    assert_eq!((Some(timeouts.graceful), timeouts.shutdown), (seconds(15), seconds(5)));
    assert_eq!(Some(timeouts.connect), seconds(15));
    // What has no other default is not limited, or has the value that 0 stands for.
    let zeros = "request-timeout=0 interrupt-timeout=0 startup-timeout=0 eviction-timeout=0 \
                 socket-timeout=0 queue-timeout=0 response-socket-timeout=0 restart-interval=0 \
                 inactivity-timeout=0 maximum-requests=0 cpu-time-limit=0 memory-limit=0 \
                 virtual-memory-limit=0 send-buffer-size=0 receive-buffer-size=0 header-buffer-size=0 \
                 response-buffer-size=0 lang= locale='' python-home= python-path= python-eggs= display-name=";
    assert_eq!(parsed(zeros), parsed(""));
}

#[test]
fn zero_switches_off_what_has_a_default() {
    let group = parsed(
        "deadlock-timeout=0 shutdown-timeout=0 graceful-timeout=0 connect-timeout=0 response-flush-delay=0",
    );
    let timeouts = group.timeouts;
    assert_eq!((timeouts.deadlock, timeouts.shutdown), (None, None));
    assert_eq!((timeouts.graceful, timeouts.connect), (Duration::ZERO, Duration::ZERO));
    assert_eq!(group.response.flush_delay, Some(Duration::ZERO));
}

#[test]
fn values_are_what_they_say() {
    let (user, unix_group) = somebody();
    let said = format!(
        "processes=1 threads=+5 user={} group={} supplementary-groups={},#7 home='/srv/a b' \
         python-path=/a::/b: umask=1027 display-name=%{{GROUP}} listen-backlog=7 maximum-requests=9 \
         cpu-priority=-99 response-flush-delay=20 socket-user=#12 script-user={} server-metrics=oN",
        user.name, unix_group.name, unix_group.name, user.name,
    );
    let group = parsed(&said);
    let user = Id { number: user.uid.as_raw(), name: Some(user.name) };
    let (number, name) = (unix_group.gid.as_raw(), Some(unix_group.name));
    assert_eq!((group.processes.get(), group.multiprocess), (1, true), "that it was said counts");
    assert_eq!(group.threads, 5);
    assert_eq!((&group.identity.user, &group.owner.user), (&Some(user.clone()), &Some(user)));
    assert_eq!(group.identity.group, Some(Id { number, name }));
    assert_eq!(group.identity.supplementary, Some(vec![number, 7]));
    assert_eq!(group.identity.home, Some(PathBuf::from("/srv/a b")));
    assert_eq!(group.python.path, ["/a", "/b"].map(PathBuf::from));
    assert_eq!(group.identity.umask, Some(0o027), "umask(2) takes no other bits");
    assert_eq!(group.title.as_deref(), Some(&b"(wsgi:x)"[..]));
    assert_eq!((group.socket.backlog, group.socket.owner), (7, Some(12)));
    assert_eq!(group.renewal.maximum_requests, NonZero::new(9));
    assert_eq!(group.resources.priority, Some(-20), "as setpriority(2) takes it");
    assert_eq!(group.response.flush_delay, Some(Duration::from_millis(20)));
    assert!(group.server_metrics);
    assert_eq!(parsed("display-name=a%{GROUP}").title.as_deref(), Some(&b"a%{GROUP}"[..]));
    assert_eq!(parsed("replicas=AUTO").replicas, Some(processors()));
    let number = format!("#{}", nobody());
    let socket = parsed(&format!("socket-user={number} group={number}"));
    assert_eq!(socket.socket.owner, Some(nobody()));
    assert_eq!(socket.identity.group, Some(Id { number: nobody(), name: None }));
}

#[test]
fn a_script_belongs_to_a_user_or_a_group() {
    let (user, unix_group) = somebody();
    let both = format!("script-group={} script-user={}", unix_group.name, user.name);
    refused(&both, &["script-user=", "script-group=", "only one"]);
}

#[test]
fn what_follows_a_number_is_ignored_and_remarked() {
    let (group, remarks) =
        line("threads=10x queue-timeout=abc maximum-requests=5,000 processes=' 2'").unwrap();
    assert_eq!((group.threads, group.timeouts.queue, group.processes.get()), (10, None, 2));
    assert_eq!(group.renewal.maximum_requests, NonZero::new(5));
    assert_eq!(
        remarks,
        [
            "threads='10x' is no number, and is taken as 10",
            "queue-timeout='abc' is no number, and is taken as 0",
            "maximum-requests='5,000' is no number, and is taken as 5",
        ]
    );
    // Where 0 is not accepted, that is said.
    refused("processes=two", &["'two'", "from 1 to 65536", "(processes=)"]);
}

#[test]
fn both_pages_have_a_row_for_each_option_and_no_other() {
    let known: BTreeSet<_> = OPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let page = include_str!("../../../../docs/directives/WSGIDaemonProcess.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('='));
    let documented: Vec<_> = rows.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(
        (documented.len(), documented.into_iter().collect()),
        (OPTIONS.len(), known.clone())
    );

    let page = include_str!("../../../../docs/compatibility.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| WSGIDaemonProcess ")?.split_once("= |"));
    let documented: Vec<_> = rows.map(|(name, _)| name.to_owned()).collect();
    assert_eq!((documented.len(), documented.into_iter().collect()), (OPTIONS.len(), known));
}

/// An option and a value: one that is accepted, or any, often with something of a number.
fn option() -> impl Strategy<Value = (String, String)> {
    let sample = prop::sample::select(samples());
    let good = (sample, any::<bool>())
        .prop_map(|((name, values), first)| (name.to_owned(), values[usize::from(first)].clone()));
    let name = (0..OPTIONS.len()).prop_map(|at| OPTIONS[at].0.to_owned());
    let value = prop_oneof!["[ +-]{0,2}[0-9]{0,12}[a-z .,-]{0,3}", "[^\\s\"'\\\\\\p{C}]{0,8}"];
    prop_oneof![1 => good, 2 => (name, value.prop_map(|value| format!("'{value}'")))]
}

fn accepted_option() -> impl Strategy<Value = (String, String)> {
    // Two of them exclude each other.
    let may_stand = |(name, value): &(String, String)| {
        name != "script-group" && line(&format!("{name}={value}")).is_ok()
    };
    option().prop_filter("is accepted", may_stand)
}

fn written(options: &[(String, String)]) -> String {
    options.iter().map(|(name, value)| format!("{name}={value} ")).collect()
}

proptest! {
    #[test]
    fn of_one_option_the_last_value_holds(
        options in prop::collection::vec(accepted_option(), 1..12)
    ) {
        let last = options.iter().enumerate().filter(|(at, (name, _))| {
            !options[at + 1..].iter().any(|(later, _)| later == name)
        });
        let last: Vec<_> = last.map(|(_, option)| option.clone()).collect();
        prop_assert_eq!(line(&written(&options)).unwrap().0, line(&written(&last)).unwrap().0);
        // Different ones may stand in any order.
        let reversed: Vec<_> = last.iter().rev().cloned().collect();
        prop_assert_eq!(line(&written(&reversed)).unwrap().0, line(&written(&last)).unwrap().0);
    }

    #[test]
    fn a_line_is_accepted_if_each_of_its_options_is(
        options in prop::collection::vec(option(), 1..6)
    ) {
        let both = ["script-user", "script-group"]
            .iter()
            .all(|wanted| options.iter().any(|(name, _)| name == wanted));
        let wrong = options.iter().find(|option| line(&written(&[(*option).clone()])).is_err());
        match (line(&written(&options)), wrong) {
            (Err(refusal), Some((name, value))) => {
                let accepts = OPTIONS.iter().find(|(known, _)| known == name).unwrap().1.accepts();
                let value = value.trim_matches('\'');
                prop_assert_eq!(
                    refusal,
                    format!("WSGIDaemonProcess: '{value}' is not {accepts} ({name}=)"),
                    "the first one that is wrong is named"
                );
            }
            (result, wrong) => {
                prop_assert!(wrong.is_none());
                prop_assert_eq!(result.is_err(), both);
            }
        }
    }

    #[test]
    fn a_number_is_accepted_in_its_range(
        at in 0..OPTIONS.len(),
        number in prop_oneof![-3_i64..70_000, any::<i64>(), any::<i32>().prop_map(i64::from)],
    ) {
        let (name, how) = &OPTIONS[at];
        let in_range = match how {
            Number(least, most, _) => (*least..=*most).contains(&number),
            Size(least, most, _) => number == 0 || (*least..=*most).contains(&number),
            Seconds(_) => (0..=MOST).contains(&number),
            Text(_) | Checked(..) => return Ok(()),
        };
        let result = line(&format!("{name}={number}"));
        prop_assert_eq!(result.is_ok(), in_range);
        prop_assert!(result.is_err() || result.unwrap().1.is_empty());
    }

    #[test]
    fn a_number_is_read_as_c_reads_it(
        space in "[ \t]{0,2}", sign in "[+-]?", digits in "[0-9]{0,18}", rest in "([a-z.,+-][a-z0-9.,+-]{0,4})?"
    ) {
        // What could be another sign would belong to the number.
        prop_assume!(!digits.is_empty() || !sign.is_empty() || !rest.starts_with(['+', '-']));
        let value = format!("{space}{sign}{digits}{rest}");
        let wanted = digits.parse::<i64>().unwrap_or(0) * if sign == "-" { -1 } else { 1 };
        match leading_number(value.as_bytes()) {
            None => prop_assert!(value.is_empty()),
            Some((number, taken)) => {
                prop_assert_eq!(number, wanted);
                let whole = rest.is_empty() && !digits.is_empty();
                prop_assert_eq!(taken, if whole { Taken::Whole } else { Taken::As(wanted) });
            }
        }
    }

    #[test]
    fn any_line_is_a_group_or_one_message(text in any::<Vec<u8>>()) {
        let mut group = ProcessGroup::new(GroupName::new(b"x"));
        if let Err(refusal) = read(Words::new(&text), &mut group) {
            prop_assert!(refusal.starts_with("WSGIDaemonProcess: "));
        }
    }
}
