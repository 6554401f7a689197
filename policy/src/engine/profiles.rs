//! Profiles, once each, as long as an endpoint has them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::profile::profile_id;
use crate::compiled::{Profile, ProfileId};

#[derive(Debug, Default)]
pub(crate) struct Profiles(HashMap<ProfileId, (Arc<Profile>, u32)>);

impl Profiles {
    /// An endpoint more with this profile.
    pub(super) fn acquire(&mut self, profile: Profile) -> ProfileId {
        let id = profile_id(&profile);
        self.0.entry(id).or_insert_with(|| (Arc::new(profile), 0)).1 += 1;
        id
    }

    /// An endpoint more with a profile that another one has.
    pub(super) fn again(&mut self, id: ProfileId) -> ProfileId {
        if let Some((_, users)) = self.0.get_mut(&id) {
            *users += 1;
        }
        id
    }

    /// An endpoint less.
    pub(super) fn release(&mut self, id: ProfileId) {
        if let Some((_, users)) = self.0.get_mut(&id) {
            *users -= 1;
            if *users == 0 {
                self.0.remove(&id);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, id: ProfileId) -> Option<&Arc<Profile>> {
        self.0.get(&id).map(|(profile, _)| profile)
    }
}
