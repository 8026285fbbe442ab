//! A snapshot as Prometheus reads it: the text format, version 0.0.4.
#![forbid(unsafe_code)]

use super::snapshot::{ApplicationGroup, Snapshot, Totals};
use std::fmt::Write;

/// Where a series of application groups comes from.
type Of<T> = fn(&T) -> f64;

/// Counters of application groups: name, help, and where they come from.
const COUNTERS: [(&str, &str, Of<Totals>); 13] = [
    ("requests_total", "Requests that applications have answered, or failed to.", |it| {
        number(it.requests)
    }),
    ("queue_seconds_total", "Time that requests have spent in the queue.", |it| it.queue_seconds),
    ("application_seconds_total", "Time that applications have spent on requests.", |it| {
        it.application_seconds
    }),
    ("gil_wait_seconds_total", "Time that threads have waited for the GIL.", |it| {
        it.gil_wait_seconds
    }),
    ("request_bytes_total", "Bytes of request bodies that were read.", |it| number(it.bytes_in)),
    ("response_bytes_total", "Bytes of response bodies.", |it| number(it.bytes_out)),
    ("refused_total", "Requests that found no room, or waited too long.", |it| number(it.refused)),
    ("timeouts_total", "Requests that took longer than they may.", |it| number(it.timeouts)),
    (
        "errors_total",
        "Exceptions that applications have raised, and scripts that did not load.",
        |it| number(it.errors),
    ),
    ("reloads_total", "Scripts that were loaded again.", |it| number(it.reloads)),
    ("replacements_total", "Interpreters that took another's place.", |it| number(it.replacements)),
    ("demotions_total", "Moves to an interpreter without a GIL of its own.", |it| {
        number(it.demotions)
    }),
    ("quarantined_total", "Threads that were given up.", |it| number(it.quarantined)),
];

/// What application groups are now.
const GAUGES: [(&str, &str, Of<ApplicationGroup>); 10] = [
    ("queue_waiting", "Requests that wait for a thread.", |it| number(it.queue.waiting)),
    ("queue_limit", "Requests that may wait for a thread.", |it| number(it.queue.limit)),
    ("threads_serving", "Threads that serve a request.", |it| number(it.threads.serving)),
    ("threads_running", "Threads that serve a request and use a processor.", |it| {
        number(it.threads.running)
    }),
    ("threads_blocked", "Threads that serve a request and wait for something.", |it| {
        number(it.threads.blocked)
    }),
    ("threads_idle", "Threads that wait for a request.", |it| number(it.threads.idle)),
    ("threads_quarantined", "Threads that were given up and have not come back.", |it| {
        number(it.threads.quarantined)
    }),
    ("threads_limit", "Threads that there may be.", |it| number(it.threads.limit)),
    ("replicas", "Interpreters.", |it| number(it.replicas.len() as u64)),
    ("stuck", "Processes in which it takes no more requests.", |it| number(it.stuck as u64)),
];

pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    text.head("up", "gauge", "Whether requests can be served.");
    text.sample("up", &[], f64::from(u8::from(snapshot.ready)));
    text.head("build_info", "gauge", "Versions, as labels.");
    text.sample("build_info", &[("version", snapshot.version), ("python", snapshot.python)], 1.0);
    processes(&mut text, snapshot);
    let groups: Vec<_> = snapshot
        .process_groups
        .iter()
        .flat_map(|of| of.application_groups.iter().map(|group| (of.name.as_str(), group)))
        .collect();
    for (name, help, of) in GAUGES {
        text.head(name, "gauge", help);
        for (process_group, group) in &groups {
            text.sample(name, &labels(process_group, &group.name), of(group));
        }
    }
    text.head("gil", "gauge", "Whose GIL an application group's interpreters have, as a label.");
    for (process_group, group) in &groups {
        let [first, second] = labels(process_group, &group.name);
        text.sample("gil", &[first, second, ("mode", group.gil)], 1.0);
    }
    let mut totals: Vec<_> =
        groups.iter().map(|(of, group)| (*of, group.name.as_str(), &group.totals)).collect();
    let others = snapshot.process_groups.iter();
    totals
        .extend(others.filter_map(|of| Some((of.name.as_str(), "(others)", of.others.as_ref()?))));
    for (name, help, of) in COUNTERS {
        text.head(name, "counter", help);
        for (process_group, group, totals) in &totals {
            text.sample(name, &labels(process_group, group), of(totals));
        }
    }
    responses(&mut text, &totals);
    latencies(&mut text, &totals);
    text.0
}

