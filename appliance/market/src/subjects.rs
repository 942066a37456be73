//! Which subject of the ring an image belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use fanblade_ring::{RingError, SubjectId, Writer};

use crate::image::{Channel, Update};

/// Subjects by instrument number and channel, so that no update looks up or formats a name twice; and by name, because
/// an instrument may have another number in the next session.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    by_place: Vec<Option<Subject>>,
    by_name: HashMap<Arc<str>, SubjectId>,
    scratch: String,
}

/// A subject and its name.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) id: SubjectId,
    pub(crate) name: Arc<str>,
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
            let found = self.by_name.get_key_value(self.scratch.as_str()).map(|(name, id)| (Arc::clone(name), *id));
            let (name, id) = match found {
                Some(known) => known,
                None => create(&mut self.by_name, &self.scratch, update.channel as u16, writer)?,
            };
            *slot = Some(Subject { id, name });
        }
        // Filled above.
        slot.as_ref().ok_or(RingError::UnknownSubject(u32::MAX))
    }

    /// The subject of this name, made at its first update.
    pub(crate) fn named(&mut self, name: &str, writer: &mut Writer) -> Result<SubjectId, RingError> {
        match self.by_name.get(name) {
            Some(id) => Ok(*id),
            None => create(&mut self.by_name, name, NO_CHANNEL, writer).map(|(_, id)| id),
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
    by_name: &mut HashMap<Arc<str>, SubjectId>,
    name: &str,
    channel: u16,
    writer: &mut Writer,
) -> Result<(Arc<str>, SubjectId), RingError> {
    let id = writer.subject(name, channel)?;
    let name: Arc<str> = name.into();
    by_name.insert(Arc::clone(&name), id);
    Ok((name, id))
}

/// What is published without a market has no channel of the market's.
const NO_CHANNEL: u16 = 0;
