//! The work ahead of a request, in parts.
//!
//! A subscription to many patterns looks at very many subjects. Its filters are made and searched for in steps, of
//! which a pass has so many; who needs more waits for the next pass, with all its requests, and so does nobody else:
//! frames go out in between, and the sessions that wait take turns. Once all is known, the request is obeyed at once
//! and whole, so that a subscription begins at one point however long it was prepared.

use crate::directory::{Preparation, Prepared};
use crate::limits::FILTER_STEPS;
use crate::protocol::Op;
use crate::steps::Steps;
use crate::worker::Worker;

impl Worker {
    /// Begins a pass: goes on with the requests that wait, by turns, and with what nobody has any more.
    pub(crate) fn serve_waiting(&mut self) {
        let spent = self.steps.spent();
        if spent > self.stats.request_steps_max.value() {
            self.stats.request_steps_max.set(spent);
        }
        let steps_max = self.config.limits.pass_steps_max;
        // As many as could be made meanwhile, so that they do not pile up.
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

    /// Does the work ahead of the first of a session's deferred requests. `false`: the pass has done enough, and the
    /// session waits for the next.
    #[must_use]
    pub(crate) fn prepare(&mut self, index: u32) -> bool {
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

    /// Its requests go on in the next pass.
    fn wait_for_steps(&mut self, index: u32) -> bool {
        if let Some(extra) = self.sessions.extra(index)
            && !std::mem::replace(&mut extra.is_waiting, true)
        {
            self.stats.requests_waited.add(1);
            self.waiting.push_back(index);
        }
        false
    }
}
