//! The table of other servers.

use std::fmt::Write as _;

use serde_json::Value;

use super::results::ResultFile;
use super::tables::{decimal, whole};

/// The newest result as a table, the cheapest server first.
pub(super) fn markdown(results: &[ResultFile]) -> String {
    let Some(newest) = results.iter().max_by_key(|it| (it.text("date"), &it.file)) else { return String::new() };
    let result = &newest.result;
    let list = |name: &str| result[name].as_array().into_iter().flatten().filter_map(Value::as_u64);
    let columns: Vec<(u64, u64)> =
        list("payload_bytes").flat_map(|payload| list("backlogs").map(move |backlog| (payload, backlog))).collect();
    let subscribers = whole(newest.number("/subscribers"));
    let runs = whole(newest.number("/runs"));
    let wants = match newest.number("/watchlists/subjects_per_session") {
        None => "subscribers of one subject".to_owned(),
        Some(each) => {
            format!(
                "subscribers of {} of {} subjects each",
                whole(Some(each)),
                whole(newest.number("/watchlists/subjects"))
            )
        }
    };
    let mut page = format!(
        "\n### Others' servers, {subscribers} {wants}\n\nServer CPU per delivered message in µs, median \
         (least to most of {runs} runs).\n\n| server |"
    );
    for (payload, backlog) in &columns {
        let mode = if *backlog == 1 { "one at a time".to_owned() } else { format!("backlog of {backlog}") };
        // Writing into a string cannot fail.
        let _ = write!(page, " {payload} bytes, {mode} |");
    }
    let _ = writeln!(page, " user bytes per idle session |\n|---|{}", "---|".repeat(columns.len() + 1));
    let cell = |server: &Value, payload: u64, backlog: u64| -> Option<(f64, String)> {
        let mode = crate::floor::mode(u8::try_from(backlog).ok()?);
        let it = &server[format!("payload_{payload}")][mode];
        let figure = |name: &str| decimal(it[name].as_f64(), 2);
        Some((it["cpu_us"].as_f64()?, format!("{} ({} to {})", figure("cpu_us"), figure("min"), figure("max"))))
    };
    let mut servers: Vec<(&String, &Value)> = result["servers"].as_object().into_iter().flatten().collect();
    servers.sort_by(|one, other| {
        let cost = |server: &Value| cell(server, columns.first()?.0, columns.first()?.1).map(|it| it.0);
        cost(one.1).partial_cmp(&cost(other.1)).unwrap_or(std::cmp::Ordering::Equal)
    });
    for (name, server) in servers {
        let name = match name.as_str() {
            "bare" => "bare loop, io_uring",
            "datapath" => "**Fanblade**",
            name => name,
        };
        let _ = write!(page, "| {name} |");
        for (payload, backlog) in &columns {
            let _ = write!(page, " {} |", cell(server, *payload, *backlog).map_or("–".to_owned(), |it| it.1));
        }
        let _ = writeln!(page, " {} |", whole(server["bytes_per_session"]["user"].as_f64()));
    }
    let _ = writeln!(page, "\nFrom [{0}](../perf/results/{0}); `{1}`.", newest.file, newest.text("command"));
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_result_is_told_the_cheapest_first() {
        let mode = |us: f64| json!({"cpu_us": us, "min": us - 0.5, "max": us + 0.5});
        let result = |date: &str, us: f64| ResultFile {
            file: format!("peers-{date}.json"),
            result: json!({
                "date": date, "subscribers": 10_000, "runs": 3, "payload_bytes": [512], "backlogs": [1, 8],
                "servers": {
                    "nats": {"payload_512": {"one": mode(us), "backlog_8": mode(9.0)}, "bytes_per_session": {"user": 40_000}},
                    "datapath": {"payload_512": {"one": mode(5.0), "backlog_8": mode(0.75)}, "bytes_per_session": null},
                },
            }),
        };
        let page = markdown(&[result("2026-01-02", 16.0), result("2026-01-01", 17.0)]);
        let blade = "| **Fanblade** | 5.00 (4.50 to 5.50) | 0.75 (0.25 to 1.25) | – |";
        let nats = "| nats | 16.00 (15.50 to 16.50) | 9.00 (8.50 to 9.50) | 40,000 |";
        assert!(page.contains(&format!("{blade}\n{nats}\n")), "{page}");
        assert!(page.contains("| 512 bytes, one at a time | 512 bytes, backlog of 8 |"), "{page}");
        assert!(page.contains("peers-2026-01-02.json") && !page.contains("2026-01-01"), "{page}");
        assert!(page.contains("10,000 subscribers of one subject"), "{page}");
        let mut listed = result("2026-01-03", 18.0);
        listed.result["watchlists"] = json!({"subjects": 8_000, "subjects_per_session": 50});
        let page = markdown(&[listed]);
        assert!(page.contains("10,000 subscribers of 50 of 8,000 subjects each"), "{page}");
        assert_eq!(markdown(&[]), "");
    }
}
