//! What an allocation policy is made of: the trait, the cluster model kept from the changes, reference policies.
