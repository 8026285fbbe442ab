//! What `wsgi-status` says to Prometheus, and the configuration and dashboard of docs/ that ask for it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Client, Conf, Request, Server, eventually, test_python};
use crate::port::Port;
use crate::status::{HANDLERS, becomes_ready};

#[test]
fn a_real_parser_reads_what_prometheus_is_given() {
    let server = Server::start(
        Conf::serving("metrics.wsgi").and("WSGIApplicationGroup \"quo\\\"ted\"").and(HANDLERS),
    );
    server.get("/echo").expect(200, "");
    let response = server.get("/status?prometheus");
    let kind = response.header("Content-Type").expect("a type");
    assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    let program = "import sys\n\
        from prometheus_client.parser import text_string_to_metric_families as parse\n\
        for family in parse(sys.stdin.read()):\n    \
        assert family.documentation and family.type != 'unknown', family\n    \
        for sample in family.samples:\n        \
        print(family.type, sample.name, sample.labels.get('application_group'), \
        sample.labels.get('le', sample.labels.get('class')), float(sample.value))\n";
    let said = python(program, &response.text());
    for line in [
        "gauge manifold_up None None 1.0",
        "counter manifold_requests_total quo\"ted None 1.0",
        "counter manifold_responses_total quo\"ted 2xx 1.0",
        "histogram manifold_request_duration_seconds_bucket quo\"ted +Inf 1.0",
        "histogram manifold_request_duration_seconds_count quo\"ted None 1.0",
    ] {
        assert!(said.lines().any(|other| other == line), "{line} in\n{said}");
    }
}

/// What a program prints that reads this, in the environment that has the tests' packages.
fn python(program: &str, input: &str) -> String {
    let mut child = Command::new(test_python())
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

const DASHBOARD: &str = include_str!("../../docs/grafana-dashboard.json");

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_part(letter)).filter(|word| word.starts_with("manifold_")).collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let board: Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
    let server = Server::start(Conf::serving("metrics.wsgi").and(HANDLERS));
    server.get("/echo").expect(200, "");
    let exported = server.get("/status?prometheus").text();
    let exported = metrics(&exported);
    let panels = board["panels"].as_array().expect("panels");
    assert!(panels.len() > 10);
    for panel in panels {
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            let asked = metrics(query);
            assert!(!asked.is_empty(), "{query}");
            let missing: Vec<_> = asked.difference(&exported).collect();
            assert!(missing.is_empty(), "{missing:?} of {}: {query}", panel["title"]);
        }
    }
    for variable in board["templating"]["list"].as_array().expect("variables") {
        let query = variable["definition"].as_str().unwrap_or("");
        assert!(metrics(query).is_subset(&exported), "{query}");
    }
}

/// By the classes that Grafana generates from its own schema. What they do not know is lost on the way.
#[test]
fn grafana_knows_all_that_the_dashboard_says() {
    let program = r#"
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

def lost(said, known, path):
    if isinstance(said, dict):
        for key, value in said.items():
            if key not in known:
                print("unknown:", path, key)
            else:
                lost(value, known[key], path + "/" + key)
    elif isinstance(said, list):
        assert len(said) == len(known), path
        for one, other in zip(said, known):
            lost(one, other, path)
    elif said != known:
        print("changed:", path, said, known)

said = json.load(sys.stdin)
board = Dashboard.from_json(said)
# What Grafana keeps to show a variable's query, which the schema leaves out.
for variable in said["templating"]["list"]:
    variable.pop("definition", None)
lost(said, json.loads(json.dumps(board, cls=JSONEncoder)), "")
print(board.title, len(board.panels))
"#;
    let panels = |text: &str| {
        let board: Value = serde_json::from_str(text).expect("it is JSON");
        board["panels"].as_array().expect("panels").len()
    };
    let said = python(program, DASHBOARD);
    assert_eq!(said, format!("mod_manifold {}\n", panels(DASHBOARD)));
    let misspelt = DASHBOARD.replacen("\"gridPos\"", "\"gridpos\"", 1);
    let said = python(program, &misspelt);
    assert!(said.contains("unknown: ") && said.contains("gridpos"), "{said}");
}

