//! What clients send, and what is done for them: from bytes to messages, from messages to requests, from requests to
//! answers.
//!
//! A request waits behind those that came before it. It is prepared before it is obeyed: a subscription to many
//! patterns looks at very many subjects, so its filters are made and searched for in steps, of which a pass has so
//! many. A session that needs more waits for the next pass with all its requests; the others wait for nothing, since
//! frames go out in between and the sessions that wait take turns. Once all is known the request is obeyed at once and
//! whole, so that a subscription begins at one point however long it was prepared.

use fanblade_wire::frame::{self, Opcode};
use fanblade_wire::handshake::Rejection;
use fanblade_wire::{Event, Flow, close};

use crate::answer::Replay;
use crate::directory::{Preparation, Prepared};
use crate::ids::SessionId;
use crate::limits::{FILTER_STEPS, OVERLAP_MAX, OVERLAP_SUBJECTS_MIN, SELECTED_STEPS};
use crate::protocol::{self, Mode, Op, Refusal, Request, Resume, SubjectsReply};
use crate::session::State;
use crate::stats::NO_CODE;
use crate::steps::Steps;
use crate::worker::Worker;

impl Worker {
    /// Bytes have come.
    pub(crate) fn received(&mut self, index: SessionId, bytes: &mut [u8]) {
        let (now_ms, pieces_max) = (self.now_ms, self.config.limits.pieces_per_s_max);
        let Some(session) = self.sessions.find(index) else { return };
        if session.count_pieces(now_ms, bytes.len()) > pieces_max {
            return self.too_many_pieces(index);
        }
        session.received_ms = now_ms;
        let was_pinged = std::mem::take(&mut session.pinged);
        let state = session.state;
        if was_pinged && state == State::Open && !session.is_behind() {
            // From the pong's deadline to the next ping.
            self.arm(index, now_ms + self.silence_ms_max(index));
        }
        match state {
            State::Preface => self.preface(index, bytes),
            State::Handshake => self.upgrade(index, bytes),
            State::Open => self.requests(index, bytes),
            State::Free | State::Closing | State::Lingering => {}
        }
        self.sessions.weigh(index);
    }

    /// The client sends single bytes, or more bytes than anybody needs to say here.
    fn too_many_pieces(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        let state = session.state;
        // It may send as many pieces again before it is dropped, so that the Close frame can arrive.
        session.pieces = 0;
        self.stats.pieces_closed.add(1);
        match state {
            State::Handshake => self.reject(index, &Rejection::new(429, "The request comes in too many pieces.")),
            State::Open => self.begin_close(index, close::TOO_MANY_REQUESTS, "too many pieces in a second"),
            // It goes on sending after it was told to go; or it is a proxy, which would not understand.
            State::Free | State::Preface | State::Closing | State::Lingering => self.drop_session(index),
        }
    }

    /// Bytes of an open session.
    pub(crate) fn requests(&mut self, index: SessionId, bytes: &mut [u8]) {
        let limits = self.inbound_limits;
        let mut inbound = self.sessions.take_inbound(index);
        let result = inbound.push(bytes, &limits, &mut |event| self.on_message(index, event));
        // The session may have ended meanwhile; its index is not used again before the engine has closed it.
        self.sessions.put_inbound(index, inbound);
        let Some(session) = self.sessions.find(index) else { return };
        if let Err(error) = result {
            tracing::debug!(peer = %session.peer(), "closed: {error}");
            let counter = if error.close_code() == close::POLICY {
                &self.stats.temper_closed
            } else {
                &self.stats.protocol_errors
            };
            counter.add(1);
            self.begin_close(index, error.close_code(), &error.to_string());
        }
    }

