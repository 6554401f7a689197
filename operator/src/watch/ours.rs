//! What is kept of the kinds that people write, other than NetworkPolicy.

use std::sync::Arc;

use kube::Client;
use kube::api::Api;
use kube::core::{DeserializeGuard, ObjectMeta};
use selvage_crds::{
    ClusterNetworkPolicy, GlobalNetworkPolicy, GlobalNetworkSet, IPPool, NetworkSet, SelvageNetworkPolicy,
    Tier,
};
use selvage_policy::compiled::{PolicyKey, PolicyKind};
use selvage_policy::model::{self, Key};

use super::Kind;
use super::kinds::{Watched, decoded, everywhere, name, object_key, policy, policy_key, watched};
use super::seen::{SeenPool, SeenTier, Stood};
use super::update::{Context, Update};
use crate::convert::{self, Read};
use crate::status::{About, Said};

watched!(GlobalNetworkPolicy as DeserializeGuard<GlobalNetworkPolicy>, everywhere, global_key -> PolicyKey, |_, key, object, updates| {
    stands(About::Policy(key.clone()), object.as_ref(), updates, |object: &GlobalNetworkPolicy| Said::Policy(object.status.clone().unwrap_or_default()));
    policy(key, object, updates, convert::global_network_policy)
});
watched!(SelvageNetworkPolicy as DeserializeGuard<SelvageNetworkPolicy>, everywhere, selvage_key -> PolicyKey, |_, key, object, updates| {
    stands(About::Policy(key.clone()), object.as_ref(), updates, |object: &SelvageNetworkPolicy| Said::Policy(object.status.clone().unwrap_or_default()));
    policy(key, object, updates, convert::selvage_network_policy)
});
watched!(ClusterNetworkPolicy as DeserializeGuard<ClusterNetworkPolicy>, everywhere, cluster_key -> PolicyKey, |_, key, object, updates| {
    stands(About::Policy(key.clone()), object.as_ref(), updates, |object: &ClusterNetworkPolicy| {
        let conditions = object.status.as_ref().map(|status| status.conditions.clone());
        Said::Policy(selvage_crds::PolicyStatus { conditions: conditions.unwrap_or_default(), ..Default::default() })
    });
    policy(key, object, updates, convert::cluster_network_policy)
}, OPTIONAL);
watched!(NetworkSet as DeserializeGuard<NetworkSet>, everywhere, object_key -> Key, |_, key, object, updates| {
    let said = |object: &NetworkSet| Said::Set(object.status.clone().unwrap_or_default());
    set(key, object, updates, said, convert::network_set)
});
watched!(GlobalNetworkSet as DeserializeGuard<GlobalNetworkSet>, everywhere, global_set_key -> Key, |_, key, object, updates| {
    let said = |object: &GlobalNetworkSet| Said::Set(object.status.clone().unwrap_or_default());
    set(key, object, updates, said, convert::global_network_set)
});
watched!(Tier as DeserializeGuard<Tier>, everywhere, name -> Arc<str>, |_, key, object, updates| {
    stands(About::Tier(key.clone()), object.as_ref(), updates, |object: &Tier| Said::Tier(object.status.clone().unwrap_or_default()));
    let tier = decoded(object)?.as_ref().and_then(SeenTier::of);
    updates.push(Update::Tier(key, tier.map(Box::new)));
    Ok(())
});
watched!(IPPool as DeserializeGuard<IPPool>, everywhere, name -> Arc<str>, |_, key, object, updates| {
    stands(About::Pool(key.clone()), object.as_ref(), updates, |object: &IPPool| Said::Pool(object.status.clone().unwrap_or_default()));
    let pool = decoded(object)?.as_ref().and_then(SeenPool::of);
    updates.push(Update::Pool(key, pool.map(Box::new)));
    Ok(())
});

fn global_key(metadata: &ObjectMeta) -> Option<PolicyKey> {
    policy_key(PolicyKind::GlobalNetworkPolicy, metadata)
}

fn selvage_key(metadata: &ObjectMeta) -> Option<PolicyKey> {
    policy_key(PolicyKind::SelvageNetworkPolicy, metadata)
}

fn cluster_key(metadata: &ObjectMeta) -> Option<PolicyKey> {
    policy_key(PolicyKind::ClusterNetworkPolicy, metadata)
}

fn global_set_key(metadata: &ObjectMeta) -> Option<Key> {
    Some(Key { namespace: "".into(), name: name(metadata)? })
}

/// What an object says of itself. Of one that can't be decoded that is nothing, but it still has a place to write to.
fn stands<K>(
    about: About,
    object: Option<&DeserializeGuard<K>>,
    updates: &mut Vec<Update>,
    said: impl FnOnce(&K) -> Said,
) where
    K: kube::Resource<DynamicType = ()>,
{
    let stood = object.map(|object| match &object.0 {
        Ok(object) => Stood::of_itself(object.meta(), said(object)),
        Err(invalid) => Stood::of_itself(&invalid.metadata, about.nothing_said()),
    });
    updates.push(Update::Stands(about, stood.map(Box::new)));
}

/// What a set holds. The object may be large, and is gone after this.
fn set<K>(
    key: Key,
    object: Option<DeserializeGuard<K>>,
    updates: &mut Vec<Update>,
    said: impl FnOnce(&K) -> Said,
    convert: impl FnOnce(&K) -> Option<(Key, Read<model::NetworkSet>)>,
) -> Result<(), String>
where
    K: kube::Resource<DynamicType = ()>,
{
    stands(About::Set(key.clone()), object.as_ref(), updates, said);
    let read = decoded(object)?.as_ref().and_then(convert).map(|(_, read)| Box::new(read));
    updates.push(Update::Set(key, read));
    Ok(())
}
