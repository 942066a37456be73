//! Checks the message for each mistake in `[feed.websocket]`, and that the examples are right.

use std::path::Path;

use crate::config::Config;

const HEAD: &str = "[feed]\nsource = \"websocket\"\n[feed.websocket]\nurl = \"wss://h/p\"\n";
const RULE: &str = "[[feed.websocket.map]]\nmatch = {}\nsubject = \"/V/{/s}/t\"\n";

fn answer(source: &str) -> String {
    match Config::parse(Path::new("f.toml"), source) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn mistakes_are_placed_and_say_what_to_do() {
    let table = [
        ("[feed]\nsource = \"websocket\"\n", "has no `url`"),
        (HEAD, "no message of the server is mapped"),
        ("[feed.websocket]\nurl = \"http://h\"\n", "f.toml:2:7: `http://h` is not the address of a WebSocket server"),
        ("[feed.websocket]\nurl = \"wss:///p\"\n", "is not the address"),
        ("[feed.websocket]\nsubscribe = ['{a}']\n", "f.toml:2:14: not JSON: key must be a string"),
        ("[feed.websocket]\nheaders = { \"a b\" = \"c\" }\n", "f.toml:2:11: `a b: c` is not an HTTP header"),
        ("[feed.websocket]\nidle_ms_max = 1\n", "f.toml:2:15: 1 milliseconds"),
        ("[feed.websocket]\nreconnect_ms_min = \"60s\"\n", "30000 milliseconds\n"),
        ("[feed.websocket]\nerror = { type = \"error\" }\n", "`type` is not a JSON pointer"),
        (
            "[feed.websocket]\nerror = \"error\"\n",
            "f.toml:2:9: invalid type: string \"error\", expected { \"/pointer\" = value }, or a list of such",
        ),
        (
            "[feed.websocket]\nerror_text = \"reason\"\n",
            "f.toml:2:14: `reason` is not a JSON pointer; it begins with `/`",
        ),
        (
            "[feed.websocket]\non_gap = \"resubscribe\"\n",
            "f.toml:2:10: a gap of the connection belongs to no single subject",
        ),
        ("[feed.websocket]\nepoch = \"main\"\n", "f.toml:2:9: a numbering outlives its connection only if"),
        (
            "[feed.websocket]\nseq = \"/n\"\nsequence = \"/n\"\nepoch = \"a too long name\"\n",
            "cannot be the name of a numbering",
        ),
        ("[[feed.websocket.map]]\nsubject = \"/V/{/s}/t\"\n", "missing field `match`"),
        ("[[feed.websocket.map]]\nmatch = {}\n", "missing field `subject`"),
        (
            "[[feed.websocket.map]]\nmatch = { \"/a\" = [] }\nsubject = \"/V/t\"\n",
            "expected a text, a number, true or false",
        ),
        ("[[feed.websocket.map]]\nmatch = {}\nsubject = \"V/t\"\n", "f.toml:3:11: `V/t` makes no subject"),
        (
            "[[feed.websocket.map]]\nmatch = {}\nsubject = \"/V/{/s\"\n",
            "the placeholder that begins with `{/s` lacks its `}`",
        ),
        ("[[feed.websocket.map]]\nmatch = {}\nsubject = \"/V/{/s}/*\"\n", "would make a pattern"),
    ];
    for (source, expected) in table {
        let answer = answer(source);
        assert!(answer.contains(expected), "for\n{source}\nexpected\n{expected}\nbut\n{answer}");
    }
}

#[test]
fn mistakes_of_rules_are_placed() {
    let table = [
        ("ts_format = \"minutes\"\n", "unknown variant `minutes`"),
        ("sequnce = \"/n\"\n", "did you mean `sequence`?"),
        ("sequence_first = \"/n\"\n", "f.toml:8:18: there is no `sequence`"),
        ("publish = false\n", "f.toml:8:11: a message that is not published says a number"),
        ("book = \"bitmex\"\n", "unknown variant `bitmex`"),
        ("book = \"binance\"\n", "f.toml:8:8: changes alone make no book"),
        ("book = \"okx\"\nbook_snapshot = \"https://h/p\"\n", "f.toml:9:17: only `book = \"binance\"` is fetched"),
        ("book = \"binance\"\nbook_snapshot = \"https://{/s}/p\"\n", "f.toml:9:17: not the address of a snapshot"),
        ("book = \"binance\"\nbook_snapshot = \"wss://h/p\"\n", "f.toml:9:17: not the address of a snapshot"),
        (
            "book = \"gemini\"\non_gap = \"resubscribe\"\nresubscribe = ['{}']\n",
            "f.toml:9:10: a subscription of Gemini's cannot be told from the one before",
        ),
        ("book = \"kraken\"\nbook_levels = 0\n", "f.toml:9:15: 0 levels of a side"),
        ("on_gap = \"resubscribe\"\n", "f.toml:8:10: there is nothing to send"),
        ("resubscribe = ['{}']\n", "f.toml:8:16: it is never sent"),
        ("each = \"/a/*/b/*/c/*/d/*/e\"\n", "arrays within arrays, 5 deep; at most 4"),
    ];
    for (line, expected) in table {
        let answer = answer(&format!("{HEAD}{RULE}{line}"));
        assert!(answer.contains(expected), "for\n{line}\nexpected\n{expected}\nbut\n{answer}");
    }
    let both = format!("{HEAD}seq = \"/n\"\n{RULE}each = \"/data\"\n");
    assert!(answer(&both).contains("several values of one message cannot all have its number"), "{}", answer(&both));
    assert_eq!(answer(&format!("{HEAD}{RULE}")), "accepted");
    assert_eq!(answer(&format!("{HEAD}seq = \"/n\"\nsequence = \"/n\"\nepoch = \"main\"\n{RULE}")), "accepted");
}

#[test]
fn empty_patterns_are_refused_where_they_would_take_every_message_or_none() {
    let send = "[[feed.websocket.send]]\ntext = \"ping\"\nevery_ms = \"20s\"\n";
    let other = "[[feed.websocket.map]]\nmatch = { \"/type\" = \"trade\" }\nsubject = \"/V/{/s}/trade\"\n";
    let table = [
        (format!("error = {{}}\n{RULE}"), "f.toml:5:9: every message would be a refusal, and none published\n"),
        (format!("error = [{{ \"/e\" = 1 }}, {{}}]\n{RULE}"), "f.toml:5:9: every message would be a refusal"),
        (format!("{send}reply = {{}}\n{RULE}"), "f.toml:8:9: every message would be a reply, and none published\n"),
        (format!("{send}reply = [{{}}]\n{RULE}"), "f.toml:8:9: every message would be a reply"),
        (format!("{send}reply = \"\"\n{RULE}"), "f.toml:8:9: no message would be a reply\n"),
        (format!("{send}reply = []\n{RULE}"), "f.toml:8:9: no message would be a reply\n"),
        (
            format!("[[feed.websocket.answer]]\nmatch = {{}}\ntext = \"pong\"\n{RULE}"),
            "f.toml:6:9: every message would be answered, and none published\n",
        ),
        (format!("{RULE}{other}"), "f.toml:6:9: every message matches: the rules after this one get none\n"),
    ];
    for (lines, expected) in table {
        let answer = answer(&format!("{HEAD}{lines}"));
        assert!(answer.contains(expected), "for\n{lines}\nexpected\n{expected}\nbut\n{answer}");
        assert!(answer.contains("\n  hint: say what only "), "{answer}");
    }
    let good = format!("{HEAD}error = []\n{send}reply = \"pong\"\n{send}{other}{RULE}");
    assert_eq!(answer(&good), "accepted");
}

#[test]
fn the_examples_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let mut count = 0;
    for file in std::fs::read_dir(examples).unwrap() {
        let file = file.unwrap().path();
        Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        count += 1;
    }
    assert!(count >= 3);
}
