//! Dominant resource fairness over roles and frameworks, as a component.
