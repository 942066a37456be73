//! Writes valid inputs of every target to `corpus/`, made by the project's own writers: the corpora began with them.
//! After a format has changed, run `cargo run -p fanblade-fuzz --example seeds`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use fanblade_feed::itch::KINDS;
use fanblade_feed::moldudp64::PacketBuilder;
use fanblade_feed::publisher::{Hello, Record, Request, Value};
use fanblade_feed::simulator::{SimulatorConfig, write_binaryfile};
use fanblade_feed::soupbintcp::{LoginAccepted, LoginRequest, Packet, Rejection, padded};
use fanblade_wire::client::{self, UpgradeRequest};
use fanblade_wire::frame::{self, Opcode};

/// The inputs of one target, numbered as they come.
struct Corpus {
    directory: PathBuf,
    count: usize,
}

impl Corpus {
    fn of(target: &str) -> Corpus {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&directory).unwrap();
        Corpus { directory, count: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.count += 1;
        std::fs::write(self.directory.join(format!("seed-{:02}", self.count)), bytes).unwrap();
    }

    /// Adds a stream behind a byte that says how to cut the stream.
    fn add_stream(&mut self, bytes: &[u8]) {
        let rhythm = u8::try_from(self.count).unwrap();
        self.add(&[&[rhythm], bytes].concat());
    }
}

fn main() {
    handshake();
    frames();
    exchange();
    captures();
    publisher();
    texts();
    let mut canary = Corpus::of("canary");
    canary.add(b"FB");
}

fn handshake() {
    let mut corpus = Corpus::of("handshake");
    for (target, protocol, token) in [
        ("/v1/stream", None, None),
        ("/v1/stream?subjects=/NASDAQ/*/trade&mode=all", Some("fanblade.v1.json"), None),
        ("/v1/stream?subjects=%2FA%2Fb", Some("fanblade.v1.binary, fanblade.v1.json"), Some("token")),
        ("/", Some("other"), None),
        ("/v1/stream#fragment", None, None),
    ] {
        let mut request = Vec::new();
        UpgradeRequest { host: "blade.example:7400", target, key: client::KEY, protocol, token }.write(&mut request);
        corpus.add_stream(&request);
        // A request with a frame behind it.
        client::write_frame(&mut request, Opcode::Text, [1, 2, 3, 4], b"{\"op\":\"ping\"}");
        corpus.add_stream(&request);
    }
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for head in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "POST /v1/stream HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET /v1/stream HTTP/1.0\r\n\r\n".to_owned(),
        "\r\nGET /v1/stream HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}".to_owned(),
        format!("GET ws://h:80/v1/stream HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n{key}\r\n"),
        format!("GET /v1/stream HTTP/1.1\r\nHost: [::1]:7400\r\nUpgrade: websocket\r\nConnection: upgrade\r\nOrigin: https://a.example\r\n{key}\r\n"),
        format!("GET /v1/stream HTTP/1.1\r\nHost: h\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\nX-Forwarded-For: 10.0.0.1\r\n{key}\r\n"),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n".to_owned(),
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n".to_owned(),
    ] {
        corpus.add_stream(head.as_bytes());
    }
}

fn frames() {
    let (mut from_client, mut from_server) = (Corpus::of("frames"), Corpus::of("server-frames"));
    let opcodes = [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close, Opcode::Continuation];
    let payloads: [&[u8]; 5] =
        [b"", b"\x03\xe8bye", "{\"op\":\"ping\",\"id\":\"ä€\"}".as_bytes(), &[b'x'; 126], &[b'y'; 290]];
    for (number, opcode) in (0_u8..).zip(opcodes) {
        let at = usize::from(number);
        for payload in [payloads[at % 5], payloads[(at + 1) % 5]] {
            let (mut masked, mut plain) = (Vec::new(), Vec::new());
            client::write_frame(&mut masked, opcode, [number, 7, 0x80, 0xff], payload);
            frame::write_frame(&mut plain, opcode, payload);
            from_client.add_stream(&masked);
            from_server.add_stream(&plain);
        }
    }
    let mut fragments = Vec::new();
    client::write_fragment(&mut fragments, false, Opcode::Text, [1; 4], "ä".as_bytes().get(..1).unwrap());
    client::write_frame(&mut fragments, Opcode::Ping, [2; 4], b"between");
    client::write_fragment(&mut fragments, true, Opcode::Continuation, [3; 4], "ä".as_bytes().get(1..).unwrap());
    from_client.add_stream(&fragments);
    let mut close = Vec::new();
    frame::write_close(&mut close, 4008, "too slow");
    from_server.add_stream(&close);
}

