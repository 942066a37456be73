//! Checks the exact message for each mistake, and that the example in docs/ is right.

use std::path::Path;

use super::*;

fn answer(source: &str) -> String {
    match Config::parse(Path::new("f.toml"), source) {
        Ok(config) => format!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn mistakes_are_told_with_place_text_and_hint() {
    let table: &[(&str, &str)] = &[
        (
            "[data]\nlisen = \"127.0.0.1:7400\"\n",
            "f.toml:2:1: unknown field `lisen`\n  2 | lisen = \"127.0.0.1:7400\"\n    | ^^^^^\n  hint: did you mean `listen`?",
        ),
        ("[dta]\n", "f.toml:1:2: unknown field `dta`\n  1 | [dta]\n    |  ^^^\n  hint: did you mean `data`?"),
        (
            "[data]\nengine = \"urign\"\n",
            "f.toml:2:10: unknown variant `urign`\n  2 | engine = \"urign\"\n    |          ^^^^^^^\n  hint: did you mean `uring`?",
        ),
        (
            "[data]\nlisten = \"localhost\"\n",
            "f.toml:2:10: invalid socket address syntax\n  2 | listen = \"localhost\"\n    |          ^^^^^^^^^^^\n  \
             hint: write 127.0.0.1:7400, or [::1]:7400 for IPv6; [::]:7400 is everywhere",
        ),
        (
            "[ring]\njson = \"256 megs\"\n",
            "f.toml:2:8: `256 megs` is not a number of bytes; write 65536, \"64KiB\", \"256MiB\" or \"1GiB\"\n  \
             2 | json = \"256 megs\"\n    |        ^^^^^^^^^^",
        ),
        (
            "[ring]\njson = \"100MiB\"\n",
            "f.toml:2:8: 100 MiB is not a power of two\n  2 | json = \"100MiB\"\n    |        ^^^^^^^^\n  \
             hint: the nearest are 64 MiB and 128 MiB",
        ),
        (
            "[limits]\nping_interval_ms = \"soon\"\n",
            "f.toml:2:20: `soon` is not a duration; write \"250ms\", \"30s\" or \"5m\" (a bare number is ms)\n  \
             2 | ping_interval_ms = \"soon\"\n    |                    ^^^^^^",
        ),
        (
            "[limits]\nrequests_per_s_max = 0\n",
            "f.toml:2:22: 0 requests a second\n  2 | requests_per_s_max = 0\n    |                      ^\n  hint: from 1 to 65535",
        ),
        (
            "[data]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.5/8\"]\n",
            "f.toml:2:19: `10.0.0.5/8` has bits beyond its prefix; the network is 10.0.0.0/8, the address 10.0.0.5\n  \
             2 | trusted_proxies = [\"10.0.0.0/8\", \"10.0.0.5/8\"]\n    |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            "[data]\nclient_header = \"x-forwarded\"\n",
            "f.toml:2:17: unknown variant `x-forwarded`\n  2 | client_header = \"x-forwarded\"\n    |                 ^^^^^^^^^^^^^\n  \
             hint: did you mean `forwarded`?",
        ),
        (
            "[limits]\nmessage_len_max = \"16KiB\"\n",
            "f.toml:2:19: 16 KiB are too few for a request with 1000 subjects (`subscriptions_max`)\n  \
             2 | message_len_max = \"16KiB\"\n    |                   ^^^^^^^\n  \
             hint: at least 136512 bytes; or fewer `subscriptions_max`",
        ),
        (
            "[limits]\nsubscriptions_max = 10000\ncontrol_bytes_max = \"1MiB\"\n",
            "f.toml:3:21: 1 MiB are too few for a reply with 10000 subjects (`subscriptions_max`)\n  \
             3 | control_bytes_max = \"1MiB\"\n    |                     ^^^^^^\n  \
             hint: at least 1360512 bytes; or fewer `subscriptions_max`",
        ),
        (
            "[[batching]]\nsubjects = \"/NASDAQ/A*/book\"\nms_max = 50\n",
            "f.toml:2:12: `/NASDAQ/A*/book` selects no subject: '*' stands for a whole segment, and cannot be a part of one\n  \
             2 | subjects = \"/NASDAQ/A*/book\"\n    |            ^^^^^^^^^^^^^^^^^\n  \
             hint: a subject or a pattern such as \"/NASDAQ/*/book\"",
        ),
        (
            "[[batching]]\nsubjects = \"book\"\nms_max = 50\n",
            "f.toml:2:12: `book` selects no subject: a subject begins with '/'\n  2 | subjects = \"book\"\n    \
             |            ^^^^^^\n  hint: a subject or a pattern such as \"/NASDAQ/*/book\"",
        ),
        (
            "[[batching]]\nsubjects = \"/**\"\nms_max = \"2s\"\n",
            "f.toml:3:10: 2000 milliseconds\n  3 | ms_max = \"2s\"\n    |          ^^^^\n  hint: from 1 to 1000",
        ),
        (
            "[feed]\nsource = \"simm\"\n",
            "f.toml:2:10: `simm` is not a feed; there are `sim`, `file:PATH`, `moldudp64`, `soupbintcp`, `publisher` and `websocket`\n  2 | source = \"simm\"\n    |          ^^^^^^",
        ),
        (
            "[feed]\npace = \"fast\"\n",
            "f.toml:2:8: `fast` is not a pace; write `max`, `realtime`, or a factor above 0 such as 10\n  \
             2 | pace = \"fast\"\n    |        ^^^^^^",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:7400\"\n",
            "f.toml:2:10: 127.0.0.1:7400 is the data address already\n  2 | listen = \"127.0.0.1:7400\"\n    |          ^^^^^^^^^^^^^^^^\n  \
             hint: give the admin port another number",
        ),
        (
            "[admin]\nallowed_hosts = [\"blade-1:7401\"]\n",
            "f.toml:2:17: `blade-1:7401` is not the name of a host\n  2 | allowed_hosts = [\"blade-1:7401\"]\n    \
             |                 ^^^^^^^^^^^^^^^^\n  hint: a name without scheme and port, such as \
             \"blade-1.example.com\"; addresses are always allowed",
        ),
        (
            "[admin]\nstream_url = \"https://x/v1/stream\"\n",
            "f.toml:2:14: `https://x/v1/stream` is not the address of a WebSocket\n  2 | stream_url = \"https://x/v1/stream\"\n    \
             |              ^^^^^^^^^^^^^^^^^^^^^\n  hint: such as \"wss://data.example.com/v1/stream\"",
        ),
        (
            "[data]\nworkers = 3\ncpus = [0, 1]\n",
            "f.toml:3:8: 2 CPUs for 4 threads\n  3 | cpus = [0, 1]\n    |        ^^^^^^\n  \
             hint: the first is the sequencer's, then one for each of the 3 workers",
        ),
        (
            "[data]\nallowed_origins = [\"example.com\"]\n",
            "f.toml:2:19: `example.com` is not an origin\n  2 | allowed_origins = [\"example.com\"]\n    |                   ^^^^^^^^^^^^^^^\n  \
             hint: an origin is scheme and host, with the port if it is not the usual one: \"https://example.com:8443\"",
        ),
        (
            "[feed.moldudp64]\nlines = [\"233.54.12.111:26477@eth1\", \"233.49.196.111@eth2\"]\n",
            "f.toml:2:9: `233.49.196.111` is not a group and port; write GROUP:PORT@INTERFACE, such as \
             233.54.12.111:26477@eth1; with ` from ADDRESS` behind it for one sender only\n  \
             2 | lines = [\"233.54.12.111:26477@eth1\", \"233.49.196.111@eth2\"]\n    \
             |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            "[feed.moldudp64]\nlines = [\"224.0.2.3:1@lo\", \"224.0.2.3:1@lo\"]\n",
            "f.toml:2:9: `224.0.2.3:1@lo` is named twice\n  2 | lines = [\"224.0.2.3:1@lo\", \"224.0.2.3:1@lo\"]\n    \
             |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  hint: name each line once",
        ),
        (
            "[feed.moldudp64]\nrequests = [\"10.0.0.9\"]\n",
            "f.toml:2:12: `10.0.0.9` is not a server\n  2 | requests = [\"10.0.0.9\"]\n    |            ^^^^^^^^^^^^\n  \
             hint: HOST:PORT, such as \"192.0.2.9:18000\"",
        ),
        (
            "[feed.moldudp64]\nrequests_per_s_max = 0\n",
            "f.toml:2:22: 0 requests a second\n  2 | requests_per_s_max = 0\n    |                      ^\n  \
             hint: from 1 to 1000000",
        ),
        (
            "[feed.moldudp64]\nsession = \"MUCH TOO LONG\"\n",
            "f.toml:2:11: `MUCH TOO LONG` cannot be a session\n  2 | session = \"MUCH TOO LONG\"\n    \
             |           ^^^^^^^^^^^^^^^\n  hint: at most 10 characters of ASCII",
        ),
        (
            "[feed.moldudp64]\njoin = \"late\"\n",
            "f.toml:2:8: unknown variant `late`\n  2 | join = \"late\"\n    |        ^^^^^^\n  hint: did you mean `live`?",
        ),
        (
            "[feed.moldudp64]\njoin = \"snapshot\"\n",
            "f.toml:2:8: no server for snapshots is configured\n  2 | join = \"snapshot\"\n    |        ^^^^^^^^^^\n  \
             hint: name the server: snapshot = \"HOST:PORT\"",
        ),
        (
            "[feed.moldudp64]\nsnapshot_username = \"toolong\"\n",
            "f.toml:2:21: `toolong` cannot be sent as a username\n  2 | snapshot_username = \"toolong\"\n    \
             |                     ^^^^^^^^^\n  hint: at most 6 characters of ASCII",
        ),
        (
            "[feed.soupbintcp]\nusername = \"toolong\"\n",
            "f.toml:2:12: `toolong` cannot be sent as a username\n  2 | username = \"toolong\"\n    |            ^^^^^^^^^\n  \
             hint: at most 6 characters of ASCII",
        ),
        (
            "[feed.soupbintcp]\nservers = [\"exchange\"]\n",
            "f.toml:2:11: `exchange` is not a server\n  2 | servers = [\"exchange\"]\n    |           ^^^^^^^^^^^^\n  \
             hint: HOST:PORT, such as \"192.0.2.7:4000\"",
        ),
        (
            "[feed.soupbintcp]\npassword = \"x\"\npassword_file = \"y\"\n",
            "f.toml:3:17: there are two passwords\n  3 | password_file = \"y\"\n    |                 ^^^\n  \
             hint: leave out the password or its file",
        ),
        (
            "[feed.soupbintcp]\nversion = \"5\"\n",
            "f.toml:2:11: SoupBinTCP has no version `5`\n  2 | version = \"5\"\n    |           ^^^\n  \
             hint: \"3\", or \"4\", whose logins name the heartbeat timeout",
        ),
        (
            "[feed.soupbintcp]\nsilence_ms_max = \"1s\"\n",
            "f.toml:2:18: 1000 milliseconds\n  2 | silence_ms_max = \"1s\"\n    |                  ^^^^\n  \
             hint: from 2000 to 99999",
        ),
        (
            "[data]\nworkers = \"four\"\n",
            "f.toml:2:11: invalid type: string \"four\", expected usize\n  2 | workers = \"four\"\n    |           ^^^^^^",
        ),
    ];
    for (source, expected) in table {
        assert_eq!(answer(source), *expected, "for:\n{source}");
    }
}

#[test]
fn broken_toml_is_placed() {
    for source in ["[data\n", "[data]\nlisten = \n", "[data]\nworkers = 1\nworkers = 2\n", "\u{0}"] {
        let answer = answer(source);
        assert!(answer.starts_with("f.toml:") && answer.contains(" | "), "{answer}");
    }
}

#[test]
fn the_example_lists_every_key_with_its_default() {
    let example = include_str!("../../../../docs/fanblade.example.toml");
    let parsed = Config::parse(Path::new("example"), example).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parsed.data.listen, Config::default().data.listen);

    // Keys that are commented out in the example must be valid, too; all others must hold the default.
    let everything: String = example
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.starts_with("[[")
                    || rest
                        .split_once(" = ")
                        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) =>
            {
                rest
            }
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let full = Config::parse(Path::new("example, uncommented"), &everything).unwrap_or_else(|error| panic!("{error}"));
    let strip = |config: &Config| {
        let text = format!("{config:?}");
        // Spans always differ, so they are not compared.
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("span: ") {
            out.push_str(&rest[..at]);
            rest = rest[at..].split_once(',').map_or("", |(_, rest)| rest);
        }
        out + rest
    };
    assert_eq!(strip(&parsed), strip(&Config::default()), "uncommented keys hold the defaults");
    assert_eq!(full.batching.len(), 1);
    assert!(full.limits.lag_ms_max.is_some() && full.feed.date.is_some() && full.ebpf.interface.is_some());
    let defaults = fanblade_worker::Limits::default();
    assert_eq!(settings::limits(&full.limits), defaults, "the limits shown are the defaults");
}

#[test]
fn a_password_is_not_shown() {
    let answer = answer("[feed.soupbintcp]\npassword = \"hunter2\"\n");
    assert!(answer.starts_with("accepted: ") && !answer.contains("hunter2"), "{answer}");
    let long = self::answer("[feed.soupbintcp]\npassword = \"hunter2hunter2\"\n");
    assert!(long.starts_with("f.toml:2:12: the password cannot be sent\n"), "{long}");
}

#[test]
fn feeds_and_paces_read_as_on_the_command_line() {
    assert_eq!("sim".parse(), Ok(FeedSource::Simulator));
    assert_eq!("file:a:b".parse(), Ok(FeedSource::File("a:b".into())));
    assert!("file:".parse::<FeedSource>().is_err());
    assert_eq!("moldudp64".parse(), Ok(FeedSource::Moldudp64(None)));
    let lines = "moldudp64:233.54.12.111:26477@eth1,233.49.196.111:26477@eth2".parse();
    let Ok(FeedSource::Moldudp64(Some(lines))) = lines else { panic!("{lines:?}") };
    assert_eq!(
        lines.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["233.54.12.111:26477@eth1", "233.49.196.111:26477@eth2"]
    );
    for wrong in ["moldudp64:", "moldudp64:eth1", "moldudp64:224.0.2.3:1,224.0.2.3:1", "moldudp64:224.0.2.3:1,"] {
        assert!(wrong.parse::<FeedSource>().is_err(), "{wrong}");
    }
    assert_eq!("soupbintcp".parse(), Ok(FeedSource::Soupbintcp(None)));
    assert_eq!("soupbintcp:[::1]:4000".parse(), Ok(FeedSource::Soupbintcp(Some("[::1]:4000".to_owned()))));
    for wrong in ["soupbintcp:", "soupbintcp:host", "soupbintcp::1", "soupbintcp:host:0", "soupbintcp:host:70000"] {
        assert!(wrong.parse::<FeedSource>().is_err(), "{wrong}");
    }
    assert_eq!("10x".parse(), Ok(Pace::Factor(10.0)));
    for wrong in ["0", "-1", "inf", "NaN", "", "x"] {
        assert!(wrong.parse::<Pace>().is_err(), "{wrong}");
    }
}
