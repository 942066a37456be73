//! Which subject of the ring an image belongs to.

use std::collections::HashMap;

use fanblade_ring::{RingError, SubjectId, Writer};

use crate::encode::json;
use crate::image::{Channel, Update};

/// Subjects by instrument number and channel, so that no update looks up or formats a name twice; and by name, because
/// an instrument may have another number in the next session.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    by_place: Vec<Option<Subject>>,
    by_name: HashMap<Box<str>, SubjectId>,
    scratch: String,
}

/// What frames say of their subject.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) id: SubjectId,
    /// Of its JSON.
    pub(crate) opening: Box<[u8]>,
}

impl Subjects {
    /// The update's subject, made at its first update.
    pub(crate) fn find(&mut self, update: &Update<'_>, writer: &mut Writer) -> Result<&Subject, RingError> {
        let place = usize::from(update.instrument.0) * Channel::ALL.len() + update.channel.index();
        if place >= self.by_place.len() {
            self.by_place.resize(place + 1, None);
        }
        let slot = &mut self.by_place[place];
        if slot.is_none() {
            update.subject(&mut self.scratch);
            let id = match self.by_name.get(self.scratch.as_str()) {
                Some(id) => *id,
                None => create(&mut self.by_name, &self.scratch, update.channel as u16, writer)?,
            };
            *slot = Some(Subject { id, opening: json::opening(&self.scratch) });
        }
        // Filled above.
        slot.as_ref().ok_or(RingError::UnknownSubject(u32::MAX))
    }

    /// The subject of this name, made at its first update.
    pub(crate) fn named(&mut self, name: &str, writer: &mut Writer) -> Result<SubjectId, RingError> {
        match self.by_name.get(name) {
            Some(id) => Ok(*id),
            None => create(&mut self.by_name, name, NO_CHANNEL, writer),
        }
    }

    /// Instruments are numbered anew; names keep their subjects.
    pub(crate) fn forget_instruments(&mut self) {
        self.by_place.fill(None);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

fn create(
    by_name: &mut HashMap<Box<str>, SubjectId>,
    name: &str,
    channel: u16,
    writer: &mut Writer,
) -> Result<SubjectId, RingError> {
    let id = writer.subject(name, channel)?;
    by_name.insert(name.into(), id);
    Ok(id)
}

/// What is published without a market has no channel of the market's.
const NO_CHANNEL: u16 = 0;