    fn on_message(&mut self, index: SessionId, event: Event<'_>) -> Flow {
        match event {
            Event::Text(text) => {
                self.stats.requests.add(1);
                if self.is_within_temper(index, text) {
                    self.request(index, protocol::parse(text));
                }
            }
            Event::Ping(payload) => {
                if self.is_within_temper(index, "") {
                    self.say(index, |out| frame::write_frame(out, Opcode::Pong, payload));
                }
            }
            // There is nothing to answer, but it counts against the rate.
            Event::Pong(_) => drop(self.temper(index)),
            Event::TooLong { is_text: true, len } => {
                self.stats.requests.add(1);
                self.stats.requests_too_long.add(1);
                if self.is_within_temper(index, "") {
                    let len_max = self.config.limits.message_len_max;
                    let message = format!(
                        "the request has {len} bytes; at most {len_max} are taken, so it was not read: ask in parts"
                    );
                    self.refuse(index, &Refusal::new(None, "too_long", message));
                }
            }
            Event::Binary(_) | Event::TooLong { is_text: false, .. } => {
                self.begin_close(index, close::UNSUPPORTED, "requests are JSON text");
            }
            Event::Close { code, .. } => {
                self.stats.closed_by_peer.add(1);
                self.stats.closes.count_peers(code.unwrap_or(NO_CODE));
                let mut reply = Vec::new();
                match code {
                    Some(code) => frame::write_close(&mut reply, code, ""),
                    None => frame::write_frame(&mut reply, Opcode::Close, b""),
                }
                self.end_with_bytes(index, &reply);
            }
        }
        let is_open = self.sessions.find(index).is_some_and(|session| session.state == State::Open);
        if is_open { Flow::Continue } else { Flow::Stop }
    }

    /// May this request be served, or this ping be answered? If not, it has been refused, or the session ends.
    fn is_within_temper(&mut self, index: SessionId, text: &str) -> bool {
        let temper = self.temper(index);
        if temper == Temper::Lost {
            let message = format!("more than {} requests in a second", self.config.limits.requests_per_s_max);
            self.refuse(index, &Refusal::new(protocol::request_id(text), "too_many_requests", message));
        }
        temper == Temper::Kept
    }

    /// Counts a request, ping or pong against the session's rate. Beyond twice the rate the session ends.
    fn temper(&mut self, index: SessionId) -> Temper {
        let (now_ms, per_s_max) = (self.now_ms, self.config.limits.requests_per_s_max);
        let Some(session) = self.sessions.find(index) else { return Temper::Ended };
        let count = session.count_request(now_ms);
        if count <= per_s_max {
            return Temper::Kept;
        }
        if count <= per_s_max.saturating_mul(2) {
            return Temper::Lost;
        }
        self.stats.temper_closed.add(1);
        self.begin_close(index, close::TOO_MANY_REQUESTS, "too many requests, pings or pongs");
        Temper::Ended
    }