fn processes(text: &mut Text, snapshot: &Snapshot) {
    let groups = &snapshot.process_groups;
    text.head(
        "processes",
        "gauge",
        "Processes of a process group by state; those of httpd have no name.",
    );
    for group in groups {
        for state in ["starting", "serving", "draining", "failed"] {
            let count = group.processes.iter().filter(|process| process.state == state).count();
            let labels = [("process_group", group.name.as_str()), ("state", state)];
            text.sample("processes", &labels, number(count as u64));
        }
    }
    text.head("resident_bytes", "gauge", "Memory of the processes of a process group.");
    for group in groups {
        let resident = group.processes.iter().filter_map(|process| process.resident_bytes).sum();
        text.sample("resident_bytes", &[("process_group", &group.name)], number(resident));
    }
    type Of = fn(&super::snapshot::ProcessGroup) -> u64;
    let counters: [(&str, &str, Of); 4] = [
        ("process_starts_total", "Processes that have started.", |it| it.starts),
        ("process_deaths_total", "Worker processes that have died and should not.", |it| it.deaths),
        ("connects_total", "Connections of httpd to worker processes.", |it| it.connects),
        ("resent_total", "Requests that went to a second worker process.", |it| it.resent),
    ];
    for (name, help, of) in counters {
        text.head(name, "counter", help);
        for group in groups {
            text.sample(name, &[("process_group", &group.name)], number(of(group)));
        }
    }
}

fn responses(text: &mut Text, totals: &[(&str, &str, &Totals)]) {
    text.head("responses_total", "counter", "Responses by the class of their status.");
    for (process_group, group, totals) in totals {
        let status = &totals.status;
        for (class, count) in [
            ("1xx", status.informational),
            ("2xx", status.success),
            ("3xx", status.redirection),
            ("4xx", status.client_error),
            ("5xx", status.server_error),
        ] {
            let [first, second] = labels(process_group, group);
            text.sample("responses_total", &[first, second, ("class", class)], number(count));
        }
    }
}

fn latencies(text: &mut Text, totals: &[(&str, &str, &Totals)]) {
    const NAME: &str = "request_duration_seconds";
    text.head(NAME, "histogram", "Time of requests, from the queue to the end.");
    for (process_group, group, totals) in totals {
        let [first, second] = labels(process_group, group);
        let mut sum = 0_u64;
        for bucket in &totals.latency.buckets {
            sum = sum.wrapping_add(bucket.count);
            let bound = bucket.le.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            let labels = [first, second, ("le", bound.as_str())];
            text.sample(&format!("{NAME}_bucket"), &labels, number(sum));
        }
        text.sample(&format!("{NAME}_sum"), &[first, second], totals.latency.seconds);
        text.sample(&format!("{NAME}_count"), &[first, second], number(sum));
    }
}

fn labels<'a>(process_group: &'a str, group: &'a str) -> [(&'static str, &'a str); 2] {
    [("process_group", process_group), ("application_group", group)]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn number(number: u64) -> f64 {
    number as f64
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP manifold_{name} {help}\n# TYPE manifold_{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.write(format_args!("manifold_{name}"));
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\""));
            for letter in value.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{after} {value}\n"));
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        self.0.write_fmt(what).expect("a String takes all that is written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_holds_ends_no_label() {
        let mut text = Text::default();
        text.sample("x", &[("a", "q\"b\\\n"), ("b", "")], 1.5);
        assert_eq!(text.0, "manifold_x{a=\"q\\\"b\\\\\\n\",b=\"\"} 1.5\n");
    }
}
