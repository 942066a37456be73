//! Which subject of the ring an image belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use fanblade_market::{Channel, Update};
use fanblade_ring::{RingError, SubjectId, Writer};

/// Subjects by instrument number and channel, so that no update looks up or formats a name twice; and by name, because
/// an instrument may have another number in the next session.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    by_place: Vec<Option<Subject>>,
    by_name: HashMap<Arc<str>, SubjectId>,
    scratch: String,
}

/// A subject and its name.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) id: SubjectId,
    pub(super) name: Arc<str>,
}

impl Subjects {
    /// The update's subject, made at its first update.
    pub(super) fn find(&mut self, update: &Update<'_>, writer: &mut Writer) -> Result<&Subject, RingError> {
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
                None => {
                    let id = writer.subject(&self.scratch, update.channel as u16)?;
                    let name: Arc<str> = self.scratch.as_str().into();
                    self.by_name.insert(Arc::clone(&name), id);
                    (name, id)
                }
            };
            *slot = Some(Subject { id, name });
        }
        // Filled above.
        slot.as_ref().ok_or(RingError::UnknownSubject(u32::MAX))
    }

    /// Instruments are numbered anew; names keep their subjects.
    pub(super) fn forget_instruments(&mut self) {
        self.by_place.fill(None);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}
