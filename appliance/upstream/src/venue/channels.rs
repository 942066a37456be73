//! Channels that a venue names by numbers: the messages that announce them say what the channels carry.

use std::collections::HashMap;

use super::batch::Batch;
use super::extract::{Found, Plan, Slot};
use super::limits::{CHANNEL_TEXT_LEN_MAX, CHANNELS_MAX};
use super::rule::{Element, Matcher, Plans};
use super::settings::ChannelRule;
use super::value;

/// The channels of a connection.
#[derive(Debug)]
pub(super) struct Channels {
    announcement: Matcher,
    /// The channel's name: its place in an announcement, and its place in messages of the channel.
    id: Slot,
    at: Slot,
    known: HashMap<Box<str>, Box<str>>,
}

impl Channels {
    pub(super) fn new(rule: &ChannelRule, plans: &mut Plans) -> Channels {
        Channels {
            announcement: Matcher::new(&rule.matches, plans),
            id: plans.message.add(&rule.id),
            at: plans.message.add(&rule.at),
            known: HashMap::new(),
        }
    }

    pub(super) fn begin_connection(&mut self) {
        self.known.clear();
    }

    /// Keeps an announcement; false if the message is no announcement.
    pub(super) fn take(&mut self, message: Element<'_, '_>, out: &mut Batch) -> bool {
        if !self.announcement.matches(message) {
            return false;
        }
        let Some(id) = message.outer.value(self.id).and_then(value::text) else { return false };
        let is_new = !self.known.contains_key(&*id);
        if message.text.len() > CHANNEL_TEXT_LEN_MAX || (is_new && self.known.len() >= CHANNELS_MAX) {
            let what = format!("more than {CHANNELS_MAX} channels, or {CHANNEL_TEXT_LEN_MAX} bytes about one");
            out.trouble("too_many_channels", &format!("{what}; messages of channel {id} are dropped"));
            return true;
        }
        self.known.insert((*id).into(), message.text.into());
        true
    }

    /// The announcement of the message's channel.
    pub(super) fn find<'a>(&'a self, found: &Found<'_>, plan: &Plan) -> Option<Found<'a>> {
        let id = value::text(found.value(self.at)?)?;
        plan.extract(self.known.get(&*id)?).ok()
    }
}