/// MoldUDP64, SoupBinTCP, ITCH and files of ITCH messages.
fn exchange() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("day");
    let config = SimulatorConfig { symbols: 2, ..SimulatorConfig::default() };
    write_binaryfile(&config, 120, std::fs::File::create(&path).unwrap()).unwrap();
    let file = std::fs::read(&path).unwrap();
    let mut messages = Vec::new();
    let mut rest = &file[..];
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (message, after) = after.split_at(u16::from_be_bytes(*length).into());
        messages.push(message);
        rest = after;
    }

    // Messages of a simulated day, and a made-up message of each type, twice.
    let mut itch = Corpus::of("itch");
    let with_length = |message: &&[u8]| [&[u8::try_from(message.len()).unwrap()], *message].concat();
    let with_lengths = |messages: &[&[u8]]| -> Vec<u8> { messages.iter().flat_map(with_length).collect() };
    messages.chunks(15).for_each(|some| itch.add(&with_lengths(some)));
    for (kind, len, _) in KINDS {
        let mut message = vec![b' '; *len];
        message[0] = *kind;
        message[1..11].fill(1);
        itch.add(&with_lengths(&[&message, &message]));
    }

    // Packets of 1 to 10 messages, empty ones, and the end of the session.
    let mut mold = Corpus::of("moldudp64");
    for (at, some) in messages.chunks(10).enumerate() {
        let mut packet = PacketBuilder::new(*b"SESSION001", 1 + 10 * at as u64, 1_400);
        some.iter().take(at + 1).for_each(|message| assert!(packet.push(message)));
        mold.add(packet.finish());
    }
    let mut empty = PacketBuilder::new(*b"SESSION001", u64::MAX - 1, 100);
    mold.add(empty.finish());
    assert!(empty.push(b""));
    mold.add(empty.finish());
    mold.add(empty.end_of_session());

    // Each packet as a stream of its own, and all in one stream.
    let mut soup = Corpus::of("soupbintcp");
    let login = |heartbeat_timeout_ms| LoginRequest {
        username: *b"user01",
        password: padded("secret").unwrap(),
        session: [b' '; 10],
        sequence: 1,
        heartbeat_timeout_ms,
    };
    let packets = [
        Packet::Debug(b"hello"),
        Packet::LoginAccepted(LoginAccepted { session: *b"   MONDAY ", sequence: u64::MAX }),
        Packet::LoginRejected(Rejection::NotAuthorized),
        Packet::LoginRejected(Rejection::Other(b'?')),
        Packet::Sequenced(messages[0]),
        Packet::Unsequenced(b""),
        Packet::ServerHeartbeat,
        Packet::ClientHeartbeat,
        Packet::EndOfSession,
        Packet::LoginRequest(login(None)),
        Packet::LoginRequest(login(Some(9_000))),
        Packet::LogoutRequest,
    ];
    let mut all = Vec::new();
    for packet in &packets {
        let mut bytes = Vec::new();
        packet.write(&mut bytes).unwrap();
        soup.add_stream(&bytes);
        all.extend(bytes);
    }
    soup.add_stream(&all);

    // Files that end within a length, within a message and between messages, plain and gzipped.
    let mut binaryfile = Corpus::of("binaryfile");
    for len in [0, 1, 2, 14, 15, 500, 1_000] {
        binaryfile.add(&file[..len]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&file[..len]).unwrap();
        binaryfile.add(&gzip.finish().unwrap());
    }
    binaryfile.add(&[&file[..15], b"\0\0"].concat());
}

