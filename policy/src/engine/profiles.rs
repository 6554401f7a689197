//! Profiles, once each, as long as an endpoint has them.

use crate::compile::profile::profile_id;
use crate::compiled::{Profile, ProfileId, Shared};
use crate::hash::HashMap;

#[derive(Debug, Default)]
pub(crate) struct Profiles(HashMap<ProfileId, (Shared<Profile>, u32)>);

impl Profiles {
    /// An endpoint more with this profile. Its id is the first from its hash on that no other profile has: whoever may choose
    /// names of policies could search for two profiles of one hash, and have one judge the endpoints of the other.
    pub(super) fn acquire(&mut self, profile: Profile) -> ProfileId {
        let mut id = profile_id(&profile);
        while self.0.get(&id).is_some_and(|(known, _)| **known != profile) {
            id = ProfileId(id.0.wrapping_add(1));
        }
        self.0.entry(id).or_insert_with(|| (profile.into(), 0)).1 += 1;
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

    pub(super) fn get(&self, id: ProfileId) -> Option<&Shared<Profile>> {
        self.0.get(&id).map(|(profile, _)| profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiled::{Action, TierStep};

    fn profile(tier: &str) -> Profile {
        let step = TierStep { tier: tier.into(), default_action: Action::Deny, policies: Vec::new() };
        Profile { ingress: vec![step], ..Profile::default() }
    }

    #[test]
    fn profiles_of_one_hash_are_two() {
        let mut profiles = Profiles::default();
        let id = profile_id(&profile("b"));
        profiles.0.insert(id, (profile("a").into(), 1));
        let other = profiles.acquire(profile("b"));
        assert_ne!(other, id);
        assert_eq!(profiles.acquire(profile("b")), other);
        assert_eq!(profiles.get(id).map(|known| &**known), Some(&profile("a")));
        assert_eq!(profiles.get(other).map(|known| &**known), Some(&profile("b")));
        profiles.release(other);
        profiles.release(other);
        assert_eq!(profiles.len(), 1);
    }
}