    /// A request, parsed or not; also the subscription in an upgrade's query string.
    pub(crate) fn request(&mut self, index: SessionId, request: Result<Request, Refusal>) {
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return self.refuse(index, &refusal),
        };
        let deferred_max = self.config.limits.requests_deferred_max;
        let bytes_max = self.config.limits.deferred_bytes_max;
        let subjects_max = 2 * self.config.limits.subscriptions_max as usize;
        let Some(must_defer) = self.sessions.find(index).map(|session| session.must_defer()) else { return };
        let Some(extra) = self.sessions.extra(index) else { return };
        let subjects: usize = extra.deferred.iter().chain([&request]).map(|request| request.op.subjects().len()).sum();
        let is_room = extra.deferred_bytes + request.bytes() <= bytes_max
            && extra.deferred.len() < deferred_max
            && subjects <= subjects_max;
        if must_defer && !is_room {
            self.stats.deferred_closed.add(1);
            return self.begin_close(index, close::TOO_MANY_REQUESTS, "too many requests while others wait");
        }
        extra.defer(request);
        self.serve_deferred(index);
    }

    /// Begins a pass: goes on with the requests that wait, in turns, and with filters that no session has any more.
    pub(crate) fn serve_waiting(&mut self) {
        let spent = self.steps.spent();
        if spent > self.stats.request_steps_max.value() {
            self.stats.request_steps_max.set(spent);
        }
        let steps_max = self.config.limits.pass_steps_max;
        // As many steps as for new filters, so that old ones do not pile up.
        self.directory.let_leave(&mut Steps::new(steps_max / 2));
        self.steps.begin(steps_max / 2);
        for _ in 0..self.waiting.len() {
            if self.steps.are_used_up() {
                break;
            }
            let Some(index) = self.waiting.pop_front() else { break };
            let extra = self.sessions.find(index).and_then(|session| session.extra.as_mut());
            if extra.is_some_and(|extra| std::mem::take(&mut extra.is_waiting)) {
                self.serve_deferred(index);
            }
        }
        self.steps.give(steps_max / 2);
    }

    /// Serves requests in their order, until one makes the session wait: for its answer, or for a pass that has time.
    pub(crate) fn serve_deferred(&mut self, index: SessionId) {
        loop {
            if !self.prepare(index) {
                return;
            }
            // Stepping out changes nothing of what was prepared.
            self.step_out_of_batch(index);
            let Some(session) = self.sessions.find(index) else { return };
            let Some(extra) = session.extra.as_deref_mut() else { return };
            if extra.behind.is_some() || extra.replay.is_some() {
                return;
            }
            let Some(request) = extra.take_deferred() else { return };
            let preparation = extra.preparation.take().unwrap_or_default();
            self.obey(index, request, preparation);
        }
    }

    /// Does the work ahead of the first of a session's deferred requests. `false`: the pass has done enough, and the
    /// session waits for the next.
    #[must_use]
    pub(crate) fn prepare(&mut self, index: SessionId) -> bool {
        let Self { sessions, directory, reader, steps, config, .. } = self;
        let Some(session) = sessions.find(index) else { return false };
        let set = session.set;
        let Some(extra) = session.extra.as_deref_mut() else { return false };
        let Some(request) = extra.deferred.front() else { return false };
        if extra.preparation.as_ref().is_some_and(|it| it.state() != Prepared::Partly) {
            return true;
        }
        if steps.are_used_up() {
            return self.wait_for_steps(index);
        }
        let Op::Subscribe { subjects, .. } = &request.op else {
            steps.take(FILTER_STEPS * (1 + request.op.subjects().len() as u64));
            return true;
        };
        if extra.preparation.is_none() {
            steps.take(FILTER_STEPS * subjects.len() as u64);
            let missing = directory.filters_missing(set, subjects);
            let is_refused = directory.filter_count(set) + missing > config.limits.subscriptions_max as usize;
            extra.preparation = Some(if is_refused { Preparation::none() } else { Preparation::default() });
        }
        let Some(preparation) = &mut extra.preparation else { return false };
        if preparation.state() == Prepared::Partly && directory.learn(reader, steps) {
            directory.prepare(subjects, preparation, config.limits.filters_max as usize, steps);
        }
        preparation.state() != Prepared::Partly || self.wait_for_steps(index)
    }

    /// Puts the session in the list of those whose requests go on in the next pass. `false`, for [`Self::prepare`].
    fn wait_for_steps(&mut self, index: SessionId) -> bool {
        if let Some(extra) = self.sessions.extra(index)
            && !std::mem::replace(&mut extra.is_waiting, true)
        {
            self.stats.requests_waited.add(1);
            self.waiting.push_back(index);
        }
        false
    }

    fn obey(&mut self, index: SessionId, request: Request, preparation: Preparation) {
        let Request { id, op } = request;
        match op {
            Op::Subscribe { subjects, mode, snapshot, resume } => {
                match self.refusal(index, &id, &subjects, &preparation) {
                    Some(refusal) => self.refuse(index, &refusal),
                    None => {
                        self.steps.take(SELECTED_STEPS * self.directory.selected(&preparation) as u64);
                        self.subscribe(index, id, &subjects, mode, snapshot, resume.as_ref());
                    }
                }
                self.directory.end_preparation(preparation);
            }
            Op::Unsubscribe { subjects } => self.unsubscribe(index, id, &subjects),
            Op::List => self.list(index, &id),
            Op::Ping => {
                let mut text = std::mem::take(&mut self.text);
                protocol::write_pong(&mut text, &id);
                self.say_text(index, &text);
                self.text = text;
            }
        }
    }

    /// Why a subscription cannot be obeyed, if it cannot.
    fn refusal(
        &mut self,
        index: SessionId,
        id: &Option<String>,
        filters: &[String],
        preparation: &Preparation,
    ) -> Option<Refusal> {
        let (directory, limits) = (&self.directory, &self.config.limits);
        let set = self.sessions.find(index)?.set;
        let subscriptions_max = limits.subscriptions_max as usize;
        let refuse = |code, message: String| Some(Refusal::new(id.clone(), code, message));
        if preparation.state() == Prepared::Full {
            self.stats.filters_refused.add(1);
            let message = format!(
                "there are {} patterns and subjects without a value here, as many as there may be (`filters_max`): \
                 name subjects that have values, or ask again when others have gone",
                directory.filters_counted()
            );
            return refuse("too_many_filters", message);
        }
        if directory.filter_count(set) + directory.filters_missing(set, filters) > subscriptions_max {
            return refuse(
                "too_many_subscriptions",
                format!("a session has at most {subscriptions_max} subscriptions"),
            );
        }
        let selected_max = OVERLAP_MAX * directory.subjects.len().max(OVERLAP_SUBJECTS_MIN);
        if directory.subject_count(set) + directory.selected(preparation) > selected_max {
            let message = format!(
                "a session's patterns may select all subjects {OVERLAP_MAX} times over: name fewer that overlap"
            );
            return refuse("too_many_subscriptions", message);
        }
        None
    }

    fn subscribe(
        &mut self,
        index: SessionId,
        id: Option<String>,
        filters: &[String],
        mode: Mode,
        snapshot: bool,
        resume: Option<&Resume>,
    ) {
        let Some(session) = self.sessions.find(index) else { return };
        let (set, lane) = (session.set, session.lane);
        let (grown, asked) = self.directory.with(index, set, lane, filters, mode);
        self.change_set(index, grown);
        if let Some(session) = self.sessions.find(index) {
            session.subscribed_once = true;
        }
        // The deadline so far was that of the first subscription.
        self.arm_earlier(index, self.now_ms + self.silence_ms_max(index));
        let resumed = resume.map(|resume| self.resume(resume, &asked.gained, mode));
        self.begin_replay(index, Replay::new(id, asked, self.cursor, snapshot, resumed));
    }

    fn unsubscribe(&mut self, index: SessionId, id: Option<String>, filters: &[String]) {
        let Some(session) = self.sessions.find(index) else { return };
        let (set, lane) = (session.set, session.lane);
        if let Some(unknown) = self.directory.first_unknown(set, filters) {
            let message = format!("`{unknown}` is not subscribed (a pattern is taken back as it was given)");
            return self.refuse(index, &Refusal::new(id, "bad_subject", message));
        }
        let shrunk = self.directory.without(index, set, lane, filters);
        self.change_set(index, shrunk);
        let mut text = std::mem::take(&mut self.text);
        let mut reply = SubjectsReply::begin(&mut text, "unsubscribed", &id, &self.epoch);
        for filter in filters {
            reply.filter(filter, None);
        }
        reply.end(false);
        self.say_text(index, &text);
        self.text = text;
    }

    fn list(&mut self, index: SessionId, id: &Option<String>) {
        let Some(session) = self.sessions.find(index) else { return };
        let set = session.set;
        self.steps.take(FILTER_STEPS * self.directory.filter_count(set) as u64);
        let mut text = std::mem::take(&mut self.text);
        let mut reply = SubjectsReply::begin(&mut text, "listed", id, &self.epoch);
        for (filter, mode) in self.directory.filter_texts(set) {
            reply.filter(filter, Some(mode));
        }
        reply.end(false);
        self.say_text(index, &text);
        self.text = text;
    }

    fn refuse(&mut self, index: SessionId, refusal: &Refusal) {
        self.stats.requests_refused.add(1);
        let mut text = std::mem::take(&mut self.text);
        refusal.write(&mut text);
        self.say_text(index, &text);
        self.text = text;
    }
}

/// How a session's requests relate to its rate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Temper {
    /// Within its rate.
    Kept,
    /// Beyond it: the request is refused.
    Lost,
    /// Beyond twice the rate: the session ends.
    Ended,
}