/// Packets of MoldUDP64 in both formats, both orders of bytes, and several link types.
fn captures() {
    let mut corpus = Corpus::of("pcap");
    let mut packet = PacketBuilder::new(*b"SESSION001", 1, 200);
    assert!(packet.push(b"S\0\0\0\0\0\0\0\0\0\0O"));
    let payload = packet.finish().to_vec();
    let udp_len = 8 + u16::try_from(payload.len()).unwrap();
    let udp = [&[0x10, 0, 0x67, 0x6d][..], &udp_len.to_be_bytes(), &[0, 0], &payload].concat();
    let total = (20 + udp_len).to_be_bytes();
    let ip = [&[0x45, 0, total[0], total[1], 0, 1, 0, 0, 9, 17, 0, 0, 10, 0, 0, 1, 239, 1, 2, 3][..], &udp].concat();
    let ip6_head = [&[0x60, 0, 0, 0][..], &udp_len.to_be_bytes(), &[17, 9], &[0xfe; 16], &[0xff; 16]].concat();
    let ip6 = [ip6_head, udp.clone()].concat();
    let ethernet = [&[1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 1, 8, 0][..], &ip].concat();
    let tagged = [&[1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 5, 8, 0][..], &ip].concat();
    let cooked = [&[0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0][..], &ip].concat();
    let null = [&[2, 0, 0, 0][..], &ip].concat();
    for (link, frame) in [(1, &ethernet), (1, &tagged), (101, &ip), (101, &ip6), (113, &cooked), (0, &null), (147, &ip)]
    {
        for (magic, is_big) in [(0xa1b2_c3d4_u32, false), (0xa1b2_3c4d, true)] {
            corpus.add(&classic(magic, is_big, link.into(), frame));
        }
        corpus.add(&ng(link, frame));
    }
}

fn classic(magic: u32, is_big: bool, link: u32, frame: &[u8]) -> Vec<u8> {
    let word = |value: u32| if is_big { value.to_be_bytes() } else { value.to_le_bytes() };
    let version = if is_big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    let len = u32::try_from(frame.len()).unwrap();
    let head = [word(magic), version, word(0), word(0), word(65_535), word(link)].concat();
    let record = [word(1_577_682_000), word(17), word(len), word(len)].concat();
    // The frame twice, the second one cut short by the capture.
    let short = [word(1_577_682_001), word(18), word(len / 2), word(len)].concat();
    [&head[..], &record, frame, &short, &frame[..frame.len() / 2]].concat()
}

fn ng(link: u16, frame: &[u8]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let len = (12 + u32::try_from(padded).unwrap()).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &vec![0; padded - body.len()], &len].concat()
    };
    let len = u32::try_from(frame.len()).unwrap().to_le_bytes();
    let section = block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    // Options: times in nanoseconds, and an offset that is added to them.
    let options = [9, 0, 1, 0, 9, 0, 0, 0, 14, 0, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let interface = block(1, &[&link.to_le_bytes()[..], &[0, 0, 0, 0, 4, 0], &options].concat());
    let enhanced = block(6, &[&[0; 4][..], &5_u32.to_le_bytes(), &[9, 0, 0, 0], &len, &len, frame].concat());
    let simple = block(3, &[&len[..], frame].concat());
    [section, interface, enhanced, simple].concat()
}