#[test]
fn prometheus_is_told_to_ask_where_the_page_says() {
    let program = "import sys, yaml, json\nprint(json.dumps(yaml.safe_load(sys.stdin)))\n";
    let text = python(program, include_str!("../../docs/prometheus.yml"));
    let config: Value = serde_json::from_str(&text).expect("JSON");
    let [job] = &config["scrape_configs"].as_array().expect("a list")[..] else {
        panic!("one job: {config}")
    };
    let page = include_str!("../../docs/status.md");
    let path = job["metrics_path"].as_str().expect("a path");
    assert!(page.contains(&format!("<Location \"{path}\">")), "{path}");
    let (name, values) = job["params"].as_object().expect("params").iter().next().expect("one");
    let query = format!("{name}={}", values[0].as_str().expect("a value"));
    let server = Server::start(Conf::new(example(page)).with("authz_host"));
    let response = server.get(&format!("{path}?{query}"));
    assert!(response.text().contains("# TYPE manifold_up gauge"), "{}", response.text());
    becomes_ready(&server, "/wsgi-health");
}

#[test]
fn prometheus_itself_takes_what_it_is_given_and_answers_what_the_dashboard_asks() {
    let Ok(version) = Command::new("prometheus").arg("--version").output() else {
        println!("left out: prometheus is not installed (apt-get install prometheus)");
        return;
    };
    assert!(version.status.success());
    let page = include_str!("../../docs/status.md");
    let server = Server::start(Conf::new(example(page)).with("authz_host"));
    let folder = tempfile::tempdir().expect("a folder");
    let config = include_str!("../../docs/prometheus.yml")
        .replace("scrape_interval: 15s", "scrape_interval: 1s")
        .replace("127.0.0.1:80", &server.address().to_string());
    std::fs::write(folder.path().join("prometheus.yml"), config).expect("it is written");
    let prometheus = Prometheus::start(folder.path());
    // Rates need two looks.
    let query = r#"count_over_time(manifold_up{job="mod_manifold"}[1m]) > 1"#;
    eventually("it has looked twice", || {
        prometheus.result(query).is_some_and(|found| !found.is_empty()).then_some(())
    });
    let board: Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
    for panel in board["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let mut query = target["expr"].as_str().expect("a query").to_owned();
            for name in ["job", "instance", "process_group", "application_group"] {
                query = query.replace(&format!("${name}\""), ".*\"");
            }
            let query = query.replace("$__rate_interval", "1m");
            assert!(!query.contains('$'), "{query}");
            assert!(prometheus.result(&query).is_some(), "{}: {query}", panel["title"]);
        }
    }
}

/// A Prometheus that looks as the configuration in its folder says, until it is dropped.
struct Prometheus {
    child: std::process::Child,
    address: SocketAddr,
    _port: Port,
}

impl Prometheus {
    fn start(folder: &std::path::Path) -> Self {
        let port = Port::hold("127.0.0.1:0").expect("a free port");
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let prometheus = Self { child, address, _port: port };
        eventually("it answers", || std::net::TcpStream::connect(address).ok());
        prometheus
    }

    /// What a query finds; nothing where it is none, or cannot be answered yet.
    fn result(&self, query: &str) -> Option<Vec<Value>> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request = Request::get(&format!("/api/v1/query?query={escaped}"));
        let answer = Client::connect(self.address).send(&request.header("Connection", "close"));
        let answer: Value = serde_json::from_str(&answer.text()).ok()?;
        (answer["status"] == "success").then(|| answer["data"]["result"].as_array().cloned())?
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first configuration on a page.
fn example(page: &str) -> &str {
    let (_, text) = page.split_once("```apache\n").expect("an example");
    text.split_once("```").expect("its end").0
}