fn publisher() {
    let mut corpus = Corpus::of("publisher");
    let hello = |wants_acks, token| Request::Hello(Hello { wants_acks, name: "desk-7", token });
    let record = |ts_ns, value| Request::Record(Record { ts_ns, subject: "/DESK/EURUSD/quote", value });
    let requests = [
        hello(true, b""),
        hello(false, b"secret"),
        record(None, Value::Json(b"{\"bid\":1.0841,\"ask\":-1e-5}")),
        record(Some(1_577_682_000_000_000_000), Value::Json(b"null")),
        record(Some(1), Value::Opaque(b"\0\xff")),
    ];
    let mut all = Vec::new();
    for request in &requests {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        corpus.add_stream(&bytes);
        // The same bytes without the length field, as one frame.
        corpus.add_stream(&bytes[4..]);
        all.extend(bytes);
    }
    corpus.add_stream(&all);
    for text in [
        r#"{"s":"/DESK/A/v","d":{"x":[1,2.5e3,"é"]}}"#,
        r#"[{"s":"/DESK/A/v","d":1},{"d":null,"t":"17","s":"/DESK/\u0041/v"},{"s":"/a/c","b":"AP8=","t":18}]"#,
        r#"{"s":"/DESK/A/v","d":{"a":{"b":{"c":[[[[]]]]}}},"t":1577682000000000000}"#,
        r#"{"op":"hello","name":"desk","acks":true}"#,
    ] {
        corpus.add_stream(text.as_bytes());
    }
}

fn texts() {
    let mut requests = Corpus::of("requests");
    for text in [
        r#"{"op":"ping"}"#,
        r#"{"op":"ping","id":7}"#,
        r#"{"op":"list","id":"a\u00e9"}"#,
        r#"{"op":"subscribe","id":1,"subjects":["/NASDAQ/*/trade"]}"#,
        r#"{"op":"subscribe","subjects":["/NASDAQ/AAPL/bbo","/A/**"],"mode":"all","snapshot":false}"#,
        r#"{"op":"subscribe","subjects":["/A/b"],"resume":{"epoch":"20191230-1","seq":18446744073709551615}}"#,
        r#"{"op":"subscribe","subjects":["/A/b"],"mode":"sampled"}"#,
        r#"{"op":"unsubscribe","id":-1.5e3,"subjects":["/A/b"]}"#,
        r#"{"op":"subscribe","subjects":["A","/A//b","/A/b*","/**/c"]}"#,
        r#"{"op":"subscribe","subjects":[],"mod":"all"}"#,
        r#"{"op":"fly","id":null}"#,
        r#"["ping",1]"#,
        r#"{"op":"ping","op":"ping"}"#,
        "hello",
    ] {
        requests.add(text.as_bytes());
    }
    let mut query = Corpus::of("query");
    for text in [
        "subjects=/NASDAQ/*/trade",
        "subjects=/NASDAQ/AAPL/bbo,%2FNASDAQ%2f*%2Ftrade&mode=all",
        "subjects=/A/b&mode=conflate&snapshot=false",
        "subjects=/A/b%2Cc,/A/d&snapshot=true",
        "subjects=/A/b&subjects=/A/c",
        "subjects=/A/b+c&mode=al",
        "subjects=&mode=all",
        "mode=all",
        "token=x&unknown=%zz%",
        "subjects=%ff%fe/A/b",
        "&&=&subjects",
        "subjects=/**;mode=all",
    ] {
        query.add(text.as_bytes());
    }
    // The example's sections, texts with faults, and the beginnings of the venues' examples.
    let mut config = Corpus::of("config");
    let example = include_str!("../../../docs/fanblade.example.toml");
    let starts = example.match_indices("\n[").map(|(at, _)| at).chain([example.len()]);
    let mut from = 0;
    for at in starts {
        config.add(&example.as_bytes()[from..at]);
        from = at;
    }
    for text in [
        "[feed]\nsource = \"soupbintcp:host:4000\"\npace = 1.5\ndate = \"2019-12-30\"\n",
        "[data]\nlisten = \"[::]:7400\"\nworkers = 0\n",
        "[limits]\nlag_ms_max = \"1m\"\nmessage_len_max = \"16KiB\"\n",
        "[[batching]]\nsubjects = \"/**\"\nms_max = 100\n",
        "[feed.moldudp64]\nlines = [\"239.1.2.3:26477@eth0\"]\n",
        "[dat]\nlisten = 1\n",
        "a = ",
    ] {
        config.add(text.as_bytes());
    }
    for file in ["kraken", "coinbase", "binance"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/examples/{file}.toml"));
        let text = std::fs::read(path).unwrap();
        config.add(&text[..text.len().min(4_000)]);
    }
}
